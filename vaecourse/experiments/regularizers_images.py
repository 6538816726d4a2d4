"""The experiments of the chapter on other regularizers at 28 x 28: the published sweep of the skew, and a collapse that is one.

"mnist" and "fashion_mnist": gray, 60,000 to train, 10,000 to test. "mnist5k": 4,000 to train and 1,000 to test, pixels drawn
afresh each step. Adam at 1e-3, batches of 100. Bounds, rates and informations are nats an image, squared errors are summed over
pixels.
"""

from functools import partial
from math import log
from typing import Any

import torch
from torch import Generator, Tensor
from torch.optim import Adam

from vaecourse import datasets, importance, training
from vaecourse.beta_vae import BetaVAE
from vaecourse.distributions import Normal
from vaecourse.experiments import Experiment
from vaecourse.experiments.regularizers import codes_used
from vaecourse.networks import BernoulliNetwork, GaussianNetwork, initial_weights, mlp
from vaecourse.regularizers import DUVAE, GeometricVAE
from vaecourse.vae import VAE, evaluate, gaussian_vae

SEEDS = (0, 1, 2)
ADAM = partial(Adam, lr=1e-3, fused=True)


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def _bytes(images: Tensor) -> Tensor:
    return (255 * images.clamp(0, 1)).round().to(torch.uint8)


# The skew, as Deasy, Simidjievski and Lio (2020) varied it


def trained_vae(images: Tensor, seed: int, steps: int, c: float, **kind: Any) -> tuple[VAE, float]:
    """A VAE of that kind with 10 latents, 256 and 128 tanh units each way and a decoder of variance c, trained; seconds."""
    model = gaussian_vae(784, 10, (256, 128), log_sigma=0.5 * log(c), seed=seed, **kind)
    settings = {"optimizer": ADAM, "schedule": training.cosine, "progress": False, "device": "cpu"}
    history = training.fit(model, images, steps=steps, seed=seed, **settings)
    return model.eval(), history.seconds


def train_skew(data: str, alpha: float, dual: bool, seed: int, steps: int = 5000, c: float = 0.02, images: int = 1000) -> dict:
    """What it scores with that skew. The dual's ends are those of the other, exchanged.

    Tensors, for seed 0: the first 8 test images and their reconstructions.
    """
    gray = datasets.load(data)
    model, seconds = trained_vae(gray.train, seed, steps, c, kind=GeometricVAE, alpha=alpha, dual=dual)
    row = _scored(model, gray.test, images) | {"training_seconds": round(seconds, 1)}
    if seed == 0:
        row |= {"images": _bytes(gray.test[:8]), "rebuilt": _bytes(model.reconstruct(gray.test[:8]))}
    return row


def _scored(model: VAE, test: Tensor, images: int) -> dict:
    """squared_error: of reconstructions at the mean code, over all test images; the bounds over `images`, 200 draws each."""
    score = evaluate(model, test[:images], 200, _generator(0))
    with torch.no_grad():
        rebuilt = model.reconstruct(test)
        sigma = (2 * model.encode(test).log_sigma).exp().mean().sqrt().item()
    return {
        "squared_error": ((rebuilt - test) ** 2).sum(-1).mean().item(),
        "negative_elbo": score.negative_elbo,
        "nll": score.nll,
        "rate": score.rate,
        "active_units": score.active_units,
        "sigma": sigma,
    }


skew = Experiment(
    train_skew,
    [
        {"data": data, "alpha": alpha, "dual": dual, "seed": seed}
        for data in ("mnist", "fashion_mnist")
        for dual, alphas in ((False, (0.0, 0.1, 0.3, 0.5, 1.0)), (True, (0.1, 0.3, 0.5)))
        for alpha in alphas
        for seed in SEEDS
    ],
    {"data": "mnist", "alpha": 0.3, "dual": True, "seed": 1, "steps": 20, "images": 50},
)

squares = Experiment(  # with a nat at the price of one squared error, as the published loss has it: c = 1/2
    train_skew,
    [
        {"data": "mnist", "alpha": alpha, "dual": dual, "seed": seed, "c": 0.5}
        for dual, alphas in ((False, (0.0, 0.1, 0.3, 0.5, 1.0)), (True, (0.1, 0.3, 0.5)))
        for alpha in alphas
        for seed in SEEDS
    ],
    {"data": "mnist", "alpha": 0.3, "dual": True, "seed": 1, "c": 0.5, "steps": 20, "images": 50},
)


class Wide(BetaVAE):
    """A VAE that pays beta for a nat of KL; its codes are never narrower than `floor`, whose square is added to variances."""

    def __init__(self, *parts: Any, beta: float, floor: float):
        super().__init__(*parts, beta=beta)
        self.floor = floor

    def encode(self, x: Tensor) -> Normal:
        """q(z | x)."""
        q = super().encode(x)
        return Normal(q.mu, 0.5 * ((2 * q.log_sigma).exp() + self.floor**2).log())


def train_width(
    data: str, beta: float, floor: float, seed: int, steps: int = 5000, c: float = 0.02, images: int = 1000
) -> dict:
    """What it scores with KL at another price, or with wider codes: the two things that a skew does, apart."""
    gray = datasets.load(data)
    model, seconds = trained_vae(gray.train, seed, steps, c, kind=Wide, beta=beta, floor=floor)
    return _scored(model, gray.test, images) | {"training_seconds": round(seconds, 1)}


