"""What people really pass: NumPy's numbers and arrays, tensors of any float type; and whether gradients can be taken."""

from collections.abc import Iterator
from contextlib import contextmanager
from operator import index
from typing import SupportsIndex

import numpy as np
import torch
from torch import Tensor, nn


def whole(number: SupportsIndex) -> int:
    """A whole number as Python's own: NumPy's will do, and a tensor of one. Raises TypeError for any other."""
    return index(number)


def tensor(x: Tensor | np.ndarray, name: str = "data") -> Tensor:
    """A tensor as it is, a NumPy array as one of the same type. Raises TypeError for what is neither."""
    if isinstance(x, np.ndarray | np.generic) and x.dtype.kind in "biuf":
        return torch.from_numpy(np.require(x, x.dtype.newbyteorder("="), ["C", "W"]))
    if not isinstance(x, Tensor):
        kind = f"array of {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"{name} must be a tensor or a NumPy array of numbers, got {kind}: torch.tensor(...)")
    return x


def floats(x: Tensor | np.ndarray, name: str = "data") -> Tensor:
    """The numbers as a tensor for linear algebra, which has no half precision: float16 and bfloat16 become float32.

    Raises TypeError where they are no floats.
    """
    x = tensor(x, name)
    if not x.is_floating_point():
        raise TypeError(f"{name} must be floats, got {x.dtype}: x.float()")
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def onto(module: nn.Module, x: Tensor | np.ndarray) -> Tensor:
    """x where the module's parameters live and, where it holds floats, of their type."""
    x, like = tensor(x), next(module.parameters())
    return x.to(like) if x.is_floating_point() else x.to(like.device)


@contextmanager
def gradients() -> Iterator[None]:
    """Gradients are taken inside, whatever holds outside. Raises ValueError inside torch.inference_mode(), which forbids it."""
    if torch.is_inference_mode_enabled():
        raise ValueError(
            "gradients are needed here (training, or chains that follow a gradient), and torch.inference_mode() rules them out "
            "for all that was made in it: use torch.no_grad() in its place"
        )
    with torch.enable_grad():
        yield
