"""f-divergences, their bounds of the evidence and the gradients of these, where they are known by sums or by quadrature.

An estimator is held unbiased if its mean lies within 3.9 standard errors of the exact value: a right one fails for one seed
in 10,000, and the seeds are fixed.
"""

from functools import partial
from math import exp, inf, log, nan, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from helpers import assert_mean_is, double, generator, needs_cuda
from vaecourse import fvi, gradients, importance, training
from vaecourse.distributions import Bernoulli, Categorical, Normal
from vaecourse.exact_models import TiltedGaussian
from vaecourse.vae import bernoulli_vae

Q, P = np.array([0.1, 0.6, 0.2, 0.1]), np.array([0.3, 0.3, 0.25, 0.15])

# The generators, written again as in a table of divergences: f of t itself, and its derivative


def power_by_hand(a: float):
    return lambda t: (t**a - t) / (a * (a - 1))


BY_HAND = {
    "exclusive_kl": (fvi.exclusive_kl, lambda t: t * np.log(t)),
    "inclusive_kl": (fvi.inclusive_kl, lambda t: -np.log(t)),
    "chi_square": (fvi.chi_square, lambda t: t**2 - 1),
    "chi_square dual": (fvi.chi_square.dual, lambda t: 1 / t - t),
    "hellinger": (fvi.hellinger, lambda t: 1 + t - 2 * np.sqrt(t)),
    "jensen_shannon": (fvi.jensen_shannon, lambda t: 0.5 * (t * np.log(2 * t / (1 + t)) + np.log(2 / (1 + t)))),
    "total_variation": (fvi.total_variation, lambda t: 0.5 * np.abs(t - 1)),
    "power 3": (fvi.power(3.0), power_by_hand(3)),
    "power 0.5": (fvi.power(0.5), power_by_hand(0.5)),
    "power 0.2": (fvi.power(0.2), power_by_hand(0.2)),
    "power -1": (fvi.power(-1.0), power_by_hand(-1)),
    "power -1 dual": (fvi.power(-1.0).dual, lambda t: (t**2 - 1) / 2),
}
GENERATORS = pytest.mark.parametrize("f, by_hand", BY_HAND.values(), ids=BY_HAND)
SMOOTH = {name: pair for name, pair in BY_HAND.items() if name != "total_variation"}
LOG_T = np.array([-3.0, -1.2, -0.3, 0.4, 1.1, 2.5])


@GENERATORS
def test_a_generator_is_the_function_it_is_named_after(f, by_hand):
    ours = f.f.value(torch.from_numpy(LOG_T))
    assert np.allclose(ours, by_hand(np.exp(LOG_T)), rtol=1e-12, atol=1e-12)
    assert f.f.value(double(0.0)).item() == pytest.approx(0, abs=1e-15)


@pytest.mark.equation("eq-fvi-dual", oracle="derivation by hand: t f(1/t) of the tabled f")
@GENERATORS
def test_the_dual_is_t_f_of_one_over_t(f, by_hand):
    t = np.exp(LOG_T)
    assert np.allclose(f.star.value(torch.from_numpy(LOG_T)), t * by_hand(1 / t), rtol=1e-12, atol=1e-12)
    again = f.dual.dual
    assert (again.name, again.f, again.star) == (f.name, f.f, f.star)
    assert f.alpha is None or f.dual.alpha == pytest.approx(1 - f.alpha)


@GENERATORS
def test_slopes_are_derivatives_with_respect_to_t(f, by_hand):
    t, h = np.exp(LOG_T), 1e-6
    for curve, function in ((f.f, by_hand), (f.star, lambda t: t * by_hand(1 / t))):
        differences = (function(t + h * t) - function(t - h * t)) / (2 * h * t)
        assert np.allclose(curve.slope(torch.from_numpy(LOG_T)), differences, rtol=1e-7, atol=1e-8)


@GENERATORS
def test_each_curve_knows_where_it_is_lowest_and_its_limit_at_zero(f, by_hand):
    s = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    for curve in (f.f, f.star):
        values = curve.value(s)
        lowest = s[values.argmin()].item()
        if abs(curve.lowest) == inf:
            steps = values.diff()
            assert (steps * (1 if curve.lowest < 0 else -1) >= 0).all()
        else:
            assert lowest == pytest.approx(curve.lowest, abs=0.011)
        near_zero = curve.value(double(-600.0)).item()
        assert near_zero > 500 if curve.at_zero == inf else near_zero == pytest.approx(curve.at_zero, abs=1e-6)


@settings(deadline=None)
@given(st.sampled_from(list(BY_HAND)), st.floats(-4, 4), st.floats(-4, 4), st.floats(0, 1))
def test_generators_and_duals_are_convex(name, a, b, share):
    f = BY_HAND[name][0]
    middle = log(share * exp(a) + (1 - share) * exp(b))
    for curve in (f.f, f.star):
        left, right, inside = curve.value(double(a, b, middle)).tolist()
        assert inside <= share * left + (1 - share) * right + 1e-10 * (1 + abs(left) + abs(right))


def test_the_dual_of_t_log_t_is_minus_log_t_and_not_t_log_t_as_printed():
    t = 2.0
    right, printed = -log(t), t * log(t)
    assert fvi.exclusive_kl.star.value(double(log(t))).item() == pytest.approx(right)
    assert t * (1 / t * log(1 / t)) == pytest.approx(right)
    assert (round(right, 3), round(printed, 3)) == (-0.693, 1.386)


def test_the_dual_is_not_the_convex_conjugate():
    t = 2.0
    conjugate = -optimize.minimize_scalar(lambda s: s * log(s) - t * s, bounds=(1e-6, 50), method="bounded").fun
    assert conjugate == pytest.approx(exp(t - 1), abs=1e-6)  # e^(t - 1)
    assert fvi.exclusive_kl.star.value(double(log(t))).item() == pytest.approx(-log(t))


F0 = {"inclusive_kl": 0.0, "chi_square": 2.0, "power -1 dual": 2.0}
F1 = {"exclusive_kl": 1.0, "chi_square dual": -1.0, "power 3": 3.0, "power 0.5": 0.5, "power -1": -1.0}


@settings(deadline=None)
@given(st.floats(-2, 2), st.floats(-2, 2))
def test_the_classes_f0_and_f1_are_what_their_functional_equations_say(a, b):
    for names, tail in ((F0, lambda s: 1.0), (F1, exp)):
        for name, gamma in names.items():
            f = BY_HAND[name][0].f.value
            together, first, second = f(double(a + b, a, b)).tolist()
            assert together == pytest.approx(exp(gamma * a) * second + first * tail(b), rel=1e-9, abs=1e-9)


def test_a_dual_exchanges_the_classes_and_a_multiple_of_t_minus_one_leads_from_one_to_the_other():
    s = torch.from_numpy(LOG_T)
    f1, f0 = fvi.power(3.0), fvi.power(-2.0).dual  # both of alpha = 3
    difference = f1.f.value(s) - f0.f.value(s)
    assert torch.allclose(difference, -(s.exp() - 1) / 6)
    q, p = double(0.2, 0.5, 0.3).log(), double(0.3, 0.3, 0.4).log()
    assert fvi.divergence(f1, q, p).item() == pytest.approx(fvi.divergence(f0, q, p).item())


@pytest.mark.equation("eq-fvi-tilt", oracle="derivation by hand: the tabled f")
@GENERATORS
def test_the_tilted_dual_falls_everywhere_where_f_is_finite_at_zero_and_is_level_at_one_elsewhere(f, by_hand):
    t = np.exp(np.linspace(-8, 8, 2001))
    tilted = t * by_hand(1 / t) + f.tilt * (1 - t)
    if f.f.at_zero < inf:
        assert (np.diff(tilted) <= 1e-9 * (1 + np.abs(tilted[1:]))).all()
    else:
        assert t[tilted.argmin()] == pytest.approx(1, abs=0.01)
    assert (P * (by_hand(Q / P) + f.tilt * (Q / P - 1))).sum() == pytest.approx((P * by_hand(Q / P)).sum())


def test_a_mean_weight_of_one_has_the_gradient_of_the_log_evidence_once_its_scale_is_held_fixed():
    q = Normal(double(0.3).requires_grad_(), double(-0.2).requires_grad_())
    log_w = importance.log_weights(log_joint, q, 7, generator(1))
    log_z = importance.log_mean(log_w)
    mean = (log_w - log_z.detach()).exp().mean()
    assert mean.item() == pytest.approx(1)
    parts = [torch.autograd.grad(value, [q.mu, q.log_sigma], retain_graph=True) for value in (mean, log_z)]
    assert torch.allclose(torch.cat(parts[0]), torch.cat(parts[1]))


