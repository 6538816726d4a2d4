"""The evidence and its lower bound held to closed forms, quadrature, enumeration, scipy and scikit-learn.

A mean of draws is held right if it lies within 3.9 standard errors of the exact value: a right one fails for one seed in
10,000, and the seeds are fixed.
"""

from itertools import pairwise, product
from math import exp, inf, log, pi, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats
from sklearn.linear_model import BayesianRidge, LinearRegression
from sklearn.naive_bayes import BernoulliNB
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from helpers import assert_mean_is, double, generator, needs_cuda
from vaecourse import elbo, importance
from vaecourse.distributions import Bernoulli, Categorical, Normal
from vaecourse.elbo import BayesianRegression, LatentModel, Regression, polynomial
from vaecourse.exact_models import ConjugateGaussian, DiscreteJoint, ProbabilisticPCA


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


# Regression with an error model


@pytest.fixture
def cubic() -> tuple[Tensor, Tensor]:
    """30 points around a cubic."""
    t = torch.linspace(-1, 1, 30, dtype=torch.float64)
    return t, 1 - 2 * t + 3 * t**3 + 0.3 * draw(30, seed=1)


@pytest.mark.equation("eq-elbo-least-squares", oracle="another library: scikit-learn, and a numeric search")
def test_least_squares_is_maximum_likelihood_under_gaussian_errors(cubic):
    t, x = cubic
    features = polynomial(t, 3)
    model = Regression.fit(features, x)
    theirs = LinearRegression(fit_intercept=False).fit(features.numpy(), x.numpy())
    assert np.allclose(model.weights, theirs.coef_)

    def negative_log_likelihood(p):
        return -stats.norm.logpdf(x.numpy(), features.numpy() @ p[:4], exp(p[4])).sum()

    best = optimize.minimize(negative_log_likelihood, np.zeros(5), tol=1e-10)
    assert np.allclose(model.weights, best.x[:4], atol=1e-4) and model.sigma == pytest.approx(exp(best.x[4]), abs=1e-5)
    assert model.log_prob(features, x).sum().item() == pytest.approx(-best.fun, abs=1e-8)


@pytest.mark.equation("eq-elbo-log-likelihood", oracle="another library: scipy")
def test_the_log_likelihood_is_the_sum_of_logs_and_not_the_log_of_the_sum_as_printed(cubic):
    t, x = cubic
    model = Regression.fit(polynomial(t, 3), x)
    log_p = model.log_prob(polynomial(t, 3), x)
    densities = stats.norm.pdf(x, model.predict(polynomial(t, 3)).mu[:, 0], model.sigma)
    assert log_p.shape == (30,) and np.allclose(log_p.exp(), densities)
    assert log_p.sum().item() == pytest.approx(log(np.prod(densities)), abs=1e-9)
    assert abs(log(densities.sum()) - log(np.prod(densities))) > 4

    def printed(sigma: float) -> float:
        """log of the sum of densities: one point fitted without error makes it grow without end."""
        through_the_first = x.numpy()[0] + 0 * x.numpy()
        return special.logsumexp(stats.norm.logpdf(x, through_the_first, sigma))

    assert printed(1e-6) > printed(1e-3) > log(densities.sum())  # it prefers a constant to the cubic


@pytest.mark.equation("eq-elbo-interval", oracle="another library: scipy, and the share of new points inside")
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_confidence_band_holds_its_share_of_new_points(cubic, level):
    t, _ = cubic
    model = Regression(double(1, -2, 0, 3), 0.3)
    low, high = elbo.interval(model.predict(polynomial(t, 3)), level=level)
    mean = model.predict(polynomial(t, 3)).mu[:, 0].numpy()
    by_scipy = stats.norm.interval(level, mean, 0.3)
    assert np.allclose(low, by_scipy[0]) and np.allclose(high, by_scipy[1])
    new = torch.from_numpy(mean) + 0.3 * draw(2000, 30, seed=3)
    inside = ((new > low) & (new < high)).double().mean().item()
    assert abs(inside - level) < 3.9 * sqrt(level * (1 - level) / 60_000)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_confidence_level_is_a_probability(cubic, level):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        elbo.interval(Normal(torch.zeros(2, 1), torch.zeros(2, 1)), level=level)


@pytest.mark.parametrize(
    "features, x, message",
    [
        (torch.zeros(3, 2), torch.zeros(4), "as many values"),
        (torch.zeros(3), torch.zeros(3), "as many values"),
        (torch.zeros(0, 1), torch.zeros(0), "at least one"),
        (torch.ones(3, 1), torch.tensor([0, 1, torch.nan]), "finite"),
    ],
)
def test_what_cannot_be_regressed_is_an_error(features, x, message, no_shape_checks):
    for fit in (Regression.fit, lambda *data: BayesianRegression(*data, sigma=1.0)):
        with pytest.raises(ValueError, match=message):
            fit(features, x)


def test_a_fit_without_error_has_no_maximum_likelihood():
    t = double(0, 1, 2)
    with pytest.raises(ValueError, match="the likelihood has no maximum"):
        Regression.fit(polynomial(t, 2), double(1, 0, 4))
    with pytest.raises(ValueError, match="the likelihood has no maximum"):
        Regression.fit(polynomial(t, 1), torch.zeros(3, dtype=torch.float64))
    with pytest.raises(ValueError, match="0 or more"):
        polynomial(t, -1)


# Regression with latent weights


