"""Textures: images with detail everywhere, that no few numbers describe."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from vaecourse.randomness import normal, own_generator

KINDS = ("grain", "waves", "wood")


def textures(kind: str, n: int, *, size: int = 16, seed: int = 0) -> Float[Tensor, "n pixels"]:
    """n gray images of a surface, size x size, each another piece of it; over the surface gray levels fill [0, 1] evenly.

    - grain: Gaussian noise, smoothed over half a pixel: nearly each pixel is a degree of freedom of its own.
    - waves: Gaussian noise of wavelengths about five pixels that runs nearly downwards.
    - wood: growth rings that run nearly upright, five pixels apart, bent by slow noise, and fine upright fibers.

    Raises ValueError for an unknown kind, n < 1, or a size below 4.
    """
    if kind not in KINDS or n < 1 or size < 4:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, n at least 1, size at least 4; got {kind!r}, {n}, {size}")
    generator = own_generator(seed)
    if kind == "grain":
        surface = _noise(n, size, generator, lambda x, y: _band(x, 0.0, 0.3) * _band(y, 0.0, 0.3))
    elif kind == "waves":
        surface = _noise(n, size, generator, lambda x, y: _band(x, 0.0, 0.06) * _band(y, 0.2, 0.05))
    else:
        bend = _noise(n, size, generator, lambda x, y: _band(x, 0.0, 0.04) * _band(y, 0.0, 0.02))
        fiber = _noise(n, size, generator, lambda x, y: _band(y, 0.0, 0.06))
        turns = torch.arange(size) / 5 + 0.4 * bend + 10 * normal((n, 1, 1), bend, generator)
        rings = torch.special.ndtri((2 * turns.frac().abs() - 1).abs().clamp(1e-6, 1 - 1e-6))
        surface = (rings + 0.4 * fiber) / (1 + 0.4**2) ** 0.5
    return torch.special.ndtr(surface).flatten(1)  # a standard normal's distribution function: even gray levels


def _band(frequency: Tensor, center: float, width: float) -> Tensor:
    """Frequencies, in waves per pixel, near the center or its negative."""
    return (-0.5 * ((frequency.abs() - center) / width) ** 2).exp()


def _noise(
    n: int, size: int, generator: Generator, amplitude: Callable[[Tensor, Tensor], Tensor]
) -> Float[Tensor, "n size size"]:
    """Gaussian noise of unit variance, with that amplitude at each frequency across and down: pieces of a periodic whole."""
    whole = 2 * size  # what is opposite in a piece has then nothing to do with each other
    down, across = torch.fft.fftfreq(whole)[:, None], torch.fft.rfftfreq(whole)[None, :]
    white = torch.fft.rfft2(normal((n, whole, whole), torch.empty(0), generator))
    kernel = amplitude(across, down).expand(white.shape[1:])
    colored = torch.fft.irfft2(white * kernel, s=(whole, whole))
    power = torch.fft.irfft2(kernel**2, s=(whole, whole))[0, 0]  # the variance that this filter leaves of white noise
    return colored[:, :size, :size] / power.sqrt()
