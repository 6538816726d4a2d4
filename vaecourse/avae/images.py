"""The five models over images, built of the same networks, so that they differ in what they minimize alone."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from torch import Tensor, nn

from vaecourse.avae.avae import AVAE
from vaecourse.avae.bigan import BiGAN
from vaecourse.avae.critic import Critic, PairCritic, non_saturating
from vaecourse.avae.gan import GAN
from vaecourse.avae.vae_gan import VAEGAN
from vaecourse.networks import GaussianNetwork, conv_decoder, conv_encoder, initial_weights, leaky, mlp, upsampling_decoder
from vaecourse.vae import VAE


@dataclass(frozen=True)
class Layers:
    """Fully connected networks; `shape` is an image's, `hidden` the widths from the pixels inward."""

    shape: tuple[int, ...]
    hidden: tuple[int, ...] = (256, 256)

    def inward(self, outputs: int) -> nn.Module:
        """(batch, pixels) -> (batch, outputs)."""
        return mlp(prod(self.shape), *self.hidden, outputs, activation=nn.SiLU)

    def outward(self, inputs: int) -> nn.Module:
        """(batch, inputs) -> (batch, pixels), in [0, 1]."""
        return nn.Sequential(mlp(inputs, *reversed(self.hidden), prod(self.shape), activation=nn.SiLU), nn.Sigmoid())


@dataclass(frozen=True)
class Convolutions:
    """Convolutional networks over images of shape (channels, height, width), whose sides are multiples of 2^halvings."""

    shape: tuple[int, int, int]
    width: int = 32
    halvings: int = 2

    def inward(self, outputs: int) -> nn.Module:
        """(batch, pixels) -> (batch, outputs)."""
        return conv_encoder(self.shape, outputs, self.width, self.halvings)

    def outward(self, inputs: int) -> nn.Module:
        """(batch, inputs) -> (batch, pixels), in [0, 1]."""
        return nn.Sequential(conv_decoder(inputs, self.shape, self.width, self.halvings), nn.Sigmoid())


@dataclass(frozen=True)
class Upsampling:
    """Convolutions inward, and outward `upsampling_decoder`, which repeats pixels; `shape` as for `Convolutions`.

    Activations are leaky. Half as wide outward as inward, where the widest level is `4 * width`.
    """

    shape: tuple[int, int, int]
    width: int = 32
    doublings: int = 2

    def inward(self, outputs: int) -> nn.Module:
        """(batch, pixels) -> (batch, outputs)."""
        return conv_encoder(self.shape, outputs, self.width, self.doublings, activation=leaky)

    def outward(self, inputs: int) -> nn.Module:
        """(batch, inputs) -> (batch, pixels), in [0, 1]."""
        return nn.Sequential(upsampling_decoder(inputs, self.shape, self.width // 2, self.doublings), nn.Sigmoid())


Networks = Layers | Convolutions | Upsampling


def _encoder(networks: Networks, latents: int) -> GaussianNetwork:
    return GaussianNetwork(networks.inward(2 * latents))


def _critic(networks: Networks, features: int, **settings: float | bool) -> Critic:
    body, width = networks.inward(features), features + settings.get("deviation", False)
    return Critic(body, nn.Sequential(nn.SiLU(), nn.Linear(width, 1)), **settings)


def _vae(networks: Networks, latents: int, log_sigma: float) -> VAE:
    decoder = GaussianNetwork(networks.outward(latents), log_sigma)
    return VAE(_encoder(networks, latents), decoder, prod(networks.shape), latents)


def image_vae(networks: Networks, latents: int, *, log_sigma: float = -2.0, seed: int = 0) -> VAE:
    """A VAE with squared error: the decoder's standard deviation is exp(log_sigma), fixed.

    `seed` sets the first weights, here and below.
    """
    with initial_weights(seed):
        return _vae(networks, latents, log_sigma)


def image_gan(
    networks: Networks,
    latents: int,
    *,
    features: int = 128,
    objective: Callable[[Tensor], Tensor] = non_saturating,
    decay: float = 0.0,
    seed: int = 0,
    **critic: float | bool,
) -> GAN:
    """A GAN. `features` is the width of the critic's last layer but one, here and below.

    `critic` is what a `Critic` may be given, penalties and whether it sees the batch's deviation; `decay` is that of the
    average of the network that makes images.
    """
    with initial_weights(seed):
        G, C = networks.outward(latents), _critic(networks, features, **critic)
        return GAN(G, C, prod(networks.shape), latents, objective=objective, decay=decay)


def image_vae_gan(
    networks: Networks,
    latents: int,
    *,
    features: int = 128,
    weight: float = 1.0,
    decay: float = 0.0,
    seed: int = 0,
    **critic: float | bool,
) -> VAEGAN:
    """A VAE/GAN."""
    with initial_weights(seed):
        E, D, C = _encoder(networks, latents), networks.outward(latents), _critic(networks, features, **critic)
        return VAEGAN(E, D, C, prod(networks.shape), latents, weight=weight, decay=decay)


def image_bigan(
    networks: Networks, latents: int, *, features: int = 128, decay: float = 0.0, seed: int = 0, **critic: float | bool
) -> BiGAN:
    """A BiGAN; image and code meet in a hidden layer of the critic's head."""
    with initial_weights(seed):
        met = features + latents + critic.get("deviation", False)
        head = nn.Sequential(nn.SiLU(), mlp(met, features, 1, activation=nn.SiLU))
        C = PairCritic(networks.inward(features), head, prod(networks.shape), **critic)
        E, G = _encoder(networks, latents), networks.outward(latents)
        return BiGAN(E, G, C, prod(networks.shape), latents, decay=decay)


def image_avae(
    networks: Networks,
    latents: int,
    noise: int,
    *,
    features: int = 128,
    log_sigma: float = -2.0,
    weight: float = 1.0,
    code_weight: float = 1.0,
    decay: float = 0.0,
    seed: int = 0,
    **critic: float | bool,
) -> AVAE:
    """An AVAE: the VAE of `image_vae`, a generator G with `noise` inputs more than the decoder, and a critic."""
    with initial_weights(seed):
        vae = _vae(networks, latents, log_sigma)
        G, C = networks.outward(latents + noise), _critic(networks, features, **critic)
        return AVAE(vae, G, C, noise, weight=weight, code_weight=code_weight, decay=decay)
