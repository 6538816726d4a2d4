"""Principal component analysis: the linear encoder and decoder that lose least.

Data are rows, (n, pixels). A code has one number a component, a reconstruction error is the squared distance to the
reconstruction, summed over pixels and averaged over data. Probabilistic PCA, the same subspace as a model with a likelihood, is
`exact_models.ProbabilisticPCA`; `em_step` fits it without an eigen-decomposition.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from vaecourse.exact_models import ProbabilisticPCA
from vaecourse.inputs import floats
from vaecourse.randomness import normal, uniform


@dataclass(frozen=True)
class PCA:
    """An orthonormal basis U of a subspace, (pixels, components), through the data's mean m, (pixels,).

    variances: the data's variance along each component, then along as many further directions as are known, falling,
    (directions,); those by `eigen` and `svd` know all that the data have. rest: the variance in all other directions together.
    """

    mean: Float[Tensor, " pixels"]
    components: Float[Tensor, "pixels components"]
    variances: Float[Tensor, " directions"]
    rest: float = 0.0

    def encode(self, x: Float[Tensor, "*batch pixels"]) -> Float[Tensor, "*batch components"]:
        """z = U'(x - m) (eq-pca-encoder): uncorrelated over the data of the fit, not independent (eq-pca-uncorrelated)."""
        return (x - self.mean) @ self.components

    def decode(self, z: Float[Tensor, "*batch components"]) -> Float[Tensor, "*batch pixels"]:
        """x = U z + m (eq-pca-decoder)."""
        return z @ self.components.T + self.mean

    def reconstruct(self, x: Float[Tensor, "*batch pixels"]) -> Float[Tensor, "*batch pixels"]:
        """The orthogonal projection onto the subspace, U U'(x - m) + m; what it does to noise is eq-pca-denoise."""
        return self.decode(self.encode(x))

    def error(self, x: Float[Tensor, "n pixels"]) -> Float[Tensor, " n"]:
        """|x - reconstruction|^2 for each data point (eq-pca-error).

        Its mean over the data is the variance that the components do not keep (eq-pca-kept, eq-pca-turn).
        """
        return ((x - self.reconstruct(x)) ** 2).sum(-1)

    def truncated(self, components: int) -> "PCA":
        """The first components alone. Raises ValueError where there are not so many."""
        if not 1 <= components <= self.components.shape[1]:
            raise ValueError(f"components must lie between 1 and {self.components.shape[1]}, got {components}")
        return PCA(self.mean, self.components[:, :components], self.variances, self.rest)

    @property
    def error_by_rank(self) -> Float[Tensor, " directions_and_one"]:
        """The sum of variances k + 1, k + 2, ...: the least mean error of any linear code with k = 0, 1, ... components.

        On the data of the fit; by a `randomized` basis as nearly as its directions are right. Equation eq-pca-dropped; Eckart
        and Young (1936).
        """
        return torch.cat([self.variances.flip(0).cumsum(0).flip(0), self.variances.new_zeros(1)]) + self.rest

    @property
    def explained(self) -> Float[Tensor, " directions"]:
        """The share of the variance that the first 1, 2, ... components keep, sum of the first k over the sum of all.

        Of the whole variance, whether all of its directions are known or not. Raises ValueError for data that do not vary.
        """
        total = self.variances.sum() + self.rest
        rounding = torch.finfo(self.mean.dtype).eps * self.mean.abs().max()
        if not total > len(self.mean) * rounding**2:
            raise ValueError("the data are constant: they have no variance to explain")
        return self.variances.cumsum(0) / total


def _centered(x: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """The mean and the data without it; refuses what has no principal components."""
    x = floats(x)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"data must be rows, at least 2 of them, (n, pixels); got shape {tuple(x.shape)}")
    if not 1 <= components <= min(x.shape):
        raise ValueError(f"components must lie between 1 and {min(x.shape)}, the smaller of data and pixels; got {components}")
    if not x.isfinite().all():
        bad = (~x.isfinite()).any(1).nonzero()[0].item()
        raise ValueError(f"data must be finite; row {bad} is the first with NaN or infinity")
    m = x.mean(0)
    return m, x - m


def _upright(U: Float[Tensor, "pixels components"]) -> Float[Tensor, "pixels components"]:
    """Each direction with the sign that makes its largest entry positive: a direction's sign is nobody's choice."""
    largest = U.abs().argmax(0, keepdim=True)
    return U * U.gather(0, largest).sign()


def eigen(x: Float[Tensor, "n pixels"], components: int) -> PCA:
    """Principal components as eigenvectors of the covariance (1/N) sum (x - m)(x - m)', largest eigenvalues first.

    N data points take time N pixels^2 + pixels^3. Equation eq-pca-eigenvectors; Pearson (1901), Hotelling (1933).
    Raises ValueError or TypeError for data that are not finite rows of floats, or too many components.
    """
    m, centered = _centered(x, components)
    variances, U = torch.linalg.eigh(centered.T @ centered / len(x))
    return PCA(m, _upright(U.flip(-1)[:, :components]), variances.flip(0).clamp_min(0))


