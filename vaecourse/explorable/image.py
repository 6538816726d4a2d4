"""An image in a page: a canvas of as many pixels as the image has, which image.js paints."""

from html import escape
from math import prod


def canvas(shape: tuple[int, int], label: str, name: str = "") -> str:
    """The canvas of an image (height, width); `label` is what a screen reader says, `name` a class of its own."""
    height, width = shape
    kind = f' class="{name}"' if name else ""
    return f'<canvas{kind} width="{width}" height="{height}" role="img" aria-label="{escape(label)}"></canvas>'


def check_shape(shape: tuple[int, int], pixels: int) -> None:
    """Raise ValueError where images of that shape do not have the model's pixels, in one channel."""
    if len(shape) != 2 or prod(shape) != pixels:
        raise ValueError(
            f"images of shape {tuple(shape)} have {prod(shape)} pixels, the model's have {pixels}; "
            "a page shows images of one channel, shape (height, width)"
        )
