"""The codebook: nearest codes, the straight-through line, and the two ways in which codes learn, by gradient and by averages.

A vector z and a code's vector e have `dim` coordinates; squared distances are summed over them, one number a vector. Where
nothing else is said, figures about how often codes are used are in bits.
"""

from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn
from torch.nn import functional

from vaecourse import processes
from vaecourse.inputs import tensor
from vaecourse.randomness import indices


def nearest(z: Float[Tensor, "n dim"], vectors: Float[Tensor, "codes dim"]) -> Int64[Tensor, " n"]:
    """argmin over k of |z - e_k|^2 = |z|^2 - 2 z.e_k + |e_k|^2, the index of the code nearest to each z (eq-vq_vae-nearest).

    |z|^2 is the same for all codes and is left out. Single precision tells codes apart whose squared distances to z differ by
    more than about 1e-6 of |z|^2 + |e|^2; so it is computed in the vectors' own precision, under autocast as well.
    """
    with torch.autocast(z.device.type, enabled=False):
        z = z.to(vectors.dtype)
        return torch.addmm(vectors.square().sum(1), z, vectors.T, alpha=-2).min(1).indices  # argmin takes twice as long


@dataclass(frozen=True)
class Quantized:
    """Vectors and the codes they were given."""

    z: Float[Tensor, "*batch dim"]
    """What the encoder said."""

    code: Int64[Tensor, "*batch"]
    """Which code is nearest."""

    e: Float[Tensor, "*batch dim"]
    """That code's vector."""

    @property
    def straight_through(self) -> Float[Tensor, "*batch dim"]:
        """z + sg(e - z): its value is e, its gradient goes to z as it is (eq-vq_vae-straight-through).

        Van den Oord, Vinyals and Kavukcuoglu (2017), section 3.2. No gradient reaches e this way. It is the slope of a
        loss in which e moves along with z, not of the loss at hand: eq-vq_vae-straight-through-bias is a case where both are
        known.
        """
        return self.z + (self.e - self.z).detach()

    @property
    def codebook_loss(self) -> Float[Tensor, "*batch"]:
        """|sg(z) - e|^2: it moves codes to the vectors they were given to (eq-vq_vae-objective)."""
        return (self.z.detach() - self.e).square().sum(-1)

    @property
    def commitment(self) -> Float[Tensor, "*batch"]:
        """|z - sg(e)|^2: it holds vectors near their codes (eq-vq_vae-objective), and their size (eq-vq_vae-balance)."""
        return (self.z - self.e.detach()).square().sum(-1)


