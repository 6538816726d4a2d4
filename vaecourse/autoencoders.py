"""Autoencoders: an encoder and a decoder with a narrow code between, trained on the squared error of the reconstruction.

Data are rows, (batch, pixels), codes are rows, (batch, latents). An error is |x - d(e(x))|^2, summed over pixels, one number a
data point. With one linear layer each way the code finds the subspace of PCA; with more, it finds what bends.
"""

from collections.abc import Callable
from math import prod

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn

from vaecourse.inputs import onto
from vaecourse.networks import by_rows, conv_decoder, conv_encoder, initial_weights, mlp
from vaecourse.randomness import normal


class Autoencoder(nn.Module):
    """An encoder e: pixels -> latents and a decoder d: latents -> pixels, two modules over rows (eq-autoencoders-code)."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, pixels: int, latents: int):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.pixels, self.latents = pixels, latents

    def encode(self, x: Float[Tensor, "*batch pixels"]) -> Float[Tensor, "*batch latents"]:
        """The code e(x). Raises ValueError where rows do not have the model's pixels."""
        x = onto(self, x)
        if x.ndim == 0 or x.shape[-1] != self.pixels:
            raise ValueError(f"images must be rows of {self.pixels} pixels; got {tuple(x.shape)}. Flatten them: x.flatten(1)")
        return by_rows(self.encoder, x)

    def decode(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch pixels"]:
        """The image d(z). Raises ValueError where the last axis of z is not the latents."""
        z = onto(self, z)
        if z.ndim == 0 or z.shape[-1] != self.latents:
            raise ValueError(f"codes must end in {self.latents} latents; got shape {tuple(z.shape)}")
        return by_rows(self.decoder, z)

    def reconstruct(self, x: Float[Tensor, "*batch pixels"]) -> Float[Tensor, "*batch pixels"]:
        """d(e(x))."""
        return self.decode(self.encode(x))

    def error(self, x: Float[Tensor, "*batch pixels"]) -> Float[Tensor, "*batch"]:
        """|x - d(e(x))|^2, summed over pixels (eq-autoencoders-error).

        Its mean is least, for given codes, where d answers with the mean of
        all x that share a code (eq-autoencoders-mean).
        """
        x = onto(self, x)
        return ((x - self.reconstruct(x)) ** 2).sum(-1)

    def loss(self, x: Float[Tensor, "batch pixels"], generator: Generator | None = None) -> dict[str, Tensor]:
        """The mean error over the batch; nothing is drawn."""
        return {"loss": self.error(x).mean()}


class Transposed(nn.Module):
    """A linear decoder with its encoder's weights, x = W'z + b: shared, not free."""

    def __init__(self, encoder: nn.Linear):
        super().__init__()
        self.encoder = encoder
        self.bias = nn.Parameter(torch.zeros(encoder.in_features))

    def forward(self, z: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch pixels"]:
        """W'z + b."""
        return z @ self.encoder.weight + self.bias


def linear(pixels: int, latents: int, *, shared: bool = False, seed: int = 0) -> Autoencoder:
    """z = W x + a and x = V z + b, one linear layer each way; `shared`: V = W'.

    Free weights are determined up to an invertible matrix A, z -> A z: the subspace of PCA, not its basis. Shared weights
    are determined up to a rotation. Equations eq-autoencoders-linear, eq-autoencoders-freedom and eq-autoencoders-shared;
    Bourlard and Kamp (1988), Baldi and Hornik (1989). No code gives a linear decoder less error (eq-autoencoders-affine); what
    is level elsewhere is a saddle (eq-autoencoders-saddle). Of two pixels, one shared direction of unit length has the error
    eq-autoencoders-direction. Without its biases the model finds another subspace (eq-autoencoders-uncentered).
    """
    with initial_weights(seed):
        encoder = nn.Linear(pixels, latents)
        decoder = Transposed(encoder) if shared else nn.Linear(latents, pixels)
    return Autoencoder(encoder, decoder, pixels, latents)


def deep(pixels: int, latents: int, hidden: tuple[int, ...] = (128, 128), *, seed: int = 0) -> Autoencoder:
    """Hidden tanh layers both ways, the decoder's in reverse order; code and image are linear in the last layer."""
    with initial_weights(seed):
        encoder, decoder = mlp(pixels, *hidden, latents), mlp(latents, *reversed(hidden), pixels)
    return Autoencoder(encoder, decoder, pixels, latents)


def convolutional(
    shape: tuple[int, int, int], latents: int, *, width: int = 16, halvings: int = 2, seed: int = 0
) -> Autoencoder:
    """Convolutions both ways for images (channels, height, width), given and returned as rows of pixels.

    Raises ValueError where a side is not a multiple of 2^halvings.
    """
    with initial_weights(seed):
        encoder, decoder = conv_encoder(shape, latents, width, halvings), conv_decoder(latents, shape, width, halvings)
    return Autoencoder(encoder, decoder, prod(shape), latents)


def decoder_basis(model: Autoencoder) -> Float[Tensor, "pixels latents"]:
    """The directions that a linear model's decoder draws along, one a column. Raises TypeError where it is not linear."""
    match model.decoder:
        case nn.Linear(weight=weight):
            return weight.detach()
        case Transposed(encoder=encoder):
            return encoder.weight.detach().T
    raise TypeError("only a linear decoder, as by `linear`, draws along fixed directions")


def principal_angles(A: Float[Tensor, "pixels a"], B: Float[Tensor, "pixels b"]) -> Float[Tensor, " angles"]:
    """arccos of the singular values of Qa' Qb: the angles between the subspaces that columns span (eq-autoencoders-angles).

    Qa and Qb are orthonormal bases. In radians, smallest first, min(a, b) of them. Small ones come from sines, since their
    cosines are 1 to the last digit. Bjorck and Golub (1973).
    Raises ValueError where the columns of one are not of one length with the other's, or are linearly dependent.
    """
    if A.shape[0] != B.shape[0]:
        raise ValueError(f"directions must have as many entries in both; got {A.shape[0]} and {B.shape[0]}")
    for name, X in (("first", A), ("second", B)):
        if torch.linalg.matrix_rank(X) < X.shape[1]:
            raise ValueError(f"the {name} {X.shape[1]} directions are linearly dependent: they span less than they count")
    A, B = (A, B) if A.shape[1] >= B.shape[1] else (B, A)
    Qa, Qb = torch.linalg.qr(A).Q, torch.linalg.qr(B).Q
    cosines = torch.linalg.svdvals(Qa.T @ Qb)
    sines = torch.linalg.svdvals(Qb - Qa @ (Qa.T @ Qb)).flip(0)
    return torch.where(cosines**2 > 0.5, sines.asin(), cosines.acos())


# What one number can hold


CREATURES = ["dog", "bird", "car", "plane"]
FEATURES = ["breathes", "eats", "sleeps", "warm", "metal", "fuel", "wheels", "noise", "wings", "altitude", "speed", "weight"]


def creatures(n: int, generator: Generator | None = None) -> tuple[Float[Tensor, "n 12"], Int64[Tensor, " n"]]:
    """Made descriptions, (n, 12), of n dogs, birds, cars and planes in turn, and which of CREATURES each is.

    The features (FEATURES) tell two things about each: how alive it is, and how much it flies, each near 0 or near 1.
    """
    labels = torch.arange(n) % 4
    alive, flies = (labels < 2).float(), (labels % 2).float()
    factors = torch.stack([alive, flies], -1)
    factors = factors + 0.12 * normal((n, 2), factors, generator)
    a, f = factors.unbind(-1)
    clean = torch.stack(
        [
            *(a, a**2, a * (1.2 - 0.2 * f), 0.9 * a + 0.1),
            *(1 - a, 1 - a**2, (1 - a) * (1 - 0.6 * f), 0.7 - 0.5 * a + 0.3 * f),
            *(f, f**2, 0.6 * f + 0.4 * (1 - a), (1 - a) * (0.6 + 0.4 * f)),
        ],
        -1,
    )
    return clean + 0.05 * normal((n, 12), clean, generator), labels


def distances(x: Float[Tensor, "batch pixels"], y: Float[Tensor, "n pixels"]) -> Float[Tensor, "batch n"]:
    """|x_i - y_j|, from the differences: by products, |x|^2 - 2 x.y + |y|^2, what is far from the origin looks alike."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


class Lookup:
    """A code of one number that loses nothing of n given points, and means nothing: the point's place in a list.

    e(x) is the place of the nearest listed point, divided by n; d(z) is the point listed there. Any finite set has such a code
    (eq-autoencoders-list). Raises ValueError for an empty list.
    """

    def __init__(self, x: Float[Tensor, "n pixels"]):
        if len(x) == 0:
            raise ValueError("the list is empty: a code needs at least one point")
        self.points = x

    def encode(self, x: Float[Tensor, "batch pixels"]) -> Float[Tensor, "batch 1"]:
        """The place of the nearest listed point, in [0, 1)."""
        return distances(x.to(self.points), self.points).argmin(-1, keepdim=True).to(x.dtype) / len(self.points)

    def decode(self, z: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch pixels"]:
        """The point listed there."""
        place = (z[..., 0] * len(self.points)).round().long()
        return self.points[place.clamp(0, len(self.points) - 1)]


def antipodal_clash(encode: Callable[[Tensor], Tensor], *, steps: int = 60) -> Float[Tensor, "2 2"]:
    """Two opposite points of the unit circle that a continuous code of one number cannot tell apart.

    e(t) - e(t + pi) changes sign between t = 0 and t = pi, so it is 0 between: there one image stands for both points, and
    is at least 1 away from one of them (Borsuk and Ulam's theorem on the circle; eq-autoencoders-clash). Found by bisection.
    encode: (batch, 2) -> (batch, 1), in float64. Raises ValueError where the code is not continuous there.
    """

    def point(t: float) -> Tensor:
        t = torch.tensor(t, dtype=torch.float64)
        return torch.stack([t.cos(), t.sin()])[None]

    def difference(t: float) -> float:
        return (encode(point(t)) - encode(-point(t))).item()

    low, high = 0.0, torch.pi
    sign = 1.0 if difference(low) > 0 else -1.0
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if sign * difference(middle) > 0 else (low, middle)
    scale = 1 + abs(encode(point(0.0)).item())
    if abs(difference(high)) > 1e-6 * scale:
        raise ValueError(f"the code jumps by {abs(difference(high)):.3g} at angle {high:.4f}: it is not continuous")
    return torch.cat([point(high), -point(high)])


# What codes are good for


def probe(
    train_codes: Float[Tensor, "n latents"],
    train_labels: Int64[Tensor, " n"],
    test_codes: Float[Tensor, "m latents"],
    test_labels: Int64[Tensor, " m"],
) -> float:
    """The share of test codes that a logistic regression, fitted to the training codes, labels rightly."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    classifier.fit(train_codes.detach().cpu().numpy(), train_labels.cpu().numpy())
    return classifier.score(test_codes.detach().cpu().numpy(), test_labels.cpu().numpy())


def distance_to_data(x: Float[Tensor, "batch pixels"], data: Float[Tensor, "n pixels"]) -> Float[Tensor, " batch"]:
    """min over the data of |x - x_n|^2, summed over pixels, for each image.

    On a way from one cluster to another its root is somewhere at least half their gap (eq-autoencoders-hole).
    """
    return distances(x.to(data), data).amin(-1) ** 2
