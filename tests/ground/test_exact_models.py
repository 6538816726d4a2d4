"""Models whose answers are known: against quadrature, enumeration, scikit-learn, and a search over q."""

from math import exp, log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from sklearn.decomposition import PCA
from torch import distributions as oracle

from helpers import double, generator
from vaecourse.distributions import Categorical, Normal
from vaecourse.exact_models import BimodalMixture, ConjugateGaussian, DiscreteJoint, ProbabilisticPCA, TiltedGaussian

quick = settings(deadline=None, max_examples=40)


def diagonal(mu: torch.Tensor, log_sigma: torch.Tensor) -> oracle.Independent:
    return oracle.Independent(oracle.Normal(mu, log_sigma.exp()), 1)


def gauss_hermite(points: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and weights that integrate polynomials against N(0, I) exactly."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    nodes, weights = torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
    if dim == 1:
        return nodes[:, None], weights
    return torch.cartesian_prod(*[nodes] * dim), torch.cartesian_prod(*[weights] * dim).prod(-1)


# A conjugate Gaussian


def joint(x: float, z: float, c: float) -> float:
    return stats.norm.pdf(z) * stats.norm.pdf(x, z, c**0.5)


@pytest.mark.parametrize("x, c", [(0.5, 1.0), (-2.0, 0.1), (3.0, 4.0)])
def test_the_conjugate_gaussians_evidence_and_posterior_are_those_of_bayes_rule(x, c):
    model = ConjugateGaussian(c)
    moments = [integrate.quad(lambda z, k=k: z**k * joint(x, z, c), -12, 12, points=[x])[0] for k in range(3)]
    assert model.evidence(double(x)).item() == pytest.approx(log(moments[0]), abs=1e-8)
    posterior = model.posterior(double(x))
    mean = moments[1] / moments[0]
    assert posterior.mu.item() == pytest.approx(mean, abs=1e-8)
    assert (2 * posterior.log_sigma).exp().item() == pytest.approx(moments[2] / moments[0] - mean**2, abs=1e-8)


def test_each_data_point_of_a_batch_has_its_own_elbo():
    model, x, q = ConjugateGaussian(0.5), double([0.8], [-1.0]), Normal(double([0.2], [-0.4]), double([-0.3], [-1.2]))
    alone = [model.elbo(x[i : i + 1], q[i : i + 1]).item() for i in range(2)]
    assert model.elbo(x, q).tolist() == pytest.approx(alone)


@pytest.mark.equation("eq-vae-gap", oracle="quadrature")
@pytest.mark.parametrize("mu, sigma", [(0.2, 0.7), (-1.0, 0.2), (2.0, 2.0)])
def test_evidence_minus_elbo_is_the_kl_from_q_to_the_posterior(mu, sigma):
    x, c = 0.8, 0.5
    model, q = ConjugateGaussian(c), Normal(double(mu), double(log(sigma)))
    density, evidence = stats.norm(mu, sigma), integrate.quad(lambda z: joint(x, z, c), -12, 12)[0]

    def elbo(z):
        return density.pdf(z) * (stats.norm.logpdf(z) + stats.norm.logpdf(x, z, c**0.5) - density.logpdf(z))

    def gap(z):
        return density.pdf(z) * (density.logpdf(z) - stats.norm.logpdf(z) - stats.norm.logpdf(x, z, c**0.5) + log(evidence))

    bounds = mu - 10 * sigma, mu + 10 * sigma
    assert model.elbo(double(x), q).item() == pytest.approx(integrate.quad(elbo, *bounds)[0], abs=1e-8)
    difference = model.evidence(double(x)) - model.elbo(double(x), q)
    assert difference.item() == pytest.approx(integrate.quad(gap, *bounds)[0], abs=1e-8)
    assert difference.item() == pytest.approx(q.kl(model.posterior(double(x))).item(), abs=1e-10)


@pytest.mark.equation("eq-vae-jensen", oracle="closed form of the evidence, for any q")
@quick
@given(
    x=st.lists(st.floats(-5, 5), min_size=2, max_size=2),
    mu=st.lists(st.floats(-5, 5), min_size=2, max_size=2),
    log_sigma=st.lists(st.floats(-4, 2), min_size=2, max_size=2),
    c=st.floats(0.05, 10),
)
def test_the_elbo_is_below_the_evidence_whatever_q(x, mu, log_sigma, c):
    model, x, q = ConjugateGaussian(c), double(*x), Normal(double(*mu), double(*log_sigma))
    elbo, evidence = model.elbo(x, q).item(), model.evidence(x).item()
    assert elbo <= evidence + 1e-9 * (1 + abs(evidence) + abs(elbo))
    assert model.elbo(x, model.posterior(x)).item() == pytest.approx(evidence, abs=1e-9)


@pytest.mark.equation("eq-vae-jensen", oracle="enumeration")
def test_in_a_table_the_elbo_of_every_q_on_a_grid_is_below_the_evidence():
    table = double([0.1, 0.25], [0.3, 0.05], [0.2, 0.1])
    model, x = DiscreteJoint(table), torch.tensor([0, 1])
    for a in np.linspace(0.01, 0.97, 25):
        for b in np.linspace(0.01, 0.98 - a, 10):
            q = [a, b, 1 - a - b]
            elbo = model.elbo(x, Categorical(double(q, q).log()))
            for j in (0, 1):
                by_hand = sum(q[i] * log(table[i, j].item() / q[i]) for i in range(3))
                assert elbo[j].item() == pytest.approx(by_hand, abs=1e-12)
                assert by_hand <= log(table[:, j].sum().item()) + 1e-12


def test_the_log_likelihood_of_a_data_set_is_the_sum_of_logs_and_not_the_log_of_the_sum():
    model, x = ConjugateGaussian(1.0), double([0.3], [-1.2], [2.0])
    densities = [integrate.quad(lambda z, x=x: joint(x, z, 1.0), -12, 12)[0] for x in (0.3, -1.2, 2.0)]
    assert model.evidence(x).sum().item() == pytest.approx(log(np.prod(densities)), abs=1e-8)
    assert abs(log(sum(densities)) - log(np.prod(densities))) > 3  # the printed form


def test_the_log_of_a_ratio_is_not_the_ratio_of_logs():
    q, p = stats.norm(0.5, 0.8), stats.norm()
    kl = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -8, 8)[0]
    printed = integrate.quad(lambda z: q.pdf(z) * q.logpdf(z) / p.logpdf(z), -8, 8)[0]
    assert Normal(double(0.5), double(log(0.8))).kl_to_standard().item() == pytest.approx(kl, abs=1e-9)
    assert kl < 0.2 and printed > 0.7


