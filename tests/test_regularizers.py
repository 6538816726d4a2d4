"""Geometric Jensen-Shannon divergences by quadrature, DU-VAE's two devices by hand, the information of codes by enumeration."""

from math import e, log, pi, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from helpers import generator, needs_cuda
from vaecourse import distributions, fvi, processes, training
from vaecourse.distributions import Normal
from vaecourse.networks import BernoulliNetwork, GaussianNetwork, initial_weights, mlp
from vaecourse.regularizers import (
    DUVAE,
    ENTROPY_FLOOR,
    FullNormal,
    GeometricVAE,
    MeanNorm,
    dual_geometric_js,
    geometric_js,
    geometric_mean,
    mutual_information,
)
from vaecourse.vae import bernoulli_vae

PAIRS = [(0.0, 1.0, 1.5, 0.4), (-1.0, 2.0, 1.0, 0.5), (0.3, 0.7, 0.3, 0.7)]
INSIDE = [0.1, 0.5, 0.8]


def normal(mu: float, sigma: float) -> Normal:
    return Normal(torch.tensor([mu], dtype=torch.float64), torch.tensor([log(sigma)], dtype=torch.float64))


class OnALine:
    """The divergences of two Gaussians in one dimension as integrals, the mean normalized by one, too."""

    def __init__(self, m1: float, s1: float, m2: float, s2: float, weight: float):
        self.p, self.q = stats.norm(m1, s1), stats.norm(m2, s2)
        self.reach = min(m1 - 14 * s1, m2 - 14 * s2), max(m1 + 14 * s1, m2 + 14 * s2)
        self.middle = sorted([m1, m2])
        self.weight = weight
        self.log_z = log(self.integral(lambda z: np.exp(self.log_unnormalized(z))))

    def integral(self, f) -> float:
        return integrate.quad(f, *self.reach, points=self.middle, limit=400, epsabs=1e-12)[0]

    def log_unnormalized(self, z):
        return (1 - self.weight) * self.p.logpdf(z) + self.weight * self.q.logpdf(z)

    def log_g(self, z):
        return self.log_unnormalized(z) - self.log_z

    def kl(self, log_a, log_b) -> float:
        return self.integral(lambda z: np.exp(log_a(z)) * (log_a(z) - log_b(z)))


def full(seed: int, batch: int = 4, dim: int = 3) -> FullNormal:
    noise = generator(seed)
    A = torch.randn(batch, dim, dim, generator=noise, dtype=torch.float64)
    mu = torch.randn(batch, dim, generator=noise, dtype=torch.float64)
    return FullNormal(mu, A @ A.mT + 0.3 * torch.eye(dim, dtype=torch.float64))


def as_torch(p: FullNormal) -> MultivariateNormal:
    return MultivariateNormal(p.mu, p.covariance)


# The divergences


@pytest.mark.equation("eq-regularizers-geometric-mean", oracle="quadrature")
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("alpha", INSIDE)
def test_the_geometric_mean_is_the_normalized_product_of_powers(pair, alpha):
    m1, s1, m2, s2 = pair
    line, g = OnALine(*pair, alpha), geometric_mean(normal(m1, s1), normal(m2, s2), alpha)
    for z in (-2.0, 0.1, 3.0):
        assert g.log_prob(torch.tensor([z], dtype=torch.float64)).item() == pytest.approx(line.log_g(z), abs=1e-8)


@pytest.mark.equation("eq-regularizers-geometric-js", oracle="quadrature")
@pytest.mark.equation("eq-regularizers-dual", oracle="quadrature")
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("alpha", INSIDE)
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.slow
def test_the_divergence_and_its_dual_are_their_integrals(pair, alpha, swapped):
    p, q = normal(*pair[:2]), normal(*pair[2:])
    line = OnALine(*pair, 1 - alpha if swapped else alpha)
    js = (1 - alpha) * line.kl(line.p.logpdf, line.log_g) + alpha * line.kl(line.q.logpdf, line.log_g)
    dual = (1 - alpha) * line.kl(line.log_g, line.p.logpdf) + alpha * line.kl(line.log_g, line.q.logpdf)
    assert geometric_js(p, q, alpha, swapped=swapped).item() == pytest.approx(js, abs=1e-7)
    assert dual_geometric_js(p, q, alpha, swapped=swapped).item() == pytest.approx(dual, abs=1e-7)


