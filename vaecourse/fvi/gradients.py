"""Estimators of the gradient of L_f: by the score function, and along the draws.

Each takes log p(x, z) as a function of draws (draws, *batch, dim), the distribution q, the number of draws and a generator, and
returns a loss whose gradient is the estimate, for backward(); one number a data point.

The weights are divided by an evidence estimate Z, held fixed. With a `log_scale` it is that, and the estimate of the
gradient of L_f is unbiased; log_scale = 0 is L_f itself, which may vanish or overflow with p(x). By default Z is the mean
weight of the same draws: w / Z is never above their number, the loss estimates D_f(q || p(z|x)), and its gradient has a bias
that vanishes as draws grow.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaecourse.distributions import Bernoulli, Categorical, Normal
from vaecourse.fvi.bound import log_evidence, renyi_bound, variational_bound
from vaecourse.fvi.generators import Generator

LogJoint = Callable[[Tensor], Tensor]


def draw(q: Normal | Bernoulli | Categorical, draws: int, generator: torch.Generator | None) -> Tensor:
    """z ~ q, (draws, *batch, dim). Raises ValueError for draws < 1."""
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    return q.sample(generator, shape=(draws,))


def log_densities(log_joint: LogJoint, q: Normal | Bernoulli | Categorical, z: Tensor) -> tuple[Tensor, Tensor]:
    """log p(x, z) and log q(z) at draws z. Raises ValueError where log_joint gives another shape than log q."""
    log_p, log_q = log_joint(z), q.log_prob(z)
    if log_p.shape != log_q.shape:
        raise ValueError(
            f"log_joint must give one number a draw and data point, shape {tuple(log_q.shape)}; got {tuple(log_p.shape)}. "
            "Sum over the data's factors there"
        )
    return log_p, log_q


def log_weights(
    log_joint: LogJoint, q: Normal | Bernoulli | Categorical, draws: int, generator: torch.Generator | None = None
) -> Float[Tensor, "draws *batch"]:
    """log w = log p(x, z) - log q(z) in nats at that many draws from q, differentiable along them where q can.

    Raises ValueError for draws < 1, and where log_joint gives another shape than log q.
    """
    log_p, log_q = log_densities(log_joint, q, draw(q, draws, generator))
    return log_p - log_q


def frozen(q: Normal) -> Normal:
    """The same distribution with parameters that get no gradient."""
    return replace(q, **{field.name: getattr(q, field.name).detach() for field in fields(q)})


def reparameterized(
    f: Generator,
    log_joint: LogJoint,
    q: Normal,
    draws: int,
    generator: torch.Generator | None = None,
    log_scale: Tensor | float | None = None,
) -> Float[Tensor, "*batch"]:
    """L_f from draws z = g(eps); its gradient is E[f*'(w) w (d/dphi)(log p - log q)] (eq-fvi-reparameterized).

    The derivative is total: to leave out that q's density itself depends on phi is right for the ELBO only. Without a
    log_scale f is taken with its `tilt`, for which nothing changes but the gradient's bias: w / Z averages one whatever q is,
    yet with Z held fixed its gradient is that of the log of the mean weight, and whoever minimizes it shrinks q. Where f(0) is
    infinite (inclusive KL, alpha < 0) some of that is left: take many draws, or `score_function`, which has no such term.

    Where f* is a power that explodes at w = 0 (alpha > 1, few digits), `renyi_loss` has the same minimizer and cannot overflow.
    Wan, Li and Hovakimyan (2020).
    """
    log_w = log_weights(log_joint, q, draws, generator)
    if log_scale is not None:
        return variational_bound(f, log_w, log_scale)
    u = log_w - log_evidence(log_w.detach())
    return (f.star.value(u) - f.tilt * u.expm1()).mean(0)


def score_function(
    f: Generator,
    log_joint: LogJoint,
    q: Normal | Bernoulli | Categorical,
    draws: int,
    generator: torch.Generator | None = None,
    log_scale: Tensor | float | None = None,
) -> Float[Tensor, "*batch"]:
    """L_f from draws, with gradient E_q[f'(1 / w) grad log q]; discrete q, too (eq-fvi-score).

    f'(1 / w) = f*(w) - w f*'(w); f*(w) alone is right for f* = -log only (eq-fvi-score-forms). Parameters of log_joint get
    their gradient, too. For alpha > 1 the coefficient explodes where w is small, and may overflow: go along the draws there.
    Wan, Li and Hovakimyan (2020).
    """
    log_p, log_q = log_densities(log_joint, q, draw(q, draws, generator).detach())
    log_w = log_p - log_q.detach()
    u = log_w - (log_evidence(log_w.detach()) if log_scale is None else log_scale)
    score = log_q - log_q.detach()  # zero, with the gradient of log q
    return (f.star.value(u) + f.f.slope(-u.detach()) * score).mean(0)


def renyi_loss(
    alpha: float,
    log_joint: LogJoint,
    q: Normal,
    draws: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch"]:
    """-log E_q w^(1 - alpha) / (1 - alpha) for alpha > 0, with its sign for alpha < 0: to be minimized (eq-fvi-renyi).

    The gradient weights each draw's total derivative by w^(1 - alpha), normalized over the draws: biased, the more the fewer
    they are, and never out of range. For alpha < 0 the bias may make q collapse, since the estimate of an upper bound is lowest
    there: take many draws, or `score_function`. Nats. Raises ValueError for alpha = 0, where every q has the same bound.
    """
    if alpha == 0 or not isfinite(alpha):
        raise ValueError(f"alpha = {alpha:g}: every q has the bound log p(x) at 0, none at infinity. KL(p || q): inclusive_kl")
    value = renyi_bound(alpha, log_weights(log_joint, q, draws, generator))
    return -value if alpha > 0 else value


class MeanField(nn.Module):
    """q(z) = N(mu, sigma^2) over `dim` latents with free parameters, to be trained by `training.fit`.

    log_joint(z, batch): log p(x, z) in nats of draws z (draws, dim), shape (draws,); `scaled_log_joint` makes one of a batch.
    estimator(log_joint, q, draws, generator): the loss, for instance `partial(reparameterized, exclusive_kl)`.
    """

    def __init__(
        self,
        log_joint: Callable[..., Tensor],
        dim: int,
        estimator: Callable[..., Tensor],
        draws: int = 10,
        log_sigma: float = 0.0,
    ):
        super().__init__()
        if dim < 1 or draws < 1:
            raise ValueError(f"dim and draws must be at least 1, got {dim} and {draws}")
        self.mu, self.log_sigma = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.full((dim,), log_sigma))
        self.log_joint, self.estimator, self.draws = log_joint, estimator, draws

    @property
    def q(self) -> Normal:
        """The distribution as it stands."""
        return Normal(self.mu, self.log_sigma)

    def loss(self, batch: Tensor | tuple[Tensor, ...], generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The estimator's loss on a batch."""
        return {"loss": self.estimator(lambda z: self.log_joint(z, batch), self.q, self.draws, generator)}
