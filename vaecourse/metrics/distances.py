"""Distances between two samples by their features: Fréchet's, and kernels'.

A sample is rows of features, (n, dim), from any network, or the data themselves. A distance depends on the features: name
them beside it. With the features of a classifier trained here it is "Fréchet distance (own features)"; only Inception's
make it the FID. Everything is computed in double precision, since differences of large traces are taken.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vaecourse.inputs import tensor
from vaecourse.metrics.checks import pair

BLOCK = 1024  # rows of a kernel matrix held at once


def frechet_distance(a: Float[Tensor, "n dim"], b: Float[Tensor, "m dim"]) -> float:
    """|mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), of the means and covariances of the two samples' features.

    Equation eq-metrics-frechet; Heusel et al. (2017); Dowson and Landau (1982). In squared units of the
    features. The estimate is biased upwards, by a term that falls as 1 / n (`frechet_bias`): compare samples of one size
    only. Raises ValueError where a sample has no more rows than features (its covariance would be singular), or is not
    finite.
    """
    dim = a.shape[-1]
    reason = f": the covariance of {dim} features is singular below that. Take more samples, or fewer features"
    a, b = pair(a, b, ("a", "b"), dim + 1, reason)
    return frechet_gaussians(a.mean(0), _covariance(a), b.mean(0), _covariance(b))


def frechet_gaussians(
    mu_a: Float[Tensor, " dim"],
    covariance_a: Float[Tensor, "dim dim"],
    mu_b: Float[Tensor, " dim"],
    covariance_b: Float[Tensor, "dim dim"],
) -> float:
    """|mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)): the squared 2-Wasserstein distance of two Gaussians.

    Equation eq-metrics-frechet. The trace of the root is the sum of the singular values of S_a^(1/2) S_b^(1/2), whose
    squares are the eigenvalues of S_a S_b: roots of symmetric matrices only, which exist and are real where the root of the
    product, which is not symmetric, may come out complex. Raises ValueError where a covariance is none, means and covariances
    are not of one width, or a number is not finite; TypeError where they are no numbers.
    """
    given = {"mu_a": mu_a, "covariance_a": covariance_a, "mu_b": mu_b, "covariance_b": covariance_b}
    mu_a, covariance_a, mu_b, covariance_b = (tensor(part, name).double() for name, part in given.items())
    if not all(part.isfinite().all() for part in (mu_a, covariance_a, mu_b, covariance_b)):
        raise ValueError("means and covariances must be finite: there is NaN or infinity in what the features gave")
    if mu_a.ndim != 1 or mu_a.shape != mu_b.shape or {covariance_a.shape, covariance_b.shape} != {2 * mu_a.shape}:
        shapes = ", ".join(f"{name} {tuple(part.shape)}" for name, part in given.items())
        raise ValueError(f"means are (dim,), covariances (dim, dim), of one dim; got {shapes}")
    spread = covariance_a.trace() + covariance_b.trace()
    overlap = torch.linalg.svdvals(_root(covariance_a, "covariance_a") @ _root(covariance_b, "covariance_b")).sum()
    return max(0.0, (((mu_a - mu_b) ** 2).sum() + spread - 2 * overlap).item())


def frechet_bias(covariance: Float[Tensor, "dim dim"], n: int, m: int) -> float:
    """The Fréchet distance to expect between n and m draws of one Gaussian, whose true distance is 0.

    To first order in 1/n and 1/m, with eigenvalues l_i of the covariance: tr S (1/n + 1/m) for the means, and half of
    sum_ij l_i l_j / (l_i + l_j) + tr S / 2, times 1/(n-1) + 1/(m-1), for the covariances (eq-metrics-frechet-bias).
    Raises ValueError for n or m < 2, and for a covariance that is not finite.
    """
    if min(n, m) < 2 or not covariance.isfinite().all():
        raise ValueError(f"a covariance of at least 2 draws is finite; got n = {n}, m = {m} and {covariance}")
    values = torch.linalg.eigvalsh(covariance).clamp_min(0)
    total = values[:, None] + values
    harmonic = torch.where(total > 0, values[:, None] * values / total, 0.0).sum().item()
    spread = values.sum().item()
    return spread * (1 / n + 1 / m) + 0.5 * (harmonic + 0.5 * spread) * (1 / (n - 1) + 1 / (m - 1))


def _covariance(x: Float[Tensor, "n dim"]) -> Float[Tensor, "dim dim"]:
    centered = x - x.mean(0)
    return centered.T @ centered / (len(x) - 1)


def _root(covariance: Float[Tensor, "dim dim"], name: str) -> Float[Tensor, "dim dim"]:
    """The symmetric square root, by eigenvectors; eigenvalues below zero by rounding alone count as zero."""
    if not torch.allclose(covariance, covariance.T, rtol=1e-5, atol=1e-8):
        raise ValueError(f"{name} must be a symmetric matrix, and differs from its transpose")
    values, vectors = torch.linalg.eigh(covariance)
    if values[0] < -1e-6 * values[-1].abs() - 1e-12:
        raise ValueError(f"{name} must have no negative eigenvalues; the least is {values[0]:.3g}")
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def kernel_distance(
    a: Float[Tensor, "n dim"], b: Float[Tensor, "m dim"], *, bandwidths: Sequence[float] | None = None
) -> float:
    """The squared maximum mean discrepancy, unbiased: it may be negative, and is 0 on average where the laws are equal.

    E k(a, a') + E k(b, b') - 2 E k(a, b), over pairs of different samples (eq-metrics-mmd; Gretton et al., 2012, equation
    3). With `bandwidths`, k is the mean of the Gaussian kernels exp(-|x - y|^2 / (2 h^2)); without, the cubic polynomial
    (x.y / dim + 1)^3 (Bińkowski et al., 2018), which on Inception's features makes the KID. Raises ValueError for
    bandwidths that are not positive, fewer than 2 samples, or samples that are not finite.
    """
    if bandwidths is not None and (len(bandwidths) == 0 or not all(h > 0 for h in bandwidths)):
        raise ValueError(f"bandwidths must be positive numbers, one a kernel; got {tuple(bandwidths)}")
    a, b = pair(a, b, ("a", "b"), 2, " for pairs of different samples")

    return (_own(a, bandwidths) + _own(b, bandwidths) - 2 * _total(a, b, bandwidths) / (len(a) * len(b))).item()


def _own(x: Float[Tensor, "n dim"], bandwidths: Sequence[float] | None) -> Float[Tensor, ""]:
    """The mean of the kernel over pairs of different samples."""
    diagonal = len(x) if bandwidths is not None else ((x**2).mean(1) + 1).pow(3).sum()
    return (_total(x, x, bandwidths) - diagonal) / (len(x) * (len(x) - 1))


def _total(x: Float[Tensor, "n dim"], y: Float[Tensor, "m dim"], bandwidths: Sequence[float] | None) -> Float[Tensor, ""]:
    return torch.stack([_kernel(part, y, bandwidths).sum() for part in x.split(BLOCK)]).sum()


def _kernel(x: Float[Tensor, "n dim"], y: Float[Tensor, "m dim"], bandwidths: Sequence[float] | None) -> Float[Tensor, "n m"]:
    if bandwidths is None:
        return (x @ y.T / x.shape[1] + 1) ** 3
    squared = torch.cdist(x, y).square()
    return torch.stack([(-squared / (2 * h**2)).exp() for h in bandwidths]).mean(0)