@pytest.mark.equation("eq-regularizers-dual", oracle="quadrature")
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("alpha", [0.0, *INSIDE, 1.0])
def test_the_dual_is_minus_the_log_of_the_integral_of_the_powers_and_swapped_it_is_not(pair, alpha):
    p, q = normal(*pair[:2]), normal(*pair[2:])
    line = OnALine(*pair, alpha)
    assert dual_geometric_js(p, q, alpha).item() == pytest.approx(-line.log_z, abs=1e-8)
    if alpha != 0.5 and pair[0] != pair[2]:
        assert dual_geometric_js(p, q, alpha, swapped=True).item() != pytest.approx(-line.log_z, abs=0.01)


@pytest.mark.equation("eq-regularizers-swapped", oracle="another library: torch.distributions")
def test_with_the_weights_as_printed_both_ends_are_zero_and_swapped_they_are_the_two_kls():
    p, q = full(0), full(1)
    forward, backward = kl_divergence(as_torch(p), as_torch(q)), kl_divergence(as_torch(q), as_torch(p))
    for divergence, first, second in ((geometric_js, forward, backward), (dual_geometric_js, backward, forward)):
        for end in (0.0, 1.0):
            assert divergence(p, q, end).abs().max() < 1e-10
        assert torch.allclose(divergence(p, q, 0.0, swapped=True), first)
        assert torch.allclose(divergence(p, q, 1.0, swapped=True), second)


@pytest.mark.equation("eq-regularizers-reverse", oracle="quadrature")
@pytest.mark.parametrize("mu, sigma", [(0.0, 0.3), (1.7, 0.6), (-2.0, 2.5)])
def test_the_reverse_kl_of_a_code_charges_a_sharp_one_by_its_precision(mu, sigma):
    line = OnALine(mu, sigma, 0.0, 1.0, 0.5)
    by_hand = 0.5 * ((1 + mu**2) / sigma**2 - 1 + log(sigma**2))
    assert by_hand == pytest.approx(line.kl(line.q.logpdf, line.p.logpdf), abs=1e-7)
    assert normal(0, 1).kl(normal(mu, sigma)).item() == pytest.approx(by_hand)


@pytest.mark.equation("eq-regularizers-renyi", oracle="closed form: Renyi's divergence, of another chapter")
@pytest.mark.parametrize("alpha", INSIDE)
def test_the_dual_as_printed_is_renyis_divergence(alpha):
    p, log_sigma = full(1, batch=1), torch.tensor([0.2, -0.7, 0.4], dtype=torch.float64)
    q = FullNormal(torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64), torch.diag((2 * log_sigma).exp())[None])
    renyi = fvi.renyi_divergence(Normal(q.mu[0], log_sigma), p.mu[0], torch.linalg.inv(p.covariance[0]), alpha=1 - alpha)
    assert dual_geometric_js(q, p, alpha).item() == pytest.approx(alpha * renyi.item())


@pytest.mark.equation("eq-regularizers-ends", oracle="another library: torch.distributions")
def test_as_printed_the_slopes_at_the_ends_are_the_two_kls():
    q, p, h = full(0), full(1), 1e-6
    forward, backward = kl_divergence(as_torch(q), as_torch(p)), kl_divergence(as_torch(p), as_torch(q))
    for divergence, at_0, at_1 in ((geometric_js, backward, forward), (dual_geometric_js, forward, backward)):
        assert torch.allclose(divergence(q, p, h) / h, at_0, rtol=1e-3)
        assert torch.allclose(divergence(q, p, 1 - h) / h, at_1, rtol=1e-3)


