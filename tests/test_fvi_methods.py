"""f-CAVI, minibatches, tail-adaptive weights, the alpha-beta divergence, and closed forms: against numeric minimization,
enumeration and quadrature."""

from functools import partial
from itertools import combinations, pairwise
from math import exp, inf, log, nan, sqrt

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats
from torch import Tensor

from helpers import double, generator
from vaecourse import fvi, gradients, importance
from vaecourse.distributions import Normal
from vaecourse.exact_models import BimodalMixture, TiltedGaussian

# f-CAVI on tables


def table(seed: int, shape: tuple[int, ...] = (3, 4), spread: float = 1.0) -> Tensor:
    """log p(x, z) over a few values of z, of a p(x) that is not 1."""
    return spread * torch.randn(shape, generator=generator(seed), dtype=torch.float64) - 3.0


F_CAVI = {
    "exclusive KL": fvi.exclusive_kl,
    "chi-square": fvi.chi_square,
    "chi-square dual": fvi.chi_square.dual,
    "Hellinger": fvi.hellinger,
    "power 0.3": fvi.power(0.3),
    "inclusive KL": fvi.inclusive_kl,
}
EACH_F = pytest.mark.parametrize("f", F_CAVI.values(), ids=F_CAVI)


def outer(factors: list[np.ndarray]) -> np.ndarray:
    joint = factors[0]
    for q in factors[1:]:
        joint = joint[..., None] * q
    return joint


def by_sums(f: fvi.Divergence, q: np.ndarray, p: np.ndarray) -> float:
    """D_f(q || p), from textbook sums."""
    if f.name == "exclusive KL":
        return special.rel_entr(q, p).sum()
    if f.name == "inclusive KL":
        return special.rel_entr(p, q).sum()
    power = (q**f.alpha * p ** (1 - f.alpha)).sum()
    return {"chi-square": power - 1, "chi-square dual": power - 1, "Hellinger": 2 - 2 * power}.get(
        f.name, (power - 1) / (f.alpha * (f.alpha - 1))
    )


def minimized(f: fvi.Divergence, log_joint: np.ndarray, start: list[np.ndarray]) -> tuple[list[np.ndarray], float]:
    """The best factors by a general-purpose minimizer over logits."""
    p = special.softmax(log_joint)
    cuts = np.cumsum([len(q) for q in start])[:-1]

    def factors(logits):
        return [special.softmax(part) for part in np.split(logits, cuts)]

    found = optimize.minimize(
        lambda logits: by_sums(f, outer(factors(logits)), p), np.log(np.concatenate(start)), options={"gtol": 1e-10}
    )
    return factors(found.x), found.fun


@pytest.mark.equation("eq-fvi-cavi", oracle="numeric search for the minimum")
@EACH_F
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2)])
def test_f_cavi_ends_where_a_numeric_minimization_does(f, shape):
    log_joint = table(1, shape)
    ours = fvi.f_cavi(f, log_joint)
    factors = [log_q.exp().numpy() for log_q in ours.log_factors]
    best, value = minimized(f, log_joint.numpy(), factors)
    assert ours.trace[-1] == pytest.approx(value, abs=1e-9)
    for q, own in zip(best, factors, strict=True):
        assert q == pytest.approx(own, abs=1e-4)


@pytest.mark.equation("eq-fvi-cavi", oracle="numeric search for the minimum")
@EACH_F
def test_one_update_is_the_best_factor_given_the_others(f):
    log_joint, q1 = table(2), np.array([0.5, 0.2, 0.3])
    p = special.softmax(log_joint.numpy())
    log_factors = [torch.from_numpy(np.log(q1)), torch.zeros(4, dtype=torch.float64)]
    ours = fvi.power_mean_update(log_joint, log_factors, 1, 1 - f.alpha).exp().numpy()
    found = optimize.minimize(
        lambda logits: by_sums(f, q1[:, None] * special.softmax(logits), p), np.zeros(4), options={"gtol": 1e-11}
    )
    assert ours == pytest.approx(special.softmax(found.x), abs=1e-5)


@pytest.mark.equation("eq-fvi-cavi-classes", oracle="numeric search for the minimum")
@pytest.mark.parametrize("alpha", [2.0, 0.3, -1.0])
def test_the_update_printed_for_f0_minimizes_the_opposite_direction(alpha):
    log_joint, q1 = table(2), np.array([0.5, 0.2, 0.3])
    p = special.softmax(log_joint.numpy())
    rest = p / q1[:, None]
    printed = (q1[:, None] * rest**alpha).sum(0) ** (1 / alpha)  # f^-1(E f(p / q_-j)), f = t^alpha - 1
    printed /= printed.sum()
    f1_form = (q1[:, None] * rest ** (1 - alpha)).sum(0) ** (1 / (1 - alpha))
    f1_form /= f1_form.sum()

    def best(exponent):
        sign = np.sign(exponent * (exponent - 1))
        found = optimize.minimize(
            lambda logits: sign * ((q1[:, None] * special.softmax(logits)) ** exponent * p ** (1 - exponent)).sum(),
            np.zeros(4),
            options={"gtol": 1e-11},
        )
        return special.softmax(found.x)

    assert printed == pytest.approx(best(1 - alpha), abs=1e-5), "the minimizer for the dual generator"
    assert np.abs(printed - best(alpha)).max() > 0.01, "and not for f"
    assert f1_form == pytest.approx(best(alpha), abs=1e-5)
    log_factors = [torch.from_numpy(np.log(q1)), torch.zeros(4, dtype=torch.float64)]
    for exponent, by_hand in ((alpha, printed), (1 - alpha, f1_form)):
        assert fvi.power_mean_update(log_joint, log_factors, 1, exponent).exp().numpy() == pytest.approx(by_hand, abs=1e-12)


def test_printed_for_minus_log_the_f0_update_is_cavis_and_the_minimizer_is_the_marginal():
    log_joint = table(3)
    p = special.softmax(log_joint.numpy())
    log_factors = [double(0.5, 0.2, 0.3).log(), torch.zeros(4, dtype=torch.float64)]
    ours = fvi.f_cavi(fvi.inclusive_kl, log_joint)
    for axis, log_q in enumerate(ours.log_factors):
        assert log_q.exp().numpy() == pytest.approx(p.sum(1 - axis), abs=1e-12)
    printed = np.exp(np.array([0.5, 0.2, 0.3]) @ np.log(p))  # f^-1(E f(...)) with f = -log: the geometric mean
    printed /= printed.sum()
    assert fvi.power_mean_update(log_joint, log_factors, 1, 0.0).exp().numpy() == pytest.approx(printed, abs=1e-12)
    assert np.abs(printed - p.sum(0)).max() > 0.02


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(list(F_CAVI)), st.integers(0, 10_000), st.sampled_from([0.3, 1.0, 4.0]))
def test_the_divergence_never_rises_from_sweep_to_sweep(name, seed, spread):
    ours = fvi.f_cavi(F_CAVI[name], table(seed, spread=spread), sweeps=30)
    assert (np.diff(ours.trace) <= 1e-10 * (1 + np.abs(ours.trace[:-1]))).all()
    for log_q in ours.log_factors:
        assert log_q.exp().sum().item() == pytest.approx(1)


