"""Checks of draws and of trained models, where a right answer is right on average only.

They judge plain data that a student's function returned: draws, one a row, independent and of one law. A check of chance can
fail a right answer by chance; each of these does so at most once in 10,000 times, however many entries it looks at.

How. An estimate T with standard error s, from n draws, is judged beyond a bound where it is further from it than

    s (z + 2/3 z^2 |g|),    z the normal quantile of FALSE_ALARMS / 4 / comparisons,

where g is the skewness of T, estimated from the draws: for a mean, that of the draws over sqrt(n). Over s, the error of T has
a tail of Phi(-x) exp(|g| x^3 / 3) on its heavier side, to leading order, not Phi(-x): Cramér's moderate deviations of a mean
over its own standard error (Wang, 2005, Electronic Journal of Probability 10, 1260-1285). A threshold of z + 1/3 z^2 |g| makes
up for that. The check takes twice this, and a quarter of the rate, since draws that miss the rare large values also miss the
skewness that these bring, and for what higher moments do. `comparisons` shares the rate among entries and sides (Bonferroni),
whatever their dependence. That is not a proof at a given n, so the tests measure the rate for normal, exponential, lognormal
and discrete draws at the smallest n: it is about a third of what is allowed, or less.

What cannot be told: noise hides a bias. Where a student could add noise, ask for the variance, too. And draws that are almost
always one value need an n at which they are sure to take another.
"""

from dataclasses import dataclass
from math import isfinite, log, sqrt
from statistics import NormalDist

import torch
from torch import Size, Tensor

from vaecourse.grading import checks
from vaecourse.grading.checks import Mistake

FALSE_ALARMS = 1e-4
"""The rate at which a check fails a right answer, at most."""

LEAST_DRAWS = 1000
"""The fewest draws of an estimator: enough for a mean of draws of skewness 3, and for a variance of draws of kurtosis 9."""

LEAST_IMAGES = 200
"""The fewest test images: enough for differences between models of skewness 2."""

MOST_ENTRIES = 1000
"""The most entries that a check judges: a rate shared among more would ask too much of the normal law at the fewest draws."""

HUGE = 1e100
"""Where numbers are no longer judged: sums and squares of smaller ones fit into double precision."""

PROMISE = f"A right answer fails this check at most once in {1 / FALSE_ALARMS:,.0f} times."


def unbiased(name: str, draws, expected, unit: str = "") -> None:
    """Raise Mistake unless the mean of each entry of an estimator's draws agrees with what is expected.

    `draws`, (n, ...), are independent draws, n >= 1000; `expected`, (...), is a tensor, a number or a nested list, and both are
    in `unit`. With m and v an entry's mean and variance, it fails where |m - expected| > s (z + 2/3 z^2 |g|), the rule above
    with s^2 = v / (n - 1), g = skewness / sqrt(n) and 2 comparisons an entry, and where m and `expected` also differ within
    four digits, as for `checks.compare`. So draws that are all equal are compared with `expected` itself, and rounding is no
    bias. A skewness of k needs about 100 k^2 draws.

    Raises Mistake, too, where draws are not numbers, not finite, or not of that shape; ValueError where there are too few of
    them, or where `expected` is not finite or has no entries, or more than 1,000.
    """
    right = _finite("expected", expected)
    _few(right.numel())
    got = _rows(name, draws, right.shape)
    estimate = Estimate.of_mean(got)
    off, chance = (estimate.value - right).abs(), estimate.chance(2 * right.numel())
    if (where := _worst(off, chance, ~checks.close(estimate.value, right))) is None:
        return
    mean, due, error = (part[where].item() for part in (estimate.value, right, estimate.error))
    found = f"{_entry(name, where)} is {_measure(mean, unit)}"
    if error == 0:
        raise Mistake(f"{found} in each of {len(got):,} draws, expected {due:.5g} on average. {PROMISE}")
    raise Mistake(
        f"{found} on average over {len(got):,} draws, expected {due:.5g}: {abs(mean - due) / error:.1f} standard errors "
        f"of {error:.2g} away. {PROMISE}"
    )


