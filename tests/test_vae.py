"""The variational autoencoder where its answers are known: by quadrature, by enumeration, and with a linear decoder.

An estimator is held unbiased if its mean lies within 3.9 standard errors of the exact value: a right one fails for one seed
in 10,000, and the seeds are fixed.
"""

from functools import cached_property
from itertools import combinations
from math import log, pi, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats
from torch import Tensor, nn

from helpers import assert_mean_is, double, generator, needs_cuda
from vaecourse import training
from vaecourse.distributions import Normal
from vaecourse.exact_models import ProbabilisticPCA
from vaecourse.networks import BernoulliNetwork, GaussianNetwork, mlp
from vaecourse.vae import ELBO, IWAE, VAE, bernoulli_vae, evaluate, gaussian_vae

# A world of one latent and one pixel, x | z ~ N(z^2, 1), whose posterior has two modes: integrals by quadrature


class Square(nn.Module):
    def forward(self, z: Tensor) -> Normal:
        return Normal(z**2, torch.zeros_like(z))


class SameForAll(nn.Module):
    """An encoder that ignores x: q = N(mu, sigma^2)."""

    def __init__(self, mu: float, sigma: float):
        super().__init__()
        self.mu, self.log_sigma = nn.Parameter(double(mu)), nn.Parameter(double(log(sigma)))

    def forward(self, x: Tensor) -> Normal:
        return Normal(self.mu.expand(len(x), 1), self.log_sigma.expand(len(x), 1))


class World:
    """The same model written by hand, in scipy."""

    def __init__(self, x: float, mu: float, sigma: float):
        self.x, self.q = x, stats.norm(mu, sigma)
        self.bounds = mu - 9 * sigma, mu + 9 * sigma

    def log_joint(self, z):
        return stats.norm.logpdf(z) + stats.norm.logpdf(self.x, z**2, 1)

    def expect(self, f) -> float:
        """E_q f(z)."""
        return integrate.quad(lambda z: self.q.pdf(z) * f(z), *self.bounds, epsabs=1e-11, limit=200)[0]

    @cached_property
    def elbo(self) -> float:
        return self.expect(lambda z: self.log_joint(z) - self.q.logpdf(z))

    @cached_property
    def evidence(self) -> float:
        return log(integrate.quad(lambda z: np.exp(self.log_joint(z)), -9, 9, points=[-2, 0, 2], epsabs=1e-12)[0])

    @property
    def kl_to_posterior(self) -> float:
        return self.expect(lambda z: self.q.logpdf(z) - (self.log_joint(z) - self.evidence))


def square(mu: float, sigma: float) -> VAE:
    return VAE(SameForAll(mu, sigma), Square(), pixels=1, latents=1)


QS = [(1.5, 0.4), (0.0, 1.0), (-1.0, 0.1)]


@pytest.mark.equation("eq-vae-gap", oracle="quadrature")
@pytest.mark.parametrize("mu, sigma", QS)
def test_evidence_is_the_elbo_and_the_kl_from_q_to_the_posterior_together(mu, sigma):
    world, model = World(2.0, mu, sigma), square(mu, sigma)
    x, nodes = double([2.0]), np.polynomial.hermite_e.hermegauss(60)
    z, weights = torch.from_numpy(mu + sigma * nodes[0])[:, None], torch.from_numpy(nodes[1] / nodes[1].sum())
    q = model.encode(x)
    distortion = -(weights @ model.decode(z).log_prob(x))
    elbo = ELBO(distortion, q.kl_to_standard()[0]).value.item()
    assert elbo == pytest.approx(world.elbo, abs=1e-7)
    assert elbo + world.kl_to_posterior == pytest.approx(world.evidence, abs=1e-7)


@pytest.mark.equation("eq-vae-jensen", oracle="quadrature")
@settings(deadline=None, max_examples=25)
@given(mu=st.floats(-3, 3), log_sigma=st.floats(-3, 1), x=st.floats(-3, 6))
@pytest.mark.slow
def test_the_elbo_of_any_q_is_below_the_evidence(mu, log_sigma, x):
    world = World(x, mu, np.exp(log_sigma))
    elbo = square(mu, np.exp(log_sigma)).elbo_a(double([x]), 2000, generator()).item()
    spread = sqrt(world.expect(lambda z: (world.log_joint(z) - world.q.logpdf(z)) ** 2) - world.elbo**2)
    assert world.elbo <= world.evidence + 1e-8
    assert elbo <= world.evidence + 8 * spread / sqrt(2000)


@pytest.mark.equation("eq-vae-elbo-parts", oracle="quadrature")
@pytest.mark.parametrize("mu, sigma", QS)
def test_the_elbo_is_minus_distortion_minus_rate(mu, sigma):
    world, model = World(2.0, mu, sigma), square(mu, sigma)
    elbo = model.elbo(double([2.0]), 400_000, generator())
    assert elbo.rate.item() == pytest.approx(world.expect(lambda z: world.q.logpdf(z) - stats.norm.logpdf(z)), abs=1e-7)
    distortion = world.expect(lambda z: -stats.norm.logpdf(2.0, z**2, 1))
    spread = sqrt(world.expect(lambda z: stats.norm.logpdf(2.0, z**2, 1) ** 2) - distortion**2)
    assert abs(elbo.distortion.item() - distortion) < 3.9 * spread / sqrt(400_000)
    assert elbo.value.item() == -(elbo.distortion.item() + elbo.rate.item())
    assert -distortion - elbo.rate.item() == pytest.approx(world.elbo, abs=1e-7)


