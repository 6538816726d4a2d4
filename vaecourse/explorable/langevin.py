"""Langevin dynamics over a density in the plane, walked in the page, with no kernel and no network.

The density is a mixture of Gaussians. What the page needs is in its own HTML, the script (langevin.js) and the style
(langevin.css) included. Where HTML cannot be shown, on paper, there is a still.
"""

import json
from html import escape
from importlib.resources import files
from io import BytesIO
from itertools import pairwise
from math import inf, log, pi

import torch
from jaxtyping import Float
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from torch import Generator, Tensor

from vaecourse import figures, samplers
from vaecourse.explorable import plane
from vaecourse.explorable.alternative import check_alt
from vaecourse.explorable.plane import LEFT, MINUS, SIDE, TOP

UNITS = 4000  # along a side: what lies in the plane is drawn to a tenth
MASSES = (0.95, 0.75, 0.5, 0.25)  # what the contours enclose
STEPS = 100  # walked before the first look, in the page and on paper
MOST_SHARES = 6  # so many modes have a share each in the table; of more it counts those that have a chain


def langevin(
    means: Float[Tensor, "modes 2"],
    covariances: Float[Tensor, "2 2"] | Float[Tensor, "modes 2 2"],
    alt: str = "",
    weights: Float[Tensor, " modes"] | None = None,
    step: float = 0.05,
    chains: int = 100,
    start: tuple[float, float] | None = None,
    reach: float | None = None,
) -> "Langevin":
    """Chains that walk over a mixture of Gaussians by Langevin dynamics (eq-samplers-langevin), from one point of the plane.

    One covariance is that of all modes; without `weights` all weigh the same. `alt` says in words what there is to see, and
    is required. The chains start at the first mean, or at `start`; a reader can choose another point, and a step size from a
    32nd of `step` to 32 times as much. Their means, variances and shares of the modes (each chain is its nearest mean's)
    stand beside the density's. The plane goes from -reach to reach, by default 3.5 standard deviations beyond the means.
    Raises ValueError for what is no mixture in the plane, and for a step with which chains explode.
    """
    return Langevin(means, covariances, alt, weights, step, chains, start, reach)