@pytest.mark.parametrize("c", [0.0, -1.0])
def test_a_variance_that_is_not_positive_is_an_error(c):
    with pytest.raises(ValueError, match="must be positive"):
        ConjugateGaussian(c)


# Probabilistic PCA


@pytest.fixture
def ppca() -> ProbabilisticPCA:
    """Four pixels, two latents whose posteriors are correlated."""
    generator = torch.Generator().manual_seed(1)
    W = torch.randn(4, 2, generator=generator, dtype=torch.float64) + 1
    return ProbabilisticPCA(W, torch.randn(4, generator=generator, dtype=torch.float64), 0.3)


@pytest.fixture
def x(ppca) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    z, noise = (torch.randn(6, n, generator=generator, dtype=torch.float64) for n in (2, 4))
    return z @ ppca.W.T + ppca.m + ppca.c**0.5 * noise


def test_fitted_probabilistic_pca_is_scikit_learns_with_the_maximum_likelihood_covariance():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 6, generator=generator, dtype=torch.float64) * double(3, 2, 1.5, 1, 0.7, 0.5) + 1
    ours, theirs, scale = ProbabilisticPCA.fit(x, 2), PCA(2).fit(x.numpy()), 199 / 200  # they divide by n - 1
    assert np.allclose(ours.m, theirs.mean_) and ours.c == pytest.approx(scale * theirs.noise_variance_)
    covariance = ours.W @ ours.W.T + ours.c * torch.eye(6)
    assert np.allclose(covariance, scale * theirs.get_covariance())
    assert np.allclose(ours.W.T @ ours.W, np.diag((ours.W**2).sum(0))) and (ours.W**2).sum(0).diff() < 0