@pytest.mark.equation("eq-vae-estimator-a", oracle="quadrature")
@pytest.mark.parametrize("mu, sigma", QS)
def test_estimator_a_is_unbiased_for_the_elbo(mu, sigma):
    draws = square(mu, sigma).elbo_a(double([2.0]).expand(200_000, 1), generator=generator(1))
    assert_mean_is(draws, World(2.0, mu, sigma).elbo)


@pytest.mark.equation("eq-vae-estimator-b", oracle="quadrature")
@pytest.mark.parametrize("mu, sigma", QS)
def test_estimator_b_is_unbiased_for_the_elbo(mu, sigma):
    draws = square(mu, sigma).elbo(double([2.0]).expand(200_000, 1), generator=generator(1)).value
    assert_mean_is(draws, World(2.0, mu, sigma).elbo)


@pytest.fixture
def digits() -> Tensor:
    """Binary images of 6 pixels."""
    return (torch.rand(9, 6, generator=generator(3), dtype=torch.float64) < 0.4).double()


def by_hand(model: VAE, x: Tensor, draws: int, seed: int) -> dict[str, np.ndarray]:
    """log p(x | z), log p(z) and log q(z | x) in numpy, under the noise that the model will draw: (draws, batch) each."""
    with torch.no_grad():
        mu, log_sigma = (part.numpy() for part in model.encoder.net(x).chunk(2, -1))
        eps = torch.randn(draws, *mu.shape, generator=generator(seed), dtype=torch.float64).numpy()
        z = mu + np.exp(log_sigma) * eps
        p = special.expit(model.decoder.net(torch.from_numpy(z)).numpy())
    return {
        "likelihood": np.where(x.numpy() == 1, np.log(p), np.log1p(-p)).sum(-1),
        "prior": stats.norm.logpdf(z).sum(-1),
        "q": stats.norm.logpdf(z, mu, np.exp(log_sigma)).sum(-1),
        "kl": 0.5 * (mu**2 + np.exp(2 * log_sigma) - 1 - 2 * log_sigma).sum(-1),
    }


@pytest.mark.equation("eq-vae-estimator-a", oracle="independent code: numpy, under the same noise")
@pytest.mark.equation("eq-vae-estimator-b", oracle="independent code: numpy, under the same noise")
@pytest.mark.parametrize("draws", [1, 4])
def test_both_estimators_average_over_draws_one_number_an_image(digits, draws):
    model = bernoulli_vae(6, 2, hidden=(5,)).double()
    hand = by_hand(model, digits, draws, seed=8)
    a, b = model.elbo_a(digits, draws, generator(8)), model.elbo(digits, draws, generator(8))
    assert a.shape == b.value.shape == (9,)
    assert np.allclose(a.detach(), (hand["likelihood"] + hand["prior"] - hand["q"]).mean(0), atol=1e-10)
    assert np.allclose(b.distortion.detach(), -hand["likelihood"].mean(0), atol=1e-10)
    assert np.allclose(b.value.detach(), -hand["kl"] + hand["likelihood"].mean(0), atol=1e-10)


# Gradients


def slopes(estimate, mu: float, sigma: float, n: int, seed: int) -> Tensor:
    """The gradient with respect to mu of each of n independent one-draw estimates."""
    model = square(0.0, 1.0)
    own_mu = torch.full((n, 1), mu, dtype=torch.float64, requires_grad=True)
    model.encode = lambda x: Normal(own_mu, torch.full_like(own_mu, log(sigma)))
    estimate(model, generator(seed)).sum().backward()
    return own_mu.grad


def value_a(x: float, n: int):
    return lambda model, noise: model.elbo_a(double([x]).expand(n, 1), generator=noise)


def value_b(x: float, n: int):
    return lambda model, noise: model.elbo(double([x]).expand(n, 1), generator=noise).value


@pytest.mark.equation("eq-vae-pathwise-gradient", oracle="finite differences of a quadrature")
@pytest.mark.parametrize("value", [value_a, value_b])
def test_the_gradient_through_the_draws_is_unbiased_for_the_gradient_of_the_elbo(value):
    n, step = 200_000, 1e-4
    exact = (World(2.0, 0.8 + step, 0.5).elbo - World(2.0, 0.8 - step, 0.5).elbo) / (2 * step)
    assert_mean_is(slopes(value(2.0, n), 0.8, 0.5, n, seed=2), exact)


@pytest.mark.equation("eq-vae-pathwise-gradient", oracle="finite differences of a quadrature")
@pytest.mark.parametrize("f, numpy_f", [(torch.sin, np.sin), (lambda z: z**3, lambda z: z**3), (torch.exp, np.exp)])
def test_the_gradient_of_an_expectation_is_the_expectation_of_the_gradient_along_the_path(f, numpy_f):
    n, mu, sigma = 200_000, 0.4, 0.6

    def expectation(mu, log_sigma):
        sigma = np.exp(log_sigma)
        return integrate.quad(lambda e: stats.norm.pdf(e) * numpy_f(mu + sigma * e), -10, 10, epsabs=1e-12)[0]

    step = 1e-4
    by_mu = (expectation(mu + step, log(sigma)) - expectation(mu - step, log(sigma))) / (2 * step)
    by_log_sigma = (expectation(mu, log(sigma) + step) - expectation(mu, log(sigma) - step)) / (2 * step)
    q = Normal(*(torch.full((n, 1), value, dtype=torch.float64, requires_grad=True) for value in (mu, log(sigma))))
    f(q.sample(generator(5))).sum().backward()
    assert_mean_is(q.mu.grad, by_mu)
    assert_mean_is(q.log_sigma.grad, by_log_sigma)