# Divergences, by sums

EXACT = {
    "exclusive_kl": special.rel_entr(Q, P).sum(),
    "inclusive_kl": special.rel_entr(P, Q).sum(),
    "chi_square": (Q**2 / P).sum() - 1,
    "chi_square dual": (P**2 / Q).sum() - 1,
    "hellinger": ((np.sqrt(Q) - np.sqrt(P)) ** 2).sum(),
    "jensen_shannon": jensenshannon(Q, P) ** 2,
    "total_variation": 0.5 * np.abs(Q - P).sum(),
}


@pytest.mark.equation("eq-fvi-divergence", oracle="another library: scipy, and sums")
@pytest.mark.parametrize("name", EXACT)
def test_divergences_are_the_sums_they_are_named_after(name):
    log_q, log_p = torch.from_numpy(np.log(Q)), torch.from_numpy(np.log(P))
    f = BY_HAND[name][0]
    assert fvi.divergence(f, log_q, log_p).item() == pytest.approx(EXACT[name], abs=1e-12)
    assert fvi.divergence(f.dual, log_p, log_q).item() == pytest.approx(EXACT[name], abs=1e-12), "D_f*(p || q) = D_f(q || p)"
    assert fvi.divergence(f, log_q, log_q).item() == pytest.approx(0, abs=1e-15)


@pytest.mark.equation("eq-fvi-reversed", oracle="enumeration: E_p f(q / p) of the tabled f")
@GENERATORS
def test_the_dual_turns_the_divergence_round(f, by_hand):
    log_q, log_p = torch.from_numpy(np.log(Q)), torch.from_numpy(np.log(P))
    exact = (P * by_hand(Q / P)).sum()
    assert fvi.divergence(f, log_q, log_p).item() == pytest.approx(exact, rel=1e-12)
    assert fvi.divergence(f.dual, log_p, log_q).item() == pytest.approx(exact, rel=1e-12)


@pytest.mark.equation("eq-fvi-power", oracle="enumeration: Renyi's divergence as a sum")
@pytest.mark.parametrize("alpha", [-1.5, 0.2, 0.5, 2.0])
def test_the_power_divergence_is_a_function_of_renyis(alpha):
    renyi = np.log((Q**alpha * P ** (1 - alpha)).sum()) / (alpha - 1)
    expected = np.expm1((alpha - 1) * renyi) / (alpha * (alpha - 1))
    ours = fvi.divergence(fvi.power(alpha), torch.from_numpy(np.log(Q)), torch.from_numpy(np.log(P)))
    assert ours.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.equation("eq-fvi-power", oracle="derivation by hand, and numeric search for the minimum")
@pytest.mark.parametrize("alpha", [-1.0, -0.4, 0.2, 0.5, 1.5, 2.0, 3.0])
def test_the_curves_of_a_power_know_their_slopes_their_least_point_and_their_limits(alpha):
    f, c, t = fvi.power(alpha), 1 / (alpha * (alpha - 1)), np.exp(LOG_T)
    assert f.f.slope(torch.from_numpy(LOG_T)).numpy() == pytest.approx(c * (alpha * t ** (alpha - 1) - 1))
    assert f.star.slope(torch.from_numpy(LOG_T)).numpy() == pytest.approx(-(t**-alpha) / alpha)
    least = optimize.minimize_scalar(lambda log_t: power_by_hand(alpha)(np.exp(log_t)), bounds=(-9, 9), method="bounded").x
    assert f.f.lowest == (pytest.approx(least, abs=1e-4) if alpha > 0 else inf), "for alpha < 0 f falls everywhere"
    assert f.star.lowest == (inf if alpha > 0 else -inf)
    assert f.f.at_zero == (0 if alpha > 0 else inf)
    assert f.star.at_zero == (inf if alpha > 1 else pytest.approx(-c))


@pytest.mark.parametrize("alpha", [-1.0, -0.4, 0.2, 0.5, 1.5, 2.0, 3.0])
def test_a_power_times_a_number_too_small_for_a_float_is_the_product_of_both(alpha):
    f, c = fvi.power(alpha), 1 / (alpha * (alpha - 1))
    steepest = max(alpha, 1) if alpha > 0 else alpha
    for log_s, log_t in ((-0.3, 0.7), (-800.0, 805 / steepest)):  # e^5 is the larger part of the second product
        product = c * (exp(log_s + alpha * log_t) - exp(log_s + log_t))
        assert f.f.times(double(log_s), double(log_t)).item() == pytest.approx(product)
    for log_s, log_t in ((-0.3, 0.7), (-800.0, 805 / (1 - alpha))):
        product = c * (exp(log_s + (1 - alpha) * log_t) - exp(log_s))
        assert f.star.times(double(log_s), double(log_t)).item() == pytest.approx(product)


@pytest.mark.parametrize("near, name", [(1 - 1e-6, "exclusive_kl"), (1e-6, "inclusive_kl")])
def test_the_power_divergence_has_the_kls_as_limits_and_refuses_them_by_name(near, name):
    log_q, log_p = torch.from_numpy(np.log(Q)), torch.from_numpy(np.log(P))
    assert fvi.divergence(fvi.power(near), log_q, log_p).item() == pytest.approx(EXACT[name], abs=1e-5)
    with pytest.raises(ValueError, match=f"use that divergence|{name}"):
        fvi.power(float(round(near)))
    with pytest.raises(ValueError, match=name):
        fvi.power(float(round(near)))


@pytest.mark.parametrize("alpha", [nan, inf, -inf])
def test_power_refuses_what_is_no_number(alpha):
    with pytest.raises(ValueError, match="finite"):
        fvi.power(alpha)


@settings(deadline=None)
@given(
    st.sampled_from(list(BY_HAND)),
    st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=2, max_size=6),
)
def test_divergences_are_at_least_zero_and_the_bounded_ones_at_most_their_bound(name, pairs):
    q, p = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    value = fvi.divergence(BY_HAND[name][0], (q / q.sum()).log(), (p / p.sum()).log()).item()
    most = {"hellinger": 2, "jensen_shannon": log(2), "total_variation": 1}.get(name, inf)
    assert -1e-12 <= value <= most


def test_distributions_that_never_meet_are_as_far_apart_as_can_be():
    log_q, log_p = double(0.5, 0.5, 0, 0).log(), double(0, 0, 0.5, 0.5).log()
    for f, most in ((fvi.hellinger, 2), (fvi.jensen_shannon, log(2)), (fvi.total_variation, 1)):
        assert fvi.divergence(f, log_q, log_p).item() == pytest.approx(most)


@pytest.mark.parametrize("f", [fvi.inclusive_kl, fvi.chi_square.dual, fvi.power(-1.0)], ids=lambda f: f.name)
def test_a_q_without_mass_where_p_has_some_is_refused_where_the_divergence_is_infinite(f):
    with pytest.raises(ValueError, match=r"q's support is too small: at point \[1\] p > 0 and q = 0"):
        fvi.divergence(f, double(1, 0, 0).log(), double(0.5, 0.5, 0).log())
    with pytest.raises(ValueError, match=r"q's support is too large: at point \[1\] q > 0 and p = 0"):
        fvi.divergence(f.dual, double(0.5, 0.5).log(), double(1, 0).log())


def test_a_q_without_mass_where_p_has_some_is_priced_where_the_divergence_is_finite():
    log_q, log_p = double(1, 0).log(), double(0.5, 0.5).log()
    assert fvi.divergence(fvi.exclusive_kl, log_q, log_p).item() == pytest.approx(log(2))
    assert fvi.divergence(fvi.chi_square, log_q, log_p).item() == pytest.approx(1)
    assert fvi.divergence(fvi.hellinger, log_q, log_p).item() == pytest.approx(2 - 2 * sqrt(0.5))


SUMS_WITH_ZEROS = {  # of q = (.6, .4, 0, 0) and p = (.3, .2, .5, 0); the other way round where that is infinite
    "exclusive KL": (fvi.exclusive_kl, False, log(2)),
    "inclusive KL": (fvi.inclusive_kl, True, log(2)),
    "chi-square": (fvi.chi_square, False, 0.36 / 0.3 + 0.16 / 0.2 - 1),
    "chi-square dual": (fvi.chi_square.dual, True, 0.36 / 0.3 + 0.16 / 0.2 - 1),
    "Hellinger": (fvi.hellinger, False, 2 - 2 * (sqrt(0.18) + sqrt(0.08))),
    "Hellinger, turned": (fvi.hellinger, True, 2 - 2 * (sqrt(0.18) + sqrt(0.08))),
    "total variation": (fvi.total_variation, False, 0.5),
    "total variation, turned": (fvi.total_variation, True, 0.5),
    "Jensen-Shannon": (fvi.jensen_shannon, False, 0.5 * (log(4 / 3) + 0.5 * log(2 / 3) + 0.5 * log(2))),
    "Jensen-Shannon, turned": (fvi.jensen_shannon, True, 0.5 * (log(4 / 3) + 0.5 * log(2 / 3) + 0.5 * log(2))),
    "power 0.5": (fvi.power(0.5), False, 4 * (1 - sqrt(0.18) - sqrt(0.08))),
    "power 0.5, turned": (fvi.power(0.5), True, 4 * (1 - sqrt(0.18) - sqrt(0.08))),
    "power 3": (fvi.power(3.0), False, (0.6**3 / 0.3**2 + 0.4**3 / 0.2**2 - 1) / 6),
    "power -1": (fvi.power(-1.0), True, (0.36 / 0.3 + 0.16 / 0.2 - 1) / 2),
}


