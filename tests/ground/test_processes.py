"""Several processes that train as one: two of them, started as `torchrun` starts them, against one with the whole batch.

This file is also the script that the processes run.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vaecourse import datasets, processes, randomness, training
from vaecourse.networks import BernoulliNetwork, GaussianNetwork, initial_weights, mlp
from vaecourse.regularizers import DUVAE
from vaecourse.training import READ_EVERY, Turn
from vaecourse.vae import bernoulli_vae
from vaecourse.vaebm import EBM, Chains, energy_mlp
from vaecourse.vq_vae import conv_vq_vae

DATA = torch.rand(37, 6, generator=torch.Generator().manual_seed(0))


class Game(nn.Module):
    """Two players with noise of their own, a moving average over the batch, batch statistics, and chains of the whole batch."""

    def __init__(self):
        super().__init__()
        with initial_weights(seed=3):
            self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.register_buffer("average", torch.zeros(6))
        self.register_buffer("chains", torch.zeros(8, 6))
        self.register_buffer("draw_for_all", torch.zeros(2))

    def turns(self) -> list[Turn]:
        return [
            Turn("one", self.first, list(self.one.parameters())),
            Turn("two", self.second, list(self.two.parameters())),
            Turn("two", self.second, list(self.two.parameters())),
        ]

    def first(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        h = self.one(x + 0.1 * randomness.normal(x.shape, x, generator))
        n = len(x) * processes.count()
        centered = h - processes.total(h.sum(0)) / n
        variance = processes.total((centered**2).sum(0)) / n
        moved = processes.share(self.chains) + 0.1 * h.detach()
        self.chains.copy_(processes.joined(moved))
        self.average.mul_(0.9).add_(processes.total(h.detach().sum(0)), alpha=0.1)
        standardized = centered / (variance + 0.1).sqrt()
        return {"loss": ((standardized + h - x) ** 2).sum(-1).mean(), "doubled": h.mean().double()}

    def second(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        u = randomness.uniform((3, *x.shape), x, generator, batch_axis=1)
        return {"loss": ((self.two(self.one(x) + u) - x) ** 2).sum(-1).mean()}

    def after_step(self, generator: torch.Generator) -> None:
        self.draw_for_all.copy_(randomness.normal((2,), self.average, generator, batch_axis=None))


def du_vae() -> DUVAE:
    with initial_weights(seed=0):
        # without a bias before the normalization, which takes it away: Adam would make steps of its rounding errors
        encoder = GaussianNetwork(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4, bias=False)))
        return DUVAE(encoder, BernoulliNetwork(mlp(2, 5, 6)), pixels=6, latents=2)


CASES: dict[str, Callable[[], tuple[nn.Module, Tensor, dict]]] = {
    "vae": lambda: (bernoulli_vae(6, 2, hidden=(5,)), DATA, {"transform": datasets.binarize}),
    "game": lambda: (Game(), DATA, {}),
    "batch statistics": lambda: (du_vae(), DATA, {}),
    "codebook by averages": lambda: (
        conv_vq_vae((1, 8, 8), codes=12, dim=3, width=4, revive_below=0.3),
        datasets.load("digits").train[:40],
        {},
    ),
    "persistent chains": lambda: (EBM(energy_mlp(6, (8,)), 6, Chains(16, 6, restart=0.1), steps=3), DATA, {}),
}
STEPS, BATCH = READ_EVERY + 3, 8


def train(name: str, batch_size: int, **settings) -> tuple[training.History, nn.Module]:
    """A case trained; the same for any number of processes whose batches make up 8 points."""
    model, data, more = CASES[name]()
    settings = {"steps": STEPS, "batch_size": batch_size, "device": "cpu", "progress": False} | more | settings
    return training.fit(model, data, **settings), model


def work(folder: Path) -> None:
    """What each of the processes does: train each case, stop one and resume it, be interrupted, diverge."""
    torch.set_num_threads(1)
    fit = partial(train, batch_size=BATCH // 2)
    report = {}
    for name in CASES:
        history, model = fit(name)
        report[name] = {part: values.tolist() for part, values in history.parts.items()}
        torch.save(model.state_dict(), folder / f"{name}.{processes.rank()}.pt")
    fit("game", steps=20, checkpoint=folder / "checkpoint")
    report["resumed"] = fit("game", checkpoint=folder / "checkpoint")[0]["one.loss"].tolist()

    model, data, _ = CASES["vae"]()
    run_steps = training.train(model, data, steps=4 * READ_EVERY, batch_size=4, device="cpu")
    for run in run_steps:  # one process alone is asked to stop, a little after a reading
        if run.agreed(processes.rank() == 1 and run.step > READ_EVERY + 10):
            report["stopped at"] = run.step
            break
    report["rows"] = processes.joined(torch.full((2, 1), float(processes.rank()))).flatten().tolist()
    x = torch.tensor([1.0 + processes.rank()], requires_grad=True)
    (processes.total(x) ** 2 * (processes.rank() + 1)).sum().backward()
    report["total"] = [processes.total(x).item(), x.grad.item()]
    (folder / f"report.{processes.rank()}.json").write_text(json.dumps(report))


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, list[dict]]:
    """The folder where two processes worked, and what each of them reports."""
    folder = tmp_path_factory.mktemp("pair")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*torchrun, __file__, str(folder)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, [json.loads((folder / f"report.{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_lose_what_one_with_the_doubled_batch_loses(pair, name):
    history, _ = train(name, BATCH)
    for report in pair[1]:
        assert report[name].keys() == history.parts.keys()
        for part, values in report[name].items():
            assert np.allclose(values, history[part], rtol=1e-4, atol=1e-5), part


@pytest.mark.parametrize("name", CASES)
def test_two_processes_end_with_the_model_of_one(pair, name):
    """Parameters, moving averages, chains, and what is drawn for all."""
    _, model = train(name, BATCH)
    for rank in (0, 1):
        state = torch.load(pair[0] / f"{name}.{rank}.pt", weights_only=True)
        for key, value in model.state_dict().items():
            assert torch.allclose(state[key], value, rtol=1e-3, atol=1e-4), key


def test_a_checkpoint_of_two_processes_is_written_once_and_resumed_by_both(pair):
    folder, reports = pair
    assert (folder / "checkpoint").exists() and not list(folder.glob("*.partial"))
    for report in reports:
        assert report["resumed"] == report["game"]["one.loss"]


def test_one_process_goes_on_from_the_checkpoint_of_two(pair):
    model, data, _ = CASES["game"]()
    settings = {"batch_size": BATCH, "device": "cpu", "progress": False, "checkpoint": pair[0] / "checkpoint"}
    history = training.fit(model, data, steps=STEPS + 5, **settings)
    whole, _ = train("game", BATCH, steps=STEPS + 5)
    assert np.allclose(history["one.loss"], whole["one.loss"], rtol=1e-3)


def test_all_stop_together_at_a_reading_when_one_is_asked_to(pair):
    assert [report["stopped at"] for report in pair[1]] == [2 * READ_EVERY] * 2


def test_shares_are_joined_in_order_and_sums_reach_every_process_with_their_gradient(pair):
    """x is 1 and 2; y = (1 + 2)^2 + 2 (1 + 2)^2 has the slope 2 * 3 + 2 * 2 * 3 = 18 in either."""
    for report in pair[1]:
        assert report["rows"] == [0, 0, 1, 1] and report["total"] == [3.0, 18.0]


def test_alone_a_process_is_the_first_of_one_and_shares_nothing():
    x = torch.arange(4.0)
    assert (processes.count(), processes.rank()) == (1, 0)
    assert processes.total(x) is x and processes.joined(x) is x and torch.equal(processes.share(x), x)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
