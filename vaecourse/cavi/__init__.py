"""Mean field and coordinate ascent: q(z) = prod_j q_j(z_j), each factor in turn set to its best given the others.

`fit` runs the ascent for any model that says how each factor is updated and what its ELBO is; `ascend` is the same as an
iterator, for a picture that moves. The models: a Gaussian whose mean field is known exactly (`GaussianTarget`), a
Gaussian of unknown mean and precision (`MeanAndPrecision`), any table of probabilities (`Table`), a Bayesian mixture of
Gaussians (`GaussianMixture`), the last by minibatches, too (`stochastic`). All bounds and divergences are in nats, for the
whole data set.
"""

from vaecourse.cavi.ascent import BoundFell, Fit, Model, Step, ascend, fit
from vaecourse.cavi.components import NormalGamma, NormalWishart
from vaecourse.cavi.gaussian import FactorizedGaussian, GaussianTarget
from vaecourse.cavi.mean_precision import FactorizedMeanPrecision, MeanAndPrecision
from vaecourse.cavi.minibatches import StochasticStep, step_size, stochastic
from vaecourse.cavi.mixture import GaussianMixture, MixturePosterior, random_points, spread_points
from vaecourse.cavi.table import Table

__all__ = [
    "BoundFell",
    "FactorizedGaussian",
    "FactorizedMeanPrecision",
    "Fit",
    "GaussianMixture",
    "GaussianTarget",
    "MeanAndPrecision",
    "MixturePosterior",
    "Model",
    "NormalGamma",
    "NormalWishart",
    "Step",
    "StochasticStep",
    "Table",
    "ascend",
    "fit",
    "random_points",
    "spread_points",
    "step_size",
    "stochastic",
]
