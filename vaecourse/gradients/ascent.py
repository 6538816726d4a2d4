"""What an estimator is worth, measured or exactly, and the ascent of a bound by one."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse.distributions import Bernoulli, Categorical, Normal, Support, expectation
from vaecourse.gradients.families import (
    Estimate,
    Estimator,
    Factors,
    LogJoint,
    Posterior,
    log_q,
    of_each_draw,
    parameters,
    with_parameters,
)
from vaecourse.inputs import gradients

AT_ONCE = 2**21  # numbers in the gradients that `variance_per_draw` holds at once


def exact(q: Bernoulli | Categorical, log_joint: LogJoint, *, most: int = 2**16) -> Estimate:
    """The ELBO of a discrete q over (latents,), the sum of q(z) (log p(x, z) - log q(z)) over all states, and its gradient.

    value (), in nats, gradient (latents, parameters). Raises ValueError for more than `most` states, TypeError for a
    continuous q.
    """
    if isinstance(q, Normal):
        raise TypeError("a Normal has no states to sum over")
    value = parameters(q).detach()
    if value.ndim != 2:
        raise ValueError(f"one q at a time, over (latents,); got parameters {tuple(value.shape)}")
    values = 2 if isinstance(q, Bernoulli) else value.shape[1]
    if values ** len(value) > most:
        raise ValueError(f"{len(value)} latents of {values} values have more than {most} states: use an estimator")
    states = torch.cartesian_prod(*[torch.arange(values, device=value.device)] * len(value)).reshape(-1, len(value))
    z = states.to(value.dtype) if isinstance(q, Bernoulli) else states
    with gradients():
        value = value.clone().requires_grad_()
        log_q_of = log_q(with_parameters(type(q), value), z).sum(-1)
        elbo = expectation(log_q_of.exp(), of_each_draw(log_joint, z) - log_q_of)
        return Estimate(elbo.detach(), torch.autograd.grad(elbo, value)[0])


def variance_per_draw(
    estimator: Estimator,
    q: Posterior,
    log_joint: LogJoint,
    draws: int,
    generator: Generator | None = None,
    *,
    repeats: int = 1000,
) -> Float[Tensor, "latents parameters"]:
    """draws times the variance of an estimate from that many draws, for each component of lambda; `.sum()` is the total.

    For estimators that treat draws one by one it is the variance of a single draw's gradient, whatever `draws`. Measured
    over `repeats` estimates; q is over (latents,). Raises ValueError for draws < 1 or repeats < 2.
    """
    if draws < 1 or repeats < 2:
        raise ValueError(f"needs draws >= 1 and repeats >= 2, got {draws} and {repeats}")
    at_once = max(1, AT_ONCE // (draws * parameters(q).numel()))
    parts = [min(at_once, repeats - done) for done in range(0, repeats, at_once)]
    draw = (q.sample(generator, shape=(draws, part)).detach() for part in parts)
    return draws * torch.cat([estimator(q, log_joint, z).gradient.mean(0) for z in draw]).var(0)


def surrogate(q: Posterior, estimate: Estimate) -> Float[Tensor, "*points"]:
    """A quantity whose value is the estimated bound, in nats, and whose gradient in lambda is the estimated gradient.

    To be maximized; it carries gradients on to whatever computed q, an encoder for instance.
    """
    moving = parameters(q)
    gradient = estimate.gradient.mean(0).detach()
    return estimate.value.mean(0).detach() + ((moving - moving.detach()) * gradient).sum((-2, -1))


class BlackBoxVI(nn.Module):
    """Variational inference that asks a model for log p(x, z) and nothing else, by stochastic ascent of a bound.

    q: where to start, over (latents,). log_joint: a batch of data -> its LogJoint (or Factors), the whole data's where the
    batch is a part: weigh it by population / batch. estimator: of the ELBO's gradient, or of another bound's. Trained by
    `training.fit`; only lambda learns. Ranganath, Gerrish and Blei (2014). Raises ValueError for draws < 1, and where q has
    data points or parameters that are not finite.
    """

    def __init__(self, q: Posterior, log_joint: Callable[..., LogJoint], estimator: Estimator, draws: int = 10):
        super().__init__()
        if draws < 1:
            raise ValueError(f"draws, the draws a step, must be at least 1, got {draws}")
        value = parameters(q).detach().clone()
        if value.ndim != 2 or not value.isfinite().all():
            raise ValueError(f"q must be over (latents,), with finite parameters; they have shape {tuple(value.shape)}")
        self.kind, self.log_joint, self.estimator, self.draws = type(q), log_joint, estimator, draws
        self.value = nn.Parameter(value)

    @property
    def q(self) -> Posterior:
        """q(z; lambda) as it is now."""
        return with_parameters(self.kind, self.value)

    def loss(self, batch: Tensor | tuple[Tensor, ...], generator: Generator | None = None) -> dict[str, Tensor]:
        """Minus the bound that the draws estimate, with the estimator's gradient."""
        q = self.q
        z = q.sample(generator, shape=(self.draws,)).detach()
        return {"loss": -surrogate(q, self.estimator(q, self.log_joint(batch), z))}


def logistic_regression(
    x: Float[Tensor, "batch latents"], y: Float[Tensor, " batch"], *, population: int | None = None
) -> Factors:
    """Bayesian logistic regression: weights z ~ N(0, I), labels y_n in {0, 1} with p(y_n = 1) = sigmoid(x_n z).

    One term, the likelihood, touches all weights; a term of the prior touches its own. `population`: how many data points the
    batch stands for. Raises ValueError where rows and labels differ in number, a batch is empty or larger than the population,
    and for labels outside [0, 1], which are looked at on the CPU, where nothing has to be waited for.
    """
    if x.ndim != 2 or y.shape != x.shape[:1] or len(x) == 0:
        raise ValueError(
            f"inputs (batch, latents) with one label each, at least one; got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if population is not None and population < len(x):
        raise ValueError(f"a batch is a part of the population: {len(x)} points stand for {population}")
    if not y.is_cuda:
        labels = Support()
        labels.see(y)
        labels.check()
    weight, latents = (len(x) if population is None else population) / len(x), x.shape[1]
    own = torch.eye(latents, dtype=torch.bool, device=x.device)
    touches = torch.cat([torch.ones_like(own[:1]), own])

    def terms(z: Tensor) -> Tensor:
        likelihood = weight * Bernoulli(z @ x.T).log_prob(y)
        prior = Normal.standard(z[..., None]).log_prob(z[..., None])
        return torch.cat([likelihood[..., None], prior], -1)

    return Factors(terms, touches)
