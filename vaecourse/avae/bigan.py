"""BiGAN (Donahue, Krahenbuhl and Darrell, 2017; Dumoulin et al., 2017): a critic of pairs of image and code."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse.avae.critic import PairCritic, critic_loss
from vaecourse.avae.pushforward import Pushforward, rows
from vaecourse.distributions import Normal
from vaecourse.inputs import onto
from vaecourse.training import Turn


class BiGAN(Pushforward):
    """An encoder E, q(z | x), and a generator G(z) that meet only in the critic C, which sees (x, z) pairs of both.

    E: (batch, pixels) -> Normal over latents; G: (batch, latents) -> (batch, pixels). At the game's fixed point
    q(z | x) p_data(x) = p_G(x | z) p(z): E and G are each other's inverse, with no error in pixels. `decay` is that of the
    average of G's weights.
    """

    def __init__(self, E: nn.Module, G: nn.Module, C: PairCritic, pixels: int, latents: int, *, decay: float = 0.0):
        super().__init__(G, pixels, latents, decay)
        self.E, self.G, self.C = E, G, C

    @property
    def learner(self) -> nn.Module:
        """G."""
        return self.G

    def turns(self) -> list[Turn]:
        """The critic, then E and G, which are on one side."""
        return [
            Turn("C", self.C_loss, list(self.C.parameters())),
            Turn("EG", self.EG_loss, [*self.E.parameters(), *self.G.parameters()]),
        ]

    def encode(self, x: Float[Tensor, "batch pixels"]) -> Normal:
        """q(z | x). Raises ValueError where x is not (batch, pixels)."""
        return self.E(rows(onto(self, x), self.pixels))

    def pairs(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """What the critic is to tell apart: x with z_q ~ q(z | x), and x_G = G(z) with z ~ N(0, I); rows, image before code."""
        x = onto(self, x)
        z_q = self.encode(x).sample(generator)
        z = self.prior(len(x)).sample(generator)
        return torch.cat([x, z_q], -1), torch.cat([self.generate(z), z], -1)

    def EG_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """The critic's loss with both answers exchanged: E[-log(1 - C(x, z_q))] + E[-log C(x_G, z)] (eq-avae-bigan); nats.

        Raises ValueError where x is not (batch, pixels).
        """
        real, fake = self.C.both(*self.pairs(x, generator))
        return {"loss": critic_loss(real=fake, fake=real)}

    def C_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """E[-log C(x, z_q)] + E[-log(1 - C(x_G, z))] (eq-avae-bigan); nats. Donahue et al. (2017), equation 3.

        Raises ValueError where x is not (batch, pixels).
        """
        with torch.no_grad():
            pairs = self.pairs(x, generator)
        return self.C.loss(pairs)

    @torch.no_grad()
    def reconstruct(
        self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None
    ) -> Float[Tensor, "batch pixels"]:
        """G at the code's mean; it holds no noise for a generator. Raises ValueError where x is not (batch, pixels)."""
        return self.generate(self.encode(x).mean, generator)
