"""Metrics against closed forms, quadrature, scipy and scikit-learn.

An estimator is held unbiased if its mean lies within 3.9 standard errors of the exact value: a right one fails for one seed
in 10,000, and the seeds are fixed.
"""

from itertools import product
from math import log, pi, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, linalg, special, stats
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from helpers import assert_mean_is, double, generator, needs_cuda
from vaecourse import datasets, metrics
from vaecourse.datasets import stacked_digits
from vaecourse.datasets.densities import GaussianGrid
from vaecourse.distributions import Normal
from vaecourse.exact_models import ConjugateGaussian, ProbabilisticPCA
from vaecourse.metrics import Classifier, Evidence, annealing, distances, features, modes


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def covariance(dim: int, seed: int, rank: int | None = None) -> Tensor:
    factor = randn(dim, rank or dim + 2, seed=seed)
    return factor @ factor.T / factor.shape[1]


# Fréchet distance


@pytest.mark.equation("eq-metrics-frechet", oracle="another library: scipy's root of a matrix")
@pytest.mark.parametrize("dim", [1, 2, 7, 40])
def test_the_frechet_distance_of_gaussians_is_its_formula_with_scipys_root(dim):
    mu_a, mu_b, a, b = randn(dim, seed=1), randn(dim, seed=2), covariance(dim, 3), 4 * covariance(dim, 4)
    root = linalg.sqrtm(a.numpy() @ b.numpy())
    exact = ((mu_a - mu_b) ** 2).sum().item() + np.trace(a.numpy() + b.numpy() - 2 * root.real)
    assert metrics.frechet_gaussians(mu_a, a, mu_b, b) == pytest.approx(exact, rel=1e-9)


@pytest.mark.equation("eq-metrics-frechet", oracle="closed form of the cost of the linear transport map")
@pytest.mark.parametrize("seed", range(3))
def test_the_frechet_distance_is_what_the_best_transport_from_one_gaussian_to_the_other_costs(seed):
    """Between Gaussians the best map is linear, symmetric and positive: no root of a matrix is needed to know its cost."""
    mu, shift, a, T = randn(6, seed=seed), randn(6, seed=seed + 10), covariance(6, seed + 20), covariance(6, seed + 30)
    cost = (shift**2).sum() + ((torch.eye(6) - T) @ a @ (torch.eye(6) - T).T).trace()
    assert metrics.frechet_gaussians(mu, a, mu + shift, T @ a @ T.T) == pytest.approx(cost.item(), rel=1e-9)


