"""The one training loop: against hand-written ones, bit for bit; stopped, killed, resumed, diverged, badly fed."""

import json
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import ROOT, needs_cuda
from vaecourse import datasets, training
from vaecourse.networks import initial_weights
from vaecourse.training import CheckpointMismatch, History, TrainingDiverged, Turn, fit, train
from vaecourse.vae import bernoulli_vae

DATA = torch.randn(23, 3, generator=torch.Generator().manual_seed(0))
fit = partial(fit, progress=False)


class Toy(nn.Module):
    """A small model with noise in its loss, batch statistics, and an average that follows each step."""

    def __init__(self):
        super().__init__()
        with initial_weights(seed=1):
            self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))
        self.register_buffer("average", torch.zeros(3))

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        error = ((self.net(x + noise) - x) ** 2).sum(-1).mean()
        size = 0.01 * sum((p**2).sum() for p in self.parameters())
        return {"loss": error + size, "error": error, "size": size}

    def after_step(self, generator: torch.Generator) -> None:
        draw = torch.randn(3, generator=generator, device=self.average.device)
        self.average.mul_(0.9).add_(0.1 * self.net[3].bias.detach() + 0.01 * draw)


class Spoiled(nn.Module):
    """A model whose loss is bad from one step on."""

    def __init__(self, bad_step: int, bad_value: float):
        super().__init__()
        self.w = nn.Parameter(torch.ones(3))
        self.bad_step, self.bad_value = bad_step, bad_value
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        self.steps += 1
        part = torch.where(self.steps >= self.bad_step, self.bad_value, 0.5)
        return {"loss": (self.w * x).sum(-1).mean() ** 2, "part": part}