@pytest.mark.equation("eq-fvi-divergence", oracle="enumeration")
@pytest.mark.parametrize("f, turned, sums", SUMS_WITH_ZEROS.values(), ids=SUMS_WITH_ZEROS)
def test_mass_that_one_of_them_does_not_have_is_priced_by_the_limit_of_its_own_curve(f, turned, sums):
    pair = double(0.6, 0.4, 0.0, 0.0).log(), double(0.3, 0.2, 0.5, 0.0).log()
    assert fvi.divergence(f, *(pair[::-1] if turned else pair)).item() == pytest.approx(sums, abs=1e-12)


@pytest.mark.equation("eq-fvi-divergence", oracle="another library: scipy")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_many_q_each_has_a_divergence_of_its_own_in_the_dtype_of_its_densities(dtype):
    log_q = torch.randn(2, 3, 4, generator=generator(4), dtype=torch.float64).log_softmax(-1)
    log_p = double(0.4, 0.3, 0.2, 0.1).log()
    sums = {fvi.inclusive_kl: special.rel_entr(log_p.exp().numpy(), log_q.exp().numpy()).sum(-1)}
    sums[fvi.total_variation] = 0.5 * np.abs(log_q.exp().numpy() - log_p.exp().numpy()).sum(-1)
    for f, by_hand in sums.items():
        ours = fvi.divergence(f, log_q.to(dtype), log_p.to(dtype))
        assert ours.dtype == dtype and ours.numpy() == pytest.approx(by_hand, rel=1e-5)


def test_divergences_refuse_nan_and_no_points():
    with pytest.raises(ValueError, match="NaN"):
        fvi.divergence(fvi.hellinger, double(nan, 0.0), double(0.0, 0.0))
    with pytest.raises(ValueError, match="at least one point"):
        fvi.divergence(fvi.hellinger, double(), double())


def test_the_gradient_of_a_divergence_is_finite_where_a_density_vanishes():
    log_q, log_p = double(-0.7, -0.7, -inf).requires_grad_(), double(-inf, -0.1, -2.3)
    fvi.divergence(fvi.jensen_shannon, log_q, log_p).backward()
    assert log_q.grad.isfinite().all()


# The bound, on tables: every expectation is a sum

JOINT = np.array([0.02, 0.05, 0.01, 0.12])  # p(z, x) for one x
TABLES = st.lists(st.tuples(st.floats(0.02, 1), st.floats(0.002, 0.5)), min_size=2, max_size=6)


def l_f(by_hand, q: np.ndarray, joint: np.ndarray) -> float:
    """E_q f*(p(z, x) / q), f* by its definition."""
    w = joint / q
    return float((q * w * by_hand(1 / w)).sum())


