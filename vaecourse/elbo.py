"""From regression to latent variables: the evidence log p(x), and what bounds it from below.

Regression with an error model gives each data point a probability. Where the inputs, or the weights, are not observed, they
are latent, and p(x) is a sum or an integral over them. Here it is always known: in closed form (`BayesianRegression`, and the
models of `exact_models`), by enumeration, or by quadrature (`LatentModel`). So is log p(x) = ELBO + KL(q || posterior).
Everything is in nats, one number per data point.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import inf, log, pi

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.distributions import MultivariateNormal

from vaecourse.distributions import Bernoulli, Categorical, Normal, expectation
from vaecourse.exact_models import DiscreteJoint
from vaecourse.importance import power_mean
from vaecourse.inputs import tensor
from vaecourse.randomness import uniform

# Regression


def polynomial(t: Float[Tensor, " n"], degree: int) -> Float[Tensor, "n features"]:
    """1, t, ..., t^degree. Raises ValueError for a negative degree."""
    if degree < 0:
        raise ValueError(f"a polynomial's degree is 0 or more, got {degree}")
    return t[:, None] ** torch.arange(degree + 1, device=t.device)


DEPENDENT = (
    "the features hardly differ in what they say, so that their weights are lost to rounding. Center and scale the inputs "
    "first, as by (t - t.mean()) / t.std(), and leave out what repeats"
)


def _regression(features: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Features and values in double precision, which powers of a year need."""
    features, x = tensor(features, "features").double(), tensor(x, "values").double()
    if features.ndim != 2 or x.shape != features.shape[:1] or not len(x):
        raise ValueError(
            f"regression needs features (n, d) and as many values, (n,), at least one; got {tuple(features.shape)} and "
            f"{tuple(x.shape)}"
        )
    if not (features.isfinite().all() and x.isfinite().all()):
        raise ValueError("features and values must be finite: leave out the rows with NaN or infinite entries")
    return features, x


def interval(p: Normal, *, level: float = 0.95) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """mu -+ sqrt(2) erf^-1(level) sigma: the central interval that holds the value with probability `level` (eq-elbo-interval).

    Of each of n one-dimensional predictions, its ends. Raises ValueError for a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies strictly between 0 and 1, got {level}")
    reach = 2**0.5 * torch.erfinv(torch.full_like(p.mu, level)) * p.log_sigma.exp()
    return (p.mu - reach)[:, 0], (p.mu + reach)[:, 0]


@dataclass(frozen=True)
class Regression:
    """x | features ~ N(features . weights, sigma^2): a line, or any sum of features, with an error model."""

    weights: Float[Tensor, " d"]
    sigma: float

    @classmethod
    def fit(cls, features: Float[Tensor, "n d"], x: Float[Tensor, " n"]) -> "Regression":
        """The w that minimizes sum (x - features . w)^2, and sigma^2 the mean squared residual (eq-elbo-least-squares).

        They maximize the likelihood. In double precision. Raises ValueError where shapes do not match, values are not finite,
        features depend on one another, or the fit leaves no residual: the likelihood then grows without bound as sigma goes
        to 0.
        """
        features, x = _regression(features, x)
        scale = torch.ones_like(features[0])
        if torch.linalg.matrix_rank(features) < features.shape[1]:  # powers of a year do, unless each is in its own unit
            scale = features.square().mean(0).sqrt().clamp_min(torch.finfo(features.dtype).tiny)
            if torch.linalg.matrix_rank(features / scale) < features.shape[1]:
                raise ValueError(DEPENDENT)
        weights = torch.linalg.lstsq(features / scale, x[:, None]).solution[:, 0] / scale
        variance = ((x - features @ weights) ** 2).mean().item()
        if len(x) <= features.shape[1] or variance <= (len(x) * torch.finfo(x.dtype).eps * x.abs().max().item()) ** 2:
            raise ValueError(
                f"{features.shape[1]} weights fit {len(x)} values without error, and the likelihood has no maximum: take more "
                "data, fewer features, or a prior (BayesianRegression)"
            )
        return cls(weights, variance**0.5)

    def predict(self, features: Float[Tensor, "n d"]) -> Normal:
        """The distribution of each value, a Normal over (n, 1)."""
        mean = (features.to(self.weights) @ self.weights)[:, None]
        return Normal(mean, torch.full_like(mean, log(self.sigma)))

    def log_prob(self, features: Float[Tensor, "n d"], x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """log N(x; features . w, sigma^2) of each data point, nats. The data's is their sum (eq-elbo-log-likelihood)."""
        return self.predict(features).log_prob(x[:, None])


