"""A Bayesian mixture of Gaussians by coordinate ascent (Bishop, 2006, section 10.2).

pi ~ Dirichlet(alpha_0), a prior for each component, z_n ~ pi, x_n | z_n = k ~ N(mu_k, Lambda_k^-1); q(z) q(pi, mu, Lambda).
q(z) is never kept: of it, the other factor and the ELBO need the sums of the features over each component's share of the data,
and its entropy. Both come out of one pass over the data, block by block, so memory beyond the data's own does not grow with n.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import index as as_int

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from vaecourse.cavi.components import Components, NormalWishart
from vaecourse.inputs import tensor
from vaecourse.randomness import indices, uniform

BLOCK = 2**19  # numbers held at once in a pass over the data: what fits a processor's cache
BLOCK_ON_GPU = 2**26


@dataclass(frozen=True)
class MixturePosterior:
    """q(pi, mu, Lambda), and of q(z) what is kept: the sums of the features, and the entropy in nats.

    Components have no order: any permutation of them is as good.
    """

    alpha: Float[Tensor, " k"]
    components: Components
    center: Float[Tensor, " dim"]
    statistics: Float[Tensor, "k features"]
    entropy: Float[Tensor, ""]

    @property
    def weights(self) -> Float[Tensor, " k"]:
        """E[pi]."""
        return self.alpha / self.alpha.sum()

    @property
    def counts(self) -> Float[Tensor, " k"]:
        """N_k, how many points each component has; 0 is fine: its q is the prior."""
        return self.statistics[:, 0]

    @cached_property
    def theta(self) -> Float[Tensor, "k features"]:
        """E[log pi_k + log N(x; mu_k, Lambda_k^-1)] = theta_k . t(x - center), in nats."""
        theta = self.components.theta(self.center)
        theta[:, 0] += torch.digamma(self.alpha) - torch.digamma(self.alpha.sum())
        return theta

    def responsibilities(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, "n k"]:
        """q(z = k) for any points, proportional to exp(theta_k . t(x)) (eq-cavi-mixture-responsibilities).

        Bishop (2006), equations 10.46 and 10.49.
        """
        x = (x.double() - self.center).T
        features = x.new_empty(self.theta.shape[1], x.shape[1])
        self.components.features(x, features)
        return (self.theta @ features).softmax(0).T

    def log_predictive(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """log p(x_new | data) under q, in nats: sum of E[pi_k] times component k's Student t (eq-cavi-predictive).

        Bishop (2006), equation 10.81.
        """
        return (self.weights.log() + self.components.log_predictive(x.double())).logsumexp(-1)


class GaussianMixture:
    """k Gaussians for data x (n, dim), computed in double precision.

    `prior` is one component's, with a first axis of 1: a NormalWishart (full covariances; the default is
    `NormalWishart.default(x)`) or a NormalGamma (diagonal). `alpha_0` is the Dirichlet's parameter, by default 1 / k: small
    values empty the components that the data do not need. There may be more components than points. Raises ValueError for
    data that are empty, not finite or not rows, for k < 1, alpha_0 <= 0, or a prior of another dimension.
    """

    def __init__(self, x: Float[Tensor, "n dim"], k: int, prior: Components | None = None, *, alpha_0: float | None = None):
        x = tensor(x).detach()
        if x.ndim != 2 or not x.numel():
            raise ValueError(f"the data must be rows, (n, dim), and not empty; got {tuple(x.shape)}. One dimension: x[:, None]")
        if not x.isfinite().all():
            raise ValueError(
                f"the data have NaN or infinite values in {int((~x.isfinite()).any(1).sum())} rows: leave those out"
            )
        self.k, self.alpha_0 = as_int(k), 1 / k if alpha_0 is None and k > 0 else alpha_0
        if self.k < 1 or self.alpha_0 <= 0:
            raise ValueError(f"a mixture needs k >= 1 components and alpha_0 > 0, got k = {k} and alpha_0 = {alpha_0}")
        self.prior = NormalWishart.default(x) if prior is None else prior
        if self.prior.m.shape != (1, x.shape[1]):
            raise ValueError(
                f"the prior is one component's in the data's {x.shape[1]} dimensions, m of shape (1, {x.shape[1]}); got "
                f"{tuple(self.prior.m.shape)}"
            )
        self.prior.check()
        x = x.double()
        self.center = x.mean(0)
        self._columns = (x - self.center).T.contiguous()
        self.features = self.prior.count(x.shape[1])

    @property
    def n(self) -> int:
        """The number of data points."""
        return self._columns.shape[1]

    def _blocks(self, columns: Float[Tensor, "dim n"]) -> Iterator[Float[Tensor, "features block"]]:
        """The features of the points, a block at a time, in memory that is used again."""
        size = max(1, (BLOCK_ON_GPU if columns.is_cuda else BLOCK) // (self.features + self.k))
        buffer = columns.new_empty(self.features * min(size, columns.shape[1]))
        for block in columns.split(size, 1):
            features = buffer[: self.features * block.shape[1]].view(self.features, -1)
            self.prior.features(block, features)
            yield features

    # Starts

    def posterior(self, statistics: Float[Tensor, "k features"], entropy: Float[Tensor, ""]) -> MixturePosterior:
        """The best q(pi, mu, Lambda) for a q(z) with these sums of features and this entropy (eq-cavi-mixture-update).

        alpha_k = alpha_0 + N_k, and each component's posterior given its own sums.
        """
        alpha = self.alpha_0 + statistics[:, 0]
        return MixturePosterior(alpha, self.prior.updated(statistics, self.center), self.center, statistics, entropy)

    def start_from(self, responsibilities: Float[Tensor, "n k"]) -> MixturePosterior:
        """Start from a q(z): rows of nonnegative numbers that sum to 1. Raises ValueError for others."""
        r = responsibilities.to(self._columns)
        if r.shape != (self.n, self.k) or not (r >= 0).all() or not torch.allclose(r.sum(1), torch.ones_like(r[:, 0])):
            raise ValueError(
                f"responsibilities are ({self.n}, {self.k}), nonnegative, and each row sums to 1; got shape {tuple(r.shape)}"
            )
        statistics, at = r.new_zeros(self.k, self.features), 0
        for features in self._blocks(self._columns):
            statistics += (features @ r[at : at + features.shape[1]]).T
            at += features.shape[1]
        return self.posterior(statistics, torch.special.entr(r).sum())

    def start_at(self, centers: Float[Tensor, "k dim"]) -> MixturePosterior:
        """Start with each point in the component whose center is nearest. Raises ValueError unless centers are (k, dim)."""
        if centers.shape != (self.k, len(self.center)) or not centers.isfinite().all():
            raise ValueError(f"centers are finite and of shape ({self.k}, {len(self.center)}); got {tuple(centers.shape)}")
        centers = centers.to(self._columns) - self.center
        nearest = (0.5 * (centers**2).sum(1, keepdim=True) - centers @ self._columns).argmin(0)
        return self.start_from(torch.nn.functional.one_hot(nearest, self.k).to(self._columns))

    def start(self, generator: Generator | None = None) -> MixturePosterior:
        """Start at k points of the data that lie apart (`spread_points`)."""
        return self.start_at(spread_points(self._columns.T, self.k, generator) + self.center)

    # The ascent

    def assign(self, q: MixturePosterior, points: Int[Tensor, " batch"] | None = None) -> MixturePosterior:
        """q(z_n = k) proportional to exp(theta_k . t(x_n)), given q(pi, mu, Lambda) (eq-cavi-mixture-responsibilities).

        `points`: of these data points alone; all without it.
        """
        columns = self._columns if points is None else self._columns[:, points]
        statistics, entropy = torch.zeros_like(q.statistics), torch.zeros_like(q.entropy)
        for features in self._blocks(columns):
            logits = q.theta @ features
            log_norm = logits.logsumexp(0)
            r = (logits - log_norm).exp_()
            statistics += r @ features.T
            entropy += log_norm.sum() - r.flatten() @ logits.flatten()
        return MixturePosterior(q.alpha, q.components, q.center, statistics, entropy)

    def update_parameters(self, q: MixturePosterior) -> MixturePosterior:
        """q(pi, mu, Lambda) given q(z): alpha_k = alpha_0 + N_k, and the rest (eq-cavi-mixture-update).

        Bishop (2006), equations 10.57 to 10.63.
        """
        return self.posterior(q.statistics, q.entropy)

    def updates(self) -> tuple[Callable[[MixturePosterior], MixturePosterior], ...]:
        """q(z), then q(pi, mu, Lambda)."""
        return self.assign, self.update_parameters

    def elbo(self, q: MixturePosterior) -> Float[Tensor, ""]:
        """E[log p(x, z | pi, mu, Lambda)] + entropy of q(z) - KL(q(pi, mu, Lambda) || p), in nats (eq-cavi-mixture-elbo).

        From the sums alone: it costs nothing beside a sweep. Bishop (2006), equations 10.70 to 10.77, gathered.
        """
        expected = (q.statistics * q.theta).sum()
        return expected + q.entropy - self._kl_of_weights(q.alpha) - q.components.kl(self.prior).sum()

    def _kl_of_weights(self, alpha: Float[Tensor, " k"]) -> Float[Tensor, ""]:
        """KL(Dirichlet(alpha) || Dirichlet(alpha_0, ..., alpha_0)) in nats."""
        prior, total = torch.full_like(alpha, self.alpha_0), alpha.sum()
        gammas = torch.lgamma(total) - torch.lgamma(alpha).sum() - torch.lgamma(prior.sum()) + torch.lgamma(prior).sum()
        return gammas + ((alpha - prior) * (torch.digamma(alpha) - torch.digamma(total))).sum()


def random_points(x: Float[Tensor, "n dim"], k: int, generator: Generator | None = None) -> Float[Tensor, "k dim"]:
    """k points of the data, each drawn alike and with replacement: centers to start at."""
    return x[indices(len(x), (k,), x, generator, batch_axis=None)]


def spread_points(x: Float[Tensor, "n dim"], k: int, generator: Generator | None = None) -> Float[Tensor, "k dim"]:
    """k points of the data that lie apart: x_n is next with probability proportional to min_j |x_n - c_j|^2, c_j those before.

    Equation eq-cavi-spread-points; Arthur and Vassilvitskii (2007), "k-means++". Where there are fewer different points than k,
    the rest is drawn alike.
    """
    draws = uniform((k,), x, generator, batch_axis=None)
    chosen = [x[(draws[0] * len(x)).long()]]
    distance = torch.full_like(x[:, 0], torch.inf)
    for draw in draws[1:]:
        distance = torch.minimum(distance, ((x - chosen[-1]) ** 2).sum(1))
        reached = torch.where(distance.sum() > 0, distance, 1.0).cumsum(0)
        chosen.append(x[torch.searchsorted(reached, draw * reached[-1], right=True).clamp(max=len(x) - 1)])
    return torch.stack(chosen)
