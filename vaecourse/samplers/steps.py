"""One step of each kind, by torch operations that never wait for the device."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from vaecourse.inputs import gradients
from vaecourse.randomness import normal, uniform

Potential = Callable[[Tensor], Tensor]
"""Points (chains, dim) -> energies (chains,), in nats, by torch operations that carry gradients."""

Step = float | Float[Tensor, "*chains"]
"""A step size; a tensor if it is tuned on the device, or if each chain, (chains, 1), or coordinate, (dim,), has its own."""


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

    Parameters of the potential receive no gradient. Raises ValueError where energies are not one a chain, or carry no gradient,
    and inside torch.inference_mode(); torch.no_grad() does not matter.
    """
    with gradients():
        z = z.detach().requires_grad_()
        energy = _energy(potential, z)
        if not energy.requires_grad:
            raise ValueError(
                "the energies carry no gradient: the potential must compute them from z, without detach() or no_grad()"
            )
        (gradient,) = torch.autograd.grad(energy.sum(), z)
    return State(z.detach(), energy.detach(), gradient)


def at_without_gradient(potential: Potential, z: Float[Tensor, "chains dim"]) -> State:
    """The chains at z, with energies alone. Raises ValueError where energies are not one a chain."""
    with torch.no_grad():
        return State(z.detach(), _energy(potential, z))


def langevin_step(
    potential: Potential, z: Float[Tensor, "chains dim"], step: Step, generator: Generator | None = None
) -> Float[Tensor, "chains dim"]:
    """One step of unadjusted Langevin dynamics (ULA), z - (h/2) grad U + sqrt(h) eps, with h = step.

    One gradient call. Its stationary law is not quite the density: on N(0, 1) the variance is 1 / (1 - h/4) for h < 4.
    Equations eq-samplers-langevin, eq-samplers-langevin-variance. Raises ValueError where energies are not one a chain, or
    carry no gradient.
    """
    return _langevin_move(at(potential, z), step, normal(z.shape, z, generator))


def _langevin_move(state: State, step: Step, eps: Tensor) -> Tensor:
    return state.z - 0.5 * step * state.gradient + step**0.5 * eps


def ula_step(
    potential: Potential, state: State, step: Step, generator: Generator | None = None
) -> tuple[State, Float[Tensor, " chains"]]:
    """`langevin_step` for a state, whose gradient is used again: the state, and ones, since all moves are accepted."""
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

    A leap: p - (h/2) grad U, then z + h p, then p - (h/2) grad U once more, with h = step. Reversible, keeps volume; the energy
    errs by O(step^2). `leaps` gradient calls. Equation eq-samplers-leapfrog.
    """
    for _ in range(leaps):
        momentum = momentum - 0.5 * step * state.gradient
        state = at(potential, state.z + step * momentum)
        momentum = momentum - 0.5 * step * state.gradient
    return state, momentum


def hmc_step(
    potential: Potential, state: State, step: Step, generator: Generator | None = None, *, leaps: int = 10
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
    moved = at_without_gradient(potential, z)
    return _accept(state, moved, state.energy - moved.energy, generator)


def _accept(state: State, moved: State, log_ratio: Tensor, generator: Generator | None) -> tuple[State, Tensor]:
    """Move each chain with probability min(1, exp(log_ratio)); a move to NaN or to zero density is refused."""
    probability = torch.where(log_ratio.isnan(), -torch.inf, log_ratio).clamp_max(0).exp()
    taken = uniform(probability.shape, probability, generator) < probability

    def choose(new: Tensor | None, old: Tensor | None) -> Tensor | None:
        return None if new is None else torch.where(taken.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return State(*map(choose, moved, state)), probability
