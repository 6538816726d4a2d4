"""The experiments of the chapter on autoencoders: when a network is PCA, when it is more, and when it is less.

The digits: scikit-learn's, 8 x 8, gray, 1,500 to train, 297 to test. Errors are squared distances summed over pixels.
"""

from functools import partial

import torch
from torch import Tensor

from vaecourse import autoencoders, datasets, pca, training
from vaecourse.autoencoders import Autoencoder
from vaecourse.experiments import Experiment

SEEDS = (0, 1, 2)


def _fit(model: Autoencoder, x: Tensor, steps: int, seed: int, rates: tuple[float, ...] = (1e-3,), batch_size: int = 100):
    for rate in rates:
        adam = partial(torch.optim.Adam, lr=rate, fused=True)
        training.fit(model, x, steps=steps, seed=seed, batch_size=batch_size, optimizer=adam, progress=False, device="cpu")


@torch.no_grad()
def _error(model: Autoencoder, x: Tensor) -> float:
    return model.error(x).mean().item()


# A linear code against PCA


def linear_code(shared: bool, centered: bool, seed: int, latents: int = 8, steps: int = 3000) -> dict:
    """A linear autoencoder on all training digits at once, with falling learning rates: its subspace against that of PCA.

    angle: the largest principal angle, in radians. skew: the largest cosine between two of the decoder's directions.
    correlation: the largest between two codes. centered=False: no biases and no centering, so that the subspace must pass
    through 0.
    """
    x = datasets.load("digits").train.double()
    basis = pca.svd(x, latents)
    model = autoencoders.linear(64, latents, shared=shared, seed=seed).double()
    if centered:
        x = x - basis.mean
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
            parameter.requires_grad_(centered)
    _fit(model, x, steps, seed, (1e-2, 1e-3, 1e-4, 1e-5), batch_size=len(x))
    U = autoencoders.decoder_basis(model)
    U = U / U.norm(dim=0)
    z = model.encode(x).detach()
    off = ~torch.eye(latents, dtype=torch.bool)
    return {
        "angle": autoencoders.principal_angles(U, basis.components).max().item(),
        "error": _error(model, x),
        "error_pca": basis.error_by_rank[latents].item(),
        "skew": (U.T @ U)[off].abs().max().item(),
        "correlation": torch.corrcoef(z.T)[off].abs().max().item(),
    }


linear = Experiment(
    linear_code,
    [
        {"shared": shared, "centered": centered, "seed": seed}
        for shared, centered in ((False, True), (True, True), (False, False))
        for seed in SEEDS
    ],
    {"shared": False, "centered": True, "seed": 0, "latents": 2, "steps": 100},
)


# How wide a code


def code_width(latents: int, seed: int, steps: int = 3000) -> dict:
    """PCA, a deep and a convolutional autoencoder with that many latents: errors, and what a linear classifier reads.

    random: the mean squared distance from the decoded images of codes drawn from a Gaussian fitted to the deep code, to the
    nearest training digit.
    """
    digits = datasets.load("digits")
    basis = pca.svd(digits.train, latents)
    models = {
        "pca": basis,
        "deep": autoencoders.deep(64, latents, seed=seed),
        "convolutional": autoencoders.convolutional((1, 8, 8), latents, seed=seed),
    }
    row = {}
    for name, model in models.items():
        if isinstance(model, Autoencoder):
            _fit(model, digits.train, steps, seed)
        with torch.no_grad():
            train, test = model.encode(digits.train), model.encode(digits.test)
            row[f"error_train_{name}"] = model.error(digits.train).mean().item()
            row[f"error_test_{name}"] = model.error(digits.test).mean().item()
        row[f"accuracy_{name}"] = autoencoders.probe(train, digits.train_labels, test, digits.test_labels)
    with torch.no_grad():
        z = models["deep"].encode(digits.train)
        scatter = torch.linalg.cholesky(torch.atleast_2d(torch.cov(z.T)) + 1e-6 * torch.eye(latents))
        eps = torch.randn(1000, latents, generator=torch.Generator().manual_seed(seed))
        drawn = models["deep"].decode(z.mean(0) + eps @ scatter.T)
        row["random"] = autoencoders.distance_to_data(drawn, digits.train).mean().item()
    return row


width = Experiment(
    code_width,
    [{"latents": latents, "seed": seed} for latents in (1, 2, 4, 8, 16) for seed in SEEDS],
    {"latents": 2, "seed": 0, "steps": 60},
)


# Alive, and flies


def toy_code(latents: int, seed: int, steps: int = 3000) -> dict:
    """A deep autoencoder on dogs, birds, cars and planes: what a linear classifier reads from codes of one or two numbers.

    codes and labels are those of the 200 test descriptions.
    """
    x, labels = autoencoders.creatures(1000, torch.Generator().manual_seed(seed))
    train, test = x[:800], x[800:]
    model = autoencoders.deep(12, latents, hidden=(32, 32), seed=seed)
    _fit(model, train, steps, seed)
    with torch.no_grad():
        z_train, z_test = model.encode(train), model.encode(test)
    row = {"error_test": _error(model, test), "codes": z_test, "labels": labels[800:]}
    for name, question in (("alive", labels < 2), ("flies", labels % 2 == 1), ("kind", labels)):
        answers = question.long()
        row[name] = autoencoders.probe(z_train, answers[:800], z_test, answers[800:])
    return row


toy = Experiment(
    toy_code,
    [{"latents": latents, "seed": seed} for latents in (1, 2) for seed in SEEDS],
    {"latents": 2, "seed": 0, "steps": 60},
)


# Too much freedom


def few_data(n: int, seed: int, steps: int = 3000, stops: int = 12) -> dict:
    """A deep autoencoder with 16 latents on n digits: errors on these and on the test digits as training goes on."""
    digits = datasets.load("digits")
    model = autoencoders.deep(64, 16, hidden=(256, 256), seed=seed)
    row: dict = {"steps": [], "error_train": [], "error_test": []}
    run = training.train(model, digits.train[:n], steps=steps, batch_size=min(n, 100), seed=seed, device="cpu")
    for state in run:
        if state.step % (steps // stops) == 0:
            row["steps"].append(state.step)
            row["error_train"].append(_error(model, digits.train[:n]))
            row["error_test"].append(_error(model, digits.test))
    return row


overfitting = Experiment(
    few_data,
    [{"n": n, "seed": seed} for n in (50, 200, 1500) for seed in SEEDS],
    {"n": 50, "seed": 0, "steps": 60, "stops": 2},
)


def copy_error(latents: int, seed: int, steps: int = 6000) -> dict:
    """A linear autoencoder on the digits: its error on them, and on images of uniform noise, which are nothing like them.

    With as many latents as pixels it learns to copy whatever it is given.
    """
    digits = datasets.load("digits")
    model = autoencoders.linear(64, latents, seed=seed)
    _fit(model, digits.train, steps, seed, (1e-2, 1e-3))
    noise = torch.rand(297, 64, generator=torch.Generator().manual_seed(seed))
    return {"error_digits": _error(model, digits.test), "error_noise": _error(model, noise)}


identity = Experiment(
    copy_error,
    [{"latents": latents, "seed": seed} for latents in (8, 32, 64) for seed in SEEDS],
    {"latents": 8, "seed": 0, "steps": 60},
)
