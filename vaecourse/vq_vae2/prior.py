"""The second stage: an autoregressive prior over the codes, a small transformer with masked self-attention, and sampling.

p(k_1 .. k_T | c) = product of p(k_i | k_1 .. k_i-1, c). What conditions, c, is a row of codes itself and stands before the
codes, so attention sees all of it; a prior without conditions has one learned vector there. Probabilities are in nats per row
of codes, summed over its codes.
"""

from math import inf, log, sqrt

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn
from torch.nn import functional

from vaecourse.distributions import Categorical
from vaecourse.networks import initial_weights
from vaecourse.vq_vae2.model import VQVAE2, Codes

Past = list[tuple[Tensor, Tensor] | None]
"""For each block, the keys and values of all positions so far, (batch, heads, positions, width / heads) each."""


def attention_weights(
    q: Float[Tensor, "*batch new dim"], k: Float[Tensor, "*batch all dim"]
) -> Float[Tensor, "*batch new all"]:
    """softmax(q k' / sqrt(dim)): how much each of the last `new` positions takes from each, itself and those before.

    Zero behind the mask; a row adds up to one. Equation eq-vq_vae2-weights; Vaswani et al. (2017), equation 1, with the mask of
    their section 3.2.3.
    """
    new, all_ = q.shape[-2], k.shape[-2]
    scores = q @ k.mT / sqrt(q.shape[-1])
    seen = torch.ones(new, all_, dtype=torch.bool, device=q.device).tril(all_ - new)
    return scores.masked_fill(~seen, -torch.inf).softmax(-1)


def attention(
    q: Float[Tensor, "*batch new dim"], k: Float[Tensor, "*batch all dim"], v: Float[Tensor, "*batch all dim_v"]
) -> Float[Tensor, "*batch new dim_v"]:
    """The mean of the values v under the weights: each of the last `new` positions sees itself and those before.

    Equation eq-vq_vae2-attention; Vaswani et al. (2017), equation 1.
    """
    return attention_weights(q, k) @ v


