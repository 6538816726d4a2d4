"""Gradients of the ELBO where it is known: by Gauss-Hermite quadrature, by enumeration, in closed form.

The mean of an estimator is found without drawing: it is given the nodes of a quadrature, or all states, as its draws (all
tuples of them where it treats its draws together), and their weights. Oracles of the ELBO are written in numpy and
differentiated by finite differences. Measured variances lie within the stated share of the exact ones.
"""

from functools import partial
from itertools import product
from math import log, pi, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import double, generator, needs_cuda
from vaecourse import training
from vaecourse.distributions import Bernoulli, Categorical, Normal
from vaecourse.exact_models import ConjugateGaussian
from vaecourse.gradients import (
    BlackBoxVI,
    Estimate,
    Factors,
    above_others,
    along,
    cross_fitted,
    exact,
    fitted_coefficient,
    logistic_regression,
    parameters,
    path,
    path_only,
    rao_blackwell,
    rao_blackwell_control_variate,
    rao_blackwell_leave_one_out,
    reinforce,
    reinforce_control_variate,
    reinforce_leave_one_out,
    reparameterized,
    score,
    surrogate,
    variance_per_draw,
    weighted_score,
    with_parameters,
)

BY_SCORE = {
    "reinforce": reinforce,
    "reinforce, leave one out": reinforce_leave_one_out,
    "reinforce, control variate": reinforce_control_variate,
    "rao-blackwell": rao_blackwell,
    "rao-blackwell, leave one out": rao_blackwell_leave_one_out,
    "rao-blackwell, control variate": rao_blackwell_control_variate,
}
BY_PATH = {"reparameterized": reparameterized, "path only": path_only}
LEAST_DRAWS = {name: 2 if "leave" in name else 4 if "control" in name else 1 for name in {**BY_SCORE, **BY_PATH}}


def finite_differences(f, x: np.ndarray, h: float = 1e-5) -> np.ndarray:
    steps = h * np.eye(x.size).reshape(-1, *x.shape)
    return np.array([(f(x + step) - f(x - step)) / (2 * h) for step in steps]).reshape(x.shape)


# A world of two coupled latents: log p(x, z) is a polynomial, of which a quadrature with few nodes is exact

QUARTIC = Factors(
    lambda z: torch.stack([-(z[..., 0] ** 2) / 2, -((z[..., 1] - z[..., 0] ** 2) ** 2) / 2, z[..., 1]], -1),
    torch.tensor([[True, False], [True, True], [False, True]]),
)
LAMBDA = np.array([[0.4, -0.3], [-0.2, 0.1]])  # mu, log sigma of each latent
GAUSSIAN = Normal(double(0.4, -0.2), double(-0.3, 0.1))


def nodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal nodes in the plane and their weights."""
    x, w = np.polynomial.hermite_e.hermegauss(count)
    return np.array(list(product(x, x))), np.outer(w, w).ravel() / w.sum() ** 2


def quartic_elbo(value: np.ndarray, count: int = 8) -> float:
    eps, weights = nodes(count)
    z = value[:, 0] + np.exp(value[:, 1]) * eps
    log_p = -(z[:, 0] ** 2) / 2 - (z[:, 1] - z[:, 0] ** 2) ** 2 / 2 + z[:, 1]
    return weights @ log_p + (value[:, 1] + 0.5 * log(2 * pi) + 0.5).sum()


def mean_over_gaussian_draws(estimator, q: Normal, log_joint, draws: int, count: int) -> Estimate:
    """The exact mean of an estimator of that many draws: over all tuples of nodes."""
    eps, weights = nodes(count)
    tuples = np.array(list(product(range(len(eps)), repeat=draws))).T
    z = q.mu + q.log_sigma.exp() * torch.from_numpy(eps[tuples])
    w = torch.from_numpy(weights[tuples].prod(0))
    estimate = estimator(q, log_joint, z)
    return Estimate((w * estimate.value.mean(0)).sum(), (w[:, None, None] * estimate.gradient.mean(0)).sum(0))


PER_DRAW = {name: estimator for name, estimator in {**BY_SCORE, **BY_PATH}.items() if LEAST_DRAWS[name] == 1}


@pytest.mark.equation("eq-gradients-score", oracle="quadrature, finite differences")
@pytest.mark.equation("eq-gradients-reinforce", oracle="quadrature, finite differences")
@pytest.mark.equation("eq-gradients-rao-blackwell", oracle="quadrature, finite differences")
@pytest.mark.equation("eq-gradients-reparameterization", oracle="quadrature, finite differences")
@pytest.mark.equation("eq-gradients-path", oracle="quadrature, finite differences")
@pytest.mark.parametrize("estimator", PER_DRAW.values(), ids=PER_DRAW)
def test_the_mean_of_an_estimator_is_the_gradient_of_the_elbo(estimator):
    value, gradient = mean_over_gaussian_draws(estimator, GAUSSIAN, QUARTIC, 1, 8)
    assert value.item() == pytest.approx(quartic_elbo(LAMBDA), abs=1e-10)
    assert np.allclose(gradient, finite_differences(quartic_elbo, LAMBDA), atol=1e-8)


@pytest.mark.equation("eq-gradients-rao-blackwell", oracle="independent code, draw by draw and latent by latent")
@pytest.mark.equation("eq-gradients-leave-one-out", oracle="independent code, draw by draw and latent by latent")
@pytest.mark.equation("eq-gradients-control-variate", oracle="independent code, draw by draw and latent by latent")
@pytest.mark.parametrize("name", BY_SCORE)
def test_what_an_estimator_says_of_each_draw_and_each_latent_is_its_definition(name):
    z = np.random.default_rng(3).normal(size=(6, 2)) * np.exp(LAMBDA[:, 1]) + LAMBDA[:, 0]
    ours = BY_SCORE[name](GAUSSIAN, QUARTIC, torch.from_numpy(z))
    terms = np.stack([-(z[:, 0] ** 2) / 2, -((z[:, 1] - z[:, 0] ** 2) ** 2) / 2, z[:, 1]], -1)
    log_q = stats.norm(LAMBDA[:, 0], np.exp(LAMBDA[:, 1])).logpdf(z)
    eps = (z - LAMBDA[:, 0]) * np.exp(-LAMBDA[:, 1])
    scores = np.stack([eps * np.exp(-LAMBDA[:, 1]), eps**2 - 1], -1)  # in mu and in log sigma
    f = terms.sum(1) - log_q.sum(1)
    touching = np.stack([terms[:, :2].sum(1), terms[:, 1:].sum(1)], -1) - log_q
    signal = touching if name.startswith("rao") else np.repeat(f[:, None], 2, 1)
    if "leave" in name:
        signal = np.array([signal[k] - np.delete(signal, k, 0).mean(0) for k in range(6)])
    gradient = signal[..., None] * scores
    if "control" in name:
        halves, fitted = (slice(0, 3), slice(3, 6)), []
        for half in halves:
            h, g = scores[half], gradient[half]
            fitted.append(((g - g.mean(0)) * (h - h.mean(0))).sum(0) / ((h - h.mean(0)) ** 2).sum(0))
        for half, other in zip(halves, fitted[::-1], strict=True):
            gradient[half] -= other * scores[half]
    assert ours.value.numpy() == pytest.approx(f, abs=1e-12)
    assert ours.gradient.numpy() == pytest.approx(gradient, abs=1e-10)


@pytest.mark.equation("eq-gradients-leave-one-out", oracle="quadrature, finite differences")
@pytest.mark.parametrize("estimator", [reinforce_leave_one_out, rao_blackwell_leave_one_out])
@pytest.mark.parametrize("draws", [2, 3])
def test_a_baseline_of_the_other_draws_leaves_the_mean_as_it_is(estimator, draws):
    q = Normal(double(0.4, -0.2), double(-0.3, 0.1))
    count = 8 if draws == 2 else 4  # of a parabola, 4 nodes are exact

    def parabola(z: Tensor) -> Tensor:
        return torch.stack([-(z[..., 0] ** 2) / 2, -((z[..., 1] - z[..., 0]) ** 2) / 2, z[..., 1]], -1)

    def elbo(value: np.ndarray) -> float:
        eps, weights = nodes(4)
        z = value[:, 0] + np.exp(value[:, 1]) * eps
        log_p = -(z[:, 0] ** 2) / 2 - (z[:, 1] - z[:, 0]) ** 2 / 2 + z[:, 1]
        return weights @ log_p + value[:, 1].sum()

    factors, oracle = (QUARTIC, quartic_elbo) if draws == 2 else (Factors(parabola, QUARTIC.touches), elbo)
    _, gradient = mean_over_gaussian_draws(estimator, q, factors, draws, count)
    assert np.allclose(gradient, finite_differences(oracle, LAMBDA), atol=1e-8)


# Discrete latents: every expectation is a sum over states

THREE_COINS = Factors(
    lambda z: torch.stack([2 * z[..., 0] * z[..., 1] - z[..., 1], 1.5 * z[..., 1] * z[..., 2] - 1, 0.5 * z[..., 2]], -1),
    torch.tensor([[True, True, False], [False, True, True], [False, False, True]]),
)
COINS = Bernoulli(double(0.3, -0.8, 1.1))

TABLE = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3)))  # of two latents of three values
TWO_CHOICES = Factors(
    lambda z: torch.stack([TABLE[z[..., 0], z[..., 1]], TABLE[0, z[..., 0]]], -1), torch.tensor([[True, True], [True, False]])
)
CHOICES = Categorical(double([0.2, -0.5, 1.0], [-1.0, 0.3, 0.1]))


def coins_elbo(value: np.ndarray) -> float:
    p, total = special.expit(value[:, 0]), 0.0
    for z in product([0, 1], repeat=3):
        q = np.prod([p[i] if z[i] else 1 - p[i] for i in range(3)])
        total += q * (2 * z[0] * z[1] - z[1] + 1.5 * z[1] * z[2] - 1 + 0.5 * z[2] - log(q))
    return total


def choices_elbo(value: np.ndarray) -> float:
    p, total = special.softmax(value, axis=1), 0.0
    for a, b in product(range(3), repeat=2):
        total += p[0, a] * p[1, b] * (TABLE[a, b].item() + TABLE[0, a].item() - log(p[0, a] * p[1, b]))
    return total


DISCRETE = {
    "coins": (COINS, THREE_COINS, coins_elbo, double(*product([0.0, 1.0], repeat=3))),
    "choices": (CHOICES, TWO_CHOICES, choices_elbo, torch.tensor(list(product(range(3), repeat=2)))),
}


def mean_over_discrete_draws(estimator, q, log_joint, states: Tensor, draws: int) -> Tensor:
    """The exact mean gradient of an estimator of that many draws: over all tuples of states."""
    tuples = torch.cartesian_prod(*[torch.arange(len(states))] * draws).reshape(-1, draws).T
    z = states[tuples]
    log_prob = q.log_prob(z) if isinstance(q, Bernoulli) else q.log_prob(z).sum(-1)
    return (log_prob.sum(0).exp()[:, None, None] * estimator(q, log_joint, z).gradient.mean(0)).sum(0)


@pytest.mark.parametrize("q, log_joint, elbo, states", DISCRETE.values(), ids=DISCRETE)
def test_the_exact_elbo_of_a_discrete_q_and_its_gradient_are_the_sums_written_out(q, log_joint, elbo, states):
    value, gradient = exact(q, log_joint)
    assert value.item() == pytest.approx(elbo(parameters(q).numpy()), abs=1e-12)
    assert np.allclose(gradient, finite_differences(elbo, parameters(q).numpy()), atol=1e-9)


@pytest.mark.parametrize("name", BY_SCORE)
@pytest.mark.parametrize("q, log_joint, elbo, states", DISCRETE.values(), ids=DISCRETE)
def test_for_discrete_latents_too_the_mean_is_the_gradient_whatever_the_number_of_draws(q, log_joint, elbo, states, name):
    exact_gradient = finite_differences(elbo, parameters(q).numpy())
    for draws in range(LEAST_DRAWS[name], 6 if len(states) < 9 else 5):
        mean = mean_over_discrete_draws(BY_SCORE[name], q, log_joint, states, draws)
        assert np.allclose(mean, exact_gradient, atol=1e-8)


@pytest.mark.parametrize("q, states", [(COINS, DISCRETE["coins"][3]), (CHOICES, DISCRETE["choices"][3])])
@pytest.mark.equation("eq-gradients-score-mean", oracle="enumeration")
def test_the_score_has_mean_zero_under_a_discrete_q(q, states):
    log_prob = q.log_prob(states) if isinstance(q, Bernoulli) else q.log_prob(states).sum(-1)
    assert log_prob.exp().sum().item() == pytest.approx(1)
    assert torch.allclose((log_prob.exp()[:, None, None] * score(q, states)).sum(0), double(0.0), atol=1e-12)


@pytest.mark.equation("eq-gradients-score-mean", oracle="quadrature")
@settings(deadline=None, max_examples=25)
@given(mu=st.floats(-3, 3), log_sigma=st.floats(-2, 2))
def test_the_score_has_mean_zero_under_a_gaussian_q(mu, log_sigma):
    q = Normal(double(mu), double(log_sigma))
    eps, weights = np.polynomial.hermite_e.hermegauss(6)
    s = score(q, mu + np.exp(log_sigma) * torch.from_numpy(eps)[:, None])
    assert np.allclose(weights @ s[:, 0].numpy(), 0, atol=1e-10)


@pytest.mark.parametrize("q", [GAUSSIAN, COINS, CHOICES], ids=["normal", "bernoulli", "categorical"])
def test_the_score_is_the_gradient_of_torchs_log_prob(q):
    value = parameters(q).clone().requires_grad_()
    theirs = {
        Normal: lambda: torch.distributions.Normal(value[:, 0], value[:, 1].exp()),
        Bernoulli: lambda: torch.distributions.Bernoulli(logits=value[:, 0]),
        Categorical: lambda: torch.distributions.Categorical(logits=value),
    }[type(q)]()
    z = q.sample(generator(1), shape=(7,))
    for draw, ours in zip(z, score(q, z), strict=True):
        assert torch.allclose(torch.autograd.grad(theirs.log_prob(draw).sum(), value, retain_graph=True)[0], ours)


# Under a replayed seed


def draws_of(q, count: int, seed: int = 3) -> Tensor:
    return q.sample(generator(seed), shape=(count,)).detach()


def test_reparameterization_is_what_autograd_finds_when_it_differentiates_through_the_draw():
    value = parameters(GAUSSIAN).clone().requires_grad_()
    q = torch.distributions.Normal(value[:, 0], value[:, 1].exp())
    eps = torch.randn(50, 2, generator=generator(3), dtype=torch.float64)
    z = q.loc + q.scale * eps
    (total,) = torch.autograd.grad((QUARTIC(z) - q.log_prob(z).sum(-1)).mean(), value, retain_graph=True)
    still = torch.distributions.Normal(q.loc.detach(), q.scale.detach())
    (stopped,) = torch.autograd.grad((QUARTIC(z) - still.log_prob(z).sum(-1)).mean(), value)
    draws = draws_of(GAUSSIAN, 50)
    assert torch.allclose(reparameterized(GAUSSIAN, QUARTIC, draws).gradient.mean(0), total, atol=1e-12)
    assert torch.allclose(path_only(GAUSSIAN, QUARTIC, draws).gradient.mean(0), stopped, atol=1e-12)
    assert not torch.allclose(total, stopped, atol=0.01)


@pytest.mark.parametrize("q, log_joint", [(GAUSSIAN, QUARTIC), (COINS, THREE_COINS), (CHOICES, TWO_CHOICES)])
def test_reinforce_is_log_weight_times_score_and_a_baseline_the_others_mean(q, log_joint):
    z = draws_of(q, 5)
    estimate, centered = reinforce(q, log_joint, z), reinforce_leave_one_out(q, log_joint, z)
    log_prob = q.log_prob(z).sum(-1) if isinstance(q, Categorical) else q.log_prob(z)
    f, s = (log_joint.terms(z).sum(-1) - log_prob).numpy(), score(q, z).numpy()
    assert np.allclose(estimate.value, f) and np.allclose(centered.value, f)
    for k in range(5):
        others = np.mean([f[j] for j in range(5) if j != k])
        assert np.allclose(estimate.gradient[k], f[k] * s[k]) and np.allclose(centered.gradient[k], (f[k] - others) * s[k])


def test_rao_blackwellization_gives_each_latent_the_terms_of_its_markov_blanket():
    z = draws_of(COINS, 6)
    ours, p = rao_blackwell(COINS, THREE_COINS, z).gradient.numpy(), special.expit([0.3, -0.8, 1.1])
    a, b, c = z.numpy().T
    terms = 2 * a * b - b, 1.5 * b * c - 1, 0.5 * c
    signals = terms[0], terms[0] + terms[1], terms[1] + terms[2]
    for i, signal in enumerate(signals):
        z_i = z[:, i].numpy()
        log_q_i = np.where(z_i == 1, np.log(p[i]), np.log(1 - p[i]))
        assert np.allclose(ours[:, i, 0], (signal - log_q_i) * (z_i - p[i]))


def test_each_data_point_of_a_batch_may_have_its_own_q():
    mu, log_sigma = torch.randn(4, 2, generator=generator(1)).double(), torch.randn(4, 2, generator=generator(2)).double()
    q, z = Normal(mu, log_sigma), Normal(mu, log_sigma).sample(generator(3), shape=(5,))
    for name, estimator in {**BY_SCORE, **BY_PATH}.items():
        together = estimator(q, QUARTIC, z)
        for i in range(4):
            alone = estimator(Normal(mu[i], log_sigma[i]), QUARTIC, z[:, i])
            assert torch.allclose(together.value[:, i], alone.value), name
            assert torch.allclose(together.gradient[:, i], alone.gradient), name


@pytest.mark.parametrize("draws", [1, 2, 7])
def test_along_the_draws_a_mean_has_the_reparameterized_gradient_and_another_bound_that_of_autograd(draws):
    mu, log_sigma = (torch.randn(4, 2, generator=generator(seed)).double().requires_grad_() for seed in (1, 2))
    q = Normal(mu, log_sigma)
    z = q.sample(generator(3), shape=(draws,))

    def log_w(q: Normal, z: Tensor) -> Tensor:
        return QUARTIC(z) - q.log_prob(z)

    ours, expected = along(q, lambda q, z: log_w(q, z).mean(0), z.detach()), reparameterized(q, QUARTIC, z.detach())
    assert torch.allclose(ours.value.mean(0), expected.value.mean(0)) and torch.allclose(ours.gradient, expected.gradient)
    ours = along(q, lambda q, z: log_w(q, z).logsumexp(0), z.detach()).gradient.mean(0)
    by_autograd = torch.autograd.grad(log_w(q, z).logsumexp(0).sum(), [mu, log_sigma])
    assert torch.allclose(ours, torch.stack(by_autograd, -1))


@settings(deadline=None, max_examples=25)
@given(constant=st.floats(-1e3, 1e3), seed=st.integers(0, 100))
def test_a_constant_in_log_p_changes_no_estimate_with_a_baseline_and_shakes_reinforce(constant, seed):
    shifted = Factors(lambda z: QUARTIC.terms(z) + constant / 3, torch.ones(3, 2, dtype=torch.bool))
    whole = Factors(QUARTIC.terms, shifted.touches)
    z = draws_of(GAUSSIAN, 6, seed)
    for name in ("reinforce, leave one out", "reinforce, control variate", "rao-blackwell, leave one out"):
        here, there = (BY_SCORE[name](GAUSSIAN, f, z).gradient.mean(0) for f in (whole, shifted))
        assert torch.allclose(here, there, atol=1e-6, rtol=1e-6)
    moved = reinforce(GAUSSIAN, shifted, z).gradient - reinforce(GAUSSIAN, whole, z).gradient
    assert torch.allclose(moved, constant * score(GAUSSIAN, z), atol=1e-8)


# Control variates


@pytest.mark.equation("eq-gradients-coefficient", oracle="another library: numpy's regression")
def test_the_fitted_coefficient_is_the_slope_of_the_gradient_on_the_control_variate():
    z = draws_of(GAUSSIAN, 200)
    g, h = reinforce(GAUSSIAN, QUARTIC, z).gradient, score(GAUSSIAN, z)
    ours = fitted_coefficient(g, h)
    for i, j in product(range(2), range(2)):
        assert ours[i, j].item() == pytest.approx(np.polyfit(h[:, i, j], g[:, i, j], 1)[0])
        kept = (g - ours * h)[:, i, j].var() / g[:, i, j].var()
        assert kept.item() == pytest.approx(1 - np.corrcoef(g[:, i, j], h[:, i, j])[0, 1] ** 2)
        for other in (0.9, 1.1):
            assert (g - other * ours * h)[:, i, j].var() > (g - ours * h)[:, i, j].var()


@pytest.mark.equation("eq-gradients-control-variate", oracle="enumeration")
def test_a_coefficient_fitted_to_the_draws_that_it_corrects_biases_the_estimate_and_a_held_out_one_does_not():
    q, log_joint, elbo, states = DISCRETE["coins"]
    right = finite_differences(elbo, parameters(q).numpy())

    def same_draws(q, log_joint, z):
        f, g = reinforce(q, log_joint, z)
        h = score(q, z)
        return Estimate(f, g - fitted_coefficient(g, h) * h)

    means = [mean_over_discrete_draws(same_draws, q, log_joint, states, draws).numpy() for draws in (2, 3, 4, 5)]
    bias = [np.abs(mean - right).max() for mean in means]
    assert bias[0] > 0.05 and bias[-1] > 0.005
    assert np.allclose(mean_over_discrete_draws(reinforce_control_variate, q, log_joint, states, 5), right, atol=1e-9)


def test_each_half_is_corrected_by_the_other_halfs_coefficient():
    g, h = torch.randn(7, 2, generator=generator(1)), torch.randn(7, 2, generator=generator(2))
    g, h = g.double().numpy(), h.double().numpy()
    slopes = [[np.polyfit(h[rows, i], g[rows, i], 1)[0] for i in (0, 1)] for rows in (range(3), range(3, 7))]
    by_hand = np.concatenate([g[:3] - np.array(slopes[1]) * h[:3], g[3:] - np.array(slopes[0]) * h[3:]])
    assert np.allclose(cross_fitted(torch.from_numpy(g), torch.from_numpy(h)), by_hand)


def test_a_control_variate_that_does_not_vary_has_coefficient_zero():
    assert torch.equal(fitted_coefficient(torch.randn(5, 2, generator=generator()), torch.ones(5, 2)), torch.zeros(2))


# The smallest case, a coin, and other variances in closed form


@pytest.mark.equation("eq-gradients-coin", oracle="finite differences")
@pytest.mark.equation("eq-gradients-coin-variance", oracle="enumeration")
@pytest.mark.parametrize("baseline", [0.0, 2.0, -7.0, None])
def test_a_coin_weighed_by_its_score_has_the_derivative_as_mean_and_no_variance_at_the_best_baseline(baseline):
    logit, tails, heads = 0.8, 1.3, -2.4
    p = special.expit(logit)
    best = (1 - p) * heads + p * tails
    b = best if baseline is None else baseline
    right = finite_differences(lambda x: (special.expit(x) * heads + (1 - special.expit(x)) * tails).item(), np.array([logit]))
    assert p * (1 - p) * (heads - tails) == pytest.approx(right[0], abs=1e-9)
    toss = weighted_score(Bernoulli(double(logit)), double([tails - b], [heads - b]), double([0.0], [1.0]))[:, 0, 0].numpy()
    mean = (1 - p) * toss[0] + p * toss[1]
    variance = (1 - p) * (toss[0] - mean) ** 2 + p * (toss[1] - mean) ** 2
    assert mean == pytest.approx(right[0], abs=1e-9)
    assert variance == pytest.approx(p * (1 - p) * (best - b) ** 2, abs=1e-12)


def both_variances_in_mu(f, mu: float, nodes_and_weights) -> tuple[float, float]:
    """Of value times score and of the slope, for z ~ N(mu, 1), summed over standard normal nodes."""
    eps, weights = nodes_and_weights
    q, z = Normal(double(mu), double(0.0)), mu + torch.from_numpy(eps)[:, None]
    value, by_path = path(q, f, z)
    each = weighted_score(q, value[:, None], z)[:, 0, 0].numpy(), by_path[:, 0, 0].numpy()
    return tuple(weights @ g**2 - (weights @ g) ** 2 for g in each)


@pytest.mark.equation("eq-gradients-square", oracle="quadrature")
@pytest.mark.parametrize("mu", [0.0, 1.5, -10.0])
def test_on_a_parabola_the_scores_variance_grows_as_the_fourth_power_and_the_slopes_does_not(mu):
    eps, weights = np.polynomial.hermite_e.hermegauss(8)
    by_score, by_path = both_variances_in_mu(lambda z: z[..., 0] ** 2, mu, (eps, weights / weights.sum()))
    assert by_score == pytest.approx(mu**4 + 14 * mu**2 + 15, rel=1e-9)
    assert by_path == pytest.approx(4, rel=1e-9)


@pytest.mark.equation("eq-gradients-sine", oracle="quadrature")
@pytest.mark.parametrize("omega", [0.25, 1.0, 1.4, 3.0, 10.0])
def test_on_a_sine_the_scores_variance_is_bounded_and_the_paths_grows_as_the_frequency_squared(omega):
    eps = np.linspace(-12, 12, 40_001)
    weights = stats.norm.pdf(eps) * (eps[1] - eps[0])
    by_score, by_path = both_variances_in_mu(lambda z: torch.sin(omega * z[..., 0]), 0.0, (eps, weights))
    once, twice = np.exp(-(omega**2)), np.exp(-2 * omega**2)
    assert by_score == pytest.approx(0.5 - 0.5 * (1 - 4 * omega**2) * twice - omega**2 * once, abs=1e-9)
    assert by_path == pytest.approx(0.5 * omega**2 * (1 + twice) - omega**2 * once, abs=1e-8)


@pytest.mark.equation("eq-gradients-left-out", oracle="enumeration")
def test_what_rao_blackwellization_leaves_out_may_have_canceled_what_it_keeps():
    states = DISCRETE["coins"][3]
    changes = []
    # the second model is q itself, term by term, and a constant: log p - log q does not vary, and its parts do
    p = special.expit([0.3, -0.8, 1.1])
    own = Factors(lambda z: torch.where(z == 1, *map(torch.from_numpy, (np.log(p), np.log(1 - p)))) + 2, torch.eye(3) > 0)
    for log_joint in (THREE_COINS, own, Factors(lambda z: own.terms(z) - double(6.0, 0.0, 0.0), own.touches)):
        weights = COINS.log_prob(states).exp()[:, None]
        f, whole = reinforce(COINS, log_joint, states)
        kept, s = rao_blackwell(COINS, log_joint, states).gradient[..., 0], score(COINS, states)[..., 0]

        def variance(g: Tensor) -> Tensor:
            return (weights * g**2).sum(0) - (weights * g).sum(0) ** 2  # noqa: B023

        log_q_i = torch.where(states == 1, torch.from_numpy(np.log(p)), torch.from_numpy(np.log(1 - p)))
        f_i = log_joint.terms(states) @ log_joint.touches.double() - log_q_i
        r_i = f[:, None] - f_i
        difference = variance(whole[..., 0]) - variance(kept)
        assert torch.allclose(difference, (weights * r_i * (2 * f_i + r_i) * s**2).sum(0), atol=1e-10)
        changes.append(difference)
    assert (changes[0] > 0).any() and (changes[1] > 0).all()
    assert (changes[2] < 0).all(), "f is zero in all states, and no part of it is"


@pytest.mark.equation("eq-gradients-own-baseline", oracle="enumeration")
@pytest.mark.parametrize("draws", [2, 3, 5])
def test_a_baseline_that_contains_the_draw_itself_takes_a_share_of_the_gradient(draws):
    q, log_joint, elbo, states = DISCRETE["coins"]

    def biased(q, log_joint, z):
        f, _ = reinforce(q, log_joint, z)
        return Estimate(f, weighted_score(q, (f - f.mean(0))[..., None], z))

    mean = mean_over_discrete_draws(biased, q, log_joint, states, draws)
    assert np.allclose(mean, (1 - 1 / draws) * finite_differences(elbo, parameters(q).numpy()), atol=1e-9)


# What the variances are


def test_without_noise_left_at_the_posterior_only_the_path_estimator_stands_still():
    exact_model, x = ConjugateGaussian(0.5), double(1.2, -0.7)
    q = exact_model.posterior(x)

    def log_joint(z: Tensor) -> Tensor:
        return exact_model.likelihood(z).log_prob(x) + Normal(torch.zeros_like(z), torch.zeros_like(z)).log_prob(z)

    z = draws_of(q, 1000)
    assert torch.allclose(path_only(q, log_joint, z).gradient, double(0.0), atol=1e-12)
    # there the total derivative is minus the score, of variance 1 / sigma^2 and 2
    variance, sigma2 = reparameterized(q, log_joint, z).gradient.var(0), 0.5 / 1.5
    assert torch.allclose(variance, double(1 / sigma2, 2.0).expand(2, 2), rtol=0.15)
    assert torch.allclose(reinforce(q, log_joint, z).value, exact_model.evidence(x).expand(1000))


def independent(x: Tensor, c: float = 1.0) -> Factors:
    """One pixel a latent: log p(x, z) has as many terms as latents, and each touches one."""

    def terms(z: Tensor) -> Tensor:
        likelihood = ConjugateGaussian(c).likelihood(z[..., None]).log_prob(x[:, None])
        return likelihood + Normal(torch.zeros_like(z)[..., None], torch.zeros_like(z)[..., None]).log_prob(z[..., None])

    return Factors(terms, torch.eye(len(x), dtype=torch.bool))


@pytest.mark.parametrize("draws", [1, 6])
def test_the_measured_variance_is_the_exact_one_of_a_conjugate_gaussian(draws):
    # q = N(0, 1), c = 1: f(z) = -(x - z)^2 / 2 + const, slope x - z - z, and a total gradient of (x - 2 z, (x - 2 z) z + 1)
    x = double(1.0, -2.0)
    q = Normal(torch.zeros_like(x), torch.zeros_like(x))
    eps, weights = np.polynomial.hermite_e.hermegauss(10)
    weights = weights / weights.sum()

    def variance(values: np.ndarray) -> np.ndarray:
        return weights @ values**2 - (weights @ values) ** 2

    by_path, by_score = np.empty((2, 2)), np.empty((2, 2))
    for i, x_i in enumerate((1.0, -2.0)):
        f = stats.norm.logpdf(x_i, eps, 1)  # log p(x, z) - log q(z): prior and q are equal
        by_path[i] = variance(x_i - 2 * eps), variance((x_i - 2 * eps) * eps)
        by_score[i] = variance(f * eps), variance(f * (eps**2 - 1))
    measured = partial(variance_per_draw, q=q, log_joint=independent(x), draws=draws, repeats=20_000, generator=generator(1))
    assert np.allclose(measured(reparameterized), by_path, rtol=0.1)
    assert np.allclose(measured(rao_blackwell), by_score, rtol=0.15)


@pytest.fixture(scope="module")
def regression() -> Factors:
    x = torch.randn(100, 10, generator=generator(1), dtype=torch.float64)
    weights = torch.randn(10, generator=generator(2), dtype=torch.float64)
    return logistic_regression(x, Bernoulli(x @ weights).sample(generator(3)))


def totals(q, log_joint, names, draws: int = 10, repeats: int = 1000) -> dict[str, float]:
    every = {**BY_SCORE, **BY_PATH}
    measured = {n: variance_per_draw(every[n], q, log_joint, draws, generator(4), repeats=repeats).sum().item() for n in names}
    return measured


def test_rao_blackwellization_helps_where_latents_are_independent_and_hardly_where_the_likelihood_couples_them(regression):
    names = "reinforce", "rao-blackwell", "rao-blackwell, control variate", "reparameterized"
    q = Normal(torch.zeros(100, dtype=torch.float64), torch.zeros(100, dtype=torch.float64))
    apart = totals(q, independent(torch.randn(100, generator=generator(5), dtype=torch.float64)), names, draws=30, repeats=300)
    assert apart["reinforce"] / apart["rao-blackwell"] > 500
    assert apart["rao-blackwell"] > apart["rao-blackwell, control variate"]
    q = Normal(torch.zeros(10, dtype=torch.float64), torch.full((10,), -0.5, dtype=torch.float64))
    coupled = totals(q, regression, names, draws=30)
    assert 1 < coupled["reinforce"] / coupled["rao-blackwell"] < 1.5
    assert coupled["rao-blackwell"] > 10 * coupled["rao-blackwell, control variate"] > 50 * coupled["reparameterized"]


def test_a_coefficient_fitted_to_two_draws_does_more_harm_than_good_and_one_fitted_to_ten_helps(regression):
    q = Normal(torch.zeros(10, dtype=torch.float64), torch.full((10,), -0.5, dtype=torch.float64))
    few, more = (totals(q, regression, ["reinforce", "reinforce, control variate"], draws) for draws in (4, 20))
    assert few["reinforce, control variate"] > 10 * few["reinforce"]
    assert more["reinforce, control variate"] < 0.2 * more["reinforce"]


def test_on_sin_10z_reparameterization_varies_a_hundred_times_more():
    # E cos(20 z) and its like are below e^-200: the variances in mu are E[z^2] / 2 = 1/2 and 100 / 2 = 50
    q = Normal(double(0.0), double(0.0))
    z = torch.linspace(-12, 12, 40_001, dtype=torch.float64)[:, None]
    weights = torch.from_numpy(stats.norm.pdf(z[:, 0])) * (z[1, 0] - z[0, 0])

    def f(z: Tensor) -> Tensor:
        return torch.sin(10 * z[..., 0])

    def in_mu(gradient: Tensor) -> tuple[float, float]:
        mean = (weights * gradient[:, 0, 0]).sum()
        return mean.item(), (weights * (gradient[:, 0, 0] - mean) ** 2).sum().item()

    by_score, by_path = in_mu(weighted_score(q, f(z)[:, None], z)), in_mu(path(q, f, z)[1])
    assert by_score == pytest.approx((10 * np.exp(-50), 0.5), abs=1e-9)
    assert by_path == pytest.approx((10 * np.exp(-50), 50.0), abs=1e-7)


# Errata: where the sources err, and where a rule ends


def test_the_printed_reparameterization_estimator_that_keeps_the_score_function_form_is_wrong():
    """grad_lambda log q(g(eps, lambda); lambda) * (log p - log q): log q at a reparameterized draw does not depend on mu."""
    eps, weights = nodes(8)
    value = torch.from_numpy(LAMBDA).clone().requires_grad_()
    q = Normal(value[:, 0], value[:, 1])
    z = q.mu + q.log_sigma.exp() * torch.from_numpy(eps)
    log_q_of_path = q.log_prob(z)
    f = (QUARTIC(z) - log_q_of_path).detach()
    (printed,) = torch.autograd.grad((torch.from_numpy(weights) * f * log_q_of_path).sum(), value)
    right = finite_differences(quartic_elbo, LAMBDA)
    assert np.allclose(printed[:, 0], 0, atol=1e-10)  # it never moves a mean
    assert np.allclose(printed[:, 1], -quartic_elbo(LAMBDA), atol=1e-10)  # and reads -ELBO for every log sigma
    assert np.abs(printed.numpy() - right).max() > 0.5
    assert np.allclose(mean_over_gaussian_draws(reparameterized, GAUSSIAN, QUARTIC, 1, 8).gradient, right, atol=1e-8)
    # its other reading, z held still in log q, is right, but it is REINFORCE, draw by draw
    value = torch.from_numpy(LAMBDA).clone().requires_grad_()
    log_q_of_still = Normal(value[:, 0], value[:, 1]).log_prob(z.detach())
    (other,) = torch.autograd.grad((torch.from_numpy(weights) * f * log_q_of_still).sum(), value)
    by_score = torch.from_numpy(weights)[:, None, None] * reinforce(GAUSSIAN, QUARTIC, z.detach()).gradient
    assert np.allclose(other, by_score.sum(0), atol=1e-10) and np.allclose(other, right, atol=1e-8)


def test_dropping_the_score_is_wrong_for_another_integrand_than_log_p_less_log_q():
    """E_q[w^2], w = p / q: with q's own lambda held still in w, its gradient has the wrong mean."""
    eps, weights = np.polynomial.hermite_e.hermegauss(60)
    z, w = torch.from_numpy(0.3 + 0.8 * eps)[:, None], torch.from_numpy(weights / weights.sum())
    q = Normal(double(0.3), double(log(0.8)))

    def log_p(z: Tensor) -> Tensor:
        return -(z[..., 0] ** 2) / 0.8  # narrower than sqrt(2) sigma, so that the moment is finite

    def moment(value: np.ndarray) -> float:
        there = value[0, 0] + np.exp(value[0, 1]) * eps
        ratio = np.exp(-(there**2) / 0.8 - stats.norm.logpdf(there, value[0, 0], np.exp(value[0, 1])))
        return (weights / weights.sum()) @ ratio**2

    def squared_weight(z: Tensor) -> Tensor:
        return (2 * (log_p(z) - q.log_prob(z))).exp()

    right = finite_differences(moment, np.array([[0.3, log(0.8)]]))[0]
    value, gradient = path(q, squared_weight, z)
    dropped = (w[:, None] * gradient[:, 0]).sum(0).numpy()
    explicit = (w[:, None] * (-2 * value[:, None] * score(q, z)[:, 0])).sum(0).numpy()
    assert np.allclose(dropped + explicit, right, atol=1e-6)
    assert np.abs(dropped - right).max() > 0.5
    with_log = (w[:, None] * path_only(q, log_p, z).gradient[:, 0]).sum(0)
    assert np.allclose(with_log, [-2 * 0.3 / 0.8, 1 - 2 * 0.64 / 0.8], atol=1e-10)  # of E[-z^2 / 0.8] + entropy


