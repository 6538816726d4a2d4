"""The five models over images, built of the same convolutional networks, so that they differ in what they minimize alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod

import torch
from torch import Tensor, nn

from vaecourse.avae.avae import AVAE
from vaecourse.avae.bigan import BiGAN
from vaecourse.avae.critic import Critic, PairCritic, non_saturating
from vaecourse.avae.gan import GAN
from vaecourse.avae.vae_gan import VAEGAN
from vaecourse.networks import GaussianNetwork, conv_decoder, conv_encoder, mlp
from vaecourse.vae import VAE

Shape = tuple[int, int, int]


@contextmanager
def _weights_of(seed: int) -> Iterator[None]:
    """Initial weights drawn from that seed, and no other randomness touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _encoder(shape: Shape, latents: int, width: int) -> GaussianNetwork:
    return GaussianNetwork(conv_encoder(shape, 2 * latents, width))


def _pixels(inputs: int, shape: Shape, width: int) -> nn.Sequential:
    """A decoder or generator, with pixels in [0, 1]."""
    return nn.Sequential(conv_decoder(inputs, shape, width), nn.Sigmoid())


def _critic(shape: Shape, width: int, features: int) -> Critic:
    return Critic(conv_encoder(shape, features, width), nn.Sequential(nn.SiLU(), nn.Linear(features, 1)))


def _vae(shape: Shape, latents: int, width: int, log_sigma: float) -> VAE:
    decoder = GaussianNetwork(_pixels(latents, shape, width), log_sigma)
    return VAE(_encoder(shape, latents, width), decoder, prod(shape), latents)


def conv_vae(shape: Shape, latents: int, width: int = 32, log_sigma: float = -2.0, seed: int = 0) -> VAE:
    """A VAE with squared error: the decoder's standard deviation is exp(log_sigma), fixed.

    shape: (channels, height, width), sides multiples of 4; `width` is the networks' own, and `seed` sets the first weights,
    here and below.
    """
    with _weights_of(seed):
        return _vae(shape, latents, width, log_sigma)


def conv_gan(
    shape: Shape,
    latents: int,
    width: int = 32,
    features: int = 128,
    objective: Callable[[Tensor], Tensor] = non_saturating,
    seed: int = 0,
) -> GAN:
    """A GAN; `features` is the width of the critic's last layer but one, here and below."""
    with _weights_of(seed):
        return GAN(_pixels(latents, shape, width), _critic(shape, width, features), latents, objective)


def conv_vae_gan(
    shape: Shape, latents: int, width: int = 32, features: int = 128, weight: float = 1.0, seed: int = 0
) -> VAEGAN:
    """A VAE/GAN."""
    with _weights_of(seed):
        networks = _encoder(shape, latents, width), _pixels(latents, shape, width), _critic(shape, width, features)
        return VAEGAN(*networks, latents, weight)


def conv_bigan(shape: Shape, latents: int, width: int = 32, features: int = 128, seed: int = 0) -> BiGAN:
    """A BiGAN; image and code meet in a hidden layer of the critic's head."""
    with _weights_of(seed):
        head = nn.Sequential(nn.SiLU(), mlp(features + latents, features, 1, activation=nn.SiLU))
        critic = PairCritic(conv_encoder(shape, features, width), head)
        return BiGAN(_encoder(shape, latents, width), _pixels(latents, shape, width), critic, latents)


def conv_avae(
    shape: Shape,
    latents: int,
    noise: int,
    width: int = 32,
    features: int = 128,
    log_sigma: float = -2.0,
    weight: float = 1.0,
    seed: int = 0,
) -> AVAE:
    """An AVAE: the VAE of `conv_vae`, a generator with `noise` inputs more than the decoder, and a critic."""
    with _weights_of(seed):
        vae = _vae(shape, latents, width, log_sigma)
        generator = _pixels(latents + noise, shape, width)
        return AVAE(vae, generator, _critic(shape, width, features), noise, weight)