def test_the_evidence_of_probabilistic_pca_is_scikit_learns_score():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 5, generator=generator, dtype=torch.float64) @ torch.randn(5, 5, generator=generator).double()
    theirs = PCA(2).fit(x.numpy())
    scales = np.sqrt(theirs.explained_variance_ - theirs.noise_variance_)
    W, m = torch.from_numpy(theirs.components_.T * scales), torch.from_numpy(theirs.mean_)
    ours = ProbabilisticPCA(W, m, float(theirs.noise_variance_))
    assert np.allclose(ours.evidence(x), theirs.score_samples(x.numpy()), atol=1e-9)


@pytest.mark.parametrize("latents", [0, 5, 6])
def test_probabilistic_pca_needs_fewer_latents_than_pixels(latents):
    with pytest.raises(ValueError, match="latents must lie between 1 and 4"):
        ProbabilisticPCA.fit(torch.randn(9, 5), latents)


def test_the_posterior_of_probabilistic_pca_is_the_joint_gaussian_conditioned_on_x(ppca, x):
    W, m = ppca.W.numpy(), ppca.m.numpy()
    gain = W.T @ np.linalg.inv(W @ W.T + ppca.c * np.eye(4))
    posterior = ppca.posterior(x)
    assert np.allclose(posterior.mean, (x.numpy() - m) @ gain.T)
    assert np.allclose(posterior.covariance_matrix, np.eye(2) - gain @ W)
    assert np.allclose(ppca.precision, np.linalg.inv(np.eye(2) - gain @ W))