def test_the_reparameterized_gradient_printed_in_the_score_functions_form_is_biased():
    mu, sigma, n = 0.8, 0.5, 200_000
    exact = (World(2.0, mu + 1e-4, sigma).elbo - World(2.0, mu - 1e-4, sigma).elbo) / 2e-4
    own_mu = torch.full((n, 1), mu, dtype=torch.float64, requires_grad=True)
    q = Normal(own_mu, torch.full((n, 1), log(sigma), dtype=torch.float64))
    z = q.sample(generator(6))
    log_q = q.log_prob(z)
    weight = torch.from_numpy(World(2.0, mu, sigma).log_joint(z.detach().numpy()))[:, 0] - log_q.detach()
    (weight * log_q).sum().backward()  # as printed: the density at g(eps, lambda), whose slope in mu is zero
    assert abs(exact) > 0.1
    assert own_mu.grad.abs().max() < 1e-10


@pytest.mark.equation("eq-vae-variance-example", oracle="derivation by hand: gradients, under the same noise")
def test_in_the_example_the_gradient_of_a_varies_less_than_that_of_b_by_7_9_against_10_9():
    n, x = 400_000, 4.0
    z = 0.5 * torch.randn(1, n, 1, generator=generator(4), dtype=torch.float64)[0]
    a, b = (slopes(value(x, n), 0.0, 0.5, n, seed=4) for value in (value_a, value_b))
    assert torch.allclose(a, 2 * z * (x - z**2) - z, atol=1e-10)
    assert torch.allclose(b, 2 * z * (x - z**2), atol=1e-10)
    second, fourth, sixth = 0.25, 3 * 0.25**2, 15 * 0.25**3  # moments of N(0, .25)
    exact_a, exact_b = 49 * second - 28 * fourth + 4 * sixth, 64 * second - 32 * fourth + 4 * sixth
    assert (exact_a, exact_b) == (7.9375, 10.9375)
    assert_mean_is(a**2, exact_a)  # the means are zero
    assert_mean_is(b**2, exact_b)


# Minibatches


class Exact(VAE):
    """A VAE with a linear decoder whose ELBO is in closed form, so that a loss has no noise but the choice of the batch."""

    def __init__(self):
        super().__init__(GaussianNetwork(mlp(3, 4)).double(), nn.Identity(), pixels=3, latents=2)
        self.W = nn.Parameter(torch.randn(3, 2, generator=generator(1), dtype=torch.float64))

    def elbo(self, x: Tensor, draws: int = 1, generator: torch.Generator | None = None) -> ELBO:
        q = self.encode(x)
        cost = 0.5 * ((x - q.mu @ self.W.T) ** 2).sum(-1) + 0.5 * ((2 * q.log_sigma).exp() * (self.W**2).sum(0)).sum(-1)
        return ELBO(cost + 1.5 * log(2 * pi), q.kl_to_standard())


@pytest.mark.equation("eq-vae-aevb", oracle="enumeration of all minibatches")
@pytest.mark.parametrize("size", [1, 2, 4])
def test_n_times_the_loss_of_a_minibatch_is_unbiased_for_the_whole_data_and_so_is_its_gradient(size):
    model, x = Exact(), torch.randn(6, 3, generator=generator(2), dtype=torch.float64)
    parameters = list(model.parameters())
    whole = -model.elbo(x).value.sum()
    gradient = torch.autograd.grad(whole, parameters)
    batches = [list(batch) for batch in combinations(range(6), size)]
    losses = [6 * model.loss(x[batch])["loss"] for batch in batches]
    gradients = [torch.autograd.grad(loss, parameters) for loss in losses]
    assert torch.stack(losses).mean().item() == pytest.approx(whole.item(), abs=1e-10)
    for exact, *parts in zip(gradient, *gradients, strict=True):
        assert torch.allclose(torch.stack(parts).mean(0), exact, atol=1e-10)


def test_the_loss_is_the_mean_over_images_of_minus_the_elbo_with_its_parts(digits):
    model = bernoulli_vae(6, 2, hidden=(5,)).double()
    loss, elbo = model.loss(digits, generator(3)), model.elbo(digits, generator=generator(3))
    assert loss["loss"].item() == pytest.approx(-elbo.value.mean().item())
    assert loss["distortion"].item() == pytest.approx(elbo.distortion.mean().item())
    assert loss["rate"].item() == pytest.approx(elbo.rate.mean().item())


# Decoders


@pytest.mark.equation("eq-vae-optimal-c", oracle="numeric search over c")
def test_the_variance_that_maximizes_the_elbo_is_the_mean_squared_error_a_pixel():
    x = torch.rand(30, 5, generator=generator(1), dtype=torch.float64)
    model = gaussian_vae(5, 2, hidden=(4,), log_sigma=nn.Parameter(torch.zeros(()))).double()

    @torch.no_grad()
    def negative_elbo(log_c: float) -> float:
        model.decoder.log_sigma.fill_(0.5 * log_c)
        return model.loss(x, generator(2))["loss"].item()

    best = np.exp(optimize.minimize_scalar(negative_elbo, bounds=(-6, 3), method="bounded", options={"xatol": 1e-9}).x)
    net = [layer for layer in model.encoder.modules() if isinstance(layer, nn.Linear)]
    hidden = np.tanh(x.numpy() @ net[0].weight.detach().numpy().T + net[0].bias.detach().numpy())
    mu, log_sigma = np.split(hidden @ net[1].weight.detach().numpy().T + net[1].bias.detach().numpy(), 2, -1)
    z = mu + np.exp(log_sigma) * torch.randn(1, 30, 2, generator=generator(2), dtype=torch.float64).numpy()[0]
    net = [layer for layer in model.decoder.modules() if isinstance(layer, nn.Linear)]
    hidden = np.tanh(z @ net[0].weight.detach().numpy().T + net[0].bias.detach().numpy())
    drawn = hidden @ net[1].weight.detach().numpy().T + net[1].bias.detach().numpy()
    assert best == pytest.approx(((x.numpy() - drawn) ** 2).mean(), rel=1e-5)


