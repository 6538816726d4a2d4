"""The first stage of VQ-VAE-2 (Razavi, van den Oord and Vinyals, 2019): two levels of codes for one image.

The top grid, half as fine, is quantized first; the bottom grid is encoded with the top's codes at hand, and the decoder sees
both. Images are rows, (batch, pixels). An image's code, what z is to a VAE, is a pair, the top's and the bottom's: rows of a
grid's positions, line by line from the upper left. Likelihoods are in nats per image, summed over pixels; squared distances as
in `vq_vae`.
"""

from dataclasses import dataclass
from math import log, log2

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn

from vaecourse.distributions import Bernoulli, Categorical, Normal, refusing
from vaecourse.inputs import onto, tensor, whole
from vaecourse.networks import BernoulliNetwork, GaussianNetwork, initial_weights
from vaecourse.randomness import indices
from vaecourse.vae import ELBO
from vaecourse.vq_vae import Codebook, EMACodebook, Quantized, entropy_bits, perplexity, usage
from vaecourse.vq_vae.model import downward, grid_of, initial_vectors, upward

Codes = tuple[Int64[Tensor, "batch top_positions"], Int64[Tensor, "batch bottom_positions"]]
"""The codes of images, the top's and the bottom's."""


class VQVAE2(nn.Module):
    """Two codebooks with the networks between them (eq-vq_vae2-levels); Razavi et al. (2019), algorithm 1.

    A code of each level names one pair of as many as the product of both books' sizes (eq-vq_vae2-words).
    All grids are (batch, channels, height, breadth). `local`: images of `shape` -> features on the bottom grid. `to_top`: those
    -> the top's vectors, on a grid half as fine. `from_top`: the top codes' vectors -> what they say at the bottom's places.
    `to_bottom`: features and that, stacked -> the bottom's vectors. `decoder`: the bottom codes' vectors and what the top says,
    stacked -> a Bernoulli or Normal over rows of pixels.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        local: nn.Module,
        to_top: nn.Module,
        from_top: nn.Module,
        to_bottom: nn.Module,
        decoder: nn.Module,
        top: Codebook,
        bottom: Codebook,
        grids: tuple[tuple[int, int], tuple[int, int]],
    ):
        super().__init__()
        self.shape, self.grids = shape, grids
        self.local, self.to_top, self.from_top, self.to_bottom, self.decoder = local, to_top, from_top, to_bottom, decoder
        self.top, self.bottom = top, bottom

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    @property
    def pixels(self) -> int:
        """Numbers in an image."""
        channels, height, breadth = self.shape
        return channels * height * breadth

    @property
    def positions(self) -> tuple[int, int]:
        """How many codes an image has: at the top, at the bottom."""
        (a, b), (c, d) = self.grids
        return a * b, c * d

    @property
    def latents(self) -> int:
        """How many codes an image has, both levels together: one number, as for every other model."""
        return sum(self.positions)

    def prior(self, n: int) -> tuple[Categorical, Categorical]:
        """p(k) = 1 / codes at each position, for n images: of the top, (n, positions), and of the bottom."""
        like = next(self.parameters()).new_zeros(())
        top, bottom = self.positions
        return Categorical(like.expand(n, top, self.top.codes)), Categorical(like.expand(n, bottom, self.bottom.codes))

    def encode(self, x: Float[Tensor, "batch pixels"]) -> tuple[Quantized, Quantized]:
        """Vectors and nearest codes of the top, argmin over k of |z(x) - e_k|^2, and of the bottom, of |z'(x, e) - e'_k|^2.

        The bottom's vectors z' are encoded with the top's e at hand. Raises ValueError where x is not (batch, pixels).
        Equation eq-vq_vae2-levels.
        """
        x = onto(self, x)
        if x.ndim != 2 or x.shape[1] != self.pixels:
            raise ValueError(f"images must be rows, (batch, {self.pixels}); got {tuple(x.shape)}. Flatten them: x.flatten(1)")
        features = self.local(x.reshape(-1, *self.shape))
        top = self.top(_rows(self.to_top(features)))
        bottom = self.bottom(_rows(self.to_bottom(torch.cat([features, self._said(top.straight_through)], 1))))
        return top, bottom

    @torch.no_grad()
    def codes(self, x: Float[Tensor, "batch pixels"]) -> Codes:
        """The codes alone, without gradients: what a learned prior is trained on. ValueError where x is not (batch, pixels)."""
        top, bottom = self.encode(x)
        return top.code, bottom.code

    def decode(self, codes: Codes) -> Bernoulli | Normal:
        """p(x | top codes, bottom codes). Raises ValueError where they are not those of the two grids."""
        top, bottom = (book.embed(k.to(self.device)) for book, k in zip((self.top, self.bottom), codes, strict=True))
        return self.decode_vectors(top, bottom)

    def decode_vectors(
        self, top: Float[Tensor, "batch top_positions top_dim"], bottom: Float[Tensor, "batch bottom_positions bottom_dim"]
    ) -> Bernoulli | Normal:
        """p(x | e_top, e_bottom), of vectors that may be no codes'. ValueError where they are not those of the two grids."""
        for name, e, positions, book in zip(
            ("top", "bottom"), (top, bottom), self.positions, (self.top, self.bottom), strict=True
        ):
            if e.shape[1:] != (positions, book.dim):
                raise ValueError(f"the {name} vectors must be (batch, {positions}, {book.dim}); got {tuple(e.shape)}")
        return self.decoder(torch.cat([_grid(bottom, self.grids[1]), self._said(top)], 1))

    def _said(self, top: Tensor) -> Tensor:
        """What the top's vectors say at the bottom's places."""
        return self.from_top(_grid(top, self.grids[0]))

    def elbo(self, x: Float[Tensor, "batch pixels"]) -> ELBO:
        """log p(x | k, k') - positions * log(codes), summed over both levels, at the codes k, k' of x (eq-vq_vae2-elbo).

        The bound under a uniform prior of both levels; a learned prior's -log p(k, k') is a lower rate. Raises ValueError where
        x is not (batch, pixels).
        """
        top, bottom = self.encode(x)
        distortion = -self.decode((top.code, bottom.code)).log_prob(onto(self, x))
        rate = sum(n * log(book.codes) for n, book in zip(self.positions, (self.top, self.bottom), strict=True))
        return ELBO(distortion, torch.full_like(distortion, rate))

    def loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """The distortion through both straight-through lines, and what each codebook asks for, averaged over its positions.

        E[-log p(x | z + sg(e - z), z' + sg(e' - z'))] + beta E[|z - sg(e)|^2] + beta E[|z' - sg(e')|^2] where codes learn by
        averages; by gradient also E[|sg(z) - e|^2] and the bottom's. Raises ValueError where x is not (batch, pixels).
        Equation eq-vq_vae2-objective; Razavi et al. (2019), equation 2.
        """
        top, bottom = self.encode(x)
        distortion = -self.decode_vectors(top.straight_through, bottom.straight_through).log_prob(onto(self, x)).mean()
        at_top, at_bottom = self.top.loss(top).mean(), self.bottom.loss(bottom).mean()
        return {"loss": distortion + at_top + at_bottom, "distortion": distortion, "top": at_top, "bottom": at_bottom}

    def after_step(self, generator: Generator | None = None) -> None:
        """What the codebooks do after each step: averages and revival."""
        self.top.after_step(generator)
        self.bottom.after_step(generator)

    def generate(self, codes: Codes, generator: Generator | None = None) -> Float[Tensor, "batch pixels"]:
        """The image of each pair of grids of codes, the decoder's mean, whatever the generator.

        Raises ValueError where the codes are not those of the two grids.
        """
        return self.decode(codes).mean

    @torch.no_grad()
    def reconstruct(
        self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None
    ) -> Float[Tensor, "batch pixels"]:
        """The decoder's mean at the codes of both levels, whatever the generator.

        Raises ValueError where x is not (batch, pixels).
        """
        return self.generate(self.codes(x), generator)

    @torch.no_grad()
    def sample(
        self, n: int, generator: Generator | None = None, *, prior: nn.Module | None = None
    ) -> Float[Tensor, "n pixels"]:
        """New images: the decoder's means at n pairs of codes, a learned prior's (`HierarchicalPrior`), or else even draws."""
        if prior is not None:
            return self.generate(prior.sample(n, generator))
        like, books = next(self.parameters()), zip((self.top, self.bottom), self.positions, strict=True)
        top, bottom = (indices(book.codes, (n, positions), like, generator) for book, positions in books)
        return self.generate((top, bottom))


