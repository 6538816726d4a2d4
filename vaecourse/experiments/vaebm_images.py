"""The experiments of the chapter on VAEBM where x has many coordinates: chains in the noise, and in data space.

All is exact: no energy, 16 pixels x = w z + sigma eps_x with |w| = 1, one latent, all chains begun at z = 2.5. At the end
z is N(0, 1), whatever the space they move in.
"""

from math import log

import torch
from torch import nn

from vaecourse import samplers
from vaecourse.experiments import Experiment
from vaecourse.networks import GaussianNetwork, initial_weights
from vaecourse.samplers import SamplerDiverged
from vaecourse.vae import VAE
from vaecourse.vaebm import VAEBM, Chains, energy_mlp

PIXELS, START = 16, 2.5


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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
