"""The experiments of the chapter on priors at 28 x 28: gains on codes that a prior has not seen, and pictures.

5,000 digits of MNIST: 3,500 to train, 500 to stop by, 1,000 to test; pixels drawn afresh each step, and once
for these. A VAE of 256 and 128 tanh units each way, its rate weighed by beta. The laws of codes that are fitted to draws
from the training images' posteriors: one Gaussian; 50 Gaussians by expectation-maximization; the contrastive prior, from
N(0, I) and from either of the two, its classifier with two layers of 256 SiLU units, kept as it was when it told the stopping
images' codes best. Gains are E log p(z) / N(z; 0, I) over codes of the test images, nats an image. Frechet distances are those
of our own classifier's features, 1,000 decoded means against 1,000 gray test digits.
"""

from copy import deepcopy
from functools import cache, partial

import torch
from torch import Generator, Tensor
from torch.optim import Adam

from vaecourse import datasets, metrics, priors, training
from vaecourse.beta_vae import BetaVAE
from vaecourse.distributions import Mixture
from vaecourse.experiments import Experiment
from vaecourse.priors import ContrastivePrior, Gaussians
from vaecourse.vae import VAE, bernoulli_vae

SEEDS = (0, 1, 2)
KEPT = 3500
LOOKS = 40  # how often the classifier is compared on the stopping images


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


@cache
def judge(steps: int) -> metrics.Classifier:
    """The classifier whose features are compared."""
    digits = datasets.load("mnist5k")
    return metrics.Classifier.fit(digits.train, digits.train_labels, digits.shape, steps=steps, device="cpu")


def contrast(vae: VAE, base: Gaussians | None, train: Tensor, stop: Tensor, seed: int, steps: int) -> ContrastivePrior:
    """A contrastive prior, as it was when its loss on the stopping images' codes was least."""
    prior = priors.contrastive_prior(vae, hidden=(256, 256), base=base, seed=seed)
    kept, least = deepcopy(prior.state_dict()), float("inf")
    optimizer = partial(Adam, lr=3e-4, fused=True)
    settings = {"batch_size": 500, "seed": seed, "transform": datasets.binarize, "optimizer": optimizer, "device": "cpu"}
    for run in training.train(prior, train, steps=steps, **settings):
        if run.step % max(1, steps // LOOKS) == 0:
            with torch.no_grad():
                loss = prior.loss(stop, _generator(0))["loss"].item()
            if loss < least:
                kept, least = deepcopy(prior.state_dict()), loss
    prior.load_state_dict(kept)
    return prior.eval()


def _bytes(images: Tensor) -> Tensor:
    return (255 * images).round().to(torch.uint8)


def compare_priors(
    beta: float,
    latents: int,
    seed: int,
    steps: int = 3500,
    prior_steps: int = 4000,
    n: int = 1000,
    draws: int = 100_000,
    judge_steps: int = 1500,
) -> dict:
    """For each law of codes NAME_gain, its gain by the test images' codes, and NAME_frechet; of contrastive ones log Z.

    aggregated_gain and train_gain: of the exact q(z) of the training images, on the test images' codes and on their own.
    Tensors, for seed 0: of 1,000 codes of N(0, I), ranked by the ratio of the contrast with the mixture, 16 of the least, 16
    evenly ranked, 16 of the greatest; 16 samples of each law.
    """
    digits, features = datasets.load("mnist5k"), judge(judge_steps)
    vae = bernoulli_vae(784, latents, (256, 128), seed=seed, kind=BetaVAE, beta=beta)
    train, rest = digits.train[:KEPT], datasets.binarize(digits.train[KEPT:], _generator(1))
    training.fit(vae, train, steps=steps, seed=seed, transform=datasets.binarize, progress=False, device="cpu")
    vae.eval()
    noise, test = _generator(seed), datasets.binarize(digits.test, _generator(0))
    with torch.no_grad():
        of_train = vae.encode(datasets.binarize(train, noise))
        z = vae.encode(test).sample(noise, shape=(10,)).flatten(0, 1)
        own = of_train.sample(noise)
        many = of_train.sample(noise, shape=(10,)).flatten(0, 1)
    standard = vae.prior(1)
    laws = {"gaussian": Gaussians(many, 1, seed), "mixture": Gaussians(many, 50, seed)}
    row: dict = {}
    for name, base in (("contrast", None), ("contrast_gaussian", laws["gaussian"]), ("contrast_mixture", laws["mixture"])):
        prior = contrast(vae, base, train, rest, seed, prior_steps)
        found = prior.log_normalizer(draws, noise)
        row |= {f"{name}_log_Z": found.value, f"{name}_log_Z_error": found.error}
        laws[name] = prior
    aggregated = Mixture(of_train)
    with torch.no_grad():
        base_density = standard.log_prob(z)
        row["aggregated_gain"] = (aggregated.log_prob(z) - base_density).mean().item()
        row["train_gain"] = (aggregated.log_prob(own) - standard.log_prob(own)).mean().item()
        codes = {"standard": vae.prior(n).sample(noise), "test": vae.encode(test[:n]).sample(noise)}
        for name, law in laws.items():
            if isinstance(law, ContrastivePrior):
                gain, codes[name] = law.log_unnormalized(z) - row[f"{name}_log_Z"] - base_density, law.resample(n, noise)
            else:
                gain, codes[name] = law.log_prob(z) - base_density, law.sample(n, noise)
            by_image = gain.unflatten(0, (10, -1)).mean(0).double()
            row |= {
                f"{name}_gain": by_image.mean().item(),
                f"{name}_gain_error": (by_image.std() / len(by_image) ** 0.5).item(),
            }
        real = features.features(digits.test[:n])
        images = {name: vae.decode(drawn).mean for name, drawn in codes.items()}
        for name, made in images.items():
            row[f"{name}_frechet"] = metrics.frechet_distance(features.features(made), real)
        row["rate"] = vae.encode(test).kl_to_standard().mean().item()
        if seed == 0:
            order = laws["contrast_mixture"].log_unnormalized(codes["standard"]) - standard.log_prob(codes["standard"])
            order = order.argsort()
            evenly = torch.linspace(0, n - 1, 16).round().long()
            ranked = torch.cat([order[:16], order[evenly], order[-16:]])
            row["ranked"] = _bytes(images["standard"][ranked])
            row["samples"] = _bytes(torch.stack([made[:16] for made in images.values()]))
    return row


digits = Experiment(
    compare_priors,
    cases=[
        *({"beta": beta, "latents": 8, "seed": seed} for beta in (0.05, 0.2, 1.0) for seed in SEEDS),
        *({"beta": 0.2, "latents": 2, "seed": seed} for seed in SEEDS),
    ],
    replay={"beta": 0.2, "latents": 2, "seed": 1, "steps": 20, "prior_steps": 4, "n": 50, "draws": 100, "judge_steps": 10},
)
