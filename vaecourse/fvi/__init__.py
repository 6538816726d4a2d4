"""Beyond KL: variational inference by any f-divergence (Wan, Li and Hovakimyan, 2020), and by its relatives.

`generators`: f, its dual f* and D_f(q || p). `bound`: L_f = E_q f*(p(x, z) / q(z)) and what it says of log p(x).
`gradients`: two estimators of L_f's gradient, and a mean-field Gaussian to train by them. `minibatch`: parts of the data.
`coordinate`: f-CAVI. `tail_adaptive`, `alpha_beta`: two divergences with dials. `exact`: closed forms, and fits without draws.
"""

from vaecourse.fvi.alpha_beta import alpha_beta_divergence, alpha_beta_loss
from vaecourse.fvi.bound import evidence_interval, inclusive_bound, log_evidence, renyi_bound, sandwich, variational_bound
from vaecourse.fvi.coordinate import Factorized, f_cavi, power_mean_update, product
from vaecourse.fvi.exact import fit_exactly, mean_field_variance, renyi_divergence
from vaecourse.fvi.generators import (
    ALL,
    Curve,
    Generator,
    chi_square,
    divergence,
    exclusive_kl,
    hellinger,
    inclusive_kl,
    jensen_shannon,
    power,
    total_variation,
)
from vaecourse.fvi.gradients import MeanField, frozen, log_weights, renyi_loss, reparameterized, score_function
from vaecourse.fvi.minibatch import factor_bound, scaled_log_joint
from vaecourse.fvi.tail_adaptive import tail_adaptive_loss, tail_weights

__all__ = [
    "ALL",
    "Curve",
    "Factorized",
    "Generator",
    "MeanField",
    "alpha_beta_divergence",
    "alpha_beta_loss",
    "chi_square",
    "divergence",
    "evidence_interval",
    "exclusive_kl",
    "f_cavi",
    "factor_bound",
    "fit_exactly",
    "frozen",
    "hellinger",
    "inclusive_bound",
    "inclusive_kl",
    "jensen_shannon",
    "log_evidence",
    "log_weights",
    "mean_field_variance",
    "power",
    "power_mean_update",
    "product",
    "renyi_bound",
    "renyi_divergence",
    "renyi_loss",
    "reparameterized",
    "sandwich",
    "scaled_log_joint",
    "score_function",
    "tail_adaptive_loss",
    "tail_weights",
    "total_variation",
    "variational_bound",
]
