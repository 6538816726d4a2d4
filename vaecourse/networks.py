"""The few networks the chapters share. A probabilistic network returns a distribution, not a tensor of numbers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from math import pi, prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaecourse.distributions import Bernoulli, Normal
from vaecourse.inputs import tensor, whole
from vaecourse.randomness import own_generator

leaky = partial(nn.LeakyReLU, 0.2)
"""The activation of most generators and critics."""


@contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """What is built inside starts with the weights of that seed; no other randomness is touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(whole(seed))
        yield


def by_rows(network: nn.Module, x: Float[Tensor, "*batch width"]) -> Any:
    """network(x) for a batch of any axes: the network is given rows, (n, width), and what it gives has the batch's axes again.

    So whatever the network is made of, BatchNorm1d and Unflatten among it, means what it says: its first axis is the data's. It
    gives a tensor or a distribution, with one row for each.
    """
    if x.ndim == 2:
        return network(x)
    batch, out = x.shape[:-1], network(x.reshape(-1, x.shape[-1]))
    return out.reshape(*batch, *out.shape[1:]) if isinstance(out, Tensor) else out.with_batch(batch)


def mlp(*widths: int, activation: Callable[[], nn.Module] = nn.Tanh) -> nn.Sequential:
    """Fully connected layers of the given widths, first the input's, last the output's, with an activation between.

    Raises ValueError for fewer than two widths.
    """
    if len(widths) < 2:
        raise ValueError(f"mlp needs at least an input and an output width, got {widths}")
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return nn.Sequential(*layers[:-1])


class FourierFeatures(nn.Module):
    """x and the sines and cosines of random projections of it: (..., inputs) -> (..., inputs + 2 * features).

    Networks of x alone are slow to learn what changes quickly with x; the frequencies, drawn once from N(0, (2 pi scale)^2),
    let them (Tancik et al., 2020). `scale` is in waves per unit of x. `seed` touches no other randomness.
    """

    def __init__(self, inputs: int, features: int, scale: float, *, seed: int = 0):
        super().__init__()
        drawn = torch.randn(inputs, features, generator=own_generator(seed))
        self.register_buffer("frequencies", 2 * pi * scale * drawn)

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """The features of each row."""
        phase = x @ self.frequencies
        return torch.cat([x, phase.sin(), phase.cos()], dim=-1)


class GaussianNetwork(nn.Module):
    """A network whose output is a Gaussian, N(mu(x), sigma^2).

    `log_sigma` says where the standard deviation comes from:
    a number or a tensor of them, fixed (a decoder with variance c has log_sigma = log(c) / 2; eq-vae-constant-c); an
    `nn.Parameter`, one learned value shared by all inputs (a scalar, which settles at eq-vae-optimal-c, or one per output);
    None, the second half of the network's outputs, so that each input has its own. What is fixed is a buffer: it moves and is
    saved with the network.
    """

    def __init__(self, net: nn.Module, log_sigma: float | Tensor | nn.Parameter | None = None):
        super().__init__()
        self.net = net
        if log_sigma is None or isinstance(log_sigma, nn.Parameter):
            self.log_sigma = log_sigma
        elif isinstance(log_sigma, float | int):
            self.register_buffer("log_sigma", torch.tensor(float(log_sigma)))
        else:
            fixed = tensor(log_sigma, "log_sigma").detach().clone()
            self.register_buffer("log_sigma", fixed.to(next(net.parameters(), torch.empty(0))))

    def forward(self, x: Float[Tensor, "*batch features"]) -> Normal:
        """The Gaussian for each input, (*batch, features) -> Normal over (*batch, dim).

        Raises ValueError where the network gives an odd number of outputs and each input has its own log_sigma.
        """
        out = self.net(x)
        if self.log_sigma is None:
            if out.shape[-1] % 2:
                raise ValueError(f"mu and log_sigma need an even number of outputs, the network gives {out.shape[-1]}")
            return Normal(*out.chunk(2, dim=-1))
        return Normal(out, self.log_sigma.expand_as(out))


