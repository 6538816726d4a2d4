"""Beyond KL: variational inference by any f-divergence (Wan, Li and Hovakimyan, 2020), and by its relatives.

`divergences`: f, its dual f* and D_f(q || p). `bound`: L_f = E_q f*(p(x, z) / q(z)) and what it says of log p(x).
`estimators`: estimators of the gradients of such bounds, to be used as those of the ELBO. `minibatch`: parts of the data.
`coordinate`: f-CAVI. `tail_adaptive`, `alpha_beta`: two divergences with dials. `exact`: closed forms, and fits without draws.
"""

from vaecourse.fvi.alpha_beta import alpha_beta_divergence, alpha_beta_gradient
from vaecourse.fvi.bound import (
    evidence_interval,
    inclusive_bound,
    renyi_bound,
    rescaled_bound,
    sandwich,
    variational_bound,
)
from vaecourse.fvi.coordinate import Factorized, f_cavi, power_mean_update, product
from vaecourse.fvi.divergences import (
    ALL,
    Curve,
    Divergence,
    chi_square,
    divergence,
    exclusive_kl,
    hellinger,
    inclusive_kl,
    jensen_shannon,
    power,
    total_variation,
)
from vaecourse.fvi.estimators import renyi_gradient, reparameterized, score_function
from vaecourse.fvi.exact import fit_exactly, mean_field_variance, renyi_divergence
from vaecourse.fvi.minibatch import factor_bound, scaled_log_joint
from vaecourse.fvi.tail_adaptive import tail_adaptive_gradient, tail_weights

__all__ = [
    "ALL",
    "Curve",
    "Divergence",
    "Factorized",
    "alpha_beta_divergence",
    "alpha_beta_gradient",
    "chi_square",
    "divergence",
    "evidence_interval",
    "exclusive_kl",
    "f_cavi",
    "factor_bound",
    "fit_exactly",
    "hellinger",
    "inclusive_bound",
    "inclusive_kl",
    "jensen_shannon",
    "mean_field_variance",
    "power",
    "power_mean_update",
    "product",
    "renyi_bound",
    "renyi_divergence",
    "renyi_gradient",
    "reparameterized",
    "rescaled_bound",
    "sandwich",
    "scaled_log_joint",
    "score_function",
    "tail_adaptive_gradient",
    "tail_weights",
    "total_variation",
    "variational_bound",
]