def variance_ratio(
    name: str, draws, reference, *, at_least: int | float | None = None, at_most: int | float | None = None
) -> None:
    """Raise Mistake unless the variance of each entry of the draws, over that of the reference, is within the bounds.

    `draws`, (n, ...), and `reference`, (m, ...), are independent draws in one unit, n and m >= 1000, neither paired nor
    normal; a bound is a positive number without unit. The statistic is T = log(v / w), v and w the variances. With y each
    draw's squared distance to the mean, over the variance, less 1, its error is s^2 = mean(y^2) / (n - 1) for the draws plus
    the same for the reference; mean(y^2) is the kurtosis less 1. T - log(ratio) is a difference of means of y, to leading
    order, so |g| is at most |mean(y^3)| / n^2 for the draws, plus the same for the reference, over s^3. The rule above with
    these, and one comparison an entry and a bound, says whether T is beyond the logarithm of a bound. A ratio on the bound
    itself is right. Draws that are all equal have the ratio 0.

    Raises Mistake, too, where draws are not numbers, not finite, or not of the reference's shape; ValueError where there are
    too few of them, where a reference does not vary, is not finite or has no entries, or more than 1,000, and where the bounds
    are none, not positive or in the wrong order.
    """
    bounds = [bound for bound in (at_least, at_most) if bound is not None]
    if not bounds or not all(bound > 0 and isfinite(bound) for bound in bounds) or bounds != sorted(set(bounds)):
        raise ValueError(f"at_least < at_most, or one of them, must be positive numbers; got {at_least} and {at_most}")
    of_reference = _finite("reference", reference)
    if of_reference.ndim == 0 or len(of_reference) < LEAST_DRAWS:
        raise ValueError(f"reference must be {LEAST_DRAWS:,} draws or more, got shape {tuple(of_reference.shape)}")
    if (of_reference == of_reference[:1]).all(0).any():
        raise ValueError("each entry of the reference must vary: a ratio to zero is not a number")
    entries = of_reference[0].numel()
    _few(entries)
    got = _rows(name, draws, of_reference.shape[1:])
    estimate = Estimate.of_log_variance(got) - Estimate.of_log_variance(of_reference)
    chance = estimate.chance(entries * len(bounds))
    for bound, side, words in ((at_least, -1, "at least"), (at_most, 1, "at most")):
        if bound is None:
            continue
        beyond = side * (estimate.value - log(bound))
        if (where := _worst(beyond, chance, beyond > 1e-4)) is not None:
            ratio, factor = estimate.value[where].exp().item(), estimate.error[where].exp().item()
            raise Mistake(
                f"The variance of {_entry(name, where)} over {len(got):,} draws is {ratio:.3g} times that of "
                f"{len(of_reference):,} reference draws, known to a factor of {factor:.3g}; expected {words} {bound:g}. "
                f"{PROMISE}"
            )


def no_worse(name: str, values, reference, margin: int | float, unit: str = "") -> None:
    """Raise Mistake where a trained model is worse than the reference by more than the margin, beyond chance.

    `values`, (n,), has one number a test image, n >= 200, such as the bound on log p(x): larger is better, so of a loss give
    minus. `reference`, (n,), has the reference's on the same images, and all are in `unit`. The images are the draws. With d
    the mean of values - reference, it fails where -d - margin > s (z + 2/3 z^2 |g|), the rule above for the mean of these
    differences, with one comparison, and where d and -margin also differ within four digits of the means. A model that would
    be worse by the margin on all images there are is right.

    Raises Mistake, too, where the values are not numbers, not finite, or not of the reference's shape; ValueError where there
    are too few, where the reference is not finite, or where the margin is negative or not finite.
    """
    right = _finite("reference", reference)
    if right.ndim != 1 or len(right) < LEAST_IMAGES:
        raise ValueError(f"reference must be {LEAST_IMAGES} numbers or more, (images,); got shape {tuple(right.shape)}")
    if not 0 <= margin < torch.inf:
        raise ValueError(f"margin must be zero or positive, got {margin}")
    got = _numbers(name, values)
    if got.shape != right.shape:
        raise Mistake(f"{name} must have a number for each image, {tuple(right.shape)}, got shape {tuple(got.shape)}.")
    _all_finite(name, got)
    estimate = Estimate.of_mean(got - right)
    mean, due = got.mean(), right.mean()
    if _worst(-estimate.value - margin, estimate.chance(1), ~checks.close(mean, due - margin)) is not None:
        raise Mistake(
            f"{name} is {_measure(mean.item(), unit)} on average over {len(got):,} images, and the reference's is {due:.5g}: "
            f"worse by {-estimate.value:.3g}, with a standard error of {estimate.error:.2g}, where {margin:g} is allowed. "
            f"{PROMISE}"
        )


