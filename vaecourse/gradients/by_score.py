"""By the score function: the draws stay where they are, and values of log p are enough. And what lowers the variance."""

import torch
from jaxtyping import Float, Num
from torch import Tensor

from vaecourse.gradients.families import Estimate, Factors, LogJoint, Posterior, log_q, log_weight, score


@torch.no_grad()
def weighted_score(
    q: Posterior, signal: Float[Tensor, "draws *points latents_or_one"], z: Num[Tensor, "draws *points latents"]
) -> Float[Tensor, "draws *points latents parameters"]:
    """signal * grad log q(z), whose mean is the gradient of E_q[f(z)] for signal = f(z)[..., None] (eq-gradients-score).

    A signal with a number for each latent has, for the i-th, what of f depends on z_i. Of a coin the mean is
    eq-gradients-coin, the variance eq-gradients-coin-variance.
    """
    return signal[..., None] * score(q, z)


@torch.no_grad()
def reinforce(q: Posterior, log_joint: LogJoint, z: Num[Tensor, "draws *points latents"]) -> Estimate:
    """(log p(x, z) - log q(z)) * grad log q(z): nothing but values of log p is needed (eq-gradients-reinforce).

    Williams (1992); Ranganath, Gerrish and Blei (2014). Raises ValueError where log_joint gives other than one number a draw.
    """
    f = log_weight(q, log_joint, z)
    return Estimate(f, weighted_score(q, f[..., None], z))


def _local_log_weight(q: Posterior, factors: Factors, z: Tensor) -> tuple[Tensor, Tensor]:
    """log p - log q of each draw, and for each latent the part of it that depends on that latent: (draws, *points, latents)."""
    if not isinstance(factors, Factors):
        raise TypeError("Rao-Blackwellization needs to know which term touches which latent: give log p(x, z) as Factors")
    terms, log_q_i = factors.terms(z), log_q(q, z)
    expected = (*z.shape[:-1], len(factors.touches))
    if terms.shape != expected or factors.touches.shape[1] != z.shape[-1]:
        raise ValueError(
            f"touches of shape {tuple(factors.touches.shape)} is for terms {expected} of {factors.touches.shape[1]} latents; "
            f"got terms {tuple(terms.shape)} of {z.shape[-1]}"
        )
    return terms.sum(-1) - log_q_i.sum(-1), terms @ factors.touches.to(terms) - log_q_i


@torch.no_grad()
def rao_blackwell(q: Posterior, log_joint: Factors, z: Num[Tensor, "draws *points latents"]) -> Estimate:
    """grad log q_i(z_i) times (the terms that touch z_i - log q_i(z_i)), for each latent i (eq-gradients-rao-blackwell).

    What is left out has expectation zero, since the other latents are independent of this one under q; the variance may grow
    all the same (eq-gradients-left-out). Ranganath, Gerrish and Blei (2014). Raises TypeError unless log_joint is
    Factors, ValueError where its terms and touches do not fit z.
    """
    f, f_i = _local_log_weight(q, log_joint, z)
    return Estimate(f, weighted_score(q, f_i, z))


# Control variates


def _needs_draws(z: Tensor, least: int, why: str) -> None:
    if len(z) < least:
        raise ValueError(f"needs at least {least} draws, {why}; got {len(z)}")


def above_others(signal: Float[Tensor, "draws *signals"]) -> Float[Tensor, "draws *signals"]:
    """f(z_k) less the mean of f at the other draws, a baseline that does not depend on z_k (eq-gradients-leave-one-out).

    K / (K - 1) times f(z_k) - mean f, for K draws; without that factor it is biased: eq-gradients-own-baseline. Raises
    ValueError for one draw.
    """
    _needs_draws(signal, 2, "one of them the others' baseline")
    return (signal - signal.mean(0)) * (len(signal) / (len(signal) - 1))