def as_draws(q: np.ndarray, joint: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """log w of each z, as one draw for each of many data points, to be averaged with weights q."""
    return torch.from_numpy(np.log(joint / q))[None], q


@pytest.mark.equation("eq-fvi-bound", oracle="enumeration")
@pytest.mark.equation("eq-fvi-surrogate", oracle="enumeration")
@GENERATORS
def test_the_bound_is_the_divergence_of_the_scaled_argument_above_f_star_of_the_evidence(f, by_hand):
    log_w, weights = as_draws(Q, JOINT)
    ours = float((weights * fvi.variational_bound(f, log_w).numpy()).sum())
    evidence, posterior = JOINT.sum(), JOINT / JOINT.sum()
    assert ours == pytest.approx(l_f(by_hand, Q, JOINT), rel=1e-12)
    scale = 1 / evidence
    surrogate = (posterior * (by_hand(scale * Q / posterior) - by_hand(scale))).sum()  # D of f(lambda t) - f(lambda)
    assert ours == pytest.approx(evidence * by_hand(1 / evidence) + evidence * surrogate, rel=1e-10)
    assert surrogate >= -1e-12


@pytest.mark.equation("eq-fvi-scaled-bound", oracle="enumeration")
@GENERATORS
def test_weights_divided_by_the_evidence_turn_the_bound_into_the_divergence(f, by_hand):
    log_w, weights = as_draws(Q, JOINT)
    ours = float((weights * fvi.variational_bound(f, log_w, log_scale=log(JOINT.sum())).numpy()).sum())
    posterior = JOINT / JOINT.sum()
    assert ours == pytest.approx((posterior * by_hand(Q / posterior)).sum(), rel=1e-10)


@pytest.mark.equation("eq-fvi-scaled-bound", oracle="enumeration")
@GENERATORS
def test_each_data_point_may_have_a_scale_of_its_own_that_the_bound_does_not_move(f, by_hand):
    log_w = torch.randn(5, 2, 3, generator=generator(6), dtype=torch.float64)
    log_scale = double(0.2, -0.7, 1.1).requires_grad_()
    ours = fvi.variational_bound(f, log_w, log_scale=log_scale)
    t = np.exp(log_w.numpy() - log_scale.detach().numpy())
    assert ours.numpy() == pytest.approx((t * by_hand(1 / t)).mean(0), rel=1e-10)
    assert not ours.requires_grad


@pytest.mark.equation("eq-fvi-bound", oracle="enumeration")
@pytest.mark.equation("eq-fvi-interval", oracle="enumeration")
@settings(deadline=None, max_examples=60)
@given(st.sampled_from(list(BY_HAND)), TABLES)
def test_the_evidence_lies_in_the_interval_that_the_bound_leaves(name, pairs):
    f, by_hand = BY_HAND[name]
    q, joint = (np.array(side) for side in zip(*pairs, strict=True))
    q, evidence = q / q.sum(), joint.sum()
    value = l_f(by_hand, q, joint)
    assert value >= evidence * by_hand(1 / evidence) - 1e-9 * (1 + abs(value))
    low, high = fvi.evidence_interval(f, double(value + 1e-9 * (1 + abs(value))))
    assert low.item() <= log(evidence) <= high.item()
    assert (high.item() == inf) >= f.falls and (low.item() == -inf) >= f.rises


def test_the_interval_inverts_f_star_where_that_can_be_done_by_hand():
    low, high = fvi.evidence_interval(fvi.exclusive_kl, double(3.0, -2.0))  # -log p(x) <= L
    assert torch.allclose(low, double(-3.0, 2.0)) and (high == inf).all()
    low, high = fvi.evidence_interval(fvi.power(-1.0), double(4.0))  # (p^2 - 1) / 2 <= 4
    assert high.item() == pytest.approx(log(3)) and low.item() == -inf
    low, high = fvi.evidence_interval(fvi.hellinger, double(0.25))  # (sqrt p - 1)^2 <= 1/4
    assert (low.item(), high.item()) == (pytest.approx(2 * log(0.5)), pytest.approx(2 * log(1.5)))
    low, high = fvi.evidence_interval(fvi.hellinger, double(0.25), log_scale=-100.0)
    assert (low.item(), high.item()) == (pytest.approx(2 * log(0.5) - 100), pytest.approx(2 * log(1.5) - 100))


def test_a_value_below_the_least_of_f_star_is_refused():
    with pytest.raises(ValueError, match=r"Hellinger by -0\.5 is no bound"):
        fvi.evidence_interval(fvi.hellinger, double(-0.5))
    with pytest.raises(ValueError, match="NaN"):
        fvi.evidence_interval(fvi.hellinger, double(nan))


@pytest.mark.parametrize(
    "f, reach, least, margin",
    [(fvi.hellinger, 1e6, 0.0, 1e-12), (fvi.exclusive_kl, 80.0, -80.0, 81e-12)],  # of a t up to e^80, -log t is at least -80
    ids=["Hellinger", "exclusive KL"],
)
def test_a_value_below_the_least_of_f_star_by_what_rounding_may_take_is_no_mistake(f, reach, least, margin):
    for below in (0.0, 0.7 * margin, 1.0 * margin):
        low, _ = fvi.evidence_interval(f, double(least - below), reach=reach)
        assert low.item() == pytest.approx(-least, abs=1e-9)
    with pytest.raises(ValueError, match="is no bound"):
        fvi.evidence_interval(f, double(least - 1.1 * margin), reach=reach)


def test_a_value_at_the_least_of_f_star_leaves_one_evidence_and_at_its_limit_in_zero_any_that_is_small():
    low, high = fvi.evidence_interval(fvi.hellinger, double(0.0))
    assert (low.item(), high.item()) == pytest.approx((0, 0), abs=1e-12)
    for f, limit, most in ((fvi.total_variation, 0.5, 2), (fvi.hellinger, 1.0, 4)):  # (t - 1) / 2 <= 1/2, sqrt t - 1 <= 1
        low, high = fvi.evidence_interval(f, double(limit))
        assert low.item() == -inf and high.item() == pytest.approx(log(most))


@pytest.mark.parametrize("reach", [100.0, 1e6, inf])
def test_where_f_star_is_level_the_interval_holds_all_of_its_floor(reach):
    """The hockey stick, f(t) = max(t - 3, 0), f*(t) = max(1 - 3 t, 0): 0 from t = 1/3 on."""
    stick = fvi.Divergence(
        "hockey stick",
        f=fvi.Curve(lambda log_t: (log_t.exp() - 3).relu(), lambda log_t: 1.0 * (log_t > log(3)), lowest=-inf, at_zero=0.0),
        star=fvi.Curve(
            lambda log_t: (1 - 3 * log_t.exp()).relu(), lambda log_t: -3.0 * (log_t < -log(3)), lowest=inf, at_zero=1.0
        ),
    )
    for value, least in ((0.0, 1 / 3), (0.4, 0.2)):
        low, high = fvi.evidence_interval(stick, double(value), reach=reach)
        assert low.item() == pytest.approx(log(least)) and high.item() == inf


def test_which_generators_bound_from_below_which_from_above_and_which_on_both_sides():
    sides = {name: f.falls - f.rises for name, (f, _) in BY_HAND.items()}
    assert {name for name, side in sides.items() if side == 1} == {
        *("exclusive_kl", "chi_square", "power 3", "power 0.5", "power 0.2", "power -1 dual"),
    }
    assert {name for name, side in sides.items() if side == -1} == {"chi_square dual", "power -1"}


def test_a_bound_from_above_fails_where_q_misses_mass_and_one_from_below_does_not():
    q, joint = np.array([0.5, 0.5]), np.array([0.1, 0.1])  # a third value of z, with p = 0.3 and q = 0, is never drawn
    evidence = 0.5
    low, _ = fvi.evidence_interval(fvi.exclusive_kl, double(l_f(BY_HAND["exclusive_kl"][1], q, joint)))
    _, high = fvi.evidence_interval(fvi.power(-1.0), double(l_f(BY_HAND["power -1"][1], q, joint)))
    assert low.item() < log(evidence)
    assert high.item() == pytest.approx(log(0.2)) and high.item() < log(evidence)


def best_share(objective) -> float:
    return optimize.minimize_scalar(objective, bounds=(0.01, 0.99), method="bounded", options={"xatol": 1e-10}).x


def family(share: float) -> np.ndarray:
    """A family of q that does not hold the posterior."""
    return np.array([share**2, share * (1 - share), share * (1 - share), (1 - share) ** 2])


@pytest.mark.parametrize("name", ["exclusive_kl", "inclusive_kl", "chi_square", "power 0.5", "power -1", "hellinger"])
def test_the_bound_of_an_alpha_type_has_the_minimizer_of_its_divergence(name):
    _, by_hand = BY_HAND[name]
    posterior = JOINT / JOINT.sum()
    of_bound = best_share(lambda s: l_f(by_hand, family(s), JOINT))
    of_divergence = best_share(lambda s: (posterior * by_hand(family(s) / posterior)).sum())
    assert of_bound == pytest.approx(of_divergence, abs=1e-6)


def test_the_bound_of_jensen_shannon_has_another_minimizer_than_its_divergence():
    _, by_hand = BY_HAND["jensen_shannon"]
    joint = JOINT / 100
    posterior = joint / joint.sum()
    of_bound = best_share(lambda s: l_f(by_hand, family(s), joint))
    of_divergence = best_share(lambda s: (posterior * by_hand(family(s) / posterior)).sum())
    of_scaled = best_share(lambda s: l_f(by_hand, family(s), joint / joint.sum()))
    assert abs(of_bound - of_divergence) > 0.01
    assert of_scaled == pytest.approx(of_divergence, abs=1e-6)


# A world of one latent whose integrals are by quadrature: p(z, x) = .3 N(z; .4, .8^2)

EVIDENCE, MEAN, SPREAD = 0.3, 0.4, 0.8


def joint_pdf(z):
    return EVIDENCE * stats.norm.pdf(z, MEAN, SPREAD)


def log_joint(z: Tensor) -> Tensor:
    return log(EVIDENCE) + log_normal(z, MEAN, SPREAD)


def log_normal(z: Tensor, mean: float, sigma: float) -> Tensor:
    return (-0.5 * ((z - mean) / sigma) ** 2 - log(sigma) - 0.5 * log(2 * np.pi)).sum(-1)


def exact_bound(by_hand, mu: float, log_sigma: float, scale: float = 1.0) -> float:
    """L_f by quadrature, from the tabled f: E_q[w f(1 / w)]."""
    q = stats.norm(mu, exp(log_sigma))

    def integrand(z):
        p = joint_pdf(z) / scale
        return p * by_hand(q.pdf(z) / p)

    return integrate.quad(integrand, -11, 11, points=[-2, 0, 0.5, 2], epsabs=1e-12, epsrel=1e-12, limit=400)[0]


def by_differences(by_hand, mu: float, log_sigma: float, scale: float = 1.0) -> np.ndarray:
    h = 1e-4

    def difference(a, b):
        return (exact_bound(by_hand, mu + a, log_sigma + b, scale) - exact_bound(by_hand, mu - a, log_sigma - b, scale)) / (
            2 * h
        )

    return np.array([difference(h, 0), difference(0, h)])


NODES = torch.linspace(-10, 10, 4001, dtype=torch.float64)
NORMAL = torch.exp(-0.5 * NODES**2) / sqrt(2 * np.pi) * (NODES[1] - NODES[0])  # what each node counts for


def expected_gradient(estimator, mu: float, log_sigma: float) -> np.ndarray:
    """The expected gradient of L_f by one draw, by quadrature over that draw: each of many data points draws a node."""
    q = Normal(*(torch.full((len(NODES), 1), value, dtype=torch.float64) for value in (mu, log_sigma)))
    ascent = estimator(q, log_joint, (q.mu + q.log_sigma.exp() * NODES[:, None])[None]).gradient[0, :, 0]
    return -(NORMAL @ ascent).numpy()


AT = (-0.1, log(0.9))

ESTIMATORS = {
    "reparameterized": partial(fvi.reparameterized, fvi.jensen_shannon),
    "score_function": partial(fvi.score_function, fvi.exclusive_kl),
    "renyi_gradient": partial(fvi.renyi_gradient, alpha=0.5),
    "tail_adaptive_gradient": fvi.tail_adaptive_gradient,
    "alpha_beta_gradient": partial(fvi.alpha_beta_gradient, alpha=0.7, beta=0.6),
}
EACH = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)


@pytest.mark.equation("eq-fvi-score", oracle="finite differences of a quadrature")
@pytest.mark.parametrize("scale", [1.0, 0.3])
@GENERATORS
@pytest.mark.slow
def test_the_score_functions_estimate_is_unbiased_for_the_gradient_of_the_bound(f, by_hand, scale):
    ours = expected_gradient(partial(fvi.score_function, f, log_scale=log(scale)), *AT)
    tolerance = 2e-3 if f is fvi.total_variation else 2e-5  # its integrand jumps
    assert ours == pytest.approx(by_differences(by_hand, *AT, scale), rel=tolerance, abs=tolerance)


@pytest.mark.equation("eq-fvi-reparameterized", oracle="finite differences of a quadrature")
@pytest.mark.parametrize("scale", [1.0, 0.3])
@GENERATORS
@pytest.mark.slow
def test_the_reparameterized_estimate_is_unbiased_for_the_gradient_of_the_bound(f, by_hand, scale):
    ours = expected_gradient(partial(fvi.reparameterized, f, log_scale=log(scale)), *AT)
    tolerance = 2e-3 if f is fvi.total_variation else 2e-5  # its integrand jumps
    assert ours == pytest.approx(by_differences(by_hand, *AT, scale), rel=tolerance, abs=tolerance)


