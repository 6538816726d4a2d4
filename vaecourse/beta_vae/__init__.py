"""beta-VAE and disentanglement: a price on the rate, a limit on it, and how to tell whether codes follow known factors.

`objectives`: the rate at a price (Higgins et al., 2017), at a growing capacity (Burgess et al., 2018), under a limit whose
multiplier is learned; the exact curve of a linear model. `correlation`: the rate in three parts, total correlation from a
minibatch and the beta-TCVAE. `information`, `prediction`, `interventions`: scores of codes against factors.

What every score depends on, and a report of one has to say:
- the codes: posterior means, or draws, which are noisier and score lower (the caller passes one or the other);
- the factors and their grid: a factor that no model finds lowers each mean over factors (the caller passes the columns);
- the bins into which codes are cut, or the predictor that is fitted to them (arguments, with their defaults);
- the latents: those that the model does not use are part of the codes unless the caller leaves them out.
"""

from vaecourse.beta_vae.correlation import BetaTCVAE, RateParts, batch_total_correlation, rate_parts
from vaecourse.beta_vae.information import (
    entropies,
    gap,
    mig,
    modularity,
    modularity_of,
    mutual_information,
    posterior_information,
)
from vaecourse.beta_vae.interventions import beta_vae_score, factor_vae_score
from vaecourse.beta_vae.objectives import (
    BetaVAE,
    CapacityVAE,
    ConstrainedVAE,
    gaussian_rate_distortion,
    traverse,
)
from vaecourse.beta_vae.prediction import DCI, dci, dci_of, interval_accuracy, sap

__all__ = [
    "DCI",
    "BetaTCVAE",
    "BetaVAE",
    "CapacityVAE",
    "ConstrainedVAE",
    "RateParts",
    "batch_total_correlation",
    "beta_vae_score",
    "dci",
    "dci_of",
    "entropies",
    "factor_vae_score",
    "gap",
    "gaussian_rate_distortion",
    "interval_accuracy",
    "mig",
    "modularity",
    "modularity_of",
    "mutual_information",
    "posterior_information",
    "rate_parts",
    "sap",
    "traverse",
]
