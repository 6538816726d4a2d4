"""Estimators of the gradient of L_f, as those of the ELBO: each is `gradients.Estimator` once f, or alpha, is chosen.

They take q, log p(x, z) as a function of z, and draws z from q, and return an Estimate of what is to be raised, -L_f:
`partial(score_function, chi_square)` serves `gradients.surrogate`, `variance_per_draw` and `BlackBoxVI`. Exclusive KL's, with
log_scale = 0, is the ELBO. A model's own parameters learn by the bounds themselves, which are differentiable (`bound`).

The weights are divided by an evidence estimate Z, held fixed. With a `log_scale` it is that, and the estimate of the
gradient of L_f is unbiased; log_scale = 0 is L_f itself, which may vanish or overflow with p(x). By default Z is the mean
weight of the same draws: w / Z is never above their number, the value estimates -D_f(q || p(z|x)), and its gradient has a bias
that vanishes as draws grow.
"""

from math import isfinite

import torch
from jaxtyping import Float, Num
from torch import Tensor

from vaecourse.distributions import Normal
from vaecourse.fvi.bound import renyi_bound, rescaled_bound, variational_bound
from vaecourse.fvi.divergences import Divergence
from vaecourse.gradients import Estimate, LogJoint, Posterior, along, log_weight, moving_densities, weighted_score
from vaecourse.importance import log_mean


def reparameterized(
    f: Divergence,
    q: Normal,
    log_joint: LogJoint,
    z: Float[Tensor, "draws *batch dim"],
    *,
    log_scale: Tensor | float | None = None,
) -> Estimate:
    """-L_f, and its gradient along the draws, -f*'(w) w (d/dphi)(log p - log q) (eq-fvi-reparameterized).

    The derivative is total: to leave out that q's density itself depends on phi is right for the ELBO only. Without a
    log_scale it is that of `rescaled_bound`.

    Where f* is a power that explodes at w = 0 (alpha > 1, few digits), `renyi_gradient` has the same maximizer and cannot
    overflow. Wan, Li and Hovakimyan (2020). Raises TypeError where q is discrete, ValueError where log_joint gives other than
    one number a draw, or one that does not move with z.
    """

    def bound(q: Normal, z: Tensor) -> Tensor:
        log_p, log_q = moving_densities(log_joint, q, z)
        log_w = log_p - log_q
        return -(rescaled_bound(f, log_w) if log_scale is None else variational_bound(f, log_w, log_scale=log_scale))

    return along(q, bound, z)


@torch.no_grad()
def score_function(
    f: Divergence,
    q: Posterior,
    log_joint: LogJoint,
    z: Num[Tensor, "draws *batch latents"],
    *,
    log_scale: Tensor | float | None = None,
) -> Estimate:
    """-L_f, with gradient -f'(1 / w) grad log q; for a discrete q, too (eq-fvi-score).

    f'(1 / w) = f*(w) - w f*'(w); f*(w) alone is right for f* = -log only (eq-fvi-score-forms). For alpha > 1 the coefficient
    explodes where w is small, and may overflow: go along the draws there. Wan, Li and Hovakimyan (2020). Raises ValueError
    where log_joint gives other than one number a draw.
    """
    log_w = log_weight(q, log_joint, z)
    u = log_w - (log_mean(log_w) if log_scale is None else log_scale)
    return Estimate(-f.star.value(u), weighted_score(q, -f.f.slope(-u)[..., None], z))


def renyi_gradient(q: Normal, log_joint: LogJoint, z: Float[Tensor, "draws *batch dim"], *, alpha: float) -> Estimate:
    """log E_q w^(1 - alpha) / (1 - alpha), with a minus for alpha < 0, where it bounds from above (eq-fvi-renyi).

    The gradient weights each draw's total derivative by w^(1 - alpha), normalized over the draws: biased, the more the fewer
    they are, and never out of range. For alpha < 0 the bias may make q collapse, since the estimate of an upper bound is lowest
    there: take many draws, or `score_function`. Nats. Raises ValueError for alpha = 0, where every q has the same bound, and
    where log_joint gives other than one number a draw.
    """
    if alpha == 0 or not isfinite(alpha):
        raise ValueError(f"alpha = {alpha:g}: every q has the bound log p(x) at 0, none at infinity. KL(p || q): inclusive_kl")

    def bound(q: Normal, z: Tensor) -> Tensor:
        log_p, log_q = moving_densities(log_joint, q, z)
        value = renyi_bound(log_p - log_q, alpha=alpha)
        return value if alpha > 0 else -value

    return along(q, bound, z)