def test_f_cavi_ends_with_the_first_sweep_that_gains_no_more_than_its_tolerance():
    log_joint, q = table(5, spread=2.0), [np.array([0.1, 0.2, 0.7]), np.array([0.1, 0.2, 0.3, 0.4])]
    start, p = [torch.from_numpy(np.log(factor)) for factor in q], special.softmax(log_joint.numpy())
    values = [special.rel_entr(outer(q), p).sum()]
    for _ in range(4):  # CAVI by hand
        q[0] = special.softmax(np.log(p) @ q[1])
        q[1] = special.softmax(q[0] @ np.log(p))
        values.append(special.rel_entr(outer(q), p).sum())
    relative = [(before - after) / (1 + after) for before, after in pairwise(values)]
    assert relative[0] > relative[1] > relative[2] > 1e-6 and values[2] > 0.1
    for sweeps in (1, 2, 3):
        for near, expected in ((1.0001, sweeps), (0.9999, sweeps + 1)):
            found = fvi.f_cavi(fvi.exclusive_kl, log_joint, start, tolerance=near * relative[sweeps - 1], sweeps=4)
            assert found.trace == pytest.approx(values[: expected + 1])
    found = fvi.f_cavi(fvi.exclusive_kl, torch.zeros(2, 2, dtype=torch.float64), tolerance=0.0)
    assert found.trace == [0, 0], "a sweep that gains nothing is the last"


def test_f_cavi_seeks_one_of_two_modes_or_covers_both_and_where_it_ends_depends_on_its_start():
    p = double(0.48, 0.02, 0.02, 0.48).reshape(2, 2)
    leaning = [double(0.6, 0.4).log(), double(0.6, 0.4).log()]
    other = [double(0.4, 0.6).log(), double(0.4, 0.6).log()]
    seeking = fvi.f_cavi(fvi.exclusive_kl, p.log(), leaning).log_factors[0].exp()
    assert seeking[0] > 0.9
    assert fvi.f_cavi(fvi.exclusive_kl, p.log(), other).log_factors[0].exp()[0] < 0.1
    assert fvi.f_cavi(fvi.inclusive_kl, p.log(), leaning).log_factors[0].exp().numpy() == pytest.approx([0.5, 0.5])


@pytest.mark.equation("eq-fvi-tilted-variance", oracle="numeric search by f-CAVI on a grid")
@pytest.mark.parametrize("alpha", [2.0, 0.5, 0.2])
def test_f_cavi_on_a_grid_of_the_tilted_gaussian_finds_the_variance_of_the_formula(alpha):
    axis = torch.linspace(-6, 6, 121, dtype=torch.float64)
    log_joint = TiltedGaussian(0.9).log_prob(torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)) - 5
    ours = fvi.f_cavi(fvi.power(alpha), log_joint)
    variance = (ours.log_factors[0].exp() * axis**2).sum().item()
    assert variance == pytest.approx(fvi.mean_field_variance(alpha, 0.9), abs=1e-3)


@pytest.mark.parametrize("f", [fvi.jensen_shannon, fvi.total_variation], ids=lambda f: f.name)
def test_f_cavi_refuses_generators_in_neither_class(f):
    with pytest.raises(ValueError, match=f"{f.name} is in neither class"):
        fvi.f_cavi(f, table(0))


def test_f_cavi_refuses_bad_tables_and_bad_starts():
    with pytest.raises(ValueError, match=r"at least two latents; got \(3,\)"):
        fvi.f_cavi(fvi.exclusive_kl, torch.zeros(3))
    with pytest.raises(ValueError, match="at least two latents"):
        fvi.f_cavi(fvi.exclusive_kl, torch.zeros(0, 3))
    for bad in (nan, -inf):
        with pytest.raises(ValueError, match="log_joint must be finite"):
            fvi.f_cavi(fvi.exclusive_kl, double(0.0, bad).expand(2, 2))
    with pytest.raises(ValueError, match=r"factors of \[3, 4\] values, got \[3, 3\]"):
        fvi.f_cavi(fvi.exclusive_kl, table(0), [torch.zeros(3).double(), torch.zeros(3).double()])
    with pytest.raises(ValueError, match="q's support is too small: factor 1"):
        fvi.f_cavi(fvi.inclusive_kl, table(0), [torch.zeros(3).double(), double(0.5, 0.5, 0, 0).log()])


# Closed forms, and mean field on the tilted Gaussian

PRECISION = TiltedGaussian(0.9).precision


@pytest.mark.equation("eq-fvi-renyi-gaussian", oracle="quadrature on a grid")
@pytest.mark.parametrize("alpha", [2.0, 0.5, -0.6])
def test_renyis_divergence_between_gaussians_is_its_integral(alpha):
    covariance = np.array([[1.0, 0.3], [0.3, 0.7]])
    mean, mu, sigma = np.array([0.2, -0.4]), np.array([0.5, 0.1]), np.array([0.8, 0.75])
    axis = np.linspace(-9, 9, 601)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    log_q = stats.multivariate_normal(mu, np.diag(sigma**2)).logpdf(z)
    log_p = stats.multivariate_normal(mean, covariance).logpdf(z)
    exact = special.logsumexp(alpha * log_q + (1 - alpha) * log_p + 2 * np.log(axis[1] - axis[0])) / (alpha - 1)
    q = Normal(torch.from_numpy(mu), torch.from_numpy(np.log(sigma)))
    ours = fvi.renyi_divergence(q, torch.from_numpy(mean), torch.from_numpy(np.linalg.inv(covariance)), alpha=alpha)
    assert ours.item() == pytest.approx(exact, abs=1e-7)


