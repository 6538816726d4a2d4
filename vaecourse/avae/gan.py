"""The generative adversarial network (Goodfellow et al., 2014): a generator G and a critic C, and no encoder."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse.avae.critic import Critic, non_saturating
from vaecourse.avae.pushforward import Pushforward
from vaecourse.inputs import onto
from vaecourse.training import Turn


class GAN(Pushforward):
    """x_G = G(z), z ~ N(0, I), against a critic.

    G: (batch, latents) -> (batch, pixels). `objective` is what G minimizes, from the critic's logits: `non_saturating`,
    `saturating` or `log_ratio`; `decay` is that of the average of G's weights.
    """

    def __init__(
        self,
        G: nn.Module,
        C: Critic,
        pixels: int,
        latents: int,
        *,
        objective: Callable[[Tensor], Tensor] = non_saturating,
        decay: float = 0.0,
    ):
        super().__init__(G, pixels, latents, decay)
        self.G, self.C, self.objective = G, C, objective

    @property
    def learner(self) -> nn.Module:
        """G."""
        return self.G

    def turns(self) -> list[Turn]:
        """The critic moves first, so that G meets a critic that has seen it as it is."""
        return [
            Turn("C", self.C_loss, list(self.C.parameters())),
            Turn("G", self.G_loss, list(self.G.parameters())),
        ]

    def C_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """E[-log C(x)] + E[-log(1 - C(x_G))], with as many new images as real ones (eq-avae-critic-loss); nats.

        Raises ValueError where x has not as many pixels as G makes.
        """
        return self.C.loss((onto(self, x), self.sample(len(x), generator)))

    def G_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """E[-log C(x_G)], or another objective, over as many new images as the batch has (eq-avae-non-saturating); nats."""
        x_G = self.generate(self.prior(len(x)).sample(generator))
        return {"loss": self.objective(self.C(x_G)).mean()}