@pytest.mark.parametrize("log_sigma", ["fixed", "shared", "learned"])
@pytest.mark.slow
def test_each_gaussian_decoder_trains_and_a_shared_variance_finds_the_noise(log_sigma):
    noise = 0.1
    z = torch.randn(400, 1, generator=generator(1))
    x = torch.cat([z, -z, 0.5 * z], 1) + noise * torch.randn(400, 3, generator=generator(2))
    choice = {"fixed": log(noise), "shared": nn.Parameter(torch.zeros(())), "learned": None}[log_sigma]
    model = gaussian_vae(3, 1, hidden=(16,), log_sigma=choice)
    adam = {"optimizer": lambda parameters: torch.optim.Adam(parameters, lr=1e-2)}
    history = training.fit(model, x, steps=400, progress=False, device="cpu", **adam)
    assert history["loss"][-20:].mean() < history["loss"][:20].mean() - 2
    sigma = model.decode(model.encode(x).mean).log_sigma.exp()
    assert sigma.mean().item() == pytest.approx(noise, rel=0.3 if choice is not log(noise) else 1e-6)


def test_a_bernoulli_decoder_trains():
    x = (torch.rand(300, 1, generator=generator(1)) < 0.5).float().expand(300, 8)
    model = bernoulli_vae(8, 2, hidden=(16,))
    adam = {"optimizer": lambda parameters: torch.optim.Adam(parameters, lr=1e-2)}
    history = training.fit(model, x, steps=300, progress=False, device="cpu", **adam)
    assert set(history.parts) == {"loss", "distortion", "rate"}
    assert history["loss"][:5].mean() > 5 and history["loss"][-20:].mean() < 1.2  # log 2 is the least possible
    assert history["loss"][-20:].mean() > log(2)
    assert (model.reconstruct(x).round() == x).all()


# A linear VAE, whose evidence is exact


def linear_vae(model: ProbabilisticPCA, k: int | None = None) -> VAE:
    """The model's decoder as a network, and the encoder of diagonal covariance nearest to its posterior."""
    pixels, latents = model.W.shape
    encoder, decoder = nn.Linear(pixels, latents).double(), nn.Linear(latents, pixels).double()
    with torch.no_grad():
        decoder.weight.copy_(model.W)
        decoder.bias.copy_(model.m)
        encoder.weight.copy_(torch.linalg.solve(model.precision, model.W.T / model.c))
        encoder.bias.copy_(-encoder.weight @ model.m)
    spread = nn.Parameter(-0.5 * model.precision.diagonal().log())
    networks = GaussianNetwork(encoder, spread), GaussianNetwork(decoder, nn.Parameter(double(0.5 * log(model.c))[0]))
    return VAE(*networks, pixels, latents) if k is None else IWAE(*networks, pixels, latents, k)


@pytest.fixture
def tilted() -> ProbabilisticPCA:
    """Four pixels, two latents whose posteriors correlate by -.37: a diagonal q has a gap of .074 nats.

    Beyond a half the importance weights would have no variance, and their bounds would hardly rise.
    """
    W = double([1, 1], [1, 0], [0, 1], [0, 0])
    return ProbabilisticPCA(W, double(0.1, 0.2, 0.3, 0.4), 0.7)


@pytest.fixture
def x(tilted) -> Tensor:
    noise = torch.randn(6, 4, generator=generator(3), dtype=torch.float64)
    return torch.randn(6, 2, generator=generator(2), dtype=torch.float64) @ tilted.W.T + tilted.m + sqrt(tilted.c) * noise


@pytest.mark.equation("eq-vae-linear-gap", oracle="closed form of the evidence")
def test_a_linear_vae_estimates_the_evidence_less_a_gap_known_exactly(tilted, x):
    P = np.eye(2) + tilted.W.numpy().T @ tilted.W.numpy() / tilted.c
    gap = 0.5 * (np.log(np.diag(P)).sum() - np.linalg.slogdet(P)[1])
    assert 0.07 < gap < 0.08
    model = linear_vae(tilted)
    for row in range(2):
        many = x[row].expand(100_000, 4)
        exact = tilted.evidence(x[row]).item() - gap
        assert_mean_is(model.elbo(many, generator=generator(1)).value, exact)
        assert_mean_is(model.elbo_a(many, generator=generator(2)), exact)


def test_an_elbo_at_the_mean_code_is_no_bound_and_overstates_by_half_the_decoders_spread(tilted, x):
    model = linear_vae(tilted)
    q = model.encode(x)
    wrong = model.decode(q.mean).log_prob(x) - q.kl_to_standard()
    exact = tilted.elbo(x, q)
    spread = (0.5 * ((2 * q.log_sigma).exp() * (tilted.W**2).sum(0)).sum(-1) / tilted.c).detach()
    assert torch.allclose((wrong - exact).detach(), spread) and (spread > 0.5).all()
    assert (wrong > tilted.evidence(x) + 0.5).all()