@pytest.mark.equation("eq-fvi-chi-square-moment", oracle="quadrature")
@pytest.mark.parametrize("variance", [0.55, 0.6, 1.0, 1.5, 4.0])
def test_the_second_moment_of_gaussian_weights_has_a_closed_form_and_an_end(variance):
    p, q = stats.norm(0, 1), stats.norm(0, sqrt(variance))
    exact, _ = integrate.quad(lambda z: exp(2 * p.logpdf(z) - q.logpdf(z)), -60, 60, points=[-5, 0, 5], limit=400)
    assert variance / sqrt(2 * variance - 1) == pytest.approx(exact, rel=1e-8)
    q = Normal(double(0.0), double(log(variance) / 2))
    ours = fvi.renyi_divergence(q, double(0.0), double(1.0).reshape(1, 1), alpha=-1.0)
    assert exp(-2 * ours.item()) == pytest.approx(exact, rel=1e-8)
    narrow = Normal(double(0.0), double(log(0.45) / 2))
    assert fvi.renyi_divergence(narrow, double(0.0), double(1.0).reshape(1, 1), alpha=-1.0).item() == -inf


@pytest.mark.equation("eq-fvi-renyi-gaussian", oracle="closed form: the sum over independent coordinates")
@pytest.mark.parametrize("alpha", [2.0, 0.5, -0.6])
def test_of_many_gaussians_each_has_a_renyi_divergence_of_its_own(alpha):
    mu, mean, sigma = np.linspace(-1, 1, 12).reshape(2, 3, 2), np.array([0.2, -0.4]), np.array([0.9, 0.8])
    own = np.linspace(0.7, 1.0, 12).reshape(2, 3, 2)[::-1]
    mixed = alpha * sigma**2 + (1 - alpha) * own**2
    each = np.log(sigma / own) + np.log(sigma**2 / mixed) / (2 * (alpha - 1)) + alpha * (mu - mean) ** 2 / (2 * mixed)
    q = Normal(torch.from_numpy(mu), torch.from_numpy(np.log(own)))
    ours = fvi.renyi_divergence(q, torch.from_numpy(mean), torch.from_numpy(np.diag(sigma**-2)), alpha=alpha)
    assert ours.numpy() == pytest.approx(each.sum(-1))


def test_renyis_divergence_stays_on_the_device_of_its_q():
    q, mean = Normal(*2 * [torch.zeros(3, 2, device="meta")]), torch.zeros(2, device="meta")
    value = fvi.renyi_divergence(q, mean, torch.eye(2, device="meta"), alpha=2.0)
    assert value.shape == (3,) and value.device == mean.device


def test_renyis_divergence_is_infinite_where_q_is_too_wide_or_too_narrow():
    zero = torch.zeros(2, dtype=torch.float64)
    wide, narrow = Normal(zero, zero + log(2)), Normal(zero, zero - log(4))
    assert fvi.renyi_divergence(wide, zero, PRECISION, alpha=2.0) == inf
    assert fvi.renyi_divergence(narrow, zero, PRECISION, alpha=-1.0) == -inf
    assert fvi.renyi_divergence(narrow, zero, PRECISION, alpha=2.0) < inf
    for alpha in (0.0, 1.0):
        with pytest.raises(ValueError, match="is a limit"):
            fvi.renyi_divergence(wide, zero, PRECISION, alpha=alpha)


def renyi_of_gaussians(variances: np.ndarray, precision: np.ndarray, alpha: float) -> float:
    """D_alpha between centered Gaussians, from the integral of exp(-z' M z / 2) with M = alpha V^-1 + (1 - alpha) Lambda."""
    M = alpha * np.diag(1 / variances) + (1 - alpha) * precision
    if np.linalg.eigvalsh(M).min() <= 0:
        return np.sign(alpha) * inf
    moment = -0.5 * alpha * np.log(variances).sum() + 0.5 * (1 - alpha) * np.linalg.slogdet(precision)[1]
    return (moment - 0.5 * np.linalg.slogdet(M)[1]) / (alpha - 1)


@pytest.mark.equation("eq-fvi-tilted-variance", oracle="numeric search for the minimum of the integral, written out")
@pytest.mark.parametrize("rho", [0.9, -0.5])
@pytest.mark.parametrize("alpha, at_09", [(2.0, 0.1325), (0.5, 0.4359), (0.2, 0.8087), (-1.0, None)])
def test_the_formula_gives_the_variance_that_minimizes_renyis_divergence(alpha, at_09, rho):
    precision = np.linalg.inv(np.array([[1, rho], [rho, 1]]))

    def objective(log_sigma: np.ndarray) -> float:
        value = np.sign(alpha) * renyi_of_gaussians(np.exp(2 * log_sigma), precision, alpha)
        return value if np.isfinite(value) else 1e6

    start = 0.5 * log(fvi.mean_field_variance(alpha, rho)) + np.array([0.05, -0.04])
    best = np.exp(2 * optimize.minimize(objective, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14}).x)
    formula = fvi.mean_field_variance(alpha, rho)
    assert best == pytest.approx([formula, formula], rel=1e-5)
    if at_09 and rho == 0.9:
        assert round(formula, 4) == at_09


@pytest.mark.equation("eq-fvi-tilted-variance", oracle="closed form of the limits")
@pytest.mark.parametrize("rho", [0.9, 0.3, -0.9])
def test_the_variance_has_the_limits_of_both_kls_and_of_infinite_alpha(rho):
    assert fvi.mean_field_variance(1.0, rho) == pytest.approx(1 - rho**2)
    assert fvi.mean_field_variance(0.0, rho) == pytest.approx(1)
    assert fvi.mean_field_variance(inf, rho) == pytest.approx(1 - abs(rho))
    for near, at in ((1 + 1e-9, 1.0), (1 - 1e-9, 1.0), (1e-9, 0.0), (1e7, inf)):
        assert fvi.mean_field_variance(near, rho) == pytest.approx(fvi.mean_field_variance(at, rho), abs=1e-6)
    assert fvi.mean_field_variance(0.5, 0.9) == pytest.approx(sqrt(0.19))