@pytest.mark.equation("eq-regularizers-discount", oracle="quadrature")
@pytest.mark.parametrize("alpha", INSIDE)
def test_a_mean_is_sold_at_a_discount_of_cubes(alpha):
    line = OnALine(1.3, 1.0, 0.0, 1.0, 1 - alpha)
    js = (1 - alpha) * line.kl(line.p.logpdf, line.log_g) + alpha * line.kl(line.q.logpdf, line.log_g)
    dual = (1 - alpha) * line.kl(line.log_g, line.p.logpdf) + alpha * line.kl(line.log_g, line.q.logpdf)
    share = (1 - alpha) ** 3 + alpha**3
    assert share == pytest.approx(1 - 3 * alpha * (1 - alpha))
    assert js == pytest.approx(share * 1.3**2 / 2, abs=1e-7) and dual == pytest.approx(js, abs=1e-7)


@pytest.mark.equation("eq-regularizers-sharp", oracle="closed form: its limit, as sigma falls")
@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("mu", [0.0, 1.4])
def test_a_sharp_code_costs_the_reverse_kl_by_the_one_and_a_share_of_kl_by_the_dual(alpha, mu):
    rest, ratio = [], []
    for sigma in (1e-2, 1e-3):
        q, p = normal(mu, sigma), normal(0, 1)
        constant = 0.5 * ((1 - alpha) ** 2 / alpha + log(alpha))
        rest.append(abs(dual_geometric_js(q, p, alpha, swapped=True).item() - alpha * q.kl(p).item() - constant))
        ratio.append(abs(geometric_js(q, p, alpha, swapped=True).item() / (alpha**2 * (1 + mu**2) / (2 * sigma**2)) - 1))
    assert rest[0] < 0.01 and rest[1] < rest[0] / 50  # it goes with the square of sigma
    assert ratio[0] < 0.02 and ratio[1] < ratio[0] / 30  # with its logarithm times that


@pytest.mark.equation("eq-regularizers-overshoot", oracle="another library: torch.distributions")
def test_with_weights_swapped_the_other_kl_enters_with_a_minus():
    q, p, h = full(0), full(1), 1e-6
    forward, backward = kl_divergence(as_torch(q), as_torch(p)), kl_divergence(as_torch(p), as_torch(q))
    slope = (geometric_js(q, p, h, swapped=True) - geometric_js(q, p, 0.0, swapped=True)) / h
    assert torch.allclose(slope, -(2 * forward + backward), rtol=1e-3)


def test_a_wide_code_costs_a_share_of_kl_by_the_one_and_a_logarithm_by_the_dual():
    q, p = normal(0.7, 1e4), normal(0, 1)
    for alpha in INSIDE:
        assert geometric_js(q, p, alpha, swapped=True) / q.kl(p) == pytest.approx((1 - alpha) ** 2, rel=1e-3)
        constant = 0.5 * (alpha**2 / (1 - alpha) + log(1 - alpha))  # the sharp code's, mirrored
        dual = dual_geometric_js(q, p, alpha, swapped=True).item()
        assert dual - (1 - alpha) * p.kl(q).item() == pytest.approx(constant, abs=1e-3)


def test_swapping_the_weights_is_not_the_dual():
    p, q = normal(0, 1), normal(1.5, 0.4)
    for alpha in INSIDE:
        assert geometric_js(p, q, alpha, swapped=True).item() != pytest.approx(dual_geometric_js(p, q, alpha).item(), rel=0.01)


def test_without_normalizing_the_mean_the_divergence_is_another_and_may_be_negative():
    line = OnALine(0.0, 1.0, 3.0, 1.0, 0.5)
    unnormalized = 0.5 * line.kl(line.p.logpdf, line.log_unnormalized) + 0.5 * line.kl(line.q.logpdf, line.log_unnormalized)
    right = geometric_js(normal(0, 1), normal(3, 1), 0.5).item()
    assert unnormalized == pytest.approx(right - line.log_z, abs=1e-7) and -line.log_z > 1