@pytest.mark.equation("eq-elbo-weights-evidence", oracle="another library: scipy's density of all values together")
@pytest.mark.parametrize("degree, sigma, prior_sigma", [(0, 0.3, 1.0), (3, 0.3, 2.0), (9, 1.5, 0.2)])
def test_the_evidence_of_a_regression_is_the_density_of_its_values_with_the_weights_integrated_out(
    cubic, degree, sigma, prior_sigma
):
    t, x = cubic
    features = polynomial(t, degree)
    covariance = sigma**2 * np.eye(30) + prior_sigma**2 * features.numpy() @ features.numpy().T
    model = BayesianRegression(features, x, sigma=sigma, prior_sigma=prior_sigma)
    assert model.evidence.item() == pytest.approx(stats.multivariate_normal(cov=covariance).logpdf(x), abs=1e-8)


@pytest.mark.equation("eq-elbo-weights-evidence", oracle="quadrature")
@pytest.mark.equation("eq-elbo-weights-posterior", oracle="quadrature")
def test_the_evidence_and_posterior_of_one_weight_are_integrals(cubic):
    t, x = cubic
    model = BayesianRegression(t[:5, None], x[:5], sigma=0.7, prior_sigma=1.3)
    u, tv = x[:5].numpy(), t[:5].numpy()

    def joint(w: float) -> float:
        return stats.norm.pdf(w, 0, 1.3) * stats.norm.pdf(u, tv * w, 0.7).prod()

    moments = [integrate.quad(lambda w, k=k: w**k * joint(w), -10, 10, epsabs=1e-16)[0] for k in range(3)]
    assert model.evidence.item() == pytest.approx(log(moments[0]), abs=1e-7)
    assert model.posterior.mean.item() == pytest.approx(moments[1] / moments[0], abs=1e-7)
    variance = moments[2] / moments[0] - (moments[1] / moments[0]) ** 2
    assert model.posterior.covariance_matrix.item() == pytest.approx(variance, abs=1e-7)


@pytest.mark.equation("eq-elbo-weights-posterior", oracle="another library: scikit-learn")
@pytest.mark.equation("eq-elbo-weights-predictive", oracle="another library: scikit-learn")
def test_the_posterior_and_its_predictions_are_scikit_learns_at_the_same_precisions(cubic):
    t, x = cubic
    features = polynomial(t, 3)
    theirs = BayesianRidge(fit_intercept=False).fit(features.numpy(), x.numpy())
    model = BayesianRegression(features, x, sigma=theirs.alpha_**-0.5, prior_sigma=theirs.lambda_**-0.5)
    assert np.allclose(model.posterior.mean, theirs.coef_) and np.allclose(model.posterior.covariance_matrix, theirs.sigma_)
    new = polynomial(torch.linspace(-2, 2, 7, dtype=torch.float64), 3)
    mean, deviation = theirs.predict(new.numpy(), return_std=True)
    predicted = model.predict(new)
    assert np.allclose(predicted.mu[:, 0], mean) and np.allclose(predicted.log_sigma[:, 0].exp(), deviation)


@pytest.mark.equation("eq-elbo-parts", oracle="another library: torch.distributions, and draws")
@pytest.mark.equation("eq-elbo-gap", oracle="closed form of the evidence, and torch's KL")
@pytest.mark.parametrize("full", [True, False])
def test_a_regressions_evidence_is_its_elbo_and_the_kl_from_q_to_the_posterior(cubic, full):
    t, x = cubic
    model = BayesianRegression(polynomial(t, 3), x, sigma=0.4, prior_sigma=1.5)
    a = draw(4, 4, seed=5)
    q = MultivariateNormal(draw(4, seed=4), a @ a.T) if full else Normal(draw(4, seed=4), 0.3 * draw(4, seed=6))
    as_torch = q if full else MultivariateNormal(q.mu, torch.diag((2 * q.log_sigma).exp()))
    gap = kl_divergence(as_torch, model.posterior).item()
    assert model.elbo(q).item() + gap == pytest.approx(model.evidence.item(), rel=1e-11)
    w = as_torch.mean + draw(100_000, 4, seed=7) @ torch.linalg.cholesky(as_torch.covariance_matrix).T
    log_likelihood = stats.norm.logpdf(x.numpy(), (w @ model.features.T).numpy(), 0.4).sum(1)
    prior = MultivariateNormal(torch.zeros(4).double(), 2.25 * torch.eye(4).double())
    assert_mean_is(torch.from_numpy(log_likelihood) - kl_divergence(as_torch, prior), model.elbo(q).item())
    assert model.elbo(model.posterior).item() == pytest.approx(model.evidence.item(), abs=1e-9)


def test_no_diagonal_q_over_the_weights_is_better_than_the_best(cubic):
    t, x = cubic
    model = BayesianRegression(polynomial(t, 3), x, sigma=0.4, prior_sigma=1.5)

    def negative_elbo(p):
        return -model.elbo(Normal(torch.from_numpy(p[:4]), torch.from_numpy(p[4:]))).item()

    found = optimize.minimize(negative_elbo, np.full(8, -1.0), tol=1e-12)
    assert model.elbo(model.best_diagonal).item() == pytest.approx(-found.fun, abs=1e-6)
    assert model.elbo(model.best_diagonal) < model.evidence - 0.1  # t and t^3 go together


def test_the_evidence_prefers_the_true_degree_while_the_likelihood_prefers_the_largest(cubic):
    t, x = cubic
    evidences = [
        BayesianRegression(polynomial(t, degree), x, sigma=0.3, prior_sigma=2.0).evidence.item() for degree in range(9)
    ]
    likelihoods = [Regression.fit(polynomial(t, d), x).log_prob(polynomial(t, d), x).sum().item() for d in range(9)]
    assert np.argmax(evidences) == 3
    assert likelihoods == sorted(likelihoods)


@pytest.mark.parametrize("sigmas", [(0.0, 1.0), (1.0, -1.0)])
def test_a_regressions_deviations_are_positive(sigmas):
    with pytest.raises(ValueError, match="must be positive"):
        BayesianRegression(torch.ones(3, 1), torch.ones(3), sigma=sigmas[0], prior_sigma=sigmas[1])


