"""Whole chains: they walk, keep their trace, and tune the step while warming up."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from vaecourse.samplers.diagnostics import effective_sample_size, split_r_hat
from vaecourse.samplers.steps import (
    Potential,
    State,
    Step,
    at,
    at_without_gradient,
    hmc_step,
    mala_step,
    metropolis_step,
    ula_step,
)

READ_EVERY = 50  # steps between two looks at whether the chains are finite: each waits for the device


class SamplerDiverged(ArithmeticError):
    """A chain left the finite numbers. `step` is the first bad step, counted from 1 (0: the start); `chain` its first chain."""

    def __init__(self, step: int, chain: int, warming: bool = False):
        self.step, self.chain = step, chain
        if step == 0:
            what = f"chain {chain} starts where its energy or gradient is not finite."
            remedy = (
                "Start where the density is positive; look for a logarithm of zero in the potential, or NaN in its parameters."
            )
        else:
            what = f"chain {chain} is no longer finite at step {step}{' of the warm-up' if warming else ''}."
            remedy = (
                "Likely causes: a step too large (unadjusted Langevin explodes where step times the potential's largest second "
                "derivative exceeds 4): divide it by 4, or use `mala`, which refuses such moves; a potential that falls "
                "without bound, so that there is no density (an untrained energy network: add |z|^2 / 2, or bound it)."
            )
        super().__init__(f"sampling stopped: {what}\n{remedy}")


@dataclass(frozen=True)
class Trace:
    """What a run of the chains left: draws after the warm-up, every `every`-th step's."""

    z: Float[Tensor, "draws chains dim"]
    energy: Float[Tensor, "draws chains"]
    acceptance: float
    """Mean probability of acceptance after the warm-up; 1 for unadjusted Langevin."""
    step: float | Float[Tensor, " dim"]
    """The step after the warm-up: what was given, or what was found."""
    calls: int
    """How often the potential was called, on all chains at once, warm-up included; for all but Metropolis with its gradient."""

    @property
    def ess(self) -> Float[Tensor, " dim"]:
        """The effective sample size of all chains together, a number for each coordinate's mean."""
        return effective_sample_size(self.z)

    @property
    def r_hat(self) -> Float[Tensor, " dim"]:
        """Split R-hat of each coordinate."""
        return split_r_hat(self.z)


class DualAveraging:
    """Tunes a step so that moves are accepted with a target probability (eq-samplers-dual-averaging).

    After t steps log step = mu - sqrt(t) / .05 times the mean of (target - acceptance), as if ten more had been right, with
    mu = log(10 step_0). The step found is exp of a moving mean of log step, to which the t-th adds a share t^-.75. Hoffman and
    Gelman (2014), section 3.2, with their constants. All on the device.
    """

    def __init__(self, step: Tensor, target: float):
        self.target, self.center, self.count = target, (10 * step).log(), 0
        self.error, self.log_mean = torch.zeros_like(step), torch.zeros_like(step)

    def update(self, acceptance: Tensor) -> Tensor:
        """The step to try next, after a step with that mean acceptance."""
        self.count += 1
        share, decay = 1 / (self.count + 10), self.count**-0.75
        self.error = (1 - share) * self.error + share * (self.target - acceptance)
        log_step = self.center - self.count**0.5 / 0.05 * self.error
        self.log_mean = decay * log_step + (1 - decay) * self.log_mean
        return log_step.exp()

    @property
    def step(self) -> Tensor:
        """The step found: a mean of those tried, the later ones weighing more."""
        return self.log_mean.exp()


def _check(z: Tensor, step: Step, steps: int, warmup: int, every: int, target: float | None) -> None:
    if z.ndim != 2 or 0 in z.shape:
        raise ValueError(f"chains are rows, (chains, dim), at least one; got shape {tuple(z.shape)}")
    if not z.is_floating_point():
        raise TypeError(f"chains move in real numbers: z must be a tensor of floats, got {z.dtype}")
    if isinstance(step, Tensor) and step.ndim and step.shape != z.shape[1:]:
        raise ValueError(f"steps of their own have one for each coordinate, ({z.shape[1]},); got {tuple(step.shape)}")
    if not all(0 < each < inf for each in torch.as_tensor(step).flatten().tolist()):
        raise ValueError(f"step must be positive and finite, got {step}")
    if steps < 1 or warmup < 0 or not 1 <= every <= steps:
        raise ValueError(f"needs steps >= 1, warmup >= 0, 1 <= every <= steps; got {steps}, {warmup}, {every}")
    if target is not None and not 0 < target < 1:
        raise ValueError(f"the target acceptance must lie strictly between 0 and 1, got {target}")


def _look(finite: list[Tensor], last: int, warming: bool) -> None:
    """Bring to the host whether the chains were finite in the steps up to `last`."""
    bad = ~torch.stack(finite).cpu()
    if bad.any():
        row = int(bad.any(1).nonzero()[0])
        raise SamplerDiverged(last - len(finite) + 1 + row, int(bad[row].nonzero()[0]), warming)


def _finite(state: State) -> Tensor:
    parts = [part.isfinite() for part in state if part is not None]
    return torch.stack([part.reshape(len(part), -1).all(1) for part in parts]).all(0)


