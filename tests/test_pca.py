"""Principal component analysis, against scikit-learn, random subspaces, numeric search, and the likelihood of its model."""

from functools import partial
from math import pi

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from sklearn import decomposition
from torch import Tensor

from helpers import generator, needs_cuda
from vaecourse import datasets, pca
from vaecourse.exact_models import ProbabilisticPCA


def table(n: int = 60, pixels: int = 7, seed: int = 0) -> Tensor:
    """Rows with a mean, and with directions of unequal variance."""
    noise = generator(seed)
    mixing = torch.randn(pixels, pixels, generator=noise, dtype=torch.float64) * torch.linspace(0.2, 2, pixels)
    return torch.randn(n, pixels, generator=noise, dtype=torch.float64) @ mixing + 3


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return datasets.load("digits").train.double()


METHODS = [pca.eigen, pca.svd]


@pytest.mark.equation("eq-pca-eigenvectors", oracle="another library: scikit-learn")
@pytest.mark.equation("eq-pca-svd", oracle="another library: scikit-learn")
@pytest.mark.equation("eq-pca-encoder", oracle="another library: scikit-learn")
@pytest.mark.equation("eq-pca-decoder", oracle="another library: scikit-learn")
@pytest.mark.parametrize("method", METHODS)
def test_components_codes_and_reconstructions_are_scikit_learns(method, digits):
    ours, theirs = method(digits, 16), decomposition.PCA(16, svd_solver="full").fit(digits.numpy())
    signs = torch.from_numpy(np.sign((theirs.components_ * ours.components.T.numpy()).sum(1)))
    assert np.allclose(ours.components.T * signs[:, None], theirs.components_, atol=1e-8)
    assert np.allclose(ours.encode(digits) * signs, theirs.transform(digits.numpy()), atol=1e-8)
    reconstructed = theirs.inverse_transform(theirs.transform(digits.numpy()))
    assert np.allclose(ours.reconstruct(digits), reconstructed, atol=1e-8)
    n = len(digits)
    assert np.allclose(ours.variances[:16] * n / (n - 1), theirs.explained_variance_, atol=1e-10)
    assert np.allclose(ours.explained[:16], theirs.explained_variance_ratio_.cumsum(), atol=1e-10)


def test_sixteen_components_keep_84_9_percent_of_the_digits_variance():
    data = datasets.load("digits")
    images = torch.cat([data.train, data.test]).double()
    assert pca.svd(images, 16).explained[15].item() == pytest.approx(0.849, abs=5e-4)


@pytest.mark.equation("eq-pca-turn", oracle="numeric search over the angle of numpy's projections")
def test_a_line_that_turns_loses_two_less_the_sine_of_twice_its_angle_and_least_along_the_first_eigenvector():
    square = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) @ np.linalg.cholesky([[2, 1], [1, 2]]).T
    assert np.allclose(square.T @ square / 4, [[2, 1], [1, 2]])

    def lost(angle):
        u = np.array([np.cos(angle), np.sin(angle)])
        return ((square - np.outer(square @ u, u)) ** 2).sum(1).mean()

    angles = np.linspace(0, pi, 19)
    assert np.allclose([lost(angle) for angle in angles], 2 - np.sin(2 * angles))
    best = optimize.minimize_scalar(lost, bounds=(0, pi), method="bounded", options={"xatol": 1e-9})
    first = pca.eigen(torch.from_numpy(square), 1)
    assert best.x == pytest.approx(pi / 4, abs=1e-6)
    assert np.allclose(first.components[:, 0], 0.5**0.5) and first.variances.tolist() == pytest.approx([3, 1])
    slope = np.linalg.lstsq(square[:, :1], square[:, 1])[0].item()  # of a regression line, which minimizes something else
    assert slope == pytest.approx(0.5) and lost(np.arctan(slope)) == pytest.approx(1.2)


