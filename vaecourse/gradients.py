"""Gradients of the ELBO from draws of q: the score function against reparameterization, and what lowers their variance.

    ELBO(lambda) = E_q [log p(x, z) - log q(z; lambda)],  q(z; lambda) = q_1(z_1; lambda_1) ... q_d(z_d; lambda_d)

| estimator | needs | unbiased |
| --- | --- | --- |
| `reinforce` | values of log p; q continuous or discrete | always |
| `rao_blackwell` | log p as a sum of terms, each with few latents (`Factors`); q factorized | always |
| `..._leave_one_out` | 2 draws | always |
| `..._control_variate` | 4 draws, 20 to be of use | always: each half's coefficient is fitted on the other half |
| `reparameterized` | q Gaussian; log p differentiable in z | always |
| `path_only` | the same | for E_q[log p - log q] only: for another integrand its mean is wrong |

q has a parameter or more for each latent: a `Normal` mu and log sigma, a `Bernoulli` its logit, a `Categorical` the logits of
its classes. So a gradient is (latents, parameters); estimators give one for each draw, (draws, latents, parameters), and
`estimate.gradient.mean(0)` is the estimate. Between draws and latents there may be further axes: a batch of data points, each
with its own q, or repetitions. Values are in nats.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Num
from torch import Generator, Tensor, nn

from vaecourse.distributions import Bernoulli, Categorical, Normal

Posterior = Normal | Bernoulli | Categorical
"""A factorized q(z; lambda) over (*batch, latents); a Categorical's logits are (*batch, latents, classes)."""

LogJoint = Callable[[Tensor], Tensor]
"""z (draws, *points, latents) -> log p(x, z) in nats, (draws, *points)."""


@dataclass(frozen=True)
class Factors:
    """log p(x, z) as a sum of terms, each of which touches some of the latents.

    terms: z (..., latents) -> (..., terms), in nats; touches (terms, latents): which latents a term depends on.
    """

    terms: Callable[[Tensor], Tensor]
    touches: Bool[Tensor, "terms latents"]

    def __call__(self, z: Num[Tensor, "*points latents"]) -> Float[Tensor, "*points"]:
        """log p(x, z) in nats."""
        return self.terms(z).sum(-1)


class Estimate(NamedTuple):
    """What the draws say of the ELBO and of its gradient, one by one; means over the draws estimate both."""

    value: Float[Tensor, "draws *points"]
    """log p(x, z) - log q(z), nats."""
    gradient: Float[Tensor, "draws *points latents parameters"]


AT_ONCE = 2**21  # numbers in the gradients that `variance_per_draw` holds at once

Estimator = Callable[[Posterior, LogJoint, Tensor], Estimate]
"""(q, log_joint, z drawn from q) -> Estimate."""


def parameters(q: Posterior) -> Float[Tensor, "*batch latents parameters"]:
    """lambda: mu and log sigma, or the logits, of each latent."""
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
    """log q_i(z_i) of each latent, in nats."""
    match q:
        case Normal():
            return Normal(q.mu[..., None], q.log_sigma[..., None]).log_prob(z[..., None])
        case Bernoulli():
            return Bernoulli(q.logits[..., None]).log_prob(z[..., None])
    return q.log_prob(z)


@torch.no_grad()
def score(q: Posterior, z: Num[Tensor, "draws *points latents"]) -> Float[Tensor, "draws *points latents parameters"]:
    """The gradient of log q(z; lambda) in lambda, z held still; its mean over q is zero (eq-gradients-score-mean)."""
    match q:
        case Normal():
            eps = (z - q.mu) * (-q.log_sigma).exp()
            return torch.stack([eps * (-q.log_sigma).exp(), eps**2 - 1], -1)
        case Bernoulli():
            return (z - q.mean)[..., None]
    one_hot = z[..., None] == torch.arange(q.logits.shape[-1], device=z.device)
    return one_hot.to(q.logits.dtype) - q.probabilities


