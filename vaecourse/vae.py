"""The variational autoencoder (Kingma and Welling, 2014; Rezende, Mohamed and Wierstra, 2014).

Images are rows, (batch, pixels), codes are rows, (batch, latents). Every likelihood, bound and divergence is in nats per
image, summed over pixels or latents; averages are taken over images only.
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse import importance
from vaecourse.distributions import Bernoulli, Normal, refusing
from vaecourse.inputs import onto, tensor, whole
from vaecourse.networks import BernoulliNetwork, GaussianNetwork, by_rows, initial_weights, mlp


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

    `encoder` maps (batch, pixels) to a Normal over `latents` codes; `decoder` maps (batch, latents) to a Bernoulli or Normal
    over `pixels`. Both are given rows, whatever the axes of the codes to be decoded, on the device and of the type of the
    parameters.
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
        return Normal.standard(next(self.parameters()).new_empty(n, self.latents))

    def encode(self, x: Float[Tensor, "batch pixels"]) -> Normal:
        """q(z | x). Raises ValueError where x is not (batch, pixels)."""
        x = onto(self, x)
        if x.ndim != 2 or x.shape[1] != self.pixels:
            raise ValueError(f"images must be rows, (batch, {self.pixels}); got {tuple(x.shape)}. Flatten them: x.flatten(1)")
        return self.encoder(x)

    def decode(self, z: Float[Tensor, "*batch latents"]) -> Bernoulli | Normal:
        """p(x | z). Raises ValueError where the last axis of z is not the latents."""
        z = onto(self, z)
        if z.ndim == 0 or z.shape[-1] != self.latents:
            raise ValueError(f"codes must end in {self.latents} latents; got shape {tuple(z.shape)}")
        return by_rows(self.decoder, z)

    def log_joint(
        self, x: Float[Tensor, "batch pixels"], z: Float[Tensor, "*draws batch latents"]
    ) -> Float[Tensor, "*draws batch"]:
        """log p(x, z) = log p(x | z) + log p(z) in nats, for codes z of each image (eq-vae-model).

        Raises ValueError where the last axis of z is not the latents.
        """
        x, z = onto(self, x), onto(self, z)
        return self.decode(z).log_prob(x) + self.prior(len(x)).log_prob(z)

    def elbo(self, x: Float[Tensor, "batch pixels"], draws: int = 1, generator: Generator | None = None) -> ELBO:
        """The bound by L^B, -KL(q(z | x) || p(z)) + the mean of log p(x | z) over draws z ~ q(z | x).

        The rate is in closed form, the distortion from draws. Nats per image. Raises ValueError for draws < 1, and where x is
        not (batch, pixels). Equation eq-vae-estimator-b; Kingma and Welling (2014), equation 7.
        """
        x = onto(self, x)
        q = self.encode(x)
        z = importance.draw(q, draws, generator)
        return ELBO(distortion=-self.decode(z).log_prob(x).mean(0), rate=q.kl_to_standard())

    def elbo_a(
        self, x: Float[Tensor, "batch pixels"], draws: int = 1, generator: Generator | None = None
    ) -> Float[Tensor, " batch"]:
        """The estimator L^A of the bound: the mean of log p(x, z) - log q(z | x), all of it from draws (eq-vae-estimator-a).

        Kingma and Welling (2014), equation 6. Nats per image. Its gradient may vary less than that of L^B, as in
        eq-vae-variance-example, or more. Raises ValueError for draws < 1, and where x is not (batch, pixels).
        """
        return self.log_weights(x, draws, generator).mean(0)

    def log_weights(
        self, x: Float[Tensor, "batch pixels"], draws: int = 1, generator: Generator | None = None
    ) -> Float[Tensor, "draws batch"]:
        """log w = log p(x | z) + log p(z) - log q(z | x) in nats, z ~ q(z | x), for each draw and image.

        Raises ValueError for draws < 1, and where x is not (batch, pixels).
        """
        return importance.log_weights(partial(self.log_joint, x), self.encode(x), draws, generator)

    def iwae_bound(
        self, x: Float[Tensor, "batch pixels"], draws: int, generator: Generator | None = None
    ) -> Float[Tensor, " batch"]:
        """log((w_1 + ... + w_k) / k), k draws: a lower bound that rises to log p(x) with k (eq-vae-iwae).

        Burda, Grosse and Salakhutdinov (2016), equation 8; the order in k is eq-vae-iwae-order. Nats per image; one draw is
        the estimator L^A. Raises ValueError for draws < 1, and where x is not (batch, pixels).
        """
        return importance.log_mean(self.log_weights(x, draws, generator))

    def loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """What training minimizes: -ELBO by L^B with one draw, averaged over the batch, and its parts (eq-vae-aevb)."""
        elbo = self.elbo(x, generator=generator)
        distortion, rate = elbo.distortion.mean(), elbo.rate.mean()
        return {"loss": distortion + rate, "distortion": distortion, "rate": rate}

    def generate(
        self, z: Float[Tensor, "*batch latents"], generator: Generator | None = None
    ) -> Float[Tensor, "*batch pixels"]:
        """An image for each code: the decoder's mean, so nothing is drawn. Raises ValueError for codes of another width."""
        return self.decode(z).mean

    @torch.no_grad()
    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n pixels"]:
        """New images: the decoder's means at n codes drawn from the prior."""
        return self.generate(self.prior(n).sample(generator), generator)

    @torch.no_grad()
    def reconstruct(
        self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None
    ) -> Float[Tensor, "batch pixels"]:
        """The decoder's mean at the code's mean. Raises ValueError where x is not (batch, pixels)."""
        return self.generate(self.encode(x).mean, generator)

    @torch.no_grad()
    def active_units(self, x: Float[Tensor, "n pixels"], threshold: float = 0.01) -> int:
        """How many latents are in use: those whose posterior mean varies over the data by more than the threshold.

        Burda, Grosse and Salakhutdinov (2016), section 5.2. Raises ValueError for fewer than 2 images.
        """
        if len(x) < 2:
            raise ValueError(f"a variance over the data needs at least 2 images, got {len(x)}")
        return int((self.encode(x).mean.var(0) > threshold).sum())


