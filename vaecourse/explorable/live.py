"""A figure in a notebook: controls, and below them a figure that is drawn again in place when a control moves."""

from collections.abc import Callable
from threading import Lock

import matplotlib.pyplot as plt
from IPython.display import display
from ipywidgets import Box, HBox, IntSlider, Layout, Play, ValueWidget, Widget, jslink
from matplotlib.figure import Figure

_drawing = Lock()  # JupyterLab moves controls in a thread of their own, and Matplotlib draws one figure at a time


def show(draw: Callable[..., Figure], alt: str, controls: dict[str, ValueWidget]) -> None:
    """Show the controls and the figure; each change of a control draws it anew.

    The figure is an ordinary output of the cell, so that a saved notebook, with no kernel, still shows the one at which
    the controls start. What `draw` raises is raised here.
    """
    metadata = {"image/png": {"alt": alt}}

    def drawn() -> Figure:
        made = draw(**{name: control.value for name, control in controls.items()})
        plt.close(made)  # one that pyplot made would be shown a second time
        return made

    def redraw(_: object) -> None:
        with _drawing:
            shown.update(drawn(), metadata=metadata)

    for control in controls.values():
        control.style.description_width = "initial"
        control.observe(redraw, names="value")
    with _drawing:
        first = drawn()
        display(Box([_row(control) for control in controls.values()], layout=Layout(flex_flow="row wrap", grid_gap="4px 24px")))
        shown = display(first, metadata=metadata, display_id=True)


def _row(control: ValueWidget) -> Widget:
    """The control; an animation gets a slider to scrub with beside its buttons."""
    if not isinstance(control, Play):
        return control
    scrub = IntSlider(control.value, control.min, control.max, control.step, description=control.description)
    jslink((control, "value"), (scrub, "value"))
    return HBox([control, scrub])
