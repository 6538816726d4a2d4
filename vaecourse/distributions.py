"""The few distributions of the book.

What returns a probability returns one number per data point, in nats: the last axis, the event, is summed here, once. The
average over the batch is the caller's, once, at the end. What draws takes a generator. A distribution is its parameters, and is
indexed and detached as they are: `q[rows]`, `q[:, None]`, `q.detach()`.

Zero probabilities are in order: 0 log 0 is 0, in values and in gradients, and what is impossible has the log-probability -inf.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import wraps
from math import log, pi

import torch
from jaxtyping import Float, Int, Num
from torch import Generator, Tensor
from torch.nn import functional

from vaecourse.randomness import indices, normal, uniform


def _batch_axis(shape: tuple[int, ...], parameter: Tensor) -> int | None:
    """Where the batch lies in a draw: behind `shape`, unless the distribution has no batch."""
    return len(shape) if parameter.ndim > 1 else None


def expectation(p: Float[Tensor, "*#points"], values: Float[Tensor, "*#points"], axis: int = -1) -> Float[Tensor, "*rest"]:
    """The sum of p times values along an axis, where p = 0 excludes a value even if it is infinite, from gradients as well."""
    return (p * values.masked_fill(p == 0, 0.0)).sum(axis)


class Support:
    """The values that Bernoullis were asked about while it watched (`watched`): whether they lie in [0, 1].

    Beyond it x log p + (1 - x) log(1 - p) is unbounded: whoever trains on such data finds ever larger "likelihoods".
    Nothing waits for the device until `check`.
    """

    SLACK = 1e-6  # what rounding may add

    def __init__(self):
        self._ranges: list[tuple[Tensor, Tensor]] = []

    def see(self, x: Tensor) -> None:
        """Keep the range of these values."""
        if x.numel():
            self._ranges.append(x.detach().aminmax())

    def check(self) -> None:
        """Raises ValueError where a value seen since the last check lies outside [0, 1]."""
        ranges, self._ranges = self._ranges, []
        if not ranges:
            return
        least, most = (torch.stack([end.double() for end in ends]) for ends in zip(*ranges, strict=True))
        least, most = least.min().item(), most.max().item()
        if least < -self.SLACK or most > 1 + self.SLACK:
            raise ValueError(
                f"coin flips (a Bernoulli decoder, binarize) were given values from {least:.4g} to {most:.4g}, and take values "
                "in [0, 1] alone: scale the data, as by (x - x.min()) / (x.max() - x.min()), or take a Normal decoder for them"
            )


_watching: list[Support] = []


@contextmanager
def watched(support: Support) -> Iterator[Support]:
    """While the block runs, `support` sees the values that Bernoullis are asked about."""
    _watching.append(support)
    try:
        yield support
    finally:
        _watching.remove(support)


def refusing(score: Callable) -> Callable:
    """A function that scores a model, made to raise ValueError where a Bernoulli in it is asked about values outside [0, 1]."""

    @wraps(score)
    def checked(*args, **kwargs):
        with watched(Support()) as support:
            found = score(*args, **kwargs)
        support.check()
        return found

    return checked


def in_support(x: Tensor) -> Tensor:
    """x, shown to whoever watches."""
    for support in _watching:
        support.see(x)
    return x


class _Parameters:
    """A distribution as its parameters: tensors of one batch, with the event's axis last."""

    def _each(self, change: Callable[[Tensor], Tensor]) -> "_Parameters":
        return replace(self, **{field.name: change(getattr(self, field.name)) for field in fields(self)})

    def __getitem__(self, index: object) -> "_Parameters":
        """The distribution with its parameters so indexed: of some data points, `q[rows]`, or of other axes, `q[:, None]`."""
        return self._each(lambda parameter: parameter[index])

    def with_batch(self, batch: tuple[int, ...]) -> "_Parameters":
        """A distribution of rows, (n, ...), as one whose batch has these axes."""
        return self._each(lambda parameter: parameter.reshape(*batch, *parameter.shape[1:]))

    def detach(self) -> "_Parameters":
        """The same distribution with parameters that get no gradient."""
        return self._each(Tensor.detach)


