"""A Gaussian of unknown mean and precision: the smallest Bayesian model that mean field solves and that is known exactly.

tau ~ Gamma(a_0, b_0), mu | tau ~ N(mu_0, 1 / (lambda_0 tau)), x_n | mu, tau ~ N(mu, 1 / tau). The exact posterior is of the
same form, so mu and tau depend on each other; mean field has q(mu) q(tau). Gamma(a, b) has the rate b.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor

from vaecourse.inputs import tensor


def _log_normal(x: Tensor, mean: Tensor, precision: Tensor) -> Tensor:
    return 0.5 * (precision.log() - log(2 * pi) - precision * (x - mean) ** 2)


def _log_gamma(tau: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return a * b.log() - torch.lgamma(a) + (a - 1) * tau.log() - b * tau


@dataclass(frozen=True)
class FactorizedMeanPrecision:
    """q(mu) q(tau) = N(mu; m, 1 / l) Gamma(tau; a, b)."""

    m: Float[Tensor, ""]
    l: Float[Tensor, ""]  # noqa: E741
    a: Float[Tensor, ""]
    b: Float[Tensor, ""]

    def log_prob(self, mu: Float[Tensor, "*points"], tau: Float[Tensor, "*points"]) -> Float[Tensor, "*points"]:
        """log q(mu, tau) in nats."""
        return _log_normal(mu, self.m, self.l) + _log_gamma(tau, self.a, self.b)

    @property
    def entropy(self) -> Float[Tensor, ""]:
        """-E[log q] in nats."""
        of_mu = 0.5 * (1 + log(2 * pi) - self.l.log())
        return of_mu + self.a - self.b.log() + torch.lgamma(self.a) + (1 - self.a) * torch.digamma(self.a)


@dataclass(frozen=True)
class ExactMeanPrecision:
    """p(mu, tau | x) = N(mu; m, 1 / (lambda tau)) Gamma(tau; a, b), with `precision_scale` for lambda."""

    m: Float[Tensor, ""]
    precision_scale: Float[Tensor, ""]
    a: Float[Tensor, ""]
    b: Float[Tensor, ""]

    def log_prob(self, mu: Float[Tensor, "*points"], tau: Float[Tensor, "*points"]) -> Float[Tensor, "*points"]:
        """log p(mu, tau | x) in nats."""
        return _log_normal(mu, self.m, self.precision_scale * tau) + _log_gamma(tau, self.a, self.b)


class MeanAndPrecision:
    """Data x (n,) from a Gaussian of unknown mean and precision, under the conjugate prior.

    Raises ValueError for data that are empty, not finite or not of one axis, and for a prior with lambda_0, a_0 or b_0 not
    positive.
    """

    def __init__(self, x: Float[Tensor, " n"], mu_0: float = 0.0, lambda_0: float = 1.0, a_0: float = 1.0, b_0: float = 1.0):
        x = tensor(x)
        if x.ndim != 1 or not len(x) or not x.isfinite().all():
            raise ValueError(f"the data must be finite numbers of shape (n,) with n > 0, got shape {tuple(x.shape)}")
        if min(lambda_0, a_0, b_0) <= 0:
            raise ValueError(f"lambda_0, a_0 and b_0 must be positive, got {lambda_0}, {a_0} and {b_0}")
        self.x = x.detach().double()
        self.prior = ExactMeanPrecision(*(self.x.new_tensor(value) for value in (mu_0, lambda_0, a_0, b_0)))

    def log_joint(self, mu: Float[Tensor, "*points"], tau: Float[Tensor, "*points"]) -> Float[Tensor, "*points"]:
        """log p(x, mu, tau) in nats."""
        return _log_normal(self.x, mu[..., None], tau[..., None]).sum(-1) + self.prior.log_prob(mu, tau)

    @property
    def posterior(self) -> ExactMeanPrecision:
        """lambda = lambda_0 + n, m = (lambda_0 mu_0 + sum x) / lambda, a = a_0 + n / 2 (eq-cavi-normal-gamma-posterior).

        And b = b_0 + 1/2 (sum (x - mean)^2 + lambda_0 n / (lambda_0 + n) (mean - mu_0)^2): exact.
        """
        mu_0, lambda_0, a_0, b_0 = self.prior.m, self.prior.precision_scale, self.prior.a, self.prior.b
        n, mean = len(self.x), self.x.mean()
        surprise = lambda_0 * n / (lambda_0 + n) * (mean - mu_0) ** 2
        b = b_0 + 0.5 * (((self.x - mean) ** 2).sum() + surprise)
        return ExactMeanPrecision((lambda_0 * mu_0 + n * mean) / (lambda_0 + n), lambda_0 + n, a_0 + n / 2, b)

    @property
    def evidence(self) -> Float[Tensor, ""]:
        """log p(x) in nats: the ratio of the posterior's and the prior's normalizers (eq-cavi-normal-gamma-evidence).

        log Gamma(a) - log Gamma(a_0) + a_0 log b_0 - a log b + 1/2 (log lambda_0 - log lambda - n log 2 pi).
        """
        p, q = self.prior, self.posterior
        gammas = torch.lgamma(q.a) - torch.lgamma(p.a) + p.a * p.b.log() - q.a * q.b.log()
        return gammas + 0.5 * (p.precision_scale.log() - q.precision_scale.log() - len(self.x) * log(2 * pi))

    def start(self, precision: float = 1.0) -> FactorizedMeanPrecision:
        """q with E[tau] = precision, and q(mu) around the prior's mean."""
        one = torch.ones_like(self.prior.m)
        return FactorizedMeanPrecision(self.prior.m, one, one, one / precision)

    def updates(self) -> tuple[Callable[[FactorizedMeanPrecision], FactorizedMeanPrecision], ...]:
        """q(mu), then q(tau)."""
        return self.update_mean, self.update_precision

    def update_mean(self, q: FactorizedMeanPrecision) -> FactorizedMeanPrecision:
        """q(mu) = N((lambda_0 mu_0 + sum x) / (lambda_0 + n), 1 / ((lambda_0 + n) E[tau])) (eq-cavi-normal-gamma-mean).

        E[tau] = a / b. Bishop (2006), equations 10.26 and 10.27.
        """
        lambda_0, n = self.prior.precision_scale, len(self.x)
        m = (lambda_0 * self.prior.m + self.x.sum()) / (lambda_0 + n)
        return FactorizedMeanPrecision(m, (lambda_0 + n) * q.a / q.b, q.a, q.b)

    def _expected_squares(self, q: FactorizedMeanPrecision) -> Float[Tensor, ""]:
        """E[sum_n (x_n - mu)^2 + lambda_0 (mu - mu_0)^2]."""
        lambda_0 = self.prior.precision_scale
        errors = ((self.x - q.m) ** 2).sum() + lambda_0 * (q.m - self.prior.m) ** 2
        return errors + (len(self.x) + lambda_0) / q.l

    def update_precision(self, q: FactorizedMeanPrecision) -> FactorizedMeanPrecision:
        """q(tau) = Gamma(a_0 + (n + 1) / 2, b_0 + E[sum (x - mu)^2 + lambda_0 (mu - mu_0)^2] / 2).

        Equation eq-cavi-normal-gamma-precision; Bishop (2006), equations 10.29 and 10.30. The shape gains (n + 1) / 2 and not n
        / 2: mu's prior depends on tau as a data point does.
        """
        a = self.prior.a + (len(self.x) + 1) / 2
        return FactorizedMeanPrecision(q.m, q.l, a, self.prior.b + 0.5 * self._expected_squares(q))

    def elbo(self, q: FactorizedMeanPrecision) -> Float[Tensor, ""]:
        """E_q[log p(x, mu, tau)] + entropy of q, in nats (eq-cavi-elbo)."""
        n, p = len(self.x), self.prior
        tau, log_tau = q.a / q.b, torch.digamma(q.a) - q.b.log()
        of_normals = 0.5 * ((n + 1) * (log_tau - log(2 * pi)) + p.precision_scale.log() - tau * self._expected_squares(q))
        of_tau = p.a * p.b.log() - torch.lgamma(p.a) + (p.a - 1) * log_tau - p.b * tau
        return of_normals + of_tau + q.entropy
