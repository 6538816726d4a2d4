"""Codes in, images out, and no noise between: what GAN, VAE/GAN and BiGAN share."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse.avae.average import Average
from vaecourse.distributions import Normal, Point
from vaecourse.inputs import onto
from vaecourse.networks import by_rows


def rows(x: Float[Tensor, "batch pixels"], pixels: int) -> Float[Tensor, "batch pixels"]:
    """The images as they are, if they are rows of that many pixels; ValueError otherwise."""
    if x.ndim != 2 or x.shape[1] != pixels:
        raise ValueError(f"images must be rows, (batch, {pixels}); got {tuple(x.shape)}. Flatten them: x.flatten(1)")
    return x


class Pushforward(nn.Module):
    """The law of network(z) for z ~ N(0, I), network: (batch, latents) -> (batch, pixels), which a model calls G or D.

    `decay` is that of the average of its weights, with which images are made after training; at 0 there is none. Raises
    ValueError where it is not in [0, 1).
    """

    def __init__(self, network: nn.Module, pixels: int, latents: int, decay: float):
        super().__init__()
        self.pixels, self.latents, self.average = pixels, latents, Average(network, decay)

    @property
    def learner(self) -> nn.Module:
        """The network that the game moves."""
        raise NotImplementedError

    @property
    def network(self) -> nn.Module:
        """The network; after training the average of what it was, if there is one."""
        return self.learner if self.training else self.average.of(self.learner)

    def after_step(self, generator: Generator) -> None:
        """Move the average."""
        self.average.follow(self.learner)

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
