"""The VQ-VAE (van den Oord, Vinyals and Kavukcuoglu, 2017): a grid of discrete codes between an encoder and a decoder.

Images are rows, (batch, pixels). An image's code is a row of a grid's positions, (batch, positions), at each the index of a
vector of `dim` coordinates. It is what z is to a VAE: `encode` finds it, `prior` and `sample` draw it, `decode` and `generate`
take it; vectors that are no code's are decoded in training alone. Likelihoods and bounds are in nats per image, summed over
pixels and positions; squared distances between vectors and codes are summed over coordinates and averaged over positions, as
in the paper. Averages are taken over images.
"""

from dataclasses import dataclass
from math import log, log2

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn
from torch.nn import functional

from vaecourse.distributions import Bernoulli, Categorical, Normal, refusing
from vaecourse.inputs import onto, tensor, whole
from vaecourse.networks import BernoulliNetwork, GaussianNetwork, OnImages, by_rows, initial_weights
from vaecourse.randomness import indices
from vaecourse.vae import ELBO
from vaecourse.vq_vae.codebook import Codebook, EMACodebook, Quantized, entropy_bits, perplexity, usage


class VQVAE(nn.Module):
    """An encoder to a grid of vectors, a codebook, and a decoder p(x | k) from the grid of the codes' vectors.

    `encoder` maps (batch, pixels) to (batch, dim * positions), as `OnImages` flattens a grid of `dim` channels; `decoder` maps
    the like to a Bernoulli or Normal over `pixels`. `latents` is the number of positions, each of which holds one code. A
    posterior is all on one code a position; the prior is uniform.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, codebook: Codebook, pixels: int, latents: int):
        super().__init__()
        self.encoder, self.decoder, self.codebook = encoder, decoder, codebook
        self.pixels, self.latents = pixels, latents

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device

    def prior(self, n: int) -> Categorical:
        """p(k) = 1 / codes at each position, for n images: (n, positions)."""
        return Categorical(next(self.parameters()).new_zeros(()).expand(n, self.latents, self.codebook.codes))

    def encode(self, x: Float[Tensor, "batch pixels"]) -> Quantized:
        """The encoder's vectors z, and argmin over k of |z - e_k|^2 with that code's e, at each position (eq-vq_vae-nearest).

        Raises ValueError where x is not (batch, pixels).
        """
        x = onto(self, x)
        if x.ndim != 2 or x.shape[1] != self.pixels:
            raise ValueError(f"images must be rows, (batch, {self.pixels}); got {tuple(x.shape)}. Flatten them: x.flatten(1)")
        return self.codebook(to_rows(self.encoder(x), self.codebook.dim))

    def posterior(self, x: Float[Tensor, "batch pixels"]) -> Float[Tensor, "batch positions codes"]:
        """q(k | x) = 1 for the k nearest to the encoder's vector, 0 for all others (eq-vq_vae-posterior).

        Raises ValueError where x is not (batch, pixels). Van den Oord, Vinyals and Kavukcuoglu (2017), equation 1.
        """
        q = self.encode(x)
        return functional.one_hot(q.code, self.codebook.codes).to(q.z.dtype)

    @torch.no_grad()
    def codes(self, x: Float[Tensor, "batch pixels"]) -> Int64[Tensor, "batch positions"]:
        """The codes alone, without gradients: what a learned prior is trained on. ValueError where x is not (batch, pixels)."""
        return self.encode(x).code

    def decode(self, code: Int64[Tensor, "*batch positions"]) -> Bernoulli | Normal:
        """p(x | k). Raises ValueError where the last axis is not the positions."""
        if code.shape[-1] != self.latents:
            raise ValueError(f"codes must end in {self.latents} positions; got shape {tuple(code.shape)}")
        return self.decode_vectors(self.codebook.embed(code.to(self.device)))

    def decode_vectors(self, e: Float[Tensor, "*batch positions dim"]) -> Bernoulli | Normal:
        """p(x | e) for vectors that may be no code's. Raises ValueError where e does not end in (positions, dim)."""
        if e.shape[-2:] != (self.latents, self.codebook.dim):
            raise ValueError(f"vectors must end in {(self.latents, self.codebook.dim)}, (positions, dim); got {tuple(e.shape)}")
        return by_rows(self.decoder, to_grid(onto(self, e)))

    def elbo(self, x: Float[Tensor, "batch pixels"]) -> ELBO:
        """log p(x | k) - positions * log(codes) at the nearest k: the bound, exactly, as the posterior is one code.

        The rate is the same for all x and does not depend on any parameter: training does without. Raises ValueError where x is
        not (batch, pixels). Equation eq-vq_vae-elbo. A learned prior's rate is -log p(k) instead (eq-vq_vae-prior-rate).
        """
        distortion = -self.decode(self.encode(x).code).log_prob(onto(self, x))
        return ELBO(distortion, rate=torch.full_like(distortion, self.latents * log(self.codebook.codes)))

    def loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """E[-log p(x | z + sg(e - z))] + E[|sg(z) - e|^2 + beta |z - sg(e)|^2], the latter averaged over positions.

        An EMACodebook's first square is left out. `quantization`: the codebook's part. Raises ValueError where x is not
        (batch, pixels). Equation eq-vq_vae-objective; van den Oord et al. (2017), equation 3.
        """
        q = self.encode(x)
        distortion = -self.decode_vectors(q.straight_through).log_prob(onto(self, x)).mean()
        quantization = self.codebook.loss(q).mean()
        return {"loss": distortion + quantization, "distortion": distortion, "quantization": quantization}

    def after_step(self, generator: Generator | None = None) -> None:
        """What the codebook does after each step: averages and revival."""
        self.codebook.after_step(generator)

    def generate(
        self, code: Int64[Tensor, "*batch positions"], generator: Generator | None = None
    ) -> Float[Tensor, "*batch pixels"]:
        """The image of each grid of codes, the decoder's mean, whatever the generator.

        Raises ValueError where the last axis is not the positions.
        """
        return self.decode(code).mean

    @torch.no_grad()
    def reconstruct(
        self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None
    ) -> Float[Tensor, "batch pixels"]:
        """The decoder's mean at the nearest codes, whatever the generator. Raises ValueError where x is not (batch, pixels)."""
        return self.generate(self.encode(x).code, generator)

    @torch.no_grad()
    def sample(
        self, n: int, generator: Generator | None = None, *, prior: nn.Module | None = None
    ) -> Float[Tensor, "n pixels"]:
        """New images: the decoder's means at n grids of codes.

        The codes are a learned prior's, `prior.sample(n, generator)`, or else even draws: then it shows what the uniform prior
        cannot know about neighbors.
        """
        if prior is not None:
            return self.generate(prior.sample(n, generator))
        return self.generate(indices(self.codebook.codes, (n, self.latents), next(self.parameters()), generator))


