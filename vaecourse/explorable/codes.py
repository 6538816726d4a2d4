"""Codes as dots on the plane of two latents, colored and named by class, and the legend of the classes."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from vaecourse import figures
from vaecourse.explorable.plane import WINDOW, at


class Codes:
    """Codes (n, 2), none by default, with or without labels, on a plane from -reach to reach.

    Raises ValueError where codes and labels do not match, and for more classes than there are colors.
    """

    def __init__(self, codes: Tensor | None, labels: Tensor | None, reach: float):
        if codes is None and labels is not None:
            raise ValueError("labels without codes: give the codes that the labels belong to")
        codes = torch.empty(0, 2) if codes is None else codes.detach().cpu()
        if codes.ndim != 2 or codes.shape[1] != 2:
            raise ValueError(f"codes must be (n, 2), got {tuple(codes.shape)}")
        if labels is not None and len(labels) != len(codes):
            raise ValueError(f"one label a code: {len(codes)} codes, {len(labels)} labels")
        self.codes, self.labels, self.reach = codes, None if labels is None else labels.cpu(), reach
        self.classes = [] if labels is None else self.labels.unique().tolist()
        if len(self.classes) > len(figures.CLASS_COLORS):
            raise ValueError(f"at most {len(figures.CLASS_COLORS)} classes have a color, there are {len(self.classes)}")

    @property
    def on_plane(self) -> Float[Tensor, "m 2"]:
        """Those that the plane shows."""
        return self.codes[(self.codes.abs() <= self.reach).all(1)]

    def svg(self) -> str:
        """The codes, one path a class: a dot is a line without length and with round ends. To be cut at the plane's edges."""
        window = f'class="codes" {WINDOW}'
        if self.labels is None:
            return f"<svg {window}>{self._path(self.codes, 'var(--accent)')}</svg>"
        of_class = {label: self.codes[self.labels == label] for label in self.classes}
        dots = [self._path(codes, color) for codes, color in zip(of_class.values(), figures.CLASS_COLORS, strict=False)]
        places = {label: at(*figures.densest(codes), self.reach) for label, codes in of_class.items()}
        names = "".join(f'<text x="{x}" y="{y}">{label}</text>' for label, (x, y) in places.items())
        return f'<svg {window}>{"".join(dots)}<g class="names">{names}</g></svg>'

    def legend(self) -> str:
        """The classes and their colors, if there are any."""
        items = [
            f'<li><i style="background:{color}"></i>{label}</li>'
            for label, color in zip(self.classes, figures.CLASS_COLORS, strict=False)
        ]
        return f'<ul class="classes" aria-label="Classes">{"".join(items)}</ul>' if items else ""

    def _path(self, codes: Tensor, color: str) -> str:
        """The codes on the plane as dots of one color; two that fall on the same place are drawn once."""
        places = sorted({at(z1, z2, self.reach) for z1, z2 in codes[(codes.abs() <= self.reach).all(1)].tolist()})
        steps = (f"m{x1 - x0} {y1 - y0}h0" for (x0, y0), (x1, y1) in pairwise([(0, 0), *places]))
        return f'<path class="dots" stroke="{color}" d="M0 0{"".join(steps)}"/>'