class BayesianRegression:
    """Regression whose weights are latent, w ~ N(0, prior_sigma^2 I), with known error sigma: all of it in closed form.

    In double precision. Raises ValueError where shapes do not match, values are not finite, a sigma is not positive, or
    features depend on one another so much that the posterior is lost to rounding.
    """

    def __init__(self, features: Float[Tensor, "n d"], x: Float[Tensor, " n"], *, sigma: float, prior_sigma: float = 1.0):
        features, x = _regression(features, x)
        if sigma <= 0 or prior_sigma <= 0:
            raise ValueError(f"sigma and prior_sigma must be positive, got {sigma} and {prior_sigma}")
        self.features, self.x, self.sigma, self.prior_sigma = features, x, sigma, prior_sigma
        scale = self.precision.diagonal().rsqrt()
        if not torch.linalg.eigvalsh(scale[:, None] * self.precision * scale)[0] > len(scale) * torch.finfo(x.dtype).eps:
            raise ValueError(DEPENDENT)

    @cached_property
    def precision(self) -> Float[Tensor, "d d"]:
        """The posterior's inverse covariance, I / prior_sigma^2 + features' features / sigma^2."""
        gram = self.features.T @ self.features
        return torch.eye(len(gram)).to(gram) / self.prior_sigma**2 + gram / self.sigma**2

    @cached_property
    def posterior(self) -> MultivariateNormal:
        """p(w | x) = N(precision^-1 features' x / sigma^2, precision^-1) (eq-elbo-weights-posterior).

        Bishop (2006), equations 3.53 and 3.54.
        """
        mean = torch.linalg.solve(self.precision, self.features.T @ self.x / self.sigma**2)
        return MultivariateNormal(mean, precision_matrix=self.precision)

    @property
    def best_diagonal(self) -> Normal:
        """The diagonal Gaussian nearest to the posterior in KL(q || p): its mean, variances 1 / diag(precision)."""
        return Normal(self.posterior.mean, -0.5 * self.precision.diagonal().log())

    @property
    def evidence(self) -> Float[Tensor, ""]:
        """log p(x) in nats, all values together, with the weights integrated out (eq-elbo-weights-evidence).

        -1/2 of n log(2 pi sigma^2) + |x - features m|^2 / sigma^2 + |m|^2 / prior_sigma^2 + log |prior_sigma^2 precision|, m
        the posterior's mean. Bishop (2006), equation 3.86. It compares models: more weights fit better, and spread p over more
        data sets.
        """
        n, d = self.features.shape
        mean = self.posterior.mean
        errors = ((self.x - self.features @ mean) ** 2).sum() / self.sigma**2 + (mean**2).sum() / self.prior_sigma**2
        log_det = torch.logdet(self.precision) + 2 * d * log(self.prior_sigma)
        return -0.5 * (n * log(2 * pi * self.sigma**2) + errors + log_det)

    def elbo(self, q: Normal | MultivariateNormal) -> Float[Tensor, ""]:
        """E_q log p(x | w) - KL(q(w) || p(w)) in nats for a Gaussian q over (d,), in closed form (eq-elbo-parts)."""
        n, d = self.features.shape
        covariance = torch.diag((2 * q.log_sigma).exp()) if isinstance(q, Normal) else q.covariance_matrix
        mean, covariance = q.mean.to(self.features), covariance.to(self.features)
        errors = ((self.x - self.features @ mean) ** 2).sum() + ((self.features @ covariance) * self.features).sum()
        expected = -0.5 * (n * log(2 * pi * self.sigma**2) + errors / self.sigma**2)
        ratio = (covariance.trace() + (mean**2).sum()) / self.prior_sigma**2
        return expected - 0.5 * (ratio - d - torch.logdet(covariance) + 2 * d * log(self.prior_sigma))

    def predict(self, features: Float[Tensor, "n d"]) -> Normal:
        """N(features m, sigma^2 + features' precision^-1 features), a Normal over (n, 1) (eq-elbo-weights-predictive).

        Of new values, the weights integrated out; m is their posterior's mean.
        """
        features = features.to(self.features)
        spread = (torch.linalg.solve(self.precision, features.T).T * features).sum(1, keepdim=True)
        return Normal((features @ self.posterior.mean)[:, None], 0.5 * (self.sigma**2 + spread).log())