# z on a line: the parabola, by quadrature


class World:
    """The parabola by hand, in scipy: x = (x1, x2), z ~ N(0, 1), x | z ~ N((z, z^2), .25 I)."""

    def __init__(self, x: tuple[float, float]):
        self.x = x

    def log_joint(self, z):
        by_coordinate = stats.norm.logpdf(self.x[0], z, 0.5) + stats.norm.logpdf(self.x[1], z**2, 0.5)
        return stats.norm.logpdf(z) + by_coordinate

    @property
    def evidence(self) -> float:
        points = [-1.5, -1, 0, 1, 1.5]
        return log(integrate.quad(lambda z: np.exp(self.log_joint(z)), -8, 8, points=points, epsabs=1e-13, limit=400)[0])

    def expect(self, mu: float, sigma: float, f) -> float:
        """E_q f(z, log q(z)) for q = N(mu, sigma^2) by Gauss and Hermite, exact for polynomials of degree below 80."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(40)
        z = mu + sigma * nodes
        return weights @ f(z, stats.norm.logpdf(z, mu, sigma)) / weights.sum()


XS = [(0.0, 2.0), (1.0, 1.0), (-1.3, 0.4)]
QS = [(0.0, 1.0), (1.4, 0.2), (-0.9, 0.05), (0.5, 2.0)]


@pytest.mark.equation("eq-elbo-evidence", oracle="quadrature by scipy")
@pytest.mark.equation("eq-elbo-bayes", oracle="quadrature by scipy")
@pytest.mark.parametrize("x", XS)
def test_evidence_and_posterior_on_a_line_are_integrals(x):
    model, world = elbo.parabola(), World(x)
    assert model.evidence(double(x)).item() == pytest.approx(world.evidence, abs=1e-9)
    assert np.allclose(model.posterior(double(x))[0], world.log_joint(model.z.numpy()) - world.evidence, atol=1e-9)
    # without the spacing (Bayes' integral printed without its du) the evidence is off by its logarithm
    assert elbo.log_evidence(model.log_joint(double(x))).item() == pytest.approx(world.evidence - log(32 / 8000), abs=1e-9)


@pytest.mark.equation("eq-elbo-gap", oracle="quadrature by scipy")
@pytest.mark.equation("eq-elbo-jensen", oracle="quadrature (Gauss-Hermite)")
@pytest.mark.parametrize("x", XS)
@pytest.mark.parametrize("mu, sigma", QS)
def test_on_a_line_the_evidence_is_the_elbo_and_the_gap(x, mu, sigma):
    model, world = elbo.parabola(), World(x)
    log_q = model.log_q(Normal(double([mu]), double([log(sigma)])))
    bound = world.expect(mu, sigma, lambda z, log_q: world.log_joint(z) - log_q)
    gap = world.expect(mu, sigma, lambda z, log_q: log_q - world.log_joint(z) + world.evidence)
    assert model.elbo(double(x), log_q).item() == pytest.approx(bound, abs=1e-8)
    assert model.gap(double(x), log_q).item() == pytest.approx(gap, abs=1e-8)
    assert bound < world.evidence
    together = model.elbo(double(x), log_q) + model.gap(double(x), log_q)
    assert together.item() == pytest.approx(model.evidence(double(x)).item(), abs=1e-10)


@pytest.mark.equation("eq-elbo-parts", oracle="quadrature by scipy")
@pytest.mark.parametrize("mu, sigma", QS)
def test_the_elbo_is_the_expected_log_likelihood_minus_the_kl_to_the_prior(mu, sigma):
    x, model = (1.0, 1.0), elbo.parabola()
    world, q = World(x), Normal(double([mu]), double([log(sigma)]))
    expected = world.expect(mu, sigma, lambda z, _: world.log_joint(z) - stats.norm.logpdf(z))
    elbo_by_parts = expected - q.kl_to_standard().item()
    assert model.elbo(double(x), model.log_q(q)).item() == pytest.approx(elbo_by_parts, abs=1e-8)
    # the second term as one source prints it, E_q[log q / log p], is another number
    z = np.linspace(mu - 9 * sigma, mu + 9 * sigma, 4001)
    log_ratio = stats.norm.logpdf(z, mu, sigma) / stats.norm.logpdf(z)
    printed = integrate.trapezoid(stats.norm.pdf(z, mu, sigma) * log_ratio, z)
    assert abs(printed - q.kl_to_standard().item()) > 0.1


@pytest.mark.equation("eq-elbo-jensen", oracle="closed form of the evidence, for any q")
@settings(deadline=None, max_examples=60)
@given(
    x=st.tuples(st.floats(-3, 3), st.floats(-1, 6)),
    mu=st.floats(-3, 3),
    log_sigma=st.floats(-3.5, -0.2),
    sigma=st.floats(0.1, 3),
)
def test_no_q_on_a_line_takes_the_elbo_above_the_evidence(x, mu, log_sigma, sigma):
    model = elbo.parabola(sigma)
    log_q = model.log_q(Normal(double([mu]), double([log_sigma])))
    assert model.elbo(double(x), log_q).item() <= model.evidence(double(x)).item() + 1e-9
    assert model.elbo(double(x), model.posterior(double(x))).item() == pytest.approx(model.evidence(double(x)).item(), abs=1e-8)


@pytest.mark.parametrize("mu, sigma", [(0.0, 0.001), (0.0, 30.0), (15.9, 0.5)])
def test_a_q_that_the_grid_cannot_hold_is_an_error(mu, sigma):
    with pytest.raises(ValueError, match=r"narrower than the spacing, 0\.004, or goes beyond 16"):
        elbo.parabola().log_q(Normal(double([mu]), double([log(sigma)])))


# What is no bound


def test_the_value_at_zs_mean_is_no_bound():
    model, x = elbo.parabola(), double((1.0, 1.0))
    for sigma in (0.4, 0.8, 1.5):
        q = Normal(double([0.9]), double([log(sigma)]))
        plugged = Normal(double([0.9, 0.81]), double([log(0.5)] * 2)).log_prob(x) - q.kl_to_standard()
        assert plugged > model.elbo(x, model.log_q(q))
        if sigma == 0.8:
            assert plugged.item() > model.evidence(x).item() + 0.2


def test_an_expectation_over_another_distribution_than_q_is_no_bound():
    """One source takes the first term over N(mu_theta, sigma_theta), the decoder's, and the KL over the encoder's."""
    model, x = elbo.parabola(), double((1.0, 1.0))
    prior, narrow = Normal(double([0.0]), double([0.0])), Normal(double([1.0]), double([log(0.1)]))
    log_likelihood = model.log_joint(x) - model.log_prior
    first = (model.log_q(narrow).exp() * log_likelihood * model.log_measure.exp()).sum(-1)
    mixed = first - prior.kl_to_standard()[0]  # q = the prior in the KL: nothing to pay
    assert mixed.item() > model.evidence(x).item() + 1
    right = first - narrow.kl_to_standard()[0]
    assert right.item() == pytest.approx(model.elbo(x, model.log_q(narrow)).item(), abs=1e-9)
    assert right < model.evidence(x)


def test_a_density_at_a_perfect_reconstruction_has_no_upper_bound_but_a_probability_has():
    """One source says that log p(x | z) is log 1 where x is met without error."""
    x = double([0.3, 0.7])
    at_x = [Normal(x, torch.full_like(x, log(sigma))).log_prob(x).item() for sigma in (1.0, 0.1, 0.001)]
    assert at_x[0] < 0 < at_x[1] < at_x[2]
    assert at_x[2] == pytest.approx(-log(2 * pi) - 2 * log(0.001), abs=1e-9)
    bits = double([1.0, 0.0])
    assert Bernoulli(40 * (2 * bits - 1)).log_prob(bits).item() == pytest.approx(0, abs=1e-15)
    logits = 5 * draw(1000, 2)
    assert (Bernoulli(logits).log_prob(bits) < 0).all()
    grey = double([0.5, 0.5])  # on grey pixels even the Bernoulli's best is below log 1
    assert Bernoulli(double([0.0, 0.0])).log_prob(grey).item() == pytest.approx(-2 * log(2))


def test_a_deviation_in_the_place_of_a_variance_is_another_model():
    """The sources write both N(mu, sigma) and N(mu, sigma^2)."""
    q = Normal(double([0.5]), double([log(2.0)]))
    right = stats.norm.logpdf(1.7, 0.5, 2.0)
    assert q.log_prob(double(1.7)).item() == pytest.approx(right, abs=1e-12)
    assert abs(stats.norm.logpdf(1.7, 0.5, sqrt(2.0)) - right) > 0.15
    exact = integrate.quad(
        lambda z: stats.norm.pdf(z, 0.5, 2) * (stats.norm.logpdf(z, 0.5, 2) - stats.norm.logpdf(z)), -20, 20
    )[0]
    assert q.kl_to_standard().item() == pytest.approx(exact, abs=1e-7)
    assert 0.5 * (0.25 + 2 - 1 - log(2)) < exact - 0.5  # sigma read as sigma^2


def test_an_average_over_draws_of_one_images_code_is_not_one_over_images():
    """One source's estimate of E_q log p(x_i | z) sums over i where the draws l are meant."""
    model, x = elbo.parabola(), torch.tensor(XS, dtype=torch.float64)
    mu, sigma = 0.5, 0.3
    z = mu + sigma * draw(200_000, 1, seed=2)
    log_p = Normal(torch.cat([z, z**2], 1), torch.full((len(z), 2), log(0.5)).double())
    exact = World(XS[0]).expect(mu, sigma, lambda z, _: World(XS[0]).log_joint(z) - stats.norm.logpdf(z))
    assert_mean_is(log_p.log_prob(x[0]), exact)
    over_images = torch.stack([log_p.log_prob(row).mean() for row in x]).mean().item()
    assert abs(over_images - exact) > 1
    assert model.evidence(x).shape == (3,)  # one number an image