def _rows(grid: Float[Tensor, "batch dim height breadth"]) -> Float[Tensor, "batch positions dim"]:
    return grid.flatten(2).mT


def _grid(rows: Float[Tensor, "batch positions dim"], sides: tuple[int, int]) -> Float[Tensor, "batch dim height breadth"]:
    return rows.mT.unflatten(2, sides)


def conv_vq_vae2(
    shape: tuple[int, int, int],
    codes: tuple[int, int],
    dim: int,
    *,
    halvings: int = 2,
    width: int = 32,
    blocks: int = 1,
    log_sigma: float | nn.Parameter | None = None,
    seed: int = 0,
    **codebook,
) -> VQVAE2:
    """The chapter's model over images of `shape`, (channels, height, width), with codebooks of `codes` = (top, bottom) codes.

    A bottom code for each 2^halvings pixels a side, a top code for twice that; pixels are coin flips, or Gaussian where
    `log_sigma` is given (GaussianNetwork). Codes learn by averages; further arguments are those of EMACodebook. `seed` sets the
    initial weights and codes and touches no other randomness. Raises ValueError where sides are not multiples of
    2^(halvings + 1).
    """
    channels, grids = shape[0], (grid_of(shape, halvings + 1), grid_of(shape, halvings))
    with initial_weights(seed):
        pixels = nn.Sequential(upward(dim + width, channels, width, halvings, blocks), nn.Flatten())
        return VQVAE2(
            shape,
            local=downward(channels, width, width, halvings, blocks),
            to_top=nn.Sequential(nn.ReLU(), downward(width, dim, width, 1, blocks)),
            from_top=nn.Sequential(upward(dim, width, width, 1, blocks), nn.ReLU()),
            to_bottom=nn.Sequential(nn.Conv2d(2 * width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, dim, 1)),
            decoder=BernoulliNetwork(pixels) if log_sigma is None else GaussianNetwork(pixels, log_sigma),
            top=EMACodebook(initial_vectors(codes[0], dim), **codebook),
            bottom=EMACodebook(initial_vectors(codes[1], dim), **codebook),
            grids=grids,
        )


