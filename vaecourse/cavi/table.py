"""Mean field on a table of probabilities: every expectation is a sum, so the update is its definition."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from vaecourse.inputs import tensor
from vaecourse.randomness import uniform

Factors = tuple[Float[Tensor, " _"], ...]


class Table:
    """log p(z_1, ..., z_m, x) for one x, over all values of m discrete latents: an axis a latent, at least one.

    q is a tuple of m probability vectors. The table need not be normalized: log p(x) is its sum's logarithm. -inf stands for
    what cannot be. Raises ValueError for NaN, +inf, or a table with nothing possible in it.
    """

    def __init__(self, log_p: Float[Tensor, "*values"]):
        log_p = tensor(log_p, "log_p")
        if log_p.ndim == 0 or log_p.isnan().any() or log_p.isposinf().any() or log_p.isneginf().all():
            raise ValueError(
                f"a table of log-probabilities has an axis a latent, no NaN or +inf, and some finite entry; got {log_p}"
            )
        self.log_p = log_p.double()
        self._impossible = self.log_p.isneginf()
        self._finite = self.log_p.masked_fill(self._impossible, 0.0)

    @property
    def evidence(self) -> Float[Tensor, ""]:
        """log p(x) in nats, by enumeration."""
        return self.log_p.flatten().logsumexp(0)

    @property
    def posterior(self) -> Float[Tensor, "*values"]:
        """p(z | x), of the table's shape."""
        return (self.log_p - self.evidence).exp()

    def start(self, generator: Generator | None = None) -> Factors:
        """Factors without zeros: uniform, or drawn at random where a generator is given."""
        factors = [self.log_p.new_ones(size) for size in self.log_p.shape]
        if generator is not None:
            factors = [1e-3 + uniform(tuple(factor.shape), factor, generator, batch_axis=None) for factor in factors]
        return tuple(factor / factor.sum() for factor in factors)

    def joint(self, q: Factors) -> Float[Tensor, "*values"]:
        """q(z) = prod_j q_j(z_j), of the table's shape."""
        joint = q[0]
        for factor in q[1:]:
            joint = joint[..., None] * factor
        return joint

    def updates(self) -> list[Callable[[Factors], Factors]]:
        """One update a latent."""
        return [partial(self.update, j) for j in range(self.log_p.ndim)]

    def _expect_others(self, values: Float[Tensor, "*values"], q: Factors, j: int) -> Float[Tensor, " own"]:
        """E_-j[values], a number for each value of z_j."""
        others = [part for i, factor in enumerate(q) if i != j for part in (factor, [i])]
        return torch.einsum(values, list(range(values.ndim)), *others, [j])

    def update(self, j: int, q: Factors) -> Factors:
        """q_j(z_j) proportional to exp E_-j[log p(z, x)] (eq-cavi-update; for two bits, eq-cavi-two-bits).

        A value of z_j is given up where any value that the others hold possible makes it impossible. Raises ValueError where
        that leaves none.
        """
        log_q = self._expect_others(self._finite, q, j)
        log_q = log_q.masked_fill(self._expect_others(self._impossible.double(), q, j) > 0, -torch.inf)
        if log_q.isneginf().all():
            raise ValueError(
                f"latent {j} has no value left: whatever it takes, the other factors hold possible what p excludes. Start from "
                "factors with more zeros, or from another place."
            )
        return (*q[:j], log_q.softmax(0), *q[j + 1 :])

    def elbo(self, q: Factors) -> Float[Tensor, ""]:
        """E_q[log p(z, x)] - E_q[log q(z)] in nats (eq-cavi-elbo); -inf where q holds possible what p excludes."""
        joint = self.joint(q)
        if joint[self._impossible].sum() > 0:
            return torch.full_like(self.evidence, -torch.inf)
        return (joint * self._finite).sum() + sum(torch.special.entr(factor).sum() for factor in q)