def test_it_is_no_f_divergence_since_merging_outcomes_can_raise_it():
    """An f-divergence falls when outcomes are merged. Three outcomes against two, by the definition on tables."""

    def js(p, q, alpha):
        g = p ** (1 - alpha) * q**alpha
        g = g / g.sum()
        return (1 - alpha) * (p * np.log(p / g)).sum() + alpha * (q * np.log(q / g)).sum()

    def merged(p):
        return np.array([p[0] + p[1], p[2]])

    random = np.random.RandomState(0)
    rises = 0
    for _ in range(2000):
        p, q = random.dirichlet([0.3, 0.3, 0.3]), random.dirichlet([0.3, 0.3, 0.3])
        if min(p.min(), q.min()) > 1e-6:
            rises += js(merged(p), merged(q), 0.5) > js(p, q, 0.5) + 1e-6
    assert rises > 0


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), alpha=st.floats(0, 1), swapped=st.booleans())
def test_divergences_are_not_negative_and_the_same_for_diagonal_gaussians_in_either_form(seed, alpha, swapped):
    mu, log_sigma = torch.randn(2, 4, 3, generator=generator(seed), dtype=torch.float64)
    p, q = Normal(mu, log_sigma), Normal(mu.flip(0), -log_sigma.flip(1))
    wide = [FullNormal(g.mu, torch.diag_embed((2 * g.log_sigma).exp())) for g in (p, q)]
    for divergence in (geometric_js, dual_geometric_js):
        narrow = divergence(p, q, alpha, swapped=swapped)
        assert (narrow > -1e-12).all()
        assert torch.allclose(narrow, divergence(*wide, alpha, swapped=swapped), atol=1e-8, rtol=1e-8)


@pytest.mark.equation("eq-regularizers-geometric-js", oracle="another library: torch.distributions")
def test_full_gaussians_have_torchs_kl_and_a_mean_whose_density_is_proportional_to_the_powers():
    p, q, alpha = full(2), full(3), 0.3
    assert torch.allclose(p.kl(q), kl_divergence(as_torch(p), as_torch(q)))
    g = as_torch(geometric_mean(p, q, alpha))
    z = torch.randn(50, 4, 3, generator=generator(1), dtype=torch.float64)
    offset = g.log_prob(z) - (1 - alpha) * as_torch(p).log_prob(z) - alpha * as_torch(q).log_prob(z)
    assert (offset.std(0) < 1e-9).all()
    js = (1 - alpha) * kl_divergence(as_torch(p), g) + alpha * kl_divergence(as_torch(q), g)
    assert torch.allclose(geometric_js(p, q, alpha), js)


def test_the_ordinary_jensen_shannon_divergence_is_another():
    line = OnALine(0.0, 1.0, 1.5, 0.4, 0.5)
    mixture = lambda z: np.logaddexp(line.p.logpdf(z), line.q.logpdf(z)) - log(2)  # noqa: E731
    js = 0.5 * line.kl(line.p.logpdf, mixture) + 0.5 * line.kl(line.q.logpdf, mixture)
    assert js < log(2) and geometric_js(normal(0, 1), normal(1.5, 0.4), 0.5).item() > 1.2 * js


# As a regularizer


def geometric(alpha: float | None, dual: bool = False) -> GeometricVAE:
    return bernoulli_vae(6, 2, hidden=(5,), kind=GeometricVAE, alpha=alpha, dual=dual).double()


@pytest.fixture
def images() -> Tensor:
    return (torch.rand(9, 6, generator=generator(3), dtype=torch.float64) < 0.4).double()


@pytest.mark.equation("eq-regularizers-loss", oracle="another library: torch.distributions, beside the VAE's loss")
def test_at_one_end_the_loss_is_the_vaes_and_at_the_other_it_has_the_reversed_kl(images):
    plain = bernoulli_vae(6, 2, hidden=(5,)).double().loss(images, generator(1))
    q = geometric(0.0).encode(images)
    reverse = kl_divergence(torch.distributions.Normal(0, 1), torch.distributions.Normal(q.mu, q.log_sigma.exp())).sum(-1)
    for alpha, dual in ((0.0, False), (1.0, True)):
        ours = geometric(alpha, dual).loss(images, generator(1))
        assert ours["loss"].item() == pytest.approx(plain["loss"].item())
        assert ours["divergence"].item() == pytest.approx(plain["rate"].item())
    for alpha, dual in ((1.0, False), (0.0, True)):
        assert geometric(alpha, dual).loss(images, generator(1))["divergence"].item() == pytest.approx(reverse.mean().item())


