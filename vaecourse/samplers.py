"""Markov chains that sample a density known up to a constant: Metropolis, Langevin, Hamiltonian dynamics.

A density is given by its potential, `potential(z) -> U`, U = -log density + constant: energies in nats, one a chain, (chains,),
for a batch of chains (chains, dim). Each chain has its own energy; a chain's gradient is that of the SUM of energies, in which
the others do not appear. (A mean in its place would divide each gradient by the number of chains, and heat the chains up.)

The one-step functions never wait for the device and can be called inside a training step. `langevin`, `mala`, `hmc` and
`metropolis` run whole chains, keep their trace, tune the step while warming up, and raise SamplerDiverged.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import log
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from vaecourse.randomness import normal, uniform

Potential = Callable[[Tensor], Tensor]
"""Points (chains, dim) -> energies (chains,), in nats, by torch operations that carry gradients."""

Step = float | Float[Tensor, "*chains"]
"""A step size; a tensor where it is tuned on the device, or where each chain has its own, (chains, 1)."""

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


class State(NamedTuple):
    """Where the chains are, with the energy there and, for all but Metropolis, its gradient."""

    z: Float[Tensor, "chains dim"]
    energy: Float[Tensor, " chains"]
    gradient: Float[Tensor, "chains dim"] | None = None


def _energy(potential: Potential, z: Tensor) -> Tensor:
    energy = potential(z)
    if energy.shape != z.shape[:1]:
        raise ValueError(
            f"a potential gives one energy a chain, shape {tuple(z.shape[:1])}; got {tuple(energy.shape)}. "
            "Sum over coordinates, and neither sum nor average over chains"
        )
    return energy


def at(potential: Potential, z: Float[Tensor, "chains dim"]) -> State:
    """The chains at z, with energies and gradients: one call of the potential, and one backward pass.

    Parameters of the potential receive no gradient. Raises ValueError where energies are not one a chain, or carry no gradient.
    """
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        energy = _energy(potential, z)
        if not energy.requires_grad:
            raise ValueError(
                "the energies carry no gradient: the potential must compute them from z, without detach() or no_grad()"
            )
        (gradient,) = torch.autograd.grad(energy.sum(), z)
    return State(z.detach(), energy.detach(), gradient)


def _at_without_gradient(potential: Potential, z: Tensor) -> State:
    with torch.no_grad():
        return State(z.detach(), _energy(potential, z))


# One step


def langevin_step(
    potential: Potential, z: Float[Tensor, "chains dim"], step: Step, generator: Generator | None = None
) -> Float[Tensor, "chains dim"]:
    """One step of unadjusted Langevin dynamics (ULA), z - (h/2) grad U + sqrt(h) eps, with h = step.

    One gradient call. Its stationary law is not quite the density: on N(0, 1) the variance is 1 / (1 - h/4) for h < 4.
    Equations eq-samplers-langevin, eq-samplers-langevin-variance.
    """
    return _langevin_move(at(potential, z), step, normal(z.shape, z, generator))


def _langevin_move(state: State, step: Step, eps: Tensor) -> Tensor:
    return state.z - 0.5 * step * state.gradient + step**0.5 * eps


def ula_step(potential: Potential, state: State, step: Step, generator: Generator | None = None) -> tuple[State, Tensor]:
    """`langevin_step` for a state, whose gradient is used again; all moves are accepted."""
    moved = at(potential, _langevin_move(state, step, normal(state.z.shape, state.z, generator)))
    return moved, torch.ones_like(moved.energy)


def mala_step(
    potential: Potential, state: State, step: Step, generator: Generator | None = None
) -> tuple[State, Float[Tensor, " chains"]]:
    """One step of Langevin dynamics adjusted by acceptance (MALA): the state, and the probability with which it moved.

    Proposes z' as `langevin_step` does; accepts with probability min(1, p(z') k(z | z') / (p(z) k(z' | z))), k the kernel of
    the proposal. One gradient call. Equation eq-samplers-mala; Roberts and Tweedie (1996).
    """
    eps = normal(state.z.shape, state.z, generator)
    moved = at(potential, _langevin_move(state, step, eps))
    back = (state.z - moved.z + 0.5 * step * moved.gradient) / step**0.5
    log_kernels = 0.5 * (eps**2).sum(-1) - 0.5 * (back**2).sum(-1)
    return _accept(state, moved, state.energy - moved.energy + log_kernels, generator)


def leapfrog(
    potential: Potential, state: State, momentum: Float[Tensor, "chains dim"], step: Step, leaps: int
) -> tuple[State, Float[Tensor, "chains dim"]]:
    """Hamiltonian motion in U(z) + |momentum|^2 / 2 for a time of about leaps * step.

    Reversible, keeps volume; the energy errs by O(step^2). `leaps` gradient calls. Equation eq-samplers-leapfrog.
    """
    for _ in range(leaps):
        momentum = momentum - 0.5 * step * state.gradient
        state = at(potential, state.z + step * momentum)
        momentum = momentum - 0.5 * step * state.gradient
    return state, momentum


def hmc_step(
    potential: Potential, state: State, step: Step, generator: Generator | None = None, leaps: int = 10
) -> tuple[State, Float[Tensor, " chains"]]:
    """One step of Hamiltonian Monte Carlo: the state, and the probability with which it moved.

    A new momentum from N(0, I), then `leaps` leapfrog steps; accepts with probability min(1, exp(-change of total energy)).
    `leaps` gradient calls. Equation eq-samplers-hmc; Neal (2011), section 5.3.
    """
    momentum = normal(state.z.shape, state.z, generator)
    moved, momentum_there = leapfrog(potential, state, momentum, step, leaps)
    kinetic = 0.5 * (momentum**2).sum(-1) - 0.5 * (momentum_there**2).sum(-1)
    return _accept(state, moved, state.energy - moved.energy + kinetic, generator)


def metropolis_step(
    potential: Potential, state: State, step: Step, generator: Generator | None = None
) -> tuple[State, Float[Tensor, " chains"]]:
    """One step of random-walk Metropolis: the state, and the probability with which it moved.

    Proposes z' = z + step * eps (`step` is a standard deviation here); accepts with probability min(1, p(z') / p(z)).
    One call of the potential, no gradient. Equation eq-samplers-metropolis.
    """
    z = state.z + step * normal(state.z.shape, state.z, generator)
    moved = _at_without_gradient(potential, z)
    return _accept(state, moved, state.energy - moved.energy, generator)


def _accept(state: State, moved: State, log_ratio: Tensor, generator: Generator | None) -> tuple[State, Tensor]:
    """Move each chain with probability min(1, exp(log_ratio)); a move to NaN or to zero density is refused."""
    probability = torch.where(log_ratio.isnan(), -torch.inf, log_ratio).clamp_max(0).exp()
    taken = uniform(probability.shape, probability, generator) < probability

    def choose(new: Tensor | None, old: Tensor | None) -> Tensor | None:
        return None if new is None else torch.where(taken.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return State(*map(choose, moved, state)), probability


# Whole chains


@dataclass(frozen=True)
class Trace:
    """What a run of the chains left: draws after the warm-up, every `every`-th step's."""

    z: Float[Tensor, "draws chains dim"]
    energy: Float[Tensor, "draws chains"]
    acceptance: float
    """Mean probability of acceptance after the warm-up; 1 for unadjusted Langevin."""
    step: float
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

    Hoffman and Gelman (2014), section 3.2, with their constants. All on the device.
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


