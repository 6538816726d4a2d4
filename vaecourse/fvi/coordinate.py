"""f-CAVI: coordinate descent on D_f(q || p) for a q that factorizes, on a table of all values of z.

The report's update for class F1, f*^-1 (E f*(p / q_-j)), is a power mean with exponent 1 - alpha. For class F0 the report
prints the mean by f, of exponent alpha: it minimizes the divergence the other way round. F0 and F1 differ by c (t - 1), which
changes no divergence, so that every alpha but 0 has an F1 form; at 0, f = -log t, the best factor is the marginal, which is
the power mean with exponent 1.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vaecourse.fvi.divergences import Divergence, divergence


def product(log_factors: list[Float[Tensor, " _"]]) -> Float[Tensor, "*table"]:
    """log q(z) = sum of log q_j(z_j), as a table with one axis a factor."""
    axes = len(log_factors)
    shaped = [log_q.reshape([-1 if axis == j else 1 for axis in range(axes)]) for j, log_q in enumerate(log_factors)]
    return torch.stack(torch.broadcast_tensors(*shaped)).sum(0)


def power_mean_update(
    log_joint: Float[Tensor, "*table"], log_factors: list[Float[Tensor, " _"]], j: int, exponent: float
) -> Float[Tensor, " _"]:
    """log of q_j proportional to (E_{q_-j} (p / q_-j)^s)^(1/s); at s = 0 exp E_{q_-j} log p (eq-fvi-cavi).

    s = 1 - alpha minimizes D_alpha(q || p) in the factor j (class F1); s = alpha is the report's line for class F0
    (eq-fvi-cavi-classes).
    """
    others = [torch.zeros_like(log_q) if k == j else log_q for k, log_q in enumerate(log_factors)]
    log_rest = product(others)
    axes = [axis for axis in range(log_joint.ndim) if axis != j]
    if exponent == 0:
        mean = (log_rest.exp() * (log_joint - log_rest)).sum(axes)
    else:
        mean = ((1 - exponent) * log_rest + exponent * log_joint).logsumexp(axes) / exponent
    return mean.log_softmax(0)


@dataclass(frozen=True)
class Factorized:
    """What f-CAVI found: log q_j for each factor, and D_f(q || p(z|x)) after each sweep, the start first."""

    log_factors: list[Float[Tensor, " _"]]
    trace: list[float]


def f_cavi(
    f: Divergence,
    log_joint: Float[Tensor, "*table"],
    start: list[Float[Tensor, " _"]] | None = None,
    *,
    sweeps: int = 200,
    tolerance: float = 1e-13,
) -> Factorized:
    """Minimize D_f(q || p(z|x)) over q = product of q_j, one factor at a time, until a sweep gains less than the tolerance.

    log_joint: log p(x, z) in nats, one axis a latent. start: log q_j; the marginals by default. Each update is exact, so D_f
    never rises; it ends where no factor alone can lower it: a local minimum, or a saddle, which a nudge of two factors at once
    leaves. Equation eq-fvi-cavi; Wan, Li and Hovakimyan (2020).

    Raises ValueError where f is not of class F0 or F1, for tables with zeros, NaN or fewer than two axes, and for a start
    without mass where p has it.
    """
    if f.alpha is None:
        raise ValueError(
            f"{f.name} is in neither class, F0 or F1: its update has no closed form. Take power(alpha), a KL, chi_square or "
            "hellinger, or minimize `divergence` numerically"
        )
    if log_joint.ndim < 2 or log_joint.numel() == 0:
        raise ValueError(f"log_joint is a table with an axis for each of at least two latents; got {tuple(log_joint.shape)}")
    if not log_joint.isfinite().all():
        raise ValueError("log_joint must be finite: a joint with zeros needs its zeros left out, or a small floor")
    log_posterior = log_joint - log_joint.logsumexp(tuple(range(log_joint.ndim)))
    if start is None:
        start = [log_posterior.logsumexp([a for a in range(log_joint.ndim) if a != j]) for j in range(log_joint.ndim)]
    if [len(log_q) for log_q in start] != list(log_joint.shape):
        raise ValueError(f"the start needs factors of {list(log_joint.shape)} values, got {[len(q) for q in start]}")
    for j, log_q in enumerate(start):
        if not log_q.isfinite().all():
            raise ValueError(f"q's support is too small: factor {j} of the start gives a value no mass, or is NaN, where p > 0")
    log_factors = [log_q.log_softmax(0) for log_q in start]

    def value() -> float:
        return divergence(f, product(log_factors).flatten(), log_posterior.flatten()).item()

    trace = [value()]
    for _ in range(sweeps):
        for j in range(log_joint.ndim):
            log_factors[j] = power_mean_update(log_joint, log_factors, j, 1 - f.alpha)
        trace.append(value())
        if trace[-2] - trace[-1] <= tolerance * (1 + abs(trace[-1])):
            break
    return Factorized(log_factors, trace)