@pytest.mark.equation("eq-pca-kept", oracle="independent code: the error measured on the data")
@pytest.mark.parametrize("k", [1, 3, 6])
def test_what_a_projection_keeps_and_what_it_loses_add_up_to_the_variance(k):
    x = table()
    U, _ = torch.linalg.qr(torch.randn(7, k, generator=generator(k), dtype=torch.float64))
    own = (x - x.mean(0)).numpy()
    C, P = np.cov(own.T, bias=True), (U @ U.T).numpy()
    lost = ((own - own @ P) ** 2).sum(1).mean()
    assert lost == pytest.approx(np.trace(C) - np.trace(U.numpy().T @ C @ U.numpy()), abs=1e-10)
    assert pca.PCA(x.mean(0), U, torch.ones(7)).error(x).mean().item() == pytest.approx(lost, abs=1e-10)


@pytest.mark.equation("eq-pca-uncorrelated", oracle="another library: numpy's covariance")
@pytest.mark.parametrize("method", METHODS)
def test_the_covariance_of_the_codes_is_diagonal_and_holds_the_eigenvalues(method, digits):
    basis = method(digits, 16)
    covariance = np.cov(basis.encode(digits).numpy().T, bias=True)
    assert np.allclose(covariance, np.diag(basis.variances[:16]), atol=1e-10)


@pytest.mark.equation("eq-pca-denoise", oracle="enumeration of noise of 2 n values with covariance s^2 I")
@pytest.mark.parametrize("k", [1, 4, 7])
def test_k_components_of_a_noisy_image_miss_the_clean_one_by_what_they_drop_and_k_times_the_noise(k):
    x, s = table(), 0.6
    basis = pca.svd(x, k)
    corners = s * 7**0.5 * torch.cat([torch.eye(7), -torch.eye(7)]).double()
    missed = ((basis.reconstruct(x[:, None] + corners) - x[:, None]) ** 2).sum(-1).mean()
    assert missed.item() == pytest.approx((basis.error_by_rank[k] + k * s**2).item(), abs=1e-10)


@pytest.mark.equation("eq-pca-dropped", oracle="independent code: the error measured on the data")
@pytest.mark.equation("eq-pca-error", oracle="another library: numpy's least squares")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(60, 7), (5, 7)], ids=["many data", "fewer data than pixels"])
def test_the_error_of_k_components_is_the_sum_of_the_variances_dropped(method, shape):
    x = table(*shape)
    basis = method(x, min(shape))
    assert basis.error_by_rank[0].item() == pytest.approx(((x - x.mean(0)) ** 2).sum(-1).mean().item())
    assert len(basis.error_by_rank) == len(basis.variances) + 1
    for k in range(1, min(shape) + 1):
        cut = basis.truncated(k)
        assert torch.equal(cut.error_by_rank, basis.error_by_rank), "what was dropped is still known"
        own = (x - cut.mean).numpy()
        z, *_ = np.linalg.lstsq(cut.components.numpy(), own.T, rcond=None)  # the nearest point of the subspace
        nearest = ((own.T - cut.components.numpy() @ z) ** 2).sum(0)
        assert np.allclose(cut.error(x), nearest, atol=1e-9)
        assert basis.error_by_rank[k].item() == pytest.approx(nearest.mean(), abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 6))
def test_no_subspace_through_any_point_loses_less(seed, k):
    x = table()
    U, _ = torch.linalg.qr(torch.randn(7, k, generator=generator(seed), dtype=torch.float64))
    other = pca.PCA(x.mean(0) + 0.1 * torch.randn(7, generator=generator(seed + 1), dtype=torch.float64), U, torch.ones(7))
    assert other.error(x).mean() > pca.eigen(x, k).error(x).mean()


