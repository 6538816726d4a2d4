"""Sprites: small figures, each made from a few known factors; what disentanglement is measured on."""

from dataclasses import dataclass
from itertools import product
from math import pi, prod

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

SHAPES = ("square", "ellipse", "heart")
RADIUS = 0.25  # of the largest sprite, about its center, in widths of the image


@dataclass(frozen=True, eq=False)
class Sprites:
    """All combinations of the factors, each once, the last factor fastest.

    Row i of `factors` says which value of each factor made image i: integers from 0 to sizes[k] - 1, in the order of `names`.
    `shape` is an image's own.
    """

    images: Float[Tensor, "n pixels"]
    factors: Int64[Tensor, "n k"]
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    shape: tuple[int, ...]

    def index(self, factors: Int[Tensor, "*batch k"]) -> Int64[Tensor, "*batch"]:
        """The row of the image that has these factors."""
        sizes = torch.tensor(self.sizes, device=factors.device)
        if factors.shape[-1] != len(sizes) or ((factors < 0) | (factors >= sizes)).any():
            raise ValueError(f"factors must be {', '.join(self.names)}, from 0 to below {self.sizes}")
        strides = torch.tensor([prod(self.sizes[k + 1 :]) for k in range(len(sizes))], device=factors.device)
        return (factors * strides).sum(-1)

    def at(self, factors: Int[Tensor, "*batch k"]) -> Float[Tensor, "*batch pixels"]:
        """The image that has these factors."""
        return self.images[self.index(factors)]

    def __repr__(self) -> str:
        grid = " x ".join(f"{size} {name}" for name, size in zip(self.names, self.sizes, strict=True))
        return f"Sprites({len(self.images):,} images of {' x '.join(map(str, self.shape))} pixels: {grid})"


def sprites(
    size: int = 16,
    *,
    color: bool = False,
    shapes: int = 3,
    scales: int = 3,
    orientations: int = 6,
    positions: int = 7,
    colors: int = 4,
) -> Sprites:
    """The full grid of shape (square, ellipse, heart), scale, orientation, x and y, and color where it is asked for.

    White on black with smooth edges, `size` pixels wide; in color: `colors` hues, (3, size, size), the color the first factor.
    The other arguments count a factor's values; x and y have `positions` each. Scales go from .6 to 1, places over the middle
    half of the image, orientations over a quarter turn without its end, in which no sprite repeats itself (a square does after
    it): no two images are equal. Gray pixels are the share that the sprite covers; from 32 pixels on `.round()` leaves a binary
    set with no two equal images. Raises ValueError for less than one value, more than three shapes, or a size below 8.
    """
    counts = {"shape": shapes, "scale": scales, "orientation": orientations, "x": positions, "y": positions}
    if color:
        counts = {"color": colors, **counts}
    if size < 8 or shapes > len(SHAPES) or min(counts.values()) < 1:
        raise ValueError(f"size must be at least 8, shapes at most 3, all counts at least 1; got size {size} and {counts}")
    scale = torch.linspace(0.6, 1, scales) if scales > 1 else torch.ones(1)
    angle = pi / 2 * torch.arange(orientations) / orientations
    place = torch.linspace(RADIUS, 1 - RADIUS, positions) if positions > 1 else torch.full((1,), 0.5)
    x, y = torch.cartesian_prod(place, place).T if positions > 1 else (place, place)
    gray = torch.empty(shapes * scales * orientations, positions**2, size * size)
    for block, (kind, s, a) in enumerate(product(range(shapes), scale, angle)):
        gray[block] = draw_sprites(torch.full((len(x),), kind), s.expand_as(x), a.expand_as(x), x, y, size)
    images = gray.flatten(0, 1)
    if color:
        images = (_hues(colors)[:, None, :, None] * images[:, None, :]).reshape(-1, 3 * size * size)
    factors = torch.cartesian_prod(*map(torch.arange, counts.values()))
    shape = (3, size, size) if color else (size, size)
    return Sprites(images, factors, tuple(counts), tuple(counts.values()), shape)


def draw_sprites(
    shape: Int[Tensor, " n"],
    scale: Float[Tensor, " n"],
    orientation: Float[Tensor, " n"],
    x: Float[Tensor, " n"],
    y: Float[Tensor, " n"],
    size: int,
) -> Float[Tensor, "n pixels"]:
    """Gray sprites of any factors, one an entry: index of the shape, scale (1 is half the image), radians, center (x, y).

    x goes right and y down, from 0 to 1 across the image. A pixel is the share of it that the sprite covers, up to what the
    edge's curvature and corners change. Raises ValueError for another shape than 0, 1, 2.
    """
    if not ((shape >= 0) & (shape < len(SHAPES))).all():
        raise ValueError(f"shapes are 0, 1 and 2, for {', '.join(SHAPES)}; got {shape.unique().tolist()}")
    pixel = (torch.arange(size, dtype=x.dtype, device=x.device) + 0.5) / size
    across, down = (pixel - x[:, None])[:, None, :], (pixel - y[:, None])[:, :, None]
    cos, sin = (f(orientation)[:, None, None] for f in (torch.cos, torch.sin))
    radius = RADIUS * scale[:, None, None]
    u, v = (cos * across + sin * down) / radius, (cos * down - sin * across) / radius  # the sprite's own frame
    images = torch.empty(len(x), size, size, dtype=x.dtype, device=x.device)
    for kind, distance in enumerate((_square, _ellipse, _heart)):
        rows = shape == kind
        if rows.any():
            images[rows] = (0.5 - distance(u[rows], v[rows]) * radius[rows] * size).clamp(0, 1)
    return images.flatten(1)


# The signed distance to each figure's edge, negative inside. Each lies in the unit disk and touches its rim.


def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) - 0.5**0.5


def _ellipse(u: Tensor, v: Tensor) -> Tensor:
    """Semi-axes 1 and 1/2: (q - 1) q / |grad q^2 / 2|, the distance to first order."""
    q = (u**2 + (2 * v) ** 2).sqrt()
    return (q - 1) * q / (u**2 + (4 * v) ** 2).sqrt().clamp_min(1e-6)


def _heart(u: Tensor, v: Tensor) -> Tensor:
    """A square on its corner with a half disk on each of its upper sides (v goes down)."""
    a = 1.5 * 2**0.5 - 1  # the square's side, for which the lowest corner and both disks touch the rim
    v = v - (1 - a * 0.5**0.5)
    p, q = (u - v) * 0.5**0.5, (u + v) * 0.5**0.5
    square = torch.maximum(p.abs(), q.abs()) - a / 2
    right = ((p - a / 2) ** 2 + q**2).sqrt() - a / 2
    left = (p**2 + (q + a / 2) ** 2).sqrt() - a / 2
    return torch.minimum(square, torch.minimum(right, left))


def _hues(n: int) -> Float[Tensor, "n 3"]:
    """n saturated colors, evenly spaced around the wheel from red."""
    wheel = 6 * torch.arange(n)[:, None] / n
    return (((wheel - torch.tensor([0, 2, 4]) + 3) % 6 - 3).abs() - 1).mul(-1).add(1).clamp(0, 1)
