"""Two latents, where the normalizer of a contrastive prior is a sum over a grid: what a classifier says where no code goes.

MNIST's 4,000 training digits, pixels drawn once for the codes; a VAE of 256 tanh units each way, 4,000 steps. The classifier
has two hidden layers of 64 SiLU units, Adam at 3e-3, 2,000 batches of 500 codes of each kind, and contrasts with N(0, I), with
one Gaussian fitted to the codes, or with 50. Gains are E log p(z) / N(z; 0, I) over codes of the 1,000 test images, in nats.
"""

from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.optim import Adam

from vaecourse import datasets, priors, training
from vaecourse.distributions import Mixture, Normal
from vaecourse.experiments import Experiment
from vaecourse.priors import Gaussians, KnownPosteriors
from vaecourse.vae import VAE, bernoulli_vae

REACH, SIDE = 6.0, 181  # of the grid


@cache
def posteriors(seed: int, steps: int) -> tuple[Normal, Tensor]:
    """The posteriors of the training images, and ten codes of each test image, by a VAE in the plane."""
    digits, noise = datasets.load("mnist5k"), torch.Generator().manual_seed(seed)
    vae = bernoulli_vae(784, 2, (256,), seed=seed)
    settings = {"transform": datasets.binarize, "schedule": training.cosine, "progress": False, "device": "cpu"}
    training.fit(vae, digits.train, steps=steps, seed=seed, **settings)
    with torch.no_grad():
        q = vae.encode(datasets.binarize(digits.train, noise))
        return q.detach(), vae.encode(datasets.binarize(digits.test, noise)).sample(noise, shape=(10,)).flatten(0, 1)


def contrast_in_the_plane(base: str, seed: int, steps: int = 4000, prior_steps: int = 2000, draws: int = 20_000) -> dict:
    """Gains with log Z by the grid and by draws; astray: the new prior's mass where the exact q(z) is below a tenth of it."""
    q, z = posteriors(seed, steps)
    noise = torch.Generator().manual_seed(seed)
    law = {"standard": 0, "gaussian": 1, "mixture": 50}[base]
    codes = q.sample(noise, shape=(5,)).flatten(0, 1)
    fitted = Gaussians(codes, law, seed) if law else None
    vae = VAE(KnownPosteriors(q), nn.Identity(), pixels=1, latents=2)
    prior = priors.contrastive_prior(vae, (64, 64), base=fitted, seed=seed)
    optimizer = partial(Adam, lr=3e-3, fused=True)
    images = torch.arange(len(q.mu))[:, None].float()
    settings = {"batch_size": 500, "seed": seed, "optimizer": optimizer, "progress": False, "device": "cpu"}
    training.fit(prior, images, steps=prior_steps, **settings)
    ticks = torch.linspace(-REACH, REACH, SIDE)
    grid, cell = torch.cartesian_prod(ticks, ticks), (ticks[1] - ticks[0]).log() * 2
    with torch.no_grad():
        log_p = prior.log_unnormalized(grid)
        log_Z = (log_p.logsumexp(0) + cell).item()
        mass = (log_p - log_Z + cell).exp()
        astray = mass[Mixture(q).log_prob(grid) < log_p - log_Z - torch.tensor(10.0).log()].sum().item()
        gain = (prior.log_unnormalized(z) - Normal.standard(z).log_prob(z)).unflatten(0, (10, -1)).mean(0).double()
        found = prior.log_normalizer(draws, noise)
        of_base = (fitted.log_prob(z) - Normal.standard(z).log_prob(z)).mean().item() if fitted else 0.0
    return {
        "gain": gain.mean().item() - log_Z,
        "gain_error": (gain.std() / len(gain) ** 0.5).item(),
        "gain_base": of_base,
        "log_Z": log_Z,
        "log_Z_by_draws": found.value,
        "log_Z_error": found.error,
        "astray": astray,
    }


bases = Experiment(
    contrast_in_the_plane,
    [{"base": base, "seed": seed} for seed in (0, 1, 2) for base in ("standard", "gaussian", "mixture")],
    {"base": "gaussian", "seed": 0, "steps": 20, "prior_steps": 20, "draws": 1000},
)