@pytest.mark.equation("eq-fvi-tilted-self-dual", oracle="numeric search for the minimum of sums over a grid")
@pytest.mark.parametrize("f", [fvi.hellinger, fvi.jensen_shannon, fvi.total_variation], ids=lambda f: f.name)
def test_every_divergence_that_is_its_own_dual_finds_the_root_of_one_minus_rho_squared(f):
    axis = np.arange(-5, 5, 0.05)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    p = stats.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]]).pdf(z)
    sums = {
        "Hellinger": lambda q: ((np.sqrt(q) - np.sqrt(p)) ** 2).sum(),
        "Jensen-Shannon": lambda q: (special.rel_entr(q, (p + q) / 2) + special.rel_entr(p, (p + q) / 2)).sum(),
        "total variation": lambda q: np.abs(q - p).sum(),
    }

    def objective(log_sigma: np.ndarray) -> float:
        one, other = (stats.norm(0, sigma).pdf(axis) for sigma in np.exp(log_sigma))
        return sums[f.name](one[:, None] * other)

    best = optimize.minimize(objective, [-0.5, -0.3], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10}).x
    formula = fvi.mean_field_variance(0.5, 0.9)
    assert formula == pytest.approx(sqrt(0.19), abs=1e-12)
    close = {"Hellinger": 1e-4, "Jensen-Shannon": 1e-4, "total variation": 0.01}[f.name]
    assert np.exp(2 * best) == pytest.approx([formula] * 2, rel=close)


def test_the_variance_refuses_a_correlation_of_one_and_an_alpha_that_is_none():
    for rho in (1.0, -1.0, -1.5):
        with pytest.raises(ValueError, match="rho must lie strictly"):
            fvi.mean_field_variance(0.5, rho)
    for alpha in (nan, -inf):
        with pytest.raises(ValueError, match="alpha must be a number"):
            fvi.mean_field_variance(alpha, 0.5)


# Seeking a mode and covering the mass, without draws

MIXTURE = BimodalMixture()
GRID, AREA = MIXTURE.grid(reach=7.0, step=0.14)
LOG_P = MIXTURE.log_prob(GRID)


def fit_mixture(f: fvi.Divergence, x: float, sigma: float = 1.0) -> Normal:
    start = Normal(double(x, 0.0), double(log(sigma), log(sigma)))
    return fvi.fit_exactly(lambda q: fvi.divergence(f, q.log_prob(GRID), LOG_P, AREA), start)


def test_the_exclusive_kl_seeks_the_mode_it_starts_near():
    for side in (-1, 1):
        q = fit_mixture(fvi.exclusive_kl, side * 1.5, 0.7)
        assert q.mu.numpy() == pytest.approx([side * 2, 0], abs=0.02)
        assert q.log_sigma.exp().numpy() == pytest.approx([0.7, 0.7], abs=0.03)
        assert MIXTURE.kl_from(q) == pytest.approx(log(2), abs=0.02)  # it leaves half of the mass out


def test_the_inclusive_kl_matches_the_mean_and_the_variances():
    q = fit_mixture(fvi.inclusive_kl, 0.5)
    assert q.mu.numpy() == pytest.approx([0, 0], abs=1e-5)
    assert (2 * q.log_sigma).exp().numpy() == pytest.approx([0.49 + 4, 0.49], rel=1e-4)


def test_the_width_along_the_line_of_modes_falls_as_alpha_rises():
    widths = [fit_mixture(f, 0.0, 1.5).log_sigma[0].exp().item() for f in (fvi.power(-0.5), fvi.inclusive_kl, fvi.hellinger)]
    assert widths[0] > widths[1] > widths[2] > 1.4


def test_a_fit_says_so_where_its_objective_is_not_finite():
    start = Normal(torch.zeros(2), torch.zeros(2))
    with pytest.raises(ArithmeticError, match="it is nan at the start"):
        fvi.fit_exactly(lambda q: (q.mu.sum() - 1).log() + q.log_sigma.sum(), start)


# Minibatches: every batch enumerated

LIKELIHOODS = 0.3 * torch.randn(5, 6, generator=generator(2), dtype=torch.float64) - 1  # log p(x_n | z) of 5 draws, 6 points
LOG_RATIO = torch.randn(5, generator=generator(3), dtype=torch.float64)


def over_batches(size: int, function) -> Tensor:
    return torch.stack([function(LIKELIHOODS[:, list(batch)]) for batch in combinations(range(6), size)]).mean(0)


@pytest.mark.equation("eq-fvi-minibatch", oracle="enumeration of all minibatches")
@pytest.mark.parametrize("size", [1, 2, 5])
def test_n_over_m_times_a_batch_is_unbiased_for_the_log_joint_and_for_the_elbo(size):
    whole = LOG_RATIO + LIKELIHOODS.sum(1)
    assert torch.allclose(over_batches(size, lambda part: fvi.scaled_log_joint(LOG_RATIO, part, 6)), whole)
    elbo = over_batches(size, lambda part: fvi.variational_bound(fvi.exclusive_kl, fvi.scaled_log_joint(LOG_RATIO, part, 6)))
    assert elbo.item() == pytest.approx(-whole.mean().item())


@pytest.mark.equation("eq-fvi-minibatch-bias", oracle="enumeration of all minibatches")
@pytest.mark.parametrize("alpha, side", [(2.0, 1), (0.5, -1), (-1.0, 1)])
def test_any_other_bound_is_biased_by_minibatches_and_the_more_the_smaller_they_are(alpha, side):
    f = fvi.power(alpha)
    exact = fvi.variational_bound(f, LOG_RATIO + LIKELIHOODS.sum(1)).item()
    biases = [
        over_batches(m, lambda part: fvi.variational_bound(f, fvi.scaled_log_joint(LOG_RATIO, part, 6))).item() - exact
        for m in (1, 2, 3, 5, 6)
    ]
    assert biases[-1] == pytest.approx(0, abs=1e-9 * (1 + abs(exact)))
    assert all(side * early > side * late > 0 for early, late in pairwise(biases[:-1]))


@pytest.mark.equation("eq-fvi-minibatch-bias", oracle="enumeration of all minibatches")
@pytest.mark.parametrize("alpha", [2.0, 0.5, -1.0])
def test_the_joint_density_that_batches_show_is_tilted_by_the_variance_of_their_estimate(alpha):
    small = 0.05 * LIKELIHOODS
    batches = [list(batch) for batch in combinations(range(6), 3)]
    seen = torch.stack([fvi.scaled_log_joint(LOG_RATIO, small[:, batch], 6) for batch in batches])
    averaged = ((1 - alpha) * seen).exp().mean(0).log() / (1 - alpha)  # what w^(1 - alpha) is on average
    tilt = averaged - (LOG_RATIO + small.sum(1))
    n, m = 6, 3
    variance = n**2 / m * small.var(1) * (1 - m / n)  # of a sample without replacement
    assert torch.allclose(tilt, (1 - alpha) / 2 * variance, rtol=0.05, atol=1e-7)


