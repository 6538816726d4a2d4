"""The experiments of the chapter on the VAE. All figures are nats per image.

The digits: scikit-learn's, 8 x 8, 1,500 to train with pixels drawn afresh each step, 297 to test with pixels drawn once;
two hidden layers of 128 tanh units each way, 8 latents, Adam at 1e-3, batches of 100, 4,000 steps; test figures from 500
draws an image.
"""

from math import log
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from vaecourse import datasets, training
from vaecourse.distributions import Normal
from vaecourse.experiments import Experiment
from vaecourse.training import TrainingDiverged
from vaecourse.vae import IWAE, VAE, bernoulli_vae, evaluate, gaussian_vae

SEEDS = (0, 1, 2)
LATENTS = 8


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def _binary_digits() -> tuple[Tensor, Tensor]:
    """The digits' gray training images, and the test images binarized once."""
    digits = datasets.load("digits")
    return digits.train, datasets.binarize(digits.test, _generator(0))


def _score(model: VAE, test: Tensor, draws: int = 500) -> dict:
    model = model.to(training.default_device())
    score = evaluate(model, test, draws, torch.Generator(model.device).manual_seed(0))
    return {
        "negative_elbo": score.negative_elbo,
        "distortion": score.distortion,
        "rate": score.rate,
        "nll": score.nll,
        "active_units": score.active_units,
    }


# The right model, and the importance-weighted bound as its objective.


def train_digits(k: int, seed: int, steps: int = 4000) -> dict:
    """A VAE (k = 1, by L^B) or an IWAE (k > 1) on the binary digits."""
    train, test = _binary_digits()
    kind = {} if k == 1 else {"kind": IWAE, "draws": k}
    model = bernoulli_vae(64, LATENTS, seed=seed, **kind)
    history = training.fit(model, train, steps=steps, seed=seed, transform=datasets.binarize)
    return {**_score(model, test), "training_seconds": round(history.seconds, 2)}


digits = Experiment(
    train_digits,
    cases=[{"k": k, "seed": seed} for k in (1, 5, 50) for seed in SEEDS],
    replay={"k": 5, "seed": 0, "steps": 60},
)


# Mistakes: each is an objective, (model, x, generator) -> what its log would report, and the model it is tried on.


def right(model: VAE, x: Tensor, generator: Generator) -> Tensor:
    """-ELBO by L^B, nothing wrong."""
    return -model.elbo(x, generator=generator).value.mean()


def pixels_averaged(model: VAE, x: Tensor, generator: Generator) -> Tensor:
    """The distortion is averaged over pixels, the rate is summed over latents."""
    elbo = model.elbo(x, generator=generator)
    return (elbo.distortion / model.pixels + elbo.rate).mean()


def latents_averaged(model: VAE, x: Tensor, generator: Generator) -> Tensor:
    """The rate is averaged over latents, the distortion is summed over pixels."""
    elbo = model.elbo(x, generator=generator)
    return (elbo.distortion + elbo.rate / model.latents).mean()


def _with_code(model: VAE, x: Tensor, z: Tensor, q: Normal, sign: int = 1) -> Tensor:
    return (-model.decode(z).log_prob(x) + sign * q.kl_to_standard()).mean()


def variance_as_deviation(model: VAE, x: Tensor, generator: Generator) -> Tensor:
    """The noise is scaled by exp(log sigma^2), the variance, instead of sigma."""
    q = model.encode(x)
    return _with_code(model, x, Normal(q.mu, 2 * q.log_sigma).sample(generator), q)


def uniform_noise(model: VAE, x: Tensor, generator: Generator) -> Tensor:
    """`rand_like` for `randn_like`: the noise is uniform on [0, 1]."""
    q = model.encode(x)
    eps = torch.rand(q.mu.shape, generator=generator, device=q.mu.device)
    return _with_code(model, x, q.mu + q.log_sigma.exp() * eps, q)


def faint_noise(model: VAE, x: Tensor, generator: Generator) -> Tensor:
    """The noise is scaled by 0.01."""
    q = model.encode(x)
    return _with_code(model, x, Normal(q.mu, q.log_sigma + log(0.01)).sample(generator), q)


def rate_subtracted(model: VAE, x: Tensor, generator: Generator) -> Tensor:
    """The rate has the wrong sign in the loss."""
    q = model.encode(x)
    return _with_code(model, x, q.sample(generator), q, sign=-1)


def code_at_mean(model: VAE, x: Tensor, generator: Generator) -> Tensor:
    """An "ELBO" at z = mu, with no noise."""
    q = model.encode(x)
    return _with_code(model, x, q.mu, q)


def squared_error(model: VAE, x: Tensor, generator: Generator) -> Tensor:
    """Sum of squared errors without its 1/2: a Gaussian decoder of variance 1/2 that nobody mentions."""
    q = model.encode(x)
    return ((x - model.decode(q.sample(generator)).mean) ** 2).sum(-1).mean() + q.kl_to_standard().mean()


def mean_squared_error(model: VAE, x: Tensor, generator: Generator) -> Tensor:
    """Squared error averaged over pixels: a Gaussian decoder of variance pixels / 2 that nobody mentions."""
    q = model.encode(x)
    return ((x - model.decode(q.sample(generator)).mean) ** 2).mean() + q.kl_to_standard().mean()


