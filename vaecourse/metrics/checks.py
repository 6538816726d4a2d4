"""What every metric asks of its input, and what it says where the input is wrong."""

import torch
from torch import Tensor


def rows(features: Tensor, name: str, least: int, reason: str = "") -> Tensor:
    """The features in double precision, without a graph, if they are (n, d), finite floats with at least `least` rows.

    Raises TypeError or ValueError otherwise; `reason` says what the rows are needed for.
    """
    if not isinstance(features, Tensor) or not features.is_floating_point():
        kind = features.dtype if isinstance(features, Tensor) else type(features).__name__
        raise TypeError(f"{name} must be a tensor of floats, one row a sample; got {kind}")
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(
            f"{name} must be rows of features, (n, d); got shape {tuple(features.shape)}. Flatten: {name}.flatten(1)"
        )
    if len(features) < least:
        raise ValueError(f"{name} has {len(features)} rows, and at least {least} are needed{reason}")
    finite = torch.isfinite(features).all(1)
    if not finite.all():
        bad = int(finite.logical_not().nonzero()[0])
        raise ValueError(f"{name} must be finite; row {bad} is the first with NaN or infinity")
    return features.detach().double()


def pair(a: Tensor, b: Tensor, names: tuple[str, str], least: int, reason: str = "") -> tuple[Tensor, Tensor]:
    """Two samples of features of one width, checked by `rows`, on one device."""
    first, second = rows(a, names[0], least, reason), rows(b, names[1], least, reason)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{names[0]} and {names[1]} must have features of one width; got {first.shape[1]} and {second.shape[1]}. "
            "Use one feature network for both"
        )
    return first, second.to(first.device)
