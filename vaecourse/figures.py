"""The plotting style of the book and the pictures that recur.

A function given axes draws on them; without axes it returns a new Figure, which a notebook shows by itself. Colors tell
apart with every kind of color vision; a picture that cannot do with color alone carries labels, too.
"""

from collections.abc import Callable, Mapping, Sequence
from math import ceil, prod

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.patheffects import withStroke
from torch import Tensor

from vaecourse.distributions import Bernoulli, Normal
from vaecourse.training import History

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""For lines, in this order (Okabe and Ito, 2008, without black and the yellow that white paper swallows)."""

CLASS_COLORS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
"""For dots of up to ten classes (Petroff, 2021, arXiv:2107.02270)."""

WIDTH = 7.0  # inches: at 100 dots an inch, the page's 700 pixels
INK, FAINT = "#222222", "#8a8a8a"


def style() -> None:
    """Set the book's style for all figures that follow; in a notebook, also their resolution: twice the page's pixels."""
    mpl.rcParams.update(
        {
            "figure.figsize": (WIDTH, 3.2),
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "savefig.dpi": 200,
            "savefig.facecolor": "white",
            "svg.hashsalt": "vaecourse",
            "font.size": 10.5,
            "axes.titlesize": 11,
            "axes.labelsize": 11,
            "xtick.labelsize": 9.5,
            "ytick.labelsize": 9.5,
            "legend.fontsize": 9.5,
            "legend.frameon": False,
            "mathtext.fontset": "cm",
            "axes.prop_cycle": mpl.cycler(color=COLORS),
            "axes.edgecolor": FAINT,
            "axes.labelcolor": INK,
            "text.color": INK,
            "xtick.color": FAINT,
            "ytick.color": FAINT,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "lines.linewidth": 1.8,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
        }
    )
    if _in_notebook():
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("retina")


def image_grid(
    images: Shaped[Tensor, "n ..."],
    shape: tuple[int, int],
    columns: int = 10,
    ax: Axes | None = None,
    titles: Sequence[object] | None = None,
) -> Figure | None:
    """Images in reading order, black at 0 and white at 1, each under its title where there are titles.

    `shape` is an image's (height, width). Raises ValueError where images are not of that shape, or titles are not as many.
    """
    images = _images(images, shape)
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"one title an image: {len(images)} images, {len(titles)} titles")
    columns = min(columns, len(images))
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    gap = max(1, shape[0] // 14) if titles is None else ceil(0.3 * shape[0])
    mosaic, tops, centers = _mosaic(rows, shape, gap)
    ax, figure = _axes(ax, height=_mosaic_height(mosaic, WIDTH * min(1, columns / 10)), width=WIDTH * min(1, columns / 10))
    _show(ax, mosaic)
    for i, title in enumerate(titles if titles is not None else ()):
        ax.text(centers[i % columns], tops[i // columns] - 1, str(title), ha="center", va="bottom", fontsize=9)
    return figure


def image_rows(rows: Mapping[str, Shaped[Tensor, "_ ..."]], shape: tuple[int, int], ax: Axes | None = None) -> Figure | None:
    """One row of images under another, black at 0 and white at 1, each row's label at its left.

    `shape` is an image's (height, width). Raises ValueError where images are not of that shape.
    """
    if not rows:
        raise ValueError("no rows to draw: give {label: images}")
    stacked = [_images(images, shape) for images in rows.values()]
    mosaic, tops, _ = _mosaic(stacked, shape, gap=max(1, shape[0] // 14))
    ax, figure = _axes(ax, height=_mosaic_height(mosaic, WIDTH - 1.2), width=WIDTH)
    _show(ax, mosaic)
    ax.set_yticks([top + (shape[0] - 1) / 2 for top in tops], list(rows), fontsize=10)
    ax.tick_params(axis="y", length=0, pad=6)
    return figure


def history(history: History, parts: Sequence[str] = ("loss", "distortion", "rate"), ax: Axes | None = None) -> Figure | None:
    """The parts of the loss as training went on, smoothed, in nats per image, each named at its end.

    The first smoothed point is not shown: it would squeeze all that follows. Raises KeyError for a part not recorded.
    """
    ax, figure = _axes(ax, height=3.2)
    window = max(1, history.steps // 100)
    curves = {part: history.smooth(part, window) for part in parts}
    steps = np.minimum((np.arange(len(next(iter(curves.values())))) + 0.5) * window, history.steps)
    shown = slice(1 if len(steps) > 1 else 0, None)
    for curve in curves.values():
        ax.plot(steps[shown], curve[shown])
    bottom, top = ax.get_ylim()
    ends = _spread([curve[-1] for curve in curves.values()], gap=0.075 * (top - bottom))
    for part, line, end in zip(curves, ax.lines[-len(curves) :], ends, strict=True):
        ax.annotate(part, (steps[-1], end), xytext=(6, 0), textcoords="offset points", va="center", color=line.get_color())
    ax.set(xlabel="step", ylabel="nats per image", xlim=(0, steps[-1]))
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    return figure


def latent_scatter(mu: Float[Tensor, "n 2"], labels: Int[Tensor, " n"] | None = None, ax: Axes | None = None) -> Figure | None:
    """Codes in a plane of two latents; colored by class where there are labels, each class named where it is densest.

    Raises ValueError for more than ten classes.
    """
    mu, labels = mu.detach().cpu(), None if labels is None else labels.cpu()
    classes = [] if labels is None else labels.unique().tolist()
    if len(classes) > len(CLASS_COLORS):
        raise ValueError(f"{len(CLASS_COLORS)} classes can be told apart by color, there are {len(classes)}")
    ax, figure = _axes(ax, height=5.0, width=5.4)
    dots = {"s": 7, "alpha": 0.65, "linewidths": 0}
    if labels is None:
        ax.scatter(*mu.T, color=COLORS[0], **dots)
    for label, color in zip(classes, CLASS_COLORS, strict=False):
        of_class = mu[labels == label]
        ax.scatter(*of_class.T, color=color, label=str(label), **dots)
        name = ax.text(*densest(of_class), str(label), ha="center", va="center", fontsize=11, weight="bold", zorder=3)
        name.set_path_effects([withStroke(linewidth=3, foreground="white")])
    if classes:
        legend = ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2.2, handletextpad=0.1)
        for handle in legend.legend_handles:
            handle.set_alpha(1)
    ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    return figure


def densest(points: Float[Tensor, "n 2"]) -> tuple[float, float]:
    """The point with the most others about it: where to write the name of a class. At most 500 points are looked at."""
    some = points.detach()[:: ceil(len(points) / 500)]
    nearness = torch.exp(-2 * torch.cdist(some, some) ** 2 / some.var(0, correction=0).sum().clamp_min(1e-12))
    z1, z2 = some[nearness.sum(1).argmax()].tolist()
    return z1, z2


@torch.no_grad()
def latent_plane(
    decode: Callable[[Tensor], Bernoulli | Normal],
    shape: tuple[int, int],
    side: int = 15,
    reach: float = 2.5,
    ax: Axes | None = None,
) -> Figure | None:
    """The decoder's means over a plane of two latents: side x side codes, evenly from -reach to reach, z_2 upwards.

    decode(z) takes codes (n, 2) and returns p(x | z), as `vae.decode` does.
    """
    ticks = torch.linspace(-reach, reach, side)
    z2, z1 = torch.meshgrid(ticks.flip(0), ticks, indexing="ij")
    images = _images(decode(torch.stack([z1, z2], -1).reshape(-1, 2)).mean, shape)
    picture = images.reshape(side, side, *shape).transpose(0, 2, 1, 3).reshape(side * shape[0], side * shape[1])
    ax, figure = _axes(ax, height=5.2, width=5.2)
    edge = reach * side / (side - 1) if side > 1 else reach  # the outer images' centers lie at -reach and reach
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=(-edge, edge, -edge, edge), interpolation="nearest", aspect="auto")
    ax.set(xlabel="$z_1$", ylabel="$z_2$", box_aspect=shape[0] / shape[1])
    ax.spines[:].set_visible(False)
    return figure


def reparameterization_graph(axes: Sequence[Axes] | np.ndarray | None = None) -> Figure | None:
    """The graph of f(z), z ~ N(mu, sigma^2), before and after reparameterization, and how far the gradient gets in each.

    `axes` are two; after the reparameterization, with random nodes round and the others square.
    """
    figure = None
    if axes is None:
        figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
        axes = figure.subplots(1, 2)
    before, after = axes
    for ax, title in [(before, "Before: $z$ is drawn"), (after, r"After: $\epsilon$ is drawn, $z$ is computed")]:
        ax.set(xlim=(-2.1, 2.1), ylim=(-0.8, 3.1), aspect="equal", title=title)
        ax.axis("off")

    f, z, left, middle, right = (0.0, 2.7), (0.0, 1.4), (-1.2, 0.0), (0.0, 0.0), (1.2, 0.0)
    for ax, mu, sigma in [(before, left, right), (after, left, middle)]:
        _node(ax, f, "$f$")
        _arrow(ax, z, f, INK)
        _arrow(ax, f, z, COLORS[1], bend=0.32)
        for parent, name in [(mu, r"$\mu$"), (sigma, r"$\sigma$")]:
            _node(ax, parent, name)
            _arrow(ax, parent, z, INK)

    _node(before, z, "$z$", random=True)
    before.text(0.42, 1.4, r"$z \sim \mathcal{N}(\mu, \sigma^2)$", va="center")
    before.plot([-0.15, 0.15, np.nan, -0.15, 0.15], [0.76, 0.96, np.nan, 0.96, 0.76], color=COLORS[1], linewidth=2.4)
    before.text(0.0, 0.56, "the gradient\nstops at\na draw", ha="center", va="top", color=COLORS[1], fontsize=9)

    _node(after, z, "$z$")
    after.text(0.42, 1.4, r"$z = \mu + \sigma\epsilon$", va="center")
    _node(after, right, r"$\epsilon$", random=True)
    _arrow(after, right, z, INK)
    after.text(1.2, -0.42, r"$\epsilon \sim \mathcal{N}(0, 1)$", ha="center", va="top")
    for parent in (left, middle):
        _arrow(after, z, parent, COLORS[1], bend=0.25)
    return figure


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


def _axes(ax: Axes | None, height: float, width: float = WIDTH) -> tuple[Axes, Figure | None]:
    """The axes given; or new ones and their figure, which pyplot does not know, so that a notebook shows it once."""
    if ax is not None:
        return ax, None
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure.subplots(), figure


def _numpy(values: Tensor) -> np.ndarray:
    return torch.as_tensor(values).detach().cpu().numpy()


def _images(images: Tensor, shape: tuple[int, int]) -> np.ndarray:
    """Images as an array (n, height, width). Raises ValueError where there are none or they are not of that shape."""
    images = _numpy(images)
    if len(images) == 0:
        raise ValueError("no images to draw")
    if prod(images.shape[1:]) != prod(shape):
        raise ValueError(f"images of shape {shape} have {prod(shape)} pixels; got images of shape {images.shape[1:]}")
    return images.reshape(len(images), *shape)


def _mosaic(rows: Sequence[np.ndarray], shape: tuple[int, int], gap: int) -> tuple[np.ndarray, list[int], list[float]]:
    """Rows of images as one picture on a transparent ground; where the rows begin, and the columns' centers."""
    (height, width), columns, aside = shape, max(map(len, rows)), max(1, shape[1] // 14)
    picture = np.full((len(rows) * (height + gap), columns * (width + aside) - aside), np.nan)
    tops = [gap + i * (height + gap) for i in range(len(rows))]
    lefts = [j * (width + aside) for j in range(columns)]
    for top, images in zip(tops, rows, strict=True):
        for left, image in zip(lefts, images, strict=False):
            picture[top : top + height, left : left + width] = image
    return picture, tops, [left + (width - 1) / 2 for left in lefts]


def _mosaic_height(mosaic: np.ndarray, width: float) -> float:
    return width * mosaic.shape[0] / mosaic.shape[1]


def _show(ax: Axes, mosaic: np.ndarray) -> None:
    ax.imshow(mosaic, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """The heights moved upwards as little as keeps each `gap` above the one below it."""
    spread, free = list(heights), -np.inf
    for i in np.argsort(heights, kind="stable"):
        spread[i] = max(heights[i], free)
        free = spread[i] + gap
    return spread


def _node(ax: Axes, at: tuple[float, float], name: str, random: bool = False) -> None:
    """A node of a graph: round and blue where random, square and white where computed or given."""
    look = {"edgecolor": COLORS[0] if random else INK, "facecolor": "#dcebf5" if random else "white", "linewidth": 1.4}
    if random:
        ax.add_patch(Circle(at, 0.3, zorder=3, **look))
    else:
        corner = (at[0] - 0.27, at[1] - 0.27)
        ax.add_patch(FancyBboxPatch(corner, 0.54, 0.54, boxstyle="round,pad=0,rounding_size=0.06", zorder=3, **look))
    ax.text(*at, name, ha="center", va="center", fontsize=13, zorder=4)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str, bend: float = 0.0) -> None:
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>,head_width=3,head_length=5",
            connectionstyle=f"arc3,rad={bend}",
            shrinkA=20,
            shrinkB=20,
            linewidth=1.4,
            color=color,
            zorder=2,
        )
    )
