"""What a trace is worth: how many independent draws, and whether the chains agree."""

from math import log

import torch
from jaxtyping import Float
from torch import Tensor


def _within_and_total(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean variance within chains, and the variance of all draws as R-hat estimates it, for draws (draws, chains, ...)."""
    n, chains = x.shape[:2]
    within = x.var(0).mean(0)
    between = x.mean(0).var(0) if chains > 1 else torch.zeros_like(within)
    return within, within * (n - 1) / n + between


def _check_trace(x: Tensor) -> None:
    if x.ndim < 2 or x.shape[0] < 4 or x.shape[1] < 1:
        raise ValueError(f"a trace is (draws, chains, ...) with at least 4 draws; got shape {tuple(x.shape)}")


def effective_sample_size(x: Float[Tensor, "draws chains *dims"]) -> Float[Tensor, "*dims"]:
    """How many independent draws would estimate the mean as well as all chains' draws do (eq-samplers-ess).

    draws * chains / tau, tau = 1 + 2 * (sum of autocorrelations), the sum cut by Geyer's initial monotone sequence (1992,
    section 3.3): sums of neighbors, as long as they are positive, none larger than the one before. Chains that disagree
    lower it. At most draws * chains * log10(draws * chains), for chains whose draws alternate; NaN where nothing moves.
    Raises ValueError for fewer than 4 draws.
    """
    _check_trace(x)
    n, chains = x.shape[:2]
    centered = x - x.mean(0)
    spectrum = torch.fft.rfft(centered, n=2 * n, dim=0)
    autocovariance = torch.fft.irfft(spectrum.abs() ** 2, n=2 * n, dim=0)[:n] / n
    within, total = _within_and_total(x)
    rho = 1 - (within - autocovariance.mean(1) * n / (n - 1)) / total
    pairs = rho[: n // 2 * 2].reshape(n // 2, 2, *x.shape[2:]).sum(1)
    positive = (pairs > 0).cumprod(0)
    tau = 2 * (pairs.cummin(0).values * positive).sum(0) - 1
    every = n * chains
    return every / tau.clamp_min(1 / log(every, 10))


def split_r_hat(x: Float[Tensor, "draws chains *dims"]) -> Float[Tensor, "*dims"]:
    """How far the halves of the chains disagree: sqrt(total variance / variance within), near 1 where they agree.

    The total variance is (n - 1) / n of that within, n the draws of a half, and that of the halves' means. Above 1.01 the
    chains have not mixed. Gelman et al. (2013), Bayesian Data Analysis, section 11.4; eq-samplers-r-hat.
    Raises ValueError for fewer than 4 draws.
    """
    _check_trace(x)
    half = len(x) // 2
    within, total = _within_and_total(torch.cat([x[:half], x[-half:]], dim=1))
    return (total / within).sqrt()
