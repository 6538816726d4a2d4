"""The adversarial variational autoencoder (Plumerault, Le Borgne and Hudelot, 2020): a VAE, a generator and a critic.

The encoder E and the decoder D are a VAE. The generator G(z, z_a) is to invert the encoder: z is what the encoder could say of
an image, z_a ~ N(0, I) what it could not. G minimizes the cross-entropy between what it makes of a code z of the prior and the
images that the encoder would give this code, which is

    L_G = E[-log q(z | x_G)] + KL(p_G || p_data) + H(p_G) + E_p(z) log q(z),

q(z) being the encoder's aggregate. The first term is a cost in codes, the second is read off the critic, the third is left
out (to make it small would sharpen modes), and the last does not depend on G.
"""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse.avae.average import Average
from vaecourse.avae.critic import Critic, log_ratio
from vaecourse.distributions import Bernoulli, Normal
from vaecourse.inputs import onto
from vaecourse.randomness import normal
from vaecourse.training import Turn
from vaecourse.vae import VAE


class AVAE(nn.Module):
    """A VAE (E and D), G and C. E, D and G minimize one sum, L_vae + weight * L_G; the critic has its own loss.

    L_G is eq-avae-generator-loss. The mean rate in L_vae is information, and the aggregate's distance from the prior
    (eq-avae-information-split).

    G: (batch, latents + noise) -> (batch, pixels), `noise` being the width of z_a. Who learns from what follows from the sum:
    D from L_vae, G from L_G, and E from L_vae and from the cost of codes in L_G, which asks it to find again the code of a
    generated image. E_p(z) log q(z), which is constant for G alone, is not in the loss: nobody can compute it, and it would
    reward E for an aggregate that misses the prior (eq-avae-constant).

    `code_weight` is that of the cost of codes within L_G: the less it is, the truer the pictures, and the less a code is kept.
    `decay` is that of the average of G's weights, with which images are made after training; at 0 there is none.
    """

    def __init__(
        self,
        vae: VAE,
        G: nn.Module,
        C: Critic,
        noise: int,
        *,
        weight: float = 1.0,
        code_weight: float = 1.0,
        decay: float = 0.0,
    ):
        super().__init__()
        if noise < 0 or weight < 0 or code_weight < 0:
            given = f"got {noise}, {weight} and {code_weight}"
            raise ValueError(f"noise, the width of z_a, and the weights of L_G and of its codes must not be negative; {given}")
        self.vae, self.G, self.C = vae, G, C
        self.pixels, self.latents = vae.pixels, vae.latents
        self.noise, self.weight, self.code_weight = noise, weight, code_weight
        self.average = Average(G, decay)

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.vae.device

    def turns(self) -> list[Turn]:
        """The critic first, so that its log-ratio is of G as it is; then the three that share one loss."""
        return [
            Turn("C", self.C_loss, list(self.C.parameters())),
            Turn("EDG", self.EDG_loss, [*self.vae.parameters(), *self.G.parameters()]),
        ]

    def prior(self, n: int) -> Normal:
        """p(z) = N(0, I), for n codes."""
        return self.vae.prior(n)

    def encode(self, x: Float[Tensor, "batch pixels"]) -> Normal:
        """q(z | x), by E. Raises ValueError where x is not (batch, pixels)."""
        return self.vae.encode(x)

    def decode(self, z: Float[Tensor, "*batch latents"]) -> Bernoulli | Normal:
        """p(x | z), by D. Raises ValueError where the last axis of z is not the latents."""
        return self.vae.decode(z)

    def generate(self, z: Float[Tensor, "batch latents"], generator: Generator | None = None) -> Float[Tensor, "batch pixels"]:
        """x_G = G(z, z_a), with z_a ~ N(0, I) drawn afresh. Raises ValueError where z is not (batch, latents)."""
        if z.ndim != 2 or z.shape[1] != self.latents:
            raise ValueError(f"codes must be rows, (batch, {self.latents}); got {tuple(z.shape)}")
        z = onto(self, z)
        z_a = normal((len(z), self.noise), z, generator)
        G = self.G if self.training else self.average.of(self.G)
        return G(torch.cat([z, z_a], -1))

    def code_cost(self, x_G: Float[Tensor, "batch pixels"], z: Float[Tensor, "batch latents"]) -> Float[Tensor, " batch"]:
        """-log q(z | x_G) in nats: the sum over latents of (z - mu)^2 / (2 sigma^2) + log sigma + log(2 pi) / 2.

        Raises ValueError where x_G is not (batch, pixels). Without log sigma, G and E would gain by making sigma large.
        Equation eq-avae-code-cost.
        """
        return -self.encode(x_G).log_prob(z)

    def EDG_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """L_vae + weight * L_G, without L_G's entropy, and its parts, in nats.

        L_vae = E[-log p(x | z)] + E[KL(q(z | x) || p(z))], L_G = code_weight E[-log q(z | x_G)] + E[-logit C(x_G)]. Raises
        ValueError where x is not (batch, pixels). Equation eq-avae-total.
        """
        elbo = self.vae.elbo(x, generator=generator)
        z = self.prior(len(x)).sample(generator)
        x_G = self.generate(z, generator)
        distortion, rate = elbo.distortion.mean(), elbo.rate.mean()
        code, ratio = self.code_cost(x_G, z).mean(), log_ratio(self.C(x_G)).mean()
        loss = distortion + rate + self.weight * (self.code_weight * code + ratio)
        return {"loss": loss, "distortion": distortion, "rate": rate, "code": code, "log_ratio": ratio}

    def after_step(self, generator: Generator) -> None:
        """Move G's average."""
        self.average.follow(self.G)

    def C_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """E[-log C(x)] + E[-log(1 - C(x_G))], with as many images of G as real ones (eq-avae-critic-loss); nats.

        Raises ValueError where x has not as many pixels as G makes.
        """
        return self.C.loss((onto(self, x), self.sample(len(x), generator)))

    @torch.no_grad()
    def reconstruct(
        self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None
    ) -> Float[Tensor, "batch pixels"]:
        """G at the code's mean, with a z_a of its own. Raises ValueError where x is not (batch, pixels).

        The decoder's, `vae.reconstruct(x)`, is under squared error at best the mean of the images that share the code
        (eq-avae-conditional-mean).
        """
        return self.generate(self.encode(x).mean, generator)

    @torch.no_grad()
    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n pixels"]:
        """New images, G(z, z_a) with z from the prior."""
        return self.generate(self.prior(n).sample(generator), generator)
