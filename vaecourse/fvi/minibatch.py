"""Minibatches: what a batch of M of N data points does to a bound that is not linear in log p(x, z).

The log-likelihood is a sum over the data, so N / M times a batch's sum is unbiased for it, and for the ELBO. For any other f*
it is not for L_f, since f* is not linear in log w: averaged over batches, power(alpha) sees the joint density tilted by
about exp((1 - alpha) Var / 2), Var the variance, at z, of a batch's estimate of log p(x, z). A divergence for each factor is a
sum over the data again, and another objective.
"""

from math import isfinite, log

from jaxtyping import Float
from torch import Tensor

from vaecourse.importance import SMALL_POWER, power_mean


def _check(log_likelihood: Tensor, n: int) -> None:
    if log_likelihood.shape[-1] == 0:
        raise ValueError("the batch is empty")
    if n < log_likelihood.shape[-1]:
        raise ValueError(f"the data have {n} points, fewer than the batch's {log_likelihood.shape[-1]}")


def scaled_log_joint(
    log_prior: Float[Tensor, "*draws"], log_likelihood: Float[Tensor, "*draws batch"], n: int
) -> Float[Tensor, "*draws"]:
    """log p(z) + N / M sum over the batch of log p(x_m | z), in nats (eq-fvi-minibatch).

    log_likelihood has one column a point of the batch, n is the number of all. It is the likelihood averaged geometrically
    over the batch, to the power n (Li and Turner, 2016). Bounds that are not linear in it see a tilted joint
    (eq-fvi-minibatch-bias). Raises ValueError for an empty batch or n < M.
    """
    _check(log_likelihood, n)
    return log_prior + n * log_likelihood.mean(-1)


def factor_bound(
    log_ratio: Float[Tensor, " draws"], log_likelihood: Float[Tensor, "draws batch"], n: int, *, alpha: float
) -> Float[Tensor, ""]:
    """N / M sum over the batch of log E_q[(p(x_m | z) (p(z) / q(z))^(1/N))^(1 - alpha)] / (1 - alpha), nats (eq-fvi-factors).

    log_ratio = log p(z) - log q(z). Unbiased in the choice of the batch. At alpha = 1 it is the ELBO, for alpha > 1 below it,
    for alpha < 1 above it, and perhaps above log p(x). Its best q is not that of D_alpha(q || p), however many the data: for a
    well-specified Gaussian likelihood the variance goes to 1 / alpha times the posterior's. The black-box alpha energy of
    Hernandez-Lobato et al. (2016), their alpha being 1 - alpha here, with every factor of q tied. Raises ValueError for an
    empty batch, n < M, or an alpha that is not finite.
    """
    _check(log_likelihood, n)
    if not isfinite(alpha):
        raise ValueError(f"alpha must be a finite number, got {alpha}")
    log_factors = log_likelihood + log_ratio[:, None] / n
    if alpha == 1:
        return n * log_factors.mean()
    if abs(1 - alpha) < SMALL_POWER:
        return n * power_mean(log_factors, 1 - alpha).mean()
    return n * (((1 - alpha) * log_factors).logsumexp(0) - log(len(log_ratio))).mean() / (1 - alpha)
