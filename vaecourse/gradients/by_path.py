"""By reparameterization: z = mu + sigma eps moves with lambda, and the gradient is taken along its path."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vaecourse.distributions import Normal
from vaecourse.gradients.families import Estimate, LogJoint, Posterior, of_each_draw, score
from vaecourse.importance import log_densities
from vaecourse.inputs import gradients


def _needs_gaussian(q: Posterior) -> None:
    if not isinstance(q, Normal):
        raise TypeError(f"the draws of a {type(q).__name__} do not move with its parameters: use reinforce or rao_blackwell")


def moving(values: Tensor, z: Tensor) -> Tensor:
    """The values, if they were computed from z by operations that carry gradients.

    That a gradient reaches them is not enough: a model's own parameters have one, too. Raises ValueError where none reaches z.
    """
    waiting, seen = [values.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node is z.grad_fn or getattr(node, "variable", None) is z:
            return values
        seen.add(node)
        waiting += [before for before, _ in node.next_functions]
    raise ValueError("no gradient of log p(x, z) reaches z: compute it from z, without detach() or no_grad(), or use reinforce")


def moving_densities(log_joint: LogJoint, q: Normal, z: Tensor) -> tuple[Tensor, Tensor]:
    """`importance.log_densities`, log p(x, z) and log q(z), where log p moves with z. Raises ValueError where it does not."""
    log_p, log_q = log_densities(log_joint, q, z)
    return moving(log_p, z), log_q


def path(
    q: Normal, f: Callable[[Tensor], Tensor], z: Float[Tensor, "draws *points latents"]
) -> tuple[Float[Tensor, "draws *points"], Float[Tensor, "draws *points latents parameters"]]:
    """f(z), and the gradient of f(g(eps, lambda)) in lambda for z = g(eps, lambda) = mu + sigma eps, f's own lambda held still.

    By the chain rule: df/dz times dz/dmu = 1 and dz/dlog sigma = sigma eps = z - mu. For f = z^2 and for a sine, the variances
    beside those of the score are eq-gradients-square and eq-gradients-sine. Raises TypeError where q is discrete, ValueError
    where f gives other than one number a draw, or no gradient.
    """
    _needs_gaussian(q)
    with gradients():
        z = z.detach().requires_grad_()
        value = moving(of_each_draw(f, z), z)
        (slope,) = torch.autograd.grad(value.sum(), z)
    with torch.no_grad():
        return value.detach(), torch.stack([slope, slope * (z - q.mu)], -1)


def path_only(q: Normal, log_joint: LogJoint, z: Float[Tensor, "draws *points latents"]) -> Estimate:
    """The gradient of log p(x, g(eps, lambda)) - log q(g(eps, lambda)) along the path of z alone (eq-gradients-path).

    The score, of mean zero, is dropped: no variance is left where q is the posterior. Right for the ELBO only, in which the
    integrand is log p - log q. Roeder, Wu and Duvenaud (2017). Raises TypeError where q is discrete, ValueError where log_joint
    gives other than one number a draw, or no gradient.
    """
    _needs_gaussian(q)
    still = q.detach()
    return Estimate(*path(q, lambda z: moving(of_each_draw(log_joint, z), z) - still.log_prob(z), z))


def reparameterized(q: Normal, log_joint: LogJoint, z: Float[Tensor, "draws *points latents"]) -> Estimate:
    """The gradient of log p(x, g(eps, lambda)) - log q(g(eps, lambda); lambda), all of it: the path's part less the score.

    Equation eq-gradients-reparameterization; Kingma and Welling (2014), section 2.4. Raises TypeError where q is discrete,
    ValueError where log_joint gives other than one number a draw, or no gradient.
    """
    value, gradient = path_only(q, log_joint, z)
    return Estimate(value, gradient - score(q, z))


def along(q: Normal, bound: Callable[[Normal, Tensor], Tensor], z: Float[Tensor, "draws *points latents"]) -> Estimate:
    """The total derivative in lambda of a bound of all draws together, z = mu + sigma eps, that need not be a mean over them.

    bound(q, z) -> (*points), of a q with its own parameters for each draw: each draw has its own copy of lambda and moves with
    it. The gradients in the copies add up to the one in lambda; times the number of draws, they average to it. Raises TypeError
    where q is discrete.
    """
    _needs_gaussian(q)
    eps = q.standardized(z).detach()
    with gradients():
        copies = [part.detach().expand(z.shape).requires_grad_() for part in (q.mu, q.log_sigma)]
        own = Normal(*copies)
        value = bound(own, own.mu + own.log_sigma.exp() * eps)
        gradient = torch.autograd.grad(value.sum(), copies)
    return Estimate(value.detach().expand(z.shape[:-1]), len(z) * torch.stack(gradient, -1))
