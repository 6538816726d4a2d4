"""VAE/GAN (Larsen, Sonderby, Larochelle and Winther, 2016): a VAE that measures its error in a critic's features."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse.avae.critic import Critic, non_saturating, rows
from vaecourse.distributions import Normal
from vaecourse.randomness import normal
from vaecourse.training import Turn


class VAEGAN(nn.Module):
    """An encoder q(z | x), a decoder that is a generator as well, and a critic whose features replace the pixels.

    encoder: (batch, pixels) -> Normal over latents; decoder: (batch, latents) -> (batch, pixels). `weight` is that of the
    error in features beside the critic's verdict in the decoder's loss.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, critic: Critic, pixels: int, latents: int, weight: float = 1.0):
        super().__init__()
        self.encoder, self.decoder, self.critic = encoder, decoder, critic
        self.pixels, self.latents, self.weight = pixels, latents, weight

    def turns(self) -> list[Turn]:
        """Three players: the critic's verdict does not reach the encoder, nor the error in features the critic."""
        return [
            Turn("critic", self.critic_loss, list(self.critic.parameters())),
            Turn("encoder", self.encoder_loss, list(self.encoder.parameters())),
            Turn("decoder", self.decoder_loss, list(self.decoder.parameters())),
        ]

    def encode(self, x: Float[Tensor, "batch pixels"]) -> Normal:
        """q(z | x). Raises ValueError where x is not (batch, pixels)."""
        return self.encoder(rows(x, self.pixels))

    def feature_error(
        self, x: Float[Tensor, "batch pixels"], features: Float[Tensor, "batch features"]
    ) -> Float[Tensor, " batch"]:
        """-log N(f(x); features, I) without its constant: half the squared error in the critic's features, in nats.

        Equation eq-avae-feature-error; Larsen et al. (2016).
        """
        with torch.no_grad():
            target = self.critic.body(x)
        return 0.5 * ((target - features) ** 2).sum(-1)

    def encoder_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """The error in features, and the rate."""
        q = self.encode(x)
        error = self.feature_error(x, self.critic.body(self.decoder(q.sample(generator)))).mean()
        rate = q.kl_to_standard().mean()
        return {"loss": error + rate, "error": error, "rate": rate}

    def decoder_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """The weighted error in features, and the critic's verdict on reconstructions and new images alike."""
        features = self.critic.body(self.decoder(self._codes(x, generator)))
        error = self.feature_error(x, features[: len(x)]).mean()
        verdict = non_saturating(self.critic.judge(features)).mean()
        return {"loss": self.weight * error + verdict, "error": error, "verdict": verdict}

    def critic_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """Real images against reconstructions and new images together, half and half (eq-avae-critic-loss)."""
        with torch.no_grad():
            fake = self.decoder(self._codes(x, generator))
        return self.critic.loss((x, fake))

    @torch.no_grad()
    def _codes(self, x: Tensor, generator: Generator | None) -> Tensor:
        """Codes of the batch, then as many from the prior: (2 batch, latents)."""
        return torch.cat([self.encode(x).sample(generator), normal((len(x), self.latents), x, generator)])

    @torch.no_grad()
    def reconstruct(self, x: Float[Tensor, "batch pixels"]) -> Float[Tensor, "batch pixels"]:
        """The decoder at the code's mean."""
        return self.decoder(self.encode(x).mean)

    @torch.no_grad()
    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n pixels"]:
        """New images."""
        return self.decoder(normal((n, self.latents), next(self.parameters()), generator))
