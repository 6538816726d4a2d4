"""Importance weights: draws from a q that is at hand, each weighed by how much more likely p has it.

Weights are kept by their logarithms, in nats: of densities of images they overflow.
"""

from collections.abc import Callable
from math import inf, log

from jaxtyping import Float
from torch import Generator, Tensor

from vaecourse.distributions import Bernoulli, Categorical, Normal, expectation

SMALL_POWER = 0.01  # of `power_mean`: below, float32 has lost five of its digits

LogJoint = Callable[[Tensor], Tensor]
"""z (draws, *batch, dim) -> log p(x, z) in nats, (draws, *batch): one number a draw and data point."""


def draw(q: Normal | Bernoulli | Categorical, draws: int, generator: Generator | None = None) -> Tensor:
    """z ~ q, (draws, *batch, dim), differentiable in q's parameters where q is Gaussian. Raises ValueError for draws < 1."""
    if draws < 1:
        raise ValueError(f"draws, the number a data point, must be at least 1; got {draws}")
    return q.sample(generator, shape=(draws,))


def log_densities(log_joint: LogJoint, q: Normal | Bernoulli | Categorical, z: Tensor) -> tuple[Tensor, Tensor]:
    """log p(x, z) and log q(z) at draws z, nats. Raises ValueError where log_joint gives another shape than log q."""
    log_p, log_q = log_joint(z), q.log_prob(z)
    if log_p.shape != log_q.shape:
        raise ValueError(
            f"log_joint must give one number a draw and data point, shape {tuple(log_q.shape)}; got {tuple(log_p.shape)}. "
            "Sum over the data's factors there"
        )
    return log_p, log_q


def log_weights(
    log_joint: LogJoint, q: Normal | Bernoulli | Categorical, draws: int = 1, generator: Generator | None = None
) -> Float[Tensor, "draws *batch"]:
    """log w = log p(x, z) - log q(z) in nats at that many draws z ~ q, differentiable along them where q can.

    Raises ValueError for draws < 1, and where log_joint gives another shape than log q.
    """
    log_p, log_q = log_densities(log_joint, q, draw(q, draws, generator))
    return log_p - log_q


def _check(log_w: Tensor) -> None:
    if log_w.ndim == 0 or len(log_w) == 0:
        raise ValueError(f"weights need an axis of draws first, at least 1 of them; got shape {tuple(log_w.shape)}")


def log_mean(log_w: Float[Tensor, "draws *batch"]) -> Float[Tensor, "*batch"]:
    """log (1/K) sum w over K draws, in nats: at most log E w = log p(x) on average, nearer with more (eq-elbo-importance).

    Raises ValueError where there is no draw, here and below.
    """
    _check(log_w)
    return log_w.logsumexp(0) - log(len(log_w))


def power_mean(
    log_w: Float[Tensor, "draws *batch"], power: float, shares: Float[Tensor, "draws *#batch"] | None = None
) -> Float[Tensor, "*batch"]:
    """log (E w^s)^(1/s) in nats, s = power; at s = 0 E log w, its limit. `shares`: the draws' probabilities, alike without.

    log E w^s is small for a small s, and divided by s: there it is log1p E expm1 (s log w), which loses no digits.
    """
    _check(log_w)
    if shares is None and power == 0:
        return log_w.mean(0)
    if shares is None and abs(power) >= SMALL_POWER:
        return ((power * log_w).logsumexp(0) - log(len(log_w))) / power
    shares = log_w.new_full((len(log_w),) + (1,) * (log_w.ndim - 1), 1 / len(log_w)) if shares is None else shares
    log_w = log_w.masked_fill(shares == 0, 0.0)
    if power == 0:
        return expectation(shares, log_w, 0)
    scaled = (power * log_w).masked_fill(shares == 0, -inf)
    most = scaled.amax(0, keepdim=True) / power  # measured from the draw that counts most, nothing overflows
    most = most.masked_fill(most.isinf(), 0.0).detach()
    return most[0] + expectation(shares, (power * (log_w - most)).expm1(), 0).log1p() / power


def effective_sample_size(log_w: Float[Tensor, "draws *batch"]) -> Float[Tensor, "*batch"]:
    """(sum w)^2 / sum w^2: between 1, where one weight is all, and the number of draws, where all are equal."""
    _check(log_w)
    return (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()
