"""The variational autoencoder (Kingma and Welling, 2014; Rezende, Mohamed and Wierstra, 2014).

Images are rows, (batch, pixels), codes are rows, (batch, latents). Every likelihood, bound and divergence is in nats per
image, summed over pixels or latents; averages are taken over images only.
"""

from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse.distributions import Bernoulli, Normal
from vaecourse.networks import BernoulliNetwork, GaussianNetwork, mlp


@dataclass(frozen=True)
class ELBO:
    """The evidence lower bound in its two parts, one number per image, in nats (eq-vae-elbo-parts)."""

    distortion: Float[Tensor, "*batch"]
    """-E_q log p(x | z): what the reconstruction costs."""

    rate: Float[Tensor, "*batch"]
    """KL(q(z | x) || p(z)): what the code costs. Its mean over the data splits in two (eq-vae-rate-split)."""

    @property
    def value(self) -> Float[Tensor, "*batch"]:
        """The bound itself, -(distortion + rate)."""
        return -(self.distortion + self.rate)


class VAE(nn.Module):
    """A decoder p(x | z), an encoder q(z | x) and the prior p(z) = N(0, I) (eq-vae-model).

    `encoder` maps (batch, pixels) to a Normal over `latents` codes; `decoder` maps (..., latents) to a Bernoulli or Normal
    over `pixels`.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, pixels: int, latents: int):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.pixels, self.latents = pixels, latents

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    def prior(self, n: int) -> Normal:
        """p(z) = N(0, I), for n codes."""
        zeros = next(self.parameters()).new_zeros(n, self.latents)
        return Normal(zeros, zeros)

    def encode(self, x: Float[Tensor, "batch pixels"]) -> Normal:
        """q(z | x). Raises ValueError where x is not (batch, pixels)."""
        if x.ndim != 2 or x.shape[1] != self.pixels:
            raise ValueError(f"images must be rows, (batch, {self.pixels}); got {tuple(x.shape)}. Flatten them: x.flatten(1)")
        return self.encoder(x.to(self.device))

    def decode(self, z: Float[Tensor, "*batch latents"]) -> Bernoulli | Normal:
        """p(x | z). Raises ValueError where the last axis of z is not the latents."""
        if z.shape[-1] != self.latents:
            raise ValueError(f"codes must end in {self.latents} latents; got shape {tuple(z.shape)}")
        return self.decoder(z.to(self.device))

    def elbo(
        self,
        x: Float[Tensor, "batch pixels"],
        generator: Generator | None = None,
        samples: int = 1,
    ) -> ELBO:
        """The bound by L^B: the rate in closed form, the distortion from draws.

        Equation eq-vae-estimator-b; Kingma and Welling (2014), equation 7.
        """
        x = x.to(self.device)
        q = self.encode(x)
        z = q.sample(generator, shape=(samples,))
        return ELBO(distortion=-self.decode(z).log_prob(x).mean(0), rate=q.kl_to_standard())

    def elbo_a(
        self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None, samples: int = 1
    ) -> Float[Tensor, " batch"]:
        """The estimator L^A of the bound: log p(x, z) - log q(z | x), all of it from draws (eq-vae-estimator-a).

        Kingma and Welling (2014), equation 6. Nats per image. Its gradient may vary less than that of L^B, as in
        eq-vae-variance-example, or more.
        """
        return self.log_weights(x, generator, samples).mean(0)

    def log_weights(
        self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None, samples: int = 1
    ) -> Float[Tensor, "samples batch"]:
        """log w = log p(x | z) + log p(z) - log q(z | x) in nats, z ~ q(z | x), for each draw and image."""
        x = x.to(self.device)
        q = self.encode(x)
        z = q.sample(generator, shape=(samples,))
        return self.decode(z).log_prob(x) + self.prior(len(x)).log_prob(z) - q.log_prob(z)

    def iwae_bound(
        self, x: Float[Tensor, "batch pixels"], k: int, generator: Generator | None = None
    ) -> Float[Tensor, " batch"]:
        """log of the mean of k importance weights: a lower bound that rises to log p(x) with k (eq-vae-iwae).

        Burda, Grosse and Salakhutdinov (2016), equation 8; the order in k is eq-vae-iwae-order. Nats per image; k = 1 is the
        estimator L^A.
        """
        return self.log_weights(x, generator, k).logsumexp(0) - log(k)

    def loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """What training minimizes: -ELBO by L^B with one draw, averaged over the batch, and its parts (eq-vae-aevb)."""
        elbo = self.elbo(x, generator)
        distortion, rate = elbo.distortion.mean(), elbo.rate.mean()
        return {"loss": distortion + rate, "distortion": distortion, "rate": rate}

    @torch.no_grad()
    def reconstruct(self, x: Float[Tensor, "batch pixels"]) -> Float[Tensor, "batch pixels"]:
        """The decoder's mean at the code's mean."""
        return self.decode(self.encode(x).mean).mean

    @torch.no_grad()
    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n pixels"]:
        """New images: the decoder's means at n codes drawn from the prior."""
        return self.decode(self.prior(n).sample(generator)).mean

    @torch.no_grad()
    def active_units(self, x: Float[Tensor, "n pixels"], threshold: float = 0.01) -> int:
        """How many latents are in use: those whose posterior mean varies over the data by more than the threshold.

        Burda, Grosse and Salakhutdinov (2016), section 5.2. Needs n >= 2.
        """
        if len(x) < 2:
            raise ValueError(f"a variance over the data needs at least 2 images, got {len(x)}")
        return int((self.encode(x).mean.var(0) > threshold).sum())


