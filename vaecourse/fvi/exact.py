"""Without draws: Renyi's divergence between Gaussians, mean field's variance, and fits of exact objectives."""

from collections.abc import Callable
from math import copysign, inf, isfinite, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from vaecourse.distributions import Normal
from vaecourse.inputs import gradients


def renyi_divergence(
    q: Normal, mean: Float[Tensor, " dim"], precision: Float[Tensor, "dim dim"], *, alpha: float
) -> Float[Tensor, "*batch"]:
    """D_alpha(q || N(mean, precision^-1)) in nats, alpha other than 0 and 1 (eq-fvi-renyi-gaussian).

    1 / (2 (alpha - 1)) times log |P|^(1 - alpha) / (|S|^alpha |A|) - alpha d'S^-1 d + alpha^2 d'S^-1 A^-1 S^-1 d, for q's mean
    mu and covariance S, d = mu - mean, P the precision, and A = alpha S^-1 + (1 - alpha) P. Not below zero for alpha > 0, not
    above it for alpha < 0, where the best q is the one with the largest. It is finite where A is positive definite; elsewhere
    inf is returned, with its sign. At alpha = -1 it is -log E_q w^2 / 2 of weights w = p / q (eq-fvi-chi-square-moment). Gil,
    Alajaji and Linder (2013).

    Raises ValueError at alpha = 0 and 1.
    """
    if alpha in (0, 1):
        raise ValueError(f"alpha = {alpha:g} is a limit: 0 at alpha = 0, KL(q || p) at alpha = 1 (Normal.kl, kl_from)")
    inverse, d = (-2 * q.log_sigma).exp(), q.mu - mean  # S^-1, its diagonal
    A = alpha * torch.diag_embed(inverse) + (1 - alpha) * precision
    infinite = (torch.linalg.eigvalsh(A) <= 0).any(-1)
    A = torch.where(infinite[..., None, None], torch.eye(len(precision)).to(A), A)  # a singular one has no solution
    pull = alpha * inverse * d
    solved = torch.linalg.solve(A, pull[..., None])[..., 0]
    quadratic = alpha * (d * (inverse * d)).sum(-1) - (pull * solved).sum(-1)
    log_determinants = -2 * alpha * q.log_sigma.sum(-1) + (1 - alpha) * torch.logdet(precision) - torch.linalg.slogdet(A)[1]
    value = 0.5 * (log_determinants - quadratic) / (alpha - 1)
    return value.masked_fill(infinite, inf if alpha > 0 else -inf)


def mean_field_variance(alpha: float, rho: float) -> float:
    """The variance of the best diagonal Gaussian on `TiltedGaussian(rho)` under D_alpha(q || p) (eq-fvi-tilted-variance).

    v = (1 - 2a + sqrt(1 - 4a (1 - a) rho^2)) / (2 (1 - a)): 1 - rho^2 at a = 1, 1 at a = 0, 1 - |rho| as a grows without end,
    1 + |rho| as it falls.
    A divergence that is its own dual finds sqrt(1 - rho^2), as a = 1/2 does (eq-fvi-tilted-self-dual).
    Derived from the closed form of D_alpha. Raises ValueError for |rho| >= 1 or an alpha that is NaN or -inf.
    """
    if not -1 < rho < 1:
        raise ValueError(f"the correlation rho must lie strictly between -1 and 1, got {rho}")
    if not alpha > -inf:
        raise ValueError(f"alpha must be a number, got {alpha}")
    if abs(alpha) > 1e100:  # where the square of alpha is no number, the limit is right to the last digit
        return 1 - copysign(rho, alpha)
    root = sqrt(1 - 4 * alpha * (1 - alpha) * rho**2)
    if alpha > 0.5:  # the same fraction, extended by root - (1 - 2a), so that nothing cancels
        return 2 * alpha * (1 - rho**2) / (root + 2 * alpha - 1)
    return (1 - 2 * alpha + root) / (2 * (1 - alpha))


def fit_exactly(objective: Callable[[Normal], Tensor], start: Normal, *, iterations: int = 200) -> Normal:
    """The Gaussian, shape (dim,), that minimizes an objective without noise, from `start`: a local minimum.

    For instance `divergence` on a grid of the plane, or `renyi_divergence`. By L-BFGS; where that stops on a slope, as it does
    where the objective is infinite nearby, by Newton's steps, shortened until they lead down. Raises ArithmeticError where the
    objective is not finite at the start or the end, and where it still has a slope there.
    """
    mu, log_sigma = (part.detach().double().clone().requires_grad_() for part in (start.mu, start.log_sigma))
    optimizer = torch.optim.LBFGS(
        [mu, log_sigma], max_iter=iterations, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective(Normal(mu, log_sigma))
        value.backward()
        return value

    with gradients():
        values = [closure().item()]
        optimizer.step(closure)
        q = Normal(mu.detach(), log_sigma.detach())
        values.append(objective(q).item())
        if not isfinite(sum(values)):
            raise ArithmeticError(
                f"the objective must be finite; it is {values[0]:g} at the start and {values[1]:g} where the fit ended"
            )
        return _down(objective, q, iterations)


SLOPE = 1e-2  # at a minimum at most, relative to the objective: one that is made of many kinks has some


def _down(objective: Callable[[Normal], Tensor], q: Normal, iterations: int) -> Normal:
    """q where it is level; else where Newton's steps lead, each halved until the objective is finite and falls."""

    def at(x: Tensor) -> Tensor:
        return objective(Normal(*x.view(2, -1)))

    def slope_at(x: Tensor) -> tuple[Tensor, float]:
        x = x.detach().requires_grad_()
        value = at(x)
        (slope,) = torch.autograd.grad(value, x)
        return slope, (slope.norm() / (1 + value.abs())).item()

    x = torch.cat([q.mu, q.log_sigma])
    slope, steepness = slope_at(x)
    if steepness <= SLOPE:
        return q
    for _ in range(iterations):
        curvature, axes = torch.linalg.eigh(torch.autograd.functional.hessian(at, x))
        step = -axes @ (axes.T @ slope / curvature.abs().clamp_min(1e-6 * curvature.abs().max() + 1e-12))
        ahead = next((y for y in (x + 0.5**k * step for k in range(60)) if at(y) < at(x)), None)
        if ahead is None or steepness <= 1e-9:
            break
        x = ahead.detach()
        slope, steepness = slope_at(x)
    if steepness > SLOPE:
        raise ArithmeticError(
            f"the fit ended at {at(x):.6g} on a slope of {slope.norm():.3g}, which is no minimum: start nearer to one, or let "
            "it take more iterations; where the objective has a kink, or falls for ever, there is none to be found"
        )
    return Normal(*x.view(2, -1))
