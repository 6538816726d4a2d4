"""How long a step of `fit` takes beside a bare hand-written loop, pythae's Trainer and pyro's SVI, for the same network.

    python tests/benchmarks/training.py

trains a 784-512-16 VAE with tanh layers on binary images, on the CPU with two threads. Each loop in turn, in a new order each
round, trains a new model for a block of steps; the time of a block without its start is compared with that of the bare
loop's block of the same round, so that what else the machine does weighs on all alike. Writes what chapter 7 shows,
book/results/vae.benchmark.json.
"""

import contextlib
import io
import json
import logging
import random
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch
from harness import machine, quartiles
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from vaecourse import results, training, vae

PIXELS, HIDDEN, LATENTS = 784, 512, 16
BATCH_SIZES = 64, 256
START, BLOCK, ROUNDS = 5, 50, 30  # steps left out, steps timed (one reading of the losses among them), blocks of each loop
THREADS = 2

Loop = Callable[[Tensor, int, list[float]], None]  # trains on the data with a batch size, and notes the time of each step


def networks() -> tuple[nn.Module, nn.Module]:
    encoder = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 2 * LATENTS))
    return encoder, nn.Sequential(nn.Linear(LATENTS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, PIXELS))


def negative_elbo(encoder: nn.Module, decoder: nn.Module, x: Tensor) -> Tensor:
    """The loss as one writes it by hand, in as few operations as it takes."""
    mu, log_variance = encoder(x).chunk(2, -1)
    z = mu + torch.randn_like(mu) * (0.5 * log_variance).exp()
    distortion = functional.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
    rate = 0.5 * (mu**2 + log_variance.exp() - 1 - log_variance).sum()
    return (distortion + rate) / len(x)


def bare(data: Tensor, batch_size: int, times: list[float], fused: bool | None = None) -> None:
    """What one writes by hand: no history, no progress, nothing checked."""
    encoder, decoder = networks()
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=fused)
    while True:
        for index in torch.randperm(len(data)).split(batch_size):
            if len(index) < batch_size:
                continue
            times.append(time.perf_counter())
            if len(times) > START + BLOCK:
                return
            loss = negative_elbo(encoder, decoder, data[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def bare_fused(data: Tensor, batch_size: int, times: list[float]) -> None:
    """The bare loop with the optimizer that `fit` uses."""
    bare(data, batch_size, times, fused=True)


class ByHand(nn.Module):
    """The bare loop's networks and loss, for `fit`."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = networks()

    def loss(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        return {"loss": negative_elbo(self.encoder, self.decoder, x)}


def fit(data: Tensor, batch_size: int, times: list[float], model: nn.Module | None = None) -> None:
    """`fit` as a reader calls it, with its progress bar, by default on the book's VAE."""

    def note(batch: Tensor, generator: torch.Generator) -> Tensor:
        times.append(time.perf_counter())
        return batch

    model = model or vae.bernoulli_vae(PIXELS, LATENTS, hidden=(HIDDEN,))
    data = data[: START * batch_size]  # the first pass, in which coin flips are watched, is over when the clock starts
    training.fit(model, data, steps=START + BLOCK + 1, batch_size=batch_size, transform=note, device="cpu")


def fit_by_hand(data: Tensor, batch_size: int, times: list[float]) -> None:
    """`fit` with the bare loop's own loss: what the loop alone adds."""
    fit(data, batch_size, times, ByHand())


def pythae_trainer() -> Loop:
    """Pythae's Trainer with its default callbacks; raises ImportError where it is not installed."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    logging.disable(logging.INFO)

    class Encoder(BaseEncoder):
        def __init__(self, net: nn.Module):
            super().__init__()
            self.net = net

        def forward(self, x):
            mu, log_variance = self.net(x).chunk(2, -1)
            return ModelOutput(embedding=mu, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self, net: nn.Module):
            super().__init__()
            self.net = net

        def forward(self, z):
            return ModelOutput(reconstruction=self.net(z).sigmoid())

    class Note(TrainingCallback):
        def __init__(self, times: list[float]):
            self.times = times

        def on_train_step_end(self, training_config, **_):
            self.times.append(time.perf_counter())

    def train(data: Tensor, batch_size: int, times: list[float]) -> None:
        encoder, decoder = networks()
        model = VAE(
            VAEConfig(input_dim=(PIXELS,), latent_dim=LATENTS, reconstruction_loss="bce"), Encoder(encoder), Decoder(decoder)
        )
        images = data[: (START + BLOCK + 1) * batch_size]
        dataset = BaseDataset(images, torch.zeros(len(images)))
        with tempfile.TemporaryDirectory() as folder:
            config = BaseTrainerConfig(
                output_dir=folder, num_epochs=1, per_device_train_batch_size=batch_size, learning_rate=1e-3, no_cuda=True
            )
            BaseTrainer(model, dataset, training_config=config, callbacks=[Note(times)]).train()

    return train


def pyro_svi() -> Loop:
    """Pyro's SVI with Trace_ELBO, as its VAE tutorial has it, arguments not validated; raises ImportError without pyro."""
    import pyro
    import pyro.distributions as dist
    from pyro.infer import SVI, Trace_ELBO

    pyro.enable_validation(False)

    def train(data: Tensor, batch_size: int, times: list[float]) -> None:
        encoder, decoder = networks()
        pyro.clear_param_store()

        def model(x):
            pyro.module("decoder", decoder)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(len(x), LATENTS), 1.0).to_event(1))
                pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

        def guide(x):
            pyro.module("encoder", encoder)
            with pyro.plate("data", len(x)):
                mu, log_variance = encoder(x).chunk(2, -1)
                pyro.sample("z", dist.Normal(mu, (0.5 * log_variance).exp()).to_event(1))

        svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
        for index in torch.randperm(len(data)).split(batch_size):
            times.append(time.perf_counter())
            if len(times) > START + BLOCK:
                return
            svi.step(data[index])

    return train


