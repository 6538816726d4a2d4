"""A figure in a notebook: controls, and below them a figure that is drawn again in place when a control moves."""

from collections.abc import Callable
from threading import Lock

import matplotlib.pyplot as plt
from IPython.display import display
from ipywidgets import Box, Button, HBox, IntSlider, Layout, Play, ValueWidget, Widget, jslink
from matplotlib.figure import Figure

from vaecourse.explorable.controls import Control

_drawing = Lock()  # JupyterLab moves controls in a thread of their own, and Matplotlib draws one figure at a time


def show(draw: Callable[..., Figure], alt: str, places: dict[str, dict[str, int]], controls: list[Control]) -> None:
    """Show the controls, a button for each phrase that sets them, and the figure; each change of a control draws it anew.

    The figure is an ordinary output of the cell, so that a saved notebook, with no kernel, still shows the one at which
    the controls start. What `draw` raises is raised here.
    """
    metadata = {"image/png": {"alt": alt}}

    def drawn() -> Figure:
        made = draw(**{control.name: control.widget.value for control in controls})
        plt.close(made)  # one that pyplot made would be shown a second time
        return made

    def redraw(_: object) -> None:
        with _drawing:
            shown.update(drawn(), metadata=metadata)

    for control in controls:
        control.widget.style.description_width = "initial"
        control.widget.observe(redraw, names="value")
    buttons = [_button(phrase, state, controls) for phrase, state in places.items()]
    with _drawing:
        first = drawn()
        rows = [*(_row(control.widget) for control in controls), *buttons]
        display(Box(rows, layout=Layout(flex_flow="row wrap", grid_gap="4px 24px")))
        shown = display(first, metadata=metadata, display_id=True)


def _button(phrase: str, places: dict[str, int], controls: list[Control]) -> Button:
    """A button that sets controls: to what a phrase of the text says."""
    button = Button(description=phrase, layout=Layout(width="auto"))

    def press(_: object) -> None:
        for control in controls:
            if control.name in places:
                control.widget.value = control.values[places[control.name]]

    button.on_click(press)
    return button


def _row(control: ValueWidget) -> Widget:
    """The control; an animation gets a slider to scrub with beside its buttons."""
    if not isinstance(control, Play):
        return control
    scrub = IntSlider(control.value, control.min, control.max, control.step, description=control.description)
    jslink((control, "value"), (scrub, "value"))
    return HBox([control, scrub])
