"""Other regularizers than KL(q || p): geometric Jensen-Shannon divergences, and DU-VAE's diverse and certain posteriors.

Divergences are in nats, one number a data point, summed over latents. Gaussians are `distributions.Normal` (diagonal) or
`FullNormal` (any covariance); both have a geometric mean that is a Gaussian, which is why the geometric kind has a closed form
and the ordinary Jensen-Shannon divergence, whose mean is a mixture, has none.
"""

from dataclasses import dataclass
from math import e, pi
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse import importance, processes
from vaecourse.distributions import Mixture, Normal
from vaecourse.inputs import onto
from vaecourse.randomness import uniform
from vaecourse.vae import VAE


@dataclass(frozen=True)
class FullNormal:
    """A Gaussian N(mu, S) with any covariance S."""

    mu: Float[Tensor, "*batch dim"]
    covariance: Float[Tensor, "*batch dim dim"]

    def kl(self, other: "FullNormal") -> Float[Tensor, "*batch"]:
        """KL(self || other) in nats: 1/2 (tr(S2^-1 S1) + |m2 - m1|^2_(S2^-1) - dim - log det S1 + log det S2)."""
        own, L = torch.linalg.cholesky(self.covariance), torch.linalg.cholesky(other.covariance)
        spread = torch.linalg.solve_triangular(L, own, upper=False).square().sum((-2, -1))
        distance = torch.linalg.solve_triangular(L, (self.mu - other.mu)[..., None], upper=False).square().sum((-2, -1))
        log_volume = (L.diagonal(dim1=-2, dim2=-1).log() - own.diagonal(dim1=-2, dim2=-1).log()).sum(-1)
        return 0.5 * (spread + distance - self.mu.shape[-1]) + log_volume


Gaussian = TypeVar("Gaussian", Normal, FullNormal)
Alpha = float | Float[Tensor, ""]


def _check(q: Gaussian, p: Gaussian, alpha: Alpha) -> None:
    if type(q) is not type(p):
        raise TypeError(f"both Gaussians must be of one kind; got {type(q).__name__} and {type(p).__name__}")
    if not isinstance(alpha, Tensor) and not 0 <= alpha <= 1:  # a tensor is learned, and not looked at: that would wait for it
        raise ValueError(f"alpha, the skew, must lie in [0, 1]; got {alpha}")


def geometric_mean(q: Gaussian, p: Gaussian, alpha: Alpha) -> Gaussian:
    """The Gaussian proportional to q^(1 - alpha) p^alpha.

    Its precision is the weighted mean of precisions, its mean the weighted mean of means by precision:
    S^-1 = (1 - alpha) S1^-1 + alpha S2^-1, m = S ((1 - alpha) S1^-1 m1 + alpha S2^-1 m2).
    Equation eq-regularizers-geometric-mean; Nielsen (2019), Deasy, Simidjievski and Lio (2020).
    Raises ValueError for alpha outside [0, 1], TypeError for Gaussians of two kinds.
    """
    _check(q, p, alpha)
    if isinstance(q, Normal):
        weight_q, weight_p = (1 - alpha) * (-2 * q.log_sigma).exp(), alpha * (-2 * p.log_sigma).exp()
        precision = weight_q + weight_p
        return Normal((weight_q * q.mu + weight_p * p.mu) / precision, -0.5 * precision.log())
    weight_q, weight_p = (1 - alpha) * torch.linalg.inv(q.covariance), alpha * torch.linalg.inv(p.covariance)
    covariance = torch.linalg.inv(weight_q + weight_p)
    mean = covariance @ (weight_q @ q.mu[..., None] + weight_p @ p.mu[..., None])
    return FullNormal(mean[..., 0], 0.5 * (covariance + covariance.mT))


def geometric_js(q: Gaussian, p: Gaussian, alpha: Alpha, *, swapped: bool = False) -> Float[Tensor, "*batch"]:
    """(1 - alpha) KL(q || g) + alpha KL(p || g) in nats, g the geometric mean (eq-regularizers-geometric-js).

    With g = q^(1 - alpha) p^alpha both ends are 0, and the slopes there are the KL divergences (eq-regularizers-ends).
    `swapped` takes g = q^alpha p^(1 - alpha), with which it runs from KL(q || p) at alpha = 0 to KL(p || q) at 1
    (eq-regularizers-swapped): so the published sweeps do. There near each end the other of the two enters with a minus
    (eq-regularizers-overshoot). It is no f-divergence: g is normalized. Deasy, Simidjievski and Lio (2020).
    Raises ValueError for alpha outside [0, 1], TypeError for Gaussians of two kinds.
    """
    _check(q, p, alpha)
    g = geometric_mean(q, p, 1 - alpha if swapped else alpha)
    return (1 - alpha) * q.kl(g) + alpha * p.kl(g)