# Ascent


@pytest.mark.parametrize("estimator", [*BY_SCORE.values(), *BY_PATH.values()], ids=[*BY_SCORE, *BY_PATH])
def test_the_surrogate_has_the_elbos_value_and_carries_the_estimated_gradient_to_the_encoder(estimator):
    encoder, x = nn.Linear(3, 4).double(), torch.randn(5, 3, generator=generator(1), dtype=torch.float64)
    nn.init.normal_(encoder.weight, generator=generator(2))
    q = Normal(*encoder(x).chunk(2, -1))
    estimate = estimator(q, QUARTIC, q.sample(generator(3), shape=(6,)).detach())
    bound = surrogate(q, estimate)
    assert torch.allclose(bound, estimate.value.mean(0))
    (ours,) = torch.autograd.grad(bound.sum(), encoder.weight)
    g = estimate.gradient.mean(
        0
    )  # (batch, latents, parameters); the encoder's outputs are mu_1, mu_2, log sigma_1, log sigma_2
    assert torch.allclose(ours, torch.cat([g[..., 0], g[..., 1]], -1).T @ x)


def sgd(lr: float):
    return partial(torch.optim.SGD, lr=lr)


@pytest.mark.parametrize("name", [*BY_SCORE, *BY_PATH])
@pytest.mark.slow
def test_ascent_finds_the_posterior(name):
    x = double(1.2, -0.7, 0.4)
    model = BlackBoxVI(
        Normal(torch.zeros_like(x), torch.zeros_like(x)),
        lambda batch: independent(batch[0], 0.5),
        {**BY_SCORE, **BY_PATH}[name],
        20,
    )
    optimizer = partial(torch.optim.Adam, lr=0.02)
    training.fit(model, x[None], steps=400, batch_size=1, optimizer=optimizer, progress=False, device="cpu")
    posterior = ConjugateGaussian(0.5).posterior(x)
    with torch.no_grad():
        assert model.q.kl(posterior).item() < 0.06
    assert model.q.kl(posterior).item() < 0.1 * Normal(torch.zeros_like(x), torch.zeros_like(x)).kl(posterior).item()