def _run(
    transition: Callable[..., tuple[State, Tensor]],
    start: State,
    step: Step,
    steps: int,
    generator: Generator | None,
    warmup: int,
    every: int,
    target: float | None,
    calls: int,
) -> tuple[Tensor, Trace]:
    """Warm up, then walk and keep the trace; `calls`: how often one transition calls the potential."""
    _look([_finite(start)], 0, False)
    size = step.to(start.energy) if isinstance(step, Tensor) else start.energy.new_tensor(step)
    state, draws, energies, acceptance = start, [], [], torch.zeros_like(start.energy)
    tuner = DualAveraging(size, target) if target and warmup else None
    for length, warming in ((warmup, True), (steps, False)):
        finite = []
        for number in range(1, length + 1):
            state, probability = transition(state, size, generator)
            finite.append(_finite(state))
            if warming and tuner:
                size = tuner.update(probability.mean())
            elif not warming:
                acceptance += probability
                if number % every == 0:
                    draws.append(state.z)
                    energies.append(state.energy)
            if number % READ_EVERY == 0 or number == length:
                _look(finite, number, warming)
                finite = []
        size = tuner.step if warming and tuner else size
    trace = Trace(
        torch.stack(draws),
        torch.stack(energies),
        (acceptance / steps).mean().item(),
        size if size.ndim else size.item(),
        1 + calls * (warmup + steps),
    )
    return state.z, trace


def langevin(
    potential: Potential,
    z: Float[Tensor, "chains dim"],
    step: float | Float[Tensor, " dim"],
    steps: int,
    generator: Generator | None = None,
    *,
    warmup: int = 0,
    every: int = 1,
) -> tuple[Float[Tensor, "chains dim"], Trace]:
    """Unadjusted Langevin dynamics (ULA), z - (h/2) grad U + sqrt(h) eps at each step: the last points and the trace.

    h = `step`, one for all coordinates or one for each. `warmup` steps are walked first and not kept. Raises SamplerDiverged,
    and ValueError or TypeError for chains, numbers or a potential that cannot be right. Equation eq-samplers-langevin.
    """
    _check(z, step, steps, warmup, every, None)
    return _run(partial(ula_step, potential), at(potential, z), step, steps, generator, warmup, every, None, 1)


def mala(
    potential: Potential,
    z: Float[Tensor, "chains dim"],
    step: float,
    steps: int,
    generator: Generator | None = None,
    *,
    warmup: int = 0,
    every: int = 1,
    target: float | None = 0.574,
) -> tuple[Float[Tensor, "chains dim"], Trace]:
    """Langevin dynamics, each step accepted or refused (MALA): the last points and the trace; exact in the long run.

    z' = z - (h/2) grad U + sqrt(h) eps with probability min(1, p(z') k(z | z') / (p(z) k(z' | z))), else z (eq-samplers-mala).
    During `warmup` steps, not kept, `step` is tuned to the target acceptance (None: stays as it is). Raises SamplerDiverged,
    and ValueError or TypeError for chains, numbers or a potential that cannot be right.
    """
    _check(z, step, steps, warmup, every, target)
    return _run(partial(mala_step, potential), at(potential, z), step, steps, generator, warmup, every, target, 1)


def hmc(
    potential: Potential,
    z: Float[Tensor, "chains dim"],
    step: float,
    steps: int,
    generator: Generator | None = None,
    *,
    leaps: int = 10,
    warmup: int = 0,
    every: int = 1,
    target: float | None = 0.8,
) -> tuple[Float[Tensor, "chains dim"], Trace]:
    """Hamiltonian Monte Carlo from z, `leaps` leapfrog steps of size `step` a move: the last points and the trace.

    During `warmup` moves, not kept, `step` is tuned to the target acceptance (None: stays as it is). A trajectory of length
    leaps * step that comes back to where it began mixes badly (on N(0, 1): near multiples of pi), and where all coordinates
    have one scale the tuning can settle at such a length. Raises SamplerDiverged, and ValueError or TypeError for chains,
    numbers or a potential that cannot be right. A move is accepted with probability min(1, exp(-change of total energy))
    (eq-samplers-hmc).
    """
    _check(z, step, steps, warmup, every, target)
    if leaps < 1:
        raise ValueError(f"leaps, the leapfrog steps a move, must be at least 1, got {leaps}")
    transition = partial(hmc_step, potential, leaps=leaps)
    return _run(transition, at(potential, z), step, steps, generator, warmup, every, target, leaps)


def metropolis(
    potential: Potential,
    z: Float[Tensor, "chains dim"],
    step: float,
    steps: int,
    generator: Generator | None = None,
    *,
    warmup: int = 0,
    every: int = 1,
    target: float | None = 0.234,
) -> tuple[Float[Tensor, "chains dim"], Trace]:
    """Random-walk Metropolis from z, `step` the standard deviation of a proposed move: the last points and the trace.

    z + step * eps with probability min(1, p(z + step * eps) / p(z)), else z (eq-samplers-metropolis). During `warmup` steps,
    not kept, `step` is tuned to the target acceptance (None: stays as it is). The potential needs no gradient. Raises
    SamplerDiverged, and ValueError or TypeError for chains, numbers or a potential that cannot be right.
    """
    _check(z, step, steps, warmup, every, target)
    return _run(
        partial(metropolis_step, potential),
        at_without_gradient(potential, z),
        step,
        steps,
        generator,
        warmup,
        every,
        target,
        1,
    )
