"""Stochastic variational inference, for data too many for a pass a step (Hoffman, Blei, Wang and Paisley, 2013)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from vaecourse.cavi.mixture import GaussianMixture, MixturePosterior


@dataclass(frozen=True)
class StochasticStep:
    """Where the run stands after a step, and the size of that step.

    In q the sums and the entropy are moving averages over minibatches, scaled to the whole data; `model.assign(q)` replaces
    them by those of the whole data, and then `model.elbo` is exact.
    """

    step: int
    q: MixturePosterior
    size: float


def step_size(step: int, *, tau: float, kappa: float) -> float:
    """rho_t = (t + tau)^-kappa, t = 1, 2, ... (eq-cavi-step-size). Hoffman et al. (2013).

    Raises ValueError unless tau >= 0 and 1/2 < kappa <= 1: then the sum of rho_t diverges and the sum of its squares
    converges, so that the noise dies away but not the progress (Robbins and Monro, 1951).
    """
    if tau < 0 or not 0.5 < kappa <= 1:
        raise ValueError(f"step sizes need tau >= 0 and 1/2 < kappa <= 1, got tau = {tau} and kappa = {kappa}")
    return (step + tau) ** -kappa


def stochastic(
    model: GaussianMixture,
    q: MixturePosterior,
    steps: int,
    batch_size: int,
    generator: Generator | None = None,
    *,
    tau: float = 1.0,
    kappa: float = 0.7,
) -> Iterator[StochasticStep]:
    """Natural-gradient steps on minibatches, sums <- (1 - rho) sums + rho N / M batch's sums: yields after each.

    Equation eq-cavi-natural-gradient. A step finds the batch's q(z), scales its sums of features to the whole data, and moves a
    share rho_t of the way there. The sums plus the prior are q's natural parameters, and the way is the natural gradient; with
    all data in the batch and rho = 1 the step is a sweep of coordinate ascent. Hoffman et al. (2013). Batches come from
    shuffled passes over the data. Raises ValueError for a batch_size outside 1 to n. Nothing waits for the device, if the
    generator is there.
    """
    if not 1 <= batch_size <= model.n:
        raise ValueError(f"batch_size must lie between 1 and the {model.n} data points, got {batch_size}")
    device = q.statistics.device
    order = torch.empty(0, dtype=torch.long, device=device)
    for step in range(1, steps + 1):
        if len(order) < batch_size:
            fresh = torch.randperm(model.n, generator=generator, device=device if generator is None else generator.device)
            order = torch.cat([order, fresh.to(device)])
        batch, order = order[:batch_size], order[batch_size:]
        rho = step_size(step, tau=tau, kappa=kappa)
        seen = model.assign(q, batch)
        scale = model.n / batch_size

        def move(old: Tensor, new: Tensor, rho: float = rho, scale: float = scale) -> Tensor:
            return (1 - rho) * old + rho * scale * new

        q = model.posterior(move(q.statistics, seen.statistics), move(q.entropy, seen.entropy))
        yield StochasticStep(step, q, rho)