def fitted_coefficient(
    gradient: Float[Tensor, "draws *parameters"], h: Float[Tensor, "draws *parameters"]
) -> Float[Tensor, "*parameters"]:
    """a* = Cov(gradient, h) / Var(h) over the draws, for each component; 0 where h does not vary (eq-gradients-coefficient).

    Raises ValueError for one draw.
    """
    _needs_draws(h, 2, "for a covariance")
    centered = h - h.mean(0)
    variance = (centered**2).sum(0)
    varies = variance > torch.finfo(h.dtype).eps * (h**2).sum(0)  # more than rounding alone
    return torch.where(varies, (gradient * centered).sum(0) / variance, 0.0)


def cross_fitted(
    gradient: Float[Tensor, "draws *parameters"], h: Float[Tensor, "draws *parameters"]
) -> Float[Tensor, "draws *parameters"]:
    """gradient - a* h, each half of the draws with the coefficient of the other half, so that it stays unbiased.

    `gradient - fitted_coefficient(gradient, h) * h` uses the same draws twice: its bias is of order 1 / draws. h is a
    quantity of mean zero. A slope fitted to few draws scatters without bound: take 20 or more. It gains where the mean of f
    is far from zero, beside its spread. With 4 or 5 draws of a Gaussian, a half of two, the slope of log sigma's component has
    so heavy a tail that the estimate has no mean; from 6 on it has, and is unbiased. Equation eq-gradients-control-variate.
    Raises ValueError for fewer than 4 draws.
    """
    _needs_draws(h, 4, "two in each half")
    half = len(h) // 2
    one, other = fitted_coefficient(gradient[:half], h[:half]), fitted_coefficient(gradient[half:], h[half:])
    return torch.cat([gradient[:half] - other * h[:half], gradient[half:] - one * h[half:]])


@torch.no_grad()
def reinforce_leave_one_out(q: Posterior, log_joint: LogJoint, z: Num[Tensor, "draws *points latents"]) -> Estimate:
    """(f(z_k) - the mean of f at the other draws) * grad log q(z_k), f = log p - log q (eq-gradients-leave-one-out).

    Kool, van Hoof and Welling (2019). Raises ValueError for one draw, and where log_joint gives other than one number a draw.
    """
    f = log_weight(q, log_joint, z)
    return Estimate(f, weighted_score(q, above_others(f)[..., None], z))


@torch.no_grad()
def reinforce_control_variate(q: Posterior, log_joint: LogJoint, z: Num[Tensor, "draws *points latents"]) -> Estimate:
    """(f(z) - a*) grad log q(z), f = log p - log q, a* fitted for each component (eq-gradients-control-variate).

    Ranganath, Gerrish and Blei (2014). Raises ValueError for fewer than 4 draws, and where log_joint gives other than one
    number a draw.
    """
    f, gradient = reinforce(q, log_joint, z)
    return Estimate(f, cross_fitted(gradient, score(q, z)))


@torch.no_grad()
def rao_blackwell_leave_one_out(q: Posterior, log_joint: Factors, z: Num[Tensor, "draws *points latents"]) -> Estimate:
    """`rao_blackwell` with the mean of the other draws as each latent's baseline.

    Raises TypeError unless log_joint is Factors, ValueError for one draw, and where terms and touches do not fit z.
    """
    f, f_i = _local_log_weight(q, log_joint, z)
    return Estimate(f, weighted_score(q, above_others(f_i), z))


@torch.no_grad()
def rao_blackwell_control_variate(q: Posterior, log_joint: Factors, z: Num[Tensor, "draws *points latents"]) -> Estimate:
    """`rao_blackwell` less a* grad log q_i(z_i), a* fitted for each component.

    Raises TypeError unless log_joint is Factors, ValueError for fewer than 4 draws, and where terms and touches do not fit z.
    """
    f, gradient = rao_blackwell(q, log_joint, z)
    return Estimate(f, cross_fitted(gradient, score(q, z)))