@dataclass(frozen=True)
class Normal(_Parameters):
    """A Gaussian with independent coordinates, N(mu, sigma^2), parameterized by mu and log sigma (not log sigma^2)."""

    mu: Float[Tensor, "*batch dim"]
    log_sigma: Float[Tensor, "*batch dim"]

    @classmethod
    def standard(cls, like: Float[Tensor, "*batch dim"]) -> "Normal":
        """N(0, I), of the shape, type and device of `like`."""
        zeros = torch.zeros_like(like)
        return cls(zeros, zeros)

    @property
    def mean(self) -> Float[Tensor, "*batch dim"]:
        """The mean, mu."""
        return self.mu

    def sample(
        self,
        generator: Generator | None = None,
        *,
        shape: tuple[int, ...] = (),
    ) -> Float[Tensor, "*shape dim"]:
        """Draw mu + sigma * eps, differentiable in mu and log_sigma (eq-vae-pathwise-gradient).

        `shape` is put before the batch: shape=(k,) draws k times for each data point.
        Equation eq-vae-reparameterization.
        """
        eps = normal((*shape, *self.mu.shape), self.mu, generator, _batch_axis(shape, self.mu))
        return self.mu + self.log_sigma.exp() * eps

    def standardized(self, x: Float[Tensor, "*points dim"]) -> Float[Tensor, "*broadcast dim"]:
        """(x - mu) / sigma; 0 at the mean, however small sigma is."""
        largest = torch.finfo(self.log_sigma.dtype).max
        return (x - self.mu) * (-self.log_sigma).exp().clamp(max=largest)  # not inf, for 0 * inf is no number

    def log_prob(self, x: Float[Tensor, "*points dim"]) -> Float[Tensor, "*broadcast"]:
        """log N(x; mu, sigma^2) in nats, summed over coordinates (eq-vae-gaussian-decoder, eq-prerequisites-gaussian).

        The density of (x - mu) / sigma, less log sigma for each coordinate (eq-prerequisites-change-of-variables).
        """
        return -0.5 * (self.standardized(x) ** 2 + 2 * self.log_sigma + log(2 * pi)).sum(-1)

    def entropy(self) -> Float[Tensor, "*batch"]:
        """-E[log q] in nats, summed over coordinates (eq-prerequisites-gaussian-entropy)."""
        return (self.log_sigma + 0.5 * (1 + log(2 * pi))).sum(-1)

    def kl(self, other: "Normal") -> Float[Tensor, "*batch"]:
        """KL(self || other) in nats, summed over coordinates (eq-prerequisites-gaussian-kl)."""
        log_ratio = self.log_sigma - other.log_sigma
        return 0.5 * (other.standardized(self.mu) ** 2 + (2 * log_ratio).expm1() - 2 * log_ratio).sum(-1)

    def kl_to_standard(self) -> Float[Tensor, "*batch"]:
        """KL(N(mu, sigma^2) || N(0, I)) in nats, summed over coordinates (eq-vae-gaussian-kl)."""
        log_variance = 2 * self.log_sigma
        return 0.5 * (self.mu**2 + log_variance.expm1() - log_variance).sum(-1)


def _infinite(log_p: Tensor) -> Tensor:
    """-inf where the logits' largest finite number stands for it."""
    return log_p.masked_fill(log_p < -torch.finfo(log_p.dtype).max / 4, -torch.inf)


