"""The few distributions of the book.

What returns a probability returns one number per data point, in nats: the last axis, the event, is summed here, once. The
average over the batch is the caller's, once, at the end. What draws takes a generator.
"""

from dataclasses import dataclass
from math import log, pi

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.nn import functional

from vaecourse.randomness import normal, uniform


def _batch_axis(shape: tuple[int, ...], parameter: Tensor) -> int | None:
    """Where the batch lies in a draw: behind `shape`, unless the distribution has no batch."""
    return len(shape) if parameter.ndim > 1 else None


@dataclass(frozen=True)
class Normal:
    """A Gaussian with independent coordinates, N(mu, sigma^2), parameterized by mu and log sigma (not log sigma^2)."""

    mu: Float[Tensor, "*batch dim"]
    log_sigma: Float[Tensor, "*batch dim"]

    @property
    def mean(self) -> Float[Tensor, "*batch dim"]:
        """The mean, mu."""
        return self.mu

    def sample(
        self,
        generator: Generator | None = None,
        shape: tuple[int, ...] = (),
    ) -> Float[Tensor, "*shape dim"]:
        """Draw mu + sigma * eps, differentiable in mu and log_sigma (eq-vae-pathwise-gradient).

        `shape` is put before the batch: shape=(k,) draws k times for each data point.
        Equation eq-vae-reparameterization.
        """
        eps = normal((*shape, *self.mu.shape), self.mu, generator, _batch_axis(shape, self.mu))
        return self.mu + self.log_sigma.exp() * eps

    def log_prob(self, x: Float[Tensor, "*points dim"]) -> Float[Tensor, "*broadcast"]:
        """log N(x; mu, sigma^2) in nats, summed over coordinates (eq-vae-gaussian-decoder, eq-prerequisites-gaussian).

        The density of (x - mu) / sigma, less log sigma for each coordinate (eq-prerequisites-change-of-variables).
        """
        standardized = (x - self.mu) * (-self.log_sigma).exp()
        return -0.5 * (standardized**2 + 2 * self.log_sigma + log(2 * pi)).sum(-1)

    def entropy(self) -> Float[Tensor, "*batch"]:
        """-E[log q] in nats, summed over coordinates (eq-prerequisites-gaussian-entropy)."""
        return (self.log_sigma + 0.5 * (1 + log(2 * pi))).sum(-1)

    def kl(self, other: "Normal") -> Float[Tensor, "*batch"]:
        """KL(self || other) in nats, summed over coordinates (eq-prerequisites-gaussian-kl)."""
        log_ratio = self.log_sigma - other.log_sigma
        distance = (self.mu - other.mu) * (-other.log_sigma).exp()
        return 0.5 * (distance**2 + (2 * log_ratio).exp() - 1 - 2 * log_ratio).sum(-1)

    def kl_to_standard(self) -> Float[Tensor, "*batch"]:
        """KL(N(mu, sigma^2) || N(0, I)) in nats, summed over coordinates (eq-vae-gaussian-kl)."""
        log_variance = 2 * self.log_sigma
        return 0.5 * (self.mu**2 + log_variance.expm1() - log_variance).sum(-1)


@dataclass(frozen=True)
class Bernoulli:
    """Independent coin flips x in {0, 1}, one a coordinate, with p(x = 1) = sigmoid(logits)."""

    logits: Float[Tensor, "*batch dim"]

    @property
    def mean(self) -> Float[Tensor, "*batch dim"]:
        """The probabilities of a one."""
        return self.logits.sigmoid()

    def sample(self, generator: Generator | None = None, shape: tuple[int, ...] = ()) -> Float[Tensor, "*shape dim"]:
        """Draw zeros and ones; no gradient flows through the draw. `shape` is put before the batch."""
        u = uniform((*shape, *self.logits.shape), self.logits, generator, _batch_axis(shape, self.logits))
        return (u < self.mean).to(self.logits.dtype)

    def log_prob(self, x: Float[Tensor, "*points dim"]) -> Float[Tensor, "*broadcast"]:
        """x log p + (1 - x) log(1 - p) in nats, summed over coordinates (eq-vae-bernoulli-decoder).

        A log-probability for binary x only. For grey x in (0, 1) it is a cross-entropy and no likelihood.
        """
        x, logits = torch.broadcast_tensors(x, self.logits)
        return -functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)

    def entropy(self) -> Float[Tensor, "*batch"]:
        """-E[log q] in nats, summed over coordinates."""
        return (functional.softplus(self.logits) - self.mean * self.logits).sum(-1)

    def kl(self, other: "Bernoulli") -> Float[Tensor, "*batch"]:
        """KL(self || other) in nats, summed over coordinates."""
        gain = self.mean * (self.logits - other.logits)
        return (gain - functional.softplus(self.logits) + functional.softplus(other.logits)).sum(-1)


@dataclass(frozen=True)
class Categorical:
    """One choice among `classes`, with p(k) = softmax(logits)_k. An event is an index, so it has no axis of its own."""

    logits: Float[Tensor, "*batch classes"]

    @property
    def probabilities(self) -> Float[Tensor, "*batch classes"]:
        """The probability of each class."""
        return self.logits.softmax(-1)

    def sample(self, generator: Generator | None = None, shape: tuple[int, ...] = ()) -> Int[Tensor, "*shape"]:
        """Draw indices by the Gumbel-max rule; no gradient flows. `shape` is put before the batch."""
        u = uniform((*shape, *self.logits.shape), self.logits, generator, _batch_axis(shape, self.logits))
        gumbel = -(-u.clamp_min(torch.finfo(u.dtype).tiny).log()).log()
        return (self.logits + gumbel).argmax(-1)

    def log_prob(self, k: Int[Tensor, "*points"]) -> Float[Tensor, "*broadcast"]:
        """log p(k) in nats."""
        shape = torch.broadcast_shapes(k.shape, self.logits.shape[:-1])
        log_p = self.logits.log_softmax(-1).expand(*shape, -1)
        return log_p.gather(-1, k.expand(shape)[..., None])[..., 0]

    def entropy(self) -> Float[Tensor, "*batch"]:
        """-E[log q] in nats (eq-prerequisites-entropy)."""
        return -(self.probabilities * self.logits.log_softmax(-1)).sum(-1)

    def kl(self, other: "Categorical") -> Float[Tensor, "*batch"]:
        """KL(self || other) in nats (eq-prerequisites-kl), never negative (eq-prerequisites-kl-nonnegative)."""
        return (self.probabilities * (self.logits.log_softmax(-1) - other.logits.log_softmax(-1))).sum(-1)
