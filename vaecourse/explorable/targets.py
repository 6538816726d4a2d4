"""What chains in the page walk over: a mixture of Gaussians, or a potential that is known on a grid (targets.js)."""

from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor

from vaecourse.explorable import inline
from vaecourse.explorable.grid import Grid
from vaecourse.explorable.plane import MINUS

MOST_SHARES = 6  # so many modes have a share each in the table; of more it counts those that have a chain
REGIONS = (0.5, 0.95)  # of a potential: the masses of the regions of highest density whose chains are counted


class Mixture:
    """A mixture of Gaussians in the plane, in float64. Raises ValueError for what is none."""

    scripts = ("targets",)

    def __init__(self, means: Tensor, covariances: Tensor, weights: Tensor | None):
        self.means, self.covariances, self.weights = _mixture(means, covariances, weights)
        self.precisions = torch.linalg.inv(self.covariances)
        self.log_peaks = self.weights.log() + 0.5 * self.precisions.logdet() - log(2 * pi)
        self.deviation = torch.linalg.eigvalsh(self.covariances).min().sqrt().item()
        """The smallest standard deviation, in any direction."""

    @property
    def start(self) -> list[float]:
        """The first mean."""
        return self.means[0].tolist()

    def log_prob(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        """log p(z) in nats."""
        apart = z[..., None, :] - self.means
        squared = torch.einsum("...ki,kij,...kj->...k", apart, self.precisions, apart)
        return torch.logsumexp(self.log_peaks - 0.5 * squared, -1)

    def reach(self, start: tuple[float, float]) -> float:
        """How far the plane goes, unless it is said: 3.5 standard deviations beyond the means, and to the start."""
        beyond = self.means.abs() + 3.5 * self.covariances.diagonal(dim1=1, dim2=2).sqrt()
        return max(beyond.max().item(), *map(abs, start))

    def check(self, step: float, reach: float) -> None:
        """Raise ValueError for a step with which chains explode, and a plane on which the mixture cannot be seen."""
        if not 0 < step < 4 * self.deviation**2:
            raise ValueError(
                f"step must be positive and less than 4 times the smallest variance, {4 * self.deviation**2:g}, beyond which "
                f"chains explode; got {step}"
            )
        if not (self.means.abs() < reach).all() or reach == torch.inf:
            raise ValueError(f"all means must lie on the plane, which goes from -reach to reach; reach is {reach}")
        if self.deviation < reach / 100:
            raise ValueError(
                f"a standard deviation of {self.deviation:g} is too small to be seen on a plane that reaches to {reach:g}"
            )

    def side(self, reach: float) -> int:
        """How many points along a side show all of it."""
        return max(100, round(6 * reach / self.deviation))

    def moments(self) -> tuple[Float[Tensor, "2"], Float[Tensor, "2"]]:
        """The mean and the variances of z1 and z2."""
        mean = self.weights @ self.means
        return mean, self.weights @ (self.covariances.diagonal(dim1=1, dim2=2) + (self.means - mean) ** 2)

    def shares(self) -> list[tuple[str, str]]:
        """What is counted of the chains, and what it is of the density."""
        if len(self.weights) > MOST_SHARES:
            return [("modes reached", str(len(self.weights)))]
        if len(self.weights) == 1:
            return []
        places = [f"near ({number(z1, 'g')}, {number(z2, 'g')})" for z1, z2 in self.means]
        return [(place, percent(weight)) for place, weight in zip(places, self.weights, strict=True)]

    def attributes(self) -> str:
        """The attributes of a figure's element that targets.js reads."""
        modes = torch.cat([self.log_peaks[:, None], self.means, self.precisions.flatten(1)[:, [0, 1, 3]]], 1)
        return f'data-modes="{inline.attribute(modes.tolist())}" data-shares="{int(len(modes) <= MOST_SHARES)}"'


class Potential:
    """U by its values on a grid, the density exp(-U) / Z; beyond the plane U rises as |z|^2 / 2 does.

    At z outside, with c the nearest point of the plane, it is U(c) + (|z|^2 - |c|^2) / 2. Raises ValueError where the values
    are no grid over the plane.
    """

    scripts = ("inline", "grid", "targets")

    def __init__(self, values: Tensor, reach: float | None):
        if reach is None or not 0 < reach < torch.inf:
            raise ValueError(f"a potential on a grid needs reach: the grid goes from -reach to reach; got {reach}")
        self.grid = Grid(values, reach, confined=True, name="the potential")
        self.log_p = -self.grid.values.flatten()
        order = self.log_p.argsort(descending=True)
        mass = self.log_p[order].softmax(0).cumsum(0)
        self.levels = [-self.log_p[order[(mass < region).sum()]].item() for region in REGIONS]

    @property
    def start(self) -> list[float]:
        """The grid's point of least potential."""
        row, column = divmod(self.log_p.argmax().item(), len(self.grid.values))
        return [self.grid.ticks[column].item(), self.grid.ticks[row].item()]

    def log_prob(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        """-U(z) in nats: log p(z) up to a constant."""
        return -self.grid(z)

    def reach(self, start: tuple[float, float]) -> float:
        """How far the grid goes."""
        return self.grid.reach

    def check(self, step: float, reach: float) -> None:
        """Raise ValueError for a step with which chains explode where the potential curves most."""
        likely = self.grid.values <= self.levels[-1]
        most = 4 / max(1.0, self.grid.curvatures()[likely].max().item())
        if not 0 < step < most:
            raise ValueError(
                f"step must be positive and less than 4 over the largest curvature of the potential, {most:.3g}, beyond which "
                f"chains explode; got {step}"
            )

    def side(self, reach: float) -> int:
        """How many points along a side show all of it."""
        return max(200, 2 * len(self.grid.values))

    def moments(self) -> tuple[Float[Tensor, "2"], Float[Tensor, "2"]]:
        """The mean and the variances of z1 and z2, by the rectangle rule over the grid's points."""
        p = self.log_p.softmax(0).reshape(self.grid.values.shape)
        marginals = torch.stack([p.sum(0), p.sum(1)])
        mean = marginals @ self.grid.ticks
        return mean, marginals @ self.grid.ticks**2 - mean**2

    def shares(self) -> list[tuple[str, str]]:
        """What is counted of the chains, and what it is of the density."""
        return [(f"in the likeliest {percent(region)}", percent(region)) for region in REGIONS]

    def attributes(self) -> str:
        """The attributes of a figure's element that targets.js reads."""
        return f'{self.grid.attributes()} data-levels="{inline.attribute(self.levels)}"'


def _mixture(means: Tensor, covariances: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The mixture in float64 on the CPU, a covariance and a weight a mode. Raises ValueError for what is none."""
    means, covariances = (parameter.detach().cpu().double() for parameter in (means, covariances))
    if means.ndim != 2 or means.shape[1] != 2 or len(means) == 0:
        raise ValueError(f"means must be (modes, 2), at least one; got {tuple(means.shape)}")
    modes = len(means)
    if covariances.shape not in ((2, 2), (modes, 2, 2)):
        raise ValueError(f"covariances must be (2, 2), or one a mode, ({modes}, 2, 2); got {tuple(covariances.shape)}")
    covariances = covariances.expand(modes, 2, 2)
    symmetric = covariances.isfinite().all() and torch.allclose(covariances, covariances.mT)
    if not symmetric or not (torch.linalg.eigvalsh(covariances) > 0).all():
        raise ValueError(f"covariances must be symmetric and positive definite; got {covariances.tolist()}")
    weights = torch.full((modes,), 1 / modes) if weights is None else weights
    weights = weights.detach().cpu().double()
    if weights.shape != (modes,) or not (weights > 0).all() or abs(weights.sum().item() - 1) > 1e-6:
        raise ValueError(f"weights must be positive, one a mode ({modes}), and sum to 1; got {weights.tolist()}")
    return means, covariances, weights / weights.sum()


def number(value: float | Tensor, written: str = ".2f") -> str:
    """The number to two decimals, with a typographic minus."""
    return format(round(float(value), 2) + 0.0, written).replace("-", MINUS)  # -0.0 + 0.0 is 0.0


def percent(share: float | Tensor) -> str:
    """The share in whole percent."""
    return f"{100 * share:.0f} %"
