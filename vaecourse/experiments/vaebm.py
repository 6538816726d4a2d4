"""The experiments of the chapter on VAEBM on 25 Gaussians, on a 5 x 5 grid, spacing 1, standard deviation .05.

A point is on a mode within .15 of its center (98.9 % of the data are); a mode is kept if at least a tenth of its fair share of
10,000 points is on it. 20,000 points to train. Two VAEs of 2 latents, 2 x 128 tanh units each way and one learned sigma: a
"far" one, stopped after 1,500 steps (Adam 1e-3), and a "near" one after 6,000 (2e-3); batches of 256. The energies: 2 x 64
SiLU units on 64 Fourier features (half a wave a unit), Adam 1e-3 with no momentum, 1,000 steps of 128 points and 128 chains,
40 Langevin steps of .001 each. The scores: 2 x 128 SiLU units on the same features, 10 levels from 2 to .02, 6,000 steps.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import torch
from torch import Generator, Tensor, nn

from vaecourse import metrics, samplers, training
from vaecourse.datasets.densities import GaussianGrid
from vaecourse.experiments import Experiment
from vaecourse.samplers import SamplerDiverged
from vaecourse.vae import VAE, gaussian_vae
from vaecourse.vaebm import (
    EBM,
    NCSN,
    VAEBM,
    Chains,
    GeneratorStep,
    count_calls,
    energy_mlp,
    geometric_levels,
    score_mlp,
)

SEEDS = (0, 1, 2)
GRID = GaussianGrid()
RADIUS = 0.15
MARKS = (0, 25, 50, 100, 200, 400)  # Langevin steps after which samples are judged
LEVEL_MARKS = (1, 2, 5, 10, 20, 40)  # for scores: steps at each of 10 levels
STEP_SIZES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)  # tried in both coordinates
VAES = {"far": (1500, 1e-3), "near": (6000, 2e-3)}


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def _judge(x: Tensor) -> dict:
    """Share of points on a mode, modes kept, and the count on the mode that has fewest, as a share of its fair one."""
    share, counts = metrics.on_modes(x, GRID.centers, RADIUS)
    fair = len(x) / len(counts)
    return {"share": share, "modes": int((counts >= fair / 10).sum()), "least": counts.min().item() / fair}


def _rows(judged: list[dict], prefix: str = "") -> dict:
    """One list for each measure."""
    return {f"{prefix}{name}": [row[name] for row in judged] for name in judged[0]}


def _calls(sample: Callable[[int], Tensor], marks: tuple[int, ...], **networks: nn.Module) -> dict:
    """How often a point passes through each network, forward (NAME_calls) and backward (NAME_gradients), for each mark."""
    row: dict[str, list[int]] = {}
    for mark in marks:
        with count_calls(**networks) as calls:
            sample(mark)
        for name, call in calls.items():
            row.setdefault(f"{name}_calls", []).append(call.forward)
            row.setdefault(f"{name}_gradients", []).append(call.gradient)
    return row


def _along(potential, start: Tensor, to_x, step: float, marks: tuple[int, ...], generator: Generator) -> list[Tensor]:
    """The points of one set of chains after each of so many steps; marks[0] = 0 are the starts."""
    points = [to_x(start)]
    for before, mark in pairwise(marks):
        start, _ = samplers.langevin(potential, start, step=step, steps=mark - before, every=mark - before, generator=generator)
        points.append(to_x(start))
    return points


def train_vae(kind: str, data: Tensor, seed: int, steps: int | None = None) -> VAE:
    """Stage one: the far VAE or the near one."""
    usual, lr = VAES[kind]
    vae = gaussian_vae(2, 2, hidden=(128, 128), log_sigma=nn.Parameter(torch.tensor(-1.0)), seed=seed)
    optimizer = partial(torch.optim.Adam, lr=lr, fused=True)
    training.fit(vae, data, steps=steps or usual, batch_size=256, seed=seed, optimizer=optimizer, progress=False, device="cpu")
    return vae


def _coordinates(model: VAEBM, n: int, marks: tuple[int, ...], seed: int) -> dict:
    """The same model and starts, chains in eps and in (x, z), for several step sizes; where they diverge, the step at which."""
    eps = model.noise(n, _generator(seed))
    xz = torch.cat([model.transform(eps), model.split(eps)[1]], dim=1)
    spaces = {
        "eps": (model.potential, eps, model.transform),
        "data": (model.data_potential, xz, lambda xz: model.split(xz)[0]),
    }
    found = {}
    for space, (potential, start, to_x) in spaces.items():
        for step in STEP_SIZES:
            name = f"{space}_{step}_"
            try:
                points = _along(potential, start, to_x, step, marks, _generator(seed + 1))
                found |= {**_rows([_judge(x) for x in points], name), f"{name}diverged": None}
            except SamplerDiverged as error:
                found |= {**{name + key: None for key in ("share", "modes", "least")}, f"{name}diverged": error.step}
    return found


def _third_stage(model: VAEBM, data: Tensor, n: int, marks: tuple[int, ...], steps: int, seed: int) -> dict:
    """The generator's step by KL, and the chains that start from what it draws."""
    stage = GeneratorStep(model)
    optimizer = partial(torch.optim.Adam, lr=1e-3, fused=True)
    training.fit(stage, data, steps=steps, batch_size=256, seed=seed, optimizer=optimizer, progress=False, device="cpu")
    start = stage.start(n, _generator(seed))
    points = _along(model.potential, start, model.transform, model.step, marks, _generator(seed + 1))
    return _rows([_judge(x) for x in points], "generator_")