class Game(nn.Module):
    """min over x, max over y, of x y: each player moves along its own gradient, and sees the other's last move."""

    def __init__(self, *moves: str):
        super().__init__()
        self.x, self.y = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(2.0))
        self.moves, self.seen = moves, []

    def turns(self) -> list[Turn]:
        players = {"x": Turn("x", partial(self.pay, 1, "x"), [self.x]), "y": Turn("y", partial(self.pay, -1, "y"), [self.y])}
        return [players[name] for name in self.moves]

    def pay(self, sign: int, player: str, batch: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        self.seen.append((player, self.x.item(), self.y.item()))
        return {"loss": sign * self.x * self.y}


def noisy(batch: Tensor, generator: torch.Generator) -> Tensor:
    return batch + 0.1 * torch.randn(batch.shape, generator=generator, device=batch.device)


def same(model: nn.Module, other: nn.Module) -> bool:
    """Equal to the bit: parameters and buffers."""
    mine, theirs = model.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def same_history(history: History, other: History) -> bool:
    return list(history.parts) == list(other.parts) and all(np.array_equal(history[p], other[p]) for p in history.parts)


# What it computes


def test_a_run_is_a_hand_written_loop_to_the_bit():
    model, ours = Toy(), Toy()
    optimizer = Adam(model.parameters(), lr=1e-3, fused=True)
    generator = torch.Generator().manual_seed(5)
    order, rows = [], []
    for _ in range(60):
        while len(order) < 8:
            order += torch.randperm(23, generator=generator).tolist()
        batch, order = DATA[order[:8]], order[8:]
        losses = model.loss(noisy(batch, generator), generator)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        model.after_step(generator)
        rows.append([losses[part].item() for part in ("loss", "error", "size")])
    history = fit(ours, DATA, steps=60, batch_size=8, seed=5, transform=noisy, device="cpu")
    assert same(ours, model)
    assert np.array_equal(np.stack([history[part] for part in ("loss", "error", "size")], 1), rows)
    assert history.steps == 60 and not history.interrupted and history.seconds > 0


@pytest.mark.parametrize("batch_size", [1, 5, 7, 10, 100])
def test_batches_are_full_and_visit_each_point_once_a_pass(batch_size):
    points, batches = torch.arange(7.0)[:, None], []

    def watch(batch, generator):
        batches.append(batch[:, 0])
        return batch

    class Line(nn.Linear):
        def loss(self, x, generator):
            return {"loss": self(x).square().mean()}

    fit(Line(1, 1), points, steps=21, batch_size=batch_size, transform=watch, device="cpu")
    assert all(len(batch) == batch_size for batch in batches)
    passes = torch.cat(batches).split(7)
    assert all(torch.equal(one.sort().values, points[:, 0]) for one in passes if len(one) == 7)
    assert any(not torch.equal(one, points[:, 0]) for one in passes)


class Labeled(nn.Module):
    """A model that keeps the points and labels that it is given."""

    def __init__(self):
        super().__init__()
        self.w, self.seen = nn.Parameter(torch.ones(())), []

    def loss(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        points, labels = batch
        self.seen.append((points, labels))
        return {"loss": (self.w * points).mean() ** 2}


def test_several_tensors_are_shuffled_together_and_keep_their_types():
    model, labels = Labeled(), torch.arange(len(DATA))
    fit(model, (DATA, labels), steps=6, batch_size=5, transform=lambda batch, noise: (2 * batch[0], batch[1]))
    for points, own in model.seen:
        assert own.dtype == torch.int64 and torch.equal(points, 2 * DATA[own])


def test_whole_numbers_may_be_data():
    model = Toy()
    model.loss = lambda batch, generator: {"loss": model.net[3].bias.sum() * (batch.dtype == torch.int64)}
    assert len(fit(model, torch.arange(12).reshape(6, 2), steps=2, batch_size=3)["loss"]) == 2


def test_a_seed_gives_the_same_run_again_and_another_seed_another():
    models = Toy(), Toy(), Toy()
    histories = [fit(model, DATA, steps=20, seed=seed) for model, seed in zip(models, (3, 3, 4), strict=True)]
    assert same(models[0], models[1]) and same_history(histories[0], histories[1])
    assert not same(models[0], models[2])


def test_training_leaves_the_global_randomness_alone():
    state = torch.random.get_rng_state()
    fit(Toy(), DATA, steps=3)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_iterator_yields_after_each_step_and_may_be_left_at_any():
    model = Toy()
    for run in train(model, DATA, steps=1000, batch_size=8, device="cpu"):
        assert model.training and len(run.history["loss"]) == run.step
        model.eval()  # a live plot does this; the loop goes back to training
        if run.step == 7:
            break
    whole = Toy()
    history = fit(whole, DATA, steps=7, batch_size=8, device="cpu")
    assert same(model, whole) and same_history(run.history, history) and not whole.training


def test_a_frozen_parameter_stays_as_it_is():
    model = Toy()
    model.net[0].weight.requires_grad_(False)
    before = model.net[0].weight.clone()
    fit(model, DATA, steps=5)
    assert torch.equal(model.net[0].weight, before)


# Several players


def test_players_move_in_order_each_with_a_fresh_pass_along_its_own_gradient():
    game, lr = Game("x", "y"), 0.1
    history = fit(game, DATA, steps=3, optimizer=partial(SGD, lr=lr), device="cpu")
    x, y, seen, losses = torch.tensor(1.0), torch.tensor(2.0), [], []
    for _ in range(3):
        seen.append(("x", x.item(), y.item()))
        losses.append((x * y).item())
        x = x - lr * y
        seen.append(("y", x.item(), y.item()))
        losses.append(-(x * y).item())
        y = y + lr * x
    assert game.seen == seen
    assert (game.x.item(), game.y.item()) == (x.item(), y.item())
    assert history["x.loss"].tolist() == losses[::2] and history["y.loss"].tolist() == losses[1::2]


def test_a_gradient_reaches_the_parameters_of_its_own_turn_and_no_others():
    game = Game("x")
    fit(game, DATA, steps=3)
    assert game.y.grad is None and game.y.item() == 2 and game.x.item() != 1


def test_a_player_listed_twice_moves_twice_with_one_optimizer_and_one_entry_a_step():
    twice, lr = Game("y", "y", "x"), 0.1
    history = fit(twice, DATA, steps=60, optimizer=partial(SGD, lr=lr, momentum=0.5), device="cpu")
    x, y = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(2.0))
    optimizers = {"x": SGD([x], lr=lr, momentum=0.5), "y": SGD([y], lr=lr, momentum=0.5)}
    losses = {"x": [], "y": []}
    for _ in range(60):
        for name, player, slope in (("y", y, -x.detach()), ("y", y, -x.detach()), ("x", x, None)):
            loss = x * y if name == "x" else -x * y
            player.grad = y.detach().clone() if slope is None else slope.clone()
            optimizers[name].step()
            last = loss.item()
            losses[name].append(last)
    assert (twice.x.item(), twice.y.item()) == (x.item(), y.item())
    assert history["y.loss"].tolist() == losses["y"][1::2] and history["x.loss"].tolist() == losses["x"]


def test_players_of_one_name_with_different_parameters_are_an_error():
    class Confused(Game):
        def turns(self):
            x, y = super().turns()
            return [x, Turn("x", y.loss, y.parameters)]

    with pytest.raises(ValueError, match="two turns are named 'x', with different parameters"):
        fit(Confused("x", "y"), DATA, steps=1)


# What it records


def test_a_history_names_its_parts_and_smooths_over_windows():
    history = History({"loss": np.arange(7.0)}, steps=7, seconds=1.0)
    assert history.smooth("loss", 3).tolist() == [1, 4, 6]
    with pytest.raises(KeyError, match="no part 'kl' was recorded; there are loss"):
        history["kl"]


def test_progress_shows_the_loss_and_its_parts(capsys):
    training.fit(Toy(), DATA, steps=60)
    shown = capsys.readouterr().err
    assert "60/60" in shown and "loss=" in shown and "error=" in shown and "size=" in shown


class Reads(TorchDispatchMode):
    """Count what brings a number from the device to the host."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.count = 0
        for name in ("tolist", "numpy", "cpu"):
            monkeypatch.setattr(Tensor, name, self.counted(getattr(Tensor, name)))

    def counted(self, method):
        def call(*args, **kwargs):
            self.count += 1
            return method(*args, **kwargs)

        return call

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default  # item(), float(), bool()
        return func(*args, **(kwargs or {}))


def test_losses_stay_on_the_device_and_are_read_every_fifty_steps(monkeypatch):
    steps = train(Toy(), DATA, steps=120, batch_size=8, transform=noisy, device="cpu")
    next(steps)
    with Reads(monkeypatch) as reads:
        counts = {run.step: reads.count for run in steps}
    assert counts[49] == 0
    assert counts[50] == counts[99] == 3  # one for each of the three parts
    assert counts[100] == counts[119] == 6 and counts[120] == 9


# Divergence


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("step", [1, 37, 50, 51, 113])
def test_a_loss_that_is_not_finite_is_reported_with_its_first_step_and_likely_causes(step, bad):
    with pytest.raises(TrainingDiverged, match=rf"not finite is at step {step} .*part = {bad}") as caught:
        fit(Spoiled(step, bad), DATA, steps=120)
    assert caught.value.step == step and set(caught.value.parts) == {"loss", "part"}
    assert "Likely causes" in str(caught.value) and "log-variance" in str(caught.value)


def test_the_step_is_right_for_two_players_and_after_a_resume(tmp_path):
    class Doomed(Game):
        def after_step(self, generator):
            if self.seen and len(self.seen) == 2 * 8:
                self.x.data.fill_(torch.nan)

    with pytest.raises(TrainingDiverged) as caught:
        fit(Doomed("x", "y"), DATA, steps=40)
    assert caught.value.step == 9
    file = tmp_path / "run"
    fit(Spoiled(90, np.nan), DATA, steps=60, checkpoint=file)
    with pytest.raises(TrainingDiverged) as caught:
        fit(Spoiled(90, np.nan), DATA, steps=120, checkpoint=file)
    assert caught.value.step == 90


def test_a_spoiled_run_is_never_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(training.loop, "CHECKPOINT_SECONDS", 0.0)
    file = tmp_path / "run"
    with pytest.raises(TrainingDiverged):
        fit(Spoiled(20, np.nan), DATA, steps=120, checkpoint=file)
    history = fit(Spoiled(20, np.nan), DATA, steps=19, checkpoint=file)
    assert history.steps == 19 and np.isfinite(history["part"]).all()


# Ctrl-C


@pytest.fixture
def handler():
    """Python's own handler of Ctrl-C, which a test run in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def interrupt_at(step: int, times: int = 1):
    """A transform that presses Ctrl-C during that step."""
    steps = iter(range(1, 10**6))

    def press(batch, generator):
        if next(steps) == step:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return batch

    return press


def test_ctrl_c_ends_the_run_after_the_step_and_returns_what_was_trained(handler):
    model, whole = Toy(), Toy()
    history = fit(model, DATA, steps=10_000, transform=interrupt_at(13))
    assert signal.getsignal(signal.SIGINT) is handler
    assert history.interrupted and history.steps == 13 and not model.training
    assert same_history(history, fit(whole, DATA, steps=13)) and same(model, whole)


def test_a_run_that_ends_by_itself_or_by_an_error_restores_the_handler_too(handler):
    fit(Toy(), DATA, steps=3)
    assert signal.getsignal(signal.SIGINT) is handler
    with pytest.raises(TrainingDiverged):
        fit(Spoiled(2, np.nan), DATA, steps=3)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_second_ctrl_c_interrupts_at_once(handler):
    with pytest.raises(KeyboardInterrupt):
        fit(Toy(), DATA, steps=100, transform=interrupt_at(5, times=2))
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_with_a_checkpoint_loses_nothing(tmp_path, handler):
    model, whole, file = Toy(), Toy(), tmp_path / "run"
    assert fit(Toy(), DATA, steps=40, transform=interrupt_at(13), checkpoint=file).steps == 13
    history = fit(model, DATA, steps=40, checkpoint=file)
    assert not history.interrupted
    assert same_history(history, fit(whole, DATA, steps=40)) and same(model, whole)


def test_a_run_outside_the_main_thread_works_without_a_handler():
    model, whole, histories = Toy(), Toy(), []
    thread = threading.Thread(target=lambda: histories.append(fit(model, DATA, steps=5)))
    thread.start()
    thread.join()
    assert same_history(histories[0], fit(whole, DATA, steps=5)) and same(model, whole)


# Checkpoints

OPTIMIZERS = {
    "adam": training.adam,
    "plain adam": partial(Adam, lr=1e-2, amsgrad=True),
    "sgd": partial(SGD, lr=1e-2),
    "momentum": partial(SGD, lr=1e-2, momentum=0.9),
}


class PowerCut(Exception):
    """What stands in for a kill: the run stops in the middle of a step and has no time to save."""


def power_cut_at(step: int):
    steps = iter(range(1, 10**6))

    def cut(batch, generator):
        if next(steps) == step:
            raise PowerCut
        return noisy(batch, generator)

    return cut


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.slow
def test_a_run_cut_off_and_resumed_equals_an_uninterrupted_one_to_the_bit(optimizer, tmp_path, monkeypatch):
    monkeypatch.setattr(training.loop, "CHECKPOINT_SECONDS", 0.0)  # after each step
    settings = {"steps": 110, "batch_size": 8, "optimizer": optimizer}
    for cut in (30, 45):
        with pytest.raises(PowerCut):
            fit(Toy(), DATA, transform=power_cut_at(cut), checkpoint=tmp_path / "run", **settings)
    model, whole = Toy(), Toy()
    history = fit(model, DATA, transform=noisy, checkpoint=tmp_path / "run", **settings)
    assert same_history(history, fit(whole, DATA, transform=noisy, **settings)) and same(model, whole)
    assert history.steps == 110 and len(history["loss"]) == 110


def rates_of(run_steps, steps):
    return [run.optimizers[""].param_groups[0]["lr"] for run in run_steps][:steps]


def test_a_schedule_sets_each_step_s_rate_by_the_share_that_is_done():
    rates = rates_of(train(Toy(), DATA, steps=4, optimizer=partial(SGD, lr=0.2), schedule=training.cosine), 4)
    assert rates == pytest.approx([0.2, 0.2 * (2 + 2**0.5) / 4, 0.1, 0.2 * (2 - 2**0.5) / 4])


def test_a_scheduled_run_cut_off_and_resumed_equals_an_uninterrupted_one_and_another_schedule_is_refused(tmp_path):
    settings = {"steps": 12, "optimizer": partial(Adam, lr=0.01), "schedule": training.cosine}
    whole, cut = Toy(), Toy()
    fit(whole, DATA, **settings)
    for run in train(cut, DATA, checkpoint=tmp_path / "run", **settings):
        if run.step == 5:
            break
    resumed = Toy()
    with pytest.raises(CheckpointMismatch, match="schedule is"):
        fit(resumed, DATA, checkpoint=tmp_path / "run", **settings | {"steps": 24})
    with pytest.raises(CheckpointMismatch, match=r"schedule is .* there and None here"):
        fit(resumed, DATA, checkpoint=tmp_path / "run", **settings | {"schedule": None})
    fit(resumed, DATA, checkpoint=tmp_path / "run", **settings)
    assert same(resumed, whole)


class Duel(nn.Module):
    """Two players, each with one number that it moves up."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def turns(self):
        return [Turn(name, lambda x, g, p=p: {"loss": -p}, [p]) for name, p in (("A", self.a), ("B", self.b))]


def test_each_player_may_have_an_optimizer_of_its_own():
    model = Duel()
    fit(model, DATA, steps=3, optimizer={"A": partial(SGD, lr=0.1), "B": partial(SGD, lr=1.0)})
    assert (model.a.item(), model.b.item()) == pytest.approx((0.3, 3.0))
    for names in (["A"], ["A", "B", "C"], [""]):
        with pytest.raises(ValueError, match=r"one for each player, and no other: got .* for \['A', 'B'\]"):
            fit(model, DATA, steps=1, optimizer=dict.fromkeys(names, partial(SGD, lr=0.1)))


def test_a_game_cut_off_and_resumed_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr(training.loop, "CHECKPOINT_SECONDS", 0.0)
    game, whole = Game("x", "y", "y"), Game("x", "y", "y")
    with pytest.raises(PowerCut):
        fit(Game("x", "y", "y"), DATA, steps=30, transform=power_cut_at(17), checkpoint=tmp_path / "run")
    history = fit(game, DATA, steps=30, checkpoint=tmp_path / "run")
    assert same_history(history, fit(whole, DATA, steps=30)) and same(game, whole)


KILLED = """
import os, signal, sys
sys.path[:0] = {folders!r}
import torch
torch.set_num_threads(1)
from test_training import DATA, OPTIMIZERS, Toy, noisy
from vaecourse import training
training.loop.CHECKPOINT_SECONDS = 0.0
steps = iter(range(1, 1000))

def kill(batch, generator):
    if next(steps) == 31:
        os.kill(os.getpid(), signal.SIGKILL)
    return noisy(batch, generator)

settings = dict(steps=70, batch_size=8, transform=kill, optimizer=OPTIMIZERS[{name!r}], device="cpu")
training.fit(Toy(), DATA, checkpoint={file!r}, **settings)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("name", ["adam", "momentum"])
@pytest.mark.slow
def test_a_process_killed_and_resumed_by_another_equals_an_uninterrupted_run_to_the_bit(name, tmp_path):
    file = tmp_path / "run"
    code = KILLED.format(folders=[str(Path(__file__).parent), str(ROOT / "tests")], file=str(file), name=name)
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    settings = {"steps": 70, "batch_size": 8, "transform": noisy, "optimizer": OPTIMIZERS[name], "device": "cpu"}
    model, whole = Toy(), Toy()
    resumed = next(train(Toy(), DATA, checkpoint=file, **settings))
    assert resumed.step == 31  # the killed one had saved 30
    history = fit(model, DATA, checkpoint=file, **settings)
    assert same_history(history, fit(whole, DATA, **settings)) and same(model, whole)


def test_a_finished_run_is_yielded_once_as_it_is_and_may_be_prolonged(tmp_path):
    file, model, whole = tmp_path / "folder" / "run", Toy(), Toy()
    first = fit(model, DATA, steps=20, checkpoint=file)
    again = Toy()
    runs = list(train(again, DATA, steps=20, checkpoint=file))
    assert len(runs) == 1 and same(again, model) and same_history(runs[0].history, first)
    longer = Toy()
    history = fit(longer, DATA, steps=50, checkpoint=file)
    assert same_history(history, fit(whole, DATA, steps=50)) and same(longer, whole)


def test_a_checkpoint_keeps_double_precision_and_tensors_of_any_layout(tmp_path):
    class Wide(Toy):
        def __init__(self):
            super().__init__()
            self.double()
            self.net[3].weight = nn.Parameter(self.net[3].weight.data.T.contiguous().T)
            self.register_buffer("average", torch.zeros(3, dtype=torch.float64))

    data, model, whole, file = DATA.double() / 3, Wide(), Wide(), tmp_path / "run"
    fit(Wide(), data, steps=20, checkpoint=file)
    history = fit(model, data, steps=40, checkpoint=file)
    assert same_history(history, fit(whole, data, steps=40)) and same(model, whole)


def test_a_checkpoint_is_plain_numbers_and_json_with_nothing_pickled(tmp_path):
    file = tmp_path / "run"
    fit(Toy(), DATA, steps=20, checkpoint=file)
    content = file.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    note = json.loads(header.pop("__metadata__")["run"])
    assert note["step"] == 20 and note["identity"]["seed"] == 0
    assert {"generator", "order", "history.error", "model.average", "optimizer..0.exp_avg"} <= header.keys()
    size = 8 + int.from_bytes(content[:8], "little") + max(entry["data_offsets"][1] for entry in header.values())
    assert size == len(content)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_save_that_fails_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    file, model, whole = tmp_path / "run", Toy(), Toy()
    fit(Toy(), DATA, steps=20, checkpoint=file)

    def fail(tensors, path, note):
        Path(path).write_bytes(b"half of a file")
        raise OSError("no space left on the device")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="no space left"):
        broken.setattr(training.run, "save_file", fail)
        fit(Toy(), DATA, steps=30, checkpoint=file)
    history = fit(model, DATA, steps=40, checkpoint=file)
    assert same_history(history, fit(whole, DATA, steps=40)) and same(model, whole)


