"""The experiments of the chapter on judging: each measure where the truth is known. Likelihoods are in nats per image.

The linear VAE: probabilistic PCA of scikit-learn's digits, 8 latents, turned so that its posterior is not diagonal, beside the
best diagonal encoder. Own features: the classifier of `vaecourse.metrics`, 32 features, trained on the digits themselves.
"""

from collections.abc import Sequence
from functools import partial
from math import log

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import skip_init

from vaecourse import datasets, metrics, training
from vaecourse.datasets.densities import GaussianGrid
from vaecourse.exact_models import ProbabilisticPCA
from vaecourse.experiments import Experiment
from vaecourse.metrics import Classifier, Evidence
from vaecourse.networks import GaussianNetwork
from vaecourse.randomness import indices, normal, uniform
from vaecourse.vae import VAE, bernoulli_vae

SEEDS = (0, 1, 2)


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


# The evidence of a linear VAE, which is known: from below by importance weights, and by annealing.


def _linear_vae(seed: int, latents: int = 8, shrink: float = 0.0) -> tuple[VAE, ProbabilisticPCA]:
    """Probabilistic PCA of the digits with the code's axes turned at random, and the best diagonal encoder, as a VAE.

    The encoder's log sigma is less than the best by `shrink`.
    """
    fitted = ProbabilisticPCA.fit(datasets.load("digits").train.double(), latents)
    turn = torch.linalg.qr(normal((latents, latents), fitted.m, _generator(seed))).Q
    exact = ProbabilisticPCA(fitted.W @ turn, fitted.m, fitted.c)
    encoder, decoder = (skip_init(nn.Linear, *sides, dtype=torch.float64) for sides in ((64, latents), (latents, 64)))
    to_mean = torch.linalg.solve(exact.precision, exact.W.T / exact.c)
    for layer, weight, bias in ((encoder, to_mean, -to_mean @ exact.m), (decoder, exact.W, exact.m)):
        layer.weight.data, layer.bias.data = weight, bias
    spread = nn.Parameter(-0.5 * exact.precision.diagonal().log() - shrink)
    noise = nn.Parameter(torch.tensor(0.5 * log(exact.c), dtype=torch.float64))
    return VAE(GaussianNetwork(encoder, spread), GaussianNetwork(decoder, noise), 64, latents), exact