class Codebook(nn.Module):
    """A codebook that learns by gradient: |sg(z) - e|^2 + beta |z - sg(e)|^2 (eq-vq_vae-objective).

    `vectors`, (codes, dim), is where the codes start. Raises ValueError where there are none, where they are not finite, and
    for beta < 0; TypeError where they are not floats.
    """

    def __init__(self, vectors: Float[Tensor, "codes dim"], *, beta: float = 0.25):
        super().__init__()
        vectors = tensor(vectors, "a codebook's vectors")
        if vectors.ndim != 2 or 0 in vectors.shape:
            raise ValueError(f"a codebook needs vectors (codes, dim), at least one of each; got shape {tuple(vectors.shape)}")
        if not vectors.is_floating_point():
            raise TypeError(f"a codebook's vectors must be floats, got {vectors.dtype}")
        if not vectors.isfinite().all():
            raise ValueError("a codebook's vectors must be finite; there is a NaN or an infinity among them")
        if not beta >= 0:
            raise ValueError(f"beta, the weight of the commitment, must not be negative; got {beta}")
        self.beta = beta
        self.codes, self.dim = vectors.shape
        self._keep(vectors.detach().clone())

    def _keep(self, vectors: Tensor) -> None:
        self.vectors = nn.Parameter(vectors)

    def forward(self, z: Float[Tensor, "*batch dim"]) -> Quantized:
        """argmin over k of |z - e_k|^2 for each vector z, and that code's e (eq-vq_vae-nearest).

        What autocast hands over in half precision is taken in that of the codes, here and in the averages. Raises ValueError
        where z is empty or of another width.
        """
        z = z.to(self.vectors.dtype)
        if z.shape[-1] != self.dim or z.numel() == 0:
            raise ValueError(f"vectors to quantize must end in {self.dim} coordinates, and be some; got shape {tuple(z.shape)}")
        code = nearest(z.detach().reshape(-1, self.dim), self.vectors.detach()).reshape(z.shape[:-1])
        return Quantized(z, code, self.embed(code))

    def embed(self, code: Int64[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """The codes' vectors."""
        return functional.embedding(code, self.vectors)

    def loss(self, q: Quantized) -> Float[Tensor, "*batch"]:
        """|sg(z) - e|^2 + beta |z - sg(e)|^2, what quantization adds to a model's loss, one number a vector.

        Equation eq-vq_vae-objective. Where codes are means of their vectors, another beta rescales vectors and codes, and
        changes nothing else of a model at rest (eq-vq_vae-scale).
        """
        return q.codebook_loss + self.beta * q.commitment

    def after_step(self, generator: Generator | None = None) -> None:
        """The optimizer has moved the codes: nothing is left to do."""


class EMACodebook(Codebook):
    """A codebook that learns by moving averages: e = m / N, the mean of the vectors a code was given of late (eq-vq_vae-ema).

    N counts a code's vectors, m sums them up; both forget by `decay` a step. They start at N = 1, m = e, so that a code that
    nobody has used yet stays where it is, as long as N is far above `eps` (eq-vq_vae-unused). Averages take
    the place of the codebook loss: there is none. With decay = 0 and one batch for ever, a step is one of K-means
    (eq-vq_vae-kmeans).

    A code with N < `revive_below` is dead, and moves to a vector of the batch at hand (eq-vq_vae-revival). N tends to the
    number of vectors a step that choose the code; a code just revived is dead again after log(1 / revive_below) / (1 - decay)
    steps without any. Codes that none has chosen since the start sink below the bound in the same step, and move all at once;
    and a code that is in use, by fewer than `revive_below` vectors a step, moves as well. At 0 codes are never revived.
    Raises ValueError for a decay outside [0, 1), eps <= 0, and revive_below outside [0, 1).
    """

    def __init__(
        self,
        vectors: Float[Tensor, "codes dim"],
        *,
        beta: float = 0.25,
        decay: float = 0.99,
        eps: float = 1e-5,
        revive_below: float = 0.0,
    ):
        super().__init__(vectors, beta=beta)
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        if not eps > 0:
            raise ValueError(f"eps, which keeps counts from zero, must be positive; got {eps}")
        if not 0 <= revive_below < 1:
            raise ValueError(f"revive_below must lie in [0, 1): a revived code starts with a count of 1; got {revive_below}")
        self.decay, self.eps, self.revive_below = decay, eps, revive_below
        self._seen: Quantized | None = None

    def _keep(self, vectors: Tensor) -> None:
        self.register_buffer("vectors", vectors)
        self.register_buffer("counts", vectors.new_ones(len(vectors)))
        self.register_buffer("sums", vectors.clone())

    def forward(self, z: Float[Tensor, "*batch dim"]) -> Quantized:
        """The nearest code of each vector, by the codes as they are; in training the vectors are kept for `after_step`."""
        q = super().forward(z)
        if self.training and torch.is_grad_enabled():
            self._seen = Quantized(q.z.detach(), q.code, q.e)
        return q

    def loss(self, q: Quantized) -> Float[Tensor, "*batch"]:
        """beta |z - sg(e)|^2, the commitment alone, one number a vector (eq-vq_vae-ema-objective)."""
        return self.beta * q.commitment

    @torch.no_grad()
    def after_step(self, generator: Generator | None = None) -> None:
        """Take the vectors of the last `forward` into the averages, then revive dead codes.

        Raises RuntimeError where no vectors were seen since the last step.
        """
        if self._seen is None:
            raise RuntimeError("no vectors were quantized in training since the last step: after_step follows a loss")
        z, code = self._seen.z.reshape(-1, self.dim), self._seen.code.flatten()
        self._seen = None
        self.update(z, code)
        if self.revive_below:
            self.revive(z, generator)

    @torch.no_grad()
    def update(self, z: Float[Tensor, "n dim"], code: Int64[Tensor, " n"]) -> None:
        """N <- decay N + (1 - decay) n, m <- decay m + (1 - decay) sum of z, e = m / N smoothed (eq-vq_vae-ema).

        Smoothed, N is (N + eps) / (sum of N + codes eps) * sum of N (eq-vq_vae-smoothing): it keeps the divisor from zero, is
        not in the paper, serves the division alone and is not written back. But for the smoothing, e moves by (1 - decay) n / N
        of the way to the mean of its n vectors, with the new N (eq-vq_vae-ema-step): by 1 - decay where n is the same at every
        step, farther where the code is chosen now and then. Van den Oord, Vinyals and Kavukcuoglu (2017), appendix A.1.
        """
        n = torch.zeros_like(self.counts).index_add_(0, code, torch.ones_like(z[:, 0]))
        s = torch.zeros_like(self.sums).index_add_(0, code, z)
        self.counts.lerp_(processes.total(n), 1 - self.decay)
        self.sums.lerp_(processes.total(s), 1 - self.decay)
        total = self.counts.sum()
        smoothed = (self.counts + self.eps) / (total + self.codes * self.eps) * total
        torch.div(self.sums, smoothed[:, None], out=self.vectors)

    @torch.no_grad()
    def revive(self, z: Float[Tensor, "n dim"], generator: Generator | None = None) -> None:
        """Move each dead code, with its averages, to a vector drawn from z: e = m = z, N = 1 (eq-vq_vae-revival).

        It draws a vector for each code, dead or not, at every call: of two trainings with one seed, that with revival has other
        minibatches from the second pass over the data on.
        """
        z = processes.joined(z)
        drawn = z[indices(len(z), (self.codes,), z, generator, batch_axis=None)]
        dead = self.counts < self.revive_below
        self.counts.masked_fill_(dead, 1)
        for kept in (self.sums, self.vectors):
            kept.copy_(torch.where(dead[:, None], drawn, kept))


# How often codes are used, and what they cost. These wait for the device: they are for judging, not for a step.


def frequencies(code: Int64[Tensor, "*batch"], codes: int) -> Float[Tensor, " codes"]:
    """The share of each of `codes` codes, in double precision.

    Raises TypeError where codes are not int64, ValueError where there are none or one is out of range.
    """
    if code.dtype != torch.int64:
        raise TypeError(f"codes must be int64, got {code.dtype}")
    if code.numel() == 0:
        raise ValueError("there are no codes to count")
    if not (code.min() >= 0 and code.max() < codes):
        raise ValueError(f"codes must lie in 0..{codes - 1}; got {code.min().item()}..{code.max().item()}")
    return torch.bincount(code.flatten(), minlength=codes).double() / code.numel()


def code_length(code: Int64[Tensor, "*batch"], p: Float[Tensor, " codes"]) -> Float[Tensor, "*batch"]:
    """-log2 p(code): the bits of each code under an ideal coder that expects frequencies p (eq-vq_vae-code-length).

    Infinite for a code that p holds impossible.
    """
    return -p.log2()[code]


def entropy_bits(code: Int64[Tensor, "*batch"], codes: int) -> float:
    """-sum of p log2 p: bits per code of an ideal coder that knows the frequencies p, but codes each code by itself.

    At most log2(codes), which is what a coder pays that knows nothing. Raises TypeError where codes are not int64, ValueError
    where there are none or one is out of range. Equation eq-vq_vae-entropy-rate.
    """
    p = frequencies(code, codes)
    return -torch.special.xlogy(p, p).sum().item() / log(2)


def perplexity(code: Int64[Tensor, "*batch"], codes: int) -> float:
    """2^entropy: how many codes, used equally often, would be as hard to guess (eq-vq_vae-perplexity).

    Over all codes of a data set. That of a batch is bounded by the batch's size, and no average over batches gives it back.
    Raises TypeError where codes are not int64, ValueError where there are none or one is out of range.
    """
    return 2 ** entropy_bits(code, codes)


def usage(code: Int64[Tensor, "*batch"], codes: int) -> float:
    """The share of codes that occur at all.

    Raises TypeError where codes are not int64, ValueError where there are none or one is out of range.
    """
    return (frequencies(code, codes) > 0).double().mean().item()