@pytest.mark.parametrize("damage", ["truncated", "headless", "empty", "text", "foreign"])
def test_a_damaged_checkpoint_is_named_with_the_remedy_and_not_used(damage, tmp_path):
    file = tmp_path / "run"
    fit(Toy(), DATA, steps=5, checkpoint=file)
    content = file.read_bytes()
    if damage == "foreign":
        save_file({"w": torch.zeros(3)}, file)
    else:
        broken = {"truncated": content[:-40], "headless": content[30:], "empty": b"", "text": b"not a checkpoint at all"}
        file.write_bytes(broken[damage])
    model, untouched = Toy(), Toy()
    with pytest.raises(CheckpointMismatch, match=r"not a readable checkpoint .* Delete the file to start afresh") as caught:
        fit(model, DATA, steps=10, checkpoint=file)
    assert str(file) in str(caught.value) and same(model, untouched)


class Other(Toy):
    pass


class Larger(Toy):
    def __init__(self):
        super().__init__()
        self.register_buffer("average", torch.zeros(4))


Larger.__name__ = "Toy"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"batch_size": 9}, "batch_size is 8 there and 9 here"),
        ({"data": DATA[:20]}, r"data is \[23, 3\] \w+ there and \[20, 3\] \w+ here"),
        ({"data": DATA + 1}, r"data is \[23, 3\] \w+ there and \[23, 3\] \w+ here"),
        ({"model": Other}, "model is Toy there and Other here"),
        ({"model": Larger}, "holds a model of another shape"),
        ({"optimizer": partial(SGD, lr=0.1)}, "optimizer is Adam .* there and SGD"),
        ({"optimizer": partial(Adam, lr=0.1)}, r"lr: 0\.001 .* there and .*lr: 0\.1 "),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_says_what_differs(change, message, tmp_path):
    settings = {"model": Toy, "data": DATA, "steps": 5, "batch_size": 8, "checkpoint": tmp_path / "run"}

    def go(model, **settings):
        return fit(model(), **settings)

    go(**settings)
    with pytest.raises(CheckpointMismatch, match=message):
        go(**settings | change)