def test_a_learned_skew_starts_at_a_half_has_the_divergences_slope_and_moves(images):
    model = geometric(None)
    assert model.alpha.item() == 0.5
    model.loss(images, generator(1))["loss"].backward()
    q, p, h = model.encode(images), model.prior(9), 1e-5
    slope = (geometric_js(q, p, 0.5 + h, swapped=True) - geometric_js(q, p, 0.5 - h, swapped=True)).mean() / (2 * h)
    assert model.logit_alpha.grad.item() == pytest.approx(0.25 * slope.item(), rel=1e-6)  # d alpha / d logit = 1/4 there
    history = training.fit(model, images, steps=30, batch_size=9, progress=False, device="cpu")
    assert model.alpha.item() != pytest.approx(0.5, abs=1e-3) and history.steps == 30


# DU-VAE


def du_vae(gamma: float = 0.8, keep: float = 0.8) -> DUVAE:
    with initial_weights(seed=0):
        encoder, decoder = GaussianNetwork(mlp(6, 5, 4)), BernoulliNetwork(mlp(2, 5, 6))
        return DUVAE(encoder, decoder, 6, 2, gamma=gamma, keep=keep).double()


@pytest.mark.equation("eq-regularizers-rate-floor", oracle="another library: torch's batch normalization")
def test_means_are_normalized_as_torch_does_with_a_fixed_scale_in_training_and_out_of_it():
    ours, theirs = MeanNorm(3, gamma=0.7, eps=1e-5).double(), nn.BatchNorm1d(3).double()
    theirs.weight.data.fill_(0.7)
    for seed in range(3):
        mu = 2 + torch.randn(8, 3, generator=generator(seed), dtype=torch.float64) * torch.tensor([1.0, 3.0, 0.1])
        assert torch.allclose(ours(mu), theirs(mu))
    assert torch.allclose(ours.mean, theirs.running_mean)
    assert torch.allclose(ours.variance, 1 + 7 / 8 * (theirs.running_var - 1) - 1 / 8 * (1 - 0.9**3), atol=1e-6)  # torch: n - 1
    assert torch.allclose(ours.eval()(mu), 0.7 * (mu - ours.mean) / (ours.variance + 1e-5).sqrt())


@pytest.mark.equation("eq-regularizers-rate-floor", oracle="derivation by hand")
def test_the_means_of_two_data_points_are_gamma_apart_on_both_sides_of_the_shift():
    norm = MeanNorm(2, gamma=0.7, eps=0.0).double()
    norm.shift.data.copy_(torch.tensor([0.5, -3.0]))
    mu = norm(torch.tensor([[1.0, 40.0], [3.0, 10.0]], dtype=torch.float64))
    assert np.allclose(mu.detach(), [[0.5 - 0.7, -3 + 0.7], [0.5 + 0.7, -3 - 0.7]])


def test_a_posteriors_variance_is_what_the_encoder_says_and_the_floor_together(images):
    model = du_vae()
    said = model.encoder(images).log_sigma.exp() ** 2
    assert torch.allclose(model.encode(images).log_sigma.exp() ** 2, said + 1 / (2 * pi * e))


@pytest.mark.equation("eq-regularizers-rate-floor", oracle="derivation by hand: the terms of the KL")
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), gamma=st.floats(0.1, 2), scale=st.floats(1e-2, 1e2))
def test_the_rate_of_a_batch_is_at_least_half_the_squares_of_gamma_and_shift(seed, gamma, scale):
    norm = MeanNorm(4, gamma).double()
    norm.shift.data.copy_(torch.randn(4, generator=generator(seed + 1), dtype=torch.float64))
    mu = norm(scale * torch.randn(16, 4, generator=generator(seed), dtype=torch.float64))
    floor = 0.5 * (4 * gamma**2 + (norm.shift**2).sum()).item()
    assert 0.5 * (mu**2).sum(-1).mean().item() == pytest.approx(floor, rel=1e-6)
    assert Normal(mu, torch.zeros_like(mu)).kl_to_standard().mean().item() >= (1 - 1e-6) * floor