@pytest.mark.equation("eq-fvi-score", oracle="quadrature")
@pytest.mark.equation("eq-fvi-score-forms", oracle="quadrature")
def test_weighting_the_score_by_f_star_itself_is_right_for_minus_log_only():
    q = stats.norm(0, 1)

    def expect(weight) -> float:
        return integrate.quad(lambda z: q.pdf(z) * weight(joint_pdf(z) / q.pdf(z)) * z, -12, 12, epsabs=1e-12, limit=400)[0]

    right = {name: by_differences(BY_HAND[name][1], 0, 0)[0] for name in ("chi_square dual", "chi_square", "exclusive_kl")}
    assert right["chi_square dual"] == pytest.approx(-0.0638, abs=5e-5)
    assert right["chi_square"] == pytest.approx(-20.4, abs=0.05)
    assert expect(lambda w: w**2 - 1) == pytest.approx(0.0638, abs=5e-5), "f* = t^2 - 1: of the wrong sign"
    assert expect(lambda w: 1 / w - w) == pytest.approx(-10.3, abs=0.05), "f = t^2 - 1: half as large"
    assert expect(lambda w: -np.log(w)) == pytest.approx(right["exclusive_kl"], abs=1e-6)
    for name, by_w in (("chi_square dual", lambda w: (w**2 - 1) - 2 * w**2), ("chi_square", lambda w: (1 / w - w) + 1 / w + w)):
        f = BY_HAND[name][0]
        assert expect(by_w) == pytest.approx(right[name], rel=1e-5), "f* - w f*'"
        assert expect(lambda w, f=f: f.f.slope(double(-log(w))).item()) == pytest.approx(right[name], rel=1e-5), "f'(1/w)"


def test_leaving_out_that_qs_density_depends_on_its_parameters_is_unbiased_for_the_elbo_only():
    def along_the_draws(f):
        def estimator(q, log_joint, z):
            return gradients.along(q, lambda q, z: -fvi.variational_bound(f, log_joint(z) - q.detach().log_prob(z)), z)

        return expected_gradient(estimator, *AT)

    assert along_the_draws(fvi.exclusive_kl) == pytest.approx(by_differences(BY_HAND["exclusive_kl"][1], *AT), abs=1e-5)
    for name in ("chi_square", "hellinger", "power -1", "inclusive_kl"):
        assert np.abs(along_the_draws(BY_HAND[name][0]) - by_differences(BY_HAND[name][1], *AT)).max() > 0.03


@pytest.mark.equation("eq-fvi-total-variation", oracle="quadrature")
def test_where_all_weights_are_below_one_total_variation_bounds_nothing_and_has_no_gradient():
    by_hand = BY_HAND["total_variation"][1]
    scale = 20.0  # p(x) = .015
    for mu, log_sigma in (AT, (0.5, 0.0)):
        z = np.linspace(-10, 10, 2001)
        assert (joint_pdf(z) / scale < stats.norm.pdf(z, mu, exp(log_sigma)) + 1e-300).all()
        assert exact_bound(by_hand, mu, log_sigma, scale) == pytest.approx((1 - EVIDENCE / scale) / 2, abs=1e-9)
    for estimator in (fvi.reparameterized, fvi.score_function):
        of_single_draws = partial(estimator, fvi.total_variation, log_scale=log(scale))
        assert np.abs(expected_gradient(of_single_draws, *AT)).max() < 1e-9
        q = Normal(double(AT[0]), double(AT[1]))
        gradient = of_single_draws(q, log_joint, importance.draw(q, 1000, generator())).gradient
        assert gradient[..., 0].abs().mean() > 1e-3, "yet single draws have one"
    rescaled = expected_gradient(partial(fvi.score_function, fvi.total_variation, log_scale=log(EVIDENCE)), *AT)
    assert np.abs(rescaled).max() > 0.1


# Unbiased under real draws, and as written by hand under the same noise


@pytest.mark.equation("eq-fvi-bound", oracle="quadrature")
@pytest.mark.parametrize("name", ["exclusive_kl", "inclusive_kl", "hellinger", "jensen_shannon", "power -1"])
def test_the_mean_over_draws_is_unbiased_for_the_bound(name):
    f, by_hand = BY_HAND[name]
    q = Normal(double(0.1), double(0.1))
    log_w = importance.log_weights(log_joint, q, 200_000, generator(3))
    assert_mean_is(fvi.variational_bound(f, log_w[None]), exact_bound(by_hand, 0.1, 0.1))


@pytest.mark.equation("eq-fvi-score", oracle="enumeration")
@pytest.mark.parametrize("name", ["exclusive_kl", "chi_square", "hellinger", "power -1"])
def test_the_score_function_serves_a_discrete_q(name):
    f, by_hand = BY_HAND[name]
    logits, n, h = np.array([0.2, -0.3, 0.1, 0.4]), 200_000, 1e-5

    def exact(k):
        up, down = (special.softmax(logits + sign * h * np.eye(4)[k]) for sign in (1, -1))
        return (l_f(by_hand, up, JOINT) - l_f(by_hand, down, JOINT)) / (2 * h)

    q, table = Categorical(torch.from_numpy(logits)[None]), torch.from_numpy(np.log(JOINT))  # one latent, of four values
    z = importance.draw(q, n, generator(5))
    ascent = fvi.score_function(f, q, lambda z: table[z[..., 0]], z, log_scale=0.0).gradient
    for k in (0, 3):
        assert_mean_is(-ascent[:, 0, k], exact(k))


@pytest.mark.equation("eq-fvi-reparameterized", oracle="independent code: numpy, under the same noise")
@pytest.mark.equation("eq-fvi-score", oracle="independent code: numpy, under the same noise")
@pytest.mark.parametrize("name", SMOOTH)
def test_both_gradients_are_the_ones_derived_by_hand_under_the_same_noise_and_an_evidence_estimate_held_fixed(name):
    f, by_hand = BY_HAND[name]
    mu, log_sigma, draws = 0.3, -0.2, 6
    eps = torch.randn(draws, 1, generator=generator(8), dtype=torch.float64).numpy()[:, 0]
    sigma = exp(log_sigma)
    z = mu + sigma * eps
    w = joint_pdf(z) / stats.norm.pdf(z, mu, sigma)
    w = w / w.mean()
    h = 1e-6

    def dual_slope(t):
        return ((t + h) * by_hand(1 / (t + h)) - (t - h) * by_hand(1 / (t - h))) / (2 * h)

    at_zero = by_hand(1e-300) if np.isfinite(by_hand(np.float64(1e-300))) and abs(by_hand(1e-300)) < 100 else dual_slope(1.0)
    star_slope = dual_slope(w) - at_zero
    slope = (by_hand(1 / w + h) - by_hand(1 / w - h)) / (2 * h)
    drift = -(z - MEAN) / SPREAD**2  # of log p; log q at its own draws does not move with mu, and falls by 1 with log sigma
    hand = {
        fvi.reparameterized: ((star_slope * w * drift).mean(), (star_slope * w * (drift * sigma * eps + 1)).mean()),
        fvi.score_function: ((slope * eps / sigma).mean(), (slope * (eps**2 - 1)).mean()),
    }
    q = Normal(double(mu), double(log_sigma))
    for estimator, expected in hand.items():
        ours = estimator(f, q, log_joint, importance.draw(q, draws, generator(8)))
        assert -ours.value.mean().item() == pytest.approx((w * by_hand(1 / w)).mean(), rel=1e-9)
        assert -ours.gradient.mean(0)[0].numpy() == pytest.approx(expected, rel=1e-6, abs=1e-6)


@EACH
@pytest.mark.parametrize("draws", [1, 2, 7])
def test_a_surrogate_has_the_estimates_value_and_carries_its_gradient_to_what_computed_q(estimator, draws):
    parameters = double(0.3, -0.2).requires_grad_()
    q = Normal(parameters[:1], parameters[1:])
    estimate = estimator(q, log_joint, importance.draw(q, draws, generator(1)).detach())
    surrogate = gradients.surrogate(q, estimate)
    assert surrogate.item() == pytest.approx(estimate.value.mean(0).item())
    (found,) = torch.autograd.grad(surrogate, parameters)
    assert torch.allclose(found, estimate.gradient.mean(0)[0])


@pytest.mark.parametrize("rescaled", [True, False])
@pytest.mark.parametrize("name", ["exclusive_kl", "hellinger", "power -1"])
def test_the_bounds_of_draws_that_move_are_losses_with_the_estimators_gradient(name, rescaled):
    f = BY_HAND[name][0]
    q = Normal(double(0.3).requires_grad_(), double(-0.2).requires_grad_())
    log_w = importance.log_weights(log_joint, q, 7, generator(1))
    loss = fvi.rescaled_bound(f, log_w) if rescaled else fvi.variational_bound(f, log_w, log_scale=-0.5)
    by_autograd = torch.cat(torch.autograd.grad(loss, [q.mu, q.log_sigma]))
    z = importance.draw(q.detach(), 7, generator(1))
    ours = fvi.reparameterized(f, q, log_joint, z, log_scale=None if rescaled else -0.5)
    assert torch.allclose(-ours.gradient.mean(0)[0], by_autograd)


