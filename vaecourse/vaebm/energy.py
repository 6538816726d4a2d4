"""The energy E(x): a network with one output, whose layers' spectral norms are watched and kept small."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from vaecourse.networks import FourierFeatures, initial_weights, mlp
from vaecourse.randomness import own_generator


class EnergyNetwork(nn.Module):
    """E(x), in nats, from a network with one output, (batch, dim) -> (batch, 1).

    Keeps an estimate of each linear or convolutional layer's leading left singular vector, in buffers, one a layer.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        for number, weight in enumerate(self.weights):
            start = torch.randn(len(weight), generator=own_generator(number))
            self.register_buffer(f"singular_{number}", normalize(start, dim=0))

    @property
    def weights(self) -> list[nn.Parameter]:
        """The weights of all linear and convolutional layers."""
        return [m.weight for m in self.net.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]

    def forward(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """One energy a point. Raises ValueError where the network gives no single column."""
        out = self.net(x)
        if out.shape != (len(x), 1):
            raise ValueError(f"an energy network has one output a point, ({len(x)}, 1); this one gives {tuple(out.shape)}")
        return out[:, 0]

    def spectral_norms(self, iterations: int = 1) -> Float[Tensor, " layers"]:
        """u' W v, in the limit the largest singular value of each layer's weight W, and never above it.

        Power iteration from where the last call stopped: v = W' u / |W' u|, then u = W v / |W v|, so many times. A
        convolution's weight counts as the matrix (outputs, the rest). Differentiable in the weights: d(u' W v)/dW = u v'.
        Equation eq-vaebm-power-iteration; Yoshida and Miyato (2017). Raises ValueError for iterations < 1.
        """
        if iterations < 1:
            raise ValueError(f"power iteration takes at least 1 iteration, got {iterations}")
        norms = []
        for number, weight in enumerate(self.weights):
            W, u = weight.flatten(1), getattr(self, f"singular_{number}")
            with torch.no_grad():
                for _ in range(iterations):
                    v = normalize(W.T @ u, dim=0)
                    u.copy_(normalize(W @ v, dim=0))
            norms.append(u.clone() @ W @ v)
        return torch.stack(norms) if norms else torch.zeros(0)  # a network of other layers than these has none


class LocalAndGlobal(nn.Module):
    """The energy of an image, as the sum of what each place of it says and of what the whole says.

    A convolution of stride 2 sees places of 4 x 4 pixels, and gives them to two heads: one adds a number for each place, so
    that specks cost anywhere; the other halves the sides once more or twice, and judges the whole.
    """

    def __init__(self, shape: tuple[int, int, int], width: int = 32):
        super().__init__()
        channels, height, breadth = shape
        self.shape = shape
        self.first = nn.Sequential(nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.SiLU())
        self.places = nn.Sequential(nn.Conv2d(width, width, 1), nn.SiLU(), nn.Conv2d(width, 1, 1))
        left = -(-height // 8) * -(-breadth // 8)
        self.whole = nn.Sequential(
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(4 * width * left, 4 * width),
            nn.SiLU(),
            nn.Linear(4 * width, 1),
        )
        for last in (self.places[-1], self.whole[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Float[Tensor, "batch pixels"]) -> Float[Tensor, "batch 1"]:
        """One number an image; pixels between 0 and 1 are moved to -1 to 1."""
        found = self.first((2 * x - 1).reshape(-1, *self.shape))
        return self.places(found).sum((2, 3)) + self.whole(found)


def energy_conv(shape: tuple[int, int, int], width: int = 32, *, seed: int = 0) -> EnergyNetwork:
    """An energy of images (channels, height, width), rows of pixels between 0 and 1: `LocalAndGlobal`, zero at the start.

    Raises ValueError where a side is not a multiple of 4. `seed` touches no other randomness.
    """
    if shape[1] % 4 or shape[2] % 4:
        raise ValueError(f"sides must be multiples of 4, to be halved twice; images are {shape[1]} x {shape[2]}")
    with initial_weights(seed):
        return EnergyNetwork(LocalAndGlobal(shape, width))


def energy_mlp(
    inputs: int, hidden: tuple[int, ...] = (128, 128), features: int = 0, *, scale: float = 1.0, seed: int = 0
) -> EnergyNetwork:
    """An energy of fully connected SiLU layers, on `features` Fourier features of x where there are any.

    SiLU, since a chain follows the energy's gradient, which is to be smooth. The last layer starts at zero, so that the model
    starts as the density that it corrects. `seed` touches no other randomness.
    """
    with initial_weights(seed):
        layers = mlp(inputs + 2 * features, *hidden, 1, activation=nn.SiLU)
    nn.init.zeros_(layers[-1].weight)
    nn.init.zeros_(layers[-1].bias)
    return EnergyNetwork(nn.Sequential(FourierFeatures(inputs, features, scale, seed=seed), layers) if features else layers)
