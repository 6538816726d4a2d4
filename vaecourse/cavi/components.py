"""What a mixture's components are: Gaussians of unknown mean and precision, with full or diagonal covariance.

Both families are exponential: log N(x; mu, precision^-1) is linear in the features t(x) = (1, x, products of coordinates).
So the expected log density of all points under all components is one matrix product, theta t(x); what the data tell a
component is another, the responsibilities times t(x); and the posterior is the prior plus those sums. Each class holds the
parameters of k components at once. Features are taken about a `center`, for precision's sake: rounding errors grow with
(distance from the center / width of a component)^2.
"""

from dataclasses import dataclass
from functools import cached_property
from math import log, pi

import torch
from jaxtyping import Float, Int
from torch import Tensor, einsum

DEPENDENT = 1e-11  # the least eigenvalue of correlations that are none of rounding: float32 data leave one of about 1e-14


def _check(m: Tensor, beta: Tensor, nu: Tensor, least_nu: int) -> None:
    if not (beta > 0).all():
        raise ValueError(f"beta, the prior's weight in data points, must be positive, got {beta.min():.6g}")
    if not (nu > least_nu).all():
        dim = m.shape[-1]
        raise ValueError(f"nu, the degrees of freedom, must exceed {least_nu} in {dim} dimensions, got {nu.min():.6g}")
    if not m.isfinite().all():
        raise ValueError("the means m must be finite")


def _student(distance: Tensor, log_scales: Tensor, dof: Tensor, dim: int) -> Tensor:
    """log of a Student t density: `distance` the squared standardized one, `log_scales` the log-determinant's half."""
    normalizer = torch.lgamma((dof + dim) / 2) - torch.lgamma(dof / 2) - 0.5 * dim * (dof * pi).log() - log_scales
    return normalizer - 0.5 * (dof + dim) * torch.log1p(distance / dof)