@pytest.mark.parametrize("name", ["exclusive_kl", "hellinger", "power -1"])
def test_an_estimate_serves_whatever_takes_an_estimator(name):
    estimator = partial(fvi.score_function, BY_HAND[name][0], log_scale=log(EVIDENCE))
    q = Normal(double(0.1), double(0.1))
    variance = gradients.variance_per_draw(estimator, q, log_joint, 3, generator(1), repeats=500)
    assert variance.shape == (1, 2) and (variance > 0).all()
    model = gradients.BlackBoxVI(q, lambda _: log_joint, estimator, draws=5)
    loss = model.loss(torch.zeros(1, 1), generator(1))["loss"]
    loss.backward()
    assert model.value.grad.abs().min() > 0


# In logarithms


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("offset", [-1000.0, 1000.0])
def test_the_size_of_p_x_does_not_matter_once_weights_are_rescaled(name, offset):
    f, _ = BY_HAND[name]
    losses = []
    for shift in (0.0, offset):
        q = Normal(double(0.3), double(-0.2))
        value, gradient = fvi.reparameterized(
            f, q, lambda z, shift=shift: log_joint(z) + shift, importance.draw(q, 20, generator(1))
        )
        losses.append([value.mean().item(), *gradient.mean(0)[0].tolist()])
    assert np.isfinite(losses).all()
    assert losses[0] == pytest.approx(losses[1], rel=1e-9, abs=1e-9)


def test_without_rescaling_a_bound_over_or_underflows_with_p_x():
    q = Normal(double(0.3), double(-0.2))
    tiny = importance.log_weights(lambda z: log_joint(z) - 1000, q, 20, generator(1))
    assert fvi.variational_bound(fvi.chi_square, tiny).item() == inf  # it grows as 1 / p(x)
    assert fvi.variational_bound(fvi.inclusive_kl, tiny).item() == 0
    ordinary = importance.log_weights(lambda z: log_joint(z) - 5, q, 20, generator(1))
    ratio = fvi.variational_bound(fvi.power(2.0), ordinary - 1) + 0.5, fvi.variational_bound(fvi.power(2.0), ordinary) + 0.5
    assert (ratio[0] / ratio[1]).item() == pytest.approx(exp(1))


def test_renyis_bound_and_its_gradient_survive_weights_that_make_a_power_overflow():
    q = Normal(torch.zeros(1), torch.zeros(1))

    def far(z: Tensor) -> Tensor:
        return -((50 * z[..., 0]) ** 2)

    assert fvi.variational_bound(fvi.power(2.0), importance.log_weights(far, q, 50, generator())).item() == inf
    value, gradient = fvi.renyi_gradient(q, far, importance.draw(q, 50, generator()), alpha=2.0)
    assert value.isfinite().all() and gradient.isfinite().all()


# Renyi's bound and the sandwich


def exact_renyi(alpha: float, mu: float, log_sigma: float) -> float:
    q = stats.norm(mu, exp(log_sigma))
    if alpha == 1:
        return integrate.quad(lambda z: q.pdf(z) * (np.log(joint_pdf(z)) - q.logpdf(z)), -10, 10)[0]
    moment = integrate.quad(lambda z: q.pdf(z) ** alpha * joint_pdf(z) ** (1 - alpha), -10, 10, epsabs=1e-13, limit=200)[0]
    return log(moment) / (1 - alpha)


@pytest.mark.equation("eq-fvi-renyi", oracle="quadrature")
@pytest.mark.parametrize("alpha", [2.0, 1.0, 0.5, 0.0, -1.0])
def test_renyis_bound_is_its_integral_and_falls_as_alpha_rises(alpha):
    q = Normal(double(0.1), double(-0.1))
    log_w = importance.log_weights(log_joint, q, 400_000, generator(2))
    exact = exact_renyi(alpha, 0.1, -0.1)
    assert fvi.renyi_bound(log_w, alpha=alpha).item() == pytest.approx(exact, abs=0.004)
    assert (exact < log(EVIDENCE)) == (alpha > 0) or alpha == 0
    assert exact_renyi(alpha + 0.1, 0.1, -0.1) < exact


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-30, 30), min_size=1, max_size=8), st.floats(-3, 3), st.floats(-3, 3))
def test_renyis_bound_of_any_weights_falls_as_alpha_rises(weights, alpha, other):
    log_w = torch.tensor(weights, dtype=torch.float64)
    low, high = (fvi.renyi_bound(log_w, alpha=a).item() for a in (max(alpha, other), min(alpha, other)))
    assert low <= high + 1e-9 * (1 + abs(high)) or abs(1 - alpha) < 1e-6 or abs(1 - other) < 1e-6
    assert log_w.min() - 1e-6 <= low and high <= log_w.max() + 1e-6


@pytest.mark.equation("eq-fvi-renyi", oracle="enumeration")
@pytest.mark.parametrize("alpha", [2.0, 0.5, -1.0])
def test_renyis_bound_is_the_evidence_less_the_divergence_and_a_function_of_the_power_bound(alpha):
    posterior = JOINT / JOINT.sum()
    divergence = np.log((Q**alpha * posterior ** (1 - alpha)).sum()) / (alpha - 1)
    moment = (Q**alpha * JOINT ** (1 - alpha)).sum()
    assert np.log(moment) / (1 - alpha) == pytest.approx(np.log(JOINT.sum()) - divergence)
    assert l_f(power_by_hand(alpha), Q, JOINT) == pytest.approx((moment - 1) / (alpha * (alpha - 1)))
    repeated = torch.from_numpy(np.repeat(np.log(JOINT / Q), np.round(10 * Q).astype(int)))  # q is in tenths
    assert fvi.renyi_bound(repeated, alpha=alpha).item() == pytest.approx(np.log(moment) / (1 - alpha))


FEW = np.array([-1.3, -0.4, 0.1, 0.7, 1.9])  # standard normal draws, held fixed


def log_weights_of_few(value: np.ndarray) -> np.ndarray:
    """log w of z = mu + sigma eps for the few draws, written out."""
    z = value[0] + exp(value[1]) * FEW
    return np.log(joint_pdf(z)) - stats.norm(value[0], exp(value[1])).logpdf(z)


def slopes(function, value: np.ndarray) -> list[float]:
    return [(function(value + h) - function(value - h)) / 2e-5 for h in 1e-5 * np.eye(2)]


@pytest.mark.equation("eq-fvi-renyi", oracle="finite differences of the mean of powers, written out")
@pytest.mark.parametrize("alpha", [3.0, 0.5, 1.0, -0.7])
def test_renyis_estimate_is_the_log_of_a_mean_of_powers_raised_where_it_bounds_from_below_and_lowered_else(alpha):
    value = np.array(AT)

    def raised(value):
        log_w = log_weights_of_few(value)
        bound = log_w.mean() if alpha == 1 else np.log(np.mean(np.exp((1 - alpha) * log_w))) / (1 - alpha)
        return bound if alpha > 0 else -bound

    q = Normal(double(AT[0]), double(AT[1]))
    ours = fvi.renyi_gradient(q, log_joint, torch.from_numpy(AT[0] + exp(AT[1]) * FEW)[:, None], alpha=alpha)
    assert ours.value.numpy() == pytest.approx([raised(value)] * 5, abs=1e-10)
    assert ours.gradient.mean(0)[0].numpy() == pytest.approx(slopes(raised, value), abs=1e-7)


@pytest.mark.equation("eq-fvi-score", oracle="finite differences of f, and of log q, for given draws")
@GENERATORS
def test_the_score_functions_estimate_divides_by_the_mean_weight_and_holds_it_fixed(f, by_hand):
    z, value, h = AT[0] + exp(AT[1]) * FEW, np.array(AT), 1e-6
    log_w = log_weights_of_few(value)
    w = np.exp(log_w) / np.exp(log_w).mean()
    slope = (by_hand(1 / w + h) - by_hand(1 / w - h)) / (2 * h)
    scores = np.array(slopes(lambda value: stats.norm(value[0], exp(value[1])).logpdf(z), value)).T
    ours = fvi.score_function(f, Normal(double(AT[0]), double(AT[1])), log_joint, torch.from_numpy(z)[:, None])
    assert ours.value.numpy() == pytest.approx(-w * by_hand(1 / w), abs=1e-9)
    assert ours.gradient[:, 0].numpy() == pytest.approx(-slope[:, None] * scores, abs=1e-5)