# The bound and the gap, where z takes finitely many values or a grid stands for its line.
# `log_measure`: the logarithm of what each value counts for, 0 in a sum, log(spacing) in an integral.


def _expect(log_q: Tensor, values: Tensor, log_measure: Tensor | float) -> Tensor:
    """E_q[values], where q = 0 excludes a value even if it is infinite."""
    return expectation((log_q + log_measure).exp(), values)


def log_evidence(log_joint: Float[Tensor, "*batch values"], log_measure: Float[Tensor, " values"] | float = 0.0) -> Tensor:
    """log p(x) = log of the sum or integral of p(x, z) over z, nats (eq-elbo-evidence). Shape (*batch,)."""
    return (log_joint + log_measure).logsumexp(-1)


def lower_bound(
    log_joint: Float[Tensor, "*batch values"],
    log_q: Float[Tensor, "*#batch values"],
    log_measure: Float[Tensor, " values"] | float = 0.0,
) -> Tensor:
    """The ELBO, E_q[log p(x, z) - log q(z)] (eq-elbo-jensen). Shape (*batch,).

    q may be zero where p is not. Where p is zero and q is not, it is -inf.
    """
    return _expect(log_q, log_joint - log_q, log_measure)


def kl(
    log_q: Float[Tensor, "*batch values"],
    log_p: Float[Tensor, "*#batch values"],
    log_measure: Float[Tensor, " values"] | float = 0.0,
) -> Tensor:
    """KL(q || p) = E_q[log q(z) - log p(z)] (eq-elbo-kl); inf where q is not zero and p is. Shape (*batch,)."""
    return _expect(log_q, log_q - log_p, log_measure)