def test_the_kl_to_the_prior_keeps_variances_from_shrinking():
    """One source says that minimizing the variance regularizes; d KL / d log sigma = sigma^2 - 1 is negative below 1."""
    log_sigma = torch.linspace(-3, 1, 41, dtype=torch.float64)[:, None].requires_grad_()
    Normal(torch.zeros(41, 1).double(), log_sigma).kl_to_standard().sum().backward()
    assert torch.allclose(log_sigma.grad, (2 * log_sigma).exp().detach() - 1)
    assert (log_sigma.grad[log_sigma < -0.1] < 0).all()


def test_the_sum_of_elbo_and_gap_does_not_move_when_q_does():
    """One source speaks of decreasing KL + ELBO."""
    model, x = elbo.parabola(), double((1.0, 1.0))
    qs = [model.log_q(Normal(double([mu]), double([log(sigma)]))) for mu, sigma in QS]
    bounds, gaps = (torch.stack([value(x, log_q)[0] for log_q in qs]) for value in (model.elbo, model.gap))
    assert np.ptp((bounds + gaps).numpy()) < 1e-10 and np.ptp(bounds.numpy()) > 1
    assert bounds.argmax() == gaps.argmin()


def test_the_best_gaussian_on_one_of_two_humps_lacks_log_2_and_the_sharper_the_humps_the_more_exactly():
    mus, sigmas = torch.linspace(1.0, 1.4, 17, dtype=torch.float64), torch.linspace(0.02, 0.3, 15, dtype=torch.float64)
    grid = torch.cartesian_prod(mus, sigmas)
    least = []
    for noise in (0.5, 0.2, 0.1):
        model = elbo.parabola(noise)
        log_q = model.log_q(Normal(grid[:, :1], grid[:, 1:].log()))
        least.append(model.gap(double([0.0, 2.0]).expand(len(grid), 2), log_q).min().item() - log(2))
    assert 0.1 > least[0] > least[1] > least[2] > -1e-3 and least[2] < 0.02


