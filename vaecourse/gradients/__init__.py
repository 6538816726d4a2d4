"""Gradients of the ELBO from draws of q: the score function against reparameterization, and what lowers their variance.

    ELBO(lambda) = E_q [log p(x, z) - log q(z; lambda)],  q(z; lambda) = q_1(z_1; lambda_1) ... q_d(z_d; lambda_d)

| estimator | needs | unbiased |
| --- | --- | --- |
| `reinforce` | values of log p; q continuous or discrete | always |
| `rao_blackwell` | log p as a sum of terms, each with few latents (`Factors`); q factorized | always |
| `..._leave_one_out` | 2 draws | always |
| `..._control_variate` | 6 draws, 20 to be of use | from 6 draws on: each half's coefficient is fitted on the other half |
| `reparameterized` | q Gaussian; log p differentiable in z | always |
| `path_only` | the same | for E_q[log p - log q] only: for another integrand its mean is wrong |

An estimator takes q, log p(x, z) as a function of z, and draws z from q. q has a parameter or more for each latent: a `Normal`
mu and log sigma, a `Bernoulli` its logit, a `Categorical` the logits of its classes. So a gradient is (latents, parameters);
estimators give one for each draw, (draws, latents, parameters), and `estimate.gradient.mean(0)` is the estimate. Between draws
and latents there may be further axes: a batch of data points, each with its own q, or repetitions. Values are in nats.

A control variate's coefficient is a slope through the draws of a half. Of a Gaussian q, a half of two draws gives log sigma's a
tail so heavy that the estimate has no mean: 4 and 5 draws are taken, and promise nothing.

`families`: q and its parameters. `by_score`, `by_path`: the estimators. `ascent`: what they are worth, and climbing by them.
"""

from vaecourse.gradients.ascent import BlackBoxVI, exact, logistic_regression, surrogate, variance_per_draw
from vaecourse.gradients.by_path import along, moving_densities, path, path_only, reparameterized
from vaecourse.gradients.by_score import (
    above_others,
    cross_fitted,
    fitted_coefficient,
    rao_blackwell,
    rao_blackwell_control_variate,
    rao_blackwell_leave_one_out,
    reinforce,
    reinforce_control_variate,
    reinforce_leave_one_out,
    weighted_score,
)
from vaecourse.gradients.families import (
    Estimate,
    Estimator,
    Factors,
    LogJoint,
    Posterior,
    log_q,
    log_weight,
    parameters,
    score,
    with_parameters,
)

__all__ = [
    "BlackBoxVI",
    "Estimate",
    "Estimator",
    "Factors",
    "LogJoint",
    "Posterior",
    "above_others",
    "along",
    "cross_fitted",
    "exact",
    "fitted_coefficient",
    "log_q",
    "log_weight",
    "logistic_regression",
    "moving_densities",
    "parameters",
    "path",
    "path_only",
    "rao_blackwell",
    "rao_blackwell_control_variate",
    "rao_blackwell_leave_one_out",
    "reinforce",
    "reinforce_control_variate",
    "reinforce_leave_one_out",
    "reparameterized",
    "score",
    "surrogate",
    "variance_per_draw",
    "weighted_score",
    "with_parameters",
]