class IWAE(VAE):
    """A VAE trained on the importance-weighted bound with so many draws; one draw is the estimator L^A.

    Raises ValueError for draws < 1.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, pixels: int, latents: int, draws: int):
        super().__init__(encoder, decoder, pixels, latents)
        if draws < 1:
            raise ValueError(f"draws, the number an image, must be at least 1; got {draws}")
        self.draws = draws

    def loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """-log((w_1 + ... + w_k) / k), minus the bound with k draws, averaged over the batch (eq-vae-iwae)."""
        return {"loss": -self.iwae_bound(x, self.draws, generator).mean()}


def _encoder(pixels: int, latents: int, hidden: tuple[int, ...]) -> GaussianNetwork:
    return GaussianNetwork(mlp(pixels, *hidden, 2 * latents))


def bernoulli_vae(
    pixels: int, latents: int, hidden: tuple[int, ...] = (128, 128), *, seed: int = 0, kind: type[VAE] = VAE, **settings
) -> VAE:
    """The chapter's model for binary pixels: hidden tanh layers both ways, the decoder's in reverse order.

    `seed` sets the initial weights and touches no other randomness. `kind` is what these networks are trained as, a VAE or a
    subclass, and the settings are its own: bernoulli_vae(64, 8, kind=BetaVAE, beta=4.0).
    """
    with initial_weights(seed):
        decoder = BernoulliNetwork(mlp(latents, *reversed(hidden), pixels))
        return kind(_encoder(pixels, latents, hidden), decoder, pixels, latents, **settings)


def gaussian_vae(
    pixels: int,
    latents: int,
    hidden: tuple[int, ...] = (128, 128),
    *,
    log_sigma: float | nn.Parameter | None = 0.0,
    seed: int = 0,
    kind: type[VAE] = VAE,
    **settings,
) -> VAE:
    """The chapter's model for real-valued pixels; `log_sigma` is the decoder's: fixed, shared or learned (GaussianNetwork).

    `seed` sets the initial weights and touches no other randomness; `kind` and settings are those of a subclass, if any.
    """
    outputs = pixels if log_sigma is not None else 2 * pixels
    with initial_weights(seed):
        decoder = GaussianNetwork(mlp(latents, *reversed(hidden), outputs), log_sigma)
        return kind(_encoder(pixels, latents, hidden), decoder, pixels, latents, **settings)


@dataclass(frozen=True)
class Score:
    """How a model does on held-out images; nats per image, averaged over images."""

    negative_elbo: float
    distortion: float
    rate: float
    nll: float
    """-log p(x), bounded from above by minus the importance-weighted bound with all draws."""
    active_units: int


@torch.no_grad()
@refusing
def evaluate(
    model: VAE,
    x: Float[Tensor, "n pixels"],
    draws: int = 500,
    generator: Generator | None = None,
    *,
    decodes: int = 50_000,
) -> Score:
    """Score a VAE on images x with so many draws an image; `decodes` bounds the codes decoded at once, and so the memory.

    Distortion and rate are those of L^B (eq-vae-estimator-b), nll is minus the importance-weighted bound (eq-vae-iwae), both
    from the same draws. Raises ValueError for draws < 1, fewer than 2 images, where x is not (n, pixels), and for pixels
    outside [0, 1] where they are coin flips.
    """
    x, draws, decodes = tensor(x, "x"), whole(draws), whole(decodes)
    if draws < 1:
        raise ValueError(f"draws, the number an image, must be at least 1; got {draws}")
    if len(x) < 2:
        raise ValueError(f"evaluate averages over images, and needs at least 2 for their variances; got {len(x)}")
    distortion, rate, bound = [], [], []
    for batch in onto(model, x).split(max(1, decodes // draws)):
        q = model.encode(batch)
        z = importance.draw(q, draws, generator)
        log_likelihood = model.decode(z).log_prob(batch)
        log_weights = log_likelihood + model.prior(len(batch)).log_prob(z) - q.log_prob(z)
        distortion.append(-log_likelihood.mean(0))
        rate.append(q.kl_to_standard())
        bound.append(importance.log_mean(log_weights))
    d, r, b = (torch.cat(parts).double().mean().item() for parts in (distortion, rate, bound))
    return Score(d + r, d, r, -b, model.active_units(x))