def svd(x: Float[Tensor, "n pixels"], components: int) -> PCA:
    """Principal components by singular values: centered X = V S U' (eq-pca-svd).

    Variances are S^2 / N. Twice as many correct digits as by the covariance, whose eigenvalues square the singular values.
    Raises ValueError or TypeError for data that are not finite rows of floats, or too many components.
    """
    m, centered = _centered(x, components)
    _, S, Uh = torch.linalg.svd(centered, full_matrices=False)
    return PCA(m, _upright(Uh.T[:, :components]), S**2 / len(x))


def randomized(
    x: Float[Tensor, "n pixels"],
    components: int,
    generator: Generator | None = None,
    *,
    oversampling: int = 10,
    passes: int = 4,
) -> PCA:
    """Principal components, nearly, for large data: an SVD within a random subspace that the data were multiplied into.

    Time N pixels (components + oversampling) a pass; `variances` has only the directions found, `rest` what is left. Each pass
    multiplies a direction by its variance once more, so that the small ones vanish. Halko, Martinsson and Tropp (2011),
    algorithm 4.4. Raises ValueError or TypeError for data that are not finite rows of floats, too many components, oversampling
    or passes < 0.
    """
    m, centered = _centered(x, components)
    if oversampling < 0 or passes < 0:
        raise ValueError(f"oversampling and passes must not be negative, got {oversampling} and {passes}")
    directions = min(components + oversampling, *x.shape)
    Q = centered.T @ normal((len(x), directions), centered, generator, batch_axis=None)
    for _ in range(passes):
        Q = centered.T @ (centered @ torch.linalg.qr(Q).Q)
    Q = torch.linalg.qr(Q).Q
    _, S, Uh = torch.linalg.svd(centered @ Q, full_matrices=False)
    variances = S**2 / len(x)
    rest = max(0.0, (centered.square().sum() / len(x) - variances.sum()).item())
    return PCA(m, _upright((Q @ Uh.T)[:, :components]), variances, rest)


def em_step(model: ProbabilisticPCA, x: Float[Tensor, "n pixels"]) -> ProbabilisticPCA:
    """One step of expectation-maximization for probabilistic PCA; the log-evidence of the data never falls.

    E: with M = c I + W'W, E[z] = M^-1 W'(x - m) and E[zz'] = c M^-1 + E[z]E[z]'. M, the W and c that maximize the expected
    log-joint: W = (sum (x - m) E[z]') (sum E[zz'])^-1, and c is the mean of |x - m|^2 - 2 E[z]'W'(x - m) + tr(E[zz'] W'W), an
    entry of x. Equation eq-pca-em; Tipping and Bishop (1999).

    A step never raises the rank of W: from W = 0, which says nothing of x, W is 0 for ever. Start from random numbers. Raises
    ValueError where no variance is left for the noise.
    """
    m, W, c = x.mean(0), model.W, model.c
    centered, identity = x - m, torch.eye(W.shape[1], dtype=W.dtype, device=W.device)
    M = c * identity + W.T @ W
    Ez = torch.linalg.solve(M, W.T @ centered.T).T
    Ezz = len(x) * c * torch.linalg.inv(M) + Ez.T @ Ez
    W_new = torch.linalg.solve(Ezz, Ez.T @ centered).T
    squared_error = (centered**2).sum() - 2 * (Ez * (centered @ W_new)).sum() + (Ezz * (W_new.T @ W_new)).sum()
    return ProbabilisticPCA(W_new, m, (squared_error / x.numel()).item())


def shares(n: int, generator: Generator | None = None) -> tuple[Float[Tensor, "n 8"], list[str]]:
    """Made figures of n companies, eight a company, that mostly follow two things nobody recorded: size and growth.

    Revenue, profit, employees, market value and debt follow size; price, dividend and the staff's mean age hardly do. Every
    column has mean 0 and unit variance in the limit of many companies.
    """
    names = ["revenue", "profit", "employees", "market value", "debt", "share price", "dividend", "mean age of staff"]
    size = [0.95, 0.9, 0.9, 0.9, 0.8, 0.5, 0.3, 0.1]
    growth = [0.1, 0.3, -0.1, 0.4, 0.0, 0.75, -0.6, -0.3]
    loadings = torch.tensor([size, growth])
    own = (1 - (loadings**2).sum(0)).sqrt()
    latent = normal((n, 2), loadings, generator)
    return latent @ loadings + own * normal((n, 8), loadings, generator), names


def spiral(n: int, generator: Generator | None = None, *, noise: float = 0.02) -> Float[Tensor, "n 2"]:
    """Curved data: points of one dimension, along one turn and a half, in a plane that no line through them fits."""
    t = uniform((n, 1), torch.zeros(1), generator) * 3 * torch.pi
    curve = torch.cat([t.cos(), t.sin()], -1) * (0.3 + t / 10)
    return curve + noise * normal((n, 2), curve, generator)
