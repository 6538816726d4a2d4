"""Chains that persist from one training step to the next, and what sampling costs in network calls."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse import processes
from vaecourse.randomness import normal, own_generator, uniform


class Chains(nn.Module):
    """A queue of so many chains of width `dim`: a step takes a batch from its front, moves it, and puts it back at its end.

    Each chain, when its turn comes, is replaced by noise from N(0, I) with probability `restart`; at 1 all chains are short
    ones that start afresh. The states are a buffer, the same in all processes, so that a checkpoint holds them. `seed` sets
    where they start. (Tieleman, 2008; Du and Mordatch, 2019, for restarts.)
    """

    def __init__(self, chains: int, dim: int, restart: float, *, seed: int = 0):
        super().__init__()
        if chains < 1 or dim < 1:
            raise ValueError(f"needs at least one chain and one coordinate, got {chains} chains of width {dim}")
        if not 0 <= restart <= 1:
            raise ValueError(f"restart is the probability that a chain starts afresh, in [0, 1]; got {restart}")
        self.restart = restart
        self.register_buffer("states", torch.randn(chains, dim, generator=own_generator(seed)))

    def take(self, batch: int, generator: Generator | None = None) -> Float[Tensor, "batch dim"]:
        """This process's share of the next chains: each as it is, or with probability `restart` a draw from N(0, I).

        Equation eq-vaebm-restart.
        Raises ValueError where all processes' batches together are more than the chains.
        """
        whole = batch * processes.count()
        if whole > len(self.states):
            raise ValueError(
                f"a step takes {whole} chains, and there are {len(self.states)}: keep more, or take smaller batches"
            )
        old = processes.share(self.states[:whole])
        afresh = uniform((batch, 1), old, generator) < self.restart
        return torch.where(afresh, normal(old.shape, old, generator), old)

    @torch.no_grad()
    def put(self, states: Float[Tensor, "batch dim"]) -> None:
        """Put the moved chains of all processes at the end of the queue, in place of those that were taken."""
        moved = processes.joined(states)
        self.states.copy_(torch.cat([self.states[len(moved) :], moved]))


@dataclass
class Calls:
    """How many points a network was given, and for how many a gradient went back through it."""

    forward: int = 0
    gradient: int = 0


@contextmanager
def count_calls(**networks: nn.Module) -> Iterator[dict[str, Calls]]:
    """Count the points that pass through each network, forward and backward, while the block runs.

    A network is a module that maps one tensor to one; `count_calls(energy=..., decoder=...)` gives one `Calls` for each name.
    """
    calls = {name: Calls() for name in networks}

    def watch(name: str):
        def passed(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            points = output.shape[:-1].numel()
            calls[name].forward += points

            def returned(gradient: Tensor) -> None:
                calls[name].gradient += points

            if output.requires_grad:
                output.register_hook(returned)

        return passed

    with ExitStack() as stack:
        for name, network in networks.items():
            stack.callback(network.register_forward_hook(watch(name)).remove)
        yield calls
