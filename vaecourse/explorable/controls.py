"""The controls of a figure in a page: what values each takes, and its HTML. They are described by ipywidgets' widgets."""

from dataclasses import dataclass
from html import escape
from math import isclose

from ipywidgets import (
    Checkbox,
    Dropdown,
    FloatLogSlider,
    Play,
    RadioButtons,
    SelectionSlider,
    ToggleButton,
    ToggleButtons,
    ValueWidget,
)
from ipywidgets.widgets.widget_float import _BoundedFloat
from ipywidgets.widgets.widget_int import _BoundedInt

MINUS = "\u2212"
BUTTONS = [  # of an animation
    ("back", "One step back", "M3 3v10M13 3v10l-8-5z"),
    ("play", "Play", "M4 2.5v11l9-5.5z"),
    ("forward", "One step on", "M13 3v10M3 3v10l8-5z"),
]
CHOICES = ToggleButtons | RadioButtons


@dataclass(frozen=True)
class Control:
    """A widget's values in order, how each is written, and the index of the one at which it starts."""

    name: str
    widget: ValueWidget
    values: list
    labels: list[str]
    start: int


def read(name: str, widget: ValueWidget) -> Control:
    """The values that a widget takes. Raises ValueError for one that a page cannot show, or that has no description."""
    if not getattr(widget, "description", ""):
        raise ValueError(f"the control {name} has no description: a reader does not see its name, give it description=...")
    if isinstance(widget, Checkbox | ToggleButton):
        return Control(name, widget, [False, True], ["off", "on"], int(widget.value))
    if isinstance(widget, Dropdown | SelectionSlider | CHOICES):
        return Control(name, widget, list(widget._options_values), list(widget._options_labels), widget.index)
    if isinstance(widget, FloatLogSlider | _BoundedFloat | _BoundedInt):
        low, high, step = widget.min, widget.max, widget.step
        values = [low + i * step for i in range(int((high - low) / step + 1e-9) + 1)]
        if isinstance(widget, FloatLogSlider):
            values = [widget.base**value for value in values]
        elif isinstance(widget, _BoundedFloat):
            values = [round(value, 10) for value in values]
        written = getattr(widget, "readout_format", "d")
        labels = [format(value, written).replace("-", MINUS) for value in values]
        nearest = min(range(len(values)), key=lambda i: abs(values[i] - widget.value))
        return Control(name, widget, values, labels, nearest)
    raise ValueError(
        f"the control {name} is a {type(widget).__name__}; a page can show sliders, SelectionSlider, ToggleButtons, "
        "RadioButtons, Dropdown, Checkbox and Play"
    )


def places(phrase: str, values: dict, controls: list[Control]) -> dict[str, int]:
    """Where the values of a state stand among those of their controls. Raises ValueError for one that is not among them."""
    known, found = {control.name: control for control in controls}, {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"the state {phrase!r} sets {name!r}; the figure has {', '.join(known)}")
        listed = known[name].values
        close = [
            i
            for i, own in enumerate(listed)
            if own == value or (isinstance(own, float) and isinstance(value, float | int) and isclose(own, value))
        ]
        if not close:
            raise ValueError(f"the state {phrase!r} sets {name} to {value!r}; it takes {listed}")
        found[name] = close[0]
    return found


def html(control: Control, unique: str) -> str:
    """The control as a part of a form; `unique` tells its figure from others on the page."""
    widget, last, label = control.widget, len(control.values) - 1, escape(control.widget.description)
    identity = f"{unique}-{control.name}"
    if isinstance(widget, Checkbox | ToggleButton):
        checked = " checked" if control.start else ""
        return f'<label class="control"><input type="checkbox" name="{control.name}"{checked}> {label}</label>'
    if isinstance(widget, Dropdown):
        options = "".join(
            f"<option{' selected' if i == control.start else ''}>{escape(text)}</option>"
            for i, text in enumerate(control.labels)
        )
        return f'<label class="control">{label} <select name="{control.name}">{options}</select></label>'
    if isinstance(widget, CHOICES):
        buttons = "".join(
            f'<label><input type="radio" name="{identity}" value="{i}"{" checked" if i == control.start else ""}>'
            f"<span>{escape(text)}</span></label>"
            for i, text in enumerate(control.labels)
        )
        return f'<fieldset class="control" name="{control.name}"><legend>{label}</legend>{buttons}</fieldset>'
    now = escape(control.labels[control.start])
    slider = (
        f'<label for="{identity}">{label}</label>'
        f'<input type="range" id="{identity}" name="{control.name}" min="0" max="{last}" step="1" value="{control.start}" '
        f'aria-valuetext="{now}"><output for="{identity}">{now}</output>'
    )
    if not isinstance(widget, Play):
        return f'<div class="control">{slider}</div>'
    buttons = "".join(
        f'<button type="button" class="{name}" aria-label="{label}"><svg viewBox="0 0 16 16" aria-hidden="true">'
        f'<path d="{path}"/></svg></button>'
        for name, label, path in BUTTONS
    )
    return f'<div class="control" data-interval="{widget.interval}"><span class="buttons">{buttons}</span>{slider}</div>'
