"""The checks of draws and of trained models: how often they fail a right answer, what they catch, and what they say."""

from math import exp, inf, log, nan, sqrt

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from vaecourse.grading.checks import Mistake
from vaecourse.grading.statistics import (
    FALSE_ALARMS,
    LEAST_DRAWS,
    LEAST_IMAGES,
    Estimate,
    no_worse,
    unbiased,
    variance_ratio,
)

PROMISE = r" A right answer fails this check at most once in 10,000 times\.$"


def normal(noise: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=noise).double()


def exponential(noise: Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=noise).neg_().log1p_().neg_().double()


def lognormal(noise: Generator, *shape: int) -> Tensor:
    """Of skewness 3.3."""
    return normal(noise, *shape).mul_(0.75).exp_()


def mild_lognormal(noise: Generator, *shape: int) -> Tensor:
    """Of skewness 1.8 and kurtosis 8.9."""
    return normal(noise, *shape).mul_(0.5).exp_()


def discrete(noise: Generator, *shape: int) -> Tensor:
    return (torch.rand(shape, generator=noise) < 0.1).double()


def generator(seed: int = 1) -> Generator:
    return Generator().manual_seed(seed)


def fails(check, *arguments, **bounds) -> bool:
    try:
        check("x", *arguments, **bounds)
    except Mistake:
        return True
    return False


# How often a right answer fails


def alarms_stay_rare(law, mean: float, n: int, blocks: int, sides: tuple[int, ...]) -> None:
    """Assert a rate of 1 in 10,000 at most, with a confidence of 95 %, for 500 right means a block.

    One side is that of `no_worse`, where only a low mean is wrong, and two are those of `unbiased`.
    """
    noise, trials, alarms = generator(), 500 * blocks, dict.fromkeys(sides, 0)
    for _ in range(blocks):
        estimate = Estimate.of_mean(law(noise, n, 500))
        low = mean - estimate.value
        for side in sides:
            alarms[side] += int(((low if side == 1 else low.abs()) > estimate.chance(side)).sum())
    for count in alarms.values():
        assert stats.beta.ppf(0.95, count + 1, trials - count) <= FALSE_ALARMS  # Clopper and Pearson's upper bound


@pytest.mark.parametrize("law, mean", [(normal, 0.0), (exponential, 1.0), (mild_lognormal, exp(1 / 8)), (discrete, 0.1)])
@pytest.mark.slow
def test_a_right_mean_fails_at_most_once_in_10000_times_on_the_fewest_images(law, mean):
    alarms_stay_rare(law, mean, LEAST_IMAGES, blocks=600, sides=(1, 2))


@pytest.mark.slow
def test_a_right_mean_of_skewness_3_fails_at_most_once_in_10000_times_at_the_fewest_draws():
    alarms_stay_rare(lognormal, exp(9 / 32), LEAST_DRAWS, blocks=200, sides=(2,))


VARIANCES = {normal: 1.0, exponential: 1.0, mild_lognormal: exp(0.25) * (exp(0.25) - 1), discrete: 0.09}


@pytest.mark.slow
def test_a_right_variance_fails_at_most_once_in_10000_times_at_the_fewest_draws():
    """Each law against each: in a batch each estimate of the one meets 25 of the other; batches are independent."""
    noise, batches = generator(), 20
    rates = {(a, b): [] for a in VARIANCES for b in VARIANCES}
    for _ in range(batches):
        estimates = {}
        for law, variance in VARIANCES.items():
            found = Estimate.of_log_variance(law(noise, LEAST_DRAWS, 500))
            estimates[law] = Estimate(found.value - log(variance), found.error, found.skewness)
        for (a, b), rate in rates.items():
            mine, other = estimates[a], estimates[b]
            others = [[part.roll(1 + shift) for shift in range(25)] for part in (other.value, other.error, other.skewness)]
            ratio = mine - Estimate(*map(torch.stack, others))
            rate.append((ratio.value > ratio.chance(1)).double().mean().item())  # too low is the same, a and b swapped
    for pair, rate in rates.items():
        bound = np.mean(rate) + stats.t.ppf(0.99, batches - 1) * np.std(rate, ddof=1) / sqrt(batches)
        assert bound <= FALSE_ALARMS, [law.__name__ for law in pair]