@pytest.mark.equation("eq-vae-iwae", oracle="independent code: numpy, under the same noise")
@pytest.mark.parametrize("k", [1, 7])
def test_the_importance_weighted_bound_is_the_log_of_the_mean_weight(digits, k):
    model = bernoulli_vae(6, 2, hidden=(5,)).double()
    hand = by_hand(model, digits, k, seed=8)
    log_w = hand["likelihood"] + hand["prior"] - hand["q"]
    assert np.allclose(model.log_weights(digits, k, generator(8)).detach(), log_w, atol=1e-10)
    bound = model.iwae_bound(digits, k, generator(8)).detach()
    assert np.allclose(bound, np.log(np.exp(log_w).mean(0)), atol=1e-10)
    assert (bound.numpy() >= log_w.mean(0) - 1e-12).all()  # the mean of the logs is the ELBO's estimate, whatever k


@pytest.mark.equation("eq-vae-iwae", oracle="quadrature over two draws")
def test_the_importance_weighted_bound_with_two_draws_is_its_integral():
    world, n = World(2.0, 1.0, 0.6), 100_000
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    z, weights = 1.0 + 0.6 * nodes, weights / weights.sum()
    log_w = world.log_joint(z) - world.q.logpdf(z)
    exact = weights @ (np.logaddexp(log_w[:, None], log_w) - log(2)) @ weights
    assert world.elbo + 0.1 < exact < world.evidence
    assert_mean_is(square(1.0, 0.6).iwae_bound(double([2.0]).expand(n, 1), 2, generator(1)), exact)


@pytest.mark.equation("eq-vae-iwae-order", oracle="closed form of a linear VAE's evidence")
def test_the_importance_weighted_bound_rises_with_k_from_the_elbo_to_the_evidence(tilted, x):
    model, x = linear_vae(tilted), x[0]
    evidence = tilted.evidence(x).item()
    assert_mean_is(model.iwae_bound(x.expand(100_000, 4), 1, generator(1)), tilted.elbo(x, tilted.best_diagonal(x)).item())
    below = -torch.inf
    with torch.no_grad():
        for k, repeats in ((1, 100_000), (2, 100_000), (5, 50_000), (50, 4000)):
            bounds = model.iwae_bound(x.expand(repeats, 4), k, generator(k))
            mean, error = bounds.mean().item(), bounds.std().item() / sqrt(repeats)
            assert below < mean - 3.9 * error and mean < evidence + 3.9 * error
            below = mean + 3.9 * error
        closest = model.iwae_bound(x.expand(100, 4), 5000, generator(6)).mean().item()
    assert closest == pytest.approx(evidence, abs=0.005)


@pytest.mark.equation("eq-vae-iwae-order", oracle="quadrature")
@settings(deadline=None, max_examples=25)
@given(mu=st.floats(-2, 2), sigma=st.floats(0.3, 1.5), x=st.floats(-1, 4))
@pytest.mark.slow
def test_two_draws_bound_the_evidence_more_closely_than_one(mu, sigma, x):
    world = World(x, mu, sigma)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    z, weights = mu + sigma * nodes, weights / weights.sum()
    log_w = world.log_joint(z) - world.q.logpdf(z)
    two = weights @ (np.logaddexp(log_w[:, None], log_w) - log(2)) @ weights
    assert world.elbo - 1e-7 <= two <= world.evidence + 1e-5


@pytest.mark.parametrize("k", [1, 5])
def test_an_iwae_trains_on_its_bound_with_draws_weighted_by_their_normalized_weights(tilted, x, k):
    model = linear_vae(tilted, k)
    loss = model.loss(x, generator(3))["loss"]
    assert loss.item() == -model.iwae_bound(x, k, generator(3)).mean().item()
    gradient = torch.autograd.grad(loss, model.decoder.net.weight)[0]
    q = model.encode(x)
    z = (q.mu + q.log_sigma.exp() * torch.randn(k, 6, 2, generator=generator(3), dtype=torch.float64)).detach().numpy()
    error = x.numpy() - z @ tilted.W.numpy().T - tilted.m.numpy()
    mu, sigma = q.mu.detach().numpy(), q.log_sigma.exp().detach().numpy()
    log_prior_over_q = (stats.norm.logpdf(z) - stats.norm.logpdf(z, mu, sigma)).sum(-1)
    log_w = stats.norm.logpdf(error, scale=sqrt(tilted.c)).sum(-1) + log_prior_over_q
    weights = special.softmax(log_w, axis=0)
    by_hand = -np.einsum("kb,kbp,kbl->pl", weights, error, z) / tilted.c / len(x)
    assert np.allclose(gradient, by_hand, atol=1e-10)


@pytest.mark.equation("eq-vae-rate-split", oracle="quadrature")
def test_the_mean_rate_is_the_mutual_information_and_the_kl_of_the_aggregated_posterior_to_the_prior():
    model = bernoulli_vae(5, 1, hidden=(4,), seed=3).double()
    model.encoder.net[-1].weight.data.mul_(6)
    x = (torch.rand(4, 5, generator=generator(1), dtype=torch.float64) < 0.5).double()
    q = model.encode(x)
    components = [stats.norm(mu.item(), log_sigma.exp().item()) for mu, log_sigma in zip(q.mu, q.log_sigma, strict=True)]

    def aggregated(z):
        return np.mean([component.pdf(z) for component in components])

    def integral(f):
        points = [component.mean() for component in components]
        return integrate.quad(f, -40, 40, points=points, limit=500, epsabs=1e-10)[0]

    def information_density(z):
        return np.mean([c.pdf(z) * (c.logpdf(z) - np.log(aggregated(z))) if c.pdf(z) > 1e-300 else 0.0 for c in components])

    information = integral(information_density)
    to_prior = integral(lambda z: a * (np.log(a) - stats.norm.logpdf(z)) if (a := aggregated(z)) > 1e-300 else 0.0)
    rate = model.elbo(x, generator=generator()).rate.mean().item()
    assert 0.05 < information < log(4) and to_prior > 0.05
    assert rate == pytest.approx(information + to_prior, abs=1e-7)


