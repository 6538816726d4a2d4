"""Where all noise of the book is drawn: from an explicit generator, on its device, the same for any number of processes.

A generator on the CPU serves a model on a GPU: the noise is drawn there and moved. In a training run of several processes
each draws the noise of the whole batch and keeps its own rows, so that the run's figures do not depend on their number.
"""

from collections.abc import Callable

import torch
from jaxtyping import Int64
from torch import Generator, Tensor

from vaecourse import processes
from vaecourse.inputs import whole


class SharedGenerator(Generator):
    """A generator that is in the same state in all processes; draws with a batch are drawn for the whole batch, and shared."""


def generator(seed: int, device: torch.device | str = "cpu") -> Generator:
    """A generator with that seed; one that the processes share where there are several."""
    return (SharedGenerator if processes.count() > 1 else Generator)(torch.device(device)).manual_seed(whole(seed))


def own_generator(seed: int) -> Generator:
    """A generator on the CPU with that seed that no other process has a part in: what is drawn once, and whole, in each."""
    return Generator().manual_seed(whole(seed))


def _draw(
    kind: Callable[..., Tensor], shape: tuple[int, ...], like: Tensor, generator: Generator | None, batch_axis: int | None
) -> Tensor:
    device = like.device if generator is None else generator.device
    dtype = like.dtype if like.is_floating_point() else torch.get_default_dtype()
    if batch_axis is None or not isinstance(generator, SharedGenerator):
        return kind(shape, generator=generator, device=device, dtype=dtype).to(like.device)
    rows = shape[batch_axis]
    whole = (*shape[:batch_axis], rows * processes.count(), *shape[batch_axis + 1 :])
    drawn = kind(whole, generator=generator, device=device, dtype=dtype)
    return drawn.narrow(batch_axis, processes.rank() * rows, rows).to(like.device)


def normal(shape: tuple[int, ...], like: Tensor, generator: Generator | None = None, batch_axis: int | None = 0) -> Tensor:
    """Standard normal noise of that shape, of the type and on the device of `like`.

    `batch_axis`: the axis along which each data point has its own noise; None where one draw serves all data points.
    """
    return _draw(torch.randn, shape, like, generator, batch_axis)


def uniform(shape: tuple[int, ...], like: Tensor, generator: Generator | None = None, batch_axis: int | None = 0) -> Tensor:
    """Noise that is uniform on [0, 1), of that shape, of the type and on the device of `like`; `batch_axis` as in `normal`."""
    return _draw(torch.rand, shape, like, generator, batch_axis)


def indices(
    options: int,
    shape: tuple[int, ...],
    like: Tensor,
    generator: Generator | None = None,
    batch_axis: int | None = 0,
) -> Int64[Tensor, "*shape"]:
    """Numbers from 0 to options - 1, each as likely, on the device of `like`; `batch_axis` as in `normal`.

    Raises ValueError where there is nothing to choose from.
    """
    if options < 1:
        raise ValueError(f"there must be at least one option to choose from, got {options}")
    return (uniform(shape, like, generator, batch_axis) * options).long()
