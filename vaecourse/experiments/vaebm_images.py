"""The experiments of the chapter on VAEBM where x has many coordinates: chains in two spaces, and digits.

"spaces" is exact: no energy, 16 pixels x = w z + sigma eps_x with |w| = 1, one latent, all chains begun at z = 2.5. At the end
z is N(0, 1), whatever the space they move in.

"digits": 28 x 28, 4,000 to train, with noise of deviation .1 added; 1,000 to compare with. A Gaussian VAE, 384 and 256 tanh
units each way, 8 latents, sigma .2, Adam falling from 1e-3. Its energy sees places and the whole (`LocalAndGlobal`); 10
Langevin steps an update, .1 for eps_x and .01 for eps_z; 1,024 chains, of which a share of .2 starts afresh, or all do;
batches of 64, 1,500 updates, a penalty of 1e-4 on the squares of energies. Pictures by a last move to the mean of clean
digits. Features are those of a classifier of the training digits.
"""

from functools import cache, partial
from itertools import pairwise
from math import log

import torch
from torch import Tensor, nn
from torch.optim import Adam

from vaecourse import datasets, metrics, samplers, training
from vaecourse.experiments import Experiment
from vaecourse.networks import GaussianNetwork, initial_weights
from vaecourse.randomness import normal
from vaecourse.samplers import SamplerDiverged
from vaecourse.vae import VAE, gaussian_vae
from vaecourse.vaebm import VAEBM, Chains, energy_conv, energy_mlp

SEEDS = (0, 1, 2)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Chains in the noise, and chains in data space.

PIXELS, START = 16, 2.5


def known_model(sigma: float) -> VAEBM:
    """x = w z + sigma eps_x, |w| = 1, and no energy."""
    with initial_weights(0):
        decoder = nn.Linear(1, PIXELS, bias=False)
        nn.init.constant_(decoder.weight, PIXELS**-0.5)
        vae = VAE(GaussianNetwork(nn.Linear(PIXELS, 2)), GaussianNetwork(decoder, log(sigma)), pixels=PIXELS, latents=1)
    return VAEBM(vae, energy_mlp(PIXELS, (4,)), Chains(1, PIXELS + 1, 1.0)).eval()


def walk_in(space: str, sigma: float, step: float, steps: int = 100, chains: int = 20_000) -> dict:
    """Mean and variance of z after so many Langevin steps; or the step at which a chain left the finite numbers."""
    model, noise = known_model(sigma), _generator(0)
    eps = model.noise(chains, noise)
    eps[:, -1] = START
    with torch.no_grad():
        start = eps if space == "eps" else torch.cat([model.transform(eps), eps[:, -1:]], -1)
    potential = model.potential if space == "eps" else model.data_potential
    try:
        end, _ = samplers.langevin(potential, start, step, steps, noise, every=steps)
    except SamplerDiverged as error:
        return {"diverged": error.step, "mean": None, "variance": None}
    z = end[:, -1].double()
    return {"diverged": None, "mean": z.mean().item(), "variance": z.var().item()}


spaces = Experiment(
    walk_in,
    cases=[
        {"space": space, "sigma": sigma, "step": step}
        for sigma in (0.3, 0.1, 0.03)
        for space, steps in (("eps", (0.1, 0.3)), ("data", (1e-4, 1e-3, 1e-2, 0.1)))
        for step in steps
    ],
    replay={"space": "eps", "sigma": 0.3, "step": 0.1, "steps": 5, "chains": 100},
)


# An energy over a VAE of digits.

NOISE = 0.1
SHAPE = (28, 28)
MARKS = (0, 5, 10, 20, 40, 80)
TOLD_MARKS = (0, 5, 10, 20, 40)  # of the strip


@cache
def judge(steps: int) -> metrics.Classifier:
    """The classifier whose features and answers are used."""
    digits = datasets.load("mnist5k")
    return metrics.Classifier.fit(digits.train, digits.train_labels, SHAPE, steps=steps, device="cpu")


def noisy(x: Tensor, generator: torch.Generator) -> Tensor:
    """A batch of pixels with noise."""
    return x + NOISE * normal(x.shape, x, generator)


