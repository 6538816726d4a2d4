"""The loop: steps in turn, losses recorded, the run saved; and `fit`, which shows it and stops it between two steps."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Adam, Optimizer
from tqdm import tqdm

from vaecourse import processes, randomness
from vaecourse.distributions import Support, watched
from vaecourse.inputs import gradients, onto, whole
from vaecourse.training.data import Data, check, each, fingerprint, parts, tensors
from vaecourse.training.model import Model, Turn, turns_of
from vaecourse.training.run import READ_EVERY, History, Run, check_path

CHECKPOINT_SECONDS = 30.0

# The book's optimizer, unless a page says otherwise; fused: one pass over the parameters, a tenth of a small step's time less.
adam = partial(Adam, lr=1e-3, fused=True)

Maker = Callable[[list[nn.Parameter]], Optimizer]


def default_device() -> torch.device:
    """The GPU where CUDA has one, else the CPU; each process of several has its own GPU.

    Apple's MPS is experimental: ask for it by device="mps".
    """
    return torch.device("cuda", processes.local_gpu()) if torch.cuda.is_available() else torch.device("cpu")


class _Move(nn.Module):
    """A turn as a module whose forward pass is its loss, since the wrapper for several processes sees `forward` alone."""

    def __init__(self, turn: Turn):
        super().__init__()
        self.own = nn.ParameterList(turn.parameters)
        self.loss = turn.loss

    def forward(self, batch: Data, generator: Generator) -> dict[str, Tensor]:
        return self.loss(batch, generator)


def _loss_of(turn: Turn) -> Callable[..., dict[str, Tensor]]:
    """The turn's loss; where there are several processes, one whose gradients are averaged over all."""
    return DistributedDataParallel(_Move(turn)) if processes.count() > 1 else turn.loss


def _check(model: nn.Module, data: Data, steps: int, batch_size: int) -> None:
    if not isinstance(model, Model):
        raise TypeError(f"{type(model).__name__} has neither loss(batch, generator) nor turns(): training needs one of them")
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise ValueError("the model was built inside torch.inference_mode(), and cannot learn: build it outside")
    check(data)
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps and batch_size must be at least 1, got {steps} and {batch_size}")


def train(
    model: nn.Module,
    data: Data,
    *,
    steps: int,
    batch_size: int = 100,
    seed: int = 0,
    transform: Callable[[Data, Generator], Data] | None = None,
    optimizer: Maker | Mapping[str, Maker] = adam,
    device: torch.device | str | None = None,
    checkpoint: Path | str | None = None,
    schedule: Callable[[float], float] | None = None,
) -> Iterator[Run]:
    """Train in place, yielding the run after each step, so that a plot or a test can ride on it.

    model: an `nn.Module` that is a `Model`. data: one row a data point, or a tuple of tensors with one row a data point each;
    they move to the device whole. NumPy arrays will do, and floats of any type: they become the model's.
    transform(batch, generator): what to make of a batch before each step, for instance `datasets.binarize`. checkpoint: a
    file, on a disk that all processes see; where it exists the run goes on from it, to the bit.
    optimizer: what makes one for a list of parameters; for a model of several players one for all, or one for each by name.
    schedule: a factor of the learning rates by the share of the steps that is done, for instance `training.cosine`.
    steps counts from the very beginning, resumed or not; a run already finished is yielded once, as it is.
    The model trains on `device`, by default a GPU where there is one, and comes back to where it was when the run ends.
    Raises TrainingDiverged, CheckpointMismatch, and ValueError or TypeError for data or numbers that cannot be right, among
    them values outside [0, 1] for coin flips: in the first pass over the data Bernoullis and `binarize` are watched. OSError
    where the checkpoint cannot be written.
    """
    steps, batch_size, seed = whole(steps), whole(batch_size), whole(seed)
    data = tensors(data)
    _check(model, data, steps, batch_size)
    data = each(partial(onto, model), data)
    processes.join()
    device = torch.device(device) if device else default_device()
    path = Path(checkpoint) if checkpoint else None
    if path:
        check_path(path)
    identity = {"model": type(model).__name__, "seed": seed, "batch_size": batch_size * processes.count()}
    if path:
        identity["data"] = fingerprint(data)
    home = next(model.parameters()).device
    model, data = model.to(device), each(lambda part: part.to(device), data)
    try:
        processes.agree(model)
        turns, after_step = turns_of(model), getattr(model, "after_step", None)
        moves = [(turn, _loss_of(turn)) for turn in turns]
        optimizers = {turn.name: make(turn.parameters) for turn, make in zip(turns, _makers(optimizer, turns), strict=True)}
        identity |= {f"optimizer {name}".strip(): " ".join(repr(o).split()) for name, o in optimizers.items()}
        rates = {name: [group["lr"] for group in o.param_groups] for name, o in optimizers.items()}
        falls = f"{[round(schedule(share / 8), 6) for share in range(8)]} over {steps} steps" if schedule else None
        identity["schedule"] = falls
        generator = randomness.generator(seed, device)
        run = Run(model, optimizers, generator, order=torch.empty(0, dtype=torch.int64, device=device))
        if path and path.exists():
            run.restore(path, identity)
        processes.wait()  # until all have read the file, before one writes it
        saved, first, support, points = time.monotonic(), run.step, Support(), len(parts(data)[0])
        if run.step >= steps:
            yield run
        while run.step < steps:
            started = time.perf_counter()
            if not model.training:
                model.train()
            if schedule:
                for name, player in optimizers.items():
                    for group, rate in zip(player.param_groups, rates[name], strict=True):
                        group["lr"] = rate * schedule(run.step / steps)
            in_first_pass = run.step * batch_size < points
            with gradients(), watched(support) if in_first_pass else nullcontext():
                batch = run.next_batch(data, batch_size)
                if transform:
                    batch = transform(batch, generator)
                recorded = {}
                for turn, loss in moves:
                    losses = loss(batch, generator)
                    if run.step == first:
                        support.check()  # before anything is learned from them
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
                support.check()
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


def _makers(optimizer: Maker | Mapping[str, Maker], turns: list[Turn]) -> list[Maker]:
    """What makes each turn's optimizer. Raises ValueError where players and optimizers have not the same names."""
    if not isinstance(optimizer, Mapping):
        return [optimizer] * len(turns)
    if optimizer.keys() != {turn.name for turn in turns}:
        names = f"{sorted(optimizer)} for {sorted({turn.name for turn in turns})}"
        raise ValueError(f"optimizers by name need one for each player, and no other: got {names}")
    return [optimizer[turn.name] for turn in turns]


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