def _of_each_draw(log_joint: LogJoint, z: Tensor) -> Tensor:
    values = log_joint(z)
    if values.shape != z.shape[:-1]:
        raise ValueError(
            f"log p(x, z) must be one number a draw, shape {tuple(z.shape[:-1])}; got {tuple(values.shape)}. "
            "Sum over latents and data, and average over nothing"
        )
    return values


def _log_weight(q: Posterior, log_joint: LogJoint, z: Tensor) -> Tensor:
    return _of_each_draw(log_joint, z) - log_q(q, z).sum(-1)


# By the score function


@torch.no_grad()
def score_function(
    q: Posterior, signal: Float[Tensor, "draws *points latents_or_one"], z: Num[Tensor, "draws *points latents"]
) -> Float[Tensor, "draws *points latents parameters"]:
    """signal * score, whose mean is the gradient of E_q[f(z)] for signal = f(z)[..., None] (eq-gradients-score).

    A signal with a number for each latent has, for the i-th, what of f depends on z_i. Of a coin the mean is
    eq-gradients-coin, the variance eq-gradients-coin-variance.
    """
    return signal[..., None] * score(q, z)


@torch.no_grad()
def reinforce(q: Posterior, log_joint: LogJoint, z: Num[Tensor, "draws *points latents"]) -> Estimate:
    """(log p(x, z) - log q(z)) * score: nothing but values of log p is needed (eq-gradients-reinforce).

    Williams (1992); Ranganath, Gerrish and Blei (2014).
    """
    f = _log_weight(q, log_joint, z)
    return Estimate(f, score_function(q, f[..., None], z))


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
    """Each latent's score times its own terms: those that touch it, less log q_i(z_i) (eq-gradients-rao-blackwell).

    What is left out has expectation zero, since the other latents are independent of this one under q. Its variance may be
    the larger, though rarely (eq-gradients-left-out).
    Ranganath, Gerrish and Blei (2014).
    """
    f, f_i = _local_log_weight(q, log_joint, z)
    return Estimate(f, score_function(q, f_i, z))


# Control variates


def _needs_draws(z: Tensor, least: int, why: str) -> None:
    if len(z) < least:
        raise ValueError(f"needs at least {least} draws, {why}; got {len(z)}")


def above_others(signal: Float[Tensor, "draws *signals"]) -> Float[Tensor, "draws *signals"]:
    """f(z_k) less the mean of f at the other draws, a baseline that does not depend on z_k (eq-gradients-leave-one-out).

    Without its factor K / (K - 1), for K draws, it is biased: eq-gradients-own-baseline.
    """
    _needs_draws(signal, 2, "one of them the others' baseline")
    return (signal - signal.mean(0)) * (len(signal) / (len(signal) - 1))


def fitted_coefficient(
    gradient: Float[Tensor, "draws *parameters"], h: Float[Tensor, "draws *parameters"]
) -> Float[Tensor, "*parameters"]:
    """a* = Cov(gradient, h) / Var(h) over the draws, for each component; 0 where h does not vary (eq-gradients-coefficient)."""
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
    is far from zero, beside its spread. Equation eq-gradients-control-variate.
    """
    _needs_draws(h, 4, "two in each half")
    half = len(h) // 2
    one, other = fitted_coefficient(gradient[:half], h[:half]), fitted_coefficient(gradient[half:], h[half:])
    return torch.cat([gradient[:half] - other * h[:half], gradient[half:] - one * h[half:]])


@torch.no_grad()
def reinforce_leave_one_out(q: Posterior, log_joint: LogJoint, z: Num[Tensor, "draws *points latents"]) -> Estimate:
    """`reinforce` with the mean of the other draws as baseline (eq-gradients-leave-one-out).

    Kool, van Hoof and Welling (2019).
    """
    f = _log_weight(q, log_joint, z)
    return Estimate(f, score_function(q, above_others(f)[..., None], z))


@torch.no_grad()
def reinforce_control_variate(q: Posterior, log_joint: LogJoint, z: Num[Tensor, "draws *points latents"]) -> Estimate:
    """`reinforce` less a* times the score, a* fitted for each component (eq-gradients-control-variate).

    Ranganath, Gerrish and Blei (2014).
    """
    f, gradient = reinforce(q, log_joint, z)
    return Estimate(f, cross_fitted(gradient, score(q, z)))


@torch.no_grad()
def rao_blackwell_leave_one_out(q: Posterior, log_joint: Factors, z: Num[Tensor, "draws *points latents"]) -> Estimate:
    """`rao_blackwell` with the mean of the other draws as each latent's baseline."""
    f, f_i = _local_log_weight(q, log_joint, z)
    return Estimate(f, score_function(q, above_others(f_i), z))