# z among finitely many values


@pytest.mark.equation("eq-elbo-bayes", oracle="enumeration")
def test_a_picture_like_a_cat_is_one_with_probability_a_tenth_while_a_third_of_all_are():
    model = elbo.cats()
    assert model.table.sum(1).tolist() == pytest.approx([2 / 3, 1 / 3])
    posterior = model.posterior(torch.arange(3)).probabilities[:, 1]
    assert posterior.tolist() == pytest.approx([1, 0, 0.1])
    for x in range(3):
        likelihoods = [model.table[z, x].item() / p for z, p in ((0, 2 / 3), (1, 1 / 3))]
        by_bayes = 1 / 3 * likelihoods[1] / (1 / 3 * likelihoods[1] + 2 / 3 * likelihoods[0])
        assert posterior[x].item() == pytest.approx(by_bayes, abs=1e-12)
    # .1 is p(z = 1 | x); printed as P(z) it would say that a tenth of all pictures are cats
    evidence = model.evidence(torch.arange(3)).exp()
    assert (evidence * posterior).sum().item() == pytest.approx(1 / 3, abs=1e-12)


def sums(log_joint: np.ndarray, q: np.ndarray) -> float:
    """E_q[log p(x, z) - log q(z)], value by value."""
    return sum(weight * (value - log(weight)) for value, weight in zip(log_joint, q, strict=True) if weight > 0)


@pytest.mark.equation("eq-elbo-gap", oracle="enumeration")
@pytest.mark.equation("eq-elbo-jensen", oracle="enumeration")
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), zeros=st.integers(0, 3), scale=st.floats(0.1, 20))
def test_in_any_table_the_evidence_is_the_elbo_and_the_gap_also_where_q_is_zero(seed, zeros, scale):
    log_joint = scale * draw(4, seed=seed)
    q = draw(4, seed=seed + 1).softmax(0)
    q[:zeros] = 0
    q = q / q.sum()
    bound = elbo.lower_bound(log_joint, q.log())
    assert bound.item() == pytest.approx(sums(log_joint.numpy(), q.numpy()), rel=1e-10, abs=1e-10)
    evidence = special.logsumexp(log_joint.numpy())
    assert elbo.log_evidence(log_joint).item() == pytest.approx(evidence, rel=1e-12)
    gap = elbo.kl(q.log(), log_joint - evidence)
    assert (bound + gap).item() == pytest.approx(evidence, rel=1e-10, abs=1e-10)
    assert bound <= evidence + 1e-9


@pytest.mark.equation("eq-elbo-kl", oracle="another library: scipy's relative entropy")
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 20))
def test_the_kl_divergence_is_relative_entropy_never_negative_and_zero_only_for_equals(seed, scale):
    log_q, log_p = (scale * draw(2, 5, seed=seed)).log_softmax(-1)
    there, back = elbo.kl(log_q, log_p).item(), elbo.kl(log_p, log_q).item()
    assert there == pytest.approx(stats.entropy(log_q.exp(), log_p.exp()), rel=1e-9, abs=1e-12)
    assert there > 0 and back > 0 and there != pytest.approx(back, rel=1e-6)
    assert elbo.kl(log_q, log_q).item() == 0


@pytest.mark.equation("eq-elbo-kl", oracle="quadrature by scipy, and a closed form")
@pytest.mark.parametrize("mu, sigma", QS)
def test_the_kl_divergence_on_a_line_is_its_integral(mu, sigma):
    model = elbo.parabola()
    ours = elbo.kl(model.log_q(Normal(double([mu]), double([log(sigma)]))), model.log_prior, model.log_measure).item()
    reach = (mu - 12 * sigma, mu + 12 * sigma)
    exact, _ = integrate.quad(
        lambda z: stats.norm.pdf(z, mu, sigma) * (stats.norm.logpdf(z, mu, sigma) - stats.norm.logpdf(z)), *reach
    )
    assert ours == pytest.approx(exact, abs=1e-7)
    assert ours == pytest.approx(0.5 * (mu**2 + sigma**2 - 1) - log(sigma), abs=1e-9)


def test_where_q_misses_a_value_the_bound_is_that_of_what_it_sees_and_importance_weights_never_see_the_rest():
    joint = double(0.2, 0.5)
    q = double(1.0, 0.0)
    assert elbo.lower_bound(joint.log(), q.log()).item() == pytest.approx(log(0.2))
    z = Categorical(q.log()).sample(generator(), shape=(10_000,))
    log_w = (joint.log() - q.log())[z][:, None]
    assert importance.log_mean(log_w).item() == pytest.approx(log(0.2))  # for any number of draws; log p(x) = log .7
    assert elbo.log_evidence(joint.log()).item() == pytest.approx(log(0.7))


