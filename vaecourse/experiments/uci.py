"""Bayesian networks on tables of the UCI repository, by Renyi's bounds. As in Li and Turner (2016), section 5.1.

One layer of 50 ReLU units, weights and biases N(0, 1), normal noise of one deviation; q a Gaussian with independent
coordinates; batches of 32, whose log-likelihood is taken N / M times, 100 draws a step, Adam at 1e-3, 500 epochs; twenty random
splits, nine tenths to train. Inputs and targets are standardized; what is stored is in the targets' own unit.
"""

from functools import partial
from math import ceil, log

import torch
from torch import Tensor

from vaecourse import datasets, fvi, training
from vaecourse.distributions import Normal
from vaecourse.experiments import Experiment
from vaecourse.gradients import BlackBoxVI, Estimate, along
from vaecourse.importance import LogJoint, log_densities, log_mean
from vaecourse.randomness import own_generator

HIDDEN = 50
BATCH = 32


def shapes(dim: int) -> list[tuple[int, ...]]:
    """Of the latents, in their order: log sigma of the noise, the first layer's weights and biases, the second's."""
    return [(1,), (dim, HIDDEN), (HIDDEN,), (HIDDEN, 1), (1,)]


def predict(z: Tensor, x: Tensor) -> Normal:
    """The targets of rows x, (n, dim), by networks z, (draws, latents): a Normal over (draws, n, 1)."""
    sizes = [torch.Size(shape).numel() for shape in shapes(x.shape[1])]
    parts = zip(z.split(sizes, -1), shapes(x.shape[1]), strict=True)
    log_sigma, W, b, V, c = (part.unflatten(-1, shape) for part, shape in parts)
    hidden = (x @ W + b[..., None, :]).relu()
    mean = hidden @ V + c[..., None, :]
    return Normal(mean, log_sigma[..., None, :].expand_as(mean))


def log_joint(batch: tuple[Tensor, Tensor], population: int) -> LogJoint:
    """log p(z) + N / M times the batch's log-likelihood."""
    x, y = batch

    def of(z: Tensor) -> Tensor:
        return fvi.scaled_log_joint(Normal.standard(z).log_prob(z), predict(z, x).log_prob(y[:, None]), population)

    return of


def _importance_weighted(q: Normal, log_joint: LogJoint, z: Tensor) -> Estimate:
    """Renyi's bound at alpha = 0 from K draws: log of the mean weight, below log p(x) for finite K alone."""

    def bound(q: Normal, z: Tensor) -> Tensor:
        log_p, log_q = log_densities(log_joint, q, z)
        return log_mean(log_p - log_q)

    return along(q, bound, z)


def start(dim: int, seed: int) -> Normal:
    """Means drawn as for an ordinary network, N(0, 1 / inputs) in each layer, biases and log sigma at zero; deviations e^-3."""
    fan_in = torch.cat([torch.full((torch.Size(shape).numel(),), float(shape[0])) for shape in shapes(dim)])
    weights = torch.cat([torch.full((torch.Size(shape).numel(),), float(len(shape) == 2)) for shape in shapes(dim)])
    mu = weights * torch.randn(len(fan_in), generator=own_generator(seed)) / fan_in.sqrt()
    return Normal(mu, torch.full_like(mu, -3.0))


def fit_network(data: str, alpha: float, split: int, epochs: int = 500, draws: int = 100) -> dict:
    """The root mean square error of the mean prediction, and -log p(y | x) by the mean density of 100 networks, nats a row."""
    parts = datasets.uci(data).split(split)
    n, dim = parts.train.shape
    estimator = _importance_weighted if alpha == 0 else partial(fvi.renyi_gradient, alpha=alpha)
    model = BlackBoxVI(start(dim, split), partial(log_joint, population=n), estimator, draws)
    adam = partial(torch.optim.Adam, lr=1e-3, fused=True)
    settings = {"steps": epochs * ceil(n / BATCH), "batch_size": BATCH, "seed": split, "optimizer": adam, "device": "cpu"}
    training.fit(model, (parts.train, parts.train_targets), progress=False, **settings)
    with torch.no_grad():
        told = predict(model.q.sample(own_generator(split), shape=(100,)), parts.test)
        error = told.mean.mean(0)[:, 0] - parts.test_targets
        density = log_mean(told.log_prob(parts.test_targets[:, None]))
    return {
        "rmse": parts.scale * error.square().mean().sqrt().item(),
        "nll": log(parts.scale) - density.mean().item(),
        "noise": parts.scale * model.q.mu[0].exp().item(),
    }


renyi = Experiment(
    fit_network,
    cases=[
        {"data": data, "alpha": alpha, "split": split}
        for data in ("yacht", "energy", "concrete")
        for alpha in (0.0, 0.5, 1.0)
        for split in range(20)
    ],
    replay={"data": "yacht", "alpha": 0.5, "split": 0, "epochs": 2, "draws": 5},
)
