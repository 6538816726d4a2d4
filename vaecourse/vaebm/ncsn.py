"""The noise-conditional score network (Song and Ermon, 2019): scores of noisy data, and sampling from coarse to fine."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vaecourse import samplers
from vaecourse.networks import FourierFeatures, initial_weights, mlp
from vaecourse.randomness import indices, normal


def geometric_levels(largest: float, smallest: float, n: int) -> Float[Tensor, " n"]:
    """Noise levels sigma_i = largest (smallest / largest)^((i - 1) / (n - 1)), i = 1 ... n: they fall geometrically.

    Raises ValueError unless largest > smallest > 0 and n >= 2.
    """
    if not largest > smallest > 0 or n < 2:
        raise ValueError(f"needs largest > smallest > 0 and n >= 2 levels; got {largest}, {smallest}, {n}")
    return largest * (smallest / largest) ** torch.linspace(0, 1, n)


class NCSN(nn.Module):
    """s(x, sigma) = net(x, log sigma) / sigma: the score of the data with noise of that level added.

    net: (batch, dim + 1) -> (batch, dim). levels: noise levels, falling.
    """

    def __init__(self, net: nn.Module, dim: int, levels: Float[Tensor, " n"]):
        super().__init__()
        if levels.ndim != 1 or len(levels) < 1 or not (levels > 0).all() or not (levels.diff() < 0).all():
            raise ValueError(f"noise levels are positive and fall; got {levels.tolist()}")
        self.net, self.dim = net, dim
        self.register_buffer("levels", levels)

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.levels.device

    def score(self, x: Float[Tensor, "batch dim"], sigma: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch dim"]:
        """net(x, log sigma) / sigma, an estimate of grad log p_sigma(x), p_sigma the law of data + sigma eps."""
        return self.net(torch.cat([x, sigma.log()], dim=-1)) / sigma

    def loss(self, x: Float[Tensor, "batch dim"], generator: Generator | None = None) -> dict[str, Tensor]:
        """Denoising score matching at a random level for each point: 1/2 sigma^2 |s(x + sigma eps, sigma) + eps / sigma|^2.

        Equation eq-vaebm-denoising; Song and Ermon (2019), equations 5 and 6.
        """
        x = x.to(self.levels)
        sigma = self.levels[indices(len(self.levels), (len(x),), x, generator)][:, None]
        eps = normal(x.shape, x, generator)
        return {"loss": 0.5 * ((sigma * self.score(x + sigma * eps, sigma) + eps) ** 2).sum(-1).mean()}

    @torch.no_grad()
    def sample(
        self, n: int, generator: Generator | None = None, *, steps: int = 100, step: float = 0.2
    ) -> Float[Tensor, "n dim"]:
        """Annealed Langevin dynamics: x <- x + h/2 s(x, sigma) + sqrt(h) eps, h = step * sigma^2, `steps` times at each level.

        The chains start at the largest level's noise; the last move is x + sigma^2 s(x, sigma) at the smallest. Costs
        levels * steps + 1 calls of the network, and no gradient. Equation eq-vaebm-annealed; Song and Ermon (2019),
        algorithm 1 (step = epsilon / sigma_n^2), with their steps and step; the last move is Jolicoeur-Martineau et al. (2021).
        Raises ValueError for n, steps or step that cannot be right, SamplerDiverged where a chain leaves the finite numbers.
        """
        if n < 1 or steps < 1 or not 0 < step < float("inf"):
            raise ValueError(f"needs n >= 1, steps >= 1 and a positive, finite step; got {n}, {steps}, {step}")
        x = self.levels[0] * normal((n, self.dim), self.levels, generator)
        for level in self.levels:
            sigma, h = level.expand(n, 1), step * level**2
            for _ in range(steps):
                x = x + 0.5 * h * self.score(x, sigma) + h**0.5 * normal(x.shape, x, generator)
        x = x + sigma**2 * self.score(x, sigma)
        if not (finite := x.isfinite().all(-1)).all():
            raise samplers.SamplerDiverged(len(self.levels) * steps, int((~finite).nonzero()[0]))
        return x


def score_mlp(
    dim: int, hidden: tuple[int, ...] = (128, 128), features: int = 0, *, scale: float = 1.0, seed: int = 0
) -> nn.Sequential:
    """A network for `NCSN`: SiLU layers on (x, log sigma), and on Fourier features of both where there are any."""
    with initial_weights(seed):
        layers = mlp(dim + 1 + 2 * features, *hidden, dim, activation=nn.SiLU)
    return nn.Sequential(FourierFeatures(dim + 1, features, scale, seed=seed), layers) if features else layers
