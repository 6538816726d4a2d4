"""Langevin dynamics over a density in the plane, walked in the page, with no kernel and no network.

The density is a mixture of Gaussians, or that of a potential known on a grid. What the page needs is in its own HTML, the
script (langevin.js) and the style (langevin.css) included. Where HTML cannot be shown, on paper, there is a still.
"""

from html import escape
from io import BytesIO
from math import inf

import torch
from jaxtyping import Float
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from torch import Generator, Tensor

from vaecourse import figures, samplers
from vaecourse.explorable import inline, plane
from vaecourse.explorable.alternative import check_alt
from vaecourse.explorable.grid import outline
from vaecourse.explorable.plane import LEFT, SIDE, TOP, UNITS
from vaecourse.explorable.targets import Mixture, Potential, number

MASSES = (0.95, 0.75, 0.5, 0.25)  # what the contours enclose
STEPS = 100  # walked before the first look, in the page and on paper


def langevin(
    means: Float[Tensor, "modes 2"] | None = None,
    covariances: Float[Tensor, "2 2"] | Float[Tensor, "modes 2 2"] | None = None,
    alt: str = "",
    weights: Float[Tensor, " modes"] | None = None,
    step: float = 0.05,
    chains: int = 100,
    start: tuple[float, float] | None = None,
    reach: float | None = None,
    potential: Float[Tensor, "side side"] | None = None,
) -> "Langevin":
    """Chains that walk over a density in the plane by Langevin dynamics (eq-samplers-langevin), from one point of the plane.

    The density is a mixture of Gaussians: one covariance is that of all modes; without `weights` all weigh the same. Or it is
    exp(-U) / Z for a `potential` U in nats on a grid, [i, j] at (z1, z2) = (t_j, t_i) with t evenly from -reach to reach, as
    `on_plane` makes it of a learned energy or prior. Between the grid's points U is bicubic (`Grid`), so that the force is
    continuous and is the gradient of one potential, the one whose contours are drawn; bilinear forces would be that of none.
    At z outside, with c the nearest point of the plane, it is U(c) + (|z|^2 - |c|^2) / 2: it rises as that of N(0, I) does.

    `alt` says in words what there is to see, and is required. The chains start at the first mean, at the grid's point of least
    potential, or at `start`; a reader can choose another point, and a step size from a 32nd of `step` to 32 times as much.
    Their means and variances stand beside the density's; so do, of a mixture, their shares of the modes (each chain is its
    nearest mean's), and of a potential the shares in the regions of highest density that hold 50 and 95 % of the mass. The
    plane goes from -reach to reach, for a mixture by default 3.5 standard deviations beyond the means.
    Raises ValueError for what is no mixture in the plane and no potential over it, and for a step with which chains explode.
    """
    return Langevin(means, covariances, alt, weights, step, chains, start, reach, potential)