def test_a_numeric_search_over_any_linear_code_finds_no_smaller_error():
    """The encoder and the decoder free, neither orthogonal nor tied."""
    x = table(pixels=3)
    centered = (x - x.mean(0)).numpy()

    def error(weights):
        encoder, decoder = weights.reshape(2, 3, 1)
        return ((centered - centered @ encoder @ decoder.T) ** 2).sum(-1).mean()

    starts = np.random.RandomState(0).randn(3, 6)
    found = min(optimize.minimize(error, start, method="L-BFGS-B").fun for start in starts)
    assert found == pytest.approx(pca.eigen(x, 1).error_by_rank[1].item(), rel=1e-5)


def test_the_basis_is_orthonormal_and_its_codes_are_uncorrelated_but_need_not_be_independent():
    t = torch.linspace(0, 2 * pi, 1001, dtype=torch.float64)[:-1]
    circle = torch.stack([2 * t.cos(), t.sin()], -1)
    basis = pca.svd(circle, 2)
    z = basis.encode(circle)
    assert torch.allclose(basis.components.T @ basis.components, torch.eye(2, dtype=torch.float64))
    assert torch.cov(z.T)[0, 1].abs() < 1e-12
    assert torch.corrcoef((z**2).T)[0, 1] < -0.99, "the square of one code tells that of the other"


@pytest.mark.parametrize("method", METHODS)
def test_a_direction_points_where_its_largest_entry_is_positive_so_that_runs_agree(method):
    x = table()
    U = method(x, 7).components
    assert (U.gather(0, U.abs().argmax(0, keepdim=True)) > 0).all()
    assert torch.allclose(U, method(x.flip(0), 7).components, atol=1e-8)


def test_by_singular_values_small_variances_keep_digits_that_the_covariance_loses():
    x = torch.diag(torch.tensor([1.0, 1e-5])) @ torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    x = torch.cat([x, -x])  # float32: variances 1 and 1e-10
    assert pca.svd(x, 2).variances[1].item() == pytest.approx(1e-10, rel=1e-3)
    assert pca.eigen(x, 2).variances[1].item() != pytest.approx(1e-10, rel=1e-3)


def test_a_random_subspace_holds_the_leading_components_of_large_data(digits):
    exact, near = pca.svd(digits, 8), pca.randomized(digits, 8, generator())
    assert near.error(digits).mean().item() == pytest.approx(exact.error(digits).mean().item(), rel=1e-4)
    cosines = torch.linalg.svdvals(exact.components.T @ near.components)
    assert cosines.min() > 1 - 1e-3
    assert near.error(digits).mean() >= exact.error(digits).mean()


# Failures


def test_a_figure_in_another_unit_becomes_the_first_component():
    x, names = pca.shares(5000, generator())
    assert len(names) == x.shape[1] == 8
    assert torch.allclose(x.var(0), torch.ones(8), atol=0.1)
    assert pca.eigen(x, 1).components[-1, 0] ** 2 < 0.01
    x[:, -1] *= 10
    assert pca.eigen(x, 1).components[-1, 0] ** 2 > 0.99


def test_two_components_hold_most_of_the_companies_and_the_first_is_size():
    basis = pca.eigen(pca.shares(20_000, generator())[0], 2)
    loadings = torch.tensor([[0.95, 0.9, 0.9, 0.9, 0.8, 0.5, 0.3, 0.1], [0.1, 0.3, -0.1, 0.4, 0.0, 0.75, -0.6, -0.3]])
    covariance = loadings.T @ loadings + torch.diag(1 - (loadings**2).sum(0))
    assert torch.allclose(basis.variances[:2], torch.linalg.eigvalsh(covariance).flip(0)[:2], rtol=0.05)
    assert basis.components[:4, 0].min() > 0.35


def test_no_line_fits_a_spiral_though_one_number_tells_its_points():
    x = pca.spiral(2000, noise=0.0, generator=generator())
    assert pca.svd(x, 1).explained[0] < 0.8
    radius = x.norm(dim=-1)  # 0.3 + t / 10
    t = (radius - 0.3) * 10
    assert torch.allclose(x, torch.stack([t.cos(), t.sin()], -1) * radius[:, None], atol=1e-4)