@torch.no_grad()
def bound_evidence(method: str, budget: int, seed: int, images: int = 100, shrink: float = 0.0) -> dict:
    """How far an estimate of log p(x) falls short of the exact one, on test digits.

    "importance": the bound with `budget` draws from the encoder. "annealed from prior", "annealed from encoder": 16 chains
    through `budget` temperatures. decodes: codes decoded for each image, the pilot's included.
    """
    (model, pca), x = _linear_vae(seed, shrink=shrink), datasets.load("digits").test[:images].double()
    exact, q = pca.evidence(x), model.encode(x)
    if method == "importance":
        noise, parts = _generator(seed), x.split(max(1, 200_000 // budget))
        log_weights = torch.cat([model.log_weights(part, budget, noise) for part in parts], 1)
        found, decodes = Evidence(log_weights, torch.ones(len(x))), budget
    else:
        start = model.encode if method == "annealed from encoder" else None
        found = metrics.model_evidence(model, x, start=start, temperatures=budget, generator=_generator(seed))
        decodes = (16 + metrics.annealing.PILOT) * (budget + (budget - 1) * metrics.annealing.LEAPS)
    short = exact - found.value
    return {
        "exact": exact.mean().item(),
        "gap": (exact - pca.elbo(x, q)).mean().item(),
        "shortfall": short.mean().item(),
        "worst": short.abs().max().item(),
        "rms": short.square().mean().sqrt().item(),
        "error_bar": found.error.square().mean().sqrt().item() if budget > 1 else None,
        "ess": found.ess.mean().item(),
        "decodes": decodes,
    }


linear = Experiment(
    bound_evidence,
    cases=[
        {"method": method, "budget": budget, "seed": seed}
        for method, budgets in {
            "importance": (1, 10, 100, 1000, 10_000),
            "annealed from prior": (10, 30, 100, 300, 1000),
            "annealed from encoder": (3, 10, 30, 100),
        }.items()
        for budget in budgets
        for seed in SEEDS
    ],
    replay={"method": "annealed from encoder", "budget": 4, "seed": 0, "images": 20},
)


# The same with an encoder that is too sure of itself, by a factor of e^2: what it never draws it cannot weigh.


too_sure = Experiment(
    bound_evidence,
    cases=[
        {"method": method, "budget": budget, "seed": seed, "shrink": 2.0}
        for method, budgets in {"importance": (100, 1000, 10_000), "annealed from prior": (30, 100, 300)}.items()
        for budget in budgets
        for seed in SEEDS
    ],
    replay={"method": "importance", "budget": 4, "seed": 0, "images": 20, "shrink": 2.0},
)


# The evidence of a trained VAE, which is not known: the bound, annealing, and annealing there and back on its own digits.


def judge_vae(seed: int, steps: int = 4000, images: int = 50, temperatures: Sequence[int] = (30, 100, 300)) -> dict:
    """A VAE on the binary digits: -log p(x) of test images by each estimate, and the sandwich on images that it made."""
    digits = datasets.load("digits")
    model = bernoulli_vae(64, 8, seed=seed)
    training.fit(model, digits.train, steps=steps, seed=seed, transform=datasets.binarize, progress=False)
    x, row = datasets.binarize(digits.test, _generator(0))[:images], {"temperatures": list(temperatures)}
    model = model.double()
    x = x.double()
    with torch.no_grad():
        for k in (1, 50, 5000):
            noise = _generator(seed)
            parts = [model.iwae_bound(part, k, noise) for part in x.split(20)]
            row[f"importance_{k}"] = -torch.cat(parts).mean().item()
        prior = model.prior(images)
        z = prior.sample(_generator(1))
        made = model.decode(z).sample(_generator(2))
    columns: dict[str, list[float]] = {}
    for count in temperatures:
        annealed = metrics.model_evidence(model, x, temperatures=count, generator=_generator(seed))
        both = metrics.bdmc(partial(model.log_joint, made), prior, z, temperatures=count, generator=_generator(seed))
        found = {
            "annealed": -annealed.value.mean().item(),
            "error_bar": (annealed.error.square().sum().sqrt() / images).item(),
            "ess": annealed.ess.mean().item(),
            "lower": both.lower.mean().item(),
            "lower_error": (both.forward.error.square().sum().sqrt() / images).item(),
            "upper": both.upper.mean().item(),
            "upper_error": (both.reverse.error.square().sum().sqrt() / images).item(),
        }
        for name, value in found.items():
            columns.setdefault(name, []).append(value)
    return row | columns


trained = Experiment(
    judge_vae,
    cases=[{"seed": seed} for seed in SEEDS],
    replay={"seed": 0, "steps": 30, "images": 3, "temperatures": [4, 8]},
)


# The Fréchet distance of a law to itself, which is 0.


def _features(seed: int, steps: int = 1000) -> tuple[Classifier, Tensor]:
    """A classifier of MNIST digits, and its features of all 5,000 of them."""
    digits = datasets.load("mnist5k")
    classifier = Classifier.fit(digits.train, digits.train_labels, digits.shape, steps=steps, seed=seed)
    return classifier, classifier.features(torch.cat([digits.train, digits.test])).double()


def distance_to_itself(
    source: str,
    seed: int,
    sizes: Sequence[int] = (50, 100, 200, 500, 1000, 2500),
    repeats: int = 20,
    steps: int = 1000,
) -> dict:
    """Distances of two samples of n of one law, for each n, averaged over the repeats, and the bias predicted for a Gaussian.

    "digits": disjoint draws from 5,000 MNIST digits, own features. "gaussian": the Gaussian of the same moments.
    """
    _, pool = _features(seed, steps)
    covariance, noise = torch.cov(pool.T), _generator(seed)
    factor = torch.linalg.cholesky(covariance + 1e-9 * torch.eye(len(covariance)))
    columns = ("frechet", "frechet_sd", "predicted", "kernel", "kernel_sd")
    row: dict[str, list[float]] = {"sizes": list(sizes)} | {name: [] for name in columns}
    for n in sizes:
        frechet, kernel = [], []
        for _ in range(repeats):
            if source == "gaussian":
                a, b = (pool.mean(0) + normal((n, len(factor)), pool, noise) @ factor.T for _ in range(2))
            else:
                chosen = uniform((len(pool),), pool, noise).argsort()
                a, b = pool[chosen[:n]], pool[chosen[n : 2 * n]]
            frechet.append(metrics.frechet_distance(a, b))
            kernel.append(metrics.kernel_distance(a, b))
        for name, values in {"frechet": frechet, "kernel": kernel}.items():
            row[name].append(float(np.mean(values)))
            row[f"{name}_sd"].append(float(np.std(values, ddof=1)))
        row["predicted"].append(metrics.frechet_bias(covariance, n, n))
    return row


bias = Experiment(
    distance_to_itself,
    cases=[{"source": source, "seed": seed} for source in ("digits", "gaussian") for seed in SEEDS],
    replay={"source": "digits", "seed": 0, "sizes": [50, 100], "repeats": 2, "steps": 20},
)


# How a Fréchet distance goes wrong: one set of digits against another, where nothing is generated and the truth is 0.


def mistake_distance(mistake: str, seed: int, steps: int = 1000) -> dict:
    """The distance of 1,000 test digits to 1,000 training digits, with one thing done wrong; features of the seed's network."""
    digits = datasets.load("mnist5k")
    classifier = Classifier((28, 28), 10, seed=seed) if mistake == "untrained network" else _features(seed, steps)[0]
    real, fake = digits.train[:1000], digits.test
    if mistake == "range":
        fake = 2 * fake - 1
    elif mistake == "reference":
        real = digits.train[digits.train_labels < 8][:1000]
    elif mistake == "sample count":
        fake = fake[:100]
    a, b = classifier.features(real), classifier.features(fake)
    return {"frechet": metrics.frechet_distance(a, b), "kernel": metrics.kernel_distance(a, b)}


mistakes = Experiment(
    mistake_distance,
    cases=[
        {"mistake": mistake, "seed": seed}
        for mistake in ("none", "range", "reference", "sample count", "untrained network")
        for seed in SEEDS
    ],
    replay={"mistake": "sample count", "seed": 0, "steps": 20},
)


# Samplers whose faults are known: what does each measure see?


def sample_grid(sampler: str, n: int, generator: Generator) -> Tensor:
    """n points of a sampler of the 25 Gaussians with a known fault."""
    grid = GaussianGrid()
    if sampler == "blurred":  # twice the standard deviation
        return GaussianGrid(sigma=0.1).sample(n, generator)
    x = grid.sample(2 * n, generator)
    if sampler == "drops modes":  # the five of the last column
        return x[x[:, 0] < 1.5][:n]
    if sampler == "background":  # a fifth of the points anywhere in the square
        anywhere = 6 * uniform((n // 5, 2), x, generator) - 3
        return torch.cat([anywhere, x[: n - n // 5]])
    if sampler == "collapsed":  # each mode is one point
        return grid.centers[torch.cdist(x[:n], grid.centers).argmin(1)]
    return x[:n]


def judge_grid(sampler: str, seed: int, n: int = 2500) -> dict:
    """What each measure says of n points of the sampler, beside n of the law itself."""
    real, fake = GaussianGrid().sample(n, _generator(seed)), sample_grid(sampler, n, _generator(seed + 1000))
    found = metrics.on_modes(fake, GaussianGrid().centers, 0.15)
    precision, recall = metrics.precision_recall(real, fake)
    density, coverage = metrics.density_coverage(real, fake)
    return {
        "share": found.share,
        "modes": found.hit,
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
        "frechet": metrics.frechet_distance(real, fake),
        "kernel": metrics.kernel_distance(real, fake, bandwidths=(0.1, 0.5)),
    }


grid = Experiment(
    judge_grid,
    cases=[
        {"sampler": sampler, "seed": seed}
        for sampler in ("perfect", "drops modes", "blurred", "background", "collapsed")
        for seed in SEEDS
    ],
    replay={"sampler": "drops modes", "seed": 0, "n": 300},
)


def judge_stacks(kept: int, seed: int, n: int = 26_000, steps: int = 1000) -> dict:
    """Stacks of three test digits of which only `kept` of the 1,000 combinations occur, named by a classifier of single digits.

    true_hit and true_kl: by the labels, as if the classifier never erred.
    """
    digits = datasets.load("digits")
    classifier = Classifier.fit(digits.train, digits.train_labels, digits.shape, steps=steps, seed=seed)
    noise = _generator(seed)
    allowed = uniform((1000,), digits.test, noise).argsort()[:kept]
    label = allowed[indices(kept, (n,), digits.test, noise)]
    channels = []
    for power in (100, 10, 1):  # for each digit asked for, one of its images
        digit = label // power % 10
        order = digits.test_labels.argsort()
        counts = torch.bincount(digits.test_labels, minlength=10)
        first = counts.cumsum(0) - counts
        row = first[digit] + (uniform((n,), digits.test.double(), noise) * counts[digit]).long()
        channels.append(digits.test[order[row]])
    found = metrics.class_modes(classifier.predict_stacked(torch.cat(channels, 1)), 1000)
    truth = metrics.class_modes(label, 1000)
    accuracy = classifier.accuracy(digits.test, digits.test_labels)
    return {"hit": found.hit, "kl": found.kl, "true_hit": truth.hit, "true_kl": truth.kl, "accuracy": accuracy}


stacks = Experiment(
    judge_stacks,
    cases=[{"kept": kept, "seed": seed} for kept in (1000, 900, 500, 100, 10) for seed in SEEDS],
    replay={"kept": 100, "seed": 0, "n": 500, "steps": 60},
)