class Langevin:
    """What `langevin` returns: HTML for a page, a PNG for paper."""

    def __init__(self, means, covariances, alt, weights, step, chains, start, reach, potential):
        check_alt(alt, "the plane")
        self.alt, self.step, self.chains = alt, step, chains
        if potential is None and (means is None or covariances is None):
            raise ValueError("a density is missing: give means and covariances of a mixture, or a potential and its reach")
        if potential is not None and not (means is covariances is weights is None):
            raise ValueError("one density at a time: give means and covariances of a mixture, or a potential and its reach")
        self.target = Mixture(means, covariances, weights) if potential is None else Potential(potential, reach)
        if not 1 <= chains <= 1000:
            raise ValueError(f"chains must be from 1 to 1000, got {chains}")
        self.start = tuple(self.target.start if start is None else start)
        self.reach = self.target.reach(self.start) if reach is None else reach
        self.target.check(step, self.reach)
        if len(self.start) != 2 or not all(abs(z) <= self.reach for z in self.start):
            raise ValueError(f"start must be a point of the plane, which reaches to {self.reach:g}; got {self.start}")

    def __repr__(self) -> str:
        return f"Langevin: {self.alt}"

    def log_prob(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        """log p(z) in nats; of a potential up to a constant, -U(z)."""
        return self.target.log_prob(z)

    def walk(self) -> Float[Tensor, "chains 2"]:
        """Where the chains are on paper. (The page has noise of its own.)"""
        z = torch.tensor([self.start] * self.chains, dtype=torch.float64)
        return samplers.langevin(lambda z: -self.log_prob(z), z, self.step, STEPS, Generator().manual_seed(0))[0]

    def _repr_html_(self) -> str:
        settings = {"step": self.step, "chains": self.chains, "steps": STEPS, "reach": self.reach}
        return f"""\
<div class="langevin" role="group" aria-label="{escape(self.alt)}" data-z="{self.start[0]:g} {self.start[1]:g}" \
data-settings="{inline.attribute(settings)}" {self.target.attributes()}>
{inline.style("langevin")}
{self._plane()}
<form>
<div class="buttons"><button type="button" class="play">Play</button><button type="button" data-steps="1">1 step</button>\
<button type="button" data-steps="100">100 steps</button><button type="button" class="again">Start again</button></div>
<div class="size"><label>Step size <i>h</i><input type="range" min="-5" max="5" step="1" value="0"></label><span></span></div>
<table><caption></caption>
<thead><tr><td></td><th scope="col">chains</th><th scope="col">density</th></tr></thead>
<tbody>{self._rows()}</tbody></table>
<p class="said" role="status"></p>
</form>
<p class="hint">Click the plane, or focus it and use the arrow keys (with Shift: larger steps), to start all chains there.</p>
{inline.script("plane", *self.target.scripts, "langevin")}
</div>"""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.still().savefig(file, format="png", dpi=200)
        return file.getvalue()

    def still(self) -> Figure:
        """The density and the chains after some steps, for paper."""
        figure = Figure(figsize=(5.4, 5.4), layout="constrained")
        ax = figure.subplots()
        ticks, log_p, levels = self._heights()
        shades = [to_rgba(figures.COLORS[0], 1 - 0.9 ** (i + 1)) for i in range(len(levels))]
        ax.contourf(ticks, ticks, log_p, [*levels, inf], colors=shades)
        ax.contour(ticks, ticks, log_p, levels, colors=[figures.COLORS[0]], linestyles="solid", linewidths=0.8, alpha=0.6)
        ax.plot(*self.walk().T, "o", color=figures.COLORS[1], markersize=4, markeredgecolor="white", markeredgewidth=0.4)
        ax.plot(*self.start, "o", color="none", markersize=9, markeredgecolor="black", markeredgewidth=1.4)
        ends = (-self.reach, self.reach)
        ax.set(xlim=ends, ylim=ends, xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
        ax.set_title(f"{STEPS} steps of h = {self.step:g} from ({number(self.start[0])}, {number(self.start[1])})")
        return figure

    def _heights(self) -> tuple[Tensor, Tensor, list[float]]:
        """Ticks along a side, log p over the plane (z2 by z1), and the levels of the contours, the lowest first."""
        ticks = torch.linspace(-self.reach, self.reach, self.target.side(self.reach), dtype=torch.float64)
        log_p = self.log_prob(torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), -1))
        highest = log_p.flatten().sort(descending=True).values
        mass = highest.softmax(0).cumsum(0)
        return ticks, log_p, [highest[(mass < share).sum()].item() for share in MASSES]

    def _contours(self) -> str:
        """A path a level, about what lies above it."""
        ticks, log_p, levels = self._heights()
        along, axes = UNITS * (1 + ticks / self.reach) / 2, Figure().subplots()
        highest = log_p.max().item() + 1
        regions = [axes.contourf(along, UNITS - along, log_p, [level, highest]).get_paths()[0] for level in levels]
        return "".join(f'<path d="{outline(region)}"/>' for region in regions)

    def _plane(self) -> str:
        window = f'x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}" viewBox="0 0 {UNITS} {UNITS}"'
        inside = f'<g class="contours">{self._contours()}</g><path class="dots"/><circle class="start" r="70"/>'
        return plane.svg(
            self.reach,
            inside=f"<svg {window}>{inside}</svg>",
            above="",
            role="plane with a starting point to move",
            label="Plane. The arrow keys move the point where all chains start, with Shift in larger steps.",
        )

    def _rows(self) -> str:
        """What is true of the density, beside room for what the page finds of the chains."""
        mean, variance = self.target.moments()
        rows = [(f"mean of z{i}", number(value)) for i, value in zip("₁₂", mean, strict=True)]
        rows += [(f"variance of z{i}", number(value)) for i, value in zip("₁₂", variance, strict=True)]
        rows += self.target.shares()
        return "".join(f'<tr><th scope="row">{name}</th><td></td><td>{value}</td></tr>' for name, value in rows)