BINARY = {  # name: (objective in training, objective whose value is reported)
    "right": (right, right),
    "pixels averaged": (pixels_averaged, pixels_averaged),
    "latents averaged": (latents_averaged, latents_averaged),
    "variance as deviation": (variance_as_deviation, variance_as_deviation),
    "uniform noise": (uniform_noise, uniform_noise),
    "faint noise": (faint_noise, faint_noise),
    "rate subtracted": (rate_subtracted, rate_subtracted),
    "gray pixels": (right, right),
    "code at mean": (right, code_at_mean),
}

GRAY = {  # name: (objective, the decoder's variance that it implies; None where it is learned)
    "right, gray": (right, None),
    "squared error": (squared_error, 0.5),
    "mean squared error": (mean_squared_error, 32.0),
}


def train_mistake(mistake: str, seed: int, steps: int = 4000) -> dict:
    """One objective on the digits: what its log reports on the test images, and what is true of the model.

    A run that diverges reports the step at which it did, and no score.
    """
    gray = datasets.load("digits")
    if mistake in BINARY:
        model = bernoulli_vae(64, LATENTS, seed=seed)
        objective, report = BINARY[mistake]
        _, test = _binary_digits()
        transform = None if mistake == "gray pixels" else datasets.binarize
        reported_on = gray.test if mistake == "gray pixels" else test
    else:
        objective, variance = GRAY[mistake]
        report, test, reported_on, transform = objective, gray.test, gray.test, None
        log_sigma = nn.Parameter(torch.tensor(-1.0)) if variance is None else 0.5 * log(variance)
        model = gaussian_vae(64, LATENTS, log_sigma=log_sigma, seed=seed)
    model.loss = lambda x, generator: {"loss": objective(model, x, generator)}
    try:
        training.fit(model, gray.train, steps=steps, seed=seed, transform=transform)
    except TrainingDiverged as error:
        return {"diverged": error.step, "reported": None, "negative_elbo": None, "nll": None, "active_units": None}
    generator = _generator(0)
    with torch.no_grad():
        reported = sum(report(model, reported_on, generator).item() for _ in range(50)) / 50
    return {"diverged": None, "reported": reported, **_score(model, test)}


mistakes = Experiment(
    train_mistake,
    cases=[{"mistake": mistake, "seed": seed} for mistake in (*BINARY, *GRAY) for seed in SEEDS],
    replay={"mistake": "variance as deviation", "seed": 0, "steps": 60},
)


# L^A against L^B: which one varies less depends on what is asked.


def estimator_spread(steps: int, seed: int, draws: int = 1000) -> dict:
    """Spread of the two estimators on one batch of 100 test digits, one draw an image, after that many training steps.

    value_sd: the standard deviation of the batch mean. gradient_variance: of its gradient, summed over all parameters.
    """
    train, test = _binary_digits()
    model = bernoulli_vae(64, LATENTS, seed=seed)
    if steps:
        training.fit(model, train, steps=steps, seed=seed, transform=datasets.binarize)
    batch, generator = test[:100], _generator(0)
    estimators = {
        "a": lambda: model.elbo_a(batch, generator=generator),
        "b": lambda: model.elbo(batch, generator=generator).value,
    }
    row = {}
    for name, estimator in estimators.items():
        values, gradients = [], []
        for _ in range(draws):
            value = estimator().mean()
            gradient = torch.autograd.grad(value, list(model.parameters()))
            values.append(value.item())
            gradients.append(torch.cat([part.flatten() for part in gradient]))
        row[f"value_sd_{name}"] = torch.tensor(values).std().item()
        row[f"gradient_variance_{name}"] = torch.stack(gradients).var(0).sum().item()
    return row


estimators = Experiment(
    estimator_spread,
    cases=[{"steps": steps, "seed": seed} for steps in (0, 500, 4000) for seed in SEEDS],
    replay={"steps": 0, "seed": 0, "draws": 20},
)


# MNIST's digits in a plane, for the reader to walk in.


def train_plane(seed: int, steps: int = 8000) -> dict:
    """A VAE with two latents on 4,000 MNIST digits, pixels drawn afresh each step; its weights are the result."""
    digits5k = datasets.load("mnist5k")
    model = bernoulli_vae(784, 2, hidden=(256,), seed=seed)
    training.fit(model, digits5k.train, steps=steps, seed=seed, transform=datasets.binarize)
    score = _score(model, datasets.binarize(digits5k.test, _generator(0)), draws=100)
    return {**score, **model.state_dict()}


plane = Experiment(train_plane, cases=[{"seed": 0}], replay={"seed": 0, "steps": 30})


# The published yardstick: MNIST, binarized once, against the likelihoods in the literature.


def train_static_mnist(seed: int, steps: int = 25_000, draws: int = 500, checkpoint: Path | None = None) -> dict:
    """A VAE of two hidden layers of 200 tanh units each way and 50 latents on Larochelle's binarized MNIST, 50 epochs."""
    images = datasets.load("binarized_mnist")
    model = bernoulli_vae(784, 50, hidden=(200, 200), seed=seed)
    history = training.fit(model, images.train, steps=steps, seed=seed, checkpoint=checkpoint)
    epochs = steps * 100 / len(images.train)
    return {**_score(model, images.test, draws), "epochs": epochs, "training_seconds": round(history.seconds, 1)}


static_mnist = Experiment(
    train_static_mnist,
    cases=[{"seed": seed} for seed in SEEDS],
    replay={"seed": 0, "steps": 30, "draws": 2},
)