def test_where_p_is_zero_and_q_is_not_the_bound_is_minus_infinity_and_the_gap_infinite():
    joint = double(0.0, 0.5).log()
    q = double(0.4, 0.6).log()
    assert elbo.lower_bound(joint, q).item() == -inf and elbo.kl(q, joint).item() == inf
    sure = double(0.0, 1.0).log()
    assert elbo.lower_bound(joint, sure).item() == pytest.approx(log(0.5)) and elbo.kl(sure, sure).item() == 0
    cat = elbo.cats()  # its posteriors have zeros, where a bound that multiplies 0 by infinity is not a number
    log_joint = cat.table[:, :2].T.log()
    assert elbo.lower_bound(log_joint, log_joint.log_softmax(-1)).tolist() == pytest.approx([log(0.3), log(11 / 30)])


@pytest.mark.equation("eq-elbo-evidence", oracle="enumeration")
@pytest.mark.equation("eq-elbo-halves", oracle="enumeration of all images")
def test_first_a_digit_then_its_pixels_gives_all_images_a_total_probability_of_one():
    x = (draw(40, 4, seed=1) > 0).double()
    labels = torch.randint(3, (40,), generator=generator(2))
    model = elbo.digits(x, labels, classes=3)
    images = torch.tensor(list(product((0.0, 1.0), repeat=4)), dtype=torch.float64)
    log_p = model.evidence(images)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)
    left = model.evidence(images, slice(0, 2))
    for row in range(16):  # a half's probability is the sum over the other half
        same = (images[:, :2] == images[row, :2]).all(1)
        assert left[row].item() == pytest.approx(log_p[same].logsumexp(0).item(), abs=1e-12)
        of_half = (model.posterior(images[same]) + log_p[same, None]).logsumexp(0) - left[row]
        assert torch.allclose(model.posterior(images[row : row + 1], slice(0, 2))[0], of_half, atol=1e-12)
    by_hand = []
    for k in range(3):
        mine = x[labels == k].numpy()
        p = (mine.sum(0) + 1) / (len(mine) + 2)
        by_hand.append(len(mine) / 40 * np.prod(np.where(images.numpy() == 1, p, 1 - p), axis=1))
    assert np.allclose(log_p.exp(), sum(by_hand)) and np.allclose(
        model.posterior(images).exp().T, np.array(by_hand) / sum(by_hand)
    )


@pytest.mark.equation("eq-elbo-bayes", oracle="another library: scikit-learn's naive Bayes")
def test_the_digits_posterior_is_that_of_naive_bayes():
    x = (draw(60, 8, seed=1) > 0.4).double()
    labels = torch.arange(60) % 4
    theirs = BernoulliNB(alpha=1.0).fit(x.numpy(), labels.numpy())
    model = elbo.digits(x, labels, classes=4)
    assert np.allclose(model.posterior(x), theirs.predict_log_proba(x.numpy()), atol=1e-10)


@pytest.mark.equation("eq-elbo-halves", oracle="closed form")
def test_halves_drawn_through_z_match_and_halves_drawn_apart_do_not():
    """Ten digits, each with a half that gives it away: the left and the right pixel number z are on."""
    left = torch.eye(10, dtype=torch.float64)
    logits = 40 * (2 * torch.cat([left, left], 1) - 1)
    model = LatentModel.discrete(torch.full((10,), 0.1, dtype=torch.float64), Bernoulli(logits))
    k, x = model.sample(2000, generator())
    assert (x[:, :10].argmax(1) == k).all() and (x[:, 10:].argmax(1) == k).all()
    apart = torch.cat([x[:, :10], model.sample(2000, generator(1))[1][:, 10:]], 1)
    match = (apart[:, :10].argmax(1) == apart[:, 10:].argmax(1)).double()
    assert abs(match.mean().item() - 0.1) < 3.9 * sqrt(0.09 / 2000)
    together = model.evidence(x) - model.evidence(x, slice(0, 10)) - model.evidence(x, slice(10, 20))
    assert torch.allclose(together, torch.full_like(together, log(10)))  # the information of one half about the other
    mismatched = torch.cat([left[:1], left[1:2]], 1)
    assert model.evidence(mismatched).item() < -70


@pytest.mark.equation("eq-elbo-gap", oracle="enumeration")
def test_in_a_model_of_digits_every_categorical_q_leaves_its_gap():
    x = (draw(30, 6, seed=1) > 0).double()
    model = elbo.digits(x, torch.arange(30) % 3, classes=3)
    log_q = model.log_q(Categorical(draw(30, 3, seed=4)))
    for row in range(5):
        q, log_joint = log_q[row].exp().numpy(), model.log_joint(x)[row].numpy()
        assert model.elbo(x, log_q)[row].item() == pytest.approx(sums(log_joint, q), abs=1e-11)
    assert torch.allclose(model.elbo(x, log_q) + model.gap(x, log_q), model.evidence(x), atol=1e-12)
    assert torch.allclose(model.gap(x, log_q[0]), elbo.kl(log_q[:1].expand(30, -1), model.posterior(x)))  # one q for all


def test_draws_of_a_latent_model_have_its_probabilities():
    model = LatentModel.discrete(double(0.2, 0.5, 0.3), Normal(double([0.0], [10.0], [20.0]), torch.zeros(3, 1).double()))
    k, x = model.sample(20_000, generator(1))
    for value, p in enumerate((0.2, 0.5, 0.3)):
        share = (k == value).double().mean().item()
        assert abs(share - p) < 3.9 * sqrt(p * (1 - p) / 20_000)
    assert ((x[:, 0] - 10 * k).abs() < 6).all()
    z = elbo.parabola().sample(20_000, generator(1))
    on_line = elbo.parabola().z[z[0]]
    assert_mean_is(on_line, 0.0)
    assert_mean_is(on_line**2, 1.0)
    assert_mean_is(z[1][:, 1], 1.0)  # E z^2


@pytest.mark.parametrize("prior", [double(0.5, 0.6), double(1.2, -0.2), torch.ones(1, 1).double()])
def test_a_prior_is_probabilities(prior, no_shape_checks):
    with pytest.raises(ValueError, match="must be probabilities that sum to 1"):
        LatentModel.discrete(prior, Bernoulli(torch.zeros(2, 3)))


