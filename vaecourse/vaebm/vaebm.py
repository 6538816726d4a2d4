"""The VAEBM: p(x, z) proportional to p_vae(x, z) exp(-E(x)), sampled in the VAE's noise (Xiao et al., 2021)."""

from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse import samplers
from vaecourse.distributions import Normal
from vaecourse.inputs import onto
from vaecourse.vae import VAE
from vaecourse.vaebm.chains import Chains
from vaecourse.vaebm.ebm import EBM
from vaecourse.vaebm.energy import EnergyNetwork


class VAEBM(EBM):
    """h(x, z) = p_vae(x, z) exp(-E(x)) / Z, the VAE frozen (eq-vaebm-joint).

    Stage one trains the VAE by its ELBO; stage two trains E by `training.fit`, as for any `EBM`. T maps eps = (eps_x, eps_z)
    to x = mu(z) + sigma(z) eps_x with z = eps_z, mu and sigma the decoder's; chains have the width `width(vae)`. The settings
    are the EBM's. The VAE given is copied. Raises TypeError where its decoder is no Normal.

    `encode` is the VAE's, and the VAEBM's too: h(z | x) = p_vae(z | x), since E does not look at z. `decode` is p_vae(x | z)
    alone. Under h an image of a given code, and the code itself, have laws that E bends and nobody can draw from without a
    chain: there is no `prior`, `generate` or `reconstruct`.
    """

    def __init__(self, vae: VAE, energy: EnergyNetwork, chains: Chains, **settings: float | int | Tensor):
        super().__init__(energy, self.width(vae), chains, **settings)
        self.vae = deepcopy(vae).requires_grad_(False).eval()
        parameter = next(vae.parameters())
        if not isinstance(self.vae.decode(parameter.new_zeros(1, vae.latents)), Normal):
            raise TypeError("x must be a smooth function of noise: the VAE's decoder has to return a Normal")

    def train(self, mode: bool = True) -> "VAEBM":
        """Set the energy to training or to use; the frozen VAE stays in use, and its batch statistics as they are."""
        super().train(mode)
        self.vae.eval()
        return self

    @staticmethod
    def width(vae: VAE) -> int:
        """The width of eps = (eps_x, eps_z)."""
        return vae.pixels + vae.latents

    @staticmethod
    def blocks(vae: VAE, of_x: float, of_z: float) -> Float[Tensor, " dim"]:
        """A number for each coordinate of eps = (eps_x, eps_z), for instance a step: one for those of x, one for those of z."""
        return torch.tensor([of_x] * vae.pixels + [of_z] * vae.latents)

    @property
    def pixels(self) -> int:
        """Numbers in an image."""
        return self.vae.pixels

    @property
    def latents(self) -> int:
        """Numbers in a code."""
        return self.vae.latents

    def encode(self, x: Float[Tensor, "batch pixels"]) -> Normal:
        """q(z | x), the VAE's. Raises ValueError where x is not (batch, pixels)."""
        return self.vae.encode(x)

    def decode(self, z: Float[Tensor, "*batch latents"]) -> Normal:
        """p_vae(x | z), without the energy. Raises ValueError where the last axis of z is not the latents."""
        return self.vae.decode(z)

    def split(self, eps: Float[Tensor, "batch dim"]) -> tuple[Float[Tensor, "batch pixels"], Float[Tensor, "batch latents"]]:
        """eps_x and eps_z."""
        return eps[:, : self.pixels], eps[:, self.pixels :]

    def transform(self, eps: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch pixels"]:
        """x = mu(z) + sigma(z) eps_x, z = eps_z (eq-vaebm-transform)."""
        eps_x, z = self.split(eps)
        p = self.decode(z)
        return p.mu + p.log_sigma.exp() * eps_x

    def inverse(self, x: Float[Tensor, "batch pixels"], z: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch dim"]:
        """eps = ((x - mu(z)) / sigma(z), z), which T maps to (x, z) (eq-vaebm-transform)."""
        p = self.decode(z)
        return torch.cat([p.standardized(x), z], dim=-1)

    def data_potential(self, xz: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """The same model in its own coordinates: E(x) - log p(x | z) - log p(z) in nats (eq-vaebm-data-potential).

        For chains in (x, z) only. Used for eps, at (x, z) = T(eps), it has the sum of log sigma(z) too much: the logarithm of
        T's Jacobian, which densities lose on the way from x to eps.
        """
        x, z = self.split(xz)
        energy = self.energy if self.training else self.average
        return energy(x) - self.decode(z).log_prob(x) - self.vae.prior(len(z)).log_prob(z)

    def denoised(self, eps: Float[Tensor, "batch dim"], noise: float) -> Float[Tensor, "batch pixels"]:
        """x + s^2 grad_x log h(x, z) at (x, z) = T(eps): the mean of clean data given x, for data to which N(0, s^2) was added.

        s = `noise`, in pixels. For a chain's last move, where E was trained on such data (eq-vaebm-denoised). It is the law of
        Robbins and Miyasawa for each z, as far as h(x | z) is that of noisy data (Jolicoeur-Martineau et al., 2021).
        """
        x, z = self.transform(eps), self.split(eps)[1]
        gradient = samplers.at(lambda x: self.data_potential(torch.cat([x, z], -1)), x).gradient
        return x.detach() - noise**2 * gradient

    def bound(
        self, x: Float[Tensor, "batch pixels"], log_normalizer: Float[Tensor, ""], generator: Generator | None = None
    ) -> Float[Tensor, " batch"]:
        """ELBO(x) - E(x) - log Z, a lower bound of log h(x) in nats, one a point; the ELBO is the VAE's (eq-vaebm-bound).

        The ELBO is its estimate by one draw; the gap is the VAE's own. `log_normalizer` gives log Z: an estimate that is too
        low makes the bound too high.
        """
        energy, x = self.energy if self.training else self.average, onto(self.energy, x)
        return self.vae.elbo(x, generator=generator).value - energy(x) - log_normalizer

    def sample_in_data_space(
        self, n: int, generator: Generator | None = None, *, steps: int, step: float
    ) -> Float[Tensor, "n pixels"]:
        """As `sample`, from the same starts, by chains in (x, z): how it goes without the change of coordinates.

        Moves (x, z) <- (x, z) - h/2 grad U + sqrt(h) noise, h = step and U the `data_potential`. Raises SamplerDiverged where a
        chain leaves the finite numbers, and ValueError for n, steps or step that cannot be right.
        """
        eps = self.noise(n, generator)
        with torch.no_grad():
            xz = torch.cat([self.transform(eps), self.split(eps)[1]], dim=-1)
        xz, _ = samplers.langevin(self.data_potential, xz, step=step, steps=steps, every=steps, generator=generator)
        return self.split(xz)[0]


class GeneratorStep(nn.Module):
    """The optional third stage: a copy G of the decoder moved towards the VAEBM by KL, as a GAN's generator is.

    KL(p_G(x, z) || h(x, z)) = E_z KL(p_G(x | z) || p_vae(x | z)) + E_{p_G} E(x) + log Z, since both have the prior p(z)
    (eq-vaebm-generator-kl; an extension that Xiao et al., 2021, propose; here h keeps the VAE's old weights). The first term
    is closed form for each z drawn, the second a reparameterized draw. log Z does not depend on G and is left out, so the
    loss is the KL up to that constant. No entropy of p_G(x) is estimated: the joint KL bounds that of x from above, and its
    first term takes the entropy's place. At G = the decoder that term and its gradient are zero: the first step follows
    E(x) alone.
    """

    def __init__(self, model: VAEBM):
        super().__init__()
        self.model = deepcopy(model).requires_grad_(False)
        self.G = deepcopy(model.vae.decoder).requires_grad_(True)

    def loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """KL(p_G(x, z) || h(x, z)) - log Z in nats, from as many draws as x has rows; the data are not looked at."""
        vae = self.model.vae
        z = vae.prior(len(x)).sample(generator)
        p = self.G(z)
        energy = self.model.average(p.sample(generator)).mean()
        kl = p.kl(vae.decode(z)).mean()
        return {"loss": energy + kl, "energy": energy, "kl": kl}

    @torch.no_grad()
    def start(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n dim"]:
        """Where chains of the VAEBM start from G's points: eps such that T(eps) is G's (x, z)."""
        z = self.model.vae.prior(n).sample(generator)
        return self.model.inverse(self.G(z).sample(generator), z)