def dual_geometric_js(q: Gaussian, p: Gaussian, alpha: Alpha, *, swapped: bool = False) -> Float[Tensor, "*batch"]:
    """(1 - alpha) KL(g || q) + alpha KL(g || p) in nats: the arguments of each KL reversed (eq-regularizers-dual).

    Not swapped it is -log of the integral of q^(1 - alpha) p^alpha, 0 at both ends: alpha times Renyi's divergence of order
    1 - alpha (eq-regularizers-renyi). `swapped` it runs from KL(p || q) at alpha = 0 to KL(q || p) at 1, and is that integral
    no more. For a sharp q it is alpha KL(q || p) and a constant (eq-regularizers-sharp). Deasy, Simidjievski and Lio (2020).
    Raises ValueError for alpha outside [0, 1], TypeError for Gaussians of two kinds.
    """
    _check(q, p, alpha)
    g = geometric_mean(q, p, 1 - alpha if swapped else alpha)
    return (1 - alpha) * g.kl(q) + alpha * g.kl(p)


class GeometricVAE(VAE):
    """A VAE whose regularizer is a geometric Jensen-Shannon divergence between q(z | x) and p(z), in its swapped form.

    alpha: fixed in [0, 1], or None for a learned one that starts at 1/2. At alpha = 0 `dual=False` is the VAE, KL(q || p),
    and `dual=True` has KL(p || q) (eq-regularizers-reverse); at 1 they have changed places. Between them a mean is sold at a
    discount (eq-regularizers-discount). Its loss is no bound on the evidence but at KL(q || p);
    `vae.evaluate` scores it by the true bound. A learned alpha moves to where the divergence is least, which is not where the
    model is best.
    Equation eq-regularizers-loss. Raises ValueError for alpha outside [0, 1].
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, pixels: int, latents: int, alpha: float | None, *, dual: bool = False
    ):
        super().__init__(encoder, decoder, pixels, latents)
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(f"alpha, the skew, must lie in [0, 1], or be None to be learned; got {alpha}")
        self.divergence = dual_geometric_js if dual else geometric_js
        self.fixed = alpha
        if alpha is None:
            self.logit_alpha = nn.Parameter(torch.zeros(()))

    @property
    def alpha(self) -> Alpha:
        """The skew, a number or, where it is learned, a tensor in (0, 1)."""
        return self.logit_alpha.sigmoid() if self.fixed is None else self.fixed

    def loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """Distortion + JS^G(q(z | x) || p(z)) in nats, averaged over the batch, and its parts (eq-regularizers-loss)."""
        x = onto(self, x)
        q = self.encode(x)
        distortion = -self.decode(q.sample(generator)).log_prob(x).mean()
        divergence = self.divergence(q, self.prior(len(x)), self.alpha, swapped=True).mean()
        return {"loss": distortion + divergence, "distortion": distortion, "divergence": divergence}


# DU-VAE


class MeanNorm(nn.Module):
    """Batch normalization of posterior means: gamma (mu - batch mean) / batch deviation + shift, gamma fixed, shift learned.

    Over a batch each latent's mean square is gamma^2 + shift^2, so that the rate, averaged over the batch, is at least half
    their sum over latents: it cannot vanish (eq-regularizers-rate-floor; Zhu et al., 2020). That holds while the means'
    own variance is far above `eps`: with the usual 1e-5 an encoder can shrink its means below it, and the floor is gone.
    Statistics are those of the whole batch where several processes share it. Out of training those of past batches are used.
    """

    def __init__(self, latents: int, gamma: float, *, momentum: float = 0.1, eps: float = 1e-12):
        super().__init__()
        if not gamma > 0:
            raise ValueError(f"gamma, the standard deviation that means are given, must be positive; got {gamma}")
        self.gamma, self.momentum, self.eps = gamma, momentum, eps
        self.shift = nn.Parameter(torch.zeros(latents))
        self.register_buffer("mean", torch.zeros(latents))
        self.register_buffer("variance", torch.ones(latents))

    def forward(self, mu: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch latents"]:
        """gamma (mu - mean) / sqrt(variance + eps) + shift, for each latent.

        Raises ValueError for a batch of one in training, which has no deviation.
        """
        mean, variance = self.mean, self.variance
        if self.training:
            n = len(mu) * processes.count()
            if n < 2:
                raise ValueError("means are normalized over a batch: it needs at least 2 data points, got 1")
            mean = processes.total(mu.sum(0)) / n
            variance = processes.total(((mu - mean) ** 2).sum(0)) / n
            self.mean.lerp_(mean.detach(), self.momentum)
            self.variance.lerp_(variance.detach(), self.momentum)
        return self.gamma * (mu - mean) / (variance + self.eps).sqrt() + self.shift


ENTROPY_FLOOR = 1 / (2 * pi * e)
"""The variance of a Gaussian whose entropy is 0."""


class DUVAE(VAE):
    """Diversity and uncertainty awareness (Shen et al., 2021): means normalized over the batch, dropout on variances.

    `encoder` gives a Normal, whose means are normalized (MeanNorm) and whose variances are those it says above a floor of
    1 / (2 pi e). In training each variance is drawn towards the floor: floor + g (variance - floor), with g = 1 / keep with
    probability `keep`, else 0, so that its mean stays; the entropy of what is dropped is 0, that of the rest is larger.
    No term is added to the loss. `gamma` and `eps` are MeanNorm's. Equation eq-regularizers-variance-dropout. Raises ValueError
    for keep outside (0, 1] and gamma <= 0.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        pixels: int,
        latents: int,
        *,
        gamma: float = 1.0,
        keep: float = 0.8,
        eps: float = 1e-12,
    ):
        super().__init__(encoder, decoder, pixels, latents)
        if not 0 < keep <= 1:
            raise ValueError(f"keep, the probability that a variance stays, must lie in (0, 1]; got {keep}")
        self.keep = keep
        self.norm = MeanNorm(latents, gamma, eps=eps)

    def encode(self, x: Float[Tensor, "batch pixels"]) -> Normal:
        """q(z | x), with normalized means and no variance below the floor.

        Raises ValueError where x is not (batch, pixels), and in training for a batch of one.
        """
        q = super().encode(x)
        return Normal(self.norm(q.mu), 0.5 * ((2 * q.log_sigma).exp() + ENTROPY_FLOOR).log())

    def drop(self, q: Normal, generator: Generator | None = None) -> Normal:
        """The posterior with variances floor + g (variance - floor), g = 1 / keep or 0 (eq-regularizers-variance-dropout)."""
        excess = (2 * q.log_sigma).exp() - ENTROPY_FLOOR
        kept = uniform(excess.shape, excess, generator) < self.keep
        return Normal(q.mu, 0.5 * (ENTROPY_FLOOR + kept * excess / self.keep).log())

    def loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """-ELBO by L^B of the posteriors with dropout, averaged over the batch, and its parts."""
        x = onto(self, x)
        q = self.drop(self.encode(x), generator)
        distortion = -self.decode(q.sample(generator)).log_prob(x).mean()
        rate = q.kl_to_standard().mean()
        return {"loss": distortion + rate, "distortion": distortion, "rate": rate}


# What codes tell of data


@torch.no_grad()
def mutual_information(q: Normal, draws: int = 1, generator: Generator | None = None) -> tuple[float, float]:
    """I(x; z) in nats between the index of a data point and its code, and the standard error of the estimate.

    E_x KL(q(z | x) || p) = I(x; z) + KL(q(z) || p), q(z) the mean of all n posteriors q(z | x_i) (eq-regularizers-information;
    Hoffman and Johnson, 2016). I(x; z) is the mean of log q(z | x_i) - log q(z) over `draws` codes of each point; it never
    exceeds log n. The sum over all n posteriors is exact, not a batch's: n^2 densities.
    Raises ValueError for draws < 1, and where q has no batch of at least one.
    """
    aggregated = Mixture(q)
    gain = torch.cat([q.log_prob(z) - aggregated.log_prob(z) for z in importance.draw(q, draws, generator)]).double()
    return gain.mean().item(), (gain.std() / len(gain) ** 0.5).item() if len(gain) > 1 else 0.0
