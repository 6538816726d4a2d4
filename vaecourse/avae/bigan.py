"""BiGAN (Donahue, Krahenbuhl and Darrell, 2017; Dumoulin et al., 2017): a critic of pairs of image and code."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse.avae.critic import PairCritic, critic_loss, rows
from vaecourse.distributions import Normal
from vaecourse.randomness import normal
from vaecourse.training import Turn


class BiGAN(nn.Module):
    """An encoder q(z | x) and a generator G(z) that meet only in the critic, which sees (x, z) pairs of both.

    encoder: (batch, pixels) -> Normal over latents; generator: (batch, latents) -> (batch, pixels). At the game's fixed
    point q(z | x) p_data(x) = p_G(x | z) p(z): encoder and generator are each other's inverse, with no error in pixels.
    """

    def __init__(self, encoder: nn.Module, generator: nn.Module, critic: PairCritic, pixels: int, latents: int):
        super().__init__()
        self.encoder, self.generator, self.critic = encoder, generator, critic
        self.pixels, self.latents = pixels, latents

    def turns(self) -> list[Turn]:
        """The critic, then encoder and generator, which are on one side."""
        allies = [*self.encoder.parameters(), *self.generator.parameters()]
        return [
            Turn("critic", self.critic_loss, list(self.critic.parameters())),
            Turn("autoencoder", self.autoencoder_loss, allies),
        ]

    def encode(self, x: Float[Tensor, "batch pixels"]) -> Normal:
        """q(z | x). Raises ValueError where x is not (batch, pixels)."""
        return self.encoder(rows(x, self.pixels))

    def pairs(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """What the critic is to tell apart: x with a draw from q(z | x), and G(z) with z; rows, the code behind the image."""
        z_q = self.encode(x).sample(generator)
        z = normal((len(x), self.latents), x, generator)
        return torch.cat([x, z_q], -1), torch.cat([self.generator(z), z], -1)

    def autoencoder_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """The critic's loss with both answers exchanged: -E log(1 - C(x, z_q)) - E log C(x_G, z) (eq-avae-bigan)."""
        real, fake = self.critic.both(*self.pairs(x, generator))
        return {"loss": critic_loss(real=fake, fake=real)}

    def critic_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """-E log C(x, z_q) - E log(1 - C(x_G, z)) (eq-avae-bigan); Donahue et al. (2017), equation 3."""
        with torch.no_grad():
            pairs = self.pairs(x, generator)
        return self.critic.loss(pairs)

    @torch.no_grad()
    def reconstruct(self, x: Float[Tensor, "batch pixels"]) -> Float[Tensor, "batch pixels"]:
        """The generator at the code's mean."""
        return self.generator(self.encode(x).mean)

    @torch.no_grad()
    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n pixels"]:
        """New images."""
        return self.generator(normal((n, self.latents), next(self.parameters()), generator))
