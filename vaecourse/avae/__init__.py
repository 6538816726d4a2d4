"""AVAE, and the three ways of joining a critic to a generator that it is measured against: GAN, VAE/GAN and BiGAN.

Images are rows of pixels, (batch, pixels), codes are rows, (batch, latents). Losses are in nats per image, averaged over the
batch. Each model has several players (`turns()`), and trains by `training.fit` like any other. Networks have the equations'
letters: the encoder E, the decoder D, the generator G and the critic C; a turn is named by the networks that move in it, and
its loss, as `EG_loss`, too.
"""

from vaecourse.avae.avae import AVAE
from vaecourse.avae.bigan import BiGAN
from vaecourse.avae.critic import (
    Critic,
    PairCritic,
    critic_loss,
    log_ratio,
    non_saturating,
    optimal_logit,
    saturating,
    squared_slope,
)
from vaecourse.avae.gan import GAN
from vaecourse.avae.images import (
    Convolutions,
    Layers,
    Upsampling,
    image_avae,
    image_bigan,
    image_gan,
    image_vae,
    image_vae_gan,
)
from vaecourse.avae.spectrum import directional_energy, high_frequency_energy, spectral_distance
from vaecourse.avae.vae_gan import VAEGAN

__all__ = [
    "AVAE",
    "GAN",
    "VAEGAN",
    "BiGAN",
    "Convolutions",
    "Critic",
    "Layers",
    "PairCritic",
    "Upsampling",
    "critic_loss",
    "directional_energy",
    "high_frequency_energy",
    "image_avae",
    "image_bigan",
    "image_gan",
    "image_vae",
    "image_vae_gan",
    "log_ratio",
    "non_saturating",
    "optimal_logit",
    "saturating",
    "spectral_distance",
    "squared_slope",
]
