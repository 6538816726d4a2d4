"""Three ways to hold the rate down: at a price, at a capacity, under a limit.

D is the distortion -E_q log p(x | z), R the rate KL(q(z | x) || p(z)), both in nats an image, averaged over images. The limit
is on the average R: one multiplier serves all images. A limit for each image would need a multiplier for each.
"""

from math import isfinite, log

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse import processes
from vaecourse.vae import VAE


def _least(value: float, name: str, strictly: bool = False) -> None:
    if not (isfinite(value) and (value > 0 if strictly else value >= 0)):
        raise ValueError(f"{name} must be {'positive' if strictly else 'at least 0'} and finite; got {value}")


class BetaVAE(VAE):
    """A VAE whose rate has a price: D + beta R, beta nats of distortion for a nat of rate (eq-beta_vae-objective).

    Higgins et al. (2017), equation 4. beta = 1 is the VAE. Along the curve of the best (R, D), beta is minus its slope
    (eq-beta_vae-slope). A decoder N(f(z), c I) has the same minimizers at (c, beta) as at (beta c, 1), eq-beta_vae-exchange: a
    value of beta says nothing without c, or, for Bernoulli pixels, without their number.
    The likelihood does not tell latents from turned ones (eq-beta_vae-turned-model). The diagonal posterior does: in a linear
    model a turn costs eq-beta_vae-turn, for two evenly spread places eq-beta_vae-places; a network's best deviations at a code
    are those of its decoder's slopes (eq-beta_vae-local). Raises ValueError for beta < 0.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, pixels: int, latents: int, beta: float):
        super().__init__(encoder, decoder, pixels, latents)
        _least(beta, "beta, the price of the rate,")
        self.beta = beta

    def loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """D + beta R in nats, averaged over the batch, and its parts."""
        elbo = self.elbo(x, generator=generator)
        distortion, rate = elbo.distortion.mean(), elbo.rate.mean()
        return {"loss": distortion + self.beta * rate, "distortion": distortion, "rate": rate}


class CapacityVAE(VAE):
    """A VAE whose rate is held at a capacity that grows: D + gamma |R - C(t)| (eq-beta_vae-capacity).

    C(t) rises linearly from 0 to `capacity` nats in `steps` steps, and stays. R is the mean over the batch, the whole one where
    several processes share it; with |.| around each image's own rate every image would have to cost the same. R follows C as
    long as gamma is above the price beta at which R = C would be best; else the capacity is not filled.
    Burgess et al. (2018). Raises ValueError for capacity < 0, steps < 1, gamma <= 0.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        pixels: int,
        latents: int,
        capacity: float,
        steps: int,
        *,
        gamma: float = 100.0,
    ):
        super().__init__(encoder, decoder, pixels, latents)
        _least(capacity, "capacity, in nats,")
        _least(gamma, "gamma, the weight of the deviation,", strictly=True)
        if steps < 1:
            raise ValueError(f"steps, in which the capacity is reached, must be at least 1; got {steps}")
        self.capacity, self.steps, self.gamma = capacity, steps, gamma
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @property
    def current(self) -> Float[Tensor, ""]:
        """C(t) = capacity min(t / steps, 1), the capacity at this step, in nats."""
        return self.capacity * (self.step / self.steps).clamp(max=1)

    def loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """D + gamma |R - C(t)| in nats, and D, R and C(t)."""
        elbo = self.elbo(x, generator=generator)
        distortion, rate = elbo.distortion.mean(), processes.total(elbo.rate.mean()) / processes.count()
        capacity = self.current
        loss = distortion + self.gamma * (rate - capacity).abs()
        return {"loss": loss, "distortion": distortion, "rate": rate, "capacity": capacity}

    def after_step(self, generator: Generator) -> None:
        """Let the capacity grow by a step."""
        self.step.add_(1)


