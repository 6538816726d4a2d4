"""How good is a generative model? Its likelihood, distances between samples, and what a sample covers.

Likelihood: `ais` and `bdmc` estimate log p(x), in nats, `model_evidence` that of a VAE (annealing). Distances between samples
by their features: `frechet_distance`, `kernel_distance` (distances). Features of our own: `Classifier`, and
`perceptual_distance` between two images (features). Cover: `on_modes`, `class_modes`, `precision_recall`, `density_coverage`
(modes).
"""

from vaecourse.metrics.annealing import Evidence, Sandwich, ais, bdmc, model_evidence
from vaecourse.metrics.distances import frechet_bias, frechet_distance, frechet_gaussians, kernel_distance
from vaecourse.metrics.features import Classifier, extract, perceptual_distance
from vaecourse.metrics.modes import class_modes, density_coverage, on_modes, precision_recall

__all__ = [
    "Classifier",
    "Evidence",
    "Sandwich",
    "ais",
    "bdmc",
    "class_modes",
    "density_coverage",
    "extract",
    "frechet_bias",
    "frechet_distance",
    "frechet_gaussians",
    "kernel_distance",
    "model_evidence",
    "on_modes",
    "perceptual_distance",
    "precision_recall",
]
