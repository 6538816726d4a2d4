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

from vaecourse.avae.critic import Critic, log_ratio
from vaecourse.randomness import normal
from vaecourse.training import Turn
from vaecourse.vae import VAE


class AVAE(nn.Module):
    """The four networks. E, D and G minimize one sum, L_vae + weight * L_G; the critic has its own loss.

    L_G is eq-avae-generator-loss. The mean rate in L_vae is information, and the aggregate's distance from the prior
    (eq-avae-information-split).

    generator: (batch, latents + noise) -> (batch, pixels), `noise` being the width of z_a. Who learns from what follows from
    the sum: D from L_vae, G from L_G, and E from L_vae and from the cost of codes in L_G, which asks it to find again the code
    of a generated image. E_p(z) log q(z), which is constant for G alone, is not in the loss: nobody can compute it, and it
    would reward E for an aggregate that misses the prior (eq-avae-constant).
    """

    def __init__(self, vae: VAE, generator: nn.Module, critic: Critic, noise: int, weight: float = 1.0):
        super().__init__()
        if noise < 0 or weight < 0:
            raise ValueError(f"noise, the width of z_a, and the weight of L_G must not be negative; got {noise} and {weight}")
        self.vae, self.generator, self.critic = vae, generator, critic
        self.noise, self.weight = noise, weight

    def turns(self) -> list[Turn]:
        """The critic first, so that its log-ratio is of the generator as it is; then the three that share one loss."""
        return [
            Turn("critic", self.critic_loss, list(self.critic.parameters())),
            Turn("model", self.model_loss, [*self.vae.parameters(), *self.generator.parameters()]),
        ]

    def generate(self, z: Float[Tensor, "batch latents"], generator: Generator | None = None) -> Float[Tensor, "batch pixels"]:
        """x_G = G(z, z_a), with z_a drawn afresh. Raises ValueError where z is not (batch, latents)."""
        if z.ndim != 2 or z.shape[1] != self.vae.latents:
            raise ValueError(f"codes must be rows, (batch, {self.vae.latents}); got {tuple(z.shape)}")
        z_a = normal((len(z), self.noise), z, generator)
        return self.generator(torch.cat([z, z_a], -1))

    def code_cost(self, x_G: Float[Tensor, "batch pixels"], z: Float[Tensor, "batch latents"]) -> Float[Tensor, " batch"]:
        """-log q(z | x_G) in nats: the sum over latents of (z - mu)^2 / (2 sigma^2) + log sigma + log(2 pi) / 2.

        Equation eq-avae-code-cost. Without log sigma, G and E would gain by making sigma large.
        """
        return -self.vae.encode(x_G).log_prob(z)

    def model_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """L_vae + weight * L_G, without L_G's entropy (eq-avae-total), and its parts, in nats."""
        elbo = self.vae.elbo(x, generator=generator)
        z = self.vae.prior(len(x)).sample(generator)
        x_G = self.generate(z, generator)
        distortion, rate = elbo.distortion.mean(), elbo.rate.mean()
        code, ratio = self.code_cost(x_G, z).mean(), log_ratio(self.critic(x_G)).mean()
        loss = distortion + rate + self.weight * (code + ratio)
        return {"loss": loss, "distortion": distortion, "rate": rate, "code": code, "log_ratio": ratio}

    def critic_loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """Real images against as many of the generator's (eq-avae-critic-loss)."""
        return self.critic.loss((x, self.sample(len(x), generator)))

    @torch.no_grad()
    def reconstruct(
        self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None
    ) -> Float[Tensor, "batch pixels"]:
        """The generator at the code's mean, with a z_a of its own.

        The decoder's, `vae.reconstruct(x)`, is under squared error at best the mean of the images that share the code
        (eq-avae-conditional-mean).
        """
        return self.generate(self.vae.encode(x).mean, generator)

    @torch.no_grad()
    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n pixels"]:
        """New images, G(z, z_a) with z from the prior."""
        return self.generate(self.vae.prior(n).sample(generator), generator)