def test_many_entries_share_the_rate():
    """The quantile is that of a rate divided among entries: the normal law's own tail, where the draws are normal."""
    estimate = Estimate(torch.tensor(0.0), torch.tensor(1.0), torch.tensor(0.0))
    for entries in (1, 64, 1000):
        assert 2 * entries * stats.norm.sf(estimate.chance(2 * entries).item()) == pytest.approx(FALSE_ALARMS / 4, rel=1e-4)


@pytest.mark.equation("eq-prerequisites-standard-error", oracle="another library: SciPy's standard error of the mean")
def test_skewness_of_either_sign_widens_the_threshold():
    draws = exponential(generator(), 300, 5)
    estimate, mirrored = Estimate.of_mean(draws), Estimate.of_mean(-draws)
    assert np.allclose(estimate.value, draws.numpy().mean(0))
    assert np.allclose(estimate.skewness, stats.skew(draws.numpy()) / sqrt(300))
    assert np.allclose(estimate.error, stats.sem(draws.numpy()))
    assert torch.allclose(estimate.chance(2), mirrored.chance(2))
    assert (estimate.chance(2) > Estimate(estimate.value, estimate.error, torch.zeros(5)).chance(2)).all()


def test_the_error_of_a_log_variance_comes_from_the_kurtosis():
    for law in VARIANCES:
        draws = law(generator(), 5000, 3)
        estimate = Estimate.of_log_variance(draws)
        assert np.allclose(estimate.value, np.log(np.var(draws.numpy(), axis=0, ddof=1)))
        assert np.allclose(estimate.error, np.sqrt((stats.kurtosis(draws.numpy(), fisher=False) - 1) / 4999))
        y = stats.zscore(draws.numpy()) ** 2
        assert np.allclose(estimate.skewness, stats.skew(y) / sqrt(5000), rtol=1e-3)


# What is caught, 99 times in 100 or more


@pytest.mark.parametrize("law, mean", [(normal, 0.0), (exponential, 1.0), (mild_lognormal, exp(0.125))])
def test_a_bias_of_a_third_of_the_standard_deviation_is_caught_by_1000_draws_of_64_entries(law, mean):
    noise, bias = generator(), 1 / 3 * sqrt(VARIANCES[law])
    expected = torch.full((64,), mean, dtype=torch.float64)
    caught = 0
    for sign in 50 * (-1, 1):
        wrong = expected.clone()
        wrong[17] += sign * bias
        caught += fails(unbiased, law(noise, 1000, 64), wrong)
    assert caught >= 97  # 99 of 100 or more, but for chance


@pytest.mark.parametrize("law, n", [(normal, 1000), (exponential, 4000)])
def test_a_factor_of_2_in_the_variance_is_caught(law, n):
    noise = generator()
    for factor, bounds in ((2.0, {"at_most": 1}), (0.5, {"at_least": 1}), (2.0, {"at_least": 0.1, "at_most": 1})):
        caught = sum(fails(variance_ratio, law(noise, n) * sqrt(factor), law(noise, n), **bounds) for _ in range(200))
        assert caught >= 195


def test_a_model_that_is_worse_by_twice_the_margin_is_caught_on_297_images():
    """Bounds that vary by 20 nats between images, and by 5 nats between models."""
    noise = generator()
    caught = 0
    for _ in range(200):
        reference = -90 + 20 * normal(noise, 297)
        caught += fails(no_worse, reference - 2 * 2 + 5 * normal(noise, 297), reference, 2)
    assert caught >= 195


def test_right_answers_pass_on_their_bounds_and_better_ones_anyhow():
    noise = generator()
    for _ in range(50):
        unbiased("mean", exponential(noise, 1000, 3, 2), torch.ones(3, 2))
        variance_ratio("variance", exponential(noise, 1000, 4), normal(noise, 2000, 4), at_least=1)
        variance_ratio("variance", exponential(noise, 1000, 4), normal(noise, 2000, 4), at_most=1)
        variance_ratio("variance", 0.1 * normal(noise, 1000), normal(noise, 1000), at_most=1)
        reference = normal(noise, 200)
        no_worse("bound", reference - 0.5 + normal(noise, 200), reference, 0.5)
        no_worse("bound", reference + 3, reference, 0)


# What a student reads


