"""How much of an image is fine detail: what blur takes away."""

import torch
from jaxtyping import Float
from torch import Tensor


def high_frequency_energy(x: Float[Tensor, "n pixels"], shape: tuple[int, int], *, above: float = 0.25) -> Float[Tensor, " n"]:
    """The sum of |F_k|^2 over waves k of more than `above` a pixel, F_k = (1 / pixels) sum of x_j exp(-2 pi i k.j); per image.

    It is the part of the image's mean square a pixel that lies at such waves. With no bound (above = -1.0) it is that mean
    square itself, by Parseval. Color is a further axis of x: pass one channel at a time. Raises ValueError where the rows are
    not images of that shape, (height, width). Equation eq-avae-high-frequency.
    """
    height, width = shape
    if x.shape[-1] != height * width:
        raise ValueError(f"rows must have {height * width} entries, for images {height} x {width}; got {tuple(x.shape)}")
    down, across = (torch.fft.fftfreq(side, device=x.device, dtype=x.dtype) for side in shape)
    high = (down[:, None] ** 2 + across**2).sqrt() > above
    spectrum = torch.fft.fft2(x.reshape(-1, height, width), norm="forward").abs() ** 2
    return (spectrum * high).sum((1, 2))
