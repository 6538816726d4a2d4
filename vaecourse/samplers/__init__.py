"""Markov chains that sample a density known up to a constant: Metropolis, Langevin, Hamiltonian dynamics.

A density is given by its potential, `potential(z) -> U`, U = -log density + constant: energies in nats, one a chain, (chains,),
for a batch of chains (chains, dim). Each chain has its own energy; a chain's gradient is that of the SUM of energies, in which
the others do not appear. (A mean in its place would divide each gradient by the number of chains, and heat the chains up.)

The one-step functions never wait for the device and can be called inside a training step. `langevin`, `mala`, `hmc` and
`metropolis` run whole chains, keep their trace, tune the step while warming up, and raise SamplerDiverged.

`steps`: one step of each kind. `chains`: whole chains. `diagnostics`: what their draws are worth.
"""

from vaecourse.samplers.chains import DualAveraging, SamplerDiverged, Trace, hmc, langevin, mala, metropolis
from vaecourse.samplers.diagnostics import effective_sample_size, split_r_hat
from vaecourse.samplers.steps import (
    Potential,
    State,
    Step,
    at,
    hmc_step,
    langevin_step,
    leapfrog,
    mala_step,
    metropolis_step,
    ula_step,
)

__all__ = [
    "DualAveraging",
    "Potential",
    "SamplerDiverged",
    "State",
    "Step",
    "Trace",
    "at",
    "effective_sample_size",
    "hmc",
    "hmc_step",
    "langevin",
    "langevin_step",
    "leapfrog",
    "mala",
    "mala_step",
    "metropolis",
    "metropolis_step",
    "split_r_hat",
    "ula_step",
]
