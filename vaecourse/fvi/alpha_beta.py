"""The scale-invariant alpha-beta divergence of Regli and Silva (2018): two dials, one for coverage, one for outliers.

It compares the shapes of q and p only, so that p(x, z) serves for p(z|x). On the line alpha + beta = 1 it is
Renyi's D_alpha(q || p) / alpha; elsewhere it is no f-divergence.
"""

from math import inf, isfinite, log

import torch
from jaxtyping import Float
from torch import Tensor

from vaecourse.distributions import Normal
from vaecourse.gradients import Estimate, LogJoint, along, moving_densities
from vaecourse.importance import SMALL_POWER, power_mean


def _check_dials(alpha: float, beta: float) -> None:
    if not (isfinite(alpha) and isfinite(beta) and alpha + beta > 0):
        raise ValueError(
            f"alpha + beta must be positive and finite, got {alpha} + {beta}: the integrals of q and p to that power diverge "
            "on an unbounded space otherwise. On the line alpha + beta = 1 lies Renyi's divergence"
        )


def alpha_beta_divergence(
    log_q: Float[Tensor, "points *batch"],
    log_p: Float[Tensor, "points *batch"],
    log_measure: Float[Tensor, "points *batch"] | float,
    *,
    alpha: float,
    beta: float,
) -> Float[Tensor, "*batch"]:
    """The divergence from q to p with integrals as sums over points, each worth exp(log_measure), in nats (eq-fvi-alpha-beta).

        log of int q^(a+b) / (b (a+b)) + log of int p^(a+b) / (a (a+b)) - log of int q^a p^b / (a b)

    Neither density need be normalized. Zero if and only if they are proportional. At b = 0 it is KL(Q || P) / a^2 with
    Q and P proportional to q^a and p^a, at a = 0 KL(P || Q) / b^2 with the powers b (eq-fvi-alpha-beta-limits). Where
    a + b = 1 it is Renyi's divergence over a (eq-fvi-alpha-beta-renyi). Regli and Silva (2018); Cichocki, Cruces and Amari
    (2011).

    Raises ValueError unless alpha + beta > 0, and where there is no point.
    """
    _check_dials(alpha, beta)
    if log_q.shape[0] == 0:
        raise ValueError("the integrals need at least one point, got none")

    total, small, large = alpha + beta, *sorted((alpha, beta), key=abs)
    if abs(small) >= SMALL_POWER:
        of_q, of_p = ((total * log_density + log_measure).logsumexp(0) for log_density in (log_q, log_p))
        neither = (log_q == -inf) & (log_p == -inf)
        of_both = (alpha * log_q + beta * log_p + log_measure).masked_fill(neither, -inf).logsumexp(0)
        return of_q / (beta * total) + of_p / (alpha * total) - of_both / (alpha * beta)
    if total < SMALL_POWER and log_q.dtype != torch.float64:  # a difference of two means, over a dial that is small, too
        double = (log_q.double(), log_p.double(), log_measure)
        return alpha_beta_divergence(*double, alpha=alpha, beta=beta).to(log_q.dtype)
    # The same where a dial is 0 or near it, its density by the mean of a small power over the other's escort: nothing cancels.
    one, other = (log_q, log_p) if abs(beta) <= abs(alpha) else (log_p, log_q)
    of_one, of_other = (total * log_density + log_measure for log_density in (one, other))
    shares = of_one.softmax(0)
    if total < SMALL_POWER and (log_q > -inf).all() and (log_p > -inf).all():
        gain = power_mean(other - one, total, shares)
    else:
        gain = (of_other.logsumexp(0) - of_one.logsumexp(0)) / total
    return (gain - power_mean(other - one, small, shares)) / large


def alpha_beta_gradient(
    q: Normal, log_joint: LogJoint, z: Float[Tensor, "draws *batch dim"], *, alpha: float, beta: float
) -> Estimate:
    """Minus the divergence from q to p(z|x), its integrals by draws from q, and its total derivative along them.

    log of int q^a p^b = log E_q q^(a-1) p^b (eq-fvi-alpha-beta-loss). The logarithms of means make it biased, the more the
    fewer the draws. Raises ValueError unless alpha + beta > 0, and where log_joint gives other than one number a draw,
    or one that does not move with z.
    """

    def bound(q: Normal, z: Tensor) -> Tensor:
        log_p, log_q = moving_densities(log_joint, q, z)
        return -alpha_beta_divergence(log_q, log_p, -log_q - log(len(z)), alpha=alpha, beta=beta)

    return along(q, bound, z)
