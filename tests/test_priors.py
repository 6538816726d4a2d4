"""Holes, the contrastive prior and its ways of sampling, on a line where all densities are known."""

from functools import partial
from math import log, sqrt

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from helpers import double, generator, needs_cuda
from vaecourse import distributions, priors, training
from vaecourse.distributions import Mixture, Normal
from vaecourse.priors import ContrastivePrior
from vaecourse.vae import VAE, bernoulli_vae, evaluate

# A line: four posteriors with a hole between, and a sharp one


MU, SIGMA = [-1.5, -1.2, 1.0, 1.6], [0.4, 0.3, 0.35, 0.15]
POSTERIORS = Normal(double(*MU)[:, None], double(*SIGMA).log()[:, None])


def log_q(z):
    return np.logaddexp.reduce([stats.norm.logpdf(z, m, s) for m, s in zip(MU, SIGMA, strict=True)], axis=0) - log(4)


def integral(f, low: float = -9.0, high: float = 9.0) -> float:
    return integrate.quad(f, low, high, points=[m for m in MU if low < m < high], limit=500, epsabs=1e-11)[0]


def generator_normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator())


class Ratio(nn.Module):
    """A classifier with the logit log q(z) / p(z) and a constant more: the best one, but for a factor."""

    def __init__(self, offset: float = 0.0):
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(offset, dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        q = Mixture(POSTERIORS).log_prob(z.reshape(-1, 1)).reshape(z.shape)
        return q + 0.5 * z**2 + 0.5 * log(2 * np.pi) + self.offset


class Tilt(nn.Module):
    """A classifier with the logit a z."""

    def __init__(self, a: float):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        return self.a * z


class Four(nn.Module):
    """An encoder that knows four images, 0 to 3 in one pixel."""

    def forward(self, x: Tensor) -> Normal:
        return POSTERIORS[x[:, 0].long()]


class Echo(nn.Module):
    """x | z ~ N(z, 1/4)."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.tensor(0.0, dtype=torch.float64))

    def forward(self, z: Tensor) -> Normal:
        return Normal(z, torch.full_like(z, log(0.5)))


def on_a_line(offset: float = 0.0) -> ContrastivePrior:
    return ContrastivePrior(VAE(Four(), Echo(), pixels=1, latents=1), Ratio(offset))


def assert_follows(z: Tensor, cdf, draws: int) -> None:
    """Kolmogorov and Smirnov's test, failing for a right sampler once in 10,000 seeds."""
    assert len(z) == draws
    assert stats.kstest(z[:, 0].numpy(), cdf).pvalue > 1e-4


def cdf_q(z):
    return np.mean([stats.norm.cdf(z, m, s) for m, s in zip(MU, SIGMA, strict=True)], axis=0)


@pytest.mark.equation("eq-priors-aggregated", oracle="another library: scipy")
def test_the_aggregated_posterior_is_the_mean_of_all_posteriors_whatever_the_block(monkeypatch):
    z = torch.linspace(-5, 5, 41, dtype=torch.float64)[:, None]
    q = Mixture(POSTERIORS)
    assert np.allclose(q.log_prob(z), log_q(z[:, 0].numpy()), atol=1e-10)
    monkeypatch.setattr(distributions, "BLOCK", 7)
    assert np.allclose(q.log_prob(z), log_q(z[:, 0].numpy()), atol=1e-10)
    assert_follows(q.sample(4000, generator()), cdf_q, 4000)


@pytest.mark.equation("eq-priors-hole-share", oracle="quadrature")
@pytest.mark.equation("eq-priors-gain", oracle="quadrature")
def test_holes_are_the_divergence_and_the_priors_mass_where_the_posteriors_are_thin():
    kl = integral(lambda z: np.exp(log_q(z)) * (log_q(z) - stats.norm.logpdf(z)))
    thin = np.linspace(-9, 9, 200_001)
    share = stats.norm.pdf(thin)[log_q(thin) - stats.norm.logpdf(thin) < log(0.1)].sum() * (thin[1] - thin[0])
    found = priors.holes(Mixture(POSTERIORS), 40_000, generator())
    assert 0.1 < share < 0.9 and found.kl_error < 0.01 and found.share_error < 0.01
    assert abs(found.kl - kl) < 3.9 * found.kl_error and abs(found.share - share) < 3.9 * found.share_error


@pytest.mark.equation("eq-priors-memory", oracle="quadrature")
def test_the_gain_on_own_codes_is_at_least_the_mean_rate_less_log_n_and_that_where_posteriors_lie_apart():
    rate = POSTERIORS.kl_to_standard().mean().item()
    kl = integral(lambda z: np.exp(log_q(z)) * (log_q(z) - stats.norm.logpdf(z)))
    within = [
        integrate.quad(
            lambda z, m=m, s=s: stats.norm.pdf(z, m, s) * (stats.norm.logpdf(z, m, s) - log_q(z)), m - 9 * s, m + 9 * s
        )
        for m, s in zip(MU, SIGMA, strict=True)
    ]
    assert kl == pytest.approx(rate - np.mean([value for value, _ in within]), abs=1e-9)
    found = priors.holes(Mixture(POSTERIORS), 40_000, generator())
    assert rate - log(4) < kl and rate - log(4) < found.kl - 3.9 * found.kl_error
    far = Normal(double(-3.0, -1.0, 1.0, 3.0)[:, None], torch.full((4, 1), log(0.05), dtype=torch.float64))
    found = priors.holes(Mixture(far), 40_000, generator())
    assert abs(found.kl - far.kl_to_standard().mean().item() + log(4)) < 3.9 * found.kl_error


def test_a_prior_that_is_the_aggregate_has_no_hole():
    same = Normal(torch.zeros(3, 2), torch.zeros(3, 2))
    found = priors.holes(Mixture(same), 100, generator())
    assert abs(found.kl) < 1e-6 and found.share == 0


# The classifier


@pytest.mark.equation("eq-priors-contrast", oracle="quadrature")
def test_the_loss_is_the_cross_entropy_of_telling_codes_apart():
    prior = on_a_line(offset=0.5)

    def logit(z):
        return log_q(z) - stats.norm.logpdf(z) + 0.5

    exact = integral(lambda z: np.exp(log_q(z)) * np.logaddexp(0, -logit(z)) + stats.norm.pdf(z) * np.logaddexp(0, logit(z)))
    x = (torch.arange(40_000) % 4)[:, None].double()
    losses = [prior.loss(x, generator(seed))["loss"].item() for seed in range(8)]
    assert abs(np.mean(losses) - exact) < 5.4 * np.std(losses, ddof=1) / sqrt(8)  # Student's t, 7 degrees: once in 1,000


@pytest.mark.equation("eq-priors-ratio", oracle="quadrature")
@pytest.mark.slow
def test_no_other_logit_has_a_smaller_loss_than_the_log_ratio():
    def loss(logit):
        return integral(lambda z: np.exp(log_q(z)) * np.logaddexp(0, -logit(z)) + stats.norm.pdf(z) * np.logaddexp(0, logit(z)))

    best = loss(lambda z: log_q(z) - stats.norm.logpdf(z))
    for change in (lambda z: 0.3, lambda z: -0.3, lambda z: 0.2 * z, lambda z: 0.3 * np.sin(3 * z)):
        assert loss(lambda z, change=change: log_q(z) - stats.norm.logpdf(z) + change(z)) > best + 1e-4


def expected_loss(logit) -> float:
    """The cross-entropy of a logit, by quadrature in q and p."""
    return integral(lambda z: np.exp(log_q(z)) * np.logaddexp(0, -logit(z)) + stats.norm.pdf(z) * np.logaddexp(0, logit(z)))


def log_ratio(z):
    return log_q(z) - stats.norm.logpdf(z)


@pytest.mark.equation("eq-priors-least-loss", oracle="quadrature")
def test_the_least_loss_is_two_log_two_less_twice_the_jensen_shannon_divergence():
    def middle(z):
        return np.logaddexp(log_q(z), stats.norm.logpdf(z)) - log(2)

    of_q = integral(lambda z: np.exp(log_q(z)) * (log_q(z) - middle(z)))
    of_p = integral(lambda z: stats.norm.pdf(z) * (stats.norm.logpdf(z) - middle(z)))
    least = 2 * log(2) - 2 * (0.5 * of_q + 0.5 * of_p)
    assert least == pytest.approx(expected_loss(log_ratio), abs=1e-9) and 0.5 < least < 1.2
    x = (torch.arange(40_000) % 4)[:, None].double()
    losses = [on_a_line().loss(x, generator(seed))["loss"].item() for seed in range(8)]
    assert abs(np.mean(losses) - least) < 5.4 * np.std(losses, ddof=1) / sqrt(8)  # Student's t, 7 degrees: once in 1,000


@pytest.mark.equation("eq-priors-excess", oracle="finite differences")
@pytest.mark.parametrize("delta", [lambda z: 1.0, lambda z: z, lambda z: np.sin(3 * z)], ids=["constant", "tilt", "wave"])
def test_what_a_small_error_of_the_logit_costs_is_weighed_by_q_p_over_q_and_p(delta):
    def weight(z):
        return np.exp(log_q(z) + stats.norm.logpdf(z) - np.logaddexp(log_q(z), stats.norm.logpdf(z)))

    step = 1e-2
    up, down = (expected_loss(lambda z, t=t: log_ratio(z) + t * delta(z)) for t in (step, -step))
    curvature = (up + down - 2 * expected_loss(log_ratio)) / step**2
    assert curvature == pytest.approx(integral(lambda z: weight(z) * delta(z) ** 2), rel=1e-3)
    assert abs(up - down) < 1e-3 * step**2 + 0.2 * step**3  # no slope at the best logit


@pytest.mark.equation("eq-priors-excess", oracle="quadrature")
def test_the_loss_of_a_logit_that_is_off_by_a_constant_exceeds_the_least_one_by_that_weight():
    weight = integral(lambda z: np.exp(log_q(z) + stats.norm.logpdf(z) - np.logaddexp(log_q(z), stats.norm.logpdf(z))))
    x, offset = (torch.arange(40_000) % 4)[:, None].double(), 0.2
    pairs = [[on_a_line(t).loss(x, generator(seed))["loss"].item() for t in (0.0, offset, -offset)] for seed in range(8)]
    excess = [(up + down) / 2 - least for least, up, down in pairs]
    assert np.mean(excess) == pytest.approx(0.5 * weight * offset**2, rel=0.02)


@pytest.mark.equation("eq-priors-ratio", oracle="closed form of the ratio")
@pytest.mark.slow
def test_a_trained_classifier_finds_the_ratio_where_codes_are():
    vae = VAE(Four(), Echo(), pixels=1, latents=1)
    prior = priors.contrastive_prior(vae, hidden=(32, 32)).double()
    x = (torch.arange(4000) % 4)[:, None].double()
    adam = partial(torch.optim.Adam, lr=5e-3)
    training.fit(prior, x, steps=800, batch_size=500, optimizer=adam, progress=False, device="cpu")
    z = Mixture(POSTERIORS).sample(2000, generator())
    exact = log_q(z[:, 0].numpy()) - stats.norm.logpdf(z[:, 0].numpy())
    assert np.abs(exact).mean() > 0.5
    assert np.abs(prior.log_ratio(z).detach().numpy() - exact).mean() < 0.25
    assert prior.log_normalizer(20_000, generator()).value == pytest.approx(0, abs=0.1)


def test_training_moves_the_classifier_and_leaves_the_vae_alone():
    vae = bernoulli_vae(6, 2, hidden=(5,))
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    prior = priors.contrastive_prior(vae, hidden=(8,))
    first = prior.classifier[0].weight.detach().clone()
    training.fit(prior, torch.rand(40, 6, generator=generator()), steps=5, batch_size=20, progress=False, device="cpu")
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    assert not torch.equal(prior.classifier[0].weight, first)


# The prior


@pytest.mark.equation("eq-priors-normalizer", oracle="quadrature")
@pytest.mark.parametrize("offset", [0.0, 1.5])
def test_the_normalizer_is_the_mean_ratio_over_the_prior(offset):
    exact = log(integral(lambda z: np.exp(log_q(z) + offset)))
    assert exact == pytest.approx(offset, abs=1e-9)
    estimate = on_a_line(offset).log_normalizer(40_000, generator())
    assert estimate.error < 0.02 and abs(estimate.value - exact) < 3.9 * estimate.error


@pytest.mark.equation("eq-priors-ncp", oracle="quadrature")
def test_the_reweighted_prior_is_a_density_whatever_the_classifiers_offset():
    prior, z = on_a_line(offset=1.5), torch.linspace(-9, 9, 100_001, dtype=torch.float64)[:, None]
    density = (prior.log_unnormalized(z) - 1.5).detach().exp()
    assert density.sum().item() * 18 / 100_000 == pytest.approx(1, abs=1e-6)
    assert np.allclose(density, np.exp(log_q(z[:, 0].numpy())), atol=1e-10)


@pytest.mark.equation("eq-priors-resampling", oracle="simulation: draws against the distribution function")
def test_importance_resampling_follows_the_aggregate_and_with_one_candidate_the_prior():
    prior = on_a_line(offset=-2.0)
    assert_follows(prior.resample(3000, candidates=400, generator=generator()), cdf_q, 3000)
    assert_follows(prior.resample(3000, candidates=1, generator=generator()), stats.norm.cdf, 3000)


def tilted(a: float) -> ContrastivePrior:
    return ContrastivePrior(VAE(Four(), Echo(), pixels=1, latents=1), Tilt(a))


@pytest.mark.equation("eq-priors-ncp", oracle="closed form: a Gaussian tilted by an exponential is a Gaussian")
@pytest.mark.equation("eq-priors-likelihood", oracle="closed form: the gain's quadratics under each posterior")
def test_a_contrastive_prior_may_start_from_another_law_than_the_standard_one():
    a, m, s = 1.2, 0.7, 0.4
    base = Mixture(Normal(double([m]), double([log(s)])))
    prior = ContrastivePrior(VAE(Four(), Echo(), pixels=1, latents=1), Tilt(a), base)
    exact, log_Z = stats.norm(m + a * s**2, s), a * m + (a * s) ** 2 / 2
    z = torch.linspace(-2, 3, 12, dtype=torch.float64)[:, None]
    with torch.no_grad():
        assert np.allclose(prior.log_unnormalized(z) - log_Z, exact.logpdf(z[:, 0]), atol=1e-10)
        assert np.allclose(prior.log_unnormalized(z.view(3, 4, 1)), prior.log_unnormalized(z).view(3, 4))
        apart = prior.potential(z) + torch.from_numpy(exact.logpdf(z[:, 0]))
    assert torch.allclose(apart, apart[0].expand(12))
    found = prior.log_normalizer(40_000, generator(1))
    assert found.error < 0.01 and abs(found.value - log_Z) < 3.9 * found.error
    assert_follows(prior.resample(3000, candidates=50, generator=generator(2)), exact.cdf, 3000)
    assert_follows(prior.langevin(3000, step=0.05, steps=40, generator=generator(3)), exact.cdf, 3000)
    x = torch.arange(4, dtype=torch.float64)[:, None]
    mean, variance = np.array(MU), np.array(SIGMA) ** 2
    gains = -log(s) - ((mean - m - a * s**2) ** 2 + variance) / (2 * s**2) + (mean**2 + variance) / 2
    told = priors.likelihoods(prior, x, log_Z, 20_000, generator(4))
    assert told.gain_bound == pytest.approx(gains.mean(), abs=0.1)
    loss = prior.loss(x[[0] * 20_000], generator(5))["loss"].item()
    q = stats.norm(MU[0], SIGMA[0])
    of_q = integrate.quad(lambda z: q.pdf(z) * np.logaddexp(0, -a * z), -15, 15)[0]
    of_p = integrate.quad(lambda z: stats.norm(m, s).pdf(z) * np.logaddexp(0, a * z), -15, 15)[0]
    assert loss == pytest.approx(of_q + of_p, abs=0.05)


@pytest.mark.parametrize("step", [0.3, 1e-3])
def test_langevin_dynamics_follow_a_ratio_that_is_smooth_and_a_step_too_small_is_tuned_first(step):
    z = tilted(1.2).langevin(3000, step=step, steps=60, generator=generator())
    assert_follows(z, stats.norm(1.2, 1).cdf, 3000)  # exp(a z) N(z; 0, 1) is N(a, 1)


@pytest.mark.equation("eq-priors-normalizer", oracle="independent code: numpy, under the same noise")
@pytest.mark.parametrize("draws", [2, 5])
def test_the_normalizers_estimate_is_the_log_of_the_mean_ratio_and_its_relative_error(draws):
    estimate = tilted(1.2).log_normalizer(draws, generator(3))
    r = np.exp(1.2 * torch.randn(draws, generator=generator(3), dtype=torch.float64).numpy())
    assert estimate.value == pytest.approx(log(r.mean()), abs=1e-12)
    assert estimate.error == pytest.approx(r.std(ddof=1) / sqrt(draws) / r.mean(), rel=1e-9)


@pytest.mark.equation("eq-priors-draws", oracle="closed form: moments of a log-normal ratio")
@pytest.mark.parametrize("a", [0.3, 0.8, 1.2])
def test_the_normalizers_relative_variance_is_at_least_the_exponential_of_the_divergence(a):
    """With r = exp(a z) the prior is N(a, 1): E r^2 / Z^2 = exp(a^2), and KL(N(a, 1) || N(0, 1)) = a^2 / 2."""
    draws = 400_000
    found = tilted(a).log_normalizer(draws, generator(5))
    exact, least = np.expm1(a**2), np.expm1(a**2 / 2)
    assert draws * found.error**2 == pytest.approx(exact, rel=0.1) and exact > least
    second = integrate.quad(lambda z: stats.norm.pdf(z) * np.exp(2 * a * z - a**2), -15, 15)[0]
    assert second - 1 == pytest.approx(exact, rel=1e-8)


@pytest.mark.equation("eq-priors-reach", oracle="closed form: the largest of K draws, and its divergence from one")
@pytest.mark.parametrize("candidates", [1, 5, 40])
def test_codes_lie_no_farther_from_the_base_than_the_log_of_the_candidates(candidates):
    """The steepest ratio keeps the largest candidate, of density K p(z) F(z)^(K - 1), KL = log K - (K - 1) / K."""
    z = tilted(1e6).resample(4000, generator(6), candidates=candidates)
    assert_follows(z, lambda t: stats.norm.cdf(t) ** candidates, 4000)
    log_density = log(candidates) + (candidates - 1) * stats.norm.logcdf(z[:, 0].numpy())  # less log p
    kl = log(candidates) - (candidates - 1) / candidates
    assert (log_density <= log(candidates)).all() and kl <= log(candidates)
    assert abs(log_density.mean() - kl) < 3.9 * log_density.std() / sqrt(4000) + 1e-12


@pytest.mark.equation("eq-priors-reach", oracle="simulation: draws against the ceiling in each of twenty bins")
def test_the_density_of_codes_is_at_most_the_bases_times_the_candidates():
    k, n = 3, 20_000
    z = on_a_line().resample(n, generator(7), candidates=k)[:, 0].numpy()
    edges = np.linspace(-3, 3, 21)
    ceiling = k * np.diff(stats.norm.cdf(edges))
    share = np.histogram(z, edges)[0] / n
    assert (share < ceiling + 4.5 * np.sqrt(ceiling / n)).all()


@pytest.mark.equation("eq-priors-gaussian-gain", oracle="quadrature")
def test_one_gaussian_gains_its_own_divergence_whatever_the_law_with_its_moments():
    mean = np.mean(MU)
    variance = np.mean([s**2 + m**2 for m, s in zip(MU, SIGMA, strict=True)]) - mean**2
    exact = 0.5 * (variance + mean**2 - 1 - log(variance))
    fitted = Normal(double([mean]), double([0.5 * log(variance)]))
    base = Mixture(fitted)
    assert isinstance(base, priors.Density)

    def gain(z):
        at = torch.tensor([[z]], dtype=torch.float64)
        return (base.log_prob(at) - Normal.standard(at).log_prob(at)).item()

    assert integral(lambda z: np.exp(log_q(z)) * gain(z)) == pytest.approx(exact, abs=1e-8)
    assert fitted.kl_to_standard().item() == pytest.approx(exact, abs=1e-12)


def test_a_mixture_of_gaussians_is_scikit_learns_to_score_and_by_its_moments_to_draw():
    codes = torch.cat([generator_normal(400, 3) + 2, 0.5 * generator_normal(200, 3) - 1])
    fitted = priors.Gaussians(codes, 2, seed=1)
    theirs = GaussianMixture(2, reg_covar=1e-4, max_iter=300, random_state=1).fit(codes.double().numpy())
    z = generator_normal(50, 3)
    assert isinstance(fitted, priors.Density)
    assert torch.allclose(fitted.log_prob(z.double()), torch.from_numpy(theirs.score_samples(z.double().numpy())), atol=1e-6)
    drawn = fitted.sample(40_000, generator())
    assert torch.equal(drawn[:9], fitted.sample(40_000, generator())[:9]) and drawn.dtype == torch.float32
    assert torch.allclose(drawn.mean(0), codes.mean(0), atol=0.05) and torch.allclose(drawn.T.cov(), codes.T.cov(), atol=0.1)
    inside = z.requires_grad_()
    fitted.log_prob(inside).sum().backward()
    assert inside.grad.isfinite().all()


@pytest.mark.equation("eq-priors-gaussian-gain", oracle="closed form from the codes' two moments")
def test_one_fitted_gaussian_gains_the_divergence_of_its_moments_for_its_own_codes():
    codes = (generator_normal(300, 2) @ torch.tensor([[1.5, 0.4], [0.0, 0.6]]) + torch.tensor([0.5, -1.0])).double()
    base = priors.Gaussians(codes, 1)
    gain = (base.log_prob(codes) - Normal.standard(codes).log_prob(codes)).mean().item()
    m, S = codes.mean(0), (codes - codes.mean(0)).T @ (codes - codes.mean(0)) / len(codes)
    assert gain == pytest.approx(0.5 * (S.trace() + m @ m - 2 - S.logdet()).item(), abs=1e-4)


@pytest.mark.parametrize("components", [0, 6])
def test_a_mixture_that_the_codes_cannot_carry_is_refused(components):
    with pytest.raises(ValueError, match="components"):
        priors.Gaussians(generator_normal(5, 2), components)


def test_given_posteriors_are_answered_image_by_image_and_stay_while_a_prior_learns():
    known = priors.KnownPosteriors(Normal(double(*MU)[:, None].float(), double(*SIGMA).log()[:, None].float()))
    q = known(torch.tensor([[2.0], [0.0]]))
    assert q.mu[:, 0].tolist() == pytest.approx([MU[2], MU[0]])
    assert q.log_sigma.exp()[:, 0].tolist() == pytest.approx([SIGMA[2], SIGMA[0]])
    prior = priors.contrastive_prior(VAE(known, nn.Identity(), pixels=1, latents=1), (8,))
    training.fit(prior, torch.arange(4.0)[:, None], steps=3, progress=False, device="cpu")
    assert known.mu[:, 0].tolist() == pytest.approx(MU)


@pytest.mark.parametrize("n", [1, 4, 9, 10])
def test_candidates_are_drawn_for_a_block_of_codes_at_a_time_and_each_code_is_one_of_its_own(n, monkeypatch):
    """Where the ratio rises steeply the code is the largest of its candidates."""
    monkeypatch.setattr(priors, "BLOCK", 4)
    prior, rows = tilted(1e6), []
    prior.classifier.register_forward_hook(lambda net, given, out: rows.append(len(given[0])))
    with torch.device("meta"):  # where what names no device goes
        z = prior.resample(n, generator(2), candidates=6)
    assert sum(rows) == 6 * n and min(rows) > 0 and max(rows) <= 4 * 6
    noise, largest = generator(2), []
    for size in (4, 4, 4)[: n // 4] + ((n % 4,) if n % 4 else ()):
        largest.append(torch.randn(size, 6, generator=noise, dtype=torch.float64).amax(1))
        torch.rand(size, 6, generator=noise, dtype=torch.float64)  # the choice's
    assert torch.equal(z[:, 0], torch.cat(largest))


DRAWING = {
    "loss": lambda noise: on_a_line().loss(torch.arange(4)[:, None].double(), noise)["loss"],
    "log_normalizer": lambda noise: torch.tensor(on_a_line().log_normalizer(20, noise).value),
    "resample": lambda noise: on_a_line().resample(5, noise, candidates=10),
    "langevin": lambda noise: tilted(1.2).langevin(5, noise, steps=4),
    "holes": lambda noise: torch.tensor(priors.holes(Mixture(POSTERIORS), 20, noise).kl),
    "likelihoods": lambda noise: torch.tensor(
        priors.likelihoods(on_a_line(), torch.arange(4)[:, None].double(), 0.0, 3, noise).contrastive
    ),
}


@pytest.mark.parametrize("draw", DRAWING.values(), ids=DRAWING)
def test_what_is_drawn_depends_on_the_generator_alone(draw):
    state = torch.random.get_rng_state()
    first, again, other = (draw(generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_potential_is_minus_the_log_density_up_to_a_constant():
    prior, z = on_a_line(), torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    assert (prior.potential(z) + prior.log_unnormalized(z)).std() < 1e-12


# Likelihood


class Posterior(nn.Module):
    """The posterior of z ~ N(0, 1), x | z ~ N(z, 1/4)."""

    def forward(self, x: Tensor) -> Normal:
        return Normal(x / 1.25, torch.full_like(x, 0.5 * log(0.2)))


@pytest.mark.equation("eq-priors-likelihood", oracle="closed form")
def test_the_likelihood_under_either_prior_is_the_integral():
    """With r = exp(a z) the prior is N(a, 1), Z = exp(a^2 / 2), and x ~ N(a, 1 + 1/4)."""
    prior = ContrastivePrior(VAE(Posterior(), Echo(), pixels=1, latents=1), Tilt(0.8))
    x = torch.tensor([[-1.0], [0.0], [2.0]], dtype=torch.float64)
    found = priors.likelihoods(prior, x, 0.8**2 / 2, 100_000, generator())
    for name, a, tolerance in (("standard", 0.0, 1e-9), ("contrastive", 0.8, 0.01)):
        exact = -stats.norm.logpdf(x.numpy(), a, sqrt(1.25)).mean()
        assert getattr(found, name) == pytest.approx(exact, abs=tolerance)


@pytest.mark.equation("eq-priors-likelihood", oracle="closed form of the posterior, whose weights are all p(x)")
@pytest.mark.parametrize("draws, decodes, most", [(1, 1, 1), (1, 2, 2), (3, 1, 3), (3, 7, 6)])
def test_one_draw_is_enough_and_images_are_decoded_so_many_codes_at_a_time_or_one_by_one(draws, decodes, most):
    prior = ContrastivePrior(VAE(Posterior(), Echo(), pixels=1, latents=1), Tilt(0.8))
    x, rows = torch.tensor([[-1.0], [0.0], [2.0]], dtype=torch.float64), []
    prior.vae.decoder.register_forward_hook(lambda net, given, out: rows.append(len(given[0])))
    found = priors.likelihoods(prior, x, 0.8**2 / 2, draws, generator(), decodes=decodes)
    assert sum(rows) == 3 * draws and max(rows) == most
    assert found.standard == pytest.approx(-stats.norm.logpdf(x.numpy(), 0, sqrt(1.25)).mean(), abs=1e-9)


@pytest.mark.equation("eq-priors-gain", oracle="quadrature")
def test_the_bound_gains_the_divergence_of_the_aggregate_from_the_prior():
    gain = integral(lambda z: np.exp(log_q(z)) * (log_q(z) - stats.norm.logpdf(z)))
    x = (torch.arange(400) % 4)[:, None].double()
    found = priors.likelihoods(on_a_line(offset=0.7), x, 0.7, 100, generator())
    assert found.gain_bound == pytest.approx(gain, abs=0.02)


def test_under_the_standard_prior_the_likelihood_is_that_of_the_chapter_on_the_vae():
    vae = bernoulli_vae(6, 2, hidden=(5,)).double()
    x = (torch.rand(9, 6, generator=generator(3), dtype=torch.float64) < 0.4).double()
    prior = priors.contrastive_prior(vae).double()
    found = priors.likelihoods(prior, x, 0.0, 50, decodes=200, generator=generator(1))
    assert found.standard == pytest.approx(evaluate(vae, x, 50, decodes=200, generator=generator(1)).nll, abs=1e-10)


# Bad input


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: Mixture(Normal(torch.zeros(0, 2), torch.zeros(0, 2))), r"at least one; got \(0, 2\)"),
        (lambda: priors.holes(Mixture(POSTERIORS), 1), "draws >= 2, got 1"),
        (lambda: on_a_line().log_normalizer(1), "draws >= 2, got 1"),
        (lambda: on_a_line().resample(3, candidates=0), "at least 1, got 3 and 0"),
        (lambda: on_a_line().resample(0), "at least 1, got 0 and 200"),
        (
            lambda: priors.likelihoods(on_a_line(), torch.tensor([[0.0]], dtype=torch.float64), 0.0, draws=0),
            "at least one draw an image",
        ),
        (lambda: priors.likelihoods(on_a_line(), torch.zeros(0, 1).double(), 0.0), "at least one image, got 500 and 0"),
    ],
    ids=["no posteriors", "holes", "normalizer", "candidates", "no codes", "draws", "no images"],
)
def test_numbers_that_tell_nothing_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.gpu
@needs_cuda
def test_a_step_on_a_gpu_copies_nothing_to_the_host():
    prior = priors.contrastive_prior(bernoulli_vae(6, 2, hidden=(5,)), hidden=(8,)).cuda()
    x, noise = torch.rand(20, 6, device="cuda"), torch.Generator("cuda").manual_seed(0)
    torch.cuda.set_sync_debug_mode("error")
    prior.loss(x, noise)["loss"].backward()
    torch.cuda.set_sync_debug_mode("default")


def test_a_classifier_of_codes_is_given_rows():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5), nn.Linear(5, 1)).eval()
    prior, z = ContrastivePrior(bernoulli_vae(6, 2, hidden=(5,)), net), torch.randn(3, 4, 2, generator=generator())
    assert torch.allclose(prior.log_ratio(z)[1], prior.log_ratio(z[1])) and prior.resample(4, generator()).shape == (4, 2)
