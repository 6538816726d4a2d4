"""What every score asks of codes and factors, and what it says where they are wrong."""

import torch
from torch import Tensor


def values(factors: Tensor) -> list[Tensor]:
    """Each factor's values as indices 0, 1, ..., whatever integers they are; (n, factors) -> one (n,) a factor.

    Raises TypeError where they are not integers, ValueError where they are not (n, factors) or where a factor never varies.
    """
    if not isinstance(factors, Tensor) or factors.is_floating_point() or factors.is_complex() or factors.dtype == torch.bool:
        kind = factors.dtype if isinstance(factors, Tensor) else type(factors).__name__
        raise TypeError(f"factors must be a tensor of integers, (n, factors): which value each has; got {kind}")
    if factors.ndim != 2 or factors.numel() == 0:
        raise ValueError(f"factors must be rows, (n, factors), at least one of each; got shape {tuple(factors.shape)}")
    found = [column.unique(return_inverse=True) for column in factors.unbind(1)]
    for number, (different, _) in enumerate(found):
        if len(different) < 2:
            raise ValueError(f"factor {number} has one value only: nothing can tell it. Leave its column out")
    return [index for _, index in found]


def codes_and_values(codes: Tensor, factors: Tensor, least: int = 1) -> tuple[Tensor, list[Tensor]]:
    """The codes in double precision without a graph, and each factor's values on their device.

    Raises TypeError or ValueError where codes are not finite floats, (n, latents), with `least` latents and one row for each of
    the factors', and as `values` does.
    """
    if not isinstance(codes, Tensor) or not codes.is_floating_point():
        kind = codes.dtype if isinstance(codes, Tensor) else type(codes).__name__
        raise TypeError(f"codes must be a tensor of floats, (n, latents): posterior means, or draws; got {kind}")
    if codes.ndim != 2 or codes.shape[1] < least:
        reason = ": a gap is between the best two" if least > 1 else ""
        raise ValueError(f"codes must be (n, latents) with at least {least} latents{reason}; got shape {tuple(codes.shape)}")
    indices = values(factors)
    if len(codes) != len(factors):
        raise ValueError(f"codes and factors have one row an image; got {len(codes)} and {len(factors)} rows")
    finite = codes.isfinite().all(1)
    if not finite.all():
        raise ValueError(f"codes must be finite; row {int((~finite).nonzero()[0])} is the first with NaN or infinity")
    return codes.detach().double(), [index.to(codes.device) for index in indices]


def standardized(codes: Tensor) -> Tensor:
    """Each latent less its mean, over its standard deviation; a latent that never varies becomes zero."""
    centered = codes - codes.mean(0)
    deviation = centered.square().mean(0).sqrt()
    varies = deviation > 1e-12 * codes.abs().amax(0)
    return torch.where(varies, centered / torch.where(varies, deviation, 1.0), 0.0)