def to_rows(grid: Float[Tensor, "*batch features"], dim: int) -> Float[Tensor, "*batch positions dim"]:
    """A flattened grid, `dim` channels of so many positions, as one row a position."""
    return grid.unflatten(-1, (dim, -1)).mT


def to_grid(rows: Float[Tensor, "*batch positions dim"]) -> Float[Tensor, "*batch features"]:
    """The inverse of `to_rows`."""
    return rows.mT.flatten(-2)


class Residual(nn.Module):
    """x + a small correction: a convolution of 3 x 3, then one of 1 x 1, over images of `width` channels."""

    def __init__(self, width: int):
        super().__init__()
        inner = nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1)
        self.correction = nn.Sequential(nn.ReLU(), *inner)

    def forward(self, x: Float[Tensor, "batch width height breadth"]) -> Float[Tensor, "batch width height breadth"]:
        """The corrected images."""
        return x + self.correction(x)


def downward(inputs: int, outputs: int, width: int, halvings: int, blocks: int) -> nn.Sequential:
    """Images -> a grid of `outputs` channels whose sides are halved so many times; `blocks` residual blocks at the bottom."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, width, 4, stride=2, padding=1)]
    for _ in range(halvings - 1):
        layers += [nn.ReLU(), nn.Conv2d(width, width, 4, stride=2, padding=1)]
    layers += [Residual(width) for _ in range(blocks)]  # each its own: [Residual(width)] * blocks would be one, again and again
    return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(width, outputs, 1))


def upward(inputs: int, outputs: int, width: int, halvings: int, blocks: int) -> nn.Sequential:
    """`downward` turned round: a grid of `inputs` channels -> images whose sides are doubled so many times."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, width, 3, padding=1), *(Residual(width) for _ in range(blocks)), nn.ReLU()]
    for _ in range(halvings - 1):
        layers += [nn.ConvTranspose2d(width, width, 4, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, outputs, 4, stride=2, padding=1))


