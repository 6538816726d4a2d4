"""VQ-VAE-2 (Razavi, van den Oord and Vinyals, 2019): two levels of codes, and an autoregressive prior over them.

`model`: the first stage, images to codes and back. `prior`: the second, a transformer over the codes, and ancestral sampling.
"""

from vaecourse.vq_vae2.model import VQVAE2, LevelScore, Score, conv_vq_vae2, evaluate
from vaecourse.vq_vae2.prior import CodePrior, HierarchicalPrior, attention, attention_weights, bits_per_code

__all__ = [
    "VQVAE2",
    "CodePrior",
    "HierarchicalPrior",
    "LevelScore",
    "Score",
    "attention",
    "attention_weights",
    "bits_per_code",
    "conv_vq_vae2",
    "evaluate",
]