def test_a_checkpoint_of_a_game_with_other_players_is_refused(tmp_path):
    fit(Game("x"), DATA, steps=5, checkpoint=tmp_path / "run")
    with pytest.raises(CheckpointMismatch, match="belongs to another run: optimizer y is None there and Adam"):
        fit(Game("x", "y"), DATA, steps=10, checkpoint=tmp_path / "run")


# Bad input


@pytest.mark.parametrize(
    "data, error, message",
    [
        ([[0.5]], TypeError, "data must be a tensor of floats.*; got list"),
        (torch.zeros(3, 3, dtype=torch.uint8), TypeError, r"got torch.uint8. Integer pixels: data / 255"),
        (torch.zeros(0, 3), ValueError, "data is empty"),
        (torch.tensor([[0.0] * 3, [1.0, torch.nan, 0.0]]), ValueError, "row 1 is the first with NaN or infinity"),
        (torch.tensor([[0.0] * 3, [0.0] * 3, [torch.inf] * 3]), ValueError, "row 2 is the first with NaN or infinity"),
        ((DATA, torch.zeros(22, dtype=torch.int64)), ValueError, r"one row a data point; got \[23, 22\] rows"),
        ((DATA, [0] * 23), TypeError, "got list"),
    ],
    ids=["list", "integers", "empty", "nan", "infinity", "labels missing", "labels in a list"],
)
def test_data_that_cannot_be_right_are_refused_before_the_first_step(data, error, message, no_shape_checks):
    with pytest.raises(error, match=message):
        fit(Toy(), data, steps=1)


