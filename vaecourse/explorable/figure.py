"""One description of a figure over a few controls; where it is shown decides how."""

import os
from collections.abc import Callable

from ipywidgets import ValueWidget
from matplotlib.figure import Figure

from vaecourse.explorable import live, page
from vaecourse.explorable.alternative import check_alt

IN_PAGE = "VAECOURSE_PAGE"  # set, to anything, for the kernels that execute the pages of the book


def figure(draw: Callable[..., Figure], alt: str = "", drag: tuple[str, str] | None = None, **controls: ValueWidget) -> None:
    """Show the figure draw(name=value, ...) below the controls that give it its values.

    controls: one to three widgets of ipywidgets: a slider, a SelectionSlider, ToggleButtons, a Dropdown, a Checkbox, or
    Play for an animation. drag: the names of two sliders that a point dragged over the figure's first axes sets, in its
    data coordinates (in a page; in a notebook the sliders do). A label on the figure (`Figure.set_label`) is what a screen
    reader says of a state. In a page there are at most 400 states, and they weigh at most 600 kB, compressed.
    Raises ValueError for a missing `alt`, a control that cannot be shown, or figures too many or too heavy.
    """
    check_alt(alt, "the figure")
    if IN_PAGE in os.environ:
        page.show(draw, alt, drag, controls)
    else:
        live.show(draw, alt, controls)
