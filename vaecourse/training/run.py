"""A run between two steps: what the next step depends on, what was recorded, and its checkpoint in one file."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from vaecourse import processes
from vaecourse.training.data import Data, each, parts

READ_EVERY = 50  # steps between two readings of the losses: a reading waits for the device


class TrainingDiverged(ArithmeticError):
    """A loss became NaN or infinite. `step` is the first bad step, counted from 1; `parts` are its losses."""

    def __init__(self, step: int, parts: dict[str, float]):
        self.step, self.parts = step, parts
        bad = ", ".join(f"{name} = {value}" for name, value in parts.items())
        super().__init__(
            f"training stopped: the first loss that is not finite is at step {step} ({bad}).\n"
            "Likely causes: a log-variance that nothing bounds, so that its exponential overflows (start smaller, or bound "
            "it); a learning rate too large; a logarithm of zero; data with NaN or far outside [0, 1].\n"
            "The parameters are spoiled: build the model again before the next try."
        )


class CheckpointMismatch(ValueError):
    """A checkpoint file exists, but belongs to another run or cannot be read."""


def check_path(path: Path) -> None:
    """Raises CheckpointMismatch where a checkpoint's path is a folder, OSError where nothing can be written there."""
    if path.is_dir():
        raise CheckpointMismatch(
            f"{path} is a folder, and a checkpoint is a file: name one in it, as {path / 'run.safetensors'}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"the folder of the checkpoint {path} cannot be made: {error}. Name another") from error
    if not os.access(path.parent, os.W_OK):
        raise OSError(f"no checkpoint can be written to {path.parent}: name a file in a folder of your own")


@dataclass
class History:
    """What a run recorded: one number a step for each loss and part (nats per data point, where the model says so).

    `history["rate"]` is an array with one entry a step. With several turns names are "turn.part".
    """

    parts: dict[str, np.ndarray]
    steps: int
    seconds: float
    interrupted: bool = False

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.parts:
            raise KeyError(f"no part {name!r} was recorded; there are {', '.join(self.parts)}")
        return self.parts[name]

    def smooth(self, name: str, window: int = READ_EVERY) -> np.ndarray:
        """Means over consecutive windows of that many steps, for plots and printed figures."""
        values = self[name]
        edges = np.arange(0, len(values), window)
        return np.add.reduceat(values, edges) / np.diff([*edges, len(values)]) if len(values) else values


@dataclass
class Run:
    """A run between two steps: all that the next step depends on, and what was recorded so far."""

    model: nn.Module
    optimizers: dict[str, Optimizer]
    generator: Generator
    order: Shaped[Tensor, " waiting"]  # indices of data points that wait for their turn
    step: int = 0
    seconds: float = 0.0
    _read: dict[str, list[float]] = field(default_factory=dict)
    _unread: dict[str, list[Tensor]] = field(default_factory=dict)

    def next_batch(self, data: Data, batch_size: int) -> Data:
        """The next points of an endless stream of shuffled passes over the data: every batch is full."""
        whole, points = batch_size * processes.count(), parts(data)[0]
        while len(self.order) < whole:
            shuffled = torch.randperm(len(points), generator=self.generator, device=points.device)
            self.order = torch.cat([self.order, shuffled])
        index, self.order = processes.share(self.order[:whole]), self.order[whole:]
        return each(lambda rows: rows[index], data)

    def agreed(self, flag: bool) -> bool:
        """Whether the flag is set in any process; several processes ask each other at readings only."""
        return not (processes.count() > 1 and self.step % READ_EVERY) and processes.any_asks(flag, self.order.device)

    def record(self, losses: dict[str, Tensor]) -> None:
        """Keep a step's losses on the device, unread."""
        for name, value in losses.items():
            self._unread.setdefault(name, []).append(value.detach())

    def read(self) -> None:
        """Bring the losses to the host, all at once.

        Raises TrainingDiverged, with the first bad step, where one is not finite.
        """
        if not self._unread:
            return
        means = {name: processes.total(torch.stack(values)) / processes.count() for name, values in self._unread.items()}
        fresh = {name: values.tolist() for name, values in means.items()}
        self._unread = {}
        done = len(next(iter(self._read.values()), []))
        for name, values in fresh.items():
            self._read.setdefault(name, []).extend(values)
        finite = np.isfinite(np.array(list(fresh.values()))).all(0)
        if not finite.all():
            first = int(finite.argmin())
            raise TrainingDiverged(done + first + 1, {name: values[first] for name, values in fresh.items()})

    @property
    def history(self) -> History:
        """What was recorded up to this step."""
        self.read()
        return History({name: np.array(values) for name, values in self._read.items()}, self.step, self.seconds)

    @property
    def _learning(self) -> dict[str, list[str]]:
        """The names of the parameters that each turn moves: frozen ones are not among them."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        groups = {turn: optimizer.param_groups for turn, optimizer in self.optimizers.items()}
        return {turn: [names.get(id(p), "") for group in own for p in group["params"]] for turn, own in groups.items()}

    def save(self, path: Path, identity: dict) -> None:
        """Write all of the run into one safetensors file, at once or not at all; what is not a tensor is JSON in its header.

        Raises OSError where it cannot be written; the last checkpoint is then as it was.
        """
        self.read()
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        groups = {}
        for turn, optimizer in self.optimizers.items():
            state = optimizer.state_dict()
            groups[turn] = state["param_groups"]
            for index, entries in state["state"].items():
                kept = {key: value for key, value in entries.items() if value is not None}
                tensors |= {f"optimizer.{turn}.{index}.{key}": value for key, value in kept.items()}
        tensors |= {f"history.{name}": torch.tensor(values, dtype=torch.float64) for name, values in self._read.items()}
        tensors |= {"generator": self.generator.get_state(), "order": self.order}
        note = {"step": self.step, "seconds": self.seconds, "identity": identity, "groups": groups, "parts": list(self._read)}
        note |= {"learning": self._learning, "device": str(self.generator.device)}
        if processes.rank() > 0:
            return
        partial_file = path.with_name(path.name + ".partial")
        copies = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(copies, partial_file, {"run": json.dumps(note)})
            os.replace(partial_file, path)
        except (OSError, SafetensorError) as error:
            with suppress(OSError):
                partial_file.unlink(missing_ok=True)
            raise OSError(
                f"the run is not saved at step {self.step}: {path} could not be written ({error}). The model holds what it has "
                "learned, and an earlier checkpoint is as it was. Make room on the disk, or name a file on another"
            ) from error

    def restore(self, path: Path, identity: dict) -> None:
        """Go on from a file that `save` wrote. Raises CheckpointMismatch where it belongs to another run."""
        remedy = "Delete the file to start afresh, or name another."
        try:
            with safe_open(path, "pt") as file:
                note = json.loads(file.metadata()["run"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CheckpointMismatch(f"{path} is not a readable checkpoint ({error}). {remedy}") from error

        def under(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        own, there = self.model.state_dict(), under("model.")
        if changed := [name for name in own.keys() & there.keys() if own[name].dtype != there[name].dtype]:
            kinds = f"{there[changed[0]].dtype} there and {own[changed[0]].dtype} here"
            raise CheckpointMismatch(f"{path} holds a model of another type: {changed[0]} is {kinds}. {remedy}")
        different = [
            f"{name} is {note['identity'].get(name)} there and {value} here"
            for name, value in identity.items()
            if note["identity"].get(name) != value
        ]
        if different:
            raise CheckpointMismatch(f"{path} belongs to another run: {'; '.join(different)}. {remedy}")
        if (learned := note.get("learning", self._learning)) != self._learning:
            turned = sorted(set(chain(*learned.values())) ^ set(chain(*self._learning.values())))
            raise CheckpointMismatch(f"{path} is of a run with other layers frozen, {', '.join(turned)} among them. {remedy}")
        try:
            self.generator.set_state(tensors["generator"])
        except RuntimeError as error:
            where = f"{note.get('device', 'another kind of device')}, this one on {self.generator.device}"
            raise CheckpointMismatch(
                f"{path} is of a run on {where}: its noise cannot go on as it was. Go on where it ran (device=), or: {remedy}"
            ) from error
        try:
            self.model.load_state_dict(there)
        except RuntimeError as error:
            raise CheckpointMismatch(f"{path} holds a model of another shape: {error}. {remedy}") from error
        for turn, optimizer in self.optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in under(f"optimizer.{turn}.").items():
                index, key = name.split(".", 1)
                state.setdefault(int(index), {})[key] = value
            try:
                optimizer.load_state_dict({"state": state, "param_groups": note["groups"][turn]})
            except ValueError as error:
                raise CheckpointMismatch(f"{path} holds the optimizer of other parameters: {error}. {remedy}") from error
            for parameter, entries in optimizer.state.items():  # in its layout in memory, which a file does not keep
                like = {key: value for key, value in entries.items() if value.shape == parameter.shape}
                entries |= {key: torch.empty_like(parameter).copy_(value) for key, value in like.items()}
        self._read = {name: tensors[f"history.{name}"].tolist() for name in note["parts"]}
        self.order = tensors["order"].to(self.order.device)
        self.step, self.seconds = note["step"], note["seconds"]
