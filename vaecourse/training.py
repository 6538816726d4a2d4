"""The one training loop: device, progress, history, checkpoints, resume.

A model is an `nn.Module` that says what its loss is:

- `loss(batch, generator)` returns a dictionary of scalars: "loss", which is minimized, and any parts to watch;
- a model of several players has `turns()` instead, a list of `Turn`, each with its own loss and parameters, taken in order,
  each with a fresh forward pass. A gradient reaches the parameters of its own turn and no others;
- `after_step(generator)`, optional, is called after each step (moving averages, chains).

All randomness comes from the generator, and what must outlive a stop is a parameter or a buffer: so a resumed run equals an
uninterrupted one.

Several GPUs, or several machines: start the same script with `torchrun --nproc-per-node 4 script.py`. Each process takes
`batch_size` points a step, and the run is that of one process with batches `processes.count()` times as large: noise drawn by
`randomness` or `distributions` is that of the whole batch. Sums over a batch, for a moving average, go through
`processes.total`. Process 0 writes the checkpoint.
"""

import json
import os
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Generator, Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Adam, Optimizer
from tqdm import tqdm

from vaecourse import processes, randomness

Data = Tensor | tuple[Tensor, ...]
"""Data points are the rows of a tensor, or of several of one length, as (images, labels)."""

READ_EVERY = 50  # steps between two readings of the losses: a reading waits for the device
CHECKPOINT_SECONDS = 30.0

# The book's optimizer, unless a page says otherwise; fused: one pass over the parameters, a tenth of a small step's time less.
adam = partial(Adam, lr=1e-3, fused=True)


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


@dataclass(frozen=True)
class Turn:
    """One player's move: `loss(batch, generator)` is minimized over `parameters` alone.

    A player that moves several times a step is listed several times, under one name and with one optimizer; the losses of
    its last move are the ones recorded.
    """

    name: str
    loss: Callable[[Tensor, Generator], dict[str, Tensor]]
    parameters: list[nn.Parameter]


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


def default_device() -> torch.device:
    """The GPU where CUDA has one, else the CPU; each process of several has its own GPU.

    Apple's MPS is experimental: ask for it by device="mps".
    """
    return torch.device("cuda", processes.local_gpu()) if torch.cuda.is_available() else torch.device("cpu")


def turns_of(model: nn.Module) -> list[Turn]:
    """The model's turns; an ordinary model has one, its loss over all its parameters.

    Raises ValueError where turns of one name have different parameters.
    """
    if not hasattr(model, "turns"):
        return [Turn("", model.loss, [p for p in model.parameters() if p.requires_grad])]
    turns = model.turns()
    players = {turn.name: list(map(id, turn.parameters)) for turn in turns}
    for turn in turns:
        if list(map(id, turn.parameters)) != players[turn.name]:
            raise ValueError(f"two turns are named {turn.name!r}, with different parameters: give each player its own name")
    return turns


class _Move(nn.Module):
    """A turn as a module whose forward pass is its loss, since the wrapper for several processes sees `forward` alone."""

    def __init__(self, turn: Turn):
        super().__init__()
        self.own = nn.ParameterList(turn.parameters)
        self.loss = turn.loss

    def forward(self, batch: Tensor | tuple[Tensor, ...], generator: Generator) -> dict[str, Tensor]:
        return self.loss(batch, generator)


def _loss_of(turn: Turn) -> Callable[..., dict[str, Tensor]]:
    """The turn's loss; where there are several processes, one whose gradients are averaged over all."""
    return DistributedDataParallel(_Move(turn)) if processes.count() > 1 else turn.loss


def _each(function: Callable[[Tensor], Tensor], data: Data) -> Data:
    return tuple(map(function, data)) if isinstance(data, tuple) else function(data)