def test_means_that_vary_less_than_eps_escape_the_floor():
    mu = 1e-4 * torch.randn(16, 4, generator=generator(0), dtype=torch.float64)
    for kept, model in ((True, DUVAE(*[nn.Identity()] * 2, 6, 4)), (False, DUVAE(*[nn.Identity()] * 2, 6, 4, eps=1e-5))):
        assert (0.5 * (model.norm.double()(mu) ** 2).sum(-1).mean().item() > 1.99) is kept  # the floor: 4 / 2


@pytest.mark.equation("eq-regularizers-variance-dropout", oracle="independent code: numpy, under the same noise")
def test_a_dropped_variance_is_the_floor_a_kept_one_moves_away_from_it_and_the_mean_stays():
    model = du_vae(keep=0.8)
    q = Normal(torch.zeros(20_000, 2).double(), torch.full((20_000, 2), -0.5).double())
    variance = (2 * model.drop(q, generator(1)).log_sigma).exp().numpy()
    kept = torch.rand(20_000, 2, generator=generator(1), dtype=torch.float64).numpy() < 0.8
    floor = 1 / (2 * pi * e)
    assert np.allclose(variance, np.where(kept, floor + (np.exp(-1) - floor) / 0.8, floor))
    spread = (np.exp(-1) - floor) * sqrt(0.2 / 0.8 / 40_000)
    assert abs(variance.mean() - np.exp(-1)) < 3.9 * spread  # a right one fails for one seed in 10,000
    assert 0.5 * log(2 * pi * e * ENTROPY_FLOOR) == pytest.approx(0, abs=1e-12)


@pytest.mark.equation("eq-regularizers-variance-dropout", oracle="independent code: numpy, under the same noise")
def test_a_variance_is_kept_by_noise_below_keep_and_dropped_by_noise_that_is_keep():
    """Noise of half precision has 2,048 values; with one more to keep it the variance would not keep its mean."""
    q = Normal(torch.zeros(20_000, 2).half(), torch.full((20_000, 2), -0.5).half())
    noise = torch.rand(20_000, 2, generator=generator(1), dtype=torch.float16)
    assert (noise == 0.5).sum() > 5
    variance = (2 * du_vae(keep=0.5).drop(q, generator(1)).log_sigma.double()).exp().numpy()
    floor = 1 / (2 * pi * e)
    assert np.allclose(variance, np.where(noise.numpy() < 0.5, floor + 2 * (np.exp(-1) - floor), floor), rtol=0.02)


def test_nothing_is_dropped_out_of_training_and_no_variance_is_below_the_floor(images):
    model = du_vae(keep=0.5)
    model.encoder.net[-1].bias.data[2:] = -30.0
    model.eval()
    q = model.encode(images)
    assert torch.allclose((2 * q.log_sigma).exp(), torch.full_like(q.mu, ENTROPY_FLOOR), atol=1e-9)
    assert torch.isfinite(model.train().loss(images, generator())["loss"])


def test_nothing_is_added_to_the_loss_but_the_elbo_of_the_posterior_as_it_is(images):
    model = du_vae(keep=1.0)
    q = model.encode(images)
    p = model.decode(q.sample(noise := generator(4)))
    noise.manual_seed(4)
    uniform_first = torch.rand(9, 2, generator=noise, dtype=torch.float64)  # the draws of the dropout come first
    p = model.decode(q.sample(noise))
    loss = model.loss(images, generator(4))
    assert uniform_first.shape == q.mu.shape
    assert loss["loss"].item() == pytest.approx((-p.log_prob(images) + q.kl_to_standard()).mean().item())