@pytest.mark.equation("eq-metrics-frechet", oracle="closed form for covariances that commute")
@settings(deadline=None, max_examples=50)
@given(values=st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_covariances_that_commute_are_compared_by_the_roots_of_their_eigenvalues(values, seed):
    a, b = double(*values).T
    axes = torch.linalg.qr(randn(len(a), len(a), seed=seed)).Q
    zero = torch.zeros(len(a), dtype=torch.float64)
    ours = metrics.frechet_gaussians(zero, axes * a @ axes.T, zero, axes * b @ axes.T)
    assert ours == pytest.approx(((a.sqrt() - b.sqrt()) ** 2).sum().item(), rel=1e-6, abs=1e-5)


def test_singular_covariances_have_a_finite_distance_without_a_complex_root():
    zero, a, b = torch.zeros(30, dtype=torch.float64), covariance(30, 1, rank=4), covariance(30, 2, rank=4)
    eigenvalues = np.linalg.eigvals(a.numpy() @ b.numpy())
    assert np.abs(eigenvalues.imag).max() > 0 or eigenvalues.real.min() < 0  # the product's own root is complex
    # the nuclear norm of the product of the factors, which are known here
    factors = [randn(30, 4, seed=seed).numpy() / 2 for seed in (1, 2)]
    overlap = np.linalg.svd(factors[0].T @ factors[1], compute_uv=False).sum()
    exact = a.trace().item() + b.trace().item() - 2 * overlap
    assert metrics.frechet_gaussians(zero, a, zero, b) == pytest.approx(exact, rel=1e-6)


@pytest.mark.equation("eq-metrics-frechet", oracle="another library: numpy's covariances and scipy's root")
def test_the_frechet_distance_of_samples_is_that_of_their_means_and_covariances():
    a, b = randn(50, 5, seed=1), randn(30, 5, seed=2) @ covariance(5, 3) + 1
    covariances = np.cov(a.numpy().T), np.cov(b.numpy().T)
    exact = ((a.mean(0) - b.mean(0)) ** 2).sum().item()
    exact += np.trace(covariances[0] + covariances[1] - 2 * linalg.sqrtm(covariances[0] @ covariances[1]).real)
    assert metrics.frechet_distance(a, b) == pytest.approx(exact, rel=1e-9)
    assert metrics.frechet_distance(a.float(), b.float()) == pytest.approx(exact, rel=1e-5)


SAMPLES = st.integers(0, 10_000)


@settings(deadline=None, max_examples=30)
@given(seed=SAMPLES, shift=st.floats(-20, 20), scale=st.floats(0.1, 10))
def test_the_frechet_distance_is_symmetric_zero_for_equal_samples_and_moves_with_the_features(seed, shift, scale):
    a, b = randn(20, 4, seed=seed), randn(25, 4, seed=seed + 1) * 2
    d = metrics.frechet_distance(a, b)
    rotation = torch.linalg.qr(randn(4, 4, seed=seed + 2)).Q
    assert d > 0 and metrics.frechet_distance(b, a) == pytest.approx(d, rel=1e-9)
    assert metrics.frechet_distance(a, a[torch.randperm(20, generator=generator(seed))]) == pytest.approx(0, abs=1e-9)
    assert metrics.frechet_distance(a + shift, b + shift) == pytest.approx(d, rel=1e-7)
    assert metrics.frechet_distance(a @ rotation, b @ rotation) == pytest.approx(d, rel=1e-7)
    assert metrics.frechet_distance(scale * a, scale * b) == pytest.approx(scale**2 * d, rel=1e-7)
    moved = d + 4 * shift**2 + 2 * shift * (b.mean(0) - a.mean(0)).sum().item()  # only the means' part changes
    assert metrics.frechet_distance(a, b + shift) == pytest.approx(moved, rel=1e-7, abs=1e-7)


@pytest.mark.equation("eq-metrics-frechet-bias", oracle="simulation: repeated draws")
@pytest.mark.parametrize("n, m, rel", [(1000, 1000, 0.02), (400, 3000, 0.03)])
def test_two_samples_of_one_gaussian_lie_apart_by_a_bias_that_falls_with_their_size(n, m, rel):
    scales = double(3, 2, 1, 1, 0.5)
    repeats = [
        metrics.frechet_distance(randn(n, 5, seed=seed) * scales, randn(m, 5, seed=seed + 5000) * scales) for seed in range(600)
    ]
    predicted = metrics.frechet_bias(torch.diag(scales**2), n, m)
    error = np.std(repeats) / sqrt(600)
    assert abs(np.mean(repeats) - predicted) < 3.9 * error + rel * predicted  # what is left is of second order in 1/n
    assert error < 0.05 * predicted


def test_the_bias_of_a_standard_gaussian_is_2d_over_n_and_d_d_plus_1_over_2_n_minus_1():
    assert metrics.frechet_bias(torch.eye(6).double(), 50, 50) == pytest.approx(12 / 50 + 6 * 7 / 2 / 49)
    assert metrics.frechet_bias(torch.zeros(3, 3).double(), 50, 50) == 0


@pytest.mark.equation("eq-metrics-frechet-bias", oracle="independent code: a loop over pairs of eigenvalues")
@pytest.mark.parametrize("n, m", [(2, 7), (7, 2), (2, 2)])
def test_the_bias_counts_each_pair_of_eigenvalues_however_small_they_and_the_samples_are(n, m):
    values = [0.3, 0.05, 0.002, 0.0]
    axes = torch.linalg.qr(randn(4, 4, seed=1)).Q
    pairs = sum(a * b / (a + b) for a, b in product(values, values) if a + b > 0)
    predicted = sum(values) * (1 / n + 1 / m) + 0.5 * (pairs + 0.5 * sum(values)) * (1 / (n - 1) + 1 / (m - 1))
    assert metrics.frechet_bias(axes * double(*values) @ axes.T, n, m) == pytest.approx(predicted, rel=1e-9)


def test_the_frechet_distance_refuses_what_has_no_covariance(no_shape_checks):
    good = randn(20, 4)
    with pytest.raises(ValueError, match=r"b has 4 rows, and at least 5 are needed: the covariance of 4 features is singular"):
        metrics.frechet_distance(good, good[:4])
    with pytest.raises(ValueError, match="a must be finite; row 7 is the first with NaN or infinity"):
        metrics.frechet_distance(good.index_fill(0, torch.tensor([7]), torch.nan), good)
    with pytest.raises(ValueError, match=r"features of one width; got 4 and 3\. Use one feature network"):
        metrics.frechet_distance(good, good[:, :3])
    with pytest.raises(ValueError, match=r"a must be rows of features, \(n, d\); got shape \(2, 10, 4\)\. Flatten"):
        metrics.frechet_distance(good.reshape(2, 10, 4), good)
    with pytest.raises(ValueError, match=r"a must be rows of features, \(n, d\); got shape \(4,\)\. Flatten"):
        metrics.frechet_distance(good[0], good)
    with pytest.raises(TypeError, match=r"b must be a tensor of floats, one row a sample; got torch\.int64"):
        metrics.frechet_distance(good, good.long())
    with pytest.raises(ValueError, match="covariance_b must have no negative eigenvalues; the least is -1"):
        metrics.frechet_gaussians(good[0], torch.eye(4).double(), good[0], -torch.eye(4).double())
    not_finite, shapes = "must be finite: there is NaN", r"of one dim; got .* covariance_a \(20, 4\)"
    eye = torch.eye(4).double()
    for wrong, said in ((good[:4], "covariance_a must be a symmetric matrix"), (good, shapes), (eye * torch.nan, not_finite)):
        with pytest.raises(ValueError, match=said):
            metrics.frechet_gaussians(good[0], wrong, good[0], torch.eye(4).double())


# Kernel distance


def u_statistic(kernel, a: np.ndarray, b: np.ndarray) -> float:
    """The estimator by its definition, over all pairs of different samples."""
    in_a = [kernel(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j]
    in_b = [kernel(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j]
    return np.mean(in_a) + np.mean(in_b) - 2 * np.mean([kernel(x, y) for x, y in product(a, b)])


@pytest.mark.equation("eq-metrics-mmd", oracle="independent code: a sum over pairs")
@pytest.mark.parametrize("block", [3, 1024])
def test_the_kernel_distance_is_its_sum_over_pairs(block, monkeypatch):
    monkeypatch.setattr(distances, "BLOCK", block)
    a, b = randn(8, 3, seed=1), 0.5 + randn(5, 3, seed=2)

    def gauss(x, y):
        return np.mean([np.exp(-((x - y) ** 2).sum() / (2 * h**2)) for h in (0.5, 2.0)])

    by_pairs = u_statistic(gauss, a.numpy(), b.numpy())
    assert metrics.kernel_distance(a, b, bandwidths=(0.5, 2.0)) == pytest.approx(by_pairs, rel=1e-10)
    cubic = u_statistic(lambda x, y: (x @ y / 3 + 1) ** 3, a.numpy(), b.numpy())
    assert metrics.kernel_distance(a, b) == pytest.approx(cubic, rel=1e-10)


@pytest.mark.equation("eq-metrics-mmd", oracle="another library: scikit-learn's kernels")
def test_the_kernel_distance_agrees_with_scikit_learns_kernels():
    a, b = randn(300, 20, seed=1), 1.2 * randn(200, 20, seed=2)

    def distance(kernel):
        own_a, own_b = kernel(a, a), kernel(b, b)
        return (
            (own_a.sum() - own_a.trace()) / (300 * 299) + (own_b.sum() - own_b.trace()) / (200 * 199) - 2 * kernel(a, b).mean()
        )

    rbf = distance(lambda x, y: rbf_kernel(x.numpy(), y.numpy(), gamma=1 / (2 * 3.0**2)))
    cubic = distance(lambda x, y: polynomial_kernel(x.numpy(), y.numpy(), degree=3, gamma=1 / 20, coef0=1))
    assert metrics.kernel_distance(a, b, bandwidths=[3.0]) == pytest.approx(rbf, rel=1e-9)
    assert metrics.kernel_distance(a, b) == pytest.approx(cubic, rel=1e-9)


@pytest.mark.equation("eq-metrics-mmd", oracle="closed form between Gaussians")
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_kernel_distance_is_unbiased_and_keeping_the_diagonal_is_not(shift):
    h, dim, n = 1.5, 3, 15
    same = (h**2 / (h**2 + 2)) ** (dim / 2)  # E k(x, x') for two draws of N(0, I)
    exact = 2 * same * (1 - np.exp(-dim * shift**2 / (2 * (h**2 + 2))))
    pairs = [(randn(n, dim, seed=seed), shift + randn(n, dim, seed=seed + 9999)) for seed in range(1500)]
    draws = double(*[metrics.kernel_distance(a, b, bandwidths=[h]) for a, b in pairs])
    error = draws.std().item() / sqrt(len(draws))
    assert abs(draws.mean().item() - exact) < 3.9 * error and error < 0.003
    assert (draws < 0).any()
    diagonal = 2 * (1 - same) / n  # what pairs of a sample with itself add to the mean
    assert diagonal > 20 * error


@settings(deadline=None, max_examples=30)
@given(seed=SAMPLES, shift=st.floats(-20, 20))
def test_the_kernel_distance_is_symmetric_and_with_gaussian_kernels_moves_with_the_features(seed, shift):
    a, b = randn(9, 4, seed=seed), randn(7, 4, seed=seed + 1) + 0.5
    for bandwidths in (None, (1.0, 4.0)):
        d = metrics.kernel_distance(a, b, bandwidths=bandwidths)
        assert metrics.kernel_distance(b, a, bandwidths=bandwidths) == pytest.approx(d, rel=1e-8, abs=1e-10)
    assert metrics.kernel_distance(a + shift, b + shift, bandwidths=(1.0, 4.0)) == pytest.approx(d, abs=1e-9)


def test_the_kernel_distance_refuses_bandwidths_and_samples_that_cannot_be(no_shape_checks):
    a = randn(5, 2)
    for bandwidths in ([], [0.0], [1.0, -2.0], [float("nan")]):
        with pytest.raises(ValueError, match="bandwidths must be positive numbers"):
            metrics.kernel_distance(a, a, bandwidths=bandwidths)
    with pytest.raises(ValueError, match="b has 1 rows, and at least 2 are needed for pairs of different samples"):
        metrics.kernel_distance(a, a[:1])


# Modes


@pytest.mark.equation("eq-metrics-on-modes", oracle="independent code: a loop over samples")
@settings(deadline=None, max_examples=20)
@given(seed=SAMPLES, radius=st.floats(0.05, 2.0))
def test_samples_on_a_mode_are_those_within_the_radius_of_their_nearest_center(seed, radius):
    samples, centers = 1.5 * randn(60, 2, seed=seed), randn(5, 2, seed=seed + 1)
    counts = [0] * 5
    for x in samples.numpy():
        gaps = [np.linalg.norm(x - center) for center in centers.numpy()]
        if min(gaps) <= radius:
            counts[int(np.argmin(gaps))] += 1
    found = metrics.on_modes(samples, centers, radius)
    assert found.counts.tolist() == counts and found.share == sum(counts) / 60
    assert found.hit == sum(count > 0 for count in counts)


@pytest.mark.equation("eq-metrics-on-modes", oracle="known case: points on a circle about the center")
def test_a_sample_at_the_radius_itself_is_on_the_mode_and_one_beyond_it_is_not():
    samples, centers = double([3, 4], [-4, 3], [3, 4.001]), double([0, 0], [50, 50])
    found = metrics.on_modes(samples, centers, 5.0)
    assert found.counts.tolist() == [2, 0] and found.share == pytest.approx(2 / 3)


@pytest.mark.equation("eq-metrics-on-modes", oracle="closed form: the Rayleigh distribution")
def test_three_standard_deviations_hold_all_but_1_percent_of_a_grid_of_gaussians():
    grid = GaussianGrid(side=5, spacing=1.0, sigma=0.05)
    share, counts = metrics.on_modes(grid.sample(200_000, generator(1)), grid.centers, 0.15)
    exact = stats.rayleigh.cdf(3)
    assert abs(share - exact) < 3.9 * sqrt(exact * (1 - exact) / 200_000)
    assert len(counts) == 25 and stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_modes_refuse_a_radius_that_is_not_positive_and_empty_samples(no_shape_checks):
    with pytest.raises(ValueError, match="the radius must be positive, got 0"):
        metrics.on_modes(randn(3, 2), randn(4, 2), 0.0)
    with pytest.raises(ValueError, match="samples has 0 rows, and at least 1 are needed"):
        metrics.on_modes(randn(0, 2), randn(4, 2), 0.1)
    with pytest.raises(ValueError, match="centers must be finite"):
        metrics.on_modes(randn(3, 2), randn(4, 2) / 0, 0.1)


@pytest.mark.equation("eq-metrics-class-kl", oracle="another library: scipy's relative entropy")
@settings(deadline=None, max_examples=30)
@given(labels=st.lists(st.integers(0, 6), min_size=1, max_size=50))
def test_the_kl_of_a_histogram_of_classes_to_the_uniform_is_scipys(labels):
    found = metrics.class_modes(torch.tensor(labels), 7)
    assert found.hit == len(set(labels))
    assert found.kl == pytest.approx(stats.entropy(np.bincount(labels, minlength=7), np.full(7, 1 / 7)), abs=1e-12)
    assert -1e-12 <= found.kl <= log(7) + 1e-12


def test_a_perfect_sampler_has_a_kl_of_classes_minus_1_over_2n_and_one_that_drops_modes_log_of_their_share():
    n = 26_000
    uniform = [metrics.class_modes(torch.randint(1000, (n,), generator=generator(seed)), 1000) for seed in range(30)]
    assert np.mean([found.kl for found in uniform]) == pytest.approx(999 / (2 * n), rel=0.05)
    assert all(found.hit == 1000 for found in uniform)
    dropped = metrics.class_modes(torch.arange(1000).repeat(5) % 250, 1000)
    assert dropped.hit == 250 and dropped.kl == pytest.approx(log(4))


def test_labels_out_of_range_or_of_another_kind_are_errors(no_shape_checks):
    with pytest.raises(ValueError, match=r"labels must be 0 \.\.\. 9; they reach from 0 to 10"):
        metrics.class_modes(torch.arange(11), 10)
    with pytest.raises(ValueError, match=r"labels must be 0 \.\.\. 9; they reach from -1 to 3"):
        metrics.class_modes(torch.tensor([-1, 3]), 10)
    with pytest.raises(ValueError, match=r"labels must be integers, \(n,\), at least one; got torch.float32"):
        metrics.class_modes(torch.zeros(3), 10)
    with pytest.raises(ValueError, match="labels must be integers"):
        metrics.class_modes(torch.zeros(0, dtype=torch.int64), 10)


# Neighborhoods


def balls(x: Tensor, k: int) -> np.ndarray:
    """The way of each point to its k-th nearest other, by scikit-learn."""
    neighbors = NearestNeighbors(n_neighbors=k).fit(x.numpy())
    return neighbors.kneighbors()[0][:, -1]  # called without points, it leaves out the point itself


@pytest.mark.equation("eq-metrics-precision-recall", oracle="another library: scikit-learn's neighbors")
@pytest.mark.equation("eq-metrics-density-coverage", oracle="another library: scikit-learn's neighbors")
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("block", [7, 1024])
def test_precision_recall_density_and_coverage_agree_with_scikit_learns_neighbors(k, block, monkeypatch):
    monkeypatch.setattr(modes, "BLOCK", block)
    real, fake = randn(80, 3, seed=1), 0.7 * randn(60, 3, seed=2) + 0.4
    gaps = np.linalg.norm(real.numpy()[:, None] - fake.numpy(), axis=-1)
    on_real, on_fake = gaps <= balls(real, k)[:, None], gaps <= balls(fake, k)
    found = metrics.precision_recall(real, fake, k=k)
    assert found == pytest.approx((on_real.any(0).mean(), on_fake.any(1).mean()))
    cover = metrics.density_coverage(real, fake, k=k)
    assert cover == pytest.approx((on_real.sum(0).mean() / k, on_real.any(1).mean()))


@pytest.mark.equation(
    "eq-metrics-density-coverage", oracle="closed form of their expectations for equal laws, by combinatorics"
)
def test_for_equal_laws_density_is_1_on_average_and_coverage_what_counting_says():
    n, m, k = 40, 30, 3
    draws = [metrics.density_coverage(randn(n, 2, seed=seed), randn(m, 2, seed=seed + 9999), k=k) for seed in range(1500)]
    # no fake is among the k nearest of n - 1 + m others, all orders being equally likely
    coverage = 1 - np.prod([(n - 1 - i) / (n - 1 + m - i) for i in range(k)])
    assert_mean_is(double(*[d.density for d in draws]), 1.0)
    assert_mean_is(double(*[d.coverage for d in draws]), coverage)


def test_a_sample_that_drops_modes_keeps_its_precision_and_loses_recall_and_coverage():
    grid = GaussianGrid()
    real = grid.sample(3000, generator(1)).double()
    other = grid.sample(3000, generator(2)).double()
    dropped = other[other[:, 0] < 0.5]  # three columns of five
    precision, recall = metrics.precision_recall(real, dropped)
    assert precision > 0.9 and recall == pytest.approx(0.6, abs=0.06)
    assert metrics.density_coverage(real, dropped).coverage == pytest.approx(0.6, abs=0.06)
    far = metrics.precision_recall(real, other + 100)
    assert far == (0, 0)
    assert metrics.precision_recall(real, real) == (1, 1)
    noisy = torch.cat([other[:1500], 8 * torch.rand(1500, 2, generator=generator(3), dtype=torch.float64) - 4])
    precision, recall = metrics.precision_recall(real, noisy)
    assert precision < 0.65 and recall > 0.9


def test_an_outlier_among_the_fakes_inflates_recall_but_not_coverage():
    real = randn(200, 2, seed=1)
    fake = torch.cat([0.01 * randn(196, 2, seed=2), 100 * randn(4, 2, seed=3)])
    assert metrics.precision_recall(real, fake).recall > 0.9
    assert metrics.density_coverage(real, fake).coverage < 0.1


@settings(deadline=None, max_examples=20)
@given(seed=SAMPLES, shift=st.floats(-10, 10), scale=st.floats(0.1, 10))
def test_precision_and_recall_change_places_with_the_samples_and_ignore_shift_and_scale(seed, shift, scale):
    real, fake = randn(30, 3, seed=seed), 1.5 * randn(25, 3, seed=seed + 1)
    precision, recall = metrics.precision_recall(real, fake)
    assert metrics.precision_recall(fake, real) == (recall, precision)
    assert metrics.precision_recall(scale * real + shift, scale * fake + shift) == pytest.approx((precision, recall), abs=0.05)


def test_neighborhoods_need_more_points_than_neighbors(no_shape_checks):
    with pytest.raises(ValueError, match="fake has 3 rows, and at least 4 are needed: each point needs k = 3 others"):
        metrics.precision_recall(randn(10, 2), randn(3, 2))
    with pytest.raises(ValueError, match="k, the neighbors, must be at least 1, got 0"):
        metrics.density_coverage(randn(10, 2), randn(10, 2), k=0)


# Own features


@pytest.fixture(scope="module")
def digits() -> datasets.Dataset:
    return datasets.load("digits")


@pytest.fixture(scope="module")
def classifier(digits) -> Classifier:
    return Classifier.fit(digits.train, digits.train_labels, digits.shape, steps=600, device="cpu")


@pytest.mark.slow
def test_the_classifier_tells_digits_apart_and_gives_bounded_features(digits, classifier):
    assert classifier.accuracy(digits.test, digits.test_labels) > 0.95
    assert classifier.accuracy(digits.test, digits.test_labels) == pytest.approx(
        (classifier.predict(digits.test) == digits.test_labels).double().mean().item()
    )
    found = classifier.features(digits.test)
    assert found.shape == (297, 32) and (found.abs() < 1).all() and not found.requires_grad
    assert torch.equal(classifier(digits.test).argmax(1), classifier.predict(digits.test))
    assert [tuple(h.shape[1:]) for h in classifier.layers(digits.test)] == [(16, 4, 4), (32, 2, 2), (32,)]


def test_features_do_not_depend_on_the_batches_they_are_taken_in(digits, classifier, monkeypatch):
    whole = classifier.features(digits.test)
    monkeypatch.setattr(features, "BATCH", 50)
    assert torch.allclose(classifier.features(digits.test), whole, atol=1e-6)
    assert torch.allclose(metrics.extract(lambda x: classifier.layers(x)[-1], digits.test), whole, atol=1e-6)


def test_the_frechet_distance_with_own_features_grows_with_noise_and_with_dropped_classes(digits, classifier):
    real = classifier.features(digits.train)

    def distance(images: Tensor) -> float:
        return metrics.frechet_distance(real, classifier.features(images))

    noise = torch.randn(digits.test.shape, generator=generator(1))
    levels = [distance((digits.test + level * noise).clamp(0, 1)) for level in (0, 0.2, 0.4, 0.8)]
    assert levels == sorted(levels) and levels[-1] > 5 * levels[0]
    assert distance(digits.test[digits.test_labels < 5]) > 5 * levels[0]


def test_a_classifier_of_single_digits_names_each_of_a_thousand_stacks(digits, classifier):
    images, labels = stacked_digits(2000, seed=3, split="test")
    named = classifier.predict_stacked(images)
    assert (named == labels).double().mean() > 0.88  # three digits must all be right
    assert torch.equal(classifier.predict_stacked(digits.test), classifier.predict(digits.test))
    hundreds = torch.stack([classifier.predict(channel) for channel in images.reshape(-1, 3, 64).unbind(1)], 1)
    assert torch.equal(named, hundreds @ torch.tensor([100, 10, 1]))
    assert metrics.class_modes(named, 1000).hit > 800


@pytest.mark.parametrize("shape", [(5, 7), (3, 9, 6), (1, 28, 28)])
def test_a_classifier_takes_images_of_any_sides_and_channels(shape):
    x = torch.rand(4, int(np.prod(shape)), generator=generator(1))
    model = Classifier(shape, 3, features=11)
    assert model(x).shape == (4, 3) and model.features(x).shape == (4, 11)
    loss = model.loss((x, torch.tensor([0, 1, 2, 0])))
    assert loss["loss"].item() == pytest.approx(-model(x).log_softmax(-1)[range(4), [0, 1, 2, 0]].mean().item(), rel=1e-5)
    assert 0 <= loss["accuracy"] <= 1


def test_a_classifiers_seed_sets_its_weights_and_touches_no_other_randomness(digits):
    state = torch.random.get_rng_state()
    heads = [Classifier((8, 8), 10, seed=seed).head.weight for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    trained = [Classifier.fit(digits.train, digits.train_labels, (8, 8), steps=3, device="cpu") for _ in range(2)]
    assert torch.equal(trained[0].head.weight, trained[1].head.weight)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_classifier_refuses_images_shapes_and_labels_that_cannot_be(no_shape_checks):
    model = Classifier((8, 8), 10)
    with pytest.raises(ValueError, match=r"images must be rows, \(n, 64\), for images \(1, 8, 8\); got \(2, 8, 8\)"):
        model(torch.zeros(2, 8, 8))
    with pytest.raises(ValueError, match="a multiple of 64 pixels; got shape"):
        model.predict_stacked(torch.zeros(2, 100))
    with pytest.raises(ValueError, match="there are no images to take features of"):
        model.features(torch.zeros(0, 64))
    with pytest.raises(ValueError, match=r"shape must be \(height, width\) or \(channels, height, width\), got \(64,\)"):
        Classifier((64,), 10)
    with pytest.raises(ValueError, match="at least 2 classes and 1 feature, got 1 and 32"):
        Classifier((8, 8), 1)
    with pytest.raises(ValueError, match=r"labels must be 0, 1, \.\.\., one an image"):
        Classifier.fit(torch.zeros(3, 64), torch.tensor([0, -1, 1]), (8, 8))


# Perceptual distance


@pytest.mark.equation("eq-metrics-perceptual", oracle="independent code: a loop over layers and positions in numpy")
def test_the_perceptual_distance_is_its_sum_over_layers_of_means_over_positions(digits, classifier):
    a, b = digits.test[:5], digits.test[5:10]
    expected = np.zeros(5)
    for in_a, in_b in zip(classifier.layers(a), classifier.layers(b), strict=True):
        in_a, in_b = (h.detach().numpy().reshape(*h.shape[:2], -1) for h in (in_a, in_b))
        for image, position in product(range(5), range(in_a.shape[-1])):
            u, v = in_a[image, :, position], in_b[image, :, position]
            u, v = (w / np.linalg.norm(w) if w.any() else w for w in (u, v))
            expected[image] += ((u - v) ** 2).sum() / in_a.shape[-1]
    found = metrics.perceptual_distance(classifier.layers, a, b)
    assert np.allclose(found.detach(), expected, rtol=1e-4)


def test_the_perceptual_distance_is_symmetric_zero_for_equal_images_and_ignores_a_layers_scale(digits, classifier):
    a, b = digits.test[:6], digits.test[6:12]
    found = metrics.perceptual_distance(classifier.layers, a, b)
    assert found.shape == (6,) and (found > 0).all()
    assert torch.allclose(metrics.perceptual_distance(classifier.layers, b, a), found)
    assert torch.equal(metrics.perceptual_distance(classifier.layers, a, a), torch.zeros(6))
    doubled = metrics.perceptual_distance(lambda x: [7 * h for h in classifier.layers(x)], a, b)
    assert torch.allclose(doubled, found, rtol=1e-4)


def test_the_perceptual_distance_refuses_images_that_are_no_pairs(digits, classifier, no_shape_checks):
    with pytest.raises(ValueError, match=r"compared in pairs, so both need one shape; got \(6, 64\) and \(5, 64\)"):
        metrics.perceptual_distance(classifier.layers, digits.test[:6], digits.test[:5])


def test_the_perceptual_distance_grows_with_noise_is_larger_between_classes_and_has_a_gradient(digits, classifier):
    x, noise = digits.test, torch.randn(digits.test.shape, generator=generator(1))

    def mean(a: Tensor, b: Tensor) -> float:
        return metrics.perceptual_distance(classifier.layers, a, b).mean().item()

    levels = [mean(x, x + level * noise) for level in (0.05, 0.1, 0.2, 0.4)]
    assert levels == sorted(levels)
    ones, twos = x[digits.test_labels == 1][:20], x[digits.test_labels == 2][:20]
    assert mean(ones, twos) > 1.5 * mean(ones[:10], ones[10:20])
    moving = x[:3].clone().requires_grad_()
    metrics.perceptual_distance(classifier.layers, moving, x[3:6]).sum().backward()
    assert (moving.grad.abs().sum(1) > 0).all()


# Annealed importance sampling


class Square:
    """x | z ~ N(z^2, 1), z ~ N(0, 1), for one x: a posterior of two modes, its evidence by quadrature."""

    def __init__(self, x: float):
        self.x = x

    def log_joint(self, z: Tensor) -> Tensor:
        return (-0.5 * z**2 - 0.5 * (self.x - z**2) ** 2 - log(2 * pi)).sum(-1)

    @property
    def evidence(self) -> float:
        def joint(z: float) -> float:
            return stats.norm.pdf(z) * stats.norm.pdf(self.x, z**2, 1)

        return log(integrate.quad(joint, -9, 9, points=[-2, 0, 2], epsabs=1e-13, limit=200)[0])


def normals(n: int, latents: int, mu: float = 0.0, sigma: float = 1.0) -> Normal:
    return Normal(torch.full((n, latents), mu).double(), torch.full((n, latents), log(sigma)).double())


class Linear:
    """Probabilistic PCA as a model with a prior, a decoder and the best diagonal encoder."""

    def __init__(self, pixels: int = 6, latents: int = 2, c: float = 0.1, seed: int = 1):
        self.exact = ProbabilisticPCA(randn(pixels, latents, seed=seed), randn(pixels, seed=seed + 1), c)
        self.latents = latents
        self.encode = self.exact.best_diagonal

    def prior(self, n: int) -> Normal:
        return normals(n, self.latents)

    def decode(self, z: Tensor) -> Normal:
        return self.exact.likelihood(z)

    def simulate(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """Codes and their images, drawn from the model."""
        z = randn(n, self.latents, seed=seed)
        return z, self.decode(z).sample(generator(seed + 1))

    def log_joint(self, x: Tensor):
        return lambda z: self.decode(z).log_prob(x) + normals(1, self.latents).log_prob(z)


@pytest.mark.equation("eq-metrics-ais", oracle="quadrature")
@pytest.mark.parametrize("temperatures", [1, 2, 4, 12])
def test_the_weights_of_annealed_chains_have_the_evidence_as_their_mean_at_any_number_of_temperatures(temperatures):
    world = Square(3.0)
    found = metrics.ais(
        world.log_joint, normals(1, 1, 0.5, 1.3), chains=20_000, temperatures=temperatures, generator=generator(1)
    )
    assert_mean_is((found.log_weights - world.evidence).exp(), 1.0)


@pytest.mark.equation("eq-metrics-ais", oracle="closed form of a linear model's evidence")
@pytest.mark.slow
def test_more_temperatures_bring_the_weights_together_and_the_estimate_to_the_evidence():
    model = Linear()
    _, x = model.simulate(30, seed=5)
    exact, spreads = model.exact.evidence(x), []
    for temperatures in (1, 10, 120):
        found = metrics.model_evidence(model, x, chains=64, temperatures=temperatures, generator=generator(1))
        spreads.append(found.log_weights.std(0).mean().item())
    assert spreads == sorted(spreads, reverse=True) and spreads[-1] < 1 < 10 < spreads[0]
    assert (found.ess > 10).all() and ((found.acceptance - 0.65).abs() < 0.1).all()
    assert ((found.value - exact).abs() < 4.5 * found.error).all()
    assert (found.value - exact).square().mean().sqrt() == pytest.approx(found.error.mean().item(), rel=0.4)
    other = ConjugateGaussian(0.05)  # another model, whose evidence has a shorter formula
    x = randn(20, 3, seed=1)
    prior = normals(20, 3)
    found = metrics.ais(
        lambda z: other.likelihood(z).log_prob(x) + prior.log_prob(z), prior, temperatures=80, generator=generator(2)
    )
    assert ((found.value - other.evidence(x)).abs() < 4.5 * found.error).all() and found.error.max() < 0.7


@pytest.mark.equation("eq-metrics-ais", oracle="independent code: numpy, under the same noise")
def test_with_one_temperature_the_estimate_is_the_importance_weighted_bound():
    model = Linear()
    _, x = model.simulate(4, seed=5)
    found = metrics.model_evidence(model, x, start=model.encode, chains=7, temperatures=1, generator=generator(3))
    noise = generator(3)
    torch.randn(annealing.PILOT, 4, 2, generator=noise, dtype=torch.float64)  # the pilot's
    q = model.encode(x)
    z = q.mu + q.log_sigma.exp() * torch.randn(7, 4, 2, generator=noise, dtype=torch.float64)
    log_q = stats.norm.logpdf(z, q.mu, q.log_sigma.exp()).sum(-1)
    mean = z.numpy() @ model.exact.W.numpy().T + model.exact.m.numpy()
    log_w = stats.norm.logpdf(x, mean, sqrt(0.1)).sum(-1) + stats.norm.logpdf(z).sum(-1) - log_q
    assert np.allclose(found.log_weights, log_w, atol=1e-9)
    assert np.allclose(found.value, np.log(np.exp(log_w).mean(0)), atol=1e-9)


def test_a_short_annealing_underestimates_on_average_and_hardly_ever_overestimates_by_much():
    model = Linear()
    _, x = model.simulate(1, seed=5)
    x = x.expand(2000, -1)
    found = metrics.model_evidence(model, x, chains=4, temperatures=10, generator=generator(1))
    excess = found.value - model.exact.evidence(x)
    assert excess.mean() < -3.9 * excess.std() / sqrt(2000)
    for nats in (0.5, 1.0, 2.0):  # Markov's inequality, with room for the share's own error
        assert (excess > nats).double().mean() < np.exp(-nats) + 3.9 * sqrt(np.exp(-nats) / 2000)


@pytest.mark.equation("eq-metrics-ais-error", oracle="simulation: the spread of repeated runs")
@pytest.mark.slow
def test_the_error_bar_is_the_spread_of_repeated_runs():
    model = Linear()
    _, x = model.simulate(1, seed=7)
    found = metrics.model_evidence(model, x.expand(500, -1), chains=24, temperatures=30, generator=generator(1))
    assert found.error.square().mean().sqrt() == pytest.approx(found.value.std().item(), rel=0.15)


@pytest.mark.equation("eq-metrics-ais-error", oracle="independent code: numpy")
@pytest.mark.equation("eq-metrics-ess", oracle="independent code: numpy")
@settings(deadline=None, max_examples=30)
@given(log_w=st.lists(st.floats(-30, 30), min_size=2, max_size=20), shift=st.floats(-2000, 2000))
def test_value_error_and_sample_size_are_those_of_the_weights_whatever_their_scale(log_w, shift):
    found = Evidence(double(*log_w)[:, None] + shift, double(0.6))
    w = np.exp(np.array(log_w) - max(log_w))
    assert found.value.item() == pytest.approx(np.log(w.mean()) + max(log_w) + shift, abs=1e-8)
    assert found.ess.item() == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-6)
    assert found.error.item() == pytest.approx(w.std(ddof=1) / sqrt(len(w)) / w.mean(), rel=1e-5, abs=1e-7)
    assert 1 - 1e-9 <= found.ess.item() <= len(w) + 1e-9


def test_one_chain_has_a_value_and_no_error_bar():
    found = metrics.ais(Square(1.0).log_joint, normals(1, 1), chains=1, temperatures=3, generator=generator(1))
    assert found.value.isfinite().all() and found.error.isnan().all() and found.ess.item() == pytest.approx(1)


@pytest.mark.slow
def test_chains_that_all_start_in_one_of_two_modes_miss_half_of_the_evidence_and_their_error_bar_does_not_say_so():
    world, settings_ = Square(16.0), {"chains": 64, "temperatures": 60}
    narrow = metrics.ais(world.log_joint, normals(1, 1, 4.0, 0.15), **settings_, generator=generator(1))
    wide = metrics.ais(world.log_joint, normals(1, 1, 0.0, 3.0), **settings_, generator=generator(1))
    assert narrow.value.item() == pytest.approx(world.evidence - log(2), abs=0.1) and narrow.error.item() < 0.03
    assert abs(wide.value.item() - world.evidence) < 4.5 * wide.error.item() and wide.error.item() < 0.3


@pytest.mark.equation("eq-metrics-bdmc", oracle="closed form of a linear model's evidence")
@pytest.mark.slow
def test_annealing_there_and_back_holds_the_evidence_between_its_two_estimates():
    model, gaps = Linear(latents=3, c=0.05), []
    z, x = model.simulate(200, seed=5)
    exact = model.exact.evidence(x)
    for temperatures in (15, 60):
        found = metrics.bdmc(
            model.log_joint(x), model.prior(200), z, chains=8, temperatures=temperatures, generator=generator(1)
        )
        below, above = exact - found.lower, found.upper - exact
        assert below.mean() > -3.9 * below.std() / sqrt(200) and above.mean() > 3.9 * above.std() / sqrt(200)
        gaps.append((found.upper - found.lower).mean().item())
    assert 0 < gaps[1] < 0.3 * gaps[0]


@pytest.mark.equation("eq-metrics-bdmc", oracle="closed form of a linear model's evidence and posterior")
@pytest.mark.parametrize("temperatures", [1, 3, 10])
@pytest.mark.slow
def test_weights_of_chains_from_the_posterior_back_have_one_over_the_evidence_as_their_mean(temperatures):
    model = Linear(c=1.0)
    _, x = model.simulate(1, seed=5)
    posterior = model.exact.posterior(x)
    z = posterior.mean + randn(5000, 2, seed=3) @ torch.linalg.cholesky(posterior.covariance_matrix)[0].T
    # started at a narrower law than the posterior, whose weights back have a variance
    start = Normal(posterior.mean.expand(5000, 2), torch.full((5000, 2), log(0.3)).double())
    found = metrics.bdmc(model.log_joint(x), start, z, chains=1, temperatures=temperatures, generator=generator(1))
    assert_mean_is((found.reverse.log_weights + model.exact.evidence(x)).exp(), 1.0)


@pytest.mark.equation("eq-metrics-ais-schedule", oracle="another library: scipy's sigmoid")
@pytest.mark.parametrize("temperatures", [1, 2, 9, 100])
def test_inverse_temperatures_rise_from_0_to_1_with_small_steps_at_both_ends(temperatures):
    betas = annealing.schedule(temperatures).numpy()
    sigmoid = special.expit(np.linspace(-4, 4, temperatures + 1))
    assert np.allclose(betas, (sigmoid - sigmoid.min()) / np.ptp(sigmoid), atol=1e-14)
    assert betas[0] == 0 and betas[-1] == 1 and (np.diff(betas) > 0).all()
    assert np.allclose(betas, 1 - betas[::-1])


@pytest.mark.slow
def test_the_evidence_of_many_images_comes_in_batches_bounded_by_the_codes_decoded_at_once():
    model, most = Linear(), []

    class Counted(Linear):
        def decode(self, z: Tensor) -> Normal:
            most.append(z.shape[:-1].numel())
            return super().decode(z)

    _, x = model.simulate(25, seed=5)
    found = metrics.model_evidence(Counted(), x, chains=16, temperatures=30, decodes=160, generator=generator(1))
    assert max(most) == 160 and found.log_weights.shape == (16, 25) and found.acceptance.shape == (25,)
    assert ((found.value - model.exact.evidence(x)).abs() < 4.5 * found.error + 0.5).all()
    from_encoder = metrics.model_evidence(model, x, start=model.encode, temperatures=30, generator=generator(1))
    assert from_encoder.error.mean() < 0.5 * found.error.mean()
    assert ((from_encoder.value - model.exact.evidence(x)).abs() < 4.5 * from_encoder.error).all()


def annealed(seed: int, z: Tensor | None = None) -> Evidence:
    """One way, or back from z."""
    settings_ = {"chains": 4, "temperatures": 5, "generator": generator(seed)}
    if z is None:
        return metrics.ais(Square(2.0).log_joint, normals(1, 1), **settings_)
    return metrics.bdmc(Square(2.0).log_joint, normals(1, 1), z, **settings_).reverse


@pytest.mark.parametrize("z", [None, double([1.3])], ids=["there", "back"])
def test_what_is_annealed_depends_on_the_generator_alone(z):
    state = torch.random.get_rng_state()
    first, again, other = (annealed(seed, z).log_weights for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_chains_there_and_back_take_at_each_temperature_the_step_that_others_found_for_it(monkeypatch):
    """Else the steps would depend on the chains that count, whose weights would not be unbiased."""
    taken, hmc_step = [], annealing.hmc_step

    def noted(potential, state, step, noise, leaps):
        taken.append((len(state.z), step.flatten()[:3].tolist()))
        return hmc_step(potential, state, step, noise, leaps=leaps)

    monkeypatch.setattr(annealing, "hmc_step", noted)
    metrics.bdmc(Square(2.0).log_joint, normals(3, 1), randn(3, 1), generator(1), chains=5, temperatures=4)
    rows, steps = zip(*taken, strict=True)
    assert rows == (3 * annealing.PILOT,) * 3 + (3 * 5,) * 6
    assert steps[3:6] == steps[:3] and steps[6:] == steps[2::-1] and len(set(map(tuple, steps))) == 3


def test_parameters_of_a_model_get_no_gradient_from_its_evidence():
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    found = metrics.ais(
        lambda z: (-0.5 * weight * z**2).sum(-1), normals(2, 3), chains=2, temperatures=4, generator=generator(1)
    )
    assert weight.grad is None and not found.value.requires_grad


@pytest.mark.slow
def test_annealing_refuses_a_start_a_joint_or_numbers_that_cannot_be(no_shape_checks):
    world, start = Square(1.0), normals(3, 2)
    with pytest.raises(ValueError, match=r"start must be a Normal over \(batch, latents\), one a data point; got \(2,\)"):
        metrics.ais(world.log_joint, Normal(torch.zeros(2), torch.zeros(2)))
    with pytest.raises(ValueError, match=r"one number a chain and data point, \(8, 3\); got \(8, 3, 2\)"):
        metrics.ais(lambda z: -(z**2), start)
    with pytest.raises(ValueError, match="not finite at a draw from start, for data point 1: look for NaN"):
        metrics.ais(lambda z: -(z**2).sum(-1) / double(1.0, 0.0, 1.0), start)
    with pytest.raises(ArithmeticError, match="annealing met a point where log p"):
        metrics.ais(lambda z: torch.where(z > 1.5, torch.inf, -0.02 * z**2).sum(-1), normals(3, 1, 0.0, 0.3), generator())
    with pytest.raises(ValueError, match="at least 1 temperature, got 0"):
        metrics.ais(world.log_joint, start, temperatures=0)
    with pytest.raises(ValueError, match="at least 1 chain, got 0"):
        metrics.ais(world.log_joint, start, chains=0)
    with pytest.raises(ValueError, match=r"z must hold one code a data point, \(3, 2\); got \(3, 1\)"):
        metrics.bdmc(world.log_joint, start, torch.zeros(3, 1))
    with pytest.raises(ValueError, match="at least 1 of each; got 0, 16 and 20000"):
        metrics.model_evidence(Linear(), torch.zeros(0, 6))


# Devices


@needs_cuda
@pytest.mark.gpu
def test_distances_and_neighborhoods_on_a_gpu_are_those_on_the_cpu():
    a, b = randn(300, 8, seed=1), 1.3 * randn(200, 8, seed=2)
    for metric in (metrics.frechet_distance, metrics.kernel_distance, metrics.precision_recall, metrics.density_coverage):
        assert metric(a.cuda(), b.cuda()) == pytest.approx(metric(a, b), rel=1e-8)
        assert metric(a.cuda(), b) == pytest.approx(metric(a, b), rel=1e-8)


@needs_cuda
@pytest.mark.gpu
def test_a_classifier_on_a_gpu_takes_images_from_the_cpu(digits, classifier):
    found, distance = (
        classifier.features(digits.test),
        metrics.perceptual_distance(classifier.layers, digits.test[:5], digits.test[5:10]),
    )
    other = Classifier(digits.shape, 10).cuda()
    other.load_state_dict(classifier.state_dict())
    assert torch.allclose(other.features(digits.test).cpu(), found, atol=1e-3)
    there = metrics.perceptual_distance(other.layers, digits.test[:5], digits.test[5:10])
    assert torch.allclose(there.cpu(), distance, rtol=1e-2)
    assert other.accuracy(digits.test, digits.test_labels) > 0.95


@needs_cuda
@pytest.mark.gpu
def test_annealing_on_a_gpu_finds_the_evidence():
    c, x = 0.05, 2 * randn(20, 3, seed=1)
    prior = Normal(torch.zeros(20, 3).double().cuda(), torch.zeros(20, 3).double().cuda())
    model = ConjugateGaussian(c)
    there = x.cuda()
    for noise in (generator(2), torch.Generator("cuda").manual_seed(2)):
        found = metrics.ais(lambda z: model.likelihood(z).log_prob(there) + prior.log_prob(z), prior, noise)
        assert ((found.value.cpu() - model.evidence(x)).abs() < 4.5 * found.error.cpu()).all()


def test_a_distance_of_what_is_not_finite_is_an_error_and_not_the_best_there_is(no_shape_checks):
    zero, eye = torch.zeros(2), torch.eye(2)
    for wrong in ((zero + torch.nan, eye, zero, eye), (zero, eye, zero, eye * torch.inf), (zero, eye + torch.nan, zero, eye)):
        with pytest.raises(ValueError, match="must be finite: there is NaN or infinity in what the features gave"):
            metrics.frechet_gaussians(*wrong)
    with pytest.raises(ValueError, match=r"mu_b \(3,\)"):
        metrics.frechet_gaussians(zero, eye, torch.zeros(3), eye)
    assert metrics.frechet_gaussians(np.ones(2), np.eye(2), zero, eye) == pytest.approx(2)
    with pytest.raises(TypeError, match="mu_b must be a tensor or a NumPy array of numbers, got list"):
        metrics.frechet_gaussians(zero, eye, [0.0, 0.0], eye)
    with pytest.raises(ValueError, match="at least 2 draws"):
        metrics.frechet_bias(eye, 1, 5)