class IWAE(VAE):
    """A VAE trained on the importance-weighted bound with k draws; k = 1 is the estimator L^A."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, pixels: int, latents: int, k: int):
        super().__init__(encoder, decoder, pixels, latents)
        self.k = k

    def loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """Minus the bound with k draws, averaged over the batch (eq-vae-iwae)."""
        return {"loss": -self.iwae_bound(x, self.k, generator).mean()}


def _encoder(pixels: int, latents: int, hidden: tuple[int, ...]) -> GaussianNetwork:
    return GaussianNetwork(mlp(pixels, *hidden, 2 * latents))


def bernoulli_vae(pixels: int, latents: int, hidden: tuple[int, ...] = (128, 128), seed: int = 0) -> VAE:
    """The chapter's model for binary pixels: hidden tanh layers both ways, the decoder's in reverse order.

    `seed` sets the initial weights and touches no other randomness.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = BernoulliNetwork(mlp(latents, *reversed(hidden), pixels))
        return VAE(_encoder(pixels, latents, hidden), decoder, pixels, latents)


def gaussian_vae(
    pixels: int,
    latents: int,
    hidden: tuple[int, ...] = (128, 128),
    log_sigma: float | nn.Parameter | None = 0.0,
    seed: int = 0,
) -> VAE:
    """The chapter's model for real-valued pixels; `log_sigma` is the decoder's: fixed, shared or learned (GaussianNetwork)."""
    outputs = pixels if log_sigma is not None else 2 * pixels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = GaussianNetwork(mlp(latents, *reversed(hidden), outputs), log_sigma)
        return VAE(_encoder(pixels, latents, hidden), decoder, pixels, latents)


@dataclass(frozen=True)
class Score:
    """How a model does on held-out images; nats per image, averaged over images."""

    negative_elbo: float
    distortion: float
    rate: float
    nll: float
    """-log p(x), bounded from above by the importance-weighted bound with k draws."""
    active_units: int


@torch.no_grad()
def evaluate(
    model: VAE, x: Float[Tensor, "n pixels"], k: int = 500, generator: Generator | None = None, decodes: int = 50_000
) -> Score:
    """Score a VAE on images x with k draws an image; `decodes` bounds the codes decoded at once, and so the memory.

    -ELBO is averaged over the same k draws. Raises ValueError for k < 1.
    """
    if k < 1:
        raise ValueError(f"k, the draws an image, must be at least 1, got {k}")
    distortion, rate, bound = [], [], []
    for batch in x.to(model.device).split(max(1, decodes // k)):
        q = model.encode(batch)
        z = q.sample(generator, shape=(k,))
        log_likelihood = model.decode(z).log_prob(batch)
        log_weights = log_likelihood + model.prior(len(batch)).log_prob(z) - q.log_prob(z)
        distortion.append(-log_likelihood.mean(0))
        rate.append(q.kl_to_standard())
        bound.append(log_weights.logsumexp(0) - log(k))
    d, r, b = (torch.cat(parts).double().mean().item() for parts in (distortion, rate, bound))
    return Score(d + r, d, r, -b, model.active_units(x))
