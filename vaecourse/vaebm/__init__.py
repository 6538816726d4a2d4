"""VAEBM: a VAE corrected by an energy (Xiao, Kreis, Kautz and Vahdat, 2021), with what it is compared with.

An energy-based model multiplies a density that is easy to draw from by exp(-E(x)) and divides by a constant Z that nobody
computes. Here that density is either a wide Gaussian (`EBM`) or a trained VAE (`VAEBM`); `NCSN` learns scores instead.
Points are rows, (batch, dim). Energies, densities and divergences are in nats, one number a point.

`energy`: the energy's network, with its spectral norms. `chains`: chains that persist, and what sampling costs in network
calls. `ebm`: the energy-based model and its training. `vaebm`: the VAE in it. `ncsn`: noise-conditional scores.
"""

from vaecourse.vaebm.chains import Calls, Chains, count_calls
from vaecourse.vaebm.ebm import EBM
from vaecourse.vaebm.energy import EnergyNetwork, LocalAndGlobal, energy_conv, energy_mlp
from vaecourse.vaebm.ncsn import NCSN, geometric_levels, score_mlp
from vaecourse.vaebm.vaebm import VAEBM, GeneratorStep

__all__ = [
    "EBM",
    "NCSN",
    "VAEBM",
    "Calls",
    "Chains",
    "EnergyNetwork",
    "GeneratorStep",
    "LocalAndGlobal",
    "count_calls",
    "energy_conv",
    "energy_mlp",
    "geometric_levels",
    "score_mlp",
]