def _check(z: Tensor, step: float, steps: int, warmup: int, every: int, target: float | None) -> None:
    if z.ndim != 2 or 0 in z.shape:
        raise ValueError(f"chains are rows, (chains, dim), at least one; got shape {tuple(z.shape)}")
    if not z.is_floating_point():
        raise TypeError(f"chains move in real numbers: z must be a tensor of floats, got {z.dtype}")
    if not step > 0 or step == float("inf"):
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
    step: float,
    steps: int,
    generator: Generator | None,
    warmup: int,
    every: int,
    target: float | None,
    calls: int,
) -> tuple[Tensor, Trace]:
    """Warm up, then walk and keep the trace; `calls`: how often one transition calls the potential."""
    _look([_finite(start)], 0, False)
    state, size, draws, energies, acceptance = start, start.energy.new_tensor(step), [], [], torch.zeros_like(start.energy)
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
        size.item(),
        1 + calls * (warmup + steps),
    )
    return state.z, trace


def langevin(
    potential: Potential,
    z: Float[Tensor, "chains dim"],
    step: float,
    steps: int,
    generator: Generator | None = None,
    warmup: int = 0,
    every: int = 1,
) -> tuple[Float[Tensor, "chains dim"], Trace]:
    """Unadjusted Langevin dynamics (ULA) from z: the last points and the trace. `warmup` steps are walked first and not kept.

    Raises SamplerDiverged, and ValueError or TypeError for chains, numbers or a potential that cannot be right.
    Equation eq-samplers-langevin.
    """
    _check(z, step, steps, warmup, every, None)
    return _run(partial(ula_step, potential), at(potential, z), step, steps, generator, warmup, every, None, 1)