def energies(
    base: str,
    restart: float,
    data: Tensor,
    seed: int,
    steps: int,
    vae_steps: int | None,
    n: int,
    marks: tuple[int, ...],
    checkpoint: Path | None,
) -> dict:
    """An energy over a VAE ("far", "near") or over a wide Gaussian ("plain"), judged after more and more Langevin steps."""
    energy = energy_mlp(2, (64, 64), features=64, scale=0.5, seed=seed)
    settings = {"steps": 40, "step": 0.001, "magnitude": 0.05, "spectral": 0.002, "decay": 0.99}
    width = 2 if base == "plain" else 4
    chains = Chains(128 if restart == 1 else 1280, width, restart, seed=seed)
    if base == "plain":
        model = EBM(energy, 2, chains, spread=1.5, **settings)
    else:
        model = VAEBM(train_vae(base, data, seed, vae_steps), energy, chains, **settings)
    optimizer = partial(torch.optim.Adam, lr=1e-3, betas=(0.0, 0.999), fused=True)
    history = training.fit(
        model,
        data,
        steps=steps,
        batch_size=128,
        seed=seed,
        optimizer=optimizer,
        checkpoint=checkpoint,
        progress=False,
        device="cpu",
    )
    started = perf_counter()
    points = _along(model.potential, model.noise(n, _generator(seed)), model.transform, model.step, marks, _generator(seed + 1))
    row = {**_rows([_judge(x) for x in points]), "sampling_seconds": round(perf_counter() - started, 2)}
    networks = {"energy": model.average.net} | ({} if base == "plain" else {"decoder": model.vae.decoder.net})
    row |= _calls(lambda mark: model.sample(1, _generator(0), steps=mark), marks, **networks)
    row |= {
        "gap": float(history["gap"][-100:].mean()),
        "training_seconds": round(history.seconds, 1),
        "samples": points[-1][:500],
    }
    if base != "plain" and restart < 1:
        test = GRID.sample(n, _generator(seed + 1000))
        log_normalizer = model.log_normalizer(10 * n, _generator(seed))
        row["elbo"] = model.vae.elbo(test, generator=_generator(seed)).value.mean().item()
        row["bound"] = model.bound(test, log_normalizer, _generator(seed)).mean().item()
        row["entropy"] = -GRID.log_prob(test).mean().item()
        row |= _coordinates(model, max(1, n // 4), marks, seed)
        row |= _third_stage(model, data, n, marks[:4], steps, seed)
    return row


def scores(data: Tensor, seed: int, steps: int, n: int, marks: tuple[int, ...], checkpoint: Path | None) -> dict:
    """A noise-conditional score network, judged after more and more steps at each level."""
    model = NCSN(score_mlp(2, (128, 128), features=64, scale=0.5, seed=seed), 2, geometric_levels(2.0, 0.02, 10))
    optimizer = partial(torch.optim.Adam, lr=1e-3, fused=True)
    history = training.fit(
        model,
        data,
        steps=steps,
        batch_size=256,
        seed=seed,
        optimizer=optimizer,
        checkpoint=checkpoint,
        progress=False,
        device="cpu",
    )
    started = perf_counter()
    points = [model.sample(n, _generator(seed), steps=mark, step=0.5) for mark in marks]
    seconds = {"sampling_seconds": round(perf_counter() - started, 2), "training_seconds": round(history.seconds, 1)}
    calls = _calls(lambda mark: model.sample(1, _generator(0), steps=mark, step=0.5), marks, score=model.net)
    return {**_rows([_judge(x) for x in points]), **calls, "samples": points[-1][:500], **seconds}


MODELS = {  # name: (what the energy corrects, the probability that a chain starts afresh)
    "far VAE, persistent": ("far", 0.05),
    "far VAE, short": ("far", 1.0),
    "near VAE, persistent": ("near", 0.05),
    "near VAE, short": ("near", 1.0),
    "plain EBM, persistent": ("plain", 0.05),
    "plain EBM, short": ("plain", 1.0),
}


def train_on_grid(
    model: str,
    seed: int,
    steps: int | None = None,
    vae_steps: int | None = None,
    n: int = 10_000,
    marks: tuple[int, ...] | list[int] | None = None,
    checkpoint: Path | None = None,
) -> dict:
    """One model on the 25 Gaussians: share of `n` points on a mode, modes kept, and the least filled mode, at each mark.

    Marks are Langevin steps from fresh starts, 0 for the VAE (or the Gaussian) alone; for scores, steps a level. Beside them
    NAME_calls and NAME_gradients: how often a point passes forward and backward through each network. For a VAEBM also elbo
    and bound, the VAE's and the VAEBM's, in nats per point, beside `entropy`, -log p(x) of the truth; eps_STEP_... and
    data_STEP_...: the same model sampled in eps and in (x, z), with n / 4 points; generator_...: sampled from a generator
    that was moved towards it by KL.
    """
    data = GRID.sample(20_000, _generator(seed))
    if model == "scores":
        return scores(data, seed, steps or 6000, n, tuple(marks or LEVEL_MARKS), checkpoint)
    base, restart = MODELS[model]
    return energies(base, restart, data, seed, steps or 1000, vae_steps, n, tuple(marks or MARKS), checkpoint)


grid = Experiment(
    train_on_grid,
    cases=[{"model": model, "seed": seed} for model in (*MODELS, "scores") for seed in SEEDS],
    replay={"model": "far VAE, persistent", "seed": 0, "steps": 3, "vae_steps": 30, "n": 200, "marks": [0, 5]},
)
