"""Data as rows: of one tensor, or of several of one length."""

import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vaecourse.inputs import tensor

Data = Tensor | tuple[Tensor, ...]
"""Data points are the rows of a tensor, or of several of one length, as (images, labels)."""


def each(function: Callable[[Tensor], Tensor], data: Data) -> Data:
    """The same done to each tensor of the data."""
    return tuple(map(function, data)) if isinstance(data, tuple) else function(data)


def parts(data: Data) -> tuple[Tensor, ...]:
    """The tensors of the data, one or several."""
    return data if isinstance(data, tuple) else (data,)


def tensors(data: Data) -> Data:
    """The data without the graph that they may carry, and NumPy arrays as tensors."""
    return each(lambda part: tensor(part).detach() if isinstance(part, Tensor | np.ndarray) else part, data)


def check(data: Data) -> None:
    """Raises TypeError for data that are no tensors of floats or int64; ValueError where they are empty, not finite, uneven."""
    for part in parts(data):
        if not isinstance(part, Tensor) or not (part.is_floating_point() or part.dtype == torch.int64):
            kind = part.dtype if isinstance(part, Tensor) else type(part).__name__
            raise TypeError(
                f"data must be a tensor of floats (or of int64: labels, codes), one row a data point, or a tuple of such; "
                f"got {kind}. Integer pixels: data / 255"
            )
        if len(part) == 0:
            raise ValueError("data is empty: there is nothing to train on")
        if not part.isfinite().all():
            bad = (~part.isfinite()).reshape(len(part), -1).any(1).nonzero()[0].item()
            raise ValueError(f"data must be finite; row {bad} is the first with NaN or infinity")
    if len({len(part) for part in parts(data)}) > 1:
        raise ValueError(f"tensors of one data set have one row a data point; got {[len(part) for part in data]} rows")


def fingerprint(data: Data) -> str:
    """The shape of the data and a checksum of their content."""
    contents = ((part.shape, part.detach().cpu().contiguous().view(torch.uint8).numpy()) for part in parts(data))
    return ", ".join(f"{list(shape)} {zlib.crc32(content):08x}" for shape, content in contents)