# Judging


@pytest.fixture
def orthogonal() -> tuple[ProbabilisticPCA, Tensor]:
    """A linear VAE without a gap: its log-weights are log p(x), whatever the draw."""
    x = torch.randn(40, 6, generator=generator(1), dtype=torch.float64) * double(3, 2, 1, 1, 1, 1)
    return ProbabilisticPCA.fit(x, 2), x


@pytest.mark.parametrize("decodes", [1, 21, 50_000])
def test_evaluate_averages_over_images_however_they_are_split_into_batches(orthogonal, decodes):
    exact, x = orthogonal
    score = evaluate(linear_vae(exact), x, 3, decodes=decodes, generator=generator())
    assert score.nll == pytest.approx(-exact.evidence(x).mean().item(), abs=1e-9)
    assert score.negative_elbo == pytest.approx(score.distortion + score.rate, abs=1e-12)
    assert score.rate == pytest.approx(exact.best_diagonal(x).kl_to_standard().mean().item(), abs=1e-9)
    assert score.active_units == 2


@pytest.mark.equation("eq-vae-estimator-b", oracle="independent code: scipy, under the same noise")
@pytest.mark.equation("eq-vae-iwae", oracle="independent code: scipy, under the same noise")
@pytest.mark.parametrize(
    "n, draws, decodes, batches", [(2, 1, 1, (1, 1)), (3, 2, 1, (1, 1, 1)), (3, 2, 5, (2, 1)), (2, 3, 9, (2,))]
)
def test_a_score_of_few_images_or_draws_is_their_mean_each_image_counting_alike(tilted, x, n, draws, decodes, batches):
    model, x, rows, noise, parts = linear_vae(tilted), x[:n], [], generator(3), []
    model.decoder.register_forward_hook(lambda net, given, out: rows.append(len(given[0])))
    score = evaluate(model, x, draws, generator(3), decodes=decodes)
    assert rows == [draws * batch for batch in batches]
    for images in x.split(batches):
        q = model.encode(images)
        mu, sigma = q.mu.detach().numpy(), q.log_sigma.exp().detach().numpy()
        z = mu + sigma * torch.randn(draws, len(images), 2, generator=noise, dtype=torch.float64).numpy()
        log_likelihood = stats.norm.logpdf(images, z @ tilted.W.numpy().T + tilted.m.numpy(), sqrt(tilted.c)).sum(-1)
        log_w = log_likelihood + (stats.norm.logpdf(z) - stats.norm.logpdf(z, mu, sigma)).sum(-1)
        parts.append((-log_likelihood.mean(0), log(draws) - special.logsumexp(log_w, axis=0)))
    distortion, nll = np.concatenate(parts, 1).mean(1)
    assert score.distortion == pytest.approx(distortion, rel=1e-9) and score.nll == pytest.approx(nll, rel=1e-9)


def test_evaluate_finds_the_nll_below_minus_the_elbo(tilted, x):
    score = evaluate(linear_vae(tilted), x, 2000, generator())
    assert score.negative_elbo == pytest.approx(-tilted.elbo(x, tilted.best_diagonal(x)).mean().item(), abs=0.02)
    assert score.nll == pytest.approx(-tilted.evidence(x).mean().item(), abs=0.01)
    assert score.nll < score.negative_elbo


def test_a_latent_that_the_decoder_does_not_use_is_not_active_in_the_best_encoder():
    W = double([2.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0], [1.0, 0.0, -1.0, 0.0])
    exact = ProbabilisticPCA(W, torch.zeros(3, dtype=torch.float64), 0.1)
    x = torch.randn(50, 3, generator=generator(1), dtype=torch.float64)
    model = linear_vae(exact)
    assert model.active_units(x) == 2
    assert model.active_units(x, threshold=100.0) == 0
    assert torch.allclose(model.encode(x).log_sigma[:, 1], torch.zeros(50, dtype=torch.float64))  # its code is the prior


def test_a_latent_is_active_by_the_variance_of_its_mean_over_all_images_above_a_hundredth():
    pattern = torch.tensor([1.0, -1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0], dtype=torch.float64)  # variance 8 / 7
    late = torch.tensor([0.0] * 4 + [1.0] * 4, dtype=torch.float64)  # none in the first half; variance 2 / 7
    wanted = double(0.0101, 0.0099, 0.006)
    x = torch.cat([(wanted * 7 / 8).sqrt() * pattern[:, None], late[:, None], 0.3 + 0 * late[:, None]], 1)
    assert x.var(0).numpy() == pytest.approx([0.0101, 0.0099, 0.006, 2 / 7, 0])

    class Copying(nn.Linear):
        def forward(self, x):
            return Normal(x, torch.zeros_like(x))

    model = VAE(Copying(5, 5), Copying(5, 5), pixels=5, latents=5)
    assert model.active_units(x) == 2
    assert model.active_units(x, threshold=0.0098) == 3
    assert model.active_units(x, threshold=0.2) == 1
    two = double([0.0, 0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 2.0, 0.0, 0.0])  # of variances 1 / 2 and 2
    assert [model.active_units(two, threshold=at) for at in (0.49, 0.5, 2.0)] == [2, 1, 0]


