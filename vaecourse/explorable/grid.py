"""A function over the plane that is known on a grid: its values between, its derivatives, and its picture in bands."""

from collections.abc import Callable
from html import escape
from itertools import pairwise
from math import isclose

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from vaecourse import figures
from vaecourse.explorable import inline
from vaecourse.explorable.plane import LEFT, MINUS, SIDE, TOP, UNITS

LOW, HIGH, STRONGEST = figures.INK, figures.COLORS[2], 0.6  # colors of what is below and above zero, and their opacity


@torch.no_grad()
def on_plane(function: Callable[[Tensor], Tensor], reach: float, side: int = 61) -> Float[Tensor, "side side"]:
    """function(z), points (n, 2) -> (n,), on a grid over the plane from -reach to reach: [i, j] is at (z1, z2) = (t_j, t_i).

    t are `side` numbers, evenly from -reach to reach: the first row is the plane's lowest. Raises ValueError for a side below
    4 and a function that does not give one number a point.
    """
    if side < 4:
        raise ValueError(f"a grid has at least 4 points a side, got {side}")
    ticks = torch.linspace(-reach, reach, side)
    values = function(torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), -1).reshape(-1, 2))
    if values.shape != (side**2,):
        raise ValueError(f"the function must give one number a point, ({side**2},); got {tuple(values.shape)}")
    return values.reshape(side, side)