def test_ascent_climbs_the_elbo_of_discrete_latents():
    start = exact(COINS, THREE_COINS).value.item()
    evidence = DISCRETE["coins"][3]
    model = BlackBoxVI(COINS, lambda batch: THREE_COINS, rao_blackwell_leave_one_out, 10)
    training.fit(model, torch.zeros(1, 1), steps=300, batch_size=1, optimizer=sgd(0.3), progress=False, device="cpu")
    reached = exact(model.q, THREE_COINS).value.item()
    best = max(THREE_COINS(evidence)).item()
    assert start + 0.3 < reached <= THREE_COINS(evidence).logsumexp(0).item() and reached > best


def test_a_logistic_regression_is_its_likelihood_and_its_prior():
    x, y = np.random.default_rng(0).normal(size=(7, 2)), np.array([0.0, 1, 1, 0, 1, 0, 0])
    factors, z = logistic_regression(torch.from_numpy(x), torch.from_numpy(y)), np.random.default_rng(1).normal(size=(4, 2))
    p = special.expit(z @ x.T)
    exact_value = np.log(np.where(y == 1, p, 1 - p)).sum(1) + stats.norm.logpdf(z).sum(1)
    assert np.allclose(factors(torch.from_numpy(z)), exact_value)
    assert factors.touches.tolist() == [[True, True], [True, False], [False, True]]