@pytest.mark.slow
def test_it_keeps_latents_alive_where_a_vae_lets_them_collapse():
    """Images without anything to tell: pixels are fair coins, and the best code is none."""
    coins = torch.full((400, 6), 0.5)
    flips = {"steps": 500, "batch_size": 50, "progress": False, "device": "cpu"}
    plain, du = bernoulli_vae(6, 2, hidden=(5,)), du_vae().float()
    for model in (plain, du):
        training.fit(model, coins, transform=lambda x, noise: torch.bernoulli(x, generator=noise), **flips)
    x = torch.bernoulli(coins, generator=generator(1))
    assert plain.encode(x).kl_to_standard().mean() < 0.1
    assert du.encode(x).kl_to_standard().mean() > 0.8 * 0.5 * 2 * 0.8**2  # the floor, by the statistics of past batches
    assert du.active_units(x) == 2


# Information


def split(q: Normal) -> tuple[float, float]:
    """I(x; z) and KL(q(z) || N(0, 1)) of posteriors on a line, as sums over a fine grid."""
    z, step = np.linspace(-25, 25, 200_001, retstep=True)
    sigma = q.log_sigma.exp().numpy()
    log_q = stats.norm.logpdf(z, q.mu.numpy(), sigma)
    log_aggregate = np.logaddexp.reduce(log_q, axis=0) - log(len(log_q))
    information = (np.exp(log_q) * (log_q - log_aggregate)).sum(1).mean() * step
    gap = (np.exp(log_aggregate) * (log_aggregate - stats.norm.logpdf(z))).sum() * step
    return information, gap


@pytest.mark.equation("eq-regularizers-information", oracle="quadrature")
def test_the_mean_rate_is_the_information_and_the_aggregates_distance_from_the_prior_together():
    mu, log_sigma = torch.tensor([[-2.0], [0.0], [0.5], [3.0]]).double(), torch.tensor([[-1.0], [0.3], [-2.0], [-0.5]]).double()
    q = Normal(mu, log_sigma)
    information, gap = split(q)
    assert q.kl_to_standard().mean().item() == pytest.approx(information + gap, abs=1e-7)
    estimate, error = mutual_information(q, 4000, generator())
    assert error < 0.02 and abs(estimate - information) < 3.9 * error  # a right one fails for one seed in 10,000


