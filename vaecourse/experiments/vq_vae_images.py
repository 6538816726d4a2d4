"""The experiments of the chapter on the VQ-VAE at 28 x 28: pictures in 49 words, and what more words buy.

MNIST and Fashion-MNIST, gray, 60,000 to train and 10,000 to test; a grid of 7 x 7 codes of 16 dimensions, learned by averages
with revival; convolutions of 32 channels; Adam at 1e-3, falling along half a cosine. Squared errors, bits and distortions (in
nats) are per image.
"""

from functools import cache, partial
from math import log, log2

import torch
from torch import Generator, Tensor, nn
from torch.optim import Adam

from vaecourse import datasets, metrics, training
from vaecourse.experiments import Experiment
from vaecourse.networks import GaussianNetwork, OnImages, initial_weights
from vaecourse.vae import VAE
from vaecourse.vq_vae import VQVAE, code_length, conv_vq_vae, evaluate, frequencies
from vaecourse.vq_vae.model import downward, upward
from vaecourse.vq_vae2 import CodePrior

SEEDS = (0, 1, 2)
SHAPE, GRID, DIM, WIDTH = (1, 28, 28), (7, 7), 16, 32
SETTINGS = {"optimizer": partial(Adam, lr=1e-3, fused=True), "schedule": training.cosine, "progress": False, "device": "cpu"}


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def _bytes(images: Tensor) -> Tensor:
    return (255 * images.clamp(0, 1)).round().to(torch.uint8)


def vq_vae(codes: int, seed: int) -> VQVAE:
    """The model; one standard deviation is learned for all pixels."""
    log_sigma = nn.Parameter(torch.tensor(-1.0))
    return conv_vq_vae(SHAPE, codes, DIM, halvings=2, width=WIDTH, log_sigma=log_sigma, seed=seed, revive_below=0.5)


@cache
def judge(data: str, steps: int) -> metrics.Classifier:
    """The classifier whose features are compared."""
    images = datasets.load(data)
    return metrics.Classifier.fit(images.train, images.train_labels, images.shape, steps=steps, device="cpu")


def compared(made: dict[str, Tensor], real: Tensor, features: metrics.Classifier) -> dict[str, float]:
    """NAME_frechet, _precision and _recall of each kind of pictures, by the classifier's features, against real ones."""
    row, wanted = {}, features.features(real)
    for name, pictures in made.items():
        found = features.features(pictures)
        cover = metrics.precision_recall(wanted, found)
        row[f"{name}_frechet"] = metrics.frechet_distance(found, wanted)
        row |= {f"{name}_precision": cover.precision, f"{name}_recall": cover.recall}
    return row


# Pictures in 49 words out of 64, and a prior that has learned which word follows which


def train_words(
    data: str, seed: int, codes: int = 64, steps: int = 5000, prior_steps: int = 5000, n: int = 1000, judge_steps: int = 1500
) -> dict:
    """Both stages: what the codes cost and lose, and what samples from the uniform, the independent and the learned prior are.

    Bits per code: `frequency_bits` by the frequencies of the training images' codes, `prior_bits` by the learned prior.
    NAME_frechet, _precision, _recall: n samples against as many test images; "rebuilt": reconstructions of others.
    Tensors, for seed 0: the weights, codes and reconstructions of 16 test images, and 32 samples of each prior.
    """
    images, features = datasets.load(data), judge(data, judge_steps)
    model = vq_vae(codes, seed)
    first = training.fit(model, images.train, steps=steps, batch_size=64, seed=seed, **SETTINGS)
    model.eval()
    score = evaluate(model, images.test)
    known, new = (torch.cat([model.codes(part) for part in x.split(1000)]) for x in (images.train, images.test))
    prior = CodePrior(codes, model.latents, seed=seed)
    second = training.fit(prior, known, steps=prior_steps, batch_size=64, seed=seed, **SETTINGS)
    prior.eval()
    smoothed = 0.999 * frequencies(known, codes) + 0.001 / codes
    generator, real = _generator(seed), images.test[:n]
    with torch.no_grad():
        bits = -prior.log_prob(new[:n]).double().mean().item() / (model.latents * log(2))
        made = {
            "uniform": torch.randint(codes, (n, model.latents), generator=generator),
            "independent": smoothed.multinomial(n * model.latents, replacement=True, generator=generator).view(n, -1),
            "learned": prior.sample(n, generator),
            "rebuilt": new[-n:],
        }
        pictures = {name: model.generate(code) for name, code in made.items()}
    row = {
        "squared_error": score.nmse * images.test.double().square().sum(-1).mean().item(),
        "distortion": score.distortion,
        "fixed_bits": log2(codes),
        "frequency_bits": code_length(new, smoothed).mean().item(),
        "prior_bits": bits,
        "perplexity": score.perplexity,
        "usage": score.usage,
        "training_seconds": round(first.seconds, 1),
        "prior_seconds": round(second.seconds, 1),
    }
    row |= compared(pictures, real, features)
    if seed == 0:
        row |= {f"model.{key}": value for key, value in model.state_dict().items()}
        row |= {
            "codes": new[:16],
            "images": _bytes(images.test[:16]),
            "reconstructions": _bytes(model.generate(new[:16]).detach()),
        }
        row |= {f"samples.{name}": _bytes(made_images[:32]) for name, made_images in pictures.items()}
    return row