@dataclass(frozen=True)
class LevelScore:
    """How a level's codes are used, over all images at once; bits per code.

    A level says no more than `fixed_bits` a place; the other has to say the rest (eq-vq_vae2-capacity).
    """

    perplexity: float
    usage: float
    fixed_bits: float
    coded_bits: float


@dataclass(frozen=True)
class Score:
    """How a model does on images."""

    distortion: float
    """-log p(x | codes), nats per image."""
    nmse: float
    """Squared error of the reconstructions over the images' squared values, both summed over all."""
    top: LevelScore
    bottom: LevelScore


@torch.no_grad()
@refusing
def evaluate(model: VQVAE2, x: Float[Tensor, "n pixels"], *, batch: int = 1000) -> Score:
    """Score the first stage on images x, so many at once.

    Raises ValueError where there are none, and for pixels outside [0, 1] where they are coin flips.
    """
    x, batch = tensor(x, "x"), whole(batch)
    if len(x) == 0:
        raise ValueError("there are no images to judge by")
    if batch < 1:
        raise ValueError(f"batch, the images at once, must be at least 1; got {batch}")
    distortion, error, codes = [], [], ([], [])
    for part in onto(model, x).split(batch):
        found = model.codes(part)
        p = model.decode(found)
        distortion.append(-p.log_prob(part))
        error.append((part - p.mean).square().sum(-1))
        for kept, code in zip(codes, found, strict=True):
            kept.append(code)
    levels = []
    for code, book in zip(map(torch.cat, codes), (model.top, model.bottom), strict=True):
        bits = log2(book.codes), entropy_bits(code, book.codes)
        levels.append(LevelScore(perplexity(code, book.codes), usage(code, book.codes), *bits))
    nmse = torch.cat(error).double().sum() / x.double().square().sum()
    return Score(torch.cat(distortion).double().mean().item(), nmse.item(), *levels)
