"""The rate in three parts, and total correlation from a minibatch.

q(z) = 1/N sum_n q(z | x_n), the aggregate posterior of N images. All in nats.
"""

from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse import importance, processes
from vaecourse.distributions import Normal
from vaecourse.inputs import onto
from vaecourse.vae import VAE


def _log_densities(q: Normal, z: Float[Tensor, "rows latents"]) -> Float[Tensor, "rows n latents"]:
    """log q(z_j | x_n) of each row of z under each of the posteriors, one latent at a time."""
    return -0.5 * (q.standardized(z[:, None]) ** 2 + log(2 * torch.pi)) - q.log_sigma


@dataclass(frozen=True)
class RateParts:
    """The mean rate, taken apart (eq-beta_vae-decomposition): E_x KL(q(z | x) || p(z)) is the sum of the three, in nats."""

    information: float
    """I(x; z), what codes tell of images; at most log N."""
    total_correlation: float
    """KL(q(z) || prod_j q(z_j)), what latents tell of each other (eq-beta_vae-total-correlation).

    At least the rate less log N less the marginals (eq-beta_vae-at-least). Of a turned square: eq-beta_vae-turned-square.
    """
    marginals: float
    """sum_j KL(q(z_j) || p(z_j)), how far single latents are from the prior."""


@torch.no_grad()
def rate_parts(q: Normal, draws: int = 1, generator: Generator | None = None, *, chunk: int = 200) -> RateParts:
    """The three parts of the rate of N posteriors (N, latents), q(z) being the exact mean of all N.

    Averages of log q(z | x) - log q(z), log q(z) - sum_j log q(z_j) and sum_j log q(z_j) - log p(z) over `draws` codes of each
    image: each part has Monte Carlo noise, and no bias. N^2 densities, chunk x N x latents at once. Hoffman and Johnson (2016),
    Chen et al. (2018), equation 2. Raises ValueError where q has no batch, or draws < 1.
    """
    if q.mu.ndim != 2 or len(q.mu) == 0:
        raise ValueError(f"posteriors must be (N, latents), at least one; got {tuple(q.mu.shape)}")
    sums = q.mu.new_zeros(3, dtype=torch.float64)
    for z in importance.draw(q, draws, generator):
        for start in range(0, len(z), chunk):
            rows = slice(start, start + chunk)
            own = q[rows].log_prob(z[rows])
            each = _log_densities(q, z[rows])
            joint = each.sum(-1).logsumexp(1) - log(len(q.mu))
            product = (each.logsumexp(1) - log(len(q.mu))).sum(-1)
            prior = Normal.standard(z[rows]).log_prob(z[rows])
            sums += torch.stack([(own - joint).sum(), (joint - product).sum(), (product - prior).sum()])
    return RateParts(*(sums / (draws * len(q.mu))).tolist())


def _gathered(x: Float[Tensor, "batch latents"]) -> Float[Tensor, "whole latents"]:
    """The rows of all processes, with their gradient."""
    whole = x.new_zeros(len(x) * processes.count(), *x.shape[1:])
    first = processes.rank() * len(x)
    whole[first : first + len(x)] = x
    return processes.total(whole)


def batch_total_correlation(q: Normal, z: Float[Tensor, "batch latents"], n: int) -> Float[Tensor, " batch"]:
    """log q(z) - sum_j log q(z_j) in nats for the batch's own draws z ~ q, q(z) estimated from the batch alone.

    Of N images the one that z came from is known, the others of the batch stand for the rest:
    q(z) ~ 1/N q(z | own) + (N - 1) / (N (B - 1)) sum over the others (eq-beta_vae-stratified), unbiased for q(z) and for each
    q(z_j); minibatch stratified sampling, Chen et al. (2018), with equal weights. The logarithms are biased, less
    so for large batches: estimates are for training, `rate_parts` is for measuring. Where several processes share a batch,
    it is the whole one. Raises ValueError for a batch of one, and for n below the batch.
    """
    whole = Normal(_gathered(q.mu), _gathered(q.log_sigma))
    batch = len(whole.mu)
    if batch < 2 or n < batch:
        raise ValueError(f"the images of a batch stand for n: 2 <= batch <= n is needed; got a batch of {batch}, n = {n}")
    own = torch.arange(len(z), device=z.device) + processes.rank() * len(z)
    weights = z.new_full((len(z), batch), (n - 1) / (n * (batch - 1)))
    log_weights = weights.scatter(1, own[:, None], 1 / n).log()
    each = _log_densities(whole, z)
    joint = (log_weights + each.sum(-1)).logsumexp(1)
    return joint - (log_weights[..., None] + each).logsumexp(1).sum(-1)


class BetaTCVAE(VAE):
    """A VAE that pays for total correlation alone: D + R + (beta - 1) TC, TC from the batch (eq-beta_vae-tc-objective).

    Chen et al. (2018), equation 4 with alpha = gamma = 1. `n` is the number of images trained on. beta = 1 is the VAE.
    Raises ValueError for beta < 0 or n < 2; in training for a batch of one, or one larger than n.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, pixels: int, latents: int, beta: float, n: int):
        super().__init__(encoder, decoder, pixels, latents)
        if not 0 <= beta < float("inf") or n < 2:
            raise ValueError(f"beta must be at least 0 and finite, n, the images trained on, at least 2; got {beta} and {n}")
        self.beta, self.n = beta, n

    def loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """D + R + (beta - 1) TC in nats, averaged over the batch, and its parts."""
        x = onto(self, x)
        q = self.encode(x)
        z = q.sample(generator)
        distortion, rate = -self.decode(z).log_prob(x).mean(), q.kl_to_standard().mean()
        correlation = batch_total_correlation(q, z, self.n).mean()
        loss = distortion + rate + (self.beta - 1) * correlation
        return {"loss": loss, "distortion": distortion, "rate": rate, "total_correlation": correlation}
