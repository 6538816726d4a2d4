"""The experiments of the chapter on the VQ-VAE.

The digits: scikit-learn's, 8 x 8, gray, 1,500 to train and 297 to test; a grid of 4 x 4 codes of 8 dimensions; one learned
standard deviation for all pixels; Adam at 1e-3, batches of 100. Distortion in nats per image, rates in bits per image.
"""

import torch
from torch import nn

from vaecourse import datasets, training
from vaecourse.experiments import Experiment
from vaecourse.vq_vae import VQVAE, conv_vq_vae, evaluate, perplexity

SEEDS = (0, 1, 2)
MOMENTS = (50, 100, 200, 300, 400, 600, 800, 1000, 1250, 1500)


def digits_model(codes: int, rule: str, scale: float, seed: int) -> VQVAE:
    """A VQ-VAE for the digits, whose codes start at `scale` times a standard normal.

    `rule`: how they learn. "gradient"; or averages whose counts start at zero ("cold"), or at one ("one"), also with "revival".
    """
    more = {"by_gradient": True} if rule == "gradient" else {"revive_below": 0.5 if rule == "revival" else 0.0}
    model = conv_vq_vae((1, 8, 8), codes, dim=8, log_sigma=nn.Parameter(torch.tensor(-1.0)), seed=seed, **more)
    with torch.no_grad():
        model.codebook.vectors.mul_(scale)
        if rule != "gradient":
            model.codebook.sums.mul_(scale)
        if rule == "cold":
            model.codebook.counts.zero_()
    return model


def _result(model: VQVAE) -> dict:
    digits = datasets.load("digits")
    score = evaluate(model, digits.test)
    batches = [perplexity(code, model.codebook.codes) for code in model.codes(digits.test[:290]).split(10)]
    return {
        "perplexity": score.perplexity,
        "usage": score.usage,
        "nmse": score.nmse,
        "distortion": score.distortion,
        "fixed_bits": score.fixed_bits,
        "coded_bits": score.coded_bits,
        "batch_perplexity": sum(batches) / len(batches),  # mean over batches of ten images
    }


def train_digits(rule: str, scale: float, seed: int, steps: int = 1500) -> dict:
    """One rule on the digits: figures on the test images at the end, and on the training images on the way.

    farthest: the norm of the farthest code after the first step.
    """
    train = datasets.load("digits").train
    model = digits_model(128, rule, scale, seed)
    curve: dict[str, list[float]] = {"curve_step": [], "curve_perplexity": [], "curve_nmse": []}
    for run in training.train(model, train, steps=steps, seed=seed):
        if run.step == 1:
            farthest = model.codebook.vectors.norm(dim=1).max().item()
        if run.step in MOMENTS or run.step == steps:
            score = evaluate(model, train)
            for name, value in zip(curve, (run.step, score.perplexity, score.nmse), strict=True):
                curve[name].append(value)
    return {**_result(model.eval()), "farthest": farthest, **curve, "training_seconds": round(run.seconds, 2)}


digits = Experiment(
    train_digits,
    cases=[
        {"rule": rule, "scale": scale, "seed": seed}
        for rule, scale in (("cold", 1.0), ("one", 1.0), ("revival", 1.0), ("gradient", 1.0), ("cold", 0.01), ("one", 0.01))
        for seed in SEEDS
    ],
    replay={"rule": "revival", "scale": 1.0, "seed": 0, "steps": 60},
)


def train_rate(codes: int, seed: int, steps: int = 1000) -> dict:
    """A codebook of so many codes, with revival: what more bits buy."""
    model = digits_model(codes, "revival", 1.0, seed)
    training.fit(model, datasets.load("digits").train, steps=steps, seed=seed)
    return _result(model)


rate = Experiment(
    train_rate,
    cases=[{"codes": codes, "seed": seed} for codes in (2, 8, 32, 512) for seed in SEEDS],
    replay={"codes": 8, "seed": 0, "steps": 60},
)


def train_commitment(beta: float, seed: int, steps: int = 800) -> dict:
    """The weight of the commitment: how large the encoder's vectors become, and how often an image's codes change.

    size: the root of the mean squared norm of the training images' vectors. changed: the share of their codes that a step
    changes, averaged over the last ten steps.
    """
    train = datasets.load("digits").train
    model = digits_model(128, "revival", 1.0, seed)
    model.codebook.beta = beta
    changes, before = [], None
    for run in training.train(model, train, steps=steps, seed=seed):
        if run.step >= steps - 10:
            code = model.codes(train)
            if before is not None:
                changes.append((code != before).double().mean().item())
            before = code
    model.eval()
    with torch.no_grad():
        size = model.encode(train).z.square().sum(-1).mean().sqrt().item()
    return {**_result(model), "size": size, "changed": sum(changes) / len(changes)}


commitment = Experiment(
    train_commitment,
    cases=[{"beta": beta, "seed": seed} for beta in (0.0, 0.1, 0.25, 1.0, 2.0) for seed in SEEDS],
    replay={"beta": 0.25, "seed": 0, "steps": 60},
)
