"""Importance weights, against a model whose evidence is known."""

from math import log

import pytest
import torch

from helpers import assert_mean_is, double, generator
from vaecourse import importance
from vaecourse.distributions import Normal
from vaecourse.exact_models import ConjugateGaussian
from vaecourse.importance import effective_sample_size, log_mean, power_mean

WORLD = ConjugateGaussian(c=0.5)
X = double(0.7)[None]
Q = Normal(double(0.2)[None], double(-0.1)[None])


def log_joint(z):
    return Normal.standard(z).log_prob(z) + WORLD.likelihood(z).log_prob(X)


def test_the_mean_weight_is_the_evidence():
    log_w = importance.log_weights(log_joint, Q, 40_000, generator())
    evidence = WORLD.evidence(X).item()
    assert_mean_is((log_w - evidence).exp(), 1.0)
    assert importance.log_mean(log_w).item() == pytest.approx(log_w.exp().mean().log().item(), abs=1e-12)
    assert importance.log_mean(log_w).item() == pytest.approx(evidence, abs=0.02)


def test_one_draw_is_the_default_and_its_weight_is_a_mean():
    log_w = importance.log_weights(log_joint, Q, generator=generator(1))
    assert log_w.shape == (1, 1) and torch.equal(importance.log_mean(log_w), log_w[0])


@pytest.mark.parametrize("log_w, size", [([0.0, 0.0, 0.0, 0.0], 4.0), ([0.0, -800.0, -800.0], 1.0), ([log(3), 0.0], 16 / 10)])
def test_the_effective_sample_size_counts_the_draws_that_matter(log_w, size):
    assert importance.effective_sample_size(double(*log_w)).item() == pytest.approx(size, abs=1e-12)


def test_what_cannot_be_right_is_said():
    with pytest.raises(ValueError, match="draws, the number a data point, must be at least 1; got 0"):
        importance.draw(Q, 0)
    with pytest.raises(ValueError, match=r"shape \(3, 1\); got \(3, 1, 1\)"):
        importance.log_weights(lambda z: z, Q, 3)


@pytest.mark.parametrize("power", [1e-6, -1e-6, 1e-3, 0.0])
def test_the_mean_of_a_small_power_keeps_single_precision_near_its_limit(power):
    """Against double precision of a hundred digits' worth: log E w^s / s, by the cumulants mean + s variance / 2."""
    log_w = 3 * torch.randn(20, 4, generator=generator())
    precise = log_w.double()
    exact = (
        precise.mean(0) + 0.5 * power * precise.var(0, correction=0) + power**2 / 6 * ((precise - precise.mean(0)) ** 3).mean(0)
    )
    assert torch.allclose(power_mean(log_w, power).double(), exact, rtol=1e-5, atol=1e-5)


def test_a_power_mean_is_the_mean_of_powers_of_draws_alike_or_not_with_zeros_among_them():
    log_w = double([0.3, -2.0], [1.0, -torch.inf], [-torch.inf, 0.5])
    shares = double([0.5, 0.2], [0.3, 0.3], [0.2, 0.5])
    for s in (0.004, 0.5, 2.0):
        by_hand = ((log_w.exp() ** s).mean(0) ** (1 / s)).log()
        assert torch.allclose(power_mean(log_w, s), by_hand)
        assert torch.allclose(power_mean(log_w, s, shares), ((shares * log_w.exp() ** s).sum(0) ** (1 / s)).log())


def test_no_draws_are_an_error_that_says_so():
    for mean in (log_mean, effective_sample_size, lambda log_w: power_mean(log_w, 0.5)):
        with pytest.raises(ValueError, match="at least 1 of them; got shape"):
            mean(torch.zeros(0, 3))