class Langevin:
    """What `langevin` returns: HTML for a page, a PNG for paper."""

    def __init__(self, means, covariances, alt, weights, step, chains, start, reach):
        check_alt(alt, "the plane")
        self.alt, self.step, self.chains = alt, step, chains
        self.means, self.covariances, self.weights = _mixture(means, covariances, weights)
        self.precisions = torch.linalg.inv(self.covariances)
        self.log_peaks = self.weights.log() + 0.5 * self.precisions.logdet() - log(2 * pi)
        self.deviation = torch.linalg.eigvalsh(self.covariances).min().sqrt().item()  # the smallest, in any direction
        if not 0 < step < 4 * self.deviation**2:
            raise ValueError(
                f"step must be positive and less than 4 times the smallest variance, {4 * self.deviation**2:g}, beyond which "
                f"chains explode; got {step}"
            )
        if not 1 <= chains <= 1000:
            raise ValueError(f"chains must be from 1 to 1000, got {chains}")
        self.start = tuple(self.means[0].tolist() if start is None else start)
        self.reach = self._reach() if reach is None else reach
        if not (self.means.abs() < self.reach).all() or self.reach == inf:
            raise ValueError(f"all means must lie on the plane, which goes from -reach to reach; reach is {self.reach}")
        if len(self.start) != 2 or not all(abs(z) <= self.reach for z in self.start):
            raise ValueError(f"start must be a point of the plane, which reaches to {self.reach:g}; got {self.start}")
        if self.deviation < self.reach / 100:
            raise ValueError(
                f"a standard deviation of {self.deviation:g} is too small to be seen on a plane that reaches to {self.reach:g}"
            )

    def __repr__(self) -> str:
        return f"Langevin: {self.alt}"

    def log_prob(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        """log p(z) in nats."""
        apart = z[..., None, :] - self.means
        squared = torch.einsum("...ki,kij,...kj->...k", apart, self.precisions, apart)
        return torch.logsumexp(self.log_peaks - 0.5 * squared, -1)

    def walk(self) -> Float[Tensor, "chains 2"]:
        """Where the chains are on paper. (The page has noise of its own.)"""
        z = torch.tensor([self.start] * self.chains, dtype=torch.float64)
        return samplers.langevin(lambda z: -self.log_prob(z), z, self.step, STEPS, Generator().manual_seed(0))[0]

    def _repr_html_(self) -> str:
        package = files("vaecourse.explorable")
        modes = torch.cat([self.log_peaks[:, None], self.means, self.precisions.flatten(1)[:, [0, 1, 3]]], 1)
        data = {"modes": modes.tolist(), "shares": len(modes) <= MOST_SHARES}
        data |= {"step": self.step, "chains": self.chains, "steps": STEPS, "reach": self.reach}
        return f"""\
<div class="langevin" role="group" aria-label="{escape(self.alt)}" data-z="{self.start[0]:g} {self.start[1]:g}" \
data-density="{escape(json.dumps(data))}">
<style>{(package / "langevin.css").read_text("utf-8")}</style>
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
<script>{(package / "langevin.js").read_text("utf-8")}</script>
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
        ax.set_title(f"{STEPS} steps of h = {self.step:g} from ({_number(self.start[0])}, {_number(self.start[1])})")
        return figure

    def _reach(self) -> float:
        beyond = self.means.abs() + 3.5 * self.covariances.diagonal(dim1=1, dim2=2).sqrt()
        return max(beyond.max().item(), *map(abs, self.start))

    def _heights(self) -> tuple[Tensor, Tensor, list[float]]:
        """Ticks along a side, log p over the plane (z2 by z1), and the levels of the contours, the lowest first."""
        side = max(100, round(6 * self.reach / self.deviation))
        ticks = torch.linspace(-self.reach, self.reach, side, dtype=torch.float64)
        log_p = self.log_prob(torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), -1))
        highest = log_p.flatten().sort(descending=True).values
        mass = highest.exp().cumsum(0)
        return ticks, log_p, [highest[(mass < share * mass[-1]).sum()].item() for share in MASSES]

    def _contours(self) -> str:
        """A path a level."""
        ticks, log_p, levels = self._heights()
        along = UNITS * (1 + ticks / self.reach) / 2
        drawn = Figure().subplots().contour(along, UNITS - along, log_p, levels)
        return "".join(
            f'<path d="{"".join(map(_polygon, path.to_polygons(closed_only=False)))}"/>' for path in drawn.get_paths()
        )

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
        mean = self.weights @ self.means
        apart = self.means - mean
        variance = self.weights @ (self.covariances.diagonal(dim1=1, dim2=2) + apart**2)
        rows = [(f"mean of z{i}", _number(value)) for i, value in zip("₁₂", mean, strict=True)]
        rows += [(f"variance of z{i}", _number(value)) for i, value in zip("₁₂", variance, strict=True)]
        if len(self.weights) > MOST_SHARES:
            rows += [("modes reached", str(len(self.weights)))]
        elif len(self.weights) > 1:
            places = [f"near ({_number(z1, 'g')}, {_number(z2, 'g')})" for z1, z2 in self.means]
            rows += [(place, f"{100 * weight:.0f} %") for place, weight in zip(places, self.weights, strict=True)]
        return "".join(f'<tr><th scope="row">{name}</th><td></td><td>{value}</td></tr>' for name, value in rows)


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


def _number(value: float | Tensor, written: str = ".2f") -> str:
    return format(round(float(value), 2) + 0.0, written).replace("-", MINUS)  # -0.0 + 0.0 is 0.0


def _polygon(corners) -> str:
    """A path along corners (n, 2), in whole units."""
    (x, y), *_ = places = corners.round().astype(int).tolist()
    steps = " ".join(f"{x1 - x0} {y1 - y0}" for (x0, y0), (x1, y1) in pairwise(places))
    return f"M{x} {y}l{steps}"