def test_codes_far_apart_tell_all_and_one_posterior_for_all_tells_nothing():
    apart = Normal(100 * torch.arange(50.0)[:, None], torch.zeros(50, 1))
    assert mutual_information(apart, generator=generator())[0] == pytest.approx(log(50), abs=1e-5)
    same = Normal(torch.ones(50, 2), torch.zeros(50, 2))
    assert mutual_information(same, generator=generator())[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.equation("eq-regularizers-information", oracle="independent code: scipy, under the same noise")
@pytest.mark.parametrize("n, draws", [(2, 1), (1, 2), (3, 2)])
def test_the_estimate_is_the_mean_gain_and_its_error_the_gains_spread(n, draws):
    mu, log_sigma = torch.randn(2, n, 1, generator=generator(5), dtype=torch.float64)
    z = (mu + log_sigma.exp() * torch.randn(draws, n, 1, generator=generator(1), dtype=torch.float64)).numpy()
    log_q = stats.norm.logpdf(z, mu[:, 0], log_sigma.exp()[:, 0])  # (draws, n, posteriors)
    gain = log_q[:, range(n), range(n)] - np.log(np.exp(log_q).mean(-1))
    estimate, error = mutual_information(Normal(mu, log_sigma), draws, generator(1))
    assert estimate == pytest.approx(gain.mean(), abs=1e-12)
    assert error == pytest.approx(gain.std(ddof=1) / sqrt(gain.size), abs=1e-12)


def test_a_single_code_of_a_single_posterior_tells_nothing_and_has_no_error():
    assert mutual_information(normal(1.5, 0.4)[None], 1, generator()) == (0.0, 0.0)


def test_how_many_densities_are_held_at_once_changes_nothing(monkeypatch):
    q, values = Normal(*torch.randn(2, 30, 3, generator=generator(2), dtype=torch.float64)), []
    for block in (1, 7, 500):
        monkeypatch.setattr(distributions, "BLOCK", block)
        values.append(mutual_information(q, 2, generator(1))[0])
    assert values[0] == pytest.approx(values[1], abs=1e-12) == values[2]


# Bad input


@pytest.mark.parametrize("divergence", [geometric_js, dual_geometric_js, geometric_mean])
@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_a_skew_outside_0_to_1_is_an_error(divergence, alpha):
    with pytest.raises(ValueError, match=r"alpha, the skew, must lie in \[0, 1\]; got"):
        divergence(normal(0, 1), normal(1, 1), alpha)


def test_gaussians_of_two_kinds_are_an_error(no_shape_checks):
    with pytest.raises(TypeError, match="one kind; got Normal and FullNormal"):
        geometric_js(normal(0, 1), full(0, dim=1), 0.5)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: geometric(1.5), r"alpha, the skew, must lie in \[0, 1\], or be None"),
        (lambda: du_vae(keep=0.0), r"must lie in \(0, 1\]; got 0.0"),
        (lambda: du_vae(keep=1.01), r"must lie in \(0, 1\]; got 1.01"),
        (lambda: du_vae(gamma=-1.0), r"must be positive; got -1.0"),
        (lambda: du_vae(gamma=0.0), r"must be positive; got 0.0"),
        (lambda: du_vae().train().encode(torch.zeros(1, 6).double()), "at least 2 data points, got 1"),
        (lambda: mutual_information(Normal(torch.zeros(3, 2), torch.zeros(3, 2)), 0), "must be at least 1; got 0"),
        (lambda: mutual_information(Normal(torch.zeros(0, 2), torch.zeros(0, 2))), r"at least one; got \(0, 2\)"),
    ],
    ids=["skew", "keep", "keep of more than all", "gamma", "no gamma", "batch of one", "no draws", "no posteriors"],
)
def test_settings_that_cannot_be_right_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


# Devices and processes


def test_batch_statistics_are_those_of_all_processes_together(monkeypatch):
    """Two halves of a batch, each with the other's sums added, are normalized as the whole."""
    mu = torch.randn(8, 3, generator=generator(), dtype=torch.float64)
    whole = MeanNorm(3, 1.0).double()(mu)
    other_sums = iter([mu[4:].sum(0), ((mu[4:] - mu.mean(0)) ** 2).sum(0)])
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "total", lambda x: x + next(other_sums))
    assert torch.allclose(MeanNorm(3, 1.0).double()(mu[:4]), whole[:4])


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("build", [du_vae, lambda: geometric(None)])
def test_a_step_on_a_gpu_copies_nothing_to_the_host_and_agrees(build, images):
    model = build().train()
    here = model.loss(images, generator(1))["loss"].item()
    there = build().train().cuda()
    x, noise = images.cuda(), generator(1)
    torch.cuda.set_sync_debug_mode("warn")
    loss = there.loss(x, noise)["loss"]
    torch.cuda.set_sync_debug_mode("default")
    assert loss.item() == pytest.approx(here, rel=1e-6)


@pytest.mark.parametrize("kind, settings", [(GeometricVAE, {"alpha": 0.5}), (DUVAE, {})])
def test_a_loss_takes_images_of_any_type(kind, settings):
    model, x = bernoulli_vae(6, 2, hidden=(5,), kind=kind, **settings), torch.rand(4, 6, generator=generator()).half()
    losses = [model.loss(images, generator())["loss"].item() for images in (x.float(), x.double())]
    assert losses[0] == losses[1]


@needs_cuda
@pytest.mark.gpu
@pytest.mark.parametrize("kind, settings", [(GeometricVAE, {"alpha": 0.5}), (DUVAE, {})])
def test_a_loss_brings_images_to_the_model_s_device(kind, settings):
    model = bernoulli_vae(6, 2, hidden=(5,), kind=kind, **settings).cuda()
    assert model.loss(torch.rand(4, 6))["loss"].isfinite()