def initial_vectors(codes: int, dim: int) -> Float[Tensor, "codes dim"]:
    """Where codes start: standard normal draws. Raises ValueError for codes or dim < 1."""
    if codes < 1 or dim < 1:
        raise ValueError(f"a codebook needs at least one code of at least one dimension, got {codes} of {dim}")
    return torch.randn(codes, dim)


def grid_of(shape: tuple[int, int, int], halvings: int) -> tuple[int, int]:
    """Height and breadth of images after so many halvings. Raises ValueError where they are not multiples of 2^halvings."""
    _, height, breadth = shape
    if halvings < 1 or height % 2**halvings or breadth % 2**halvings:
        raise ValueError(f"{halvings} halvings need sides that are multiples of {2**halvings}; images are {height} x {breadth}")
    return height >> halvings, breadth >> halvings


def conv_vq_vae(
    shape: tuple[int, int, int],
    codes: int,
    dim: int,
    *,
    halvings: int = 1,
    width: int = 32,
    blocks: int = 1,
    log_sigma: float | nn.Parameter | None = None,
    seed: int = 0,
    by_gradient: bool = False,
    **codebook,
) -> VQVAE:
    """The chapter's model over images of `shape`, (channels, height, width), with a code for each 2^halvings pixels a side.

    Pixels are coin flips, or Gaussian where `log_sigma` is given (GaussianNetwork). The codebook learns by averages, unless
    `by_gradient`; further arguments are its own (Codebook, EMACodebook). `seed` sets the initial weights and codes and touches
    no other randomness. Raises ValueError where sides are not multiples of 2^halvings.
    """
    channels, (height, breadth) = shape[0], grid_of(shape, halvings)
    with initial_weights(seed):
        encoder = OnImages(shape, downward(channels, dim, width, halvings, blocks))
        images = OnImages((dim, height, breadth), upward(dim, channels, width, halvings, blocks))
        decoder = BernoulliNetwork(images) if log_sigma is None else GaussianNetwork(images, log_sigma)
        kind = Codebook if by_gradient else EMACodebook
        book = kind(initial_vectors(codes, dim), **codebook)
    return VQVAE(encoder, decoder, book, channels * shape[1] * shape[2], height * breadth)


@dataclass(frozen=True)
class Score:
    """How a model does on images. The codes' figures are over all images at once."""

    distortion: float
    """-log p(x | codes), nats per image."""
    nmse: float
    """Squared error of the reconstructions over the images' squared values, both summed over all."""
    fixed_bits: float
    """Bits per image at log2(codes) a position: what sending the codes costs a coder that knows nothing."""
    coded_bits: float
    """Bits per image under an ideal coder that knows how often each code occurs."""
    perplexity: float
    usage: float


@torch.no_grad()
@refusing
def evaluate(model: VQVAE, x: Float[Tensor, "n pixels"], *, batch: int = 1000) -> Score:
    """Score a VQ-VAE on images x, so many at once.

    Raises ValueError where there are none, and for pixels outside [0, 1] where they are coin flips.
    """
    x, batch = tensor(x, "x"), whole(batch)
    if len(x) == 0:
        raise ValueError("there are no images to judge by")
    if batch < 1:
        raise ValueError(f"batch, the images at once, must be at least 1; got {batch}")
    distortion, error, code = [], [], []
    for part in onto(model, x).split(batch):
        q = model.encode(part)
        p = model.decode(q.code)
        distortion.append(-p.log_prob(part))
        error.append((part - p.mean).square().sum(-1))
        code.append(q.code)
    code, codes, positions = torch.cat(code), model.codebook.codes, model.latents
    return Score(
        distortion=torch.cat(distortion).double().mean().item(),
        nmse=(torch.cat(error).double().sum() / x.double().square().sum()).item(),
        fixed_bits=positions * log2(codes),
        coded_bits=positions * entropy_bits(code, codes),
        perplexity=perplexity(code, codes),
        usage=usage(code, codes),
    )