# Probabilistic PCA


@pytest.fixture
def tilted() -> ProbabilisticPCA:
    """Three pixels, one latent: small enough to integrate over the latent."""
    return ProbabilisticPCA(torch.tensor([[1.2], [-0.5], [0.3]]).double(), torch.tensor([0.1, 0.4, -0.2]).double(), 0.3)


def joint(model: ProbabilisticPCA, z: float, x: Tensor) -> float:
    return stats.norm.pdf(z) * stats.norm.pdf(x, model.m + model.W[:, 0] * z, model.c**0.5).prod()


@pytest.mark.equation("eq-pca-evidence", oracle="quadrature over the latent")
@pytest.mark.equation("eq-pca-posterior", oracle="quadrature over the latent")
@pytest.mark.parametrize("x", [[0.0, 0.0, 0.0], [1.5, -1.0, 0.2], [-2.0, 1.0, 1.0]])
def test_evidence_and_posterior_of_probabilistic_pca_are_the_integrals_of_the_joint(tilted, x):
    x = torch.tensor(x).double()
    moments = [integrate.quad(lambda z, r=r: z**r * joint(tilted, z, x), -10, 10, epsabs=1e-13)[0] for r in range(3)]
    assert tilted.evidence(x).item() == pytest.approx(np.log(moments[0]), abs=1e-8)
    posterior, mean = tilted.posterior(x[None]), moments[1] / moments[0]
    M = (tilted.W.T @ tilted.W).item() + tilted.c
    assert posterior.mean.item() == pytest.approx(mean, abs=1e-8)
    assert mean == pytest.approx((tilted.W.T @ (x - tilted.m)).item() / M, abs=1e-8)
    assert moments[2] / moments[0] - mean**2 == pytest.approx(tilted.c / M, abs=1e-8)


@pytest.mark.equation("eq-pca-likeliest", oracle="numeric search over W and c")
def test_no_model_is_likelier_than_the_fit_in_closed_form():
    x = table(40, 3)
    own, identity = (x - x.mean(0)).numpy(), np.eye(3)

    def negative(weights):
        W, c = weights[:3, None], np.exp(weights[3])
        return -stats.multivariate_normal(np.zeros(3), W @ W.T + c * identity).logpdf(own).mean()

    found = optimize.minimize(negative, [1, 1, 1, 0], method="BFGS", options={"gtol": 1e-9}).x
    best = ProbabilisticPCA.fit(x, 1)
    assert best.c == pytest.approx(np.exp(found[3]), rel=1e-4)
    assert np.allclose(best.W @ best.W.T, np.outer(found[:3], found[:3]), atol=1e-3)
    assert best.evidence(x).mean().item() == pytest.approx(-negative(found), abs=1e-8)


@pytest.mark.equation("eq-pca-best-evidence", oracle="another library: scipy's multivariate normal")
@pytest.mark.parametrize("k", [1, 3, 6])
def test_the_greatest_evidence_follows_from_the_eigenvalues_alone(k):
    x = table()
    model, variances = ProbabilisticPCA.fit(x, k), pca.svd(x, 7).variances
    covariance = (model.W @ model.W.T + model.c * torch.eye(7)).numpy()
    measured = stats.multivariate_normal(model.m.numpy(), covariance).logpdf(x.numpy()).mean()
    formula = -0.5 * (7 * np.log(2 * pi) + variances[:k].log().sum() + (7 - k) * np.log(model.c) + 7)
    assert measured == pytest.approx(formula.item(), abs=1e-9)


