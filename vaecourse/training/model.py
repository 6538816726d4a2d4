"""What a model is: to training, which asks for losses, and to the reader, who asks it for images."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse.distributions import Bernoulli, Normal, Point
from vaecourse.training.data import Data


@dataclass(frozen=True)
class Turn:
    """One player's move: `loss(batch, generator)` is minimized over `parameters` alone.

    A player that moves several times a step is listed several times, under one name and with one optimizer; the losses of
    its last move are the ones recorded.
    """

    name: str
    loss: Callable[[Data, Generator], dict[str, Tensor]]
    parameters: list[nn.Parameter]


@runtime_checkable
class OnePlayer(Protocol):
    """An ordinary model: one loss, minimized over all its parameters."""

    def loss(self, batch: Data, generator: Generator) -> dict[str, Tensor]:
        """Scalars by name: "loss", which is minimized, and any parts to watch. All noise comes from the generator."""
        ...


@runtime_checkable
class Players(Protocol):
    """A model of several players, each with its own loss and parameters."""

    def turns(self) -> list[Turn]:
        """Their turns in a step, in order; each is a fresh forward pass."""
        ...


Model = OnePlayer | Players
"""What `train` and `fit` take: an `nn.Module` with `loss(batch, generator)`, or with `turns()`, which counts where it has both.

It may have `after_step(generator)`, too, called after each step: moving averages, chains, a multiplier. What must outlive a
stop is a parameter or a buffer.
"""


def turns_of(model: Model) -> list[Turn]:
    """The model's turns, each over those of its parameters that are not frozen; an ordinary model has one, over all.

    Raises ValueError where turns of one name have different parameters, and where none of a turn's learns.
    """
    turns = model.turns() if isinstance(model, Players) else [Turn("", model.loss, list(model.parameters()))]
    turns = [replace(turn, parameters=[p for p in turn.parameters if p.requires_grad]) for turn in turns]
    if idle := [turn.name or "the model" for turn in turns if not turn.parameters]:
        raise ValueError(f"of {', '.join(idle)} no parameter learns: all are frozen (requires_grad), or there is none")
    players = {turn.name: list(map(id, turn.parameters)) for turn in turns}
    for turn in turns:
        if list(map(id, turn.parameters)) != players[turn.name]:
            raise ValueError(f"two turns are named {turn.name!r}, with different parameters: give each player its own name")
    return turns


Code = TypeVar("Code")


@runtime_checkable
class ImageModel(Protocol[Code]):
    """What the image models of all chapters answer to. Images are rows, (n, pixels); a code is what the prior draws.

    A model may lack what it cannot have: a GAN has no encoder, so neither `encode` nor `reconstruct`. `isinstance` asks whether
    the names are there, not what they take.
    """

    pixels: int
    """Numbers in an image."""

    latents: int
    """Numbers in a code."""

    @property
    def device(self) -> torch.device:
        """Where the parameters live. Images and codes are moved there; results stay there."""
        ...

    def prior(self, n: int) -> Any:
        """p(z) for n codes: a Normal, a Categorical, or one a level."""
        ...

    def encode(self, x: Float[Tensor, "n pixels"]) -> Any:
        """q(z | x), a Normal; or what an encoder that names one code gives in its place."""
        ...

    def decode(self, z: Code) -> Normal | Bernoulli | Point:
        """p(x | z), one distribution over images a code; a Point where the decoder has no noise."""
        ...

    def generate(self, z: Code, generator: Generator | None = None) -> Float[Tensor, "n pixels"]:
        """One image a code: the decoder's mean. Where the model has noise of its own beside the code, it is drawn."""
        ...

    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n pixels"]:
        """n new images: `generate` at codes drawn from the prior, without gradients. A model's dials follow, by keyword."""
        ...

    def reconstruct(self, x: Float[Tensor, "n pixels"], generator: Generator | None = None) -> Float[Tensor, "n pixels"]:
        """`generate` at each image's code, the mean where the code is a distribution; without gradients."""
        ...
