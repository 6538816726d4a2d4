"""The few networks the chapters share. A probabilistic network returns a distribution, not a tensor of numbers."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaecourse.distributions import Bernoulli, Normal


def mlp(*widths: int, activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    """Fully connected layers of the given widths, first the input's, last the output's, with an activation between."""
    if len(widths) < 2:
        raise ValueError(f"mlp needs at least an input and an output width, got {widths}")
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return nn.Sequential(*layers[:-1])


class GaussianNetwork(nn.Module):
    """A network whose output is a Gaussian, N(mu(x), sigma^2).

    `log_sigma` says where the standard deviation comes from:
    a number, fixed (a decoder with variance c has log_sigma = log(c) / 2); an `nn.Parameter`, one learned value shared by
    all inputs (a scalar, or one per output); None, the second half of the network's outputs, so that each input has its own.
    """

    def __init__(self, net: nn.Module, log_sigma: float | nn.Parameter | None = None):
        super().__init__()
        self.net = net
        if isinstance(log_sigma, float | int):
            self.register_buffer("log_sigma", torch.tensor(float(log_sigma)))
        else:
            self.log_sigma = log_sigma

    def forward(self, x: Float[Tensor, "*batch features"]) -> Normal:
        """The Gaussian for each input, (*batch, features) -> Normal over (*batch, dim)."""
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