@dataclass(frozen=True)
class LatentModel:
    """p(z) and p(x | z), with z one of finitely many values, or on a line that a fine grid stands for.

    `likelihood` holds p(x | z) for all values of z at once: a batch of distributions over x (dim). `line`: whether z is on a
    line, whose grid has to hold the posterior.
    """

    z: Float[Tensor, " values"]
    log_prior: Float[Tensor, " values"]
    log_measure: Float[Tensor, " values"]
    likelihood: Bernoulli | Normal
    line: bool = False

    @classmethod
    def discrete(cls, prior: Float[Tensor, " values"], likelihood: Bernoulli | Normal) -> "LatentModel":
        """z = 0, 1, ... with these probabilities. Raises ValueError unless they are probabilities, one a distribution of x."""
        if prior.ndim != 1 or (prior < 0).any() or abs(prior.sum().item() - 1) > 1e-6:
            raise ValueError(f"the prior must be probabilities that sum to 1, (values,); got {prior}")
        if len(likelihood.mean) != len(prior):
            raise ValueError(f"{len(prior)} values of z need as many distributions of x, got {len(likelihood.mean)}")
        return cls(torch.arange(len(prior)).to(prior), prior.log(), torch.zeros_like(prior), likelihood)

    @classmethod
    def on_line(
        cls,
        decode: Callable[[Float[Tensor, "values 1"]], Bernoulli | Normal],
        *,
        reach: float = 16.0,
        points: int = 8001,
    ) -> "LatentModel":
        """z ~ N(0, 1), in double precision, by the trapezoidal rule on [-reach, reach].

        For smooth densities that fade before the ends its error falls faster than any power of the spacing. A q must be wider
        than the spacing, 2 reach / (points - 1).
        """
        z = torch.linspace(-reach, reach, points, dtype=torch.float64)
        log_spacing = torch.full_like(z, log(2 * reach / (points - 1)))
        column = z[:, None]
        return cls(z, Normal.standard(column).log_prob(column), log_spacing, decode(column), line=True)

    def log_joint(
        self, x: Float[Tensor, "batch dim"], observed: Int[Tensor, " some"] | slice = slice(None)
    ) -> Float[Tensor, "batch values"]:
        """log p(z) + log p(x | z) for each value of z; of the coordinates `observed` alone, where the others are not seen."""
        return self.log_prior + self.likelihood[:, observed].log_prob(x[:, None, observed])

    def evidence(
        self, x: Float[Tensor, "batch dim"], observed: Int[Tensor, " some"] | slice = slice(None)
    ) -> Float[Tensor, " batch"]:
        """log p(x) = log of the sum or integral of p(x, z) over z, in nats (eq-elbo-evidence).

        Raises ValueError where a grid cannot hold the posterior: too narrow for its spacing, or reaching beyond its ends.
        """
        log_joint = self.log_joint(x, observed)
        evidence = log_evidence(log_joint, self.log_measure)
        if self.line:
            self._check_grid((log_joint + self.log_measure - evidence[:, None]).exp(), evidence)
        return evidence

    def _check_grid(self, shares: Float[Tensor, "batch values"], evidence: Float[Tensor, " batch"]) -> None:
        """A Gaussian has at most .4 of its mass on one point where sums err by 10^-8, and no end of the grid has any."""
        bad = (evidence > -inf) & ((shares.amax(-1) > 0.4) | (shares[:, [0, -1]] > 1e-9).any(-1))
        if bad.any():
            row = int(bad.nonzero()[0])
            where = self.z[shares[row].argmax()].item()
            raise ValueError(
                f"the grid of z does not hold the posterior of x number {row}, near z = {where:.4g}: it is narrower than the "
                f"spacing, {self.log_measure[0].exp():.3g}, or goes beyond {self.z[-1]:.3g}. More points, or a longer reach"
            )

    def posterior(
        self, x: Float[Tensor, "batch dim"], observed: Int[Tensor, " some"] | slice = slice(None)
    ) -> Float[Tensor, "batch values"]:
        """log p(z | x) = log p(x, z) - log p(x) in nats, a density where z is on a line (eq-elbo-bayes)."""
        return self.log_joint(x, observed) - self.evidence(x, observed)[:, None]

    def log_q(self, q: Categorical | Normal) -> Float[Tensor, "*batch values"]:
        """log q at each value of z: of a Categorical over them, or of a Normal over (*batch, 1).

        Raises ValueError where the grid cannot hold q: too narrow for its spacing, or reaching beyond its ends.
        """
        if isinstance(q, Categorical):
            return q.logits.log_softmax(-1)
        log_q = q[..., None, :].log_prob(self.z[:, None])
        mass = (log_q + self.log_measure).logsumexp(-1).exp()
        if not torch.allclose(mass, torch.ones_like(mass), rtol=0, atol=1e-12):
            raise ValueError(
                f"on this grid q integrates to {mass.min():.12g} to {mass.max():.12g} instead of 1: it is narrower than the "
                f"spacing, {self.log_measure[0].exp():.3g}, or goes beyond {self.z[-1]:.3g}. More points, or a longer reach"
            )
        return log_q

    def elbo(self, x: Float[Tensor, "batch dim"], log_q: Float[Tensor, "*#batch values"]) -> Float[Tensor, " batch"]:
        """E_q[log p(x, z) - log q(z)] in nats (eq-elbo-jensen)."""
        return lower_bound(self.log_joint(x), log_q, self.log_measure)

    def gap(self, x: Float[Tensor, "batch dim"], log_q: Float[Tensor, "*#batch values"]) -> Float[Tensor, " batch"]:
        """KL(q || p(z | x)) = log p(x) - ELBO, in nats (eq-elbo-gap)."""
        return kl(log_q.expand(len(x), -1), self.posterior(x), self.log_measure)

    def sample(self, n: int, generator: Generator | None = None) -> tuple[Int[Tensor, " n"], Float[Tensor, "n dim"]]:
        """Draw z, then x given z: the numbers of the values of z, and the x."""
        reached = (self.log_prior + self.log_measure).softmax(0).cumsum(0)
        k = torch.searchsorted(reached, uniform((n,), reached, generator)).clamp(max=len(reached) - 1)
        return k, self.likelihood[k].sample(generator)