@pytest.mark.equation("eq-fvi-factors", oracle="enumeration of all minibatches")
@pytest.mark.parametrize("alpha", [2.0, 1.0, 0.5, -1.0])
@pytest.mark.parametrize("size", [1, 4])
def test_a_bound_for_each_factor_is_unbiased_in_the_choice_of_the_batch(alpha, size):
    factors = np.exp(LIKELIHOODS.numpy() + LOG_RATIO.numpy()[:, None] / 6)
    exact = np.log(factors).mean(0) if alpha == 1 else np.log((factors ** (1 - alpha)).mean(0)) / (1 - alpha)
    ours = over_batches(size, lambda part: fvi.factor_bound(LOG_RATIO, part, 6, alpha=alpha))
    assert ours.item() == pytest.approx(exact.sum(), abs=1e-10)


@pytest.mark.equation("eq-fvi-factors", oracle="enumeration, in double precision")
@pytest.mark.parametrize("alpha", [1 - 1e-5, 1 + 1e-5, 1.005])
@pytest.mark.parametrize("dtype, close", [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_a_bound_for_each_factor_loses_no_digits_near_the_elbo(alpha, dtype, close):
    log_factors = LIKELIHOODS.numpy() + LOG_RATIO.numpy()[:, None] / 20
    exact = 20 * np.mean(np.log(np.mean(np.exp((1 - alpha) * log_factors), 0)) / (1 - alpha))
    ours = fvi.factor_bound(LOG_RATIO.to(dtype), LIKELIHOODS.to(dtype), 20, alpha=alpha)
    assert ours.item() == pytest.approx(exact, rel=close)


@pytest.mark.equation("eq-fvi-minibatch", oracle="enumeration")
def test_the_scaled_log_joint_sums_over_the_batch_of_each_draw_and_model():
    log_prior, log_likelihood = np.arange(6.0).reshape(2, 3), np.arange(24.0).reshape(2, 3, 4) ** 1.5
    ours = fvi.scaled_log_joint(torch.from_numpy(log_prior), torch.from_numpy(log_likelihood), 10)
    assert ours.numpy() == pytest.approx(log_prior + 10 / 4 * log_likelihood.sum(2))


def test_minibatches_refuse_an_empty_batch_and_fewer_points_than_it_has():
    for function in (fvi.scaled_log_joint, partial(fvi.factor_bound, alpha=0.5)):
        with pytest.raises(ValueError, match="the batch is empty"):
            function(torch.zeros(5), torch.zeros(5, 0), 6)
        with pytest.raises(ValueError, match="3 points, fewer than the batch's 4"):
            function(torch.zeros(5), torch.zeros(5, 4), 3)
    with pytest.raises(ValueError, match="finite"):
        fvi.factor_bound(torch.zeros(5), torch.zeros(5, 4), 6, alpha=nan)


# Tail-adaptive weights


@pytest.mark.equation("eq-fvi-tail-weights", oracle="enumeration of pairs")
@settings(deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.floats(-1, 0))
def test_tail_weights_are_powers_of_the_share_of_draws_that_weigh_as_much(weights, beta):
    log_w = torch.tensor(weights, dtype=torch.float64)  # with ties
    share = np.array([sum(other >= own for other in weights) / len(weights) for own in weights])
    expected = share**beta / (share**beta).sum()
    assert fvi.tail_weights(log_w, beta=beta).numpy() == pytest.approx(expected)


@settings(deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=10, unique=True))
def test_tail_weights_see_the_order_of_the_weights_and_nothing_else(order):
    log_w = torch.tensor(order, dtype=torch.float64)
    assert torch.equal(fvi.tail_weights(log_w), fvi.tail_weights(1e3 * log_w + 7))
    n = len(order)
    assert fvi.tail_weights(log_w).max().item() == pytest.approx(n / 1 / (n / np.arange(1, n + 1)).sum())


def test_tail_weights_treat_each_data_point_by_itself():
    log_w = torch.randn(9, 2, 3, generator=generator(), dtype=torch.float64)
    together = fvi.tail_weights(log_w, beta=-0.5)
    assert together.shape == (9, 2, 3)
    assert torch.allclose(together[:, 1, 2], fvi.tail_weights(log_w[:, 1, 2], beta=-0.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tail_weights_have_the_dtype_of_the_weights_and_its_digits(dtype):
    ours = fvi.tail_weights(torch.tensor([0.1, 0.3, 0.2], dtype=dtype))
    assert ours.dtype == dtype
    assert ours.tolist() == pytest.approx([2 / 11, 6 / 11, 3 / 11], rel=4 * torch.finfo(dtype).eps)


def log_normal(z: Tensor, mean: float, sigma: float) -> Tensor:
    return (-0.5 * ((z - mean) / sigma) ** 2 - log(sigma) - 0.5 * log(2 * np.pi)).sum(-1)


@pytest.mark.equation("eq-fvi-tail-adaptive", oracle="derivation by hand, under the same noise")
def test_the_tail_adaptive_gradient_runs_along_the_draws_alone():
    mu, log_sigma, draws = 0.3, -0.2, 8
    eps = torch.randn(draws, 1, generator=generator(8), dtype=torch.float64).numpy()[:, 0]
    sigma = exp(log_sigma)
    z = mu + sigma * eps
    log_w = stats.norm.logpdf(z, 0.4, 0.8) - stats.norm.logpdf(z, mu, sigma)
    gamma = 1 / np.array([(log_w >= own).mean() for own in log_w])
    slope = -(z - 0.4) / 0.8**2 + (z - mu) / sigma**2  # of log(p / q) in z
    hand = -(gamma * slope).sum() / gamma.sum(), -(gamma * slope * sigma * eps).sum() / gamma.sum()
    q = Normal(double(mu), double(log_sigma))
    ours = fvi.tail_adaptive_gradient(q, lambda z: log_normal(z, 0.4, 0.8) + 5, importance.draw(q, draws, generator(8)))
    assert -ours.gradient.mean(0)[0].numpy() == pytest.approx(hand)


@pytest.mark.equation("eq-fvi-tail-adaptive", oracle="independent code: numpy, for given draws")
def test_the_tail_adaptive_value_is_the_weighted_sum_of_each_data_points_own_draws():
    mu, z = np.array([[0.3, -0.1], [0.0, 0.5], [-0.4, 0.2]]), np.linspace(-2, 2, 42).reshape(7, 3, 2) ** 3 / 4
    log_w = (stats.norm.logpdf(z, 0.4, 0.8) - stats.norm.logpdf(z, mu, 1)).sum(-1)
    gamma = 1 / (log_w[None] >= log_w[:, None]).sum(1)
    value = (gamma * log_w).sum(0) / gamma.sum(0)
    q = Normal(torch.from_numpy(mu), torch.zeros(3, 2, dtype=torch.float64))
    ours = fvi.tail_adaptive_gradient(q, lambda z: log_normal(z, 0.4, 0.8), torch.from_numpy(z)).value
    assert ours.numpy() == pytest.approx(np.tile(value, (7, 1)))


@pytest.mark.equation("eq-fvi-tail-adaptive", oracle="finite differences of a quadrature")
def test_the_tail_adaptive_gradient_is_that_of_the_f_divergence_whose_curvature_its_weights_stand_for():
    mu, sigma, beta, h = 0.0, 1.0, -0.5, 1e-4
    q = stats.norm(mu, sigma)
    z = np.linspace(-6, 6, 200_001)
    log_w = stats.norm.logpdf(z, 0.6, 0.7) - q.logpdf(z)
    order = np.argsort(log_w)
    tail = np.empty_like(z)
    tail[order] = np.cumsum(q.pdf(z[order])[::-1])[::-1] * (z[1] - z[0])  # P_q(weight >= w), at each z
    # f with f'' = F(w)^beta / w^2 and f(1) = f'(1) = 0, by two cumulative sums over log w
    u, gamma = log_w[order], tail[order] ** beta
    one = np.searchsorted(u, 0.0)

    def primitive(values):
        sums = integrate.cumulative_trapezoid(values, u, initial=0)
        return sums - sums[one]

    f = primitive(primitive(gamma * np.exp(-u)) * np.exp(u))

    def objective(mu: float, log_sigma: float) -> float:
        moved = stats.norm(mu, exp(log_sigma))
        return integrate.trapezoid(moved.pdf(z) * np.interp(stats.norm.logpdf(z, 0.6, 0.7) - moved.logpdf(z), u, f), z)

    exact = np.array([(objective(h, 0) - objective(-h, 0)) / (2 * h), (objective(0, h) - objective(0, -h)) / (2 * h)])
    mean_gamma = integrate.trapezoid(q.pdf(z) * tail**beta, z)  # the loss is normalized by it
    own = Normal(double(mu), double(0.0))
    draws = importance.draw(own, 400_000, generator(1))
    ours = fvi.tail_adaptive_gradient(own, lambda z: log_normal(z, 0.6, 0.7), draws, beta=beta).gradient
    assert -ours.mean(0)[0].numpy() * mean_gamma == pytest.approx(exact, rel=0.03)
    assert np.abs(exact).min() > 0.1


def test_a_tail_adaptive_beta_of_zero_is_the_exclusive_kls_gradient_along_the_draws():
    q = Normal(double(0.3), double(-0.2))
    z = importance.draw(q, 9, generator(1))
    ours, expected = (
        estimator(q, lambda z: log_normal(z, 0.4, 0.8), z)
        for estimator in (partial(fvi.tail_adaptive_gradient, beta=0.0), gradients.path_only)
    )
    assert torch.allclose(ours.value.mean(), expected.value.mean()) and torch.allclose(ours.gradient, expected.gradient)


@pytest.mark.parametrize("beta", [0.1, -1.5, nan])
def test_tail_weights_refuse_a_beta_outside_their_range(beta):
    with pytest.raises(ValueError, match=r"beta must lie in \[-1, 0\]"):
        fvi.tail_weights(torch.zeros(3), beta=beta)


# The alpha-beta divergence

Z = torch.linspace(-12, 12, 4001, dtype=torch.float64)
STEP = log(Z[1] - Z[0])
SKEWED = torch.logaddexp(log(0.7) + log_normal(Z[:, None], -0.5, 0.8), log(0.3) + log_normal(Z[:, None], 1.0, 0.6))


def integral(a: float, b: float, mu: float, sigma: float) -> float:
    def p(z):
        return 0.7 * stats.norm.pdf(z, -0.5, 0.8) + 0.3 * stats.norm.pdf(z, 1.0, 0.6)

    return integrate.quad(lambda z: stats.norm.pdf(z, mu, sigma) ** a * p(z) ** b, -10, 10, epsabs=1e-13, limit=200)[0]


@pytest.mark.equation("eq-fvi-alpha-beta", oracle="quadrature")
@pytest.mark.parametrize("alpha, beta", [(0.7, 0.6), (2.0, -0.5), (-0.4, 1.2), (1.0, 1.0)])
def test_the_alpha_beta_divergence_is_made_of_three_integrals(alpha, beta):
    total = alpha + beta
    exact = (
        log(integral(total, 0, 0.2, 0.9)) / (beta * total)
        + log(integral(0, total, 0.2, 0.9)) / (alpha * total)
        - log(integral(alpha, beta, 0.2, 0.9)) / (alpha * beta)
    )
    ours = fvi.alpha_beta_divergence(log_normal(Z[:, None], 0.2, 0.9), SKEWED, STEP, alpha=alpha, beta=beta)
    assert ours.item() == pytest.approx(exact, abs=1e-8)
    assert exact > 0.01


@pytest.mark.equation("eq-fvi-alpha-beta-limits", oracle="quadrature")
@pytest.mark.parametrize("alpha, beta", [(1.0, 0.0), (0.0, 1.0), (0.6, 0.0), (0.0, 1.7)])
def test_at_the_edges_it_is_the_kl_between_powers(alpha, beta):
    q, p = torch.exp(log_normal(Z[:, None], 0.2, 0.9)).numpy(), SKEWED.exp().numpy()
    power = alpha + beta
    q, p = q**power / (q**power).sum(), p**power / (p**power).sum()
    exact = (special.rel_entr(q, p) if beta == 0 else special.rel_entr(p, q)).sum() / power**2
    log_q = log_normal(Z[:, None], 0.2, 0.9)
    assert fvi.alpha_beta_divergence(log_q, SKEWED, STEP, alpha=alpha, beta=beta).item() == pytest.approx(exact, abs=1e-10)
    near = (alpha, 1e-5) if beta == 0 else (1e-5, beta)
    assert fvi.alpha_beta_divergence(log_q, SKEWED, STEP, alpha=near[0], beta=near[1]).item() == pytest.approx(exact, abs=1e-4)


@pytest.mark.equation("eq-fvi-alpha-beta-renyi", oracle="quadrature")
@pytest.mark.parametrize("alpha", [0.5, 0.2, 1.5])
def test_on_the_line_where_the_dials_add_to_one_it_is_renyis_divergence(alpha):
    renyi = log(integral(alpha, 1 - alpha, 0.2, 0.9)) / (alpha - 1)
    ours = fvi.alpha_beta_divergence(log_normal(Z[:, None], 0.2, 0.9), SKEWED, STEP, alpha=alpha, beta=1 - alpha)
    assert ours.item() == pytest.approx(renyi / alpha, abs=1e-8)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=2, max_size=5),
    st.floats(-1, 2),
    st.floats(-1, 2),
    st.floats(-50, 50),
)
def test_it_sees_shapes_only_and_is_zero_for_equal_ones(pairs, alpha, beta, shift):
    if alpha + beta < 0.1 or min(abs(alpha), abs(beta)) < 0.05:
        return
    log_q, log_p = (torch.tensor(side, dtype=torch.float64).log() for side in zip(*pairs, strict=True))
    value = fvi.alpha_beta_divergence(log_q, log_p, 0.0, alpha=alpha, beta=beta).item()
    assert value >= -1e-9
    assert fvi.alpha_beta_divergence(log_q, log_p + shift, 0.0, alpha=alpha, beta=beta).item() == pytest.approx(value, abs=1e-8)
    assert fvi.alpha_beta_divergence(log_q + shift, log_p, 0.0, alpha=alpha, beta=beta).item() == pytest.approx(value, abs=1e-8)
    assert fvi.alpha_beta_divergence(log_q, log_q + shift, 0.0, alpha=alpha, beta=beta).item() == pytest.approx(0, abs=1e-8)


@pytest.mark.equation("eq-fvi-alpha-beta-loss", oracle="quadrature, and its finite differences")
@pytest.mark.parametrize("alpha, beta", [(0.7, 0.6), (1.0, 0.0), (0.0, 1.2)])
def test_draws_estimate_the_divergence_from_an_unnormalized_density_and_its_gradient(alpha, beta):
    mu, log_sigma, h = 0.2, -0.1, 1e-4

    total = alpha + beta

    def exact(mu, log_sigma):
        """The three integrals, by quadrature; at the edges KL between the powers."""
        own, other = integral(total, 0, mu, exp(log_sigma)), integral(0, total, mu, exp(log_sigma))
        if alpha * beta:
            cross = log(integral(alpha, beta, mu, exp(log_sigma)))
            return log(own) / (beta * total) + log(other) / (alpha * total) - cross / (alpha * beta)
        q, p = stats.norm(mu, exp(log_sigma)).pdf(Z.numpy()) ** total, SKEWED.exp().numpy() ** total
        q, p = q / q.sum(), p / p.sum()
        return (special.rel_entr(q, p) if beta == 0 else special.rel_entr(p, q)).sum() / total**2

    def log_joint(z):
        return 7 + torch.logaddexp(log(0.7) + log_normal(z, -0.5, 0.8), log(0.3) + log_normal(z, 1.0, 0.6))

    q = Normal(double(mu), double(log_sigma))
    z = importance.draw(q, 400_000, generator(1))
    value, gradient = fvi.alpha_beta_gradient(q, log_joint, z, alpha=alpha, beta=beta)
    assert -value.mean().item() == pytest.approx(exact(mu, log_sigma), abs=0.004)
    by_mu = (exact(mu + h, log_sigma) - exact(mu - h, log_sigma)) / (2 * h)
    by_log_sigma = (exact(mu, log_sigma + h) - exact(mu, log_sigma - h)) / (2 * h)
    assert -gradient.mean(0)[0].numpy() == pytest.approx([by_mu, by_log_sigma], abs=0.01)


def test_the_second_dial_turns_a_fit_that_covers_a_far_small_mode_into_one_that_ignores_it():
    log_p = torch.logaddexp(log(0.9) + log_normal(Z[:, None], 0.0, 0.5), log(0.1) + log_normal(Z[:, None], 5.0, 0.5))

    def spread(alpha: float, beta: float) -> float:
        def objective(q: Normal) -> Tensor:
            return fvi.alpha_beta_divergence(q.log_prob(Z[:, None]), log_p, STEP, alpha=alpha, beta=beta)

        return fvi.fit_exactly(objective, Normal(double(0.5), double(0.3))).log_sigma.exp().item()

    covering, robust = spread(0.0, 1.0), spread(0.0, 3.0)
    assert covering == pytest.approx(sqrt(0.25 + 0.09 * 25), rel=1e-3)  # moments of the whole
    assert robust < 0.7


@pytest.mark.parametrize("alpha, beta", [(1.0, -1.0), (0.5, -1.0), (nan, 1.0), (inf, 0.0)])
def test_dials_that_add_to_nothing_are_refused(alpha, beta):
    with pytest.raises(ValueError, match=r"alpha \+ beta must be positive"):
        fvi.alpha_beta_divergence(torch.zeros(3), torch.zeros(3), 0.0, alpha=alpha, beta=beta)


def test_the_alpha_beta_divergence_refuses_no_points():
    with pytest.raises(ValueError, match="at least one point"):
        fvi.alpha_beta_divergence(torch.zeros(0), torch.zeros(0), 0.0, alpha=0.5, beta=0.5)


# Zeros, limits, and fits that stop too soon


def alpha_beta(q: np.ndarray, p: np.ndarray, a: float, b: float) -> float:
    """The definition, in double precision, of densities without zeros."""
    s = a + b
    return log((q**s).sum()) / (b * s) + log((p**s).sum()) / (a * s) - log((q**a * p**b).sum()) / (a * b)


@pytest.mark.parametrize("a, b", [(1.0, 1e-5), (1e-5, 1.0), (1.0, -1e-5), (-1e-5, 2.0), (0.7, 0.005)])
def test_the_alpha_beta_divergence_keeps_single_precision_near_its_limits(a, b):
    log_q, log_p = (torch.randn(30, generator=generator(seed)) for seed in (0, 1))
    right = alpha_beta(log_q.double().exp().numpy(), log_p.double().exp().numpy(), a, b)
    assert fvi.alpha_beta_divergence(log_q, log_p, 0.0, alpha=a, beta=b).item() == pytest.approx(right, rel=1e-4)


@pytest.mark.parametrize("a, b", [(1e-6, 1e-6), (3e-6, -1e-6), (2e-4, 5e-3), (1e-6, 0.0)])
def test_the_alpha_beta_divergence_keeps_its_digits_where_both_dials_are_small(a, b):
    """By its definition in sixty digits; b = 0 as b = 1e-20."""
    log_q, log_p = (torch.randn(20, generator=generator(seed)).double() for seed in (1, 2))
    with mpmath.workdps(60):
        alpha, beta = mpmath.mpf(a), mpmath.mpf(b or "1e-20")
        q, p = ([mpmath.exp(value) for value in log.tolist()] for log in (log_q, log_p))
        of_q, of_p = (mpmath.log(sum(value ** (alpha + beta) for value in values)) for values in (q, p))
        of_both = mpmath.log(sum(u**alpha * v**beta for u, v in zip(q, p, strict=True)))
        right = of_q / (beta * (alpha + beta)) + of_p / (alpha * (alpha + beta)) - of_both / (alpha * beta)
    assert fvi.alpha_beta_divergence(log_q, log_p, 0.0, alpha=a, beta=b).item() == pytest.approx(float(right), rel=1e-8)
    in_single = fvi.alpha_beta_divergence(log_q.float(), log_p.float(), 0.0, alpha=a, beta=b)
    assert in_single.dtype == torch.float32 and in_single.item() == pytest.approx(float(right), rel=1e-5)


@pytest.mark.parametrize("a, b", [(0.5, 0.5), (2.0, 0.0), (0.0, 1.0), (1.0, 0.005), (1.5, -0.5)])
def test_zeros_that_both_share_change_no_alpha_beta_divergence_and_no_gradient(a, b):
    log_q = torch.tensor([0.2, -inf, 0.4, -0.3], dtype=torch.float64, requires_grad=True)
    log_p = double(0.1, -inf, -1.0, 0.6)
    value = fvi.alpha_beta_divergence(log_q, log_p, 0.0, alpha=a, beta=b)
    (slope,) = torch.autograd.grad(value, log_q)
    there = [0, 2, 3]
    assert value.item() == pytest.approx(fvi.alpha_beta_divergence(log_q[there], log_p[there], 0.0, alpha=a, beta=b).item())
    assert slope.isfinite().all() and slope[1] == 0


def test_a_zero_of_one_density_alone_counts_for_nothing_under_positive_dials_and_is_infinite_under_a_negative_one():
    some, all_points = np.array([0.5, 0.5, 0.0]), np.array([0.2, 0.3, 0.5])
    log_some, log_all = torch.from_numpy(some).log(), torch.from_numpy(all_points).log()
    for a, b in ((0.5, 0.5), (0.7, 1.1), (0.004, 0.003)):
        ours = fvi.alpha_beta_divergence(log_some, log_all, 0.0, alpha=a, beta=b).item()
        assert ours == pytest.approx(alpha_beta(some, all_points, a, b))
        turned = fvi.alpha_beta_divergence(log_all, log_some, 0.0, alpha=a, beta=b).item()
        assert turned == pytest.approx(alpha_beta(all_points, some, a, b))
    assert fvi.alpha_beta_divergence(log_some, log_all, 0.0, alpha=-0.5, beta=1.5).item() == inf
    assert fvi.alpha_beta_divergence(log_all, log_some, 0.0, alpha=1.5, beta=-0.5).item() == inf


@pytest.mark.parametrize("spread", [300.0, 5000.0])
@pytest.mark.parametrize("f", [fvi.inclusive_kl, fvi.hellinger, fvi.chi_square, fvi.power(-1.0), fvi.power(0.3)])
def test_f_cavi_takes_a_table_of_any_spread(f, spread):
    log_joint = spread * torch.randn(4, 5, generator=generator(), dtype=torch.float64)
    found = fvi.f_cavi(f, log_joint)
    assert len(found.trace) < 200 and not np.isnan(found.trace).any() and found.trace[-1] == pytest.approx(0, abs=1e-12)
    assert [log_q.argmax().item() for log_q in found.log_factors] == list(divmod(log_joint.argmax().item(), 5))


@pytest.mark.parametrize("alpha, start", [(2.0, 0.3), (2.0, 0.1), (3.0, 0.3), (1.5, 0.1), (-1.0, 2.0), (0.5, 1.0)])
def test_an_exact_fit_reaches_the_known_variance_from_a_start_near_infinity(alpha, start):
    tilted = TiltedGaussian(0.9)

    def far(q: Normal) -> Tensor:
        value = fvi.renyi_divergence(q, double(0, 0), tilted.precision, alpha=alpha)
        return value if alpha > 0 else -value

    q = fvi.fit_exactly(far, Normal(torch.zeros(2), torch.full((2,), log(start))))
    assert (2 * q.log_sigma).exp().tolist() == pytest.approx([fvi.mean_field_variance(alpha, 0.9)] * 2, rel=1e-6)


def test_a_fit_that_ends_on_a_slope_says_so():
    """It falls up to a wall: no minimum."""
    with pytest.raises(ArithmeticError, match="on a slope of 1, which is no minimum"):
        fvi.fit_exactly(lambda q: torch.where(q.mu < 1, -q.mu, inf).sum(), Normal(torch.zeros(1), torch.zeros(1)))


def test_a_renyi_divergence_is_infinite_where_its_matrix_is_singular():
    q = Normal(double([0.0, 0.0], [0.0, 0.0]), double([0.0, 0.0], [-1.0, -1.0]))
    value = fvi.renyi_divergence(q, double(0, 0), 2 * torch.eye(2).double(), alpha=2.0)  # A = 2 I - 2 I for the first
    assert value[0].item() == inf and value[1].isfinite()


def test_a_mean_field_variance_has_its_limits_for_huge_alpha():
    for alpha in (1e120, 1e154, 1e308, inf):
        assert fvi.mean_field_variance(alpha, 0.9) == pytest.approx(0.1)
    assert fvi.mean_field_variance(-1e200, -0.9) == pytest.approx(1.9)


def test_estimators_refuse_a_model_whose_draws_are_detached_though_its_parameters_learn():
    weight, q = torch.ones(2, requires_grad=True), Normal(torch.zeros(2), torch.zeros(2))
    z = q.sample(generator(), shape=(6,))
    estimators = [
        partial(fvi.reparameterized, fvi.hellinger),
        partial(fvi.renyi_gradient, alpha=0.5),
        fvi.tail_adaptive_gradient,
    ]
    for estimator in (*estimators, partial(fvi.alpha_beta_gradient, alpha=0.5, beta=0.5)):
        estimator(q, lambda z: -((weight * z) ** 2).sum(-1), z)
        with pytest.raises(ValueError, match="reaches z: compute it from z, without detach"):
            estimator(q, lambda z: -((weight * z.detach()) ** 2).sum(-1), z)