@dataclass(frozen=True)
class NormalWishart:
    """Lambda ~ W(W, nu), mu | Lambda ~ N(m, (beta Lambda)^-1), for k components of full covariance (Bishop, 2006, 10.2).

    `W_inverse` is the inverse of W, which adds up: E[Lambda] = nu W.
    """

    m: Float[Tensor, "k dim"]
    beta: Float[Tensor, " k"]
    nu: Float[Tensor, " k"]
    W_inverse: Float[Tensor, "k dim dim"]

    def check(self) -> None:
        """Raise ValueError where nu <= dim - 1, beta <= 0, or W_inverse is not symmetric and positive definite."""
        _check(self.m, self.beta, self.nu, self.dim - 1)
        V = self.W_inverse
        scale = V.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
        like_correlations = V / (scale[..., :, None] * scale[..., None, :])  # NaN where a coordinate is constant
        if not torch.allclose(V, V.mT) or not (self._least(like_correlations) > DEPENDENT).all():
            raise ValueError(
                "W_inverse must be symmetric and positive definite, by more than rounding. If it is the data's covariance, a "
                "coordinate is constant or a combination of others: leave it out, or give a prior"
            )

    @staticmethod
    def _least(symmetric: Float[Tensor, "k dim dim"]) -> Float[Tensor, " k"]:
        """The least eigenvalue of each; NaN where a number is not finite."""
        finite = symmetric.isfinite().all((-2, -1))
        least = torch.linalg.eigvalsh(torch.where(finite[:, None, None], symmetric, 0.0))[:, 0]
        return least.masked_fill(~finite, torch.nan)

    @classmethod
    def default(cls, x: Float[Tensor, "n dim"]) -> "NormalWishart":
        """The prior that scikit-learn takes: the data's mean, one data point's weight, nu = dim, W_inverse their covariance."""
        if len(x) < 2:
            raise ValueError(f"a prior from the data's covariance needs 2 points or more, got {len(x)}")
        x, one = x.double(), x.new_ones(1, dtype=torch.float64)
        return cls(x.mean(0)[None], one, one * x.shape[1], torch.cov(x.T).reshape(1, x.shape[1], x.shape[1]))

    @property
    def dim(self) -> int:
        """The number of coordinates."""
        return self.m.shape[-1]

    @staticmethod
    def count(dim: int) -> int:
        """How many features a point has."""
        return 1 + dim + dim * (dim + 1) // 2

    @staticmethod
    def features(x: Float[Tensor, "dim n"], out: Float[Tensor, "features n"]) -> None:
        """Write t(x) = (1, x_i, x_i x_j for i <= j) into `out`. Points are columns, so that each product is one pass."""
        dim = len(x)
        out[0], out[1 : 1 + dim] = 1.0, x
        at = 1 + dim
        for i in range(dim):
            torch.mul(x[i:], x[i], out=out[at : at + dim - i])
            at += dim - i

    @property
    def _pairs(self) -> Int[Tensor, "2 products"]:
        """The i and j of each product x_i x_j among the features."""
        return torch.triu_indices(self.dim, self.dim, device=self.m.device)

    def updated(self, statistics: Float[Tensor, "k features"], center: Float[Tensor, " dim"]) -> "NormalWishart":
        """The posterior of k components, given their points' sums of features, N, sum x, sum x x' (eq-cavi-mixture-update).

        beta = beta_0 + N, nu = nu_0 + N, m = (beta_0 m_0 + sum x) / beta, and
        W^-1 = W_0^-1 + sum x x' + beta_0 m_0 m_0' - beta m m', all about the center. Bishop (2006), equations 10.60 to 10.63.
        """
        dim, (i, j) = self.dim, self._pairs
        N, first = statistics[:, 0], statistics[:, 1 : 1 + dim]
        second = statistics.new_empty(len(N), dim, dim)
        second[:, i, j] = second[:, j, i] = statistics[:, 1 + dim :]
        m_0, beta = self.m - center, self.beta + N
        m = (self.beta[:, None] * m_0 + first) / beta[:, None]
        shift = einsum("k,ki,kj->kij", self.beta, m_0, m_0) - einsum("k,ki,kj->kij", beta, m, m)
        return NormalWishart(m + center, beta, self.nu + N, self.W_inverse + second + shift)

    @cached_property
    def _factor(self) -> Float[Tensor, "k dim dim"]:
        """L with L L' = W_inverse; without a check, which would wait for the device."""
        return torch.linalg.cholesky_ex(self.W_inverse).L

    @property
    def _log_det_W(self) -> Float[Tensor, " k"]:
        return -2 * self._factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    @cached_property
    def W(self) -> Float[Tensor, "k dim dim"]:
        """The scale matrices."""
        return torch.cholesky_inverse(self._factor)

    @property
    def covariances(self) -> Float[Tensor, "k dim dim"]:
        """E[Lambda]^-1."""
        return self.W_inverse / self.nu[:, None, None]

    def _halves(self) -> Float[Tensor, "k dim"]:
        """(nu + 1 - i) / 2 for i = 1, ..., dim."""
        return 0.5 * (self.nu[:, None] - torch.arange(self.dim, device=self.nu.device))

    @cached_property
    def expected_log_det(self) -> Float[Tensor, " k"]:
        """E[log |Lambda|] = sum digamma((nu + 1 - i) / 2) + dim log 2 + log |W|. Bishop (2006), equation 10.65."""
        return torch.digamma(self._halves()).sum(-1) + self.dim * log(2) + self._log_det_W

    def theta(self, center: Float[Tensor, " dim"]) -> Float[Tensor, "k features"]:
        """E[log N(x; mu, Lambda^-1)] = theta . t(x - center), in nats (eq-cavi-mixture-responsibilities).

        Bishop (2006), equation 10.64: (x - mu)' Lambda (x - mu) is dim / beta + nu (x - m)' W (x - m) on average.
        """
        i, j = self._pairs
        m, precision = self.m - center, self.nu[:, None, None] * self.W
        linear = einsum("kij,kj->ki", precision, m)
        constant = 0.5 * (self.expected_log_det - self.dim * log(2 * pi) - self.dim / self.beta - (linear * m).sum(-1))
        quadratic = -precision[:, i, j] * torch.where(i == j, 0.5, 1.0)
        return torch.cat([constant[:, None], linear, quadratic], 1)

    def kl(self, other: "NormalWishart") -> Float[Tensor, " k"]:
        """KL(self || other) in nats, for each component: that of mu given Lambda, on average, and that of Lambda.

        1/2 (dim (beta_0 / beta - 1 - log(beta_0 / beta)) + beta_0 nu (m - m_0)' W (m - m_0)), and log Z_0 - log Z +
        1/2 ((nu - nu_0) E[log |Lambda|] + nu (tr(W_0^-1 W) - dim)), Z the Wishart's normalizer.
        """
        dim, nu_0 = self.dim, other.nu
        error = self.m - other.m
        distance = other.beta * self.nu * einsum("ki,kij,kj->k", error, self.W, error)
        of_mu = 0.5 * (dim * (other.beta / self.beta - 1 + (self.beta / other.beta).log()) + distance)
        trace = (other.W_inverse * self.W).sum((-2, -1))
        of_Lambda = other._log_normalizer - self._log_normalizer
        of_Lambda = of_Lambda + 0.5 * ((self.nu - nu_0) * self.expected_log_det + self.nu * (trace - dim))
        return of_mu + of_Lambda

    @property
    def _log_normalizer(self) -> Float[Tensor, " k"]:
        """log of the integral of |Lambda|^((nu - dim - 1) / 2) exp(-tr(W^-1 Lambda) / 2). Bishop (2006), equation B.79."""
        gammas = torch.lgamma(self._halves()).sum(-1) + 0.25 * self.dim * (self.dim - 1) * log(pi)
        return 0.5 * self.nu * (self._log_det_W + self.dim * log(2)) + gammas

    def log_predictive(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, "n k"]:
        """log of each component's density of a new point, in nats: a Student t about m (eq-cavi-predictive).

        Of nu + 1 - dim degrees of freedom and scale matrix W^-1 (1 + beta) / (beta (nu + 1 - dim)). Bishop (2006), equation
        10.81.
        """
        dof = self.nu + 1 - self.dim
        widening = (1 + self.beta) / (self.beta * dof)
        standardized = torch.linalg.solve_triangular(self._factor, (x - self.m[:, None]).mT, upper=False)
        distance = (standardized**2).sum(-2).T / widening
        return _student(distance, 0.5 * (self.dim * widening.log() - self._log_det_W), dof, self.dim)