@pytest.mark.parametrize("numbers", [{"steps": 0}, {"steps": 5, "batch_size": 0}])
def test_a_number_of_steps_or_points_below_one_is_an_error(numbers):
    with pytest.raises(ValueError, match="steps and batch_size must be at least 1"):
        fit(Toy(), DATA, **numbers)


def test_a_model_without_a_loss_is_an_error_that_says_what_is_missing():
    with pytest.raises(TypeError, match=r"Linear has neither loss\(batch, generator\) nor turns\(\)"):
        fit(nn.Linear(3, 3), DATA, steps=1)


# What a model is


def test_a_model_has_a_loss_or_turns():
    assert isinstance(Toy(), training.OnePlayer) and isinstance(Game("x"), training.Players)
    assert isinstance(Toy(), training.Model) and isinstance(Game("x"), training.Model)
    assert not isinstance(nn.Linear(3, 3), training.Model)
    late = nn.Linear(3, 3)
    late.loss = lambda batch, generator: {"loss": late(batch).mean()}
    assert isinstance(late, training.Model)


def test_a_model_of_images_answers_to_the_whole_vocabulary():
    model = bernoulli_vae(6, 2, hidden=(5,))
    assert isinstance(model, training.ImageModel) and not isinstance(Toy(), training.ImageModel)