words = Experiment(
    train_words,
    cases=[{"data": data, "seed": seed} for data in ("fashion_mnist", "mnist") for seed in SEEDS],
    replay={"data": "fashion_mnist", "seed": 1, "steps": 6, "prior_steps": 3, "n": 40, "judge_steps": 10},
)


# What more words buy, beside a VAE whose 49 places hold numbers


def grid_vae(sigma: float, numbers: int, seed: int) -> VAE:
    """A VAE with the same convolutions, so many latents at each of the 49 places, and that deviation of the pixels."""
    latents = numbers * GRID[0] * GRID[1]
    with initial_weights(seed):
        encoder = GaussianNetwork(OnImages(SHAPE, downward(1, 2 * numbers, WIDTH, 2, 1)))
        decoder = GaussianNetwork(OnImages((numbers, *GRID), upward(numbers, 1, WIDTH, 2, 1)), log(sigma))
        return VAE(encoder, decoder, 784, latents)


def train_rate(kind: str, dial: float, seed: int, steps: int = 4000) -> dict:
    """Bits against squared error on Fashion-MNIST's test images: a "VQ-VAE" with `dial` codes, or a "VAE" of that sigma.

    bits: of the VQ-VAE `fixed_bits` at log2(codes) a place and `bits` by the codes' frequencies; of the VAE its rate.
    """
    images = datasets.load("fashion_mnist")
    model = vq_vae(int(dial), seed) if kind == "VQ-VAE" else grid_vae(dial, 4, seed)
    history = training.fit(model, images.train, steps=steps, batch_size=32, seed=seed, **SETTINGS)
    model.eval()
    row: dict = {"training_seconds": round(history.seconds, 1)}
    if kind == "VQ-VAE":
        score = evaluate(model, images.test)
        error = score.nmse * images.test.double().square().sum(-1).mean().item()
        return row | {
            "squared_error": error,
            "bits": score.coded_bits,
            "fixed_bits": score.fixed_bits,
            "perplexity": score.perplexity,
            "usage": score.usage,
        }
    generator, errors, rates = _generator(0), [], []
    with torch.no_grad():
        for x in images.test.split(1000):
            q = model.encode(x)
            errors.append((model.decode(q.sample(generator)).mean - x).square().sum(-1))
            rates.append(q.kl_to_standard())
    return row | {"squared_error": torch.cat(errors).mean().item(), "bits": torch.cat(rates).mean().item() / log(2)}


rate = Experiment(
    train_rate,
    cases=[
        {"kind": kind, "dial": dial, "seed": seed}
        for kind, dials in (("VQ-VAE", (4, 16, 64, 256, 1024)), ("VAE", (0.05, 0.1, 0.2, 0.4)))
        for dial in dials
        for seed in SEEDS
    ],
    replay={"kind": "VAE", "dial": 0.2, "seed": 0, "steps": 3},
)