def test_each_value_of_z_has_its_distribution_of_x():
    with pytest.raises(ValueError, match="2 values of z need as many distributions of x, got 3"):
        LatentModel.discrete(double(0.5, 0.5), Bernoulli(torch.zeros(3, 4)))


@pytest.mark.parametrize(
    "x, labels, message",
    [
        (torch.zeros(3), torch.zeros(3, dtype=torch.long), "images"),
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.long), "labels"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), "images"),
        (torch.full((3, 2), 1.5), torch.zeros(3, dtype=torch.long), r"in \[0, 1\]"),
        (torch.full((3, 2), torch.nan), torch.zeros(3, dtype=torch.long), r"in \[0, 1\]"),
        (torch.zeros(3, 2), torch.tensor([0, 1, 10]), "between 0 and 9, got 0 to 10"),
    ],
)
def test_digits_need_images_and_labels(x, labels, message, no_shape_checks):
    with pytest.raises(ValueError, match=message):
        elbo.digits(x, labels)


def test_a_digit_that_no_image_shows_has_probability_zero():
    model = elbo.digits(torch.rand(6, 3, generator=generator()), torch.tensor([0, 0, 2, 2, 2, 0]))
    assert model.log_prior.exp().tolist() == [0.5, 0, 0.5, *[0] * 7]


def test_a_parabola_needs_a_width():
    with pytest.raises(ValueError, match="must be positive"):
        elbo.parabola(0.0)


# The exact models, for every q on a grid


@pytest.mark.equation("eq-elbo-gap", oracle="closed form of the evidence, and KL by torch or by sums")
def test_evidence_is_elbo_and_kl_to_ten_digits_in_every_exact_model_for_every_q_on_a_grid():
    grid = [(mu, sigma) for mu in np.linspace(-2, 2, 9) for sigma in (0.1, 0.5, 1.0, 3.0)]
    gaussian, x = ConjugateGaussian(0.5), double(0.7, -1.2)
    plane = ProbabilisticPCA(draw(4, 2, seed=1), draw(4, seed=2), 0.3)
    y = draw(4, seed=3)
    for mu, sigma in grid:
        q = Normal(double(mu, -mu), double(log(sigma), log(sigma) / 2))
        gap = q.kl(gaussian.posterior(x))
        assert (gaussian.elbo(x, q) + gap).item() == pytest.approx(gaussian.evidence(x).item(), abs=1e-10)
        as_torch = MultivariateNormal(q.mu, torch.diag((2 * q.log_sigma).exp()))
        gap = kl_divergence(as_torch, plane.posterior(y))
        assert (plane.elbo(y, q) + gap).item() == pytest.approx(plane.evidence(y).item(), abs=1e-10)
    table = DiscreteJoint(double([0.1, 0.25], [0.3, 0.05], [0.2, 0.1]))
    column = torch.tensor([0, 1])
    for a in np.linspace(0.01, 0.97, 15):
        q = Categorical(double([a, (1 - a) / 3, 2 * (1 - a) / 3], [a, (1 - a) / 2, (1 - a) / 2]).log())
        total = table.elbo(column, q) + q.kl(table.posterior(column))
        assert torch.allclose(total, table.evidence(column), rtol=0, atol=1e-12)


# Estimates by draws


@pytest.mark.equation("eq-elbo-estimate", oracle="quadrature")
@pytest.mark.parametrize("mu, sigma", [(0.9, 0.3), (0.5, 0.6)])
def test_the_mean_log_weight_is_unbiased_for_the_elbo(mu, sigma):
    x, world = (1.0, 1.0), World((1.0, 1.0))
    log_w = weights_of(x, mu, sigma, k=4, repeats=50_000)
    exact = world.expect(mu, sigma, lambda z, log_q: world.log_joint(z) - log_q)
    assert_mean_is(elbo.elbo_estimate(log_w), exact)


def weights_of(x: tuple[float, float], mu: float, sigma: float, k: int, repeats: int, seed: int = 1) -> Tensor:
    q = Normal(torch.full((repeats, 1), mu).double(), torch.full((repeats, 1), log(sigma)).double())
    scale = torch.full((2,), log(0.5)).double()

    def log_joint(z: Tensor) -> Tensor:
        standard = Normal(torch.zeros_like(z), torch.zeros_like(z))
        mean = torch.cat([z, z**2], -1)
        return standard.log_prob(z) + Normal(mean, scale.expand_as(mean)).log_prob(double(*x))

    return importance.log_weights(log_joint, q, k, generator(seed))


@pytest.mark.equation("eq-elbo-importance", oracle="independent code: numpy, under the same noise; the evidence by quadrature")
def test_the_importance_estimate_rises_from_the_elbo_to_the_evidence_with_the_draws():
    x, world = (1.0, 1.0), World((1.0, 1.0))
    log_w = weights_of(x, 0.9, 0.6, k=3, repeats=5)
    z = 0.9 + 0.6 * torch.randn(3, 5, 1, generator=generator(1), dtype=torch.float64)[..., 0].numpy()
    by_hand = world.log_joint(z) - stats.norm.logpdf(z, 0.9, 0.6)
    assert np.allclose(log_w, by_hand)
    assert np.allclose(importance.log_mean(log_w), np.log(np.exp(by_hand).mean(0)))
    exact = world.expect(0.9, 0.6, lambda z, log_q: world.log_joint(z) - log_q)
    means = []
    for k, repeats in ((1, 200_000), (2, 100_000), (8, 40_000), (64, 5000)):
        estimates = importance.log_mean(weights_of(x, 0.9, 0.6, k, repeats))
        means.append((estimates.mean().item(), estimates.std().item() / sqrt(repeats)))
    assert abs(means[0][0] - exact) < 3.9 * means[0][1]
    for (mean, error), (next_mean, next_error) in pairwise(means):
        assert mean + 3.9 * error < next_mean - 3.9 * next_error
    assert means[-1][0] < world.evidence + 3.9 * means[-1][1]
    many = importance.log_mean(weights_of(x, 0.9, 0.6, 200_000, 1)).item()
    assert many == pytest.approx(world.evidence, abs=0.01)