@pytest.mark.equation("eq-fvi-inclusive-bound", oracle="enumeration")
def test_normalized_weights_bound_the_evidence_from_above_by_the_inclusive_kl():
    repeated = torch.from_numpy(np.repeat(np.log(JOINT / Q), np.round(10 * Q).astype(int)))
    posterior = JOINT / JOINT.sum()
    exact = np.log(JOINT.sum()) + special.rel_entr(posterior, Q).sum()
    assert fvi.inclusive_bound(repeated).item() == pytest.approx(exact)
    assert importance.log_mean(repeated).item() == pytest.approx(log(JOINT.sum()))


@pytest.mark.equation("eq-fvi-sandwich", oracle="quadrature")
def test_the_evidence_lies_between_the_two_bounds():
    q = Normal(double(0.1), double(0.2))
    below, above = fvi.sandwich(importance.log_weights(log_joint, q, 100_000, generator(1)))
    assert below.item() == pytest.approx(exact_renyi(1, 0.1, 0.2), abs=0.01)
    assert above.item() == pytest.approx(exact_renyi(-1, 0.1, 0.2), abs=0.01)
    assert below < log(EVIDENCE) - 0.05 and above > log(EVIDENCE) + 0.05


def test_from_one_draw_every_upper_bound_is_the_elbos_estimate_and_lies_too_low():
    log_w = importance.log_weights(log_joint, Normal(double(0.1), double(0.2)), 100_000, generator(1))[None]
    below, above = fvi.sandwich(log_w)
    assert torch.allclose(below, above)
    assert_mean_is(above, exact_renyi(1, 0.1, 0.2))
    assert above.mean() < log(EVIDENCE)


def test_from_a_q_that_misses_a_mode_the_upper_bound_is_far_above_the_evidence_and_its_estimate_below():
    def log_p(z):
        return stats.norm.logpdf(z) + stats.norm.logpdf(4.0, z**2, 1)  # modes near -1.9 and 1.9

    q = stats.norm(1.81, 0.28)
    evidence = log(integrate.quad(lambda z: np.exp(log_p(z)), -5, 5, points=[-2, 0, 2], epsabs=1e-13)[0])
    z = np.linspace(-9, 9, 20_001)
    exact = special.logsumexp(2 * log_p(z) - q.logpdf(z) + log(z[1] - z[0])) / 2
    draws = torch.from_numpy(q.rvs((1000, 100), random_state=np.random.default_rng(1)))
    _, above = fvi.sandwich(torch.from_numpy(log_p(draws.numpy()) - q.logpdf(draws.numpy())))
    assert exact > evidence + 40
    assert (above < evidence).double().mean() > 0.9


def test_the_sandwich_refuses_alphas_of_the_wrong_sign_and_weights_that_are_no_numbers():
    log_w = double(0.1, 0.2)
    with pytest.raises(ValueError, match="lower bound needs alpha > 0"):
        fvi.sandwich(log_w, below=-0.5)
    with pytest.raises(ValueError, match="upper one alpha < 0"):
        fvi.sandwich(log_w, above=0.5)
    for at_zero in ({"below": 0.0}, {"above": 0.0}):  # the evidence's own estimate, which bounds on neither side
        with pytest.raises(ValueError, match="lower bound needs alpha > 0"):
            fvi.sandwich(log_w, **at_zero)
    with pytest.raises(ValueError, match="NaN"):
        fvi.sandwich(double(0.1, nan))
    assert fvi.sandwich(double(0.1, -inf))[0] == -inf  # a draw where p = 0 is no mistake


# Bad input, shapes, randomness


def test_bad_weights_are_refused(no_shape_checks):
    for function in (
        *(partial(bound, fvi.hellinger) for bound in (fvi.variational_bound, fvi.rescaled_bound)),
        partial(fvi.renyi_bound, alpha=0.5),
    ):
        with pytest.raises(TypeError, match=r"must be floats, got torch\.int64"):
            function(torch.zeros(3, dtype=torch.int64))
        with pytest.raises(ValueError, match=r"at least one draw first, got shape \(0, 4\)"):
            function(torch.zeros(0, 4))
        with pytest.raises(ValueError, match="at least one draw"):
            function(torch.zeros(()))
    with pytest.raises(ValueError, match="alpha must be a finite number"):
        fvi.renyi_bound(torch.zeros(3), alpha=nan)


@EACH
def test_estimators_refuse_a_joint_density_of_the_wrong_shape(estimator):
    q = Normal(torch.zeros(3, 2), torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"shape \(5, 3\); got \(5, 3, 2\)"):
        estimator(q, lambda z: z, importance.draw(q, 5))


@EACH
def test_only_the_score_serves_a_discrete_q(estimator, no_shape_checks):
    q = Bernoulli(torch.zeros(3))
    z = importance.draw(q, 5, generator(1))
    if estimator is ESTIMATORS["score_function"]:
        assert estimator(q, lambda z: z.sum(-1), z).gradient.shape == (5, 3, 1)
    else:
        with pytest.raises(TypeError, match="do not move with its parameters"):
            estimator(q, lambda z: z.sum(-1), z)


@pytest.mark.parametrize("alpha", [0.0, nan, inf])
def test_renyis_gradient_refuses_alphas_at_which_there_is_nothing_to_raise(alpha):
    with pytest.raises(ValueError, match="inclusive_kl"):
        fvi.renyi_gradient(Normal(double(0.0), double(0.0)), log_joint, double(0.1, 0.2)[:, None], alpha=alpha)


@EACH
def test_estimates_have_a_value_and_a_gradient_for_each_draw_and_data_point_and_draw_nothing(estimator):
    q = Normal(torch.randn(4, 2, generator=generator(1)), torch.zeros(4, 2))
    state, z = torch.random.get_rng_state(), importance.draw(q, 7, generator(1))
    together = estimator(q, lambda z: log_normal(z, 0.5, 1.0), z)
    assert together.value.shape == (7, 4) and together.gradient.shape == (7, 4, 2, 2)
    assert not together.value.requires_grad and not together.gradient.requires_grad
    alone = estimator(q[2:3], lambda z: log_normal(z, 0.5, 1.0), z[:, 2:3])
    assert torch.allclose(together.gradient[:, 2:3], alone.gradient, atol=1e-6), "a data point's own draws alone count"
    assert torch.equal(torch.random.get_rng_state(), state)


def vae(x: Tensor):
    """A small VAE and its log p(x, z)."""
    model = bernoulli_vae(6, 2, hidden=(5,)).to(x)
    return model, lambda z: model.decode(z).log_prob(x) + Normal.standard(z).log_prob(z)


@EACH
def test_estimators_train_the_encoder_of_a_vae(estimator):
    x = (torch.rand(9, 6, generator=generator(3)) < 0.4).float()
    model, log_joint = vae(x)
    q = model.encode(x)
    gradients.surrogate(q, estimator(q, log_joint, importance.draw(q, 8, generator(1)))).mean().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in model.encoder.parameters())
    assert all(p.grad is None for p in model.decoder.parameters())


BOUNDS = {
    "L_f": partial(fvi.variational_bound, fvi.exclusive_kl),
    "rescaled": partial(fvi.rescaled_bound, fvi.jensen_shannon),
    "Renyi": partial(fvi.renyi_bound, alpha=0.5),
    "inclusive": fvi.inclusive_bound,
}


@pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)
def test_the_bounds_themselves_train_the_encoder_and_the_decoder_of_a_vae(bound):
    x = (torch.rand(9, 6, generator=generator(3)) < 0.4).float()
    model, log_joint = vae(x)
    loss = bound(importance.log_weights(log_joint, model.encode(x), 8, generator(1)))
    loss.mean().backward()
    assert loss.shape == (9,)
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.equation("eq-fvi-elbo", oracle="independent code: the VAE's estimate of its ELBO, from the same draws")
def test_the_exclusive_kl_is_minus_the_elbo_of_a_vae_and_has_its_gradient():
    x = (torch.rand(9, 6, generator=generator(3)) < 0.4).double()
    model, log_joint = vae(x)
    log_w = importance.log_weights(log_joint, model.encode(x), 3, generator(1))
    loss, elbo = fvi.variational_bound(fvi.exclusive_kl, log_w), model.elbo_a(x, 3, generator(1))
    assert torch.allclose(loss, -elbo)
    parameters = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(loss.sum(), parameters), torch.autograd.grad(-elbo.sum(), parameters), strict=True
    ):
        assert torch.allclose(ours, theirs)


