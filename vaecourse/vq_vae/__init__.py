"""VQ-VAE (van den Oord, Vinyals and Kavukcuoglu, 2017): codes from a learned codebook instead of points of a latent space.

`codebook`: nearest codes, the straight-through line, codes learned by gradient and by moving averages, what codes cost.
`model`: the VQ-VAE itself, the chapter's convolutional one, and its score.
"""

from vaecourse.vq_vae.codebook import (
    Codebook,
    EMACodebook,
    Quantized,
    code_length,
    entropy_bits,
    frequencies,
    nearest,
    perplexity,
    usage,
)
from vaecourse.vq_vae.model import VQVAE, Score, conv_vq_vae, evaluate

__all__ = [
    "VQVAE",
    "Codebook",
    "EMACodebook",
    "Quantized",
    "Score",
    "code_length",
    "conv_vq_vae",
    "entropy_bits",
    "evaluate",
    "frequencies",
    "nearest",
    "perplexity",
    "usage",
]