@dataclass(frozen=True)
class Bernoulli(_Parameters):
    """Independent coin flips x in {0, 1}, one a coordinate, p(x = 1) = sigmoid(logits): certain where logits are infinite."""

    logits: Float[Tensor, "*batch dim"]

    @property
    def _finite(self) -> Float[Tensor, "*batch dim"]:
        """The logits, infinite ones as the largest numbers there are, by which 0 times a logit is 0."""
        largest = torch.finfo(self.logits.dtype).max
        return self.logits.clamp(-largest, largest)

    @property
    def mean(self) -> Float[Tensor, "*batch dim"]:
        """The probabilities of a one."""
        return self.logits.sigmoid()

    def sample(self, generator: Generator | None = None, *, shape: tuple[int, ...] = ()) -> Float[Tensor, "*shape dim"]:
        """Draw zeros and ones; no gradient flows through the draw. `shape` is put before the batch."""
        u = uniform((*shape, *self.logits.shape), self.logits, generator, _batch_axis(shape, self.logits))
        return (u < self.mean).to(self.logits.dtype)

    def log_prob(self, x: Num[Tensor, "*points dim"]) -> Float[Tensor, "*broadcast"]:
        """x log p + (1 - x) log(1 - p) in nats, summed over coordinates (eq-vae-bernoulli-decoder).

        A log-probability for binary x only. For grey x in (0, 1) it is a cross-entropy and no likelihood. Outside [0, 1] it is
        nothing: training and scores refuse such x.
        """
        x = in_support(x if x.is_floating_point() else x.to(self.logits.dtype))
        x, logits = torch.broadcast_tensors(x, self._finite)
        return _infinite(-functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1))

    def entropy(self) -> Float[Tensor, "*batch"]:
        """-E[log q] in nats, summed over coordinates."""
        return (functional.softplus(self._finite) - self.mean * self._finite).sum(-1)

    def kl(self, other: "Bernoulli") -> Float[Tensor, "*batch"]:
        """KL(self || other) in nats, summed over coordinates; inf where other excludes what self does not."""
        certain = self.logits.isinf()
        own = self.logits.masked_fill(certain, 0.0)
        gain = own.sigmoid() * (own - other._finite)
        kl = gain - functional.softplus(own) + functional.softplus(other._finite)
        mean, logits = torch.broadcast_tensors(self.mean, other._finite)
        of_certain = functional.binary_cross_entropy_with_logits(logits, mean, reduction="none")
        return -_infinite(-torch.where(certain, of_certain, kl).sum(-1))


@dataclass(frozen=True)
class Categorical(_Parameters):
    """One choice among `classes`, with p(k) = softmax(logits)_k. An event is an index, so it has no axis of its own."""

    logits: Float[Tensor, "*batch classes"]

    @property
    def probabilities(self) -> Float[Tensor, "*batch classes"]:
        """The probability of each class."""
        return self.logits.softmax(-1)

    def sample(self, generator: Generator | None = None, *, shape: tuple[int, ...] = ()) -> Int[Tensor, "*shape"]:
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
        return -expectation(self.probabilities, self.logits.log_softmax(-1))

    def kl(self, other: "Categorical") -> Float[Tensor, "*batch"]:
        """KL(self || other) in nats (eq-prerequisites-kl), never negative (eq-prerequisites-kl-nonnegative).

        inf where other excludes a class that self does not.
        """
        return expectation(self.probabilities, self.logits.log_softmax(-1) - other.logits.log_softmax(-1))


@dataclass(frozen=True)
class Point(_Parameters):
    """All mass on one value: what a network without noise returns. It has a mean and draws, and no density."""

    value: Float[Tensor, "*batch dim"]

    @property
    def mean(self) -> Float[Tensor, "*batch dim"]:
        """The value."""
        return self.value

    def sample(self, generator: Generator | None = None, *, shape: tuple[int, ...] = ()) -> Float[Tensor, "*shape dim"]:
        """The value, whatever the generator; `shape` is put before the batch."""
        return self.value.expand(*shape, *self.value.shape)


BLOCK = 512  # points whose densities under all components are held at once


@dataclass(frozen=True)
class Mixture:
    """(1/n) sum of p_i(x): a batch of n distributions, (n, dim), each as likely. All of them count, none is left out.

    Raises ValueError where the components are no batch of at least one.
    """

    components: Normal | Bernoulli

    def __post_init__(self):
        shape = tuple(self.components.mean.shape)
        if len(shape) != 2 or shape[0] == 0:
            raise ValueError(f"a mixture needs a batch of distributions, (n, dim), at least one; got {shape}")

    def __len__(self) -> int:
        """The number of components."""
        return len(self.components.mean)

    def log_prob(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """log of the mean density in nats, n densities a point (eq-priors-aggregated)."""
        return torch.cat([self.components.log_prob(part[:, None]).logsumexp(1) - log(len(self)) for part in x.split(BLOCK)])

    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n dim"]:
        """n draws: a component, each as likely, then a draw from it."""
        return self.components[indices(len(self), (n,), self.components.mean, generator)].sample(generator)
