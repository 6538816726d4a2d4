"""Codes in, images out, and no noise between: what GAN, VAE/GAN and BiGAN share."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse.distributions import Normal, Point
from vaecourse.inputs import onto
from vaecourse.networks import by_rows


def rows(x: Float[Tensor, "batch pixels"], pixels: int) -> Float[Tensor, "batch pixels"]:
    """The images as they are, if they are rows of that many pixels; ValueError otherwise."""
    if x.ndim != 2 or x.shape[1] != pixels:
        raise ValueError(f"images must be rows, (batch, {pixels}); got {tuple(x.shape)}. Flatten them: x.flatten(1)")
    return x


class Pushforward(nn.Module):
    """The law of network(z) for z ~ N(0, I)."""

    network: nn.Module
    """(batch, latents) -> (batch, pixels): what a model calls G or D."""

    def __init__(self, pixels: int, latents: int):
        super().__init__()
        self.pixels, self.latents = pixels, latents

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    def prior(self, n: int) -> Normal:
        """p(z) = N(0, I), for n codes."""
        return Normal.standard(next(self.parameters()).new_zeros(n, self.latents))

    def decode(self, z: Float[Tensor, "*batch latents"]) -> Point:
        """p(x | z), all of it on network(z). Raises ValueError where the last axis of z is not the latents."""
        z = onto(self, z)
        if z.ndim == 0 or z.shape[-1] != self.latents:
            raise ValueError(f"codes must end in {self.latents} latents; got shape {tuple(z.shape)}")
        return Point(by_rows(self.network, z))

    def generate(
        self, z: Float[Tensor, "*batch latents"], generator: Generator | None = None
    ) -> Float[Tensor, "*batch pixels"]:
        """The image of each code, network(z), whatever the generator. Raises ValueError where z is not (..., latents)."""
        return self.decode(z).mean

    @torch.no_grad()
    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n pixels"]:
        """New images, network(z) with z from the prior; without gradients."""
        return self.generate(self.prior(n).sample(generator))