def test_weights_need_a_draw():
    with pytest.raises(ValueError, match="at least 1; got 0"):
        weights_of((1.0, 1.0), 0.0, 1.0, 0, 2)


# On a GPU


@needs_cuda
@pytest.mark.gpu
def test_a_model_on_a_gpu_gives_the_cpus_numbers():
    x = (draw(30, 6, seed=1) > 0).double()
    labels = torch.arange(30) % 3
    q = Categorical(draw(30, 3, seed=4))
    home, away = elbo.digits(x, labels, classes=3), elbo.digits(x.cuda(), labels.cuda(), classes=3)
    assert torch.allclose(away.evidence(x.cuda()).cpu(), home.evidence(x))
    on_gpu = away.log_q(Categorical(q.logits.cuda()))
    assert torch.allclose(away.elbo(x.cuda(), on_gpu).cpu(), home.elbo(x, home.log_q(q)))
    regression = BayesianRegression(x, x[:, 0] + draw(30), sigma=0.5)
    there = BayesianRegression(x.cuda(), regression.x.cuda(), sigma=0.5)
    assert there.evidence.item() == pytest.approx(regression.evidence.item())
    assert there.elbo(there.best_diagonal).item() == pytest.approx(regression.elbo(regression.best_diagonal).item())


# What is lost to rounding, or to a grid


YEARS = torch.arange(1960.0, 2021.0)


def series() -> Tensor:
    return 0.02 * (YEARS - 1990) + 0.9 * torch.randn(len(YEARS), generator=generator())


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_a_polynomial_in_years_fits_as_well_as_one_in_centered_years(degree):
    x = series()
    centered = np.polynomial.polynomial.polyfit((YEARS.numpy() - 1990) / 30, x.numpy().astype(float), degree)
    residual = x.numpy() - np.polynomial.polynomial.polyval((YEARS.numpy() - 1990) / 30, centered)
    fit = Regression.fit(polynomial(YEARS, degree), x)
    assert fit.sigma == pytest.approx(sqrt((residual**2).mean()), rel=1e-3)
    assert fit.predict(polynomial(YEARS, degree)).mu[:, 0].numpy() == pytest.approx(x.numpy() - residual, abs=0.05)


def test_features_that_repeat_one_another_are_an_error_that_says_what_to_do():
    t = YEARS[:, None]
    with pytest.raises(ValueError, match="Center and scale the inputs first"):
        Regression.fit(torch.cat([t, 2 * t], 1), series())
    with pytest.raises(ValueError, match="Center and scale the inputs first"):
        BayesianRegression(torch.cat([t, 2 * t], 1), series(), sigma=1.0, prior_sigma=1e9)


def test_the_evidence_of_single_precision_data_is_that_of_double():
    t, x = YEARS, series()
    single, twice = (BayesianRegression(polynomial(t.to(d), 2), x.to(d), sigma=1.0) for d in (torch.float32, torch.float64))
    assert single.evidence.item() == pytest.approx(twice.evidence.item(), abs=1e-9)
    assert single.elbo(Normal(torch.zeros(3), torch.zeros(3))).isfinite()


def test_a_posterior_that_the_grid_cannot_hold_is_refused():
    bent = elbo.parabola()
    bent.evidence(double([1.0, 1.0], [3.0, 9.0]))
    for ask in (bent.evidence, bent.posterior):
        with pytest.raises(ValueError, match=r"does not hold the posterior of x number 1, near z = 16: .* longer reach"):
            ask(double([1.0, 1.0], [20.0, 400.0]))
    with pytest.raises(ValueError, match=r"narrower than the spacing, 0.004"):
        elbo.parabola(1e-3).evidence(double([2.0, 4.0]))
    far = LatentModel.on_line(
        lambda z: Normal(torch.cat([z, z**2], 1), z.new_full((len(z), 2), log(0.5))), reach=40.0, points=80_001
    )
    near_20 = integrate.quad(
        lambda z: exp(200 - z * z / 2 - 2 * ((20 - z) ** 2 + (400 - z * z) ** 2)), 19.5, 20.5, epsabs=0, points=[20.0]
    )[0]
    right = log(near_20) - 200 - 0.5 * log(2 * pi) - log(2 * pi * 0.25)
    assert far.evidence(double([20.0, 400.0])).item() == pytest.approx(right, abs=1e-6)


def test_zeros_have_values_and_gradients_in_bounds_and_divergences():
    log_q = torch.tensor([0.2, -torch.inf, 0.1], dtype=torch.float64, requires_grad=True)
    log_p = double(0.3, -inf, -1.0)
    for value in (elbo.kl(log_q.log_softmax(-1), log_p), elbo.lower_bound(log_p, log_q.log_softmax(-1))):
        (slope,) = torch.autograd.grad(value, log_q)
        assert value.isfinite() and slope.isfinite().all() and slope[1] == 0
    model, x = elbo.cats(), torch.arange(3)
    assert torch.allclose(model.elbo(x, model.posterior(x)), model.evidence(x))


def test_the_estimate_of_no_draws_is_an_error():
    with pytest.raises(ValueError, match="at least 1 of them"):
        elbo.elbo_estimate(torch.zeros(0, 3))