@pytest.mark.equation("eq-pca-shrinkage", oracle="closed form of the joint Gaussian conditioned on x")
def test_the_posterior_mean_decodes_to_a_projection_with_each_component_shrunk():
    x = table()
    model, basis = ProbabilisticPCA.fit(x, 3), pca.svd(x, 3)
    shrink = 1 - model.c / basis.variances[:3]
    WW, own = (model.W @ model.W.T).numpy(), (x - x.mean(0)).numpy()
    conditioned = own @ np.linalg.solve(WW + model.c * np.eye(7), WW)
    assert np.allclose(conditioned, (basis.encode(x) * shrink) @ basis.components.T, atol=1e-10)
    assert np.allclose(conditioned, model.posterior(x).mean @ model.W.T, atol=1e-10)
    certain = ProbabilisticPCA(basis.components * basis.variances[:3].sqrt(), x.mean(0), 1e-10)
    assert torch.allclose(certain.posterior(x).mean @ certain.W.T + certain.m, basis.reconstruct(x), atol=1e-6)


@pytest.mark.equation("eq-pca-em", oracle="closed form of the maximum")
def test_expectation_maximization_never_lowers_the_evidence_and_ends_at_the_maximum():
    x = table(200, 5)
    start = ProbabilisticPCA(torch.randn(5, 2, generator=generator(1), dtype=torch.float64), x.mean(0), 1.0)
    model, trace = start, []
    for _ in range(400):
        trace.append(model.evidence(x).mean().item())
        model = pca.em_step(model, x)
    best = ProbabilisticPCA.fit(x, 2)
    assert np.diff(trace).min() > -1e-10
    assert trace[-1] == pytest.approx(best.evidence(x).mean().item(), abs=1e-6)
    assert model.c == pytest.approx(best.c, rel=1e-4)
    assert torch.allclose(model.W @ model.W.T, best.W @ best.W.T, atol=1e-3)


@pytest.mark.equation("eq-pca-em", oracle="independent code: NumPy, one data point at a time")
def test_one_step_in_double_precision_is_right_to_its_last_digits_wherever_the_data_are():
    x, c = table(12, 4), 0.7
    W = torch.randn(4, 2, generator=generator(1), dtype=torch.float64)
    with torch.device("meta"):  # where what names no device goes
        new = pca.em_step(ProbabilisticPCA(W, x.mean(0), c), x)
    W, centered = W.numpy(), (x - x.mean(0)).numpy()
    M = np.linalg.inv(c * np.eye(2) + W.T @ W)
    means = [M @ W.T @ row for row in centered]
    squares = [c * M + np.outer(mean, mean) for mean in means]
    W_new = sum(np.outer(row, mean) for row, mean in zip(centered, means, strict=True)) @ np.linalg.inv(sum(squares))
    errors = [
        row @ row - 2 * mean @ W_new.T @ row + np.trace(square @ W_new.T @ W_new)
        for row, mean, square in zip(centered, means, squares, strict=True)
    ]
    assert np.allclose(new.W, W_new, rtol=1e-12, atol=1e-12) and new.c == pytest.approx(sum(errors) / x.numel(), rel=1e-12)


@pytest.mark.equation("eq-pca-em", oracle="numeric search over W and c")
def test_one_step_maximizes_the_expected_log_joint():
    x = table(40, 3)
    old = ProbabilisticPCA(torch.randn(3, 1, generator=generator(1), dtype=torch.float64), x.mean(0), 0.7)
    posterior = old.posterior(x)
    Ez, Vz = posterior.mean.numpy(), posterior.covariance_matrix[..., 0, 0].numpy()
    centered = (x - x.mean(0)).numpy()

    def negative(weights):
        W, log_c = weights[:3], weights[3]
        expected = ((centered - Ez * W) ** 2).sum(1) + Vz * (W**2).sum()
        return (expected / (2 * np.exp(log_c)) + 1.5 * log_c).mean()

    found = optimize.minimize(negative, [1, 1, 1, 0], method="BFGS", options={"gtol": 1e-8}).x
    new = pca.em_step(old, x)
    assert np.allclose(new.W[:, 0], found[:3], atol=1e-5) and new.c == pytest.approx(np.exp(found[3]), rel=1e-5)