@torch.no_grad()
def rao_blackwell_control_variate(q: Posterior, log_joint: Factors, z: Num[Tensor, "draws *points latents"]) -> Estimate:
    """`rao_blackwell` less a* times the score, a* fitted for each component."""
    f, gradient = rao_blackwell(q, log_joint, z)
    return Estimate(f, cross_fitted(gradient, score(q, z)))


# By reparameterization


def _needs_gaussian(q: Posterior) -> None:
    if not isinstance(q, Normal):
        raise TypeError(f"the draws of a {type(q).__name__} do not move with its parameters: use reinforce or rao_blackwell")


def _moving(values: Tensor) -> Tensor:
    if not values.requires_grad:
        raise ValueError("no gradient reaches log p(x, z): compute it from z, without detach() or no_grad(), or use reinforce")
    return values


def path(
    q: Normal, f: Callable[[Tensor], Tensor], z: Float[Tensor, "draws *points latents"]
) -> tuple[Float[Tensor, "draws *points"], Float[Tensor, "draws *points latents parameters"]]:
    """f(z), and the gradient of f(g(eps, lambda)) in lambda for z = g(eps, lambda) = mu + sigma eps, f's own lambda held still.

    By the chain rule: df/dz times dz/dmu = 1 and dz/dlog sigma = sigma eps = z - mu. For f = z^2 and for a sine, the variances
    beside those of the score are eq-gradients-square and eq-gradients-sine. Raises TypeError where q is discrete.
    """
    _needs_gaussian(q)
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        value = _moving(_of_each_draw(f, z))
        (slope,) = torch.autograd.grad(value.sum(), z)
    with torch.no_grad():
        return value.detach(), torch.stack([slope, slope * (z - q.mu)], -1)


def path_only(q: Normal, log_joint: LogJoint, z: Float[Tensor, "draws *points latents"]) -> Estimate:
    """The gradient of log p(x, g(eps, lambda)) - log q(g(eps, lambda)) along the path of z alone (eq-gradients-path).

    The score, of mean zero, is dropped: no variance is left where q is the posterior. Right for the ELBO only, in which the
    integrand is log p - log q. Roeder, Wu and Duvenaud (2017).
    """
    _needs_gaussian(q)
    still = Normal(q.mu.detach(), q.log_sigma.detach())
    return Estimate(*path(q, lambda z: _moving(_of_each_draw(log_joint, z)) - still.log_prob(z), z))


def reparameterized(q: Normal, log_joint: LogJoint, z: Float[Tensor, "draws *points latents"]) -> Estimate:
    """The gradient of log p(x, g(eps, lambda)) - log q(g(eps, lambda); lambda), all of it: the path's part less the score.

    Equation eq-gradients-reparameterization; Kingma and Welling (2014), section 2.4.
    """
    value, gradient = path_only(q, log_joint, z)
    return Estimate(value, gradient - score(q, z))


# What an estimator is worth


