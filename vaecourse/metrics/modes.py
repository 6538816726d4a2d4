"""What a sample covers: known modes, classes, and the neighborhoods of the data."""

from math import log
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vaecourse.metrics.checks import pair

BLOCK = 1024  # rows of a distance matrix held at once


class OnModes(NamedTuple):
    """Samples near known modes."""

    share: float
    """Of all samples, those within the radius of a center."""
    counts: Int[Tensor, " modes"]
    """The samples within the radius of each center, its nearest."""

    @property
    def hit(self) -> int:
        """The number of modes with at least one sample."""
        return int((self.counts > 0).sum())


def on_modes(samples: Float[Tensor, "n dim"], centers: Float[Tensor, "modes dim"], radius: float) -> OnModes:
    """The share of samples within the radius of a center, and the count of each mode (eq-metrics-on-modes).

    Raises ValueError for a radius that is not positive, and for samples or centers that are empty or not finite.
    """
    if not radius > 0:
        raise ValueError(f"the radius must be positive, got {radius}")
    samples, centers = pair(samples, centers, ("samples", "centers"), 1)
    distance, nearest = _distances(samples, centers).min(1)
    counts = torch.bincount(nearest[distance <= radius], minlength=len(centers))
    return OnModes(counts.sum().item() / len(samples), counts)


class ClassModes(NamedTuple):
    """A sample's classes against a uniform choice among all."""

    hit: int
    """Classes with at least one sample."""
    kl: float
    """KL(histogram || uniform) in nats."""


def class_modes(labels: Int[Tensor, " n"], classes: int) -> ClassModes:
    """How many of the classes a sample hits, and the KL of its histogram to the uniform, in nats (eq-metrics-class-kl).

    KL = log(classes) + sum over classes of p log p, p the shares of the labels.
    Labels are 0 ... classes - 1, for instance a classifier's. A perfect sampler of n samples has a KL of about
    (classes - 1) / (2 n), not 0. Raises ValueError where labels are none or out of range.
    """
    if labels.ndim != 1 or labels.is_floating_point() or len(labels) == 0:
        raise ValueError(f"labels must be integers, (n,), at least one; got {labels.dtype} of shape {tuple(labels.shape)}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must be 0 ... {classes - 1}; they reach from {labels.min()} to {labels.max()}")
    counts = torch.bincount(labels, minlength=classes)
    p = counts.double() / len(labels)
    return ClassModes(int((counts > 0).sum()), (log(classes) - torch.special.entr(p).sum()).item())


class PrecisionRecall(NamedTuple):
    """How much of a sample looks real, and how much of the real it can make."""

    precision: float
    recall: float


def precision_recall(real: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"], *, k: int = 3) -> PrecisionRecall:
    """The share of fakes on the manifold of the real, and the share of the real on that of the fakes.

    A sample's manifold is the union of balls around its points, each as wide as the way to the k-th nearest other point
    (eq-metrics-precision-recall; Kynkäänniemi et al., 2019). Raises ValueError where a sample has no
    more than k points, or is not finite.
    """
    real, fake = _neighbors(real, fake, k)
    precision = _inside(fake, real, _radii(real, k)).any(1)
    recall = _inside(real, fake, _radii(fake, k)).any(1)
    return PrecisionRecall(precision.double().mean().item(), recall.double().mean().item())


class DensityCoverage(NamedTuple):
    """How densely the real lie around a sample, and how many of the real have a fake near."""

    density: float
    coverage: float


def density_coverage(real: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"], *, k: int = 5) -> DensityCoverage:
    """Precision and recall with balls around the real only, so that outliers among the fakes cannot inflate them.

    density: the mean number of real balls that hold a fake, over k; about 1 where the laws are equal, and not bounded by 1.
    coverage: the share of real balls that hold a fake (eq-metrics-density-coverage; Naeem et al., 2020, section 3). Raises
    ValueError where a sample has no more than k points, or is not finite.
    """
    real, fake = _neighbors(real, fake, k)
    inside = _inside(fake, real, _radii(real, k))
    return DensityCoverage(inside.double().sum(1).mean().item() / k, inside.any(0).double().mean().item())


def _neighbors(real: Tensor, fake: Tensor, k: int) -> tuple[Tensor, Tensor]:
    if k < 1:
        raise ValueError(f"k, the neighbors, must be at least 1, got {k}")
    return pair(real, fake, ("real", "fake"), k + 1, f": each point needs k = {k} others")


def _distances(x: Float[Tensor, "n dim"], y: Float[Tensor, "m dim"]) -> Float[Tensor, "n m"]:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")  # by products, equal points would lie apart


def _radii(x: Float[Tensor, "n dim"], k: int) -> Float[Tensor, " n"]:
    """From each point to its k-th nearest other: the nearest of all is the point itself."""
    return torch.cat([_distances(part, x).topk(k + 1, largest=False).values[:, k] for part in x.split(BLOCK)])


def _inside(x: Float[Tensor, "n dim"], centers: Float[Tensor, "m dim"], radii: Float[Tensor, " m"]) -> Bool[Tensor, "n m"]:
    """Whether each point lies in each ball."""
    return torch.cat([_distances(part, centers) <= radii for part in x.split(BLOCK)])
