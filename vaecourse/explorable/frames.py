"""Matplotlib figures as SVG that takes the page's colors and fonts, and many of them in little room."""

import re
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from io import BytesIO, StringIO
from multiprocessing import get_context
from os import cpu_count

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from vaecourse import figures

# In the page's style, ink and ground are the theme's, and each color of lines has one variant to be read on a dark ground
# (--c0, ...) and one that is dark enough for text (--t0, ...).
_INK = {"#000000", figures.INK}
_COLORS = {color.lower(): i for i, color in enumerate(figures.COLORS)}

_SETTINGS = {
    "svg.fonttype": "none",  # text is text
    "mathtext.fontset": "stix",  # whose letters are Unicode's
    "image.interpolation": "none",  # an image's pixels are left to the browser
    "image.composite_image": False,
}


@dataclass(frozen=True)
class Frame:
    """One state of a figure: its SVG, its label, and its first axes: place, as fractions of the figure, and limits."""

    svg: str
    label: str
    axes: tuple[float, ...] | None


def draw_all(draw: Callable[..., Figure], states: list[dict], start: int, salt: str) -> list[Frame]:
    """The frame of each state, side by side on all cores where processes can be forked.

    The axes stand where they stand in the state of index `start`, so that nothing but the content moves. `salt` goes into
    the identifiers inside, which must not occur twice in a page.
    """
    with mpl.rc_context({**_SETTINGS, "svg.hashsalt": salt}):
        job = draw, _places(draw(**states[start]))
        if sys.platform != "linux" or len(states) < 8:
            return [draw_one(*job, state) for state in states]
        with warnings.catch_warnings(), ProcessPoolExecutor(cpu_count(), get_context("fork"), _begin, job) as pool:
            warnings.simplefilter("ignore", DeprecationWarning)  # "forking a process with threads": it uses only its own
            return list(pool.map(_draw_in_child, states, chunksize=4))


_job: tuple[Callable[..., Figure], list[Bbox]]


def _begin(*job: object) -> None:
    global _job
    _job = job
    torch.set_num_threads(1)


def _draw_in_child(state: dict) -> Frame:
    return draw_one(*_job, state)


def _places(figure: Figure) -> list[Bbox]:
    """Where a figure's axes stand once it is laid out."""
    plt.close(figure)
    figure.draw_without_rendering()
    return [axes.get_position() for axes in figure.axes]


def draw_one(draw: Callable[..., Figure], places: list[Bbox], state: dict) -> Frame:
    """The frame draw(**state), its axes at the given places; laid out by itself if it has another number of axes."""
    figure = draw(**state)
    plt.close(figure)
    if len(figure.axes) == len(places):
        figure.set_layout_engine("none")
        for axes, place in zip(figure.axes, places, strict=True):
            axes.set_position(place)
    file = StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return Frame(themed(file.getvalue()), figure.get_label(), _first_axes(figure))


def still(draw: Callable[..., Figure], state: dict) -> bytes:
    """The figure draw(**state) as PNG, for paper."""
    figure = draw(**state)
    plt.close(figure)
    file = BytesIO()
    figure.savefig(file, format="png", dpi=200)
    return file.getvalue()


def _first_axes(figure: Figure) -> tuple[float, ...] | None:
    if not figure.axes:
        return None
    axes = figure.axes[0]
    box = axes.get_window_extent().transformed(figure.transFigure.inverted())
    return (*box.extents, *axes.get_xlim(), *axes.get_ylim())


def themed(svg: str) -> str:
    """Matplotlib's SVG with what the page decides left to the page: size, fonts, ink, ground, colors of lines."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # figure_1, axes_1, ...: the same in each figure
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', svg)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    svg = re.sub(r"> <", "><", svg)
    return re.sub(r"<[a-zA-Z]+ [^>]*>", lambda tag: _themed_tag(tag[0]), svg)


def _themed_tag(tag: str) -> str:
    tag = re.sub(r"(?<=\.\d\d)\d+(?=\D)", "", tag)  # a hundredth of a point is enough for a place; what is written stays whole
    text = tag.startswith(("<text", "<tspan"))
    if text:
        tag = re.sub(r"font-family: '?STIX[^;\"]*", "font-family: var(--serif)", tag)
        tag = re.sub(r"font-family: '[^;\"]*; ", "", tag)
        if tag.startswith("<text"):  # the glyphs of a formula have places of their own, and so one size
            tag = re.sub(r"font-size: ([0-9.]+px)", r"font-size: calc(\1*var(--text))", tag)
        tag = re.sub(r' transform="rotate\(-?0 [^"]*"', "", tag)

    def color(match: re.Match) -> str:
        value = match[0].lower()
        if value in _INK:
            return "currentColor"
        if value == "#ffffff":
            return "var(--ground)"
        if value == figures.FAINT:
            return "var(--faint)"
        return f"var(--{'t' if text else 'c'}{_COLORS[value]})" if value in _COLORS else value

    return re.sub(r"#[0-9a-fA-F]{6}\b", color, tag)


def pack(svgs: list[str]) -> dict[str, list]:
    """Frames that share most of their elements: the different elements, and for each frame the order of its own."""
    number: dict[str, int] = {}
    frames = [[number.setdefault(element, len(number)) for element in re.findall(r"<[^>]*>[^<]*", svg)] for svg in svgs]
    return {"elements": list(number), "frames": frames}