class Block(nn.Module):
    """A transformer's block: positions look back at one another, then each thinks for itself; both add to what was there."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of the heads, got {width} and {heads}")
        self.heads = heads
        self.before_attention, self.before_thought = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.combine = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.think = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def queries_keys_values(self, h: Float[Tensor, "batch new width"]) -> Float[Tensor, "3 batch heads new head_width"]:
        """What each head of a position asks for, answers to, and hands over."""
        return self.project(self.before_attention(h)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def forward(
        self, h: Float[Tensor, "batch new width"], past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Float[Tensor, "batch new width"], tuple[Tensor, Tensor]]:
        """The new positions after this block, and the keys and values of all: kept, they need not be computed again."""
        q, k, v = self.queries_keys_values(h)
        if past:
            k, v = torch.cat([past[0], k], -2), torch.cat([past[1], v], -2)
        h = h + self.combine(attention(q, k, v).transpose(1, 2).flatten(-2))
        return h + self.think(self.before_thought(h)), (k, v)


class CodePrior(nn.Module):
    """p(k | c) of rows of `length` codes out of `codes`; c is a row like `context` = (codes, length), or nothing.

    Position i of the input, counted behind the context, holds code i and says what code i + 1 will be; the context's last
    position says what the first code will be (eq-vq_vae2-chain). `seed` sets the initial weights and touches no other
    randomness. Raises ValueError for sizes below 1, and where `width` is not a multiple of `heads`.
    """

    def __init__(
        self,
        codes: int,
        length: int,
        context: tuple[int, int] | None = None,
        *,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        seed: int = 0,
    ):
        super().__init__()
        if min(codes, length, width, heads, layers, *(context or ())) < 1:
            sizes = f"{codes} codes, length {length}, context {context}, width {width}, {heads} heads, {layers} layers"
            raise ValueError(f"all sizes of a prior must be at least 1; got {sizes}")
        self.codes, self.length, self.context = codes, length, context
        known = context[1] if context else 1
        with initial_weights(seed):
            self.meaning = nn.Embedding(codes, width)
            self.start = nn.Embedding(context[0] if context else 1, width)
            self.place = nn.Parameter(0.02 * torch.randn(known + length - 1, width))
            self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
            self.read = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, codes))
            for layer in (self.meaning, self.start, self.read[-1]):  # small, so that a prior starts out nearly uniform
                nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(self.read[-1].bias)

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.place.device

    def _context(self, n: int, context: Tensor | None) -> Tensor:
        """The context's codes, (n, known), on the model's device; a single zero where there is none."""
        if self.context is None:
            if context is not None:
                raise ValueError("this prior was built without a context, and is given one")
            return torch.zeros(n, 1, dtype=torch.int64, device=self.device)
        if context is None or context.shape != (n, self.context[1]):
            got = None if context is None else tuple(context.shape)
            raise ValueError(f"the context must be codes of shape {(n, self.context[1])}, got {got}")
        return context.to(self.device)

    def _embedded(self, code: Tensor, context: Tensor | None) -> Tensor:
        """The input: the context, then the codes, each by what it is; where it stands is added later."""
        return torch.cat([self.start(self._context(len(code), context)), self.meaning(code.to(self.device))], 1)

    def _forward(self, h: Tensor, past: Past) -> tuple[Tensor, Past]:
        """Logits at the new positions, whose embeddings are h, given what was kept of those before."""
        done = past[0][0].shape[-2] if past[0] else 0
        h, kept = h + self.place[done : done + h.shape[1]], []
        for block, before in zip(self.blocks, past, strict=True):
            h, now = block(h, before)
            kept.append(now)
        return self.read(h), kept

    def logits(
        self, code: Int64[Tensor, "batch known"], context: Int64[Tensor, "batch context"] | None = None
    ) -> Float[Tensor, "batch known+1 codes"]:
        """Logits of each code given those before it, and of the one that comes next: row i knows codes 0 to i - 1.

        Raises ValueError where there are too many codes (at most length - 1), or the context is not what it was built for.
        """
        _check_known(code, self.length)
        logits, _ = self._forward(self._embedded(code, context), [None] * len(self.blocks))
        return logits[:, -code.shape[1] - 1 :]

    @torch.no_grad()
    def attention_weights(
        self, code: Int64[Tensor, "batch known"], context: Int64[Tensor, "batch context"] | None = None
    ) -> Float[Tensor, "blocks batch heads positions positions"]:
        """Where each position of the input looks, in each block and head; the context's positions come first.

        Raises ValueError as `logits` does. Equation eq-vq_vae2-weights.
        """
        _check_known(code, self.length)
        h, found = self._embedded(code, context), []
        h = h + self.place[: h.shape[1]]
        for block in self.blocks:
            q, k, _ = block.queries_keys_values(h)
            found.append(attention_weights(q, k))
            h, _ = block(h)
        return torch.stack(found)

    def log_prob(
        self, code: Int64[Tensor, "batch length"], context: Int64[Tensor, "batch context"] | None = None
    ) -> Float[Tensor, " batch"]:
        """log p(k | c) = sum over i of log p(k_i | k_1 .. k_i-1, c), in nats (eq-vq_vae2-chain).

        Raises ValueError where codes are not (batch, length), or the context is not what it was built for.
        """
        if code.ndim != 2 or code.shape[1] != self.length:
            raise ValueError(f"codes must be rows of {self.length}, got shape {tuple(code.shape)}")
        logits = self.logits(code[:, :-1], context)
        nll = functional.cross_entropy(logits.flatten(0, 1), code.to(self.device).flatten(), reduction="none")
        return -nll.unflatten(0, code.shape).sum(1)

    def loss(self, batch: Tensor | tuple[Tensor, ...], generator: Generator | None = None) -> dict[str, Tensor]:
        """-log p(k | c), averaged over the batch, in nats; `bits`: per code. The batch: codes, or (codes, context).

        Raises ValueError where codes are not (batch, length), or the context is not what it was built for.
        """
        nats = -self.log_prob(*(batch if isinstance(batch, tuple) else (batch,))).mean()
        return {"loss": nats, "bits": nats / (self.length * log(2))}

    @torch.no_grad()
    def sample(
        self,
        n: int,
        generator: Generator | None = None,
        *,
        context: Int64[Tensor, "n context"] | None = None,
        temperature: float = 1.0,
    ) -> Int64[Tensor, "n length"]:
        """Rows of codes, k_i ~ p(k_i | k_1 .. k_i-1, c) one after another (eq-vq_vae2-cache).

        Each conditional is raised to the power 1 / temperature and normalized again (eq-vq_vae2-temperature): below 1 likely
        codes come more often; whole rows are not p(k | c) to that power (eq-vq_vae2-tempered). Keys and values of earlier
        positions are kept: each position passes through the network once. Without, the first would pass `length` times
        (eq-vq_vae2-cost). Raises ValueError where the context is not what it was built for, and for
        a temperature that is not positive and finite.
        """
        if not 0 < temperature < inf:
            raise ValueError(f"the temperature must be positive and finite, got {temperature}; 1 draws from the prior itself")
        h, past, drawn = self.start(self._context(n, context)), [None] * len(self.blocks), []
        while len(drawn) < self.length:
            logits, past = self._forward(h, past)
            drawn.append(Categorical(logits[:, -1] / temperature).sample(generator))
            h = self.meaning(drawn[-1])[:, None]
        return torch.stack(drawn, 1)


def _check_known(code: Tensor, length: int) -> None:
    if code.ndim != 2 or code.shape[1] >= length:
        raise ValueError(f"codes must be rows of at most {length - 1}, got shape {tuple(code.shape)}")


class HierarchicalPrior(nn.Module):
    """p(top) p(bottom | top), the prior of both levels (eq-vq_vae2-prior); its codes are pairs, as VQVAE2's are."""

    def __init__(self, top: CodePrior, bottom: CodePrior):
        super().__init__()
        if bottom.context != (top.codes, top.length):
            raise ValueError(f"the bottom's context must be the top's {(top.codes, top.length)}; it is {bottom.context}")
        self.top, self.bottom = top, bottom

    @classmethod
    def of(cls, model: VQVAE2, *, width: int = 64, heads: int = 4, layers: int = 2, seed: int = 0) -> "HierarchicalPrior":
        """A prior for the codes of that model."""
        (above, below), sizes = model.positions, {"width": width, "heads": heads, "layers": layers, "seed": seed}
        context = model.top.codes, above
        return cls(CodePrior(*context, **sizes), CodePrior(model.bottom.codes, below, context, **sizes))

    def log_prob(self, codes: Codes) -> Float[Tensor, " batch"]:
        """log p(top) + log p(bottom | top), in nats (eq-vq_vae2-prior). Raises ValueError where rows are of another length."""
        top, bottom = codes
        return self.top.log_prob(top) + self.bottom.log_prob(bottom, top)

    def loss(self, codes: Codes, generator: Generator | None = None) -> dict[str, Tensor]:
        """-log p(top) - log p(bottom | top), averaged over the batch, in nats, and each level's bits per code.

        Raises ValueError where rows are of another length.
        """
        top, bottom = codes
        above, below = self.top.loss(top), self.bottom.loss((bottom, top))
        return {"loss": above["loss"] + below["loss"], "top_bits": above["bits"], "bottom_bits": below["bits"]}

    def sample(self, n: int, generator: Generator | None = None, *, temperature: float = 1.0) -> Codes:
        """Codes of both levels, top ~ p(top) and then bottom ~ p(bottom | top) (eq-vq_vae2-prior).

        `temperature`: of each conditional of both levels (eq-vq_vae2-temperature). Raises ValueError where it is not positive
        and finite.
        """
        top = self.top.sample(n, generator, temperature=temperature)
        return top, self.bottom.sample(n, generator, context=top, temperature=temperature)


@torch.no_grad()
def bits_per_code(prior: HierarchicalPrior, codes: Codes, *, batch: int = 500) -> tuple[float, float]:
    """Mean -log2 p(top) / positions and mean -log2 p(bottom | top) / positions: what the prior pays for a code of each level.

    A uniform prior pays log2(codes). What the bottom's saves by its context is the mutual information of the levels, where both
    priors are exact (eq-vq_vae2-information). `batch`: rows at once. Raises ValueError where there are no codes.
    Equation eq-vq_vae2-bits.
    """
    top, bottom = codes
    if len(top) == 0:
        raise ValueError("there are no codes to judge by")
    parts = zip(top.split(batch), bottom.split(batch), strict=True)
    nats = [torch.stack([prior.top.log_prob(t), prior.bottom.log_prob(b, t)]) for t, b in parts]
    above, below = (-torch.cat(nats, 1).double().mean(1) / log(2)).tolist()
    return above / top.shape[1], below / bottom.shape[1]
