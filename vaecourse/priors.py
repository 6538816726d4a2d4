"""Holes in the prior, and a contrastive prior that goes round them: NCP-VAE (Aneja, Schwing, Kautz and Vahdat, 2021).

Training a VAE draws its aggregated posterior q(z), the mean of q(z | x) over the data, towards the prior p(z), and does not
get there: where p(z) has mass and q(z) has none the decoder was never trained. A classifier of codes from the two learns
their ratio, and p(z) times that ratio is a better prior. Codes are rows, (n, latents); densities are in nats. The aggregated
posterior of images x is the mixture of all their posteriors, `Mixture(vae.encode(x).detach())` (eq-priors-aggregated).
"""

from math import log
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from vaecourse import importance, samplers
from vaecourse.distributions import Categorical, Mixture, Normal, refusing
from vaecourse.inputs import onto
from vaecourse.networks import by_rows, initial_weights, mlp
from vaecourse.randomness import normal
from vaecourse.training import Turn
from vaecourse.vae import VAE

BLOCK = 512  # codes whose candidates are drawn at once


class Holes(NamedTuple):
    """How far an aggregated posterior is from N(0, I); standard errors of the estimates beside them."""

    kl: float
    """KL(q(z) || p(z)) in nats: what a better prior can gain, at most, for the bound of the very images whose posteriors q(z)
    averages (eq-priors-gain), and at least their mean rate less log n (eq-priors-memory). For other images q(z) itself may
    lose: it remembers its own."""
    kl_error: float
    share: float
    """The prior's mass where q(z) is less than a tenth of p(z): how often a sample falls into a hole (eq-priors-hole-share)."""
    share_error: float


def _log_prior(z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch"]:
    """log N(z; 0, I) in nats."""
    return Normal.standard(z).log_prob(z)


@torch.no_grad()
def holes(q: Mixture, draws: int = 10_000, generator: Generator | None = None) -> Holes:
    """Measure the holes between p(z) = N(0, I) and q(z), an aggregated posterior, by so many codes from each.

    Both are about the images whose posteriors q averages, usually those of the training. kl is the mean of log q(z) - log p(z)
    over z ~ q(z), share that of [q(z) < p(z) / 10] over z ~ p(z). Raises ValueError for draws < 2.
    """
    if draws < 2:
        raise ValueError(f"an estimate with its error needs draws >= 2, got {draws}")
    like = q.components.mean
    z_q, z_p = q.sample(draws, generator), normal((draws, like.shape[1]), like, generator)
    gain = (q.log_prob(z_q) - _log_prior(z_q)).double()
    empty = (q.log_prob(z_p) - _log_prior(z_p) < log(0.1)).double()
    return Holes(
        gain.mean().item(),
        (gain.std() / draws**0.5).item(),
        empty.mean().item(),
        (empty.std() / draws**0.5).item(),
    )


class Estimate(NamedTuple):
    """A number in nats and the standard error of its estimate."""

    value: float
    error: float


@runtime_checkable
class Density(Protocol):
    """What a contrastive prior can start from: a law of codes that can be drawn from and whose density is known.

    One Gaussian with the codes' mean and covariance is the plainest (eq-priors-gaussian-gain).
    """

    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n latents"]:
        """n codes."""

    def log_prob(self, z: Float[Tensor, "n latents"]) -> Float[Tensor, " n"]:
        """Log-densities of codes, in nats."""


class Gaussians:
    """A mixture of `components` Gaussians with full covariances, fitted to codes by scikit-learn: a base, and a plain peer.

    One has the codes' mean and covariance (eq-priors-gaussian-gain). It draws exactly, and its density needs no normalizer.
    Computed in double precision on the CPU. Raises ValueError for components < 1, or more of them than codes.
    """

    def __init__(self, codes: Float[Tensor, "n latents"], components: int, seed: int = 0):
        from sklearn.mixture import GaussianMixture

        fitted = GaussianMixture(components, reg_covar=1e-4, max_iter=300, random_state=seed).fit(codes.double().cpu().numpy())
        self.means, covariances = (torch.from_numpy(value) for value in (fitted.means_, fitted.covariances_))
        self.log_weights = torch.from_numpy(fitted.weights_).log()
        self.roots = torch.linalg.cholesky(covariances)

    def log_prob(self, z: Float[Tensor, "n latents"]) -> Float[Tensor, " n"]:
        """In nats, in the type of z, to seven digits; differentiable in z."""
        apart = (z.double()[:, None] - self.means)[..., None]
        white = torch.linalg.solve_triangular(self.roots, apart, upper=False)[..., 0]
        volume = self.roots.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        densities = -0.5 * (white**2 + torch.tensor(2 * torch.pi).log()).sum(-1) - volume
        return (self.log_weights + densities).logsumexp(-1).to(z.dtype)

    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n latents"]:
        """n draws, in single precision."""
        which = self.log_weights.exp().multinomial(n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], 1, generator=generator, dtype=torch.float64)
        return (self.means[which] + (self.roots[which] @ noise)[..., 0]).float()


