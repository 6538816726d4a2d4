"""Mean field on a Gaussian: the one target where all that it gets right and wrong is known (Bishop, 2006, section 10.1.2)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor

from vaecourse.inputs import tensor


@dataclass(frozen=True)
class FactorizedGaussian:
    """A Gaussian q that is independent between blocks of coordinates: its covariance is zero outside the blocks."""

    mean: Float[Tensor, " dim"]
    covariance: Float[Tensor, "dim dim"]

    @property
    def entropy(self) -> Float[Tensor, ""]:
        """-E[log q] in nats."""
        return 0.5 * (torch.logdet(self.covariance) + len(self.mean) * (1 + log(2 * pi)))


class GaussianTarget:
    """A posterior N(mean, precision^-1), to be met by a q that factorizes over blocks of coordinates.

    Shapes: mean (dim,), precision (dim, dim). `blocks` are lists of coordinates that share a factor; without it each has its
    own. The evidence is 1, so the ELBO is -KL(q || p). In double precision. Raises ValueError where the
    precision is not symmetric and positive definite, or the blocks do not name each coordinate once.
    """

    def __init__(
        self,
        mean: Float[Tensor, " dim"],
        precision: Float[Tensor, "dim dim"],
        blocks: Sequence[Sequence[int]] | None = None,
    ):
        mean, precision = tensor(mean, "the mean").double(), tensor(precision, "the precision").double()
        dim = len(mean)
        if precision.shape != (dim, dim):
            raise ValueError(f"the precision must be ({dim}, {dim}), as the mean is ({dim},); got {tuple(precision.shape)}")
        if not torch.allclose(precision, precision.T) or torch.linalg.cholesky_ex(precision).info > 0:
            raise ValueError("the precision must be symmetric and positive definite; is it the covariance's inverse?")
        self.mean, self.precision = mean, precision
        self.blocks = [list(block) for block in blocks] if blocks is not None else [[j] for j in range(dim)]
        if sorted(j for block in self.blocks for j in block) != list(range(dim)):
            raise ValueError(f"the blocks must name each of the coordinates 0 to {dim - 1} once, got {self.blocks}")

    def start(self, mean: Float[Tensor, " dim"] | None = None) -> FactorizedGaussian:
        """q = N(mean, I); mean is zero unless given."""
        return FactorizedGaussian(
            torch.zeros_like(self.mean) if mean is None else mean.to(self.mean), torch.eye(len(self.mean)).to(self.mean)
        )

    def updates(self) -> list[Callable[[FactorizedGaussian], FactorizedGaussian]]:
        """One update a block."""
        return [partial(self.update, block) for block in self.blocks]

    def update(self, block: list[int], q: FactorizedGaussian) -> FactorizedGaussian:
        """q_j = N(mu_j - L_jj^-1 L_j,-j (m_-j - mu_-j), L_jj^-1), L the precision (eq-cavi-gaussian-update).

        Bishop (2006), equations 10.13 to 10.15, for blocks. The covariance is found by one update, 1 / L_jj where each
        coordinate is a block (eq-cavi-gaussian-variance): it misses what different blocks have in common. The mean comes
        nearer sweep by sweep; in two dimensions of correlation rho by the factor rho^2 (eq-cavi-gaussian-rate).
        """
        own = self.precision[block][:, block]
        step = torch.linalg.solve(own, self.precision[block] @ (q.mean - self.mean))
        mean, covariance = q.mean.clone(), q.covariance.clone()
        mean[block] = q.mean[block] - step
        rows = torch.tensor(block, device=mean.device)[:, None]
        covariance[rows, rows.T] = torch.linalg.inv(own)
        return FactorizedGaussian(mean, covariance)

    def elbo(self, q: FactorizedGaussian) -> Float[Tensor, ""]:
        """E_q[log p] + entropy = -KL(q || p), in nats (eq-cavi-elbo); at the best q it is minus eq-cavi-gaussian-gap."""
        error = q.mean - self.mean
        spread = error @ self.precision @ error + (self.precision * q.covariance).sum()
        expected = 0.5 * (torch.logdet(self.precision) - len(error) * log(2 * pi) - spread)
        return expected + q.entropy
