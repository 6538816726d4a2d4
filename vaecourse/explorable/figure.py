"""One description of a figure over a few controls; where it is shown decides how."""

import os
from collections.abc import Callable, Mapping

from ipywidgets import ValueWidget
from matplotlib.figure import Figure

from vaecourse.explorable import controls as forms
from vaecourse.explorable import live, page
from vaecourse.explorable.alternative import check_alt

IN_PAGE = "VAECOURSE_PAGE"  # set, to anything, for the kernels that execute the pages of the book


def figure(
    draw: Callable[..., Figure],
    alt: str = "",
    drag: tuple[str, str] | None = None,
    states: Mapping[str, dict] | None = None,
    **controls: ValueWidget,
) -> None:
    """Show the figure draw(name=value, ...) below the controls that give it its values.

    controls: one to three widgets of ipywidgets: a slider, a SelectionSlider, ToggleButtons, a Dropdown, a Checkbox, or
    Play for an animation. drag: the names of two sliders that a point dragged over the figure's first axes sets, in its
    data coordinates (in a page; in a notebook the sliders do). states: phrases, each with values of some controls, to
    which {set}`the phrase` in the text of a page sets the figure; in a notebook each is a button. A label on the figure
    (`Figure.set_label`) is what a screen reader says of a state. In a page there are at most 400 states, and they weigh at
    most 600 kB, compressed.
    Raises ValueError for a missing `alt`, a control that cannot be shown, a state that the controls cannot take, or figures
    too many or too heavy.
    """
    check_alt(alt, "the figure")
    read = [forms.read(name, widget) for name, widget in controls.items()]
    places = {phrase: forms.places(phrase, values, read) for phrase, values in (states or {}).items()}
    if IN_PAGE in os.environ:
        page.show(draw, alt, drag, places, read)
    else:
        live.show(draw, alt, places, read)