@dataclass(frozen=True)
class Estimate:
    """What draws say about their law, entry by entry: a value, its standard error, and the skewness of its error; (...)."""

    value: Tensor
    error: Tensor
    skewness: Tensor

    @classmethod
    def of_mean(cls, draws: Tensor) -> "Estimate":
        """The mean of (n, ...) draws in double precision, and its standard error (eq-prerequisites-standard-error)."""
        deviation, standardized = _standardized(draws)
        n = len(draws)
        return cls(draws.mean(0), deviation / sqrt(n - 1), standardized.pow(3).mean(0) / sqrt(n))

    @classmethod
    def of_log_variance(cls, draws: Tensor) -> "Estimate":
        """The logarithm of the variance of (n, ...) draws in double precision; -inf where they are all equal."""
        deviation, standardized = _standardized(draws)
        y, n = standardized.square() - 1, len(draws)
        error = (y.square().mean(0) / (n - 1)).sqrt()
        third = y.pow(3).mean(0) / n**2
        return cls(2 * deviation.log() + log(n / (n - 1)), error, third / error.clamp(min=1e-100) ** 3)

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference to another law's, from draws independent of these.

        The third moments of two errors may cancel; found from few draws, they are not to be relied on for that, so they add up.
        """
        error = (self.error**2 + other.error**2).sqrt()
        third = self.skewness.abs() * self.error**3 + other.skewness.abs() * other.error**3
        return Estimate(self.value - other.value, error, third / error.clamp(min=1e-100) ** 3)

    def chance(self, comparisons: int) -> Tensor:
        """How far from the truth, to one side, the value of a right answer may be in one of so many comparisons; (...)."""
        z = -NormalDist().inv_cdf(FALSE_ALARMS / 4 / comparisons)
        return self.error * (z + 2 / 3 * z**2 * self.skewness.abs())


def _standardized(draws: Tensor) -> tuple[Tensor, Tensor]:
    """Each entry's standard deviation, (...), and its draws less their mean over it, (n, ...); both 0 where all are equal."""
    centered = draws - draws[:1]  # an entry that never varies is then exactly 0
    centered = centered - centered.mean(0)
    largest = centered.abs().amax(0)
    scaled = centered / torch.where(largest > 0, largest, 1.0)  # no power of it is too large or too small
    deviation = scaled.square().mean(0).sqrt()
    return largest * deviation, scaled / torch.where(deviation > 0, deviation, 1.0)


def _rows(name: str, value, entries: Size) -> Tensor:
    """The student's draws in double precision, (n, *entries)."""
    got = _numbers(name, value)
    if got.ndim == 0 or got.shape[1:] != entries:
        n = len(got) if got.ndim else 0
        each = f"a row of shape {tuple(entries)}" if entries else "a number"
        fact = f"{name} must have {each} for each draw, got shape {tuple(got.shape)}"
        raise Mistake(checks.sentence(fact, checks.guess_axis(got.shape, Size((n, *entries)))))
    if len(got) < LEAST_DRAWS:
        raise ValueError(f"{name}: at least {LEAST_DRAWS:,} draws are needed to judge them, got {len(got):,}")
    _all_finite(name, got)
    return got


def _numbers(name: str, value) -> Tensor:
    """The student's value in double precision."""
    if (got := checks.tensor(value)) is None:
        raise Mistake(checks.sentence(f"{name} must be a tensor of numbers, got {checks.kind(value)}", _forgotten(value)))
    return got


def _forgotten(value) -> str:
    return "is a `return` missing?" if value is None else ""


def _all_finite(name: str, got: Tensor) -> None:
    """Raise Mistake where the student's numbers are not finite, or so large that their sum might not be."""
    bad = ~(got.abs() < HUGE)
    if bad.any():
        where = tuple(bad.nonzero()[0].tolist())
        raise Mistake(
            f"{_entry(name, where)} is {got[where].item():.5g}, not finite or all but, and so are {int(bad.sum()):,} of "
            f"{got.numel():,} numbers. An exponential overflowed, or the logarithm of zero was taken."
        )


def _finite(argument: str, value) -> Tensor:
    """The author's numbers in double precision."""
    right = checks.tensor(value)
    if right is None or not (right.abs() < HUGE).all():
        raise ValueError(f"{argument} must be finite numbers, got {value!r:.100}")
    return right


def _few(entries: int) -> None:
    if not 1 <= entries <= MOST_ENTRIES:
        raise ValueError(f"a check judges 1 to {MOST_ENTRIES:,} entries, got {entries:,}: judge fewer, or sums of them")


def _worst(off: Tensor, chance: Tensor, differs: Tensor) -> tuple[int, ...] | None:
    """The entry that is furthest off of those that are further off than by chance; None where there is none."""
    beyond = differs & ~(off <= chance)
    if not beyond.any():
        return None
    worst = torch.where(beyond, off / chance, -1.0).nan_to_num(torch.inf).argmax()
    return tuple(int(index) for index in torch.unravel_index(worst, off.shape))


def _entry(name: str, where: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, where))}]" if where else name


def _measure(value: float, unit: str) -> str:
    return f"{value:.5g} {unit}".rstrip()