def test_a_biased_mean_is_told_with_its_error_and_the_number_of_draws():
    draws = normal(generator(), 10_000, 2, 3)
    expected = [[0, 0, 0], [0, 0.3, 0.4]]  # the worst entry is named
    message = (
        r"slope\[1, 2\] is -?\S+ nats on average over 10,000 draws, expected 0\.4: \d\d\.\d standard errors of 0\.01 away\."
    )
    with pytest.raises(Mistake, match=message + PROMISE):
        unbiased("slope", draws, expected, "nats")
    with pytest.raises(Mistake, match=r"^slope is -?\S+ on average over 10,000 draws, expected 1"):
        unbiased("slope", draws[:, 0, 0], 1)


def test_a_wrong_variance_is_told_as_a_ratio():
    noise = generator()
    draws, reference = normal(noise, 4000, 2), normal(noise, 5000, 2)
    draws[:, 1] *= 2
    message = (
        r"The variance of slope\[1\] over 4,000 draws is [34]\.\d+ times that of 5,000 reference draws, "
        r"known to a factor of 1\.0\d; expected at most 1\.5\."
    )
    with pytest.raises(Mistake, match=message + PROMISE):
        variance_ratio("slope", draws, reference, at_most=1.5)
    with pytest.raises(Mistake, match=r"slope over 5,000 draws is 0\.2\d* times .* expected at least 0\.5\." + PROMISE):
        variance_ratio("slope", reference[:, 0], draws[:, 1], at_least=0.5, at_most=2)


def test_a_worse_model_is_told_beside_the_reference():
    reference = normal(generator(), 300) - 60
    values = reference - 4 + 0.1 * normal(generator(2), 300)
    message = (
        r"bound is -6[34]\.\d+ nats on average over 300 images, and the reference's is -(60|59)\.\d+: "
        r"worse by (4|4\.0\d|3\.99), with a standard error of 0\.00\d+, where 1 is allowed\."
    )
    with pytest.raises(Mistake, match=message + PROMISE):
        no_worse("bound", values, reference, 1, "nats")


@pytest.mark.parametrize(
    "draws, message",
    [
        (None, r"must be a tensor of numbers, got None: is a `return` missing\?"),
        ("one", r"must be a tensor of numbers, got a value of type str\."),
        (torch.zeros(2000, 3, dtype=torch.complex64), r"must be a tensor of numbers, got a value of type Tensor\."),
        (torch.tensor(1.0), r"must have a row of shape \(3,\) for each draw, got shape \(\)\."),
        (torch.zeros(3), r"must have a row .*, got shape \(3,\): the first axis was summed or averaged, too\."),
        (torch.zeros(2000, 3, 1), r"must have a row .*, got shape \(2000, 3, 1\): the last axis is still there\."),
        (torch.zeros(2000, 4), r"must have a row .*, got shape \(2000, 4\)\."),
    ],
)
def test_draws_of_a_wrong_kind_or_shape_are_told_before_any_statistic(draws, message):
    reference = normal(generator(), 2000, 3)
    for check, arguments, bounds in ((unbiased, (torch.zeros(3),), {}), (variance_ratio, (reference,), {"at_most": 1})):
        with pytest.raises(Mistake, match="slope " + message):
            check("slope", draws, *arguments, **bounds)


@pytest.mark.parametrize(
    "values, message", [(None, "got None: is a"), (torch.zeros(300, 1), r"\(300,\), got shape \(300, 1\)")]
)
def test_values_of_a_wrong_kind_or_shape_are_told(values, message):
    with pytest.raises(Mistake, match="bound must .*" + message):
        no_worse("bound", values, torch.zeros(300), 1)


@pytest.mark.parametrize("bad", [nan, inf, -inf, 1e200])
def test_draws_that_are_not_finite_are_told_with_their_place(bad):
    draws = normal(generator(), 2000, 3)
    draws[[70, 90], 1] = bad
    message = rf"slope\[70, 1\] is {bad:.5g}, .*not finite.* 2 of 6,000".replace("+", r"\+")
    with pytest.raises(Mistake, match=message):
        unbiased("slope", draws, torch.zeros(3))
    with pytest.raises(Mistake, match=message):
        variance_ratio("slope", draws, normal(generator(), 2000, 3), at_most=1)
    with pytest.raises(Mistake, match=r"bound\[70\] is"):
        no_worse("bound", draws[:, 1], torch.zeros(2000), 1)


