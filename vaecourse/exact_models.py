"""Small models whose evidence, posterior and bounds are known exactly: what every method of the book is first tried on.

All logarithms are natural; evidences, bounds and divergences are in nats, one number per data point.
"""

from dataclasses import dataclass
from math import inf, log, pi

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import MultivariateNormal

from vaecourse.distributions import Categorical, Normal, expectation
from vaecourse.inputs import floats


def _check_variance(c: float) -> None:
    if not 0 < c < inf:
        raise ValueError(f"the variance c of x given z must be positive and finite, got {c}")


@dataclass(frozen=True)
class ConjugateGaussian:
    """z ~ N(0, I), x | z ~ N(z, c I): the smallest model with a latent. Its posterior is Gaussian and factorized."""

    c: float

    def __post_init__(self):
        _check_variance(self.c)

    def likelihood(self, z: Float[Tensor, "*batch dim"]) -> Normal:
        """p(x | z) = N(z, c I)."""
        return Normal(z, torch.full_like(z, 0.5 * log(self.c)))

    def evidence(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch"]:
        """log p(x) = log N(x; 0, (1 + c) I) in nats (eq-vae-evidence): variances add (eq-prerequisites-gaussian-sum)."""
        return Normal(torch.zeros_like(x), torch.full_like(x, 0.5 * log(1 + self.c))).log_prob(x)

    def posterior(self, x: Float[Tensor, "*batch dim"]) -> Normal:
        """p(z | x) = N(x / (1 + c), c / (1 + c) I): precisions add (eq-prerequisites-gaussian-product)."""
        return Normal(x / (1 + self.c), torch.full_like(x, 0.5 * log(self.c / (1 + self.c))))

    def elbo(self, x: Float[Tensor, "*batch dim"], q: Normal) -> Float[Tensor, "*batch"]:
        """E_q log p(x | z) - KL(q || p(z)) in nats, both terms in closed form.

        Below the evidence for every q (eq-vae-jensen), by KL(q || p(z | x)) (eq-vae-gap).
        """
        expected = self.likelihood(q.mu).log_prob(x) - 0.5 * (2 * q.log_sigma).exp().sum(-1) / self.c
        return expected - q.kl_to_standard()


@dataclass(frozen=True)
class ProbabilisticPCA:
    """z ~ N(0, I), x | z ~ N(W z + m, c I): a linear decoder (eq-pca-model; Tipping and Bishop, 1999).

    Shapes: W (pixels, latents), m (pixels,). A VAE with this decoder and a linear encoder of diagonal covariance has a gap
    that is known exactly. Raises ValueError unless c is positive and finite.
    """

    W: Float[Tensor, "pixels latents"]
    m: Float[Tensor, " pixels"]
    c: float

    def __post_init__(self):
        _check_variance(self.c)

    @classmethod
    def fit(cls, x: Float[Tensor, "n pixels"], latents: int) -> "ProbabilisticPCA":
        """The likeliest model of the data x: W = U (L - c I)^(1/2), c the mean of the eigenvalues left (eq-pca-likeliest).

        U and L are the covariance's first eigenvectors and eigenvalues. The evidence that it reaches is eq-pca-best-evidence.
        Raises ValueError unless 0 < latents < pixels, and where the data's first directions leave no variance for the noise:
        the likelihood then grows without bound as c goes to 0. Raises TypeError where data are no floats.
        """
        x = floats(x)
        if x.ndim != 2 or not 0 < latents < x.shape[1]:
            most = (
                f"{x.shape[1] - 1}, one less than the pixels"
                if x.ndim == 2
                else "one less than the pixels of rows, (n, pixels)"
            )
            raise ValueError(f"latents must lie between 1 and {most}; got {latents} for data {tuple(x.shape)}")
        m = x.mean(0)
        variances, directions = torch.linalg.eigh((x - m).T @ (x - m) / len(x))
        c = variances[:-latents].mean().item()
        rounding = (len(variances) * torch.finfo(x.dtype).eps * variances[-1]).item()
        if not c > rounding:
            spanned = int((variances > rounding).sum())
            raise ValueError(
                f"{latents} directions leave no variance for the noise: the data must be finite, and they span {spanned} "
                f"dimensions. Take at most {spanned - 1} latents, more data, or data less their constant and repeated columns"
            )
        W = directions[:, -latents:] * (variances[-latents:] - c).clamp_min(0).sqrt()
        return cls(W.flip(-1), m, c)

    @property
    def precision(self) -> Float[Tensor, "latents latents"]:
        """The posterior's inverse covariance, I + W'W / c, the same for every x."""
        return torch.eye(self.W.shape[1]).to(self.W) + self.W.T @ self.W / self.c

    def likelihood(self, z: Float[Tensor, "*batch latents"]) -> Normal:
        """p(x | z) = N(W z + m, c I)."""
        mean = z @ self.W.T + self.m
        return Normal(mean, torch.full_like(mean, 0.5 * log(self.c)))

    def evidence(self, x: Float[Tensor, "*batch pixels"]) -> Float[Tensor, "*batch"]:
        """log p(x) = log N(x; m, W W' + c I) in nats (eq-pca-evidence)."""
        covariance = self.W @ self.W.T + self.c * torch.eye(len(self.m)).to(self.W)
        return MultivariateNormal(self.m, covariance).log_prob(x)

    def posterior(self, x: Float[Tensor, "*batch pixels"]) -> MultivariateNormal:
        """p(z | x): mean precision^-1 W'(x - m) / c, covariance precision^-1 (eq-pca-posterior).

        Of the likeliest model, the mean decodes to PCA's reconstruction, each component shrunk (eq-pca-shrinkage).
        """
        mean = torch.linalg.solve(self.precision, self.W.T @ (x - self.m)[..., None] / self.c)[..., 0]
        return MultivariateNormal(mean, precision_matrix=self.precision)

    def best_diagonal(self, x: Float[Tensor, "*batch pixels"]) -> Normal:
        """The diagonal Gaussian nearest to p(z | x) in KL(q || p): the posterior's mean, variances 1 / diag(precision).

        Its ELBO lacks half of sum log diag(precision) - log det(precision) to the evidence, whatever x (eq-vae-linear-gap).
        """
        mean = self.posterior(x).mean
        return Normal(mean, (-0.5 * self.precision.diagonal().log()).expand_as(mean))

    def elbo(self, x: Float[Tensor, "*batch pixels"], q: Normal) -> Float[Tensor, "*batch"]:
        """E_q log p(x | z) - KL(q || p(z)) in nats, both terms in closed form."""
        spread = ((2 * q.log_sigma).exp() * (self.W**2).sum(0)).sum(-1)
        return self.likelihood(q.mu).log_prob(x) - 0.5 * spread / self.c - q.kl_to_standard()


@dataclass(frozen=True)
class TiltedGaussian:
    """A posterior in two dimensions: zero means, unit variances, correlation rho. Mean field cannot tilt."""

    rho: float

    def __post_init__(self):
        if not -1 < self.rho < 1:
            raise ValueError(f"the correlation rho must lie strictly between -1 and 1, got {self.rho}")

    @property
    def precision(self) -> Float[Tensor, "2 2"]:
        """The inverse covariance."""
        return torch.tensor([[1.0, -self.rho], [-self.rho, 1.0]], dtype=torch.float64) / (1 - self.rho**2)

    def log_prob(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        """log N(z; 0, [[1, rho], [rho, 1]]) in nats.

        Given the other, a coordinate is N(rho z, 1 - rho^2) (eq-prerequisites-gaussian-conditioning).
        """
        quadratic = (z @ self.precision.to(z) * z).sum(-1)
        return -0.5 * quadratic - log(2 * pi) - 0.5 * log(1 - self.rho**2)

    def kl_from(self, q: Normal) -> Float[Tensor, "*batch"]:
        """KL(q || p) = -entropy(q) - E_q log p, in nats; least at mean 0 and variances 1 - rho^2."""
        expected = self.log_prob(q.mu) - 0.5 * (2 * q.log_sigma).exp().sum(-1) / (1 - self.rho**2)
        return -q.entropy() - expected


@dataclass(frozen=True)
class BimodalMixture:
    """A posterior in two dimensions with two round modes, at (-separation, 0) and (separation, 0), each of the given sigma.

    Divergences are integrals over a grid of the plane.
    """

    separation: float = 2.0
    sigma: float = 0.7
    weight: float = 0.5

    def __post_init__(self):
        if self.sigma <= 0 or not 0 < self.weight < 1:
            raise ValueError(f"sigma must be positive and weight in (0, 1), got {self.sigma} and {self.weight}")

    def log_prob(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        """log (weight N(z; left, sigma^2 I) + (1 - weight) N(z; right, sigma^2 I)) in nats."""
        center = z.new_tensor([self.separation, 0.0])
        spread = torch.full_like(z, log(self.sigma))
        left = log(self.weight) + Normal(-center.expand_as(z), spread).log_prob(z)
        right = log(1 - self.weight) + Normal(center.expand_as(z), spread).log_prob(z)
        return torch.logaddexp(left, right)

    def grid(self, *, reach: float = 10.0, step: float = 0.02) -> tuple[Float[Tensor, "points 2"], float]:
        """Points of a square of half-width `reach` and the area that each stands for."""
        axis = torch.arange(-reach, reach, step, dtype=torch.float64)
        return torch.cartesian_prod(axis, axis), step**2

    def _grid_for(self, q: Normal) -> tuple[Float[Tensor, "points 2"], float]:
        z, area = self.grid()
        return z.to(q.mu.device), area

    def kl_from(self, q: Normal) -> float:
        """KL(q || p) = E_q[log q - log p] in nats for one q: what variational inference minimizes; it seeks a mode."""
        z, area = self._grid_for(q)
        log_q = q.log_prob(z)
        return (log_q.exp() * (log_q - self.log_prob(z))).sum().item() * area

    def kl_to(self, q: Normal) -> float:
        """KL(p || q) = E_p[log p - log q] in nats for one q over the plane: it covers the mass."""
        z, area = self._grid_for(q)
        log_p = self.log_prob(z)
        return (log_p.exp() * (log_p - q.log_prob(z))).sum().item() * area


@dataclass(frozen=True)
class DiscreteJoint:
    """A joint table p(z, x) over a few latent and observed values: every expectation is a sum.

    Shape: table (latents, observations), nonnegative, sums to one.
    """

    table: Float[Tensor, "latents observations"]

    def __post_init__(self):
        if (self.table < 0).any() or not torch.isclose(self.table.sum(), self.table.new_tensor(1.0)):
            raise ValueError(f"a joint table is nonnegative and sums to 1; this one sums to {self.table.sum():.6g}")

    def evidence(self, x: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """log p(x) = log of the sum of p(z, x) over z, in nats (eq-vae-evidence)."""
        return self.table.sum(0)[x].log()

    def posterior(self, x: Int[Tensor, " batch"]) -> Categorical:
        """p(z | x) = p(z, x) / p(x), by Bayes' rule (eq-prerequisites-bayes). Raises ValueError for an x with p(x) = 0."""
        if not (self.table.sum(0)[x] > 0).all():
            raise ValueError(f"there is no posterior where p(x) = 0, and of the x asked for some are impossible: {x.tolist()}")
        return Categorical(self.table[:, x].T.log())

    def elbo(self, x: Int[Tensor, " batch"], q: Categorical) -> Float[Tensor, " batch"]:
        """E_q[log p(x, z) - log q(z)] in nats: below the evidence (eq-vae-jensen) by KL(q || p(z | x)) (eq-vae-gap)."""
        return expectation(q.probabilities, self.table[:, x].T.log()) + q.entropy()