class BernoulliNetwork(nn.Module):
    """A network whose outputs are the logits of independent coin flips."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Float[Tensor, "*batch features"]) -> Bernoulli:
        """The coin flips for each input, (*batch, features) -> Bernoulli over (*batch, dim)."""
        return Bernoulli(self.net(x))


class OnImages(nn.Module):
    """A network over images that is given rows of pixels: (*batch, features), whatever the batch's axes.

    `shape` is what each row is reshaped to, (channels, height, width); the network's output is flattened to a row again.
    """

    def __init__(self, shape: tuple[int, ...], net: nn.Module):
        super().__init__()
        self.shape, self.net = tuple(shape), net

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch outputs"]:
        """Reshape, apply, flatten. Raises ValueError where rows do not have the shape's number of pixels."""
        if x.shape[-1] != prod(self.shape):
            raise ValueError(f"rows must have {prod(self.shape)} entries, for images {self.shape}; got shape {tuple(x.shape)}")
        images = x.reshape(-1, *self.shape)
        return self.net(images).reshape(*x.shape[:-1], -1)


def conv_encoder(
    shape: tuple[int, int, int], outputs: int, width: int = 32, halvings: int = 2, activation: Callable[[], nn.Module] = nn.SiLU
) -> OnImages:
    """Rows of pixels of images (channels, height, width) -> rows of `outputs` numbers.

    Convolutions of stride 2 halve the sides and double the width, which starts at `width`; then one linear layer. Raises
    ValueError where a side is not a multiple of 2^halvings.
    """
    channels, height, breadth = _halved(shape, width, halvings)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise([shape[0], *channels]):
        layers += [nn.Conv2d(fan_in, fan_out, 4, stride=2, padding=1), activation()]
    return OnImages(shape, nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * height * breadth, outputs)))


def conv_decoder(
    inputs: int, shape: tuple[int, int, int], width: int = 32, halvings: int = 2, activation: Callable[[], nn.Module] = nn.SiLU
) -> nn.Sequential:
    """Rows of `inputs` numbers -> rows of pixels of images (channels, height, width): `conv_encoder` turned round."""
    channels, height, breadth = _halved(shape, width, halvings)
    first = (channels[-1], height, breadth)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise([*reversed(channels), shape[0]]):
        layers += [nn.ConvTranspose2d(fan_in, fan_out, 4, stride=2, padding=1), activation()]
    return nn.Sequential(nn.Linear(inputs, prod(first)), activation(), OnImages(first, nn.Sequential(*layers[:-1])))


def _halved(shape: tuple[int, int, int], width: int, halvings: int) -> tuple[list[int], int, int]:
    """The channels of each level, and the height and width of the smallest."""
    _, height, breadth = shape
    if halvings < 1 or height % 2**halvings or breadth % 2**halvings:
        raise ValueError(f"{halvings} halvings need sides that are multiples of {2**halvings}; images are {height} x {breadth}")
    return [width * 2**level for level in range(halvings)], height >> halvings, breadth >> halvings


def upsampling_decoder(
    inputs: int, shape: tuple[int, int, int], width: int = 16, doublings: int = 2, activation: Callable[[], nn.Module] = leaky
) -> nn.Sequential:
    """Rows of `inputs` numbers -> rows of pixels of images (channels, height, width), sides doubled by repeating pixels.

    A linear layer makes a small image; each doubling is followed by a 3 x 3 convolution that halves the channels, `width` of
    them at the end; one more makes the image. No pixel gets more terms than its neighbor, as with transposed convolutions,
    which leave a grid (Odena, Dumoulin and Olah, 2016). Raises ValueError where a side is not a multiple of 2^doublings.
    """
    _, height, breadth = _halved(shape, width, doublings)
    channels = [width * 2**level for level in range(doublings, -1, -1)]
    first, layers = (channels[0], height, breadth), []
    for fan_in, fan_out in pairwise(channels):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(fan_in, fan_out, 3, padding=1), activation()]
    layers.append(nn.Conv2d(channels[-1], shape[0], 3, padding=1))
    return nn.Sequential(nn.Linear(inputs, prod(first)), activation(), OnImages(first, nn.Sequential(*layers)))


@torch.no_grad()
def move_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average <- decay average + (1 - decay) weights (eq-vaebm-average).

    Buffers, as batch statistics, which are averages already, are those of the network.
    """
    for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, 1 - decay)
    for mean, buffer in zip(average.buffers(), network.buffers(), strict=True):
        mean.copy_(buffer)
