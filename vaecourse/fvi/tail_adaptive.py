"""Tail-adaptive f-divergences: weights by rank, whose moments are finite whatever the tail (Wang, Liu and Liu, 2018)."""

import torch
from jaxtyping import Float
from torch import Tensor

from vaecourse.distributions import Normal
from vaecourse.fvi.bound import check_draws
from vaecourse.gradients import Estimate, LogJoint, along, moving_densities


def tail_weights(log_w: Float[Tensor, "draws *batch"], *, beta: float = -1.0) -> Float[Tensor, "draws *batch"]:
    """F(w)^beta, normalized over the draws, F(w) being the share of draws whose weight is at least w (eq-fvi-tail-weights).

    Depends on the order of the weights alone; the heaviest of n draws counts n^-beta times the lightest. beta = 0: all alike,
    the exclusive KL. Wang, Liu and Liu (2018). Raises ValueError for beta outside [-1, 0].
    """
    check_draws(log_w)
    if not -1 <= beta <= 0:
        raise ValueError(f"beta must lie in [-1, 0]: above, the tail would count least, below, it has no mean; got {beta}")
    n, rows = log_w.shape[0], log_w.detach().movedim(0, -1).contiguous()
    at_least = n - torch.searchsorted(rows.sort(-1).values, rows)  # how many draws weigh as much or more
    weights = (at_least.to(log_w.dtype) / n) ** beta
    return (weights / weights.sum(-1, keepdim=True)).movedim(-1, 0)


def tail_adaptive_gradient(
    q: Normal, log_joint: LogJoint, z: Float[Tensor, "draws *batch dim"], *, beta: float = -1.0
) -> Estimate:
    """The sum of gamma log(p / q), with gradient gamma (d g / dphi) grad_z log(p / q) (eq-fvi-tail-adaptive).

    Along the draws alone: q's own dependence on phi is left out, as gamma = f''(w) w^2 asks for when f is a function of p / q.
    The weights stand for such an f, fitted to the tail anew in each step; the value has no meaning of its own. Raises
    ValueError for beta outside [-1, 0], and where log_joint gives other than one number a draw, or one that z does not move.
    """

    def bound(q: Normal, z: Tensor) -> Tensor:
        log_p, log_q = moving_densities(log_joint, q.detach(), z)
        log_w = log_p - log_q
        return (tail_weights(log_w, beta=beta) * log_w).sum(0)

    return along(q, bound, z)
