"""The q of black-box inference as one table of parameters, and what an estimator takes and gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from vaecourse.distributions import Bernoulli, Categorical, Normal
from vaecourse.importance import LogJoint

Posterior = Normal | Bernoulli | Categorical
"""A factorized q(z; lambda) over (*batch, latents); a Categorical's logits are (*batch, latents, classes)."""


@dataclass(frozen=True)
class Factors:
    """log p(x, z) as a sum of terms, each of which touches some of the latents.

    terms: z (..., latents) -> (..., terms), in nats; touches (terms, latents): which latents a term depends on.
    """

    terms: Callable[[Tensor], Tensor]
    touches: Bool[Tensor, "terms latents"]

    def __call__(self, z: Num[Tensor, "*points latents"]) -> Float[Tensor, "*points"]:
        """log p(x, z), the sum of the terms, in nats."""
        return self.terms(z).sum(-1)


class Estimate(NamedTuple):
    """What the draws say of a bound and of its gradient in lambda, one by one; means over the draws estimate both.

    The bound is to be raised: the ELBO, or in the chapter on f-divergences -L_f, of which the ELBO is one.
    """

    value: Float[Tensor, "draws *points"]
    """Of the ELBO log p(x, z) - log q(z), nats. Of what is no mean over draws, the same for all of them."""
    gradient: Float[Tensor, "draws *points latents parameters"]


Estimator = Callable[[Posterior, LogJoint, Tensor], Estimate]
"""(q, log_joint, z drawn from q) -> Estimate."""


def parameters(q: Posterior) -> Float[Tensor, "*batch latents parameters"]:
    """lambda: mu and log sigma, or the logits, of each latent. Raises TypeError for another kind of q."""
    match q:
        case Normal():
            return torch.stack([q.mu, q.log_sigma], -1)
        case Bernoulli():
            return q.logits[..., None]
        case Categorical():
            return q.logits
    raise TypeError(f"q must be a Normal, a Bernoulli or a Categorical, got {type(q).__name__}")


def with_parameters(kind: type, value: Float[Tensor, "*batch latents parameters"]) -> Posterior:
    """The q of that kind (Normal, Bernoulli or Categorical) with lambda = value: the inverse of `parameters`."""
    if kind is Normal:
        return Normal(value[..., 0], value[..., 1])
    return Bernoulli(value[..., 0]) if kind is Bernoulli else Categorical(value)


def log_q(q: Posterior, z: Num[Tensor, "draws *points latents"]) -> Float[Tensor, "draws *points latents"]:
    """log q_i(z_i) of each latent, in nats; their sum is log q(z)."""
    if isinstance(q, Categorical):
        return q.log_prob(z)
    return q[..., None].log_prob(z[..., None])


@torch.no_grad()
def score(q: Posterior, z: Num[Tensor, "draws *points latents"]) -> Float[Tensor, "draws *points latents parameters"]:
    """The gradient of log q(z; lambda) in lambda, z held still; its mean over q is zero (eq-gradients-score-mean).

    Gaussian: eps / sigma and eps^2 - 1, with eps = (z - mu) / sigma. Of a coin z - P(z = 1), of classes the one of z less all
    probabilities.
    """
    match q:
        case Normal():
            eps = q.standardized(z)
            return torch.stack([eps * (-q.log_sigma).exp(), eps**2 - 1], -1)
        case Bernoulli():
            return (z - q.mean)[..., None]
    one_hot = z[..., None] == torch.arange(q.logits.shape[-1], device=z.device)
    return one_hot.to(q.logits.dtype) - q.probabilities


def of_each_draw(log_joint: LogJoint, z: Num[Tensor, "draws *points latents"]) -> Float[Tensor, "draws *points"]:
    """log p(x, z) in nats. Raises ValueError for no draws, and where it is not one number a draw and data point."""
    if len(z) == 0:
        raise ValueError("an estimate needs at least 1 draw, got none")
    values = log_joint(z)
    if values.shape != z.shape[:-1]:
        raise ValueError(
            f"log p(x, z) must be one number a draw, shape {tuple(z.shape[:-1])}; got {tuple(values.shape)}. "
            "Sum over latents and data, and average over nothing"
        )
    return values


def log_weight(q: Posterior, log_joint: LogJoint, z: Num[Tensor, "draws *points latents"]) -> Float[Tensor, "draws *points"]:
    """log p(x, z) - log q(z), whose mean is the ELBO, in nats. Raises ValueError where log_joint gives another shape."""
    return of_each_draw(log_joint, z) - log_q(q, z).sum(-1)