def train_vae(x: Tensor, seed: int, steps: int) -> VAE:
    """Stage one."""
    vae = gaussian_vae(784, 8, hidden=(384, 256), log_sigma=log(0.2), seed=seed)
    settings = {"batch_size": 100, "seed": seed, "schedule": training.cosine, "progress": False, "device": "cpu"}
    training.fit(vae, x, steps=steps, transform=noisy, **settings)
    return vae


def held(model: VAEBM, eps: Tensor, steps: int, generator: torch.Generator, *, still: str) -> Tensor:
    """Chains of which eps_x or z does not move: its step is next to nothing."""
    of = {"z": (0.1, 1e-12), "x": (1e-12, 0.01)}[still]
    return model.walk(len(eps), generator, steps=steps, step=model.blocks(model.vae, *of), start=eps)


def _bytes(images: Tensor) -> Tensor:
    return (255 * images.clamp(0, 1)).round().to(torch.uint8)


def train_digits(
    chains: str, seed: int, updates: int = 1500, vae_steps: int = 6000, n: int = 1000, judge_steps: int = 1500
) -> dict:
    """Own Frechet of n samples after more and more steps, the digits among them by the classifier, and what z and x add.

    Tensors, for seed 0: a strip of 10 chains at the marks of the strip, 40 samples after 40 steps.
    """
    digits, features = datasets.load("mnist5k"), judge(judge_steps)
    vae = train_vae(digits.train, seed, vae_steps)
    queue = Chains(1024, VAEBM.width(vae), 0.2 if chains == "persistent" else 1.0, seed=seed)
    step = VAEBM.blocks(vae, 0.1, 0.01)
    model = VAEBM(vae, energy_conv((1, *SHAPE), seed=seed), queue, steps=10, step=step, magnitude=1e-4, decay=0.99)
    adam = partial(Adam, lr=1e-3, betas=(0.0, 0.99), fused=True)
    settings = {"batch_size": 64, "seed": seed, "schedule": training.cosine, "progress": False, "device": "cpu"}
    history = training.fit(model, digits.train, steps=updates, transform=noisy, optimizer=adam, **settings)
    test = features.features(digits.test[:n])

    def frechet(eps: Tensor) -> float:
        return metrics.frechet_distance(features.features(model.denoised(eps, NOISE).clamp(0, 1)), test)

    start, walker = model.noise(n, _generator(seed)), _generator(seed + 100)
    eps, row, strip = start, {"steps": list(MARKS), "frechet": [frechet(start)]}, [model.denoised(start[:10], NOISE)]
    for before, mark in pairwise(MARKS):
        eps = model.walk(n, walker, steps=mark - before, start=eps)
        row["frechet"].append(frechet(eps))
        if mark in TOLD_MARKS:
            strip.append(model.denoised(eps[:10], NOISE))
        if mark == 40:
            images = model.denoised(eps, NOISE).clamp(0, 1)
    with torch.no_grad():
        for name, x in (("vae", model.denoised(start, NOISE).clamp(0, 1)), ("vaebm", images), ("test", digits.test[:n])):
            row[f"{name}_classes"] = features(x).argmax(1).bincount(minlength=10).tolist()
    row |= {
        "z_held": frechet(held(model, start, 40, _generator(seed + 100), still="z")),
        "x_held": frechet(held(model, start, 40, _generator(seed + 100), still="x")),
        "data": metrics.frechet_distance(features.features(digits.train[:n]), test),
        "gap": float(history["gap"][-100:].mean()),
        "training_seconds": round(history.seconds, 1),
    }
    if seed == 0:
        row |= {"strip": _bytes(torch.stack(strip, 1)), "samples": _bytes(images[:40])}
    return row


digits = Experiment(
    train_digits,
    cases=[{"chains": chains, "seed": seed} for seed in SEEDS for chains in ("persistent", "short")],
    replay={"chains": "persistent", "seed": 1, "updates": 2, "vae_steps": 5, "n": 50, "judge_steps": 10},
)
