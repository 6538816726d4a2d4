"""The generative adversarial network (Goodfellow et al., 2014): a generator and a critic, and no encoder."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse.avae.critic import Critic, non_saturating
from vaecourse.randomness import normal
from vaecourse.training import Turn


class GAN(nn.Module):
    """x_G = G(z), z ~ N(0, I), against a critic.

    generator: (batch, latents) -> (batch, pixels). `objective` is what the generator minimizes, from the critic's logits:
    `non_saturating`, `saturating` or `log_ratio`.
    """

    def __init__(
        self,
        generator: nn.Module,
        critic: Critic,
        latents: int,
        objective: Callable[[Tensor], Tensor] = non_saturating,
    ):
        super().__init__()
        self.generator, self.critic = generator, critic
        self.latents, self.objective = latents, objective

    def turns(self) -> list[Turn]:
        """The critic moves first, so that the generator meets a critic that has seen it as it is."""
        return [
            Turn("critic", self.critic_loss, list(self.critic.parameters())),
            Turn("generator", self.generator_loss, list(self.generator.parameters())),
        ]

    def critic_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """What the critic minimizes: as many new images as real ones, to be told apart (eq-avae-critic-loss)."""
        return self.critic.loss((x, self.sample(len(x), generator)))

    def generator_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """What the generator minimizes: its objective, over as many new images as the batch has (eq-avae-non-saturating)."""
        x_G = self.generator(normal((len(x), self.latents), x, generator))
        return {"loss": self.objective(self.critic(x_G)).mean()}

    @torch.no_grad()
    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n pixels"]:
        """New images, without gradients."""
        like = next(self.parameters())
        return self.generator(normal((n, self.latents), like, generator))