# Devices


def test_a_model_whose_checkpoint_is_refused_comes_home(tmp_path, monkeypatch):
    fit(Toy(), DATA, steps=5, checkpoint=tmp_path / "run")
    model, moves = Toy(), []
    monkeypatch.setattr(model, "to", lambda device: moves.append(device) or model)
    with pytest.raises(CheckpointMismatch):
        fit(model, DATA, steps=9, seed=1, checkpoint=tmp_path / "run", device="cpu")
    assert len(moves) == 2 and moves[-1] == torch.device("cpu")


def test_the_device_is_cuda_where_there_is_one_else_the_cpu_and_never_mps_by_itself(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for available, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert training.default_device().type == kind


@pytest.mark.gpu
@needs_cuda
def test_a_run_on_a_gpu_copies_nothing_to_the_host_between_readings_and_brings_the_model_home():
    model = Toy()
    steps = train(model, DATA, steps=120, batch_size=8, transform=noisy, device="cuda")
    for run in steps:
        assert model.average.is_cuda
        if run.step == 10:
            torch.cuda.set_sync_debug_mode("error")
        if run.step == 49:
            torch.cuda.set_sync_debug_mode("default")
    assert not model.average.is_cuda and len(run.history["loss"]) == 120


@pytest.mark.gpu
@needs_cuda
def test_a_run_on_a_gpu_resumes(tmp_path):
    model, file = Toy(), tmp_path / "run"
    fit(Toy(), DATA, steps=30, checkpoint=file, device="cuda")
    history = fit(model, DATA, steps=60, checkpoint=file, device="cuda")
    whole = fit(Toy(), DATA, steps=60, device="cuda")
    assert np.allclose(history["loss"], whole["loss"], rtol=1e-4)


# Whatever people pass, and whatever changes between two runs


@pytest.mark.parametrize("kind", ["float64", "float16", "bfloat16", "numpy", "graph"])
def test_data_of_any_float_type_are_taken_as_the_model_s(kind, tmp_path, no_shape_checks):
    given = DATA.half().float()  # what all of them can hold
    given = given.bfloat16().float() if kind == "bfloat16" else given
    same_data = {
        "numpy": given.double().numpy(),
        "graph": given.clone().requires_grad_() * 1.0,
    }.get(kind, given if kind in ("numpy", "graph") else given.to(getattr(torch, kind, torch.float32)))
    model, plain = Toy(), Toy()
    history = fit(model, same_data, steps=6, batch_size=5, checkpoint=tmp_path / "run")
    assert same_history(history, fit(plain, given, steps=6, batch_size=5)) and same(model, plain)
    assert fit(Toy(), given, steps=9, batch_size=5, checkpoint=tmp_path / "run").steps == 9  # it is the same data


def test_a_model_in_double_precision_takes_single_precision_data():
    assert fit(Toy().double(), DATA, steps=2)["loss"].shape == (2,)


def test_numbers_of_numpy_make_the_same_run_and_its_checkpoint(tmp_path, no_shape_checks):
    numbers = {"steps": np.int64(6), "batch_size": np.int64(5), "seed": np.int64(3)}
    history = fit(Toy(), DATA, **numbers, checkpoint=tmp_path / "run")
    assert same_history(history, fit(Toy(), DATA, steps=6, batch_size=5, seed=3, checkpoint=tmp_path / "run"))


def test_values_that_are_no_probabilities_are_refused_before_anything_is_learned():
    normalized = (torch.rand(200, 64, generator=torch.Generator().manual_seed(0)) - 0.13) / 0.31
    model, untouched = (bernoulli_vae(64, 2, hidden=(16,)) for _ in range(2))
    for data, transform in ((normalized, None), (normalized, lambda batch, noise: datasets.binarize(batch, noise))):
        with pytest.raises(ValueError, match=r"values from -0.4\d* to 2.8\d*, and take values in \[0, 1\] alone"):
            fit(model, data, steps=5, transform=transform)
    assert same(model, untouched)
    fit(model, normalized, steps=2, transform=lambda batch, noise: batch.clamp(0, 1))


def test_one_value_that_is_no_probability_is_found_in_the_first_pass():
    data = torch.rand(200, 64, generator=torch.Generator().manual_seed(0))
    data[137, 5] = 1.5
    with pytest.raises(ValueError, match=r"to 1.5, and take"):
        fit(bernoulli_vae(64, 2, hidden=(16,)), data, steps=100, batch_size=10)


def test_training_goes_on_inside_no_grad_and_names_inference_mode():
    whole = fit(Toy(), DATA, steps=3)
    with torch.no_grad():
        assert same_history(fit(Toy(), DATA, steps=3), whole)
    with torch.inference_mode():
        with pytest.raises(ValueError, match=r"built inside torch.inference_mode"):
            fit(Toy(), DATA, steps=3)
        built = Toy
    model = built()
    with torch.inference_mode(), pytest.raises(ValueError, match=r"use torch.no_grad\(\) in its place"):
        fit(model, DATA, steps=3)


def test_a_player_s_frozen_layers_stay_and_a_model_that_is_all_frozen_says_so():
    game = Game("x", "y")
    game.turns = lambda: [Turn("x", partial(game.pay, 1, "x"), [game.x, game.y])]
    game.y.requires_grad_(False)
    fit(game, DATA, steps=2)
    assert game.x.item() != 1 and game.y.item() == 2
    with pytest.raises(ValueError, match="of the model no parameter learns: all are frozen"):
        fit(Toy().requires_grad_(False), DATA, steps=2)


def test_a_checkpoint_is_no_folder_and_lies_where_one_can_write(tmp_path):
    with pytest.raises(
        CheckpointMismatch, match=r"is a folder, and a checkpoint is a file: name one in it, as .*run.safetensors"
    ):
        fit(Toy(), DATA, steps=2, checkpoint=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"the folder of the checkpoint .* cannot be made"):
        fit(Toy(), DATA, steps=2, checkpoint=tmp_path / "file" / "run")


def test_a_full_disk_is_said_in_words_and_leaves_no_half_file(tmp_path, monkeypatch):
    def full(tensors, path, note):
        Path(path).write_bytes(b"half")
        raise SafetensorError("Error while serializing: IoError(Os { code: 28 })")

    monkeypatch.setattr(training.run, "save_file", full)
    with pytest.raises(OSError, match=r"not saved at step 4: .*could not be written .*code: 28.*Make room on the disk"):
        fit(Toy(), DATA, steps=4, checkpoint=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_device_type_or_with_other_layers_frozen_is_refused_in_words(tmp_path):
    file, untouched = tmp_path / "run", Toy()
    fit(Toy(), DATA, steps=4, checkpoint=file)
    frozen = Toy()
    frozen.net[0].requires_grad_(False)
    with pytest.raises(CheckpointMismatch, match=r"other layers frozen, net.0.bias, net.0.weight among them"):
        fit(frozen, DATA, steps=8, checkpoint=file)
    with pytest.raises(CheckpointMismatch, match=r"another type: .* is torch.float32 there and torch.float64 here"):
        fit(Toy().double(), DATA, steps=8, checkpoint=file)
    with safe_open(file, "pt") as opened:
        note, tensors = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    save_file(tensors | {"generator": torch.zeros(16, dtype=torch.uint8)}, file, note)  # as a GPU's
    model = Toy()
    with pytest.raises(CheckpointMismatch, match=r"a run on cpu, this one on cpu: its noise cannot go on as it was"):
        fit(model, DATA, steps=8, checkpoint=file)
    assert same(model, untouched)