# The chapter's models


def cats() -> DiscreteJoint:
    """Is it a cat? z = 1 with probability 1/3; the pictures: one that only cats give, one that none does, one like a cat.

    A table (2, 3) of p(z, x) in double precision. p(z = 1 | x) = p(1, x) / p(x) is 1, 0 and 1/10 (eq-elbo-bayes).
    """
    given_no_cat, given_cat = [0.0, 0.55, 0.45], [0.9, 0.0, 0.1]
    prior = torch.tensor([[2 / 3], [1 / 3]], dtype=torch.float64)
    return DiscreteJoint(prior * torch.tensor([given_no_cat, given_cat], dtype=torch.float64))


def digits(x: Float[Tensor, "n pixels"], labels: Int[Tensor, " n"], *, classes: int = 10) -> LatentModel:
    """First choose which digit, then draw its pixels: z uniform on the classes' frequencies, pixels independent given z.

    Each pixel's probability is (its sum over the digit's images + 1) / (their number + 2), the mean with one image more of all
    zeros and one of all ones (eq-elbo-halves). Pixels are in [0, 1]. Raises ValueError where they are not, or labels do not
    match them.
    """
    if x.ndim != 2 or labels.shape != x.shape[:1] or not len(x) or not ((x >= 0) & (x <= 1)).all():
        raise ValueError(f"needs images (n, pixels) in [0, 1] and labels (n,); got {tuple(x.shape)} and {tuple(labels.shape)}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must lie between 0 and {classes - 1}, got {labels.min()} to {labels.max()}")
    member = torch.nn.functional.one_hot(labels, classes).double()
    counts = member.sum(0)
    probabilities = (member.T @ x.double() + 1) / (counts[:, None] + 2)
    return LatentModel.discrete(counts / counts.sum(), Bernoulli(probabilities.logit()))


def parabola(sigma: float = 0.5) -> LatentModel:
    """z ~ N(0, 1), x | z ~ N((z, z^2), sigma^2 I): a bent line in the plane, with a posterior of up to two modes.

    Raises ValueError unless sigma is positive.
    """
    if sigma <= 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    return LatentModel.on_line(lambda z: Normal(torch.cat([z, z**2], 1), z.new_full((len(z), 2), log(sigma))))


# Estimates by draws, from weights by `importance`


def elbo_estimate(log_w: Float[Tensor, "draws *batch"]) -> Float[Tensor, "*batch"]:
    """The mean of log w over the draws, nats: unbiased for the ELBO (eq-elbo-estimate). The log of the mean is `log_mean`.

    Raises ValueError where there is no draw.
    """
    return power_mean(log_w, 0.0)