def test_batches_that_stand_for_the_whole_population_are_right_on_average():
    x, y = torch.randn(6, 2, generator=generator(1)), (torch.arange(6) % 2).float()
    z = torch.randn(3, 2, generator=generator(2))
    parts = [logistic_regression(x[i : i + 2], y[i : i + 2], population=6)(z) for i in (0, 2, 4)]
    assert torch.allclose(torch.stack(parts).mean(0), logistic_regression(x, y)(z), atol=1e-5)


# What is refused


def test_what_an_estimator_cannot_do_is_said(no_shape_checks):
    z = draws_of(COINS, 3)
    for estimator in (reparameterized, path_only):
        with pytest.raises(TypeError, match="draws of a Bernoulli do not move with its parameters: use reinforce"):
            estimator(COINS, THREE_COINS, z)
    with pytest.raises(TypeError, match="needs to know which term touches which latent"):
        rao_blackwell(COINS, THREE_COINS.__call__, z)
    with pytest.raises(ValueError, match="needs at least 2 draws, one of them the others' baseline; got 1"):
        reinforce_leave_one_out(COINS, THREE_COINS, z[:1])
    with pytest.raises(ValueError, match="needs at least 4 draws, two in each half; got 3"):
        reinforce_control_variate(COINS, THREE_COINS, z)
    with pytest.raises(ValueError, match="needs at least 2 draws, for a covariance; got 1"):
        fitted_coefficient(torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="without detach"):
        reparameterized(GAUSSIAN, lambda z: QUARTIC(z.detach()), draws_of(GAUSSIAN, 3))