class Grid:
    """A function by its values on a square grid over the plane, [i, j] at (z1, z2) = (t_j, t_i), t from -reach to reach.

    Between the points it is bicubic, by cubic convolution (Keys, 1981): smooth to the first derivative, a quadratic function
    exactly, and its gradient is that of one function, so that a force along it has a potential. Beyond the edge, at z, it has
    the value at c, the nearest point of the plane, and with `confined` also (|z|^2 - |c|^2) / 2: it rises as the potential of
    N(0, I) does. Values are rounded to float32. Raises ValueError where they are not (side, side), side >= 4, or not finite.
    """

    def __init__(self, values: Float[Tensor, "side side"], reach: float, confined: bool = False, name: str = "the grid"):
        values = values.detach().cpu()
        if values.ndim != 2 or values.shape[0] != values.shape[1] or len(values) < 4:
            raise ValueError(f"{name} must be (side, side) numbers over the plane, side >= 4; got shape {tuple(values.shape)}")
        if not values.isfinite().all():
            raise ValueError(f"{name} must be finite at all points; there is a NaN or an infinity among them")
        self.values, self.reach, self.confined = values.float().double(), reach, confined
        self._padded = _padded(_padded(self.values).T).T

    @property
    def ticks(self) -> Float[Tensor, " side"]:
        """The coordinates of the points along a side."""
        return torch.linspace(-self.reach, self.reach, len(self.values), dtype=torch.float64)

    def __call__(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        """The values at z, in float64; differentiable once."""
        nearest = z.double().clamp(-self.reach, self.reach)
        last = len(self.values) - 1
        place = (nearest / self.reach + 1) / 2 * last
        cell = place.detach().floor().clamp(0, last - 1)
        across, up = cubic(place - cell).unbind(-2)
        column, row = cell.long().unbind(-1)
        taps = torch.arange(4)
        around = self._padded[row[..., None, None] + taps[:, None], column[..., None, None] + taps]
        value = torch.einsum("...i,...ij,...j->...", up, around, across)
        return value + 0.5 * (z.double() ** 2 - nearest**2).sum(-1) if self.confined else value

    def curvatures(self) -> Float[Tensor, "side side"]:
        """The larger eigenvalue of the second derivatives at each point, by differences."""
        g, h = self._padded, 2 * self.reach / (len(self.values) - 1)
        middle = slice(1, -1)
        across = (g[middle, 2:] - 2 * self.values + g[middle, :-2]) / h**2
        up = (g[2:, middle] - 2 * self.values + g[:-2, middle]) / h**2
        mixed = (g[2:, 2:] - g[2:, :-2] - g[:-2, 2:] + g[:-2, :-2]) / (4 * h**2)
        return (across + up) / 2 + torch.hypot((across - up) / 2, mixed)

    def attributes(self) -> str:
        """The attributes of a figure's element that grid.js reads."""
        return f'data-grid="{inline.numbers(self.values, torch.float32)}" data-confined="{int(self.confined)}"'


def cubic(t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 4"]:
    """Keys' weights of the points at -1, 0, 1 and 2 for a place t in [0, 1]; they sum to 1."""
    a, b, c = t, t**2, t**3
    weights = -a + 2 * b - c, 2 - 5 * b + 3 * c, a + 4 * b - 3 * c, c - b
    return torch.stack(weights, -1) / 2


def _padded(values: Tensor) -> Tensor:
    """One more row at each end, by the parabola through the three next to it."""
    first, last = 3 * values[0] - 3 * values[1] + values[2], 3 * values[-1] - 3 * values[-2] + values[-3]
    return torch.cat([first[None], values, last[None]])


class Bands:
    """A grid in bands of color between round levels; where it takes both signs, a color a sign, the paler the nearer to zero.

    `name` is what the legend says. Raises ValueError for a grid that is the same everywhere.
    """

    def __init__(self, grid: Grid, name: str):
        low, high = grid.values.min().item(), grid.values.max().item()
        if isclose(low, high):
            raise ValueError(f"{name} is {low:g} all over the plane: there is nothing to shade")
        self.grid, self.name = grid, name
        self.levels = MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high).tolist()
        zero = min(range(len(self.levels)), key=lambda i: abs(self.levels[i])) if low < 0 < high else 0
        bands = range(len(self.levels) - 1)
        self.depths = [i - zero + 1 if low < 0 < high and i >= zero else i - zero for i in bands]
        """How many steps each band lies above zero (below: negative), or above the lowest band where there is one sign."""

    def svg(self) -> str:
        """The bands, inside the plane."""
        along = UNITS * (1 + self.grid.ticks / self.grid.reach) / 2
        drawn = Figure().subplots().contourf(along, UNITS - along, self.grid.values, self.levels)
        bands = zip(drawn.get_paths(), self.depths, strict=True)
        paths = "".join(f'<path {self._look(depth)} d="{outline(path)}"/>' for path, depth in bands if depth)
        window = f'x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}" viewBox="0 0 {UNITS} {UNITS}"'
        return f'<svg class="bands" {window}>{paths}</svg>'

    def legend(self) -> str:
        """The bands side by side, with the levels between them."""
        width = 240 / len(self.depths)
        cells = "".join(
            f'<rect x="{i * width:g}" y="20" width="{width:g}" height="12" {self._look(depth)}/>'
            for i, depth in enumerate(self.depths)
        )
        every = 1 + len(self.levels) // 6
        ticks = "".join(
            f'<text x="{i * width:g}" y="46">{level:g}</text>'.replace(">-", f">{MINUS}")
            for i, level in enumerate(self.levels)
            if i % every == 0
        )
        frame = '<rect class="frame" y="20" width="240" height="12"/>'
        label = f"Shades: {self.name} from {self.levels[0]:g} to {self.levels[-1]:g}"
        return (
            f'<svg class="legend" viewBox="-14 0 268 52" role="img" aria-label="{escape(label)}">'
            f'<text class="of" y="12">{escape(self.name)}</text>{cells}{frame}{ticks}</svg>'
        )

    def draw(self, ax: Axes) -> None:
        """The bands on Matplotlib's axes, for paper."""
        deepest = max(map(abs, self.depths))
        colors = [to_rgba(LOW if depth < 0 else HIGH, STRONGEST * abs(depth) / deepest) for depth in self.depths]
        bands = ax.contourf(self.grid.ticks, self.grid.ticks, self.grid.values, self.levels, colors=colors)
        ax.figure.colorbar(bands, ax=ax, location="bottom", shrink=0.6, label=self.name)

    def _look(self, depth: int) -> str:
        opacity = STRONGEST * abs(depth) / max(map(abs, self.depths))
        return f'class="{"low" if depth < 0 else "high"}" fill-opacity="{opacity:.2f}"'


def outline(path: Path) -> str:
    """The borders of a region, in whole units; holes are holes by the fill rule evenodd."""
    return "".join(
        f"M{x} {y}l{' '.join(f'{x1 - x0} {y1 - y0}' for (x0, y0), (x1, y1) in pairwise(corners))}"
        for corners in (polygon.round().astype(int).tolist() for polygon in path.to_polygons())
        for x, y in corners[:1]
    )