def test_reconstructions_are_the_decoders_mean_at_the_mean_code(orthogonal):
    exact, x = orthogonal
    ours = linear_vae(exact).reconstruct(x)
    assert torch.allclose(ours, exact.posterior(x).mean @ exact.W.T + exact.m) and not ours.requires_grad


def test_samples_are_the_decoders_means_at_codes_from_the_prior():
    model = bernoulli_vae(6, 2, hidden=(5,)).double()
    z = torch.randn(7, 2, generator=generator(4), dtype=torch.float64)
    ours = model.sample(7, generator(4))
    assert torch.equal(ours, model.decoder.net(z).sigmoid()) and not ours.requires_grad and ours.shape == (7, 6)


def test_a_code_draws_the_decoders_mean_whatever_the_generator_and_its_gradient_flows():
    model, z = bernoulli_vae(6, 2, hidden=(5,)).double(), torch.randn(3, 4, 2, generator=generator(), dtype=torch.float64)
    images = model.generate(z.requires_grad_(), generator(1))
    assert torch.equal(images, model.decode(z).mean) and images.shape == (3, 4, 6)
    assert torch.autograd.grad(images.sum(), z)[0].abs().min() > 0


def test_the_log_joint_of_image_and_code_is_the_likelihood_and_the_prior_together(digits):
    model, z = bernoulli_vae(6, 2, hidden=(5,)).double(), torch.randn(4, 9, 2, generator=generator(1), dtype=torch.float64)
    p = model.decode(z).mean.detach().numpy()
    by_hand = stats.bernoulli.logpmf(digits.numpy(), p).sum(-1) + stats.norm.logpdf(z.numpy()).sum(-1)
    assert np.allclose(model.log_joint(digits, z).detach(), by_hand)


@pytest.mark.parametrize("build", [bernoulli_vae, gaussian_vae])
def test_a_subclass_is_built_of_the_networks_of_the_plain_vae_with_settings_of_its_own(build):
    plain, weighted = build(6, 2, hidden=(5,), seed=3), build(6, 2, hidden=(5,), seed=3, kind=IWAE, draws=7)
    assert type(plain) is VAE and type(weighted) is IWAE and weighted.draws == 7
    theirs = plain.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in weighted.state_dict().items())


def test_the_prior_is_a_standard_normal_of_the_models_precision():
    prior = bernoulli_vae(6, 3).double().prior(4)
    assert prior.mu.shape == (4, 3) and prior.mu.dtype == torch.float64
    assert torch.equal(prior.kl_to_standard(), torch.zeros(4, dtype=torch.float64))


# Randomness, shapes, devices