def test_the_subspace_of_the_likeliest_model_is_that_of_pca(digits):
    model, basis = ProbabilisticPCA.fit(digits, 5), pca.svd(digits, 5)
    assert torch.linalg.svdvals(torch.linalg.qr(model.W).Q.T @ basis.components).min() > 1 - 1e-10
    assert model.c == pytest.approx(basis.error_by_rank[5].item() / (64 - 5), rel=1e-9)


# Bad input


@pytest.mark.parametrize("method", [*METHODS, pca.randomized])
@pytest.mark.parametrize(
    "x, components, error, message",
    [
        (torch.zeros(5), 1, ValueError, r"data must be rows, at least 2 of them, \(n, pixels\); got shape \(5,\)"),
        (torch.zeros(0, 3), 1, ValueError, r"got shape \(0, 3\)"),
        (torch.zeros(5, 3, dtype=torch.int64), 1, TypeError, "data must be floats, got torch.int64"),
        (torch.zeros(5, 3), 0, ValueError, "components must lie between 1 and 3, .*; got 0"),
        (torch.zeros(2, 3), 3, ValueError, "components must lie between 1 and 2, .*; got 3"),
        (torch.tensor([[0.0, 1.0], [0.0, torch.nan]]), 1, ValueError, "row 1 is the first with NaN or infinity"),
    ],
    ids=["one row", "empty", "integers", "none asked", "too many", "nan"],
)
def test_data_without_principal_components_are_refused(method, x, components, error, message, no_shape_checks):
    with pytest.raises(error, match=message):
        method(x, components)


def test_a_basis_cannot_be_cut_to_more_than_it_has():
    with pytest.raises(ValueError, match="between 1 and 2, got 3"):
        pca.eigen(table(), 2).truncated(3)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_gives_what_the_cpu_gives(method):
    x = table()
    there = method(x.cuda(), 3)
    assert there.components.is_cuda and torch.allclose(there.components.cpu(), method(x, 3).components, atol=1e-8)


# What is not known, and what does not vary


def test_shares_of_a_randomized_basis_are_of_the_whole_variance():
    x = torch.randn(500, 200, generator=generator(), dtype=torch.float64)
    theirs, ours = decomposition.PCA().fit(x.numpy()), pca.randomized(x, 5, generator())
    assert ours.explained[4].item() == pytest.approx(theirs.explained_variance_ratio_[:5].sum(), abs=0.01)
    assert ours.error_by_rank[0].item() == pytest.approx(x.var(0, correction=0).sum().item())
    left = ((x - ours.reconstruct(x)) ** 2).sum(1).mean().item()
    assert ours.error_by_rank[5].item() == pytest.approx(left, rel=0.02) and ours.truncated(2).rest == ours.rest


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1])
def test_constant_data_have_no_shares_of_variance(value):
    with pytest.raises(ValueError, match="constant: they have no variance to explain"):
        _ = pca.svd(torch.full((10, 3), value), 1).explained


def test_arrays_and_half_precision_have_the_components_of_the_same_numbers(no_shape_checks):
    x = torch.randn(30, 4, generator=generator()).half()
    for fit in (pca.eigen, pca.svd, partial(pca.randomized, generator=generator())):
        assert fit(x, 2).components.dtype == torch.float32
    assert torch.equal(pca.svd(x.numpy().astype(np.float32), 2).components, pca.svd(x.float(), 2).components)
    with pytest.raises(TypeError, match="tensor or a NumPy array"):
        pca.svd([[1.0, 2.0]], 1)


def test_from_no_directions_expectation_maximization_finds_none():
    x = torch.randn(30, 4, generator=generator(), dtype=torch.float64) * torch.tensor([3.0, 1, 1, 1])
    model = pca.em_step(ProbabilisticPCA(torch.zeros(4, 1).double(), x.mean(0), 1.0), x)
    assert (model.W == 0).all()
