"""How much of an image is fine detail, and which way it runs: what blur takes away, and what noise does not give back."""

import torch
from jaxtyping import Float
from torch import Tensor


def high_frequency_energy(x: Float[Tensor, "n pixels"], shape: tuple[int, int], *, above: float = 0.25) -> Float[Tensor, " n"]:
    """The sum of |F_k|^2 over waves k of more than `above` a pixel, F_k = (1 / pixels) sum of x_j exp(-2 pi i k.j); per image.

    It is the part of the image's mean square a pixel that lies at such waves. With no bound (above = -1.0) it is that mean
    square itself, by Parseval. Color is a further axis of x: pass one channel at a time. Raises ValueError where the rows are
    not images of that shape, (height, width). Equation eq-avae-high-frequency.
    """
    down, across = _waves(x, shape)
    return (_powers(x, shape) * ((down**2 + across**2).sqrt() > above)).sum((1, 2))


def directional_energy(
    x: Float[Tensor, "n pixels"], shape: tuple[int, int], *, above: float = 0.25
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Of the high-frequency energy, what lies at waves that run more across the image than down it, and the reverse; per image.

    Noise has as much of one as of the other; grain has not. Raises ValueError as `high_frequency_energy` does. Equation
    eq-avae-directional-energy.
    """
    down, across = _waves(x, shape)
    high = _powers(x, shape) * ((down**2 + across**2).sqrt() > above)
    return (high * (across.abs() > down.abs())).sum((1, 2)), (high * (down.abs() > across.abs())).sum((1, 2))


def spectral_distance(x: Float[Tensor, "n pixels"], y: Float[Tensor, "m pixels"], shape: tuple[int, int]) -> Float[Tensor, ""]:
    """The root mean square, over all waves k but the constant, of log(mean |F_k(x)|^2 / mean |F_k(y)|^2).

    Each wave keeps its direction, so blur, noise and grain that runs the wrong way all count; 0 where the mean spectra are the
    same. No power may be zero: it is infinite there. Raises ValueError where the rows are not images of that shape, or there
    are none. Equation eq-avae-spectral-distance.
    """
    if not len(x) or not len(y):
        raise ValueError(f"a mean spectrum needs at least one image, got {len(x)} and {len(y)}")
    ratio = (_powers(x, shape).mean(0) / _powers(y, shape).mean(0)).log()
    return ratio.flatten()[1:].square().mean().sqrt()


def _powers(x: Tensor, shape: tuple[int, int]) -> Float[Tensor, "n height width"]:
    height, width = shape
    if x.ndim != 2 or x.shape[-1] != height * width:
        raise ValueError(f"rows must have {height * width} entries, for images {height} x {width}; got {tuple(x.shape)}")
    return torch.fft.fft2(x.reshape(-1, height, width), norm="forward").abs() ** 2


def _waves(x: Tensor, shape: tuple[int, int]) -> tuple[Float[Tensor, "height 1"], Float[Tensor, " width"]]:
    """Waves a pixel, down the image and across it, of each entry of its transform."""
    down, across = (torch.fft.fftfreq(side, device=x.device, dtype=x.dtype) for side in shape)
    return down[:, None], across