@dataclass(frozen=True)
class NormalGamma:
    """tau_i ~ Gamma(nu / 2, rate s_i / 2), mu_i | tau_i ~ N(m_i, 1 / (beta tau_i)): k components of diagonal covariance.

    Each coordinate is a NormalWishart of one dimension with W_inverse = s.
    """

    m: Float[Tensor, "k dim"]
    beta: Float[Tensor, " k"]
    nu: Float[Tensor, " k"]
    s: Float[Tensor, "k dim"]

    def check(self) -> None:
        """Raise ValueError where nu, beta or s is not positive."""
        _check(self.m, self.beta, self.nu, 0)
        if not (self.s > 0).all():
            raise ValueError("s must be positive. If it is the data's variance, a coordinate is constant: leave it out")

    @classmethod
    def default(cls, x: Float[Tensor, "n dim"]) -> "NormalGamma":
        """The data's mean, one data point's weight, nu = 1, s their variances."""
        if len(x) < 2:
            raise ValueError(f"a prior from the data's variances needs 2 points or more, got {len(x)}")
        x, one = x.double(), x.new_ones(1, dtype=torch.float64)
        return cls(x.mean(0)[None], one, one, x.var(0)[None])

    @property
    def dim(self) -> int:
        """The number of coordinates."""
        return self.m.shape[-1]

    @staticmethod
    def count(dim: int) -> int:
        """How many features a point has."""
        return 1 + 2 * dim

    @staticmethod
    def features(x: Float[Tensor, "dim n"], out: Float[Tensor, "features n"]) -> None:
        """Write t(x) = (1, x_i, x_i^2) into `out`."""
        dim = len(x)
        out[0], out[1 : 1 + dim] = 1.0, x
        torch.mul(x, x, out=out[1 + dim :])

    def updated(self, statistics: Float[Tensor, "k features"], center: Float[Tensor, " dim"]) -> "NormalGamma":
        """The posterior of k components, given their points' sums of features, N, sum x, sum x^2 (eq-cavi-mixture-update).

        beta = beta_0 + N, nu = nu_0 + N, m = (beta_0 m_0 + sum x) / beta, s = s_0 + sum x^2 + beta_0 m_0^2 - beta m^2, all
        about the center.
        """
        N, first, second = statistics.split([1, self.dim, self.dim], 1)
        m_0, beta = self.m - center, self.beta[:, None] + N
        m = (self.beta[:, None] * m_0 + first) / beta
        s = self.s + second + self.beta[:, None] * m_0**2 - beta * m**2
        return NormalGamma(m + center, beta[:, 0], self.nu + N[:, 0], s)

    @property
    def covariances(self) -> Float[Tensor, "k dim"]:
        """1 / E[tau], the diagonals."""
        return self.s / self.nu[:, None]

    @property
    def _expected_log_tau(self) -> Float[Tensor, "k dim"]:
        return torch.digamma(0.5 * self.nu)[:, None] - (0.5 * self.s).log()

    def theta(self, center: Float[Tensor, " dim"]) -> Float[Tensor, "k features"]:
        """E[log N(x; mu, 1 / tau)] = theta . t(x - center), in nats (eq-cavi-mixture-responsibilities).

        tau (x - mu)^2 is 1 / beta + E[tau] (x - m)^2 on average, E[tau] = nu / s.
        """
        m, tau = self.m - center, self.nu[:, None] / self.s
        constant = 0.5 * (self._expected_log_tau - log(2 * pi) - 1 / self.beta[:, None] - tau * m**2).sum(-1)
        return torch.cat([constant[:, None], tau * m, -0.5 * tau], 1)

    def kl(self, other: "NormalGamma") -> Float[Tensor, " k"]:
        """KL(self || other) in nats, for each component: of each mu_i given tau_i, on average, and of each tau_i, added up.

        1/2 (r - 1 - log r + beta_0 E[tau] (m - m_0)^2), r = beta_0 / beta; and, with a = nu / 2,
        (a - a_0) digamma(a) - log Gamma(a) + log Gamma(a_0) + a_0 log(s / s_0) + a (s_0 / s - 1).
        """
        ratio, tau = (other.beta / self.beta)[:, None], self.nu[:, None] / self.s
        of_mu = 0.5 * (ratio - 1 - ratio.log() + other.beta[:, None] * tau * (self.m - other.m) ** 2)
        a, a_0 = 0.5 * self.nu[:, None], 0.5 * other.nu[:, None]
        of_tau = (a - a_0) * torch.digamma(a) - torch.lgamma(a) + torch.lgamma(a_0)
        of_tau = of_tau + a_0 * (self.s / other.s).log() + a * (other.s / self.s - 1)
        return (of_mu + of_tau).sum(-1)

    def log_predictive(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, "n k"]:
        """log of each component's density of a new point, in nats: a product of Student t about m (eq-cavi-predictive).

        Each of nu degrees of freedom and squared scale s (1 + beta) / (beta nu).
        """
        scale = self.s * ((1 + self.beta) / (self.beta * self.nu))[:, None]
        return _student((x[:, None] - self.m) ** 2 / scale, 0.5 * scale.log(), self.nu[:, None], 1).sum(-1)


Components = NormalWishart | NormalGamma