def milliseconds(loop: Loop, data: Tensor, batch_size: int) -> float:
    """The mean time of a step in one block."""
    times: list[float] = []
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        loop(data, batch_size, times)
    return 1000 * (times[START + BLOCK] - times[START]) / BLOCK


def compare(loops: dict[str, Loop], batch_size: int) -> list[dict]:
    """One row a loop: its time, and the median and quartiles of its ratio to the bare loops'."""
    data = (torch.rand((START + BLOCK + 1) * batch_size, PIXELS) < 0.2).float()
    blocks: dict[str, list[float]] = {name: [] for name in loops}
    for _ in tqdm(range(ROUNDS), desc=f"batches of {batch_size}"):
        for name in random.sample(list(loops), len(loops)):
            blocks[name].append(milliseconds(loops[name], data, batch_size))
    rows = []
    for name, times in blocks.items():
        row = {"loop": name, "batch_size": batch_size, "milliseconds": float(np.median(times))}
        for key, reference in (("over_bare", "bare"), ("over_bare_fused", "bare, fused Adam")):
            ratios = np.array(times) / np.array(blocks[reference])
            row[key] = quartiles(ratios)
        rows.append(row)
    return rows


def main() -> None:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    loops: dict[str, Loop] = {"bare": bare, "bare, fused Adam": bare_fused, "fit, loss by hand": fit_by_hand, "fit": fit}
    try:
        loops[f"pythae {version('pythae')}"] = pythae_trainer()
    except (ImportError, PackageNotFoundError):
        print("pythae is not installed: pip install pythae==0.1.2 to have it in the table")
    try:
        loops[f"pyro {version('pyro-ppl')}"] = pyro_svi()
    except (ImportError, PackageNotFoundError):
        print("pyro is not installed: pip install pyro-ppl==1.9.2 to have it in the table")
    about = machine()
    rows = [row for batch_size in BATCH_SIZES for row in compare(loops, batch_size)]
    settings = {"rounds": ROUNDS, "steps_a_block": BLOCK, "network": [PIXELS, HIDDEN, LATENTS]}
    report = {"machine": about, "settings": settings, "rows": rows}
    (results.RESULTS / "vae.benchmark.json").write_text(json.dumps(report, indent=1) + "\n")

    print(f"\n{about['cores']} cores, {THREADS} threads, load {about['load_at_start']} at the start")
    print(f"{'one step of':<18}{'batch':>6}{'ms':>8}   {'over a bare loop':<22}{'over one with fused Adam'}")
    for row in rows:
        ratios = ["{median:.3f} ({low:.3f} to {high:.3f})".format(**row[key]) for key in ("over_bare", "over_bare_fused")]
        print(f"{row['loop']:<18}{row['batch_size']:>6}{row['milliseconds']:>8.2f}   {ratios[0]:<22}  {ratios[1]}")


if __name__ == "__main__":
    main()
