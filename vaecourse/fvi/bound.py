"""Bounds of the evidence from importance weights w = p(x, z) / q(z), z ~ q (Wan, Li and Hovakimyan, 2020).

By `importance.log_weights` they are differentiable along the draws. So these functions are losses, too, for whatever computed
the weights: an encoder and a decoder.

Draws lie on the first axis of `log_w`, data points behind it; bounds of log p(x) are in nats, one number a data point.
"""

from collections.abc import Callable
from math import inf, isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from vaecourse.distributions import expectation
from vaecourse.fvi.divergences import Divergence
from vaecourse.importance import log_mean, power_mean


def check_draws(log_w: Tensor) -> None:
    """Raises TypeError unless log-weights are floats, ValueError where there is no draw; it does not look at the values."""
    if not log_w.is_floating_point():
        raise TypeError(f"log-weights must be floats, got {log_w.dtype}")
    if log_w.ndim == 0 or log_w.shape[0] == 0:
        raise ValueError(f"log-weights need an axis of at least one draw first, got shape {tuple(log_w.shape)}")


def _check_numbers(log_w: Tensor) -> None:
    """For bounds that are reported: what trains must not wait for the device."""
    check_draws(log_w)
    if log_w.isnan().any() or (log_w == inf).any():
        raise ValueError("log-weights must not be NaN or +inf: look at log p(x, z) and log q(z) at the draws")


def variational_bound(
    f: Divergence, log_w: Float[Tensor, "draws *batch"], *, log_scale: Float[Tensor, "*#batch"] | float = 0.0
) -> Float[Tensor, "*batch"]:
    """L_f = E_q f*(w), at least f*(p(x)): the mean over draws (eq-fvi-bound).

    Above that it lies by a divergence whose argument is scaled by p(x) (eq-fvi-surrogate). With a log_scale log Z the weights
    are w / Z, the bound is at least f*(p(x) / Z), and at Z = p(x) it is D_f(q || p(z|x)) itself (eq-fvi-scaled-bound). That is
    also what keeps f* in the range of floats where it shrinks or grows with p(x). By the exclusive KL it is minus the ELBO
    (eq-fvi-elbo); by total variation, it bounds nothing where all weights are below 1 (eq-fvi-total-variation).

    Not differentiable through log_scale. Raises TypeError or ValueError for weights that are no floats or no draws.
    """
    check_draws(log_w)
    if isinstance(log_scale, Tensor):
        log_scale = log_scale.detach()
    return f.star.value(log_w - log_scale).mean(0)


def rescaled_bound(f: Divergence, log_w: Float[Tensor, "draws *batch"]) -> Float[Tensor, "*batch"]:
    """E_q[f*(w / Z) + c (1 - w / Z)], Z the mean weight of the same draws, held fixed: an estimate of D_f(q || p(z|x)).

    w / Z is never above the number of draws. c is the `tilt` of f (eq-fvi-tilt), for which nothing changes but the gradient's
    bias: w / Z averages one whatever q is, yet with Z held fixed its gradient is that of the log of the mean weight, and who
    minimizes it shrinks q. Where f(0) is infinite (inclusive KL, alpha < 0) some of that is left: take many draws, or
    `score_function`, which has no such term. Raises TypeError or ValueError for weights that are no floats or no draws.
    """
    check_draws(log_w)
    u = log_w - log_mean(log_w).detach()
    return (f.star.value(u) - f.tilt * u.expm1()).mean(0)


def renyi_bound(log_w: Float[Tensor, "draws *batch"], *, alpha: float) -> Float[Tensor, "*batch"]:
    """log E_q w^(1 - alpha) / (1 - alpha) in nats; at alpha = 1 the ELBO (eq-fvi-renyi; Li and Turner, 2016).

    Below log p(x) for alpha > 0, above it for alpha < 0 if q > 0 where p > 0; at 0 it is log p(x) for every q. It is
    log p(x) - D_alpha(q || p(z|x)), an increasing function of -L_f for `power(alpha)`, and no weights overflow in it.

    From finitely many draws the estimate is biased downwards for alpha < 1: an upper bound may come out below log p(x). Raises
    ValueError for an alpha that is not finite, TypeError or ValueError for weights that are no floats or no draws.
    """
    check_draws(log_w)
    if not isfinite(alpha):
        raise ValueError(f"alpha must be a finite number, got {alpha}")
    return power_mean(log_w, 1 - alpha)


def inclusive_bound(log_w: Float[Tensor, "draws *batch"]) -> Float[Tensor, "*batch"]:
    """E_q[w log w] / E_q w = log p(x) + KL(p(z|x) || q) in nats, by normalized weights (eq-fvi-inclusive-bound).

    What L_f of `inclusive_kl`, at least p(x) log p(x), says of the evidence once E_q w = p(x) is used. Raises TypeError or
    ValueError for weights that are no floats or no draws.
    """
    check_draws(log_w)
    return expectation(log_w.softmax(0), log_w, 0)


def sandwich(
    log_w: Float[Tensor, "draws *batch"], *, below: float = 1.0, above: float = -1.0
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """log E_q w^(1 - alpha) / (1 - alpha) at two alphas: a lower and an upper bound of log p(x), in nats (eq-fvi-sandwich).

    Raises ValueError for below <= 0, for above >= 0, for weights that are NaN or infinite.
    """
    if not above < 0 < below:
        raise ValueError(f"the lower bound needs alpha > 0, the upper one alpha < 0; got below = {below}, above = {above}")
    _check_numbers(log_w)
    return renyi_bound(log_w, alpha=below), renyi_bound(log_w, alpha=above)


NEAR = 80.0  # nats from log Z: where the ends of an interval are looked for first


def evidence_interval(
    f: Divergence, value: Float[Tensor, "*batch"], *, log_scale: float = 0.0, reach: float = 1e6
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """The ends of {log p(x): f*(p(x) / Z) <= value}, in nats, by bisection (eq-fvi-interval).

    Where f* falls the interval has no upper end (inf), where it rises no lower one (-inf), elsewhere it has two. Ends beyond
    `reach` nats from log Z are reported as infinite.

    Raises ValueError where no p(x) within reach has so small an f*, then `value` is no bound; and where the value is NaN.
    """
    if value.isnan().any():
        raise ValueError("the value of L_f is NaN")
    near = min(NEAR, reach)

    def stretched(log_t: Tensor, until: Callable[[Tensor], Tensor]) -> Tensor:
        """Each log t, doubled until f* there is as it should be, or out of reach."""
        while (short := ~until(f.star.value(log_t)) & (log_t.abs() < reach)).any():
            log_t = torch.where(short, (2 * log_t).clamp(-reach, reach), log_t)
        return log_t

    lowest = value.new_full(value.shape, min(max(f.star.lowest, -near), near))
    if f.falls or f.rises:
        lowest = stretched(lowest, lambda least: least <= value)
    least = f.star.value(lowest)
    if (value < least - 1e-12 * (1 + least.abs())).any():
        raise ValueError(f"no p(x) within {reach:g} nats of Z has so small an f*: {f.name} by {value.min():.6g} is no bound")

    def end(side: int) -> Tensor:
        inside, outside = lowest, stretched(side * (side * lowest).clamp(min=near), lambda most: most > value)
        unbounded = f.star.value(outside) <= value
        for _ in range(100):
            middle = 0.5 * (inside + outside)
            holds = f.star.value(middle) <= value
            inside, outside = torch.where(holds, middle, inside), torch.where(holds, outside, middle)
        return torch.where(unbounded, side * inf, inside + log_scale)

    return end(-1), end(+1)