# Draws that do not vary, or hardly


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_that_are_all_equal_are_compared_as_they_are(dtype):
    draws = torch.full((1000, 2), 0.1, dtype=dtype)
    unbiased("slope", draws, [0.1, 0.1])
    with pytest.raises(Mistake, match=r"slope\[1\] is 0\.1 nats in each of 1,000 draws, expected 0\.11 on average\." + PROMISE):
        unbiased("slope", draws, [0.1, 0.11], "nats")
    reference = torch.linspace(-1, 0, 500)
    no_worse("bound", reference - 0.25, reference, 0.25)
    with pytest.raises(Mistake, match=r"worse by 0\.3"):
        no_worse("bound", reference - 0.3, reference, 0.25)


def test_rounding_is_no_bias_and_small_draws_are_no_excuse():
    noise = normal(generator(), 1000)
    unbiased("slope", 3e-6 + 1e-9 * noise, 3.1e-6)  # below what a comparison of four digits tells
    unbiased("slope", 1 + 1e-9 * noise, 1.00001)
    for scale in (1e-5, 1e-90, 1e-200, 1e-320):
        assert fails(unbiased, 1 + scale * noise, 1.01) and fails(unbiased, scale * noise, 1)
        assert fails(variance_ratio, scale * noise, noise, at_least=0.5)
    assert fails(unbiased, 1e90 * noise + 1e91, 1)
    assert fails(variance_ratio, 1e90 * noise, noise, at_most=2)


def test_draws_that_do_not_vary_have_the_variance_zero():
    reference = normal(generator(), 1000)
    variance_ratio("slope", torch.full((1000,), 0.1), reference, at_most=0.01)
    with pytest.raises(Mistake, match=r"is 0 times that of 1,000 reference draws"):
        variance_ratio("slope", torch.full((1000,), 0.1), reference, at_least=0.01)


def test_signs_that_are_as_often_plus_as_minus_have_a_variance_without_error():
    signs = torch.tensor([1.0, -1.0]).repeat(500)
    variance_ratio("sign", signs, signs, at_least=1)
    variance_ratio("sign", signs, signs, at_most=1)
    assert fails(variance_ratio, 1.01 * signs, signs, at_most=1)


# What an author reads


@pytest.mark.parametrize(
    "check, message",
    [
        (lambda x: unbiased("slope", x[:999], 0), "slope: at least 1,000 draws are needed to judge them, got 999"),
        (lambda x: unbiased("slope", x, nan), "expected must be finite numbers, got nan"),
        (lambda x: unbiased("slope", x, None), "expected must be finite numbers, got None"),
        (lambda x: unbiased("slope", x[:, None], torch.zeros(0)), "1 to 1,000 entries, got 0"),
        (lambda x: unbiased("slope", x[:, None], torch.zeros(1001)), "1 to 1,000 entries, got 1,001: judge fewer"),
        (lambda x: variance_ratio("slope", x[:999], x, at_most=1), "slope: at least 1,000 draws are needed .* got 999"),
        (
            lambda x: variance_ratio("slope", x, x[:999], at_most=1),
            r"reference must be 1,000 draws or more, got shape \(999,\)",
        ),
        (lambda x: variance_ratio("slope", x, x / 0, at_most=1), "reference must be finite"),
        (lambda x: variance_ratio("slope", x, 0 * x, at_most=1), "each entry of the reference must vary"),
        (lambda x: variance_ratio("slope", x, x), "must be positive numbers; got None and None"),
        (lambda x: variance_ratio("slope", x, x, at_least=2, at_most=1), "at_least < at_most"),
        (lambda x: variance_ratio("slope", x, x, at_least=1, at_most=1), "at_least < at_most"),
        (lambda x: variance_ratio("slope", x, x, at_most=0), "must be positive"),
        (lambda x: no_worse("bound", x, x[:199], 1), r"reference must be 200 numbers or more, \(images,\); got shape \(199,\)"),
        (lambda x: no_worse("bound", x, x[:, None], 1), r"got shape \(1000, 1\)"),
        (lambda x: no_worse("bound", x, x, -1), "margin must be zero or positive, got -1"),
        (lambda x: no_worse("bound", x, x, nan), "margin must be zero or positive, got nan"),
    ],
)
def test_what_cannot_be_judged_is_an_error_for_the_author(check, message):
    with pytest.raises(ValueError, match=message):
        check(normal(generator(), 1000))