class ConstrainedVAE(VAE):
    """A VAE under a limit: minimize D subject to R <= delta, beta being the multiplier (eq-beta_vae-constraint).

    Each step lowers the Lagrangian D + beta (R - delta) over the networks, and then raises it over beta >= 0, in log beta and
    in units of delta: beta <- beta exp(eta (R / delta - 1)), R the mean of the whole batch (eq-beta_vae-multiplier). At rest
    R = delta, or beta has gone to 0 where the limit does not bind. The problem is Higgins et al. (2017), equation 2, who fix
    beta instead of delta; the ascent is that of Rezende and Viola (2018), whose limit is on the distortion.
    `start` is beta's first value: from a low one R falls to delta, from a high one it rises to it, and the two need not end in
    the same codes. eta: too large a value makes R swing around delta. Raises ValueError unless delta, eta, start > 0.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        pixels: int,
        latents: int,
        delta: float,
        *,
        eta: float = 0.01,
        start: float = 1.0,
    ):
        super().__init__(encoder, decoder, pixels, latents)
        _least(delta, "delta, the limit of the rate in nats,", strictly=True)
        _least(eta, "eta, the multiplier's learning rate,", strictly=True)
        _least(start, "start, the multiplier's first value,", strictly=True)
        self.delta, self.eta = delta, eta
        self.register_buffer("log_beta", torch.tensor(log(start)))
        self.register_buffer("latest_rate", torch.zeros(()))

    @property
    def beta(self) -> Float[Tensor, ""]:
        """The multiplier: what a nat of rate costs now."""
        return self.log_beta.exp()

    def loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """The Lagrangian D + beta (R - delta) in nats, and D, R and beta."""
        elbo = self.elbo(x, generator=generator)
        distortion, rate, beta = elbo.distortion.mean(), elbo.rate.mean(), self.beta
        if self.training:
            self.latest_rate.copy_(processes.total(rate.detach()) / processes.count())
        return {"loss": distortion + beta * (rate - self.delta), "distortion": distortion, "rate": rate, "beta": beta}

    def after_step(self, generator: Generator) -> None:
        """beta <- beta exp(eta (R / delta - 1)), R the rate of the batch that the step was taken on."""
        self.log_beta.add_(self.eta * (self.latest_rate / self.delta - 1))


def gaussian_rate_distortion(
    variances: Float[Tensor, " pixels"], c: float, beta: float, *, latents: int | None = None
) -> tuple[float, float]:
    """Rate and distortion in nats of the best linear beta-VAE: reverse water-filling (eq-beta_vae-water).

    `variances` are the eigenvalues of the data's covariance, the decoder is N(W z + m, c I). With the water level beta c, the
    `latents` largest eigenvalues above it cost 1/2 log(lambda / (beta c)) nats each and leave a squared error beta c; all
    others cost nothing and leave lambda (one number: eq-beta_vae-one-number). As long as the latents suffice this is the
    rate-distortion function of a Gaussian source (Cover and Thomas, 2006, theorem 10.3.3).
    Raises ValueError for c <= 0, beta <= 0, variances or latents < 0.
    """
    _least(c, "c, the decoder's variance,", strictly=True)
    _least(beta, "beta, the price of the rate,", strictly=True)
    if variances.ndim != 1 or not (variances >= 0).all() or (latents is not None and latents < 0):
        raise ValueError(f"variances must be a row of numbers >= 0, latents at least 0; got {variances} and {latents}")
    level, largest = beta * c, variances.sort(descending=True).values
    coded = largest[:latents].clamp(min=level)
    rate = 0.5 * (coded / level).log().sum()
    squared_error = largest.sum() - (coded - level).sum()
    return rate.item(), (0.5 * squared_error / c).item() + 0.5 * len(variances) * log(2 * torch.pi * c)


@torch.no_grad()
def traverse(
    model: VAE, x: Float[Tensor, "batch pixels"], values: Float[Tensor, " values"]
) -> Float[Tensor, "batch latents values pixels"]:
    """Decode each image's mean code with one latent at a time set to each of the values: what that latent does."""
    codes = model.encode(x).mean
    latents = codes.shape[1]
    moved = codes[:, None, None, :].repeat(1, latents, len(values), 1)
    each = torch.arange(latents, device=codes.device)
    moved[:, each, :, each] = values.to(codes)
    return model.decode(moved).mean
