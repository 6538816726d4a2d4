"""How a drawing becomes an image like the data's: moved and scaled, then averaged over each pixel's area (drawing.js)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

INK = 0.1  # what is brighter belongs to a drawing's box
MOST = 2.0  # so many times a drawing is enlarged at most: a dot stays one
FINE = 224  # points along the longer side of what is drawn on, about: a whole number for each pixel


@dataclass(frozen=True)
class Look:
    """How images of a data set lie in their frame, down and across, in pixels.

    `longest`: the mean longer side of the box around what is inked, to which a drawing is scaled. `center`: where its middle
    is put, the mean over the images of, in each direction, the center of mass (`by_mass`) or the middle of the box, whichever
    varies less among them. (MNIST's digits have a box of 20 pixels and a fixed center of mass; those of 8 x 8 pixels fill all
    rows.)
    """

    longest: float
    center: tuple[float, float]
    by_mass: tuple[bool, bool]


def look(images: Float[Tensor, "n pixels"], shape: tuple[int, int]) -> Look:
    """The look of the images that have any ink. Raises ValueError where none has."""
    images = images.detach().cpu().double().reshape(-1, *shape).clamp(min=0)
    images = images[(images > INK).any(2).any(1)]
    if not len(images):
        raise ValueError(f"no image has a pixel brighter than {INK}: there is nothing to tell how drawings should look")
    sides, centers, by_mass = [], [], []
    for axis in (1, 2):  # down, across
        profile = images.sum(3 - axis)
        places = torch.arange(profile.shape[1]) + 0.5
        inked = (images > INK).any(3 - axis)
        first = torch.where(inked, places, torch.inf).amin(1)
        last = torch.where(inked, places, -torch.inf).amax(1)
        found = {True: (profile @ places.double()) / profile.sum(1), False: (first + last) / 2}
        steadier = bool(found[True].std(correction=0) < found[False].std(correction=0))
        sides.append(last - first + 1)
        centers.append(found[steadier].mean().item())
        by_mass.append(steadier)
    return Look(torch.maximum(*sides).mean().item(), tuple(centers), tuple(by_mass))