@pytest.mark.parametrize("estimator", [reinforce, reinforce_leave_one_out, reparameterized, path_only])
def test_a_log_joint_that_is_not_one_number_a_draw_is_refused(estimator, no_shape_checks):
    with pytest.raises(ValueError, match=r"one number a draw, shape \(3,\); got \(\)\. Sum over latents and data"):
        estimator(GAUSSIAN, lambda z: QUARTIC(z).mean(), draws_of(GAUSSIAN, 3))


def test_terms_and_the_latents_that_they_touch_must_agree(no_shape_checks):
    short = Factors(THREE_COINS.terms, THREE_COINS.touches[:2])
    with pytest.raises(ValueError, match=r"touches of shape \(2, 3\) is for terms \(4, 2\) of 3 latents; got terms \(4, 3\)"):
        rao_blackwell(COINS, short, draws_of(COINS, 4))


def test_numbers_and_qs_out_of_range_are_refused(no_shape_checks):
    with pytest.raises(ValueError, match="draws >= 1 and repeats >= 2, got 0 and 1000"):
        variance_per_draw(reinforce, COINS, THREE_COINS, 0)
    with pytest.raises(ValueError, match="draws a step, must be at least 1, got 0"):
        BlackBoxVI(COINS, lambda batch: THREE_COINS, reinforce, 0)
    with pytest.raises(ValueError, match="finite parameters"):
        BlackBoxVI(Bernoulli(double(float("nan"))), lambda batch: THREE_COINS, reinforce)
    with pytest.raises(ValueError, match=r"over \(latents,\), .* shape \(2, 3, 1\)"):
        BlackBoxVI(Bernoulli(torch.zeros(2, 3)), lambda batch: THREE_COINS, reinforce)
    with pytest.raises(TypeError, match="q must be a Normal, a Bernoulli or a Categorical, got str"):
        parameters("normal")
    with pytest.raises(TypeError, match="no states to sum over"):
        exact(GAUSSIAN, QUARTIC)
    with pytest.raises(ValueError, match="20 latents of 2 values have more than 65536 states: use an estimator"):
        exact(Bernoulli(torch.zeros(20)), THREE_COINS)
    with pytest.raises(ValueError, match="one q at a time"):
        exact(Bernoulli(torch.zeros(2, 3)), THREE_COINS)
    for x, y in ((torch.zeros(0, 2), torch.zeros(0)), (torch.zeros(3, 2), torch.zeros(2)), (torch.zeros(3), torch.zeros(3))):
        with pytest.raises(ValueError, match="one label each, at least one"):
            logistic_regression(x, y)