@pytest.mark.equation("eq-fvi-elbo", oracle="independent code: the estimators of the ELBO, from the same draws")
def test_of_the_exclusive_kl_the_estimates_are_those_of_the_elbo():
    q = Normal(torch.randn(4, 2, generator=generator(1)).double(), torch.zeros(4, 2).double())
    z, target = importance.draw(q, 7, generator(1)), lambda z: log_normal(z, 0.5, 1.0)
    ours = fvi.reparameterized(fvi.exclusive_kl, q, target, z, log_scale=0.0)
    theirs = gradients.reparameterized(q, target, z)
    assert torch.allclose(ours.value.mean(0), theirs.value.mean(0)) and torch.allclose(ours.gradient, theirs.gradient)
    ours = fvi.score_function(fvi.exclusive_kl, q, target, z, log_scale=0.0)
    theirs = gradients.reinforce(q, target, z)
    assert torch.allclose(ours.value, theirs.value)
    # f'(1 / w) is 1 - log w: the one has mean zero beside the score
    assert torch.allclose(ours.gradient, theirs.gradient - gradients.score(q, z))


# Training

TILTED = TiltedGaussian(0.9)
NO_DATA = torch.zeros(1, 1)


def fit(estimator, draws: int = 100, steps: int = 1500, device: str = "cpu") -> Normal:
    model = gradients.BlackBoxVI(Normal(torch.zeros(2), torch.zeros(2)), lambda _: TILTED.log_prob, estimator, draws)
    settings = {"optimizer": partial(torch.optim.Adam, lr=0.01), "device": device, "progress": False, "batch_size": 1}
    training.fit(model, NO_DATA, steps=steps, **settings)
    return model.q


@pytest.mark.parametrize(
    "estimator, alpha",
    [
        (partial(fvi.reparameterized, fvi.exclusive_kl), 1.0),
        (partial(fvi.renyi_gradient, alpha=0.5), 0.5),
        (partial(fvi.reparameterized, fvi.hellinger), 0.5),
        (partial(fvi.renyi_gradient, alpha=2.0), 2.0),
    ],
    ids=["KL", "Renyi .5", "Hellinger", "Renyi 2"],
)
@pytest.mark.slow
def test_mean_field_trained_by_draws_finds_the_variance_that_the_formula_gives(estimator, alpha):
    q = fit(estimator)
    assert torch.allclose((2 * q.log_sigma).exp(), torch.tensor(fvi.mean_field_variance(alpha, 0.9)), rtol=0.2)
    assert q.mu.abs().max() < 0.15


# A GPU


@pytest.mark.gpu
@needs_cuda
@EACH
def test_a_gpu_gives_the_losses_and_gradients_of_the_cpu(estimator):
    found = []
    for device in ("cpu", "cuda"):
        q = Normal(*(torch.full((3, 2), v, device=device) for v in (0.3, -0.2)))
        value, gradient = estimator(q, lambda z: log_normal(z, 0.5, 1.0), importance.draw(q, 50, generator(1)))
        found.append(torch.cat([value.mean(0), gradient.mean(0).flatten()]).cpu())
    assert torch.allclose(*found, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@needs_cuda
@EACH
def test_a_step_on_a_gpu_copies_nothing_to_the_host(estimator):
    q = Normal(*(torch.full((3, 2), v, device="cuda") for v in (0.3, -0.2)))
    noise = torch.Generator("cuda").manual_seed(1)
    estimator(q, lambda z: -0.5 * (z**2).sum(-1), importance.draw(q, 50, noise))
    torch.cuda.set_sync_debug_mode("error")
    try:
        estimator(q, lambda z: -0.5 * (z**2).sum(-1), importance.draw(q, 50, noise))
    finally:
        torch.cuda.set_sync_debug_mode("default")


# Zeros, and ratios beyond the floats


def test_a_curve_has_its_limit_at_zero_and_no_gradient_there():
    for f in (*fvi.ALL, fvi.power(0.3), fvi.power(-1.0), fvi.power(2.5)):
        for curve in (f.f, f.star):
            log_t = torch.tensor([-inf, -1.0], dtype=torch.float64, requires_grad=True)
            value = curve.value(log_t)
            assert value[0].item() == curve.at_zero and value[1].isfinite()
            (slope,) = torch.autograd.grad(value[1], log_t)
            assert slope.isfinite().all()


@pytest.mark.parametrize("f", [fvi.inclusive_kl, fvi.jensen_shannon, fvi.hellinger, fvi.total_variation, fvi.power(0.3)])
def test_draws_of_weight_zero_leave_losses_and_their_gradients_finite(f):
    log_w = torch.tensor([0.3, -inf, -1.0], dtype=torch.float64, requires_grad=True)
    w = np.exp([0.3, -np.inf, -1.0])
    by_hand = np.mean([f.star.at_zero if one == 0 else f.star.value(double(log(one))).item() for one in w])
    for loss in (fvi.variational_bound(f, log_w), fvi.rescaled_bound(f, log_w), fvi.inclusive_bound(log_w)):
        (slope,) = torch.autograd.grad(loss, log_w)
        assert loss.isfinite() and slope.isfinite().all() and slope[1] == 0
    assert fvi.variational_bound(f, log_w).item() == pytest.approx(by_hand)
    assert fvi.inclusive_bound(log_w).item() == pytest.approx((w[[0, 2]] * np.log(w[[0, 2]])).sum() / w.sum())


@pytest.mark.parametrize("dtype, far", [(torch.float32, -200.0), (torch.float64, -2000.0)])
def test_ratios_that_overflow_have_the_divergences_that_their_points_have(dtype, far):
    """p = (1/2, 1/2), q = (1, e^far): KL(p || q) is log(1/2) - far / 2, Hellinger 2 - 2 sqrt(1/2), total variation 1/2."""
    log_q, log_p = torch.tensor([0.0, far], dtype=dtype), torch.tensor([0.5, 0.5], dtype=dtype).log()
    right = {fvi.inclusive_kl: log(0.5) - far / 2, fvi.hellinger: 2 - 2 * sqrt(0.5), fvi.total_variation: 0.5}
    right |= {fvi.exclusive_kl: log(2), fvi.chi_square: 1.0, fvi.jensen_shannon: jensenshannon([0.5, 0.5], [1, 0]) ** 2}
    for f, value in right.items():
        assert fvi.divergence(f, log_q, log_p).item() == pytest.approx(value, rel=1e-5), f.name


@pytest.mark.parametrize("alpha", [1e-6, -1e-6, 1 - 1e-6, 1 + 1e-6])
def test_powers_near_their_limits_keep_single_precision(alpha):
    log_q, log_p = (torch.randn(50, generator=generator(seed)).log_softmax(0) for seed in (0, 1))
    limit = fvi.inclusive_kl if abs(alpha) < 0.5 else fvi.exclusive_kl
    right = fvi.divergence(limit, log_q.double(), log_p.double()).item()
    assert fvi.divergence(fvi.power(alpha), log_q, log_p).item() == pytest.approx(right, rel=1e-3)
    bound, elbo = fvi.renyi_bound(log_p - log_q, alpha=1 + 1e-6), (log_p - log_q).double().mean().item()
    assert bound.item() == pytest.approx(elbo, rel=1e-4)


def test_an_interval_reaches_as_far_as_its_value_says():
    low, high = fvi.evidence_interval(fvi.exclusive_kl, double(100.0, 5.0, -300.0))
    assert low.tolist() == pytest.approx([-100, -5, 300]) and high.tolist() == [inf] * 3
    low, high = fvi.evidence_interval(fvi.inclusive_kl, double(1e40))
    assert low.item() == -inf and exp(high.item()) * high.item() == pytest.approx(1e40)
    low, high = fvi.evidence_interval(fvi.exclusive_kl, double(80.0, 160.0))  # where the search begins, and doubles
    assert low.tolist() == pytest.approx([-80, -160])
    assert fvi.evidence_interval(fvi.exclusive_kl, double(100.0), reach=80.0)[0].item() == -inf


@pytest.mark.parametrize("reach", [50.0, 80.0, 100.0])
def test_ends_within_reach_are_found_and_beyond_it_infinite(reach):
    near, far = 0.9 * reach, 1.5 * reach
    low, _ = fvi.evidence_interval(fvi.exclusive_kl, double(near, far), reach=reach)
    assert low.tolist() == [pytest.approx(-near), -inf]
    _, high = fvi.evidence_interval(fvi.power(-1.0), double(exp(2 * near) / 2, exp(2 * far) / 2), reach=reach)
    assert high.tolist() == [pytest.approx(near), inf]
    with pytest.raises(ValueError, match=f"within {reach:g} nats of Z"):
        fvi.evidence_interval(fvi.exclusive_kl, double(-far), reach=reach)
