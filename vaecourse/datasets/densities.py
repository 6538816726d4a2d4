"""Densities in the plane whose logarithm is known exactly: what a generative model is first asked to learn.

`log_prob` is in nats, one number per point; `sample` draws on the CPU, in the default type, from a generator on any device.
"""

from dataclasses import dataclass
from functools import cache
from math import log, pi

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from vaecourse.randomness import indices, normal, uniform


def _checked(n: int) -> int:
    if n < 1:
        raise ValueError(f"at least one point is to be drawn, got n = {n}")
    return n


def _plane(x: Tensor) -> Tensor:
    if x.shape[-1:] != (2,):
        raise ValueError(f"points of the plane are rows of two coordinates, shape (..., 2); got {tuple(x.shape)}")
    return x


@dataclass(frozen=True)
class GaussianGrid:
    """side x side round Gaussians of standard deviation sigma, equally likely, on a square grid about the origin."""

    side: int = 5
    spacing: float = 1.0
    sigma: float = 0.05

    def __post_init__(self):
        if self.side < 1 or self.spacing <= 0 or self.sigma <= 0:
            raise ValueError(f"side, spacing and sigma must be positive, got {self.side}, {self.spacing} and {self.sigma}")

    def _axis(self, like: Tensor) -> Float[Tensor, " side"]:
        """Where the rows and columns of the grid lie."""
        return (torch.arange(self.side, dtype=like.dtype, device=like.device) - (self.side - 1) / 2) * self.spacing

    @property
    def centers(self) -> Float[Tensor, "modes 2"]:
        """The means of the Gaussians."""
        axis = self._axis(torch.empty(0))
        return torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)

    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n 2"]:
        """Draw n points. Raises ValueError for n < 1."""
        mode = indices(self.side**2, (_checked(n),), torch.empty(0), generator)
        return self.centers[mode] + self.sigma * normal((n, 2), self.centers, generator)

    def log_prob(self, x: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        """log p(x) in nats, the log of the mean of N(x; center, sigma^2 I) over the centers.

        A square grid of round Gaussians is a product: each coordinate is a mixture of `side` of them.
        """
        distance = (_plane(x)[..., None] - self._axis(x)) / self.sigma
        return (torch.logsumexp(-0.5 * distance**2, -1) - log(self.side * self.sigma) - 0.5 * log(2 * pi)).sum(-1)


@dataclass(frozen=True)
class Rings:
    """Circles about the origin, equally likely, each point moved by round Gaussian noise of standard deviation sigma."""

    radii: tuple[float, ...] = (1.0, 2.0, 3.0)
    sigma: float = 0.1

    def __post_init__(self):
        if not self.radii or min(self.radii) < 0 or self.sigma <= 0:
            raise ValueError(f"radii must be nonnegative and sigma positive, got {self.radii} and {self.sigma}")

    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n 2"]:
        """Draw n points. Raises ValueError for n < 1."""
        r = torch.tensor(self.radii)[indices(len(self.radii), (_checked(n),), torch.empty(0), generator)]
        angle = 2 * pi * uniform((n,), r, generator)
        return torch.stack([r * angle.cos(), r * angle.sin()], -1) + self.sigma * normal((n, 2), r, generator)

    def log_prob(self, x: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        """log p(x) in nats. A noisy circle's density is Rice's: the average over the angle is a Bessel function,

        (2 pi sigma^2)^-1 exp(-(|x|^2 + r^2) / (2 sigma^2)) I_0(r |x| / sigma^2).
        """
        distance, variance = _plane(x).norm(dim=-1), self.sigma**2
        rings = [
            torch.special.i0e(r * distance / variance).log() - (distance - r) ** 2 / (2 * variance)  # i0e(t) = exp(-t) I_0(t)
            for r in self.radii
        ]
        return torch.logsumexp(torch.stack(rings, -1), -1) - log(2 * pi * variance * len(self.radii))


@cache
def _legendre(nodes: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and log weights of Gauss-Legendre quadrature on [0, pi], for an average: the weights sum to 1."""
    t, weights = np.polynomial.legendre.leggauss(nodes)
    return torch.tensor(pi / 2 * (t + 1)).to(device, dtype), torch.tensor(np.log(weights / 2)).to(device, dtype)


@dataclass(frozen=True)
class TwoMoons:
    """Two interleaved half circles of radius 1, as in scikit-learn's make_moons, with round Gaussian noise of sigma.

    The upper one, (cos t, sin t), and the lower one, (1 - cos t, 1/2 - sin t), t uniform on [0, pi], are equally likely.
    """

    sigma: float = 0.1

    def __post_init__(self):
        if not self.sigma >= 0.005:
            raise ValueError(f"sigma must be at least .005 for the density to be computed, got {self.sigma}")

    @staticmethod
    def _arcs(t: Tensor) -> Tensor:
        """The points of both moons at t: (..., 2 moons, 2 coordinates)."""
        cos, sin = t.cos(), t.sin()
        return torch.stack([torch.stack([cos, sin], -1), torch.stack([1 - cos, 0.5 - sin], -1)], -2)

    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n 2"]:
        """Draw n points. Raises ValueError for n < 1."""
        moon = indices(2, (_checked(n),), torch.empty(0), generator)
        t = pi * uniform((n,), torch.empty(0), generator)
        return self._arcs(t)[torch.arange(n), moon] + self.sigma * normal((n, 2), t, generator)

    def log_prob(self, x: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        """log p(x) in nats, the log of the mean of N(x; moon(t), sigma^2 I) over both moons and t uniform on [0, pi].

        By Gauss-Legendre quadrature, exact to rounding within 3 of the origin.
        """
        t, log_weights = _legendre(32 + int(8 / self.sigma), x.dtype, x.device)
        squared = ((_plane(x)[..., None, None, :] - self._arcs(t)) ** 2).sum(-1)
        log_density = torch.logsumexp((log_weights[:, None] - squared / (2 * self.sigma**2)).flatten(-2), -1)
        return log_density - log(2 * 2 * pi * self.sigma**2)  # two moons
