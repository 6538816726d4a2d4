"""The experiments of the chapter on priors: holes by the weight of the rate, and what a contrastive prior mends.

The digits: scikit-learn's, 8 x 8, 1,500 to train with pixels drawn afresh each step, 297 to test with pixels drawn once; two
hidden layers of 128 tanh units each way, 8 latents, Adam at 1e-3, batches of 100, 4,000 steps; the classifier of codes has two
hidden layers of 128 SiLU units and batches of 500. Figures are nats an image.
"""

import torch
from torch import Generator

from vaecourse import datasets, metrics, priors, training
from vaecourse.beta_vae import BetaVAE
from vaecourse.distributions import Mixture
from vaecourse.experiments import Experiment
from vaecourse.priors import ContrastivePrior
from vaecourse.vae import bernoulli_vae

SEEDS = (0, 1, 2)
BANDWIDTHS = (2.0, 4.0, 8.0)


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def trained(beta: float, latents: int, seed: int, steps: int, prior_steps: int) -> ContrastivePrior:
    """A VAE whose rate has the weight beta in the loss, then its contrastive prior, both on the training digits.

    Below 1 codes are sharp, and the prior is left behind.
    """
    digits = datasets.load("digits")
    vae = bernoulli_vae(64, latents, seed=seed, kind=BetaVAE, beta=beta)
    settings = {"seed": seed, "transform": datasets.binarize, "progress": False, "device": "cpu"}
    training.fit(vae, digits.train, steps=steps, **settings)
    prior = priors.contrastive_prior(vae, seed=seed)
    training.fit(prior, digits.train, steps=prior_steps, batch_size=500, **settings)
    return prior.eval()


def mend(beta: float, seed: int, prior_steps: int = 12_000, steps: int = 4000, samples: int = 2000) -> dict:
    """Holes, distances of samples to the images, and likelihoods, before and after.

    image_mmd: the squared kernel distance between decoded images (means) of each source of codes and the gray training digits.
    """
    digits = datasets.load("digits")
    prior = trained(beta, 8, seed, steps, prior_steps)
    vae, noise = prior.vae, _generator(seed)
    images = datasets.binarize(digits.train, noise)
    q = Mixture(vae.encode(images).detach())
    found = priors.holes(q, 10 * samples, noise)
    log_Z = prior.log_normalizer(50 * samples, noise)
    test = datasets.binarize(digits.test, _generator(0))
    nll = priors.likelihoods(prior, test, log_Z.value, 500, noise)
    codes = {
        "prior": vae.prior(samples).sample(noise),
        "resampled": prior.resample(samples, noise),
        "langevin": prior.langevin(samples, noise),
        "aggregated": q.sample(samples, noise),
    }
    with torch.no_grad():
        mmd = {
            f"image_mmd_{name}": metrics.kernel_distance(vae.decode(z).mean, digits.train, bandwidths=BANDWIDTHS)
            for name, z in codes.items()
        }
    return {
        "kl": found.kl,
        "kl_error": found.kl_error,
        "hole_share": found.share,
        "log_Z": log_Z.value,
        "log_Z_error": log_Z.error,
        "nll_standard": nll.standard,
        "nll_contrastive": nll.contrastive,
        "gain_bound": nll.gain_bound,
        **mmd,
    }


betas = Experiment(
    mend,
    [{"beta": beta, "seed": seed} for beta in (0.02, 0.1, 1.0) for seed in SEEDS],
    {"beta": 0.1, "seed": 0, "steps": 60, "prior_steps": 60, "samples": 200},
)


# A classifier that learned for a twelfth of the time: it gains less.


impatience = Experiment(
    mend,
    [{"beta": 0.02, "seed": seed, "prior_steps": 1000} for seed in SEEDS],
    {"beta": 0.02, "seed": 0, "steps": 60, "prior_steps": 20, "samples": 200},
)


def draw_plane(beta: float, seed: int, steps: int = 4000, prior_steps: int = 4000, side: int = 61) -> dict:
    """With two latents: log q(z), log r(z) and decoded images over the square from -4 to 4, for a picture of the holes."""
    digits = datasets.load("digits")
    prior = trained(beta, 2, seed, steps, prior_steps)
    axis = torch.linspace(-4, 4, side)
    z = torch.cartesian_prod(axis, axis)
    q = Mixture(prior.vae.encode(digits.train).detach())
    found = priors.holes(q, 20_000, _generator(0))
    with torch.no_grad():
        return {
            "kl": found.kl,
            "hole_share": found.share,
            "log_q": q.log_prob(z).reshape(side, side).half(),
            "log_ratio": prior.log_ratio(z).reshape(side, side).half(),
        }


plane = Experiment(
    draw_plane,
    [{"beta": beta, "seed": 0} for beta in (0.02, 1.0)],
    {"beta": 1.0, "seed": 0, "steps": 60, "prior_steps": 60, "side": 5},
)