def test_the_elbo_of_probabilistic_pca_is_exact_for_any_diagonal_q(ppca, x):
    eps, weights = gauss_hermite(8, 2)
    mu, log_sigma = double(0.3, -1.0).expand(6, 2), double(-0.5, 0.2).expand(6, 2)
    z = mu + log_sigma.exp() * eps[:, None]
    likelihood = oracle.MultivariateNormal(z @ ppca.W.T + ppca.m, ppca.c * torch.eye(4, dtype=torch.float64))
    prior = oracle.MultivariateNormal(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    integrand = likelihood.log_prob(x) + prior.log_prob(z) - diagonal(mu, log_sigma).log_prob(z)
    assert torch.allclose(ppca.elbo(x, Normal(mu, log_sigma)), weights @ integrand, atol=1e-9)


@pytest.mark.equation("eq-vae-linear-gap", oracle="numeric search over all diagonal q")
def test_the_gap_of_a_linear_vae_is_half_the_sum_of_log_diagonal_precisions_less_the_log_determinant(ppca, x):
    def gap(q: np.ndarray) -> float:
        """KL(q || posterior) of a diagonal q, from its covariance, in numpy."""
        mu, variances = q[:2], np.exp(2 * q[2:])
        P = np.eye(2) + ppca.W.numpy().T @ ppca.W.numpy() / ppca.c
        away = mu - np.linalg.solve(P, ppca.W.numpy().T @ (x[0].numpy() - ppca.m.numpy()) / ppca.c)
        return 0.5 * (np.diag(P) @ variances + away @ P @ away - 2 - np.linalg.slogdet(P)[1] - np.log(variances).sum())

    best = optimize.minimize(gap, np.zeros(4), tol=1e-10)
    P = ppca.precision
    formula = 0.5 * (P.diagonal().log().sum() - P.logdet()).item()
    assert formula > 0.05  # else the example shows nothing
    assert formula == pytest.approx(best.fun, abs=1e-7)
    q = ppca.best_diagonal(x)
    assert np.allclose(q.mu[0], best.x[:2], atol=1e-3) and np.allclose(q.log_sigma[0], best.x[2:], atol=1e-3)
    assert torch.allclose(ppca.evidence(x) - ppca.elbo(x, q), torch.full((6,), formula, dtype=torch.float64))


def test_a_linear_vae_whose_decoder_has_orthogonal_columns_has_no_gap():
    model = ProbabilisticPCA.fit(torch.randn(40, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64), 3)
    x = torch.randn(4, 5, dtype=torch.float64)
    assert torch.allclose(model.elbo(x, model.best_diagonal(x)), model.evidence(x), atol=1e-10)


# Posteriors in the plane


@pytest.mark.parametrize("rho", [0.0, 0.9, -0.5])
def test_the_tilted_gaussian_is_scipys_and_its_kl_is_torchs(rho):
    model, z = TiltedGaussian(rho), torch.randn(7, 2, dtype=torch.float64)
    covariance = double([1, rho], [rho, 1])
    exact = stats.multivariate_normal(cov=covariance.numpy()).logpdf(z.numpy())
    assert np.allclose(model.log_prob(z), exact) and np.allclose(model.log_prob(z.float()), exact, atol=1e-4)
    q = Normal(z, 0.3 * z)
    p = oracle.MultivariateNormal(torch.zeros(2, dtype=torch.float64), covariance)
    normal = oracle.MultivariateNormal(q.mu, scale_tril=torch.diag_embed(q.log_sigma.exp()))
    assert torch.allclose(model.kl_from(q), oracle.kl_divergence(normal, p))


def test_mean_field_misses_the_tilted_gaussians_variance_by_the_factor_one_minus_rho_squared():
    model = TiltedGaussian(0.9)

    def kl(v: float) -> float:
        return model.kl_from(Normal(double(0, 0), double(v, v))).item()

    assert exp(2 * optimize.minimize_scalar(kl).x) == pytest.approx(0.19, abs=1e-6)


@pytest.mark.parametrize("rho", [1.0, -1.0, 3.0])
def test_a_correlation_of_one_or_more_is_an_error(rho):
    with pytest.raises(ValueError, match="strictly between -1 and 1"):
        TiltedGaussian(rho)


@pytest.mark.parametrize("mu, sigma", [((-2.0, 0.0), 0.7), ((0.0, 0.0), 2.0), ((1.0, -0.5), 1.2)])
def test_both_divergences_of_the_mixture_are_its_integrals_by_gauss_and_hermite(mu, sigma):
    model = BimodalMixture(separation=2.0, sigma=0.7, weight=0.3)
    eps, weights = gauss_hermite(120, 2)
    q = oracle.Independent(oracle.Normal(double(*mu), sigma), 1)

    def log_p(z):
        left, right = (stats.multivariate_normal([center, 0], 0.49).logpdf(z.numpy()) for center in (-2, 2))
        return torch.from_numpy(np.logaddexp(log(0.3) + left, log(0.7) + right))

    ours = Normal(double(*mu), double(log(sigma), log(sigma)))
    z = double(*mu) + sigma * eps
    assert torch.allclose(model.log_prob(z), log_p(z))
    assert model.kl_from(ours) == pytest.approx((weights @ (q.log_prob(z) - log_p(z))).item(), abs=2e-3)
    to = 0.0
    for weight, center in ((0.3, -2.0), (0.7, 2.0)):
        z = double(center, 0) + 0.7 * eps
        to += weight * (weights @ (log_p(z) - q.log_prob(z))).item()
    assert model.kl_to(ours) == pytest.approx(to, abs=1e-4)


def test_one_gaussian_seeks_a_mode_by_one_divergence_and_covers_both_by_the_other():
    model = BimodalMixture()
    mode, cover = Normal(double(2, 0), double(log(0.7), log(0.7))), Normal(double(0, 0), double(log(2.1), log(0.7)))
    assert model.kl_from(mode) < model.kl_from(cover) and model.kl_to(mode) > model.kl_to(cover)
    assert model.kl_from(mode) == pytest.approx(log(2), abs=0.01)


@pytest.mark.parametrize("settings", [{"sigma": 0.0}, {"weight": 0.0}, {"weight": 1.0}])
def test_a_mixture_needs_two_modes_of_positive_width(settings):
    with pytest.raises(ValueError, match="sigma must be positive and weight in"):
        BimodalMixture(**settings)


# A table


@pytest.mark.equation("eq-vae-gap", oracle="enumeration")
def test_in_a_table_evidence_minus_elbo_is_the_kl_from_q_to_the_posterior():
    table = double([0.1, 0.25], [0.3, 0.05], [0.2, 0.1])
    model, x, q = DiscreteJoint(table), torch.tensor([1, 0, 1]), [0.5, 0.2, 0.3]
    elbo = model.elbo(x, Categorical(double(q, q, q).log()))
    for n, j in enumerate([1, 0, 1]):
        evidence = sum(table[i, j].item() for i in range(3))
        posterior = [table[i, j].item() / evidence for i in range(3)]
        assert model.evidence(x)[n].item() == pytest.approx(log(evidence))
        assert model.posterior(x).probabilities[n].tolist() == pytest.approx(posterior)
        kl = sum(a * log(a / b) for a, b in zip(q, posterior, strict=True))
        assert log(evidence) - elbo[n].item() == pytest.approx(kl, abs=1e-12)


@pytest.mark.parametrize("table", [([0.5, 0.6],), ([1.2, -0.2],)])
def test_a_table_that_is_no_distribution_is_an_error(table):
    with pytest.raises(ValueError, match="nonnegative and sums to 1"):
        DiscreteJoint(double(*table))


def test_where_no_variance_is_left_for_the_noise_the_fit_says_how_many_latents_the_data_bear():
    flat = torch.randn(50, 3, generator=generator(), dtype=torch.float64)
    data = torch.cat([flat, flat @ torch.ones(3, 2).double(), torch.ones(50, 1).double()], 1)  # 3 dimensions of 6
    for latents in (3, 4, 5):
        with pytest.raises(ValueError, match=r"they span 3 dimensions. Take at most 2 latents"):
            ProbabilisticPCA.fit(data, latents)
    assert ProbabilisticPCA.fit(data, 2).evidence(data[:2]).isfinite().all()
    with pytest.raises(ValueError, match="they span 0 dimensions"):
        ProbabilisticPCA.fit(torch.zeros(9, 3), 1)
    few = torch.randn(10, 40, generator=generator())
    with pytest.raises(ValueError, match="they span 9 dimensions"):
        ProbabilisticPCA.fit(few, 12)
    with pytest.raises(ValueError, match=r"must be positive and finite, got -0.1"):
        ProbabilisticPCA(torch.zeros(3, 1), torch.zeros(3), -0.1)


def test_half_precision_data_are_fitted_in_single():
    x = torch.randn(50, 4, generator=generator()).half()
    assert ProbabilisticPCA.fit(x, 1).W.dtype == torch.float32


def test_a_models_precision_has_the_type_of_its_weights():
    assert ProbabilisticPCA(torch.ones(3, 2, dtype=torch.bfloat16), torch.zeros(3), 0.5).precision.dtype == torch.bfloat16


def test_a_joint_table_with_zeros_has_its_bound_at_the_posterior_and_no_posterior_of_the_impossible():
    table = torch.tensor([[0.5, 0.0, 0.0], [0.2, 0.3, 0.0]], dtype=torch.float64)
    model, x = DiscreteJoint(table), torch.tensor([0, 1])
    assert torch.allclose(model.elbo(x, model.posterior(x)), model.evidence(x))
    with pytest.raises(ValueError, match=r"no posterior where p\(x\) = 0"):
        model.posterior(torch.tensor([1, 2]))
