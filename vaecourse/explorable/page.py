"""A figure in a page of the book: all its states are drawn when the page is executed, and a script shows one at a time."""

import json
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from html import escape
from importlib.resources import files
from itertools import product
from math import prod

from IPython.display import display
from matplotlib.figure import Figure

from vaecourse.explorable import controls as forms
from vaecourse.explorable import frames, inline
from vaecourse.explorable.controls import Control

MOST_STATES = 400


def show(
    draw: Callable[..., Figure],
    alt: str,
    drag: tuple[str, str] | None,
    places: dict[str, dict[str, int]],
    controls: list[Control],
) -> None:
    """Show the figure with all its states; a still for where HTML cannot be shown."""
    start = {control.name: control.values[control.start] for control in controls}
    display(
        {
            "text/html": html(draw, alt, drag, places, controls),
            "image/png": b64encode(frames.still(draw, start)).decode(),
            "text/plain": f"Figure: {alt}",
        },
        metadata={"image/png": {"alt": alt}},
        raw=True,
    )


def html(
    draw: Callable[..., Figure],
    alt: str,
    drag: tuple[str, str] | None,
    places: dict[str, dict[str, int]],
    controls: list[Control],
) -> str:
    """The figure as HTML that needs nothing else; `places`: to which phrases set it, by control (`{set}` in a page).

    Raises ValueError for too many states, or too heavy ones.
    """
    names = [control.name for control in controls]
    if not 1 <= len(controls) <= 3:
        raise ValueError(f"a figure in a page has one to three controls, this one has {len(controls)}: {names}")
    if drag and (len(drag) != 2 or not set(drag) <= set(names)):
        raise ValueError(f"drag names two controls, one along and one up; got {drag}, the controls are {names}")
    count = prod(len(control.values) for control in controls)
    if count > MOST_STATES:
        sizes = " x ".join(f"{len(control.values)} ({control.name})" for control in controls)
        raise ValueError(f"{count} states, {sizes}, are more than a page holds, {MOST_STATES}: take larger steps")
    states = [dict(zip(names, values, strict=True)) for values in product(*(control.values for control in controls))]
    unique = "figure-" + sha256(f"{alt} {names}".encode()).hexdigest()[:8]
    start = 0
    for control in controls:
        start = start * len(control.values) + control.start
    drawn = frames.draw_all(draw, states, start, unique)
    packed = frames.pack([frame.svg for frame in drawn])
    if any(frame.label for frame in drawn):
        packed["labels"] = [frame.label for frame in drawn]
    field = _field(drawn, drag, controls) if drag else ""
    package = files("vaecourse.explorable")
    text = f"""\
<div class="explorable" id="{unique}" data-states="{escape(_json(places))}" role="group" aria-label="{escape(alt)}">
<style>{(package / "figure.css").read_text("utf-8")}</style>
<form class="controls">{"".join(forms.html(control, unique) for control in controls)}</form>
<div class="stage"><div class="frame">{drawn[start].svg}</div>{field}</div>
<p class="state" role="status">{escape(drawn[start].label)}</p>
<script type="application/json">{_json(packed)}</script>
<script type="application/json">{_json([control.labels for control in controls])}</script>
<script>{(package / "figure.js").read_text("utf-8")}</script>
</div>"""
    return inline.check_weight(text, "fewer states, fewer points")


def _json(data: object) -> str:
    """JSON that may stand in a page."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</script", "<\\/script")


def _field(drawn: list[frames.Frame], drag: tuple[str, str], controls: list[Control]) -> str:
    """Where on the figure a point can be dragged, and the controls' values at its edges."""
    if any(frame.axes is None or abs(a - b) > 1e-3 for frame in drawn for a, b in zip(frame.axes, drawn[0].axes, strict=True)):
        raise ValueError("a point is dragged over the first axes: give them the same limits and the same place in all states")
    left, bottom, right, top, x0, x1, y0, y1 = drawn[0].axes
    values = {control.name: control.values for control in controls}
    data = json.dumps({"names": drag, "edges": [x0, x1, y0, y1], "values": [values[name] for name in drag]})
    place = f"left:{left:.3%};bottom:{bottom:.3%};width:{right - left:.3%};height:{top - bottom:.3%}"
    return f'<div class="field" style="{place}" data-drag="{escape(data)}"></div>'