class KnownPosteriors(nn.Module):
    """An encoder that knows its images: to image i, a row (i,), it answers the i-th of the posteriors q, (n, latents).

    With it a contrastive prior is trained on posteriors that are given, without the networks or images that they came from.
    """

    def __init__(self, q: Normal):
        super().__init__()
        self.mu, self.log_sigma = nn.Parameter(q.mu), nn.Parameter(q.log_sigma)

    def forward(self, i: Float[Tensor, "batch 1"]) -> Normal:
        """The posteriors of images i, (batch, latents)."""
        return Normal(self.mu, self.log_sigma)[i[:, 0].long()]


class ContrastivePrior(nn.Module):
    """p_NCP(z) = r(z) p(z) / Z with r = exp(logit), p = N(0, I) (eq-priors-ncp).

    `classifier`: (..., latents) -> (..., 1), the logit of "from the aggregated posterior". Trained by `training.fit` on the
    images of a VAE, which stays as it is: half of the codes are draws from q(z | x), half are from p. The best classifier has
    r(z) = q(z) / p(z), for which Z = 1. Aneja et al. (2021). `base` is another p than N(0, I), one fitted to the codes for
    instance: the nearer p is to q(z), the less is left to the classifier, and the less do estimates scatter.
    """

    def __init__(self, vae: VAE, classifier: nn.Module, base: Density | None = None):
        super().__init__()
        self.vae, self.classifier, self.base = vae, classifier, base
        self.latents = vae.latents

    def log_base(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch"]:
        """log p(z) in nats, of the law that the ratio multiplies."""
        return self.base.log_prob(z.flatten(0, -2)).view(z.shape[:-1]) if self.base else _log_prior(z)

    def from_base(self, n: int, generator: Generator | None) -> Float[Tensor, "n latents"]:
        """n codes of p."""
        like = next(self.classifier.parameters())
        return self.base.sample(n, generator).to(like) if self.base else normal((n, self.latents), like, generator)

    def turns(self) -> list[Turn]:
        """The classifier alone learns."""
        return [Turn("", self.loss, list(self.classifier.parameters()))]

    def log_ratio(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch"]:
        """log r(z), the classifier's logit: log q(z) / p(z) at its best (eq-priors-ratio)."""
        return by_rows(self.classifier, onto(self.classifier, z))[..., 0]

    def loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """The cross-entropy of telling codes apart, nats a code of each kind (eq-priors-contrast); 2 log 2 where nobody can.

        -E_q(z) log sigmoid(log r(z)) - E_p(z) log(1 - sigmoid(log r(z))), by one draw of each an image. Its least value is
        2 log 2 - 2 JS(q || p) (eq-priors-least-loss), and what an error of the logit costs is weighed by q p / (q + p)
        (eq-priors-excess).
        """
        with torch.no_grad():
            z_q = self.vae.encode(x).sample(generator)
            z_p = self.from_base(len(x), generator)
        r_q, r_p = self.log_ratio(torch.cat([z_q, z_p])).chunk(2)
        return {"loss": functional.softplus(-r_q).mean() + functional.softplus(r_p).mean()}

    def log_unnormalized(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch"]:
        """log r(z) + log p(z) in nats, which is log p_NCP(z) + log Z (eq-priors-ncp)."""
        return self.log_ratio(z) + self.log_base(z)

    @torch.no_grad()
    def log_normalizer(self, draws: int = 100_000, generator: Generator | None = None) -> Estimate:
        """log Z = log E_p r(z), from so many codes of p (eq-priors-normalizer), which must be many where p_NCP is far from p.

        The variance of the estimate of Z, relative to Z^2, is at least (exp KL(p_NCP || p) - 1) / draws (eq-priors-draws).
        Raises ValueError for draws < 2.
        """
        if draws < 2:
            raise ValueError(f"an estimate with its error needs draws >= 2, got {draws}")
        log_r = self.log_ratio(self.from_base(draws, generator)).double()
        value = importance.log_mean(log_r)
        relative = (log_r - value).exp()
        return Estimate(value.item(), (relative.std() / draws**0.5).item())

    @torch.no_grad()
    def resample(self, n: int, generator: Generator | None = None, *, candidates: int = 200) -> Float[Tensor, "n latents"]:
        """n codes by importance resampling: of so many candidates from p, one, with probability r(z_i) / sum_j r(z_j).

        Equation eq-priors-resampling. Exact as the candidates grow; the density of the codes is at most p(z) times the number
        of candidates (eq-priors-reach). Aneja et al. (2021). Raises ValueError for n or candidates < 1.
        """
        if n < 1 or candidates < 1:
            raise ValueError(f"n and candidates must be at least 1, got {n} and {candidates}")
        chosen = []
        for size in [BLOCK] * (n // BLOCK) + [n % BLOCK] * (n % BLOCK > 0):
            z = self.from_base(size * candidates, generator).unflatten(0, (size, candidates))
            index = Categorical(self.log_ratio(z)).sample(generator)
            chosen.append(z[torch.arange(size, device=z.device), index])
        return torch.cat(chosen)

    def langevin(
        self, n: int, generator: Generator | None = None, *, step: float = 0.05, steps: int = 300
    ) -> Float[Tensor, "n latents"]:
        """n codes by adjusted Langevin dynamics in the potential -log r(z) - log p(z), from draws of p.

        Where the classifier has isolated modes chains stay in theirs. Raises ValueError for n or steps < 1 and a step that is
        not positive, SamplerDiverged where a chain leaves the finite numbers.
        """
        start = self.from_base(n, generator)
        z, _ = samplers.mala(self.potential, start, step, steps, generator, warmup=steps, every=steps)
        return z

    def potential(self, z: Float[Tensor, "chains latents"]) -> Float[Tensor, " chains"]:
        """-log r(z) - log p(z): minus the log-density up to a constant, in nats; for p = N(0, I) with |z|^2 / 2."""
        return -self.log_ratio(z) + (-self.log_base(z) if self.base else 0.5 * (z**2).sum(-1))


class Likelihoods(NamedTuple):
    """-log p(x) in nats per image, averaged over images, by importance sampling, under two priors of one decoder."""

    standard: float
    contrastive: float
    gain_bound: float
    """How much higher the bound is with it: E log p_NCP(z) / N(z; 0, I) over codes of the images (eq-priors-gain)."""


@torch.no_grad()
@refusing
def likelihoods(
    prior: ContrastivePrior,
    x: Float[Tensor, "n pixels"],
    log_Z: float,
    draws: int = 500,
    generator: Generator | None = None,
    *,
    decodes: int = 50_000,
) -> Likelihoods:
    """Both from the same draws of q(z | x): w = p(x | z) p(z) / q(z | x), then w r(z) / Z (eq-priors-likelihood).

    log_Z: from `log_normalizer`; its error adds to the contrastive figure as it is. `decodes` bounds the codes decoded at once.
    Raises ValueError for draws < 1 or no images, and for pixels outside [0, 1] where they are coin flips.
    """
    if draws < 1 or len(x) == 0:
        raise ValueError(f"needs at least one draw an image and at least one image, got {draws} and {len(x)}")
    vae, sums = prior.vae, []
    for batch in onto(vae, x).split(max(1, decodes // draws)):
        q = vae.encode(batch)
        z = importance.draw(q, draws, generator)
        log_w = vae.log_joint(batch, z) - q.log_prob(z)
        gain = prior.log_unnormalized(z) - _log_prior(z) - log_Z if prior.base else prior.log_ratio(z) - log_Z
        sums.append(torch.stack([importance.log_mean(log_w), importance.log_mean(log_w + gain), gain.mean(0)]))
    standard, contrastive, gain = torch.cat(sums, 1).double().mean(1).tolist()
    return Likelihoods(-standard, -contrastive, gain)


def contrastive_prior(
    vae: VAE, hidden: tuple[int, ...] = (128, 128), *, base: Density | None = None, seed: int = 0
) -> ContrastivePrior:
    """A contrastive prior for a VAE, with a classifier of SiLU layers; `seed` sets its first weights and nothing else."""
    with initial_weights(seed):
        return ContrastivePrior(vae, mlp(vae.latents, *hidden, 1, activation=nn.SiLU), base)