def mala(
    potential: Potential,
    z: Float[Tensor, "chains dim"],
    step: float,
    steps: int,
    generator: Generator | None = None,
    warmup: int = 0,
    every: int = 1,
    target: float | None = 0.574,
) -> tuple[Float[Tensor, "chains dim"], Trace]:
    """Adjusted Langevin dynamics (MALA) from z: the last points and the trace; exact in the long run.

    During `warmup` steps, not kept, `step` is tuned to the target acceptance (None: stays as it is). Errors as `langevin`.
    Equation eq-samplers-mala.
    """
    _check(z, step, steps, warmup, every, target)
    return _run(partial(mala_step, potential), at(potential, z), step, steps, generator, warmup, every, target, 1)


def hmc(
    potential: Potential,
    z: Float[Tensor, "chains dim"],
    step: float,
    steps: int,
    generator: Generator | None = None,
    leaps: int = 10,
    warmup: int = 0,
    every: int = 1,
    target: float | None = 0.8,
) -> tuple[Float[Tensor, "chains dim"], Trace]:
    """Hamiltonian Monte Carlo from z, `leaps` leapfrog steps of size `step` a move: the last points and the trace.

    During `warmup` moves, not kept, `step` is tuned to the target acceptance (None: stays as it is). A trajectory of length
    leaps * step that comes back to where it began mixes badly (on N(0, 1): near multiples of pi), and where all coordinates
    have one scale the tuning can settle at such a length. Errors as `langevin`. Equation eq-samplers-hmc.
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
    warmup: int = 0,
    every: int = 1,
    target: float | None = 0.234,
) -> tuple[Float[Tensor, "chains dim"], Trace]:
    """Random-walk Metropolis from z, `step` the standard deviation of a proposed move: the last points and the trace.

    During `warmup` steps, not kept, `step` is tuned to the target acceptance (None: stays as it is). The potential needs no
    gradient. Errors as `langevin`. Equation eq-samplers-metropolis.
    """
    _check(z, step, steps, warmup, every, target)
    return _run(
        partial(metropolis_step, potential),
        _at_without_gradient(potential, z),
        step,
        steps,
        generator,
        warmup,
        every,
        target,
        1,
    )


# Diagnostics


def _within_and_total(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean variance within chains, and the variance of all draws as R-hat estimates it, for draws (draws, chains, ...)."""
    n, chains = x.shape[:2]
    within = x.var(0).mean(0)
    between = x.mean(0).var(0) if chains > 1 else torch.zeros_like(within)
    return within, within * (n - 1) / n + between


def _check_trace(x: Tensor) -> None:
    if x.ndim < 2 or x.shape[0] < 4 or x.shape[1] < 1:
        raise ValueError(f"a trace is (draws, chains, ...) with at least 4 draws; got shape {tuple(x.shape)}")


def effective_sample_size(x: Float[Tensor, "draws chains *dims"]) -> Float[Tensor, "*dims"]:
    """How many independent draws would estimate the mean as well as all chains' draws do (eq-samplers-ess).

    draws * chains / tau, tau = 1 + 2 * (sum of autocorrelations), the sum cut by Geyer's initial monotone sequence (1992,
    section 3.3): sums of neighbors, as long as they are positive, none larger than the one before. Chains that disagree
    lower it. At most draws * chains * log10(draws * chains), for chains whose draws alternate; NaN where nothing moves.
    Raises ValueError for fewer than 4 draws.
    """
    _check_trace(x)
    n, chains = x.shape[:2]
    centered = x - x.mean(0)
    spectrum = torch.fft.rfft(centered, n=2 * n, dim=0)
    autocovariance = torch.fft.irfft(spectrum.abs() ** 2, n=2 * n, dim=0)[:n] / n
    within, total = _within_and_total(x)
    rho = 1 - (within - autocovariance.mean(1) * n / (n - 1)) / total
    pairs = rho[: n // 2 * 2].reshape(n // 2, 2, *x.shape[2:]).sum(1)
    positive = (pairs > 0).cumprod(0)
    tau = 2 * (pairs.cummin(0).values * positive).sum(0) - 1
    every = n * chains
    return every / tau.clamp_min(1 / log(every, 10))


def split_r_hat(x: Float[Tensor, "draws chains *dims"]) -> Float[Tensor, "*dims"]:
    """How far the halves of the chains disagree: sqrt(total variance / variance within), near 1 where they agree.

    Above 1.01 the chains have not mixed. Gelman et al. (2013), Bayesian Data Analysis, section 11.4; eq-samplers-r-hat.
    Raises ValueError for fewer than 4 draws.
    """
    _check_trace(x)
    half = len(x) // 2
    within, total = _within_and_total(torch.cat([x[:half], x[-half:]], dim=1))
    return (total / within).sqrt()
