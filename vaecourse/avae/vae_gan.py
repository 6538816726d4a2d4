"""VAE/GAN (Larsen, Sonderby, Larochelle and Winther, 2016): a VAE that measures its error in a critic's features."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse.avae.critic import Critic, non_saturating
from vaecourse.avae.pushforward import Pushforward, rows
from vaecourse.distributions import Normal
from vaecourse.inputs import onto
from vaecourse.training import Turn


class VAEGAN(Pushforward):
    """An encoder E, q(z | x), a decoder D that is a generator as well, and a critic C whose features replace the pixels.

    E: (batch, pixels) -> Normal over latents; D: (batch, latents) -> (batch, pixels). `weight` is that of the error in features
    beside the critic's verdict in the decoder's loss; `decay` is that of the average of D's weights.
    """

    def __init__(
        self, E: nn.Module, D: nn.Module, C: Critic, pixels: int, latents: int, *, weight: float = 1.0, decay: float = 0.0
    ):
        super().__init__(D, pixels, latents, decay)
        self.E, self.D, self.C, self.weight = E, D, C, weight

    @property
    def learner(self) -> nn.Module:
        """D."""
        return self.D

    def turns(self) -> list[Turn]:
        """Three players: the critic's verdict does not reach E, nor the error in features C."""
        return [
            Turn("C", self.C_loss, list(self.C.parameters())),
            Turn("E", self.E_loss, list(self.E.parameters())),
            Turn("D", self.D_loss, list(self.D.parameters())),
        ]

    def encode(self, x: Float[Tensor, "batch pixels"]) -> Normal:
        """q(z | x). Raises ValueError where x is not (batch, pixels)."""
        return self.E(rows(onto(self, x), self.pixels))

    def feature_error(
        self, x: Float[Tensor, "batch pixels"], features: Float[Tensor, "batch features"]
    ) -> Float[Tensor, " batch"]:
        """-log N(f(x); features, I) without its constant, 1/2 |f(x) - features|^2, f the critic's features; nats.

        Equation eq-avae-feature-error; Larsen et al. (2016).
        """
        with torch.no_grad():
            target = self.C.body(onto(self, x))
        return 0.5 * ((target - features) ** 2).sum(-1)

    def E_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """The error in features, and the rate: E[1/2 |f(x) - f(D(z_q))|^2] + E[KL(q(z | x) || N(0, I))]; nats.

        Raises ValueError where x is not (batch, pixels).
        """
        q = self.encode(x)
        error = self.feature_error(x, self.C.body(self.generate(q.sample(generator)))).mean()
        rate = q.kl_to_standard().mean()
        return {"loss": error + rate, "error": error, "rate": rate}

    def D_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """weight * E[1/2 |f(x) - f(D(z_q))|^2] + E[-log C(D(z))], z of the batch and of the prior, half and half; nats.

        Raises ValueError where x is not (batch, pixels).
        """
        features = self.C.body(self.generate(self._codes(x, generator)))
        error = self.feature_error(x, features[: len(x)]).mean()
        verdict = non_saturating(self.C.judge(features)).mean()
        return {"loss": self.weight * error + verdict, "error": error, "verdict": verdict}

    def C_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """E[-log C(x)] + E[-log(1 - C(D(z)))], z of the batch and of the prior, half and half (eq-avae-critic-loss); nats.

        Raises ValueError where x is not (batch, pixels).
        """
        with torch.no_grad():
            fake = self.generate(self._codes(x, generator))
        return self.C.loss((onto(self, x), fake))

    @torch.no_grad()
    def _codes(self, x: Tensor, generator: Generator | None) -> Tensor:
        """Codes of the batch, then as many from the prior: (2 batch, latents)."""
        return torch.cat([self.encode(x).sample(generator), self.prior(len(x)).sample(generator)])

    @torch.no_grad()
    def reconstruct(
        self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None
    ) -> Float[Tensor, "batch pixels"]:
        """D at the code's mean; it holds no noise for a generator. Raises ValueError where x is not (batch, pixels)."""
        return self.generate(self.encode(x).mean, generator)