widths = Experiment(
    train_width,
    [
        {"data": data, "beta": beta, "floor": floor, "seed": seed}
        for data in ("mnist", "fashion_mnist")
        for beta, floor in ((0.5, 0.0), (1.0, 0.1), (1.0, 0.25))
        for seed in SEEDS
    ],
    {"data": "mnist", "beta": 0.5, "floor": 0.1, "seed": 1, "steps": 20, "images": 50},
)


def weigh_widened(alpha: float, seed: int, steps: int = 5000, c: float = 0.02, images: int = 300, draws: int = 2000) -> dict:
    """Minus the importance-weighted bound of such a VAE on MNIST, geometric JS, with the deviations of q times 1, 1.5, 2 and 3.

    All bound -log p(x) of the test images from above; the least is the nearest. train, test: -ELBO of 5,000 images each.
    """
    gray = datasets.load("mnist")
    model, _ = trained_vae(gray.train, seed, steps, c, kind=GeometricVAE, alpha=alpha, dual=False)
    row = {}
    with torch.no_grad():
        for name, x in (("train", gray.train[:5000]), ("test", gray.test[:5000])):
            row[name] = -model.elbo(x, 5, _generator(seed)).value.double().mean().item()
        for widened in (1.0, 1.5, 2.0, 3.0):
            bounds, noise = [], _generator(seed)
            for x in gray.test[:images].split(25):
                q = model.encode(x)
                q = Normal(q.mu, q.log_sigma + log(widened))
                bounds.append(importance.log_mean(importance.log_weights(partial(model.log_joint, x), q, draws, noise)))
            row[f"nll_{widened:g}"] = -torch.cat(bounds).double().mean().item()
    return row


ruler = Experiment(
    weigh_widened,
    [{"alpha": alpha, "seed": seed} for alpha in (0.0, 0.1, 0.3) for seed in SEEDS],
    {"alpha": 0.3, "seed": 1, "steps": 20, "images": 20, "draws": 20},
)


# A decoder so deep that at the start its codes hardly reach the pixels


def deep_vae(kind: str, depth: int, latents: int, seed: int) -> VAE:
    """A VAE with `depth` tanh layers of 128 in its decoder: "VAE"; "batch norm", means normalized; "DU-VAE", with dropout.

    "batch norm, eps 1e-5" adds what torch's does to the variance that means are divided by.
    """
    with initial_weights(seed):
        encoder = GaussianNetwork(mlp(784, 128, 2 * latents))
        decoder = BernoulliNetwork(mlp(latents, *[128] * depth, 784))
        if kind == "VAE":
            return VAE(encoder, decoder, 784, latents)
        eps = 1e-5 if kind == "batch norm, eps 1e-5" else 1e-12
        return DUVAE(encoder, decoder, 784, latents, gamma=0.7, keep=0.8 if kind == "DU-VAE" else 1.0, eps=eps)


def train_deep(kind: str, depth: int, seed: int, steps: int = 6000, latents: int = 16, draws: int = 200) -> dict:
    """That model on MNIST's digits: what it scores, how many latents it uses, what they tell of the images, and what it shows.

    curve_rate, curve_negative_elbo: of the test images, after `moments` steps.
    information: I(x; z) of the training images, at most log 4,000 = 8.29. accuracy: of a linear classifier of posterior means.
    Tensors, for seed 0: 8 test images as drawn, their reconstructions, 8 samples.
    """
    digits = datasets.load("mnist5k")
    test = datasets.binarize(digits.test, _generator(0))
    model = deep_vae(kind, depth, latents, seed)
    curve: dict[str, list] = {"moments": [], "curve_rate": [], "curve_negative_elbo": []}
    settings = {"transform": datasets.binarize, "optimizer": ADAM, "schedule": training.cosine, "device": "cpu"}
    for run in training.train(model, digits.train, steps=steps, seed=seed, **settings):
        if run.step % max(1, steps // 30) == 0:
            model.eval()
            with torch.no_grad():
                bound = model.elbo(test, generator=_generator(1))
            model.train()
            for name, value in zip(curve, (run.step, bound.rate.mean().item(), -bound.value.mean().item()), strict=True):
                curve[name].append(value)
    model.eval()
    row = {**codes_used(model, digits, draws), "training_seconds": round(run.seconds, 1), **curve}
    if seed == 0:
        rebuilt, made = model.reconstruct(test[:8]), model.sample(8, _generator(0))
        row |= {"images": _bytes(test[:8]), "rebuilt": _bytes(rebuilt), "samples": _bytes(made)}
    return row


deep = Experiment(
    train_deep,
    [
        *(
            {"kind": kind, "depth": depth, "seed": seed}
            for depth in (3, 5, 7)
            for kind in ("VAE", "batch norm", "DU-VAE")
            for seed in SEEDS
        ),
        *({"kind": "batch norm, eps 1e-5", "depth": 7, "seed": seed} for seed in SEEDS),
    ],
    {"kind": "DU-VAE", "depth": 3, "seed": 1, "steps": 12, "draws": 2},
)