class Sampling(VAE):
    """Its images are drawn, where the plain VAE takes the decoder's mean."""

    def generate(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.decode(z).sample(generator)


DRAWING = {
    "elbo": lambda model, x, noise: model.elbo(x, generator=noise).value,
    "elbo_a": lambda model, x, noise: model.elbo_a(x, generator=noise),
    "iwae_bound": lambda model, x, noise: model.iwae_bound(x, 3, noise),
    "log_weights": lambda model, x, noise: model.log_weights(x, 2, noise),
    "loss": lambda model, x, noise: model.loss(x, noise)["loss"],
    "sample": lambda model, x, noise: model.sample(4, noise),
    "sample of drawn images": lambda model, x, noise: Sampling(model.encoder, model.decoder, 6, 2).sample(4, noise),
    "reconstruct by drawn images": lambda model, x, noise: Sampling(model.encoder, model.decoder, 6, 2).reconstruct(x, noise),
    "evaluate": lambda model, x, noise: torch.tensor(evaluate(model, x, 5, noise).nll),
}


@pytest.mark.parametrize("draw", DRAWING.values(), ids=DRAWING)
def test_what_is_drawn_depends_on_the_generator_alone(draw, digits):
    model, state = bernoulli_vae(6, 2, hidden=(5,)), torch.random.get_rng_state()
    first, again, other = (draw(model, digits.float(), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("draw", DRAWING.values(), ids=DRAWING)
def test_images_and_generators_on_the_cpu_serve_a_model_on_a_gpu(draw, digits):
    model, x = bernoulli_vae(6, 2, hidden=(5,)), digits.float()
    on_cpu = draw(model, x, generator(1))
    assert torch.allclose(draw(model.cuda(), x, generator(1)).cpu(), on_cpu, rtol=1e-4)
    draw(model, x, torch.Generator("cuda").manual_seed(1))


@pytest.mark.parametrize("build", [bernoulli_vae, gaussian_vae])
def test_a_seed_sets_the_weights_and_touches_no_other_randomness(build):
    state = torch.random.get_rng_state()
    weights = [build(6, 2, seed=seed).encoder.net[0].weight for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_hidden_layers_are_mirrored_in_the_decoder():
    model = bernoulli_vae(64, 8, hidden=(40, 20))
    assert isinstance(model.decoder, BernoulliNetwork)
    widths = [[layer.out_features for layer in half.net[::2]] for half in (model.encoder, model.decoder)]
    assert widths == [[40, 20, 16], [20, 40, 64]]


@pytest.mark.parametrize("shape", [(6,), (2, 3, 2), (2, 5), (6, 2)])
@pytest.mark.parametrize("method", ["encode", "elbo", "elbo_a", "log_weights", "loss", "reconstruct"])
def test_images_that_are_not_rows_are_an_error_that_says_how_to_flatten_them(method, shape, no_shape_checks):
    with pytest.raises(ValueError, match=r"images must be rows, \(batch, 6\); got .* Flatten them: x.flatten\(1\)"):
        getattr(bernoulli_vae(6, 2), method)(torch.zeros(shape))


def test_codes_of_another_width_are_an_error():
    with pytest.raises(ValueError, match=r"codes must end in 2 latents; got shape \(4, 3\)"):
        bernoulli_vae(6, 2).decode(torch.zeros(4, 3))


def test_a_score_needs_a_draw_and_a_variance_over_the_data_two_images(digits):
    model = bernoulli_vae(6, 2).double()
    with pytest.raises(ValueError, match="draws, the number an image, must be at least 1; got 0"):
        evaluate(model, digits, draws=0)
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        model.active_units(digits[:1])


def test_results_have_one_number_an_image_whatever_the_draws(digits):
    model = bernoulli_vae(6, 2).double()
    assert model.elbo(digits, 5, generator()).value.shape == model.iwae_bound(digits, 5, generator()).shape == (9,)
    assert model.log_weights(digits, 5, generator()).shape == (5, 9)
    assert model.decode(torch.zeros(3, 4, 2, dtype=torch.float64)).mean.shape == (3, 4, 6)


@pytest.mark.slow
def test_a_reconstruction_averaged_over_pixels_beside_a_summed_rate_collapses_the_code():
    x = (torch.rand(300, 1, generator=generator(1)) < 0.5).float().expand(300, 8)

    class Averaged(VAE):
        def loss(self, x, generator=None):
            elbo = self.elbo(x, generator=generator)
            return {"loss": (elbo.distortion / 8 + elbo.rate).mean()}

    right, wrong = (bernoulli_vae(8, 2, hidden=(16,), kind=kind) for kind in (VAE, Averaged))
    adam = {"optimizer": lambda parameters: torch.optim.Adam(parameters, lr=1e-2)}
    for model in (right, wrong):
        training.fit(model, x, steps=300, progress=False, device="cpu", **adam)
    scores = [evaluate(model, x, 50, generator()) for model in (right, wrong)]
    assert scores[0].active_units >= 1 and scores[1].active_units == 0
    assert scores[1].nll > scores[0].nll + 3


# Any architecture, any type, few images


def batch_normalized(width: int) -> VAE:
    torch.manual_seed(0)
    decoder = nn.Sequential(
        nn.Linear(4, width), nn.BatchNorm1d(width), nn.Unflatten(1, (width, 1)), nn.Flatten(), nn.Linear(width, 6)
    )
    return VAE(GaussianNetwork(mlp(6, 5, 8)), BernoulliNetwork(decoder), 6, 4)


@pytest.mark.parametrize("width", [5, 20])
def test_a_decoder_is_given_rows_so_that_batch_normalization_is_over_the_batch(width):
    """Width 20 is the batch's own: there BatchNorm1d took the batch for its channels, in silence."""
    model, x = batch_normalized(width), torch.rand(20, 6, generator=generator())
    model.elbo(x, draws=3, generator=generator())  # moves the running statistics
    training.fit(model, x, steps=3, batch_size=20, progress=False)
    z = model.encode(x).mean
    rows, draws = model.decode(z).log_prob(x), model.decode(z.expand(3, -1, -1)).log_prob(x)
    assert torch.allclose(draws, rows.expand(3, -1)) and draws.shape == (3, 20)
    assert torch.allclose(model.decode(z.flip(0)[None]).log_prob(x.flip(0))[0].flip(0), rows)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_images_and_codes_of_any_type_are_taken_as_the_model_s(dtype):
    model, x = bernoulli_vae(6, 2, hidden=(5,)), torch.rand(3, 6, generator=generator()).half()
    losses = [model.loss(images, generator())["loss"].item() for images in (x.float(), x.to(dtype))]
    assert losses[0] == losses[1]
    assert torch.equal(model.generate(torch.zeros(1, 2, dtype=dtype)), model.generate(torch.zeros(1, 2)))
    assert torch.equal(
        model.log_joint(x.to(dtype), torch.zeros(3, 2, dtype=dtype)), model.log_joint(x.float(), torch.zeros(3, 2))
    )


def test_the_book_s_models_train_where_double_precision_is_the_default(no_shape_checks):
    torch.set_default_dtype(torch.float64)
    try:
        x = torch.rand(20, 6, generator=generator()).float()
        assert training.fit(bernoulli_vae(6, 2, hidden=(5,)), x, steps=2, progress=False).steps == 2
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_score_refuses_pixels_that_are_no_probabilities_and_one_image():
    model, x = bernoulli_vae(6, 2, hidden=(5,)), torch.rand(3, 6, generator=generator())
    with pytest.raises(ValueError, match="to 3, and take values"):
        evaluate(model, torch.cat([x, torch.full((1, 6), 3.0)]), 5)
    with pytest.raises(ValueError, match="evaluate averages over images, and needs at least 2"):
        evaluate(model, x[:1], 5)
    with pytest.raises(ValueError, match="draws, the number an image, must be at least 1; got 0"):
        bernoulli_vae(6, 2, hidden=(5,), kind=IWAE, draws=0)


def test_a_score_takes_numbers_and_images_of_numpy(no_shape_checks):
    model, x = bernoulli_vae(6, 2, hidden=(5,)), torch.rand(3, 6, generator=generator())
    mine = evaluate(model, x.double().numpy(), np.int64(5), generator(), decodes=np.int64(10))
    assert mine == evaluate(model, x, 5, generator(), decodes=10)
    with pytest.raises(TypeError, match=r"^x must be a tensor or a NumPy array of numbers, got list"):
        evaluate(model, x.tolist())