def _tensors(data: Data) -> tuple[Tensor, ...]:
    return data if isinstance(data, tuple) else (data,)


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
        whole, points = batch_size * processes.count(), _tensors(data)[0]
        while len(self.order) < whole:
            shuffled = torch.randperm(len(points), generator=self.generator, device=points.device)
            self.order = torch.cat([self.order, shuffled])
        index, self.order = processes.share(self.order[:whole]), self.order[whole:]
        return _each(lambda rows: rows[index], data)

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

    def save(self, path: Path, identity: dict) -> None:
        """Write all of the run into one safetensors file, at once or not at all; what is not a tensor is JSON in its header."""
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
        if processes.rank() > 0:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_file = path.with_name(path.name + ".partial")
        copies = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
        save_file(copies, partial_file, {"run": json.dumps(note)})
        os.replace(partial_file, path)

    def restore(self, path: Path, identity: dict) -> None:
        """Go on from a file that `save` wrote. Raises CheckpointMismatch where it belongs to another run."""
        remedy = "Delete the file to start afresh, or name another."
        try:
            with safe_open(path, "pt") as file:
                note = json.loads(file.metadata()["run"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CheckpointMismatch(f"{path} is not a readable checkpoint ({error}). {remedy}") from error
        different = [
            f"{name} is {note['identity'].get(name)} there and {value} here"
            for name, value in identity.items()
            if note["identity"].get(name) != value
        ]
        if different:
            raise CheckpointMismatch(f"{path} belongs to another run: {'; '.join(different)}. {remedy}")

        def under(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        try:
            self.model.load_state_dict(under("model."))
        except RuntimeError as error:
            raise CheckpointMismatch(f"{path} holds a model of another shape: {error}. {remedy}") from error
        for turn, optimizer in self.optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in under(f"optimizer.{turn}.").items():
                index, key = name.split(".", 1)
                state.setdefault(int(index), {})[key] = value
            optimizer.load_state_dict({"state": state, "param_groups": note["groups"][turn]})
            for parameter, entries in optimizer.state.items():  # in its layout in memory, which a file does not keep
                like = {key: value for key, value in entries.items() if value.shape == parameter.shape}
                entries |= {key: torch.empty_like(parameter).copy_(value) for key, value in like.items()}
        self._read = {name: tensors[f"history.{name}"].tolist() for name in note["parts"]}
        self.generator.set_state(tensors["generator"])
        self.order = tensors["order"].to(self.order.device)
        self.step, self.seconds = note["step"], note["seconds"]


def _check(model: nn.Module, data: Data, steps: int, batch_size: int) -> None:
    if not (hasattr(model, "loss") or hasattr(model, "turns")):
        raise TypeError(f"{type(model).__name__} has neither loss(batch, generator) nor turns(): training needs one of them")
    for part in _tensors(data):
        if not isinstance(part, Tensor) or not (part.is_floating_point() or part.dtype == torch.int64):
            kind = part.dtype if isinstance(part, Tensor) else type(part).__name__
            raise TypeError(
                f"data must be a tensor of floats (or of int64: labels, codes), one row a data point, or a tuple of such; "
                f"got {kind}. Integer pixels: data / 255"
            )
        if len(part) == 0:
            raise ValueError("data is empty: there is nothing to train on")
        if not part.isfinite().all():
            bad = (~part.isfinite()).reshape(len(part), -1).any(1).nonzero()[0].item()
            raise ValueError(f"data must be finite; row {bad} is the first with NaN or infinity")
    if len({len(part) for part in _tensors(data)}) > 1:
        raise ValueError(f"tensors of one data set have one row a data point; got {[len(part) for part in data]} rows")
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps and batch_size must be at least 1, got {steps} and {batch_size}")


def _fingerprint(data: Data) -> str:
    """The shape of the data and a checksum of their content."""
    parts = [f"{list(part.shape)} {zlib.crc32(part.detach().cpu().contiguous().numpy()):08x}" for part in _tensors(data)]
    return ", ".join(parts)


def train(
    model: nn.Module,
    data: Data,
    *,
    steps: int,
    batch_size: int = 100,
    seed: int = 0,
    transform: Callable[[Data, Generator], Data] | None = None,
    optimizer: Callable[[list[nn.Parameter]], Optimizer] = adam,
    device: torch.device | str | None = None,
    checkpoint: Path | str | None = None,
) -> Iterator[Run]:
    """Train in place, yielding the run after each step, so that a plot or a test can ride on it.

    data: one row a data point, or a tuple of tensors with one row a data point each; they move to the device whole.
    transform(batch, generator): what to make of a batch before each step, for instance `datasets.binarize`. checkpoint: a
    file, on a disk that all processes see; where it exists the run goes on from it, to the bit.
    steps counts from the very beginning, resumed or not; a run already finished is yielded once, as it is.
    The model trains on `device`, by default a GPU where there is one, and comes back to where it was when the run ends.
    Raises TrainingDiverged, CheckpointMismatch, and ValueError or TypeError for data or numbers that cannot be right.
    """
    _check(model, data, steps, batch_size)
    processes.join()
    device = torch.device(device) if device else default_device()
    path = Path(checkpoint) if checkpoint else None
    identity = {"model": type(model).__name__, "seed": seed, "batch_size": batch_size * processes.count()}
    if path:
        identity["data"] = _fingerprint(data)
    home = next(model.parameters()).device
    model, data = model.to(device), _each(lambda part: part.to(device), data)
    try:
        processes.agree(model)
        turns, after_step = turns_of(model), getattr(model, "after_step", None)
        moves = [(turn, _loss_of(turn)) for turn in turns]
        optimizers = {turn.name: optimizer(turn.parameters) for turn in turns}
        identity |= {f"optimizer {name}".strip(): " ".join(repr(o).split()) for name, o in optimizers.items()}
        generator = randomness.generator(seed, device)
        run = Run(model, optimizers, generator, order=torch.empty(0, dtype=torch.int64, device=device))
        if path and path.exists():
            run.restore(path, identity)
        processes.wait()  # until all have read the file, before one writes it
        saved = time.monotonic()
        if run.step >= steps:
            yield run
        while run.step < steps:
            started = time.perf_counter()
            if not model.training:
                model.train()
            batch = run.next_batch(data, batch_size)
            if transform:
                batch = transform(batch, generator)
            recorded = {}
            for turn, loss in moves:
                losses = loss(batch, generator)
                optimizers[turn.name].zero_grad()
                losses["loss"].backward(inputs=turn.parameters)
                optimizers[turn.name].step()
                for part, value in losses.items():
                    recorded[f"{turn.name}.{part}".lstrip(".")] = value
            run.record(recorded)
            if after_step:
                after_step(generator)
            run.step += 1
            if run.step % READ_EVERY == 0 or run.step == steps:
                run.read()
            run.seconds += time.perf_counter() - started
            if path and (run.step == steps or run.agreed(time.monotonic() - saved > CHECKPOINT_SECONDS)):
                run.save(path, identity)
                saved = time.monotonic()
            yield run
    except GeneratorExit:  # whoever consumed the steps has had enough: nothing is lost
        if path:
            run.save(path, identity)
        raise
    finally:
        model.to(home)


@contextmanager
def _stop_between_steps() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a request to stop after the step; a second one interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def fit(model: nn.Module, data: Data, *, steps: int, progress: bool = True, **settings) -> History:
    """Train to the end, showing loss and parts as they fall; return the history. The settings are those of `train`.

    Ctrl-C (the stop button of a notebook) ends the run after the step at hand and returns what was trained.
    """
    run = None
    with (
        _stop_between_steps() as stop,
        tqdm(total=steps, disable=not progress or processes.rank() > 0, unit="step", mininterval=0.5) as bar,
        closing(train(model, data, steps=steps, **settings)) as run_steps,
    ):
        for run in run_steps:
            if run.step % READ_EVERY == 0 or run.step == steps:
                recent = {name: np.mean(values[-READ_EVERY:]) for name, values in run._read.items()}
                bar.set_postfix({name: f"{value:.4g}" for name, value in recent.items()}, refresh=False)
                bar.update(run.step - bar.n)
            if run.agreed(stop.is_set()):
                break
    model.eval()
    history = run.history
    history.interrupted = history.steps < steps
    return history