def exact(q: Bernoulli | Categorical, log_joint: LogJoint, most: int = 2**16) -> Estimate:
    """The ELBO of a discrete q over (latents,) and its gradient, by a sum over all states: value (), gradient (latents, ...).

    Raises ValueError for more than `most` states, TypeError for a continuous q.
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
    with torch.enable_grad():
        value.requires_grad_()
        log_q_of = log_q(with_parameters(type(q), value), z).sum(-1)
        elbo = (log_q_of.exp() * (_of_each_draw(log_joint, z) - log_q_of)).sum()
        return Estimate(elbo.detach(), torch.autograd.grad(elbo, value)[0])


def variance_per_draw(
    estimator: Estimator,
    q: Posterior,
    log_joint: LogJoint,
    draws: int,
    repeats: int = 1000,
    generator: Generator | None = None,
) -> Float[Tensor, "latents parameters"]:
    """draws times the variance of an estimate from that many draws, for each component of lambda; `.sum()` is the total.

    For estimators that treat draws one by one it is the variance of a single draw's gradient, whatever `draws`. Measured
    over `repeats` estimates; q is over (latents,).
    """
    if draws < 1 or repeats < 2:
        raise ValueError(f"needs draws >= 1 and repeats >= 2, got {draws} and {repeats}")
    at_once = max(1, AT_ONCE // (draws * parameters(q).numel()))
    parts = [min(at_once, repeats - done) for done in range(0, repeats, at_once)]
    draw = (q.sample(generator, shape=(draws, part)).detach() for part in parts)
    return draws * torch.cat([estimator(q, log_joint, z).gradient.mean(0) for z in draw]).var(0)


# Ascent


def surrogate(q: Posterior, estimate: Estimate) -> Float[Tensor, "*points"]:
    """A quantity whose value is the estimated ELBO, in nats, and whose gradient in lambda is the estimated gradient.

    To be maximized; it carries gradients on to whatever computed q, an encoder for instance.
    """
    along = parameters(q)
    gradient = estimate.gradient.mean(0).detach()
    return estimate.value.mean(0).detach() + ((along - along.detach()) * gradient).sum((-2, -1))


class BlackBoxVI(nn.Module):
    """Variational inference that asks a model for log p(x, z) and nothing else, by stochastic ascent of the ELBO.

    q: where to start, over (latents,). log_joint: a batch of data -> its LogJoint (or Factors), the whole data's where the
    batch is a part: weigh it by population / batch. Trained by `training.fit`; only lambda learns. Ranganath, Gerrish and
    Blei (2014).
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
        """Minus the ELBO of the draws, with the estimator's gradient."""
        q = self.q
        z = q.sample(generator, shape=(self.draws,)).detach()
        return {"loss": -surrogate(q, self.estimator(q, self.log_joint(batch), z))}


def logistic_regression(
    x: Float[Tensor, "batch latents"], y: Float[Tensor, " batch"], population: int | None = None
) -> Factors:
    """Bayesian logistic regression: weights z ~ N(0, I), labels y_n in {0, 1} with p(y_n = 1) = sigmoid(x_n z).

    One term, the likelihood, touches all weights; a term of the prior touches its own. `population`: how many data points the
    batch stands for. Raises ValueError where rows and labels differ in number, or a batch is empty.
    """
    if x.ndim != 2 or y.shape != x.shape[:1] or len(x) == 0:
        raise ValueError(
            f"inputs (batch, latents) with one label each, at least one; got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    weight, latents = (population or len(x)) / len(x), x.shape[1]
    own = torch.eye(latents, dtype=torch.bool, device=x.device)
    touches = torch.cat([torch.ones_like(own[:1]), own])

    def terms(z: Tensor) -> Tensor:
        likelihood = weight * Bernoulli(z @ x.T).log_prob(y)
        prior = Normal(torch.zeros_like(z)[..., None], torch.zeros_like(z)[..., None]).log_prob(z[..., None])
        return torch.cat([likelihood[..., None], prior], -1)

    return Factors(terms, touches)