@pytest.mark.parametrize("q", [GAUSSIAN, COINS, CHOICES])
def test_parameters_make_the_q_that_they_came_from(q):
    again = with_parameters(type(q), parameters(q))
    assert type(again) is type(q) and torch.equal(parameters(again), parameters(q))


# Randomness and devices


def test_what_is_drawn_depends_on_the_generator_alone():
    state = torch.random.get_rng_state()
    first, again, other = (variance_per_draw(reinforce, COINS, THREE_COINS, 2, generator(s), repeats=10) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    model = BlackBoxVI(COINS, lambda batch: THREE_COINS, reinforce)
    first, again, other = (model.loss(torch.zeros(1, 1), generator(s))["loss"] for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


class NoReads(TorchDispatchMode):
    """Fails where a number is brought from the device to the host: item(), float(), bool()."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "a step waited for the device"
        return func(*args, **(kwargs or {}))


EACH = [
    *[(GAUSSIAN, QUARTIC, estimator) for estimator in (*BY_SCORE.values(), *BY_PATH.values())],
    *[(q, log_joint, estimator) for q, log_joint, *_ in DISCRETE.values() for estimator in BY_SCORE.values()],
]


@pytest.mark.parametrize("q, log_joint, estimator", EACH)
def test_a_step_reads_nothing_from_the_device(q, log_joint, estimator):
    model = BlackBoxVI(q, lambda batch: log_joint, estimator)
    with NoReads():
        model.loss(torch.zeros(1, 1), generator())["loss"].backward()
    assert model.value.grad.isfinite().all()


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("estimator", [*BY_SCORE.values(), *BY_PATH.values()], ids=[*BY_SCORE, *BY_PATH])
def test_a_step_on_a_gpu_is_that_of_the_cpu_and_copies_nothing_to_the_host(estimator):
    x, y = torch.randn(20, 3, generator=generator(1)), (torch.arange(20) % 2).float()

    def model() -> BlackBoxVI:
        return BlackBoxVI(Normal(torch.zeros(3), torch.zeros(3)), lambda batch: logistic_regression(*batch), estimator)

    here, there = model(), model().cuda()
    here.loss((x, y), generator(2))["loss"].backward()
    there.loss((x.cuda(), y.cuda()), generator(2))["loss"].backward()
    assert torch.allclose(there.value.grad.cpu(), here.value.grad, rtol=1e-3, atol=1e-3)
    x, y, noise = x.cuda(), y.cuda(), torch.Generator("cuda").manual_seed(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        there.loss((x, y), noise)["loss"].backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_baseline_is_the_mean_of_the_others():
    signal = double([1.0, 5.0], [2.0, 5.0], [6.0, 5.0])
    assert torch.allclose(above_others(signal), double([1 - 4.0, 0], [2 - 3.5, 0], [6 - 1.5, 0]))


def test_the_mean_of_a_log_weight_is_the_elbo():
    draws = draws_of(GAUSSIAN, 40_000)
    f = reinforce(GAUSSIAN, QUARTIC, draws).value
    assert abs(f.mean().item() - quartic_elbo(LAMBDA)) < 3.9 * f.std().item() / sqrt(40_000)


# What is refused


def test_a_gradient_has_to_reach_the_draws_not_the_model_s_own_parameters_alone():
    """As in a VAE that decodes z.detach(): log p has a gradient, in the decoder's weights."""
    decoder, q = nn.Linear(2, 3), Normal(torch.zeros(2), torch.zeros(2))
    z = q.sample(generator(), shape=(5,))

    def log_joint(z: Tensor) -> Tensor:
        return -(decoder(z) ** 2).sum(-1) + Normal.standard(z).log_prob(z)

    for estimator in (reparameterized, path_only):
        estimator(q, log_joint, z)
        with pytest.raises(ValueError, match=r"no gradient of log p.* reaches z"):
            estimator(q, lambda z: log_joint(z.detach()), z)
    with pytest.raises(ValueError, match="reaches z"):
        path(q, lambda z: log_joint(z.detach()), z)
    with torch.no_grad():
        reparameterized(q, log_joint, z)


def test_a_batch_larger_than_its_population_and_labels_of_minus_one_are_refused():
    x = torch.randn(4, 2, generator=generator())
    with pytest.raises(ValueError, match="4 points stand for 3"):
        logistic_regression(x, torch.ones(4), population=3)
    with pytest.raises(ValueError, match="4 points stand for 0"):
        logistic_regression(x, torch.ones(4), population=0)
    with pytest.raises(ValueError, match=r"values from -1 to 1"):
        logistic_regression(x, torch.tensor([1.0, -1.0, 1.0, 1.0]))


def test_no_draws_are_an_error():
    q = Bernoulli(torch.zeros(2))
    with pytest.raises(ValueError, match="at least 1 draw"):
        reinforce(q, lambda z: z.sum(-1), torch.zeros(0, 2))


def test_the_exact_elbo_leaves_out_what_q_excludes():
    """Two of three classes, each as likely, log p = 0: the entropy, log 2, at its maximum."""
    q = Categorical(torch.tensor([[0.0, 0.0, -torch.inf]], dtype=torch.float64))
    value, gradient = exact(q, lambda z: 0.0 * z.double().sum(-1))
    assert value.item() == pytest.approx(log(2)) and torch.allclose(gradient, torch.zeros(1, 3).double(), atol=1e-12)


@pytest.mark.parametrize("draws, exists", [(4, False), (5, False), (6, True)])
def test_with_halves_of_two_draws_the_control_variate_of_log_sigma_has_no_mean(draws, exists):
    """The slope through two draws is (g_1 - g_2) / (h_1 - h_2), h = eps^2 - 1: near h_1 = h_2 its tail is like Cauchy's.

    A mean of |a*| that exists settles; here it grows with the number of halves, as the logarithm does.
    """
    half = draws // 2
    eps = torch.randn(400_000, half, generator=generator(), dtype=torch.float64).T
    g, h = eps * (eps**2 - 1), eps**2 - 1  # f = z, in log sigma
    size = fitted_coefficient(g, h).abs().clamp(max=1e12)
    tail = [(size > at).double().mean().item() for at in (10.0, 100.0)]
    assert (tail[1] < 0.03 * tail[0]) == exists  # a tenth for each factor of ten: no mean; a hundredth: there is one
