"""The energy-based model: a density that is easy to draw from, corrected by an energy, and how the energy is trained.

Every model here is p(x) proportional to p_G(x) exp(-E(x)), where p_G is the law of x = T(eps), eps ~ N(0, I). So its chains
move in eps, where the potential is E(T(eps)) + |eps|^2 / 2, whatever T is: the Gaussian already holds T's Jacobian.
"""

from copy import deepcopy
from math import isfinite

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse import samplers
from vaecourse.importance import log_mean
from vaecourse.inputs import onto
from vaecourse.networks import move_average
from vaecourse.randomness import normal
from vaecourse.vaebm.chains import Chains
from vaecourse.vaebm.energy import EnergyNetwork


class EBM(nn.Module):
    """p(x) = N(x; 0, s^2 I) exp(-E(x)) / Z, s = `spread`: a plain energy-based model over a wide Gaussian (eq-vaebm-ebm).

    energy: E. dim: the width of eps. Training runs `steps` Langevin steps of size `step`, one for all coordinates of eps or
    one for each, from each chain of `chains` (width `dim`). `magnitude` and `spectral` weigh the two penalties of the loss;
    `decay` is that of the average of E's weights, with which samples are drawn after training.

    The step has to suit the narrowest well: where the potential curves by k, chains spread to a variance of
    1 / k / (1 - step k / 4). With step k above 1 no energy makes them as narrow as the data, and training digs its wells
    deeper and deeper.
    """

    def __init__(
        self,
        energy: EnergyNetwork,
        dim: int,
        chains: Chains,
        *,
        steps: int = 20,
        step: float | Float[Tensor, " dim"] = 0.01,
        magnitude: float = 0.0,
        spectral: float = 0.0,
        decay: float = 0.99,
        spread: float = 1.0,
    ):
        super().__init__()
        if steps < 1:
            raise ValueError(f"steps, the Langevin steps between two updates of the energy, must be at least 1, got {steps}")
        sizes = torch.as_tensor(step, dtype=torch.float64)
        if sizes.shape not in ((), (dim,)):
            raise ValueError(f"step is a number, or one for each of the {dim} coordinates of eps; got {tuple(sizes.shape)}")
        if not ((sizes > 0) & sizes.isfinite()).all() or not (spread > 0 and isfinite(spread)):
            raise ValueError(f"the step and the spread must be positive and finite, got {step} and {spread}")
        if not 0 <= decay < 1 or magnitude < 0 or spectral < 0:
            raise ValueError(f"needs 0 <= decay < 1 and penalties >= 0; got {decay}, {magnitude}, {spectral}")
        if chains.states.shape[1] != dim:
            raise ValueError(f"chains have the width of eps, {dim}; these have {chains.states.shape[1]}")
        self.energy, self.dim, self.chains = energy, dim, chains
        self.average = deepcopy(energy).requires_grad_(False)
        self.steps, self.magnitude, self.spectral, self.decay, self.spread = steps, magnitude, spectral, decay, spread
        if isinstance(step, Tensor):
            self.register_buffer("step", step, persistent=False)
        else:
            self.step = step

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.chains.states.device

    def transform(self, eps: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch features"]:
        """x = T(eps); here s eps."""
        return self.spread * eps

    def potential(self, eps: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """U(eps) = E(T(eps)) + |eps|^2 / 2 in nats, one a chain (eq-vaebm-eps-potential).

        Xiao et al. (2021). E is the network in training, and the average of its weights after it.
        """
        energy = self.energy if self.training else self.average
        return energy(self.transform(eps)) + 0.5 * (eps**2).sum(-1)

    def negatives(self, batch: int, generator: Generator | None = None) -> Float[Tensor, "batch features"]:
        """The negative phase: T(eps) of the next chains, after `steps` moves eps <- eps - h/2 grad U(eps) + sqrt(h) noise.

        h = `step`. The chains are put back. No gradient. Raises ValueError where there are fewer chains than a step takes.
        """
        eps = self.chains.take(batch, generator)
        for _ in range(self.steps):
            eps = samplers.langevin_step(self.potential, eps, step=self.step, generator=generator)
        self.chains.put(eps)
        with torch.no_grad():
            return self.transform(eps)

    def loss(self, x: Float[Tensor, "batch features"], generator: Generator | None = None) -> dict[str, Tensor]:
        """What training minimizes: E on data less E on chains, whose gradient is that of -log p(x), and two penalties.

        grad_E[-log p(x)] = E_data[grad E] - E_model[grad E] (eq-vaebm-phases). The penalties:
        `magnitude` times the mean of E^2 over data and chains, `spectral` times the sum of the layers' largest singular
        values (eq-vaebm-loss). Raises ValueError where there are fewer chains than a step takes.
        """
        return self.contrast(x, self.negatives(len(x), generator))

    def contrast(self, x: Float[Tensor, "batch features"], negatives: Float[Tensor, "n features"]) -> dict[str, Tensor]:
        """mean E(x) - mean E(x-) + magnitude (mean E(x)^2 + mean E(x-)^2) + spectral * (sum of norms), for given points x-.

        Equation eq-vaebm-loss.
        """
        x = onto(self.energy, x)
        positive, negative = self.energy(torch.cat([x, negatives])).split([len(x), len(negatives)])
        gap = positive.mean() - negative.mean()
        size = (positive**2).mean() + (negative**2).mean()
        norms = self.energy.spectral_norms().sum()
        return {"loss": gap + self.magnitude * size + self.spectral * norms, "gap": gap, "size": size, "norms": norms}

    @torch.no_grad()
    def log_normalizer(self, draws: int, generator: Generator | None = None) -> Float[Tensor, ""]:
        """log Z = log E[exp(-E(T(eps)))] over eps ~ N(0, I), from so many draws (eq-vaebm-normalizer).

        Of Z it is an unbiased estimate; of log Z it errs downwards, the more so the farther the model is from p_G. Raises
        ValueError for draws < 1.
        """
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        energy = self.energy if self.training else self.average
        return log_mean(-energy(self.transform(self.noise(draws, generator))))

    def after_step(self, generator: Generator) -> None:
        """Move the average of E's weights towards them (eq-vaebm-average)."""
        move_average(self.average, self.energy, self.decay)

    def noise(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n dim"]:
        """eps ~ N(0, I): where short chains start."""
        return normal((n, self.dim), next(self.energy.parameters()), generator)

    def walk(
        self,
        n: int,
        generator: Generator | None = None,
        *,
        steps: int | None = None,
        step: float | Float[Tensor, " dim"] | None = None,
        start: Float[Tensor, "n dim"] | None = None,
    ) -> Float[Tensor, "n dim"]:
        """Where fresh chains in eps are after `steps` moves eps <- eps - h/2 grad U(eps) + sqrt(h) noise, h = `step`.

        They begin at `start`, or at eps ~ N(0, I); steps and step are the training's, unless given. Costs steps + 1 gradients
        of the potential, none for steps = 0. Raises SamplerDiverged where a chain leaves the finite numbers, and ValueError
        for n, steps or step that cannot be right.
        """
        steps, step = self.steps if steps is None else steps, self.step if step is None else step
        if n < 1 or steps < 0:
            raise ValueError(f"needs n >= 1 points and steps >= 0, got {n} and {steps}")
        eps = self.noise(n, generator) if start is None else onto(self.energy, start)
        if steps:
            eps, _ = samplers.langevin(self.potential, eps, step=step, steps=steps, every=steps, generator=generator)
        return eps

    @torch.no_grad()
    def sample(
        self, n: int, generator: Generator | None = None, **chains: int | float | Tensor | None
    ) -> Float[Tensor, "n features"]:
        """New points T(eps), eps by `walk`, whose settings `chains` are; steps = 0 gives points of p_G alone.

        Costs steps + 1 gradients of the potential and one more T (eq-vaebm-cost). Raises what `walk` raises.
        """
        return self.transform(self.walk(n, generator, **chains))
