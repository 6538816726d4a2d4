"""The data made here: densities against quadrature, sprites against geometry, textures against their spectra and dimension."""

import colorsys
from math import pi

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from sklearn.datasets import make_moons, make_swiss_roll
from sklearn.neighbors import NearestNeighbors

from helpers import needs_cuda
from vaecourse import datasets
from vaecourse.datasets import draw_sprites, intrinsic_dimension, sprites, stacked_digits, textures
from vaecourse.datasets.densities import GaussianGrid, Rings, TwoMoons


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Densities in the plane

DENSITIES = [
    GaussianGrid(),
    GaussianGrid(side=2, spacing=0.5, sigma=0.3),
    Rings(),
    Rings(radii=(0.0, 1.5), sigma=0.2),
    TwoMoons(),
    TwoMoons(sigma=0.05),
]


def plane() -> tuple[torch.Tensor, float]:
    """Points of a square of half-width 4.5, in double precision, and the area that each stands for."""
    axis = torch.arange(-4.5, 4.5, 0.03, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis), 0.03**2


@pytest.mark.parametrize("density", DENSITIES, ids=str)
@pytest.mark.slow
def test_a_density_integrates_to_one_and_its_samples_have_its_entropy(density):
    points, area = plane()
    log_p = torch.cat([density.log_prob(part) for part in points.split(50_000)])
    assert (log_p.exp().sum() * area).item() == pytest.approx(1, abs=1e-6)
    entropy = -(log_p.exp() * log_p).sum().item() * area
    surprise = -density.log_prob(density.sample(20_000, seeded()).double())
    # Within five standard errors: a false alarm once in 1.7 million.
    assert surprise.mean().item() == pytest.approx(entropy, abs=5 * surprise.std().item() / 20_000**0.5)


def test_the_grid_is_pytorchs_mixture_of_gaussians():
    grid = GaussianGrid(side=3, spacing=0.7, sigma=0.2)
    assert grid.centers.tolist() == pytest.approx(np.array([[i, j] for i in (-0.7, 0, 0.7) for j in (-0.7, 0, 0.7)]))
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(9)),
        torch.distributions.Independent(torch.distributions.Normal(grid.centers.double(), 0.2), 1),
    )
    x = torch.randn(500, 2, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(grid.log_prob(x), mixture.log_prob(x), atol=1e-6, rtol=0)


def test_the_default_grid_has_25_modes_at_spacing_1_and_all_are_drawn_evenly():
    grid = GaussianGrid()
    x = grid.sample(25_000, seeded())
    distance, mode = torch.cdist(x, grid.centers).min(1)
    assert grid.centers.shape == (25, 2) and grid.centers[12].tolist() == [0, 0]
    # Within .15 of its mode is within three standard deviations: in the plane 1 - exp(-9 / 2) = .98889 of the points.
    assert (distance < 0.15).double().mean().item() == pytest.approx(0.98889, abs=0.0034)
    assert stats.chisquare(mode.bincount(minlength=25).numpy()).pvalue > 1e-6


@pytest.mark.parametrize("x", [(0.0, 0.0), (1.1, 0.2), (-2.0, 2.0), (0.3, -3.4)])
def test_a_ring_is_its_circle_averaged_over_the_angle(x):
    def gaussian(t, r):
        return stats.multivariate_normal([r * np.cos(t), r * np.sin(t)], 0.1**2).pdf(x)

    middle = np.arctan2(x[1], x[0])
    exact = sum(quad(gaussian, middle - pi, middle + pi, (r,), points=[middle], limit=200)[0] for r in (1, 2, 3)) / (2 * pi * 3)
    ours = Rings(radii=(1.0, 2.0, 3.0), sigma=0.1).log_prob(torch.tensor(x, dtype=torch.float64)).exp().item()
    assert ours == pytest.approx(exact, rel=1e-6, abs=1e-25)


def test_the_distances_of_a_rings_points_are_rices():
    distance = Rings(radii=(1.5,), sigma=0.2).sample(5000, seeded()).norm(dim=1)
    assert stats.kstest(distance.numpy(), stats.rice(1.5 / 0.2, scale=0.2).cdf).pvalue > 1e-6


@pytest.mark.parametrize("x", [(0.0, 1.0), (1.0, 0.0), (0.5, 0.25), (2.1, 0.6), (-1.0, -0.2), (1.0, -2.0)])
def test_the_moons_are_their_arcs_averaged_over_the_angle(x):
    def gaussian(t):
        upper = stats.multivariate_normal([np.cos(t), np.sin(t)], 0.1**2).pdf(x)
        return upper + stats.multivariate_normal([1 - np.cos(t), 0.5 - np.sin(t)], 0.1**2).pdf(x)

    exact = quad(gaussian, 0, pi, points=np.linspace(0.2, 3, 15), limit=400, epsrel=1e-10)[0] / (2 * pi)
    ours = TwoMoons().log_prob(torch.tensor(x, dtype=torch.float64)).exp().item()
    assert ours == pytest.approx(exact, rel=1e-8)


def test_the_moons_are_those_of_scikit_learn():
    theirs = torch.from_numpy(make_moons(20_000, noise=0.1, random_state=0)[0])
    log_p, own = TwoMoons().log_prob(theirs), TwoMoons().log_prob(TwoMoons().sample(20_000, seeded()).double())
    error = ((log_p.var() + own.var()) / 20_000).sqrt().item()
    assert log_p.mean().item() == pytest.approx(own.mean().item(), abs=5 * error)
    own_points = TwoMoons().sample(20_000, seeded()).double()
    assert (theirs.mean(0) - own_points.mean(0)).abs().max() < 5 * (2 * theirs.var(0).max() / 20_000).sqrt()


@pytest.mark.parametrize("density", DENSITIES, ids=str)
def test_the_slope_of_a_log_density_is_right_for_langevin_dynamics(density):
    x = density.sample(6, seeded()).double().requires_grad_()
    assert torch.autograd.gradcheck(density.log_prob, x)


@pytest.mark.parametrize("density", DENSITIES, ids=str)
def test_a_log_density_is_finite_far_away_and_agrees_in_single_precision(density):
    far = torch.tensor([[9.0, -9.0], [0.0, 0.0], [-3.0, 8.0]], requires_grad=True)
    log_p = density.log_prob(far)
    log_p.sum().backward()
    assert log_p.isfinite().all() and far.grad.isfinite().all()
    torch.testing.assert_close(log_p.detach().double(), density.log_prob(far.detach().double()), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("density", DENSITIES, ids=str)
def test_samples_repeat_with_their_seed_and_leave_the_global_stream_alone(density):
    before = torch.get_rng_state()
    first, again, other = (density.sample(5, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other) and first.shape == (5, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_bad_densities_and_points_are_refused(no_shape_checks):
    for make, problem in [
        (lambda: GaussianGrid(side=0), "must be positive, got 0, 1.0 and 0.05"),
        (lambda: GaussianGrid(sigma=-1), "must be positive"),
        (lambda: Rings(radii=()), "radii must be nonnegative"),
        (lambda: Rings(radii=(-1.0,)), "radii must be nonnegative"),
        (lambda: TwoMoons(sigma=0.0), "sigma must be at least .005"),
        (lambda: TwoMoons(sigma=float("nan")), "sigma must be at least .005"),
        (lambda: Rings().sample(0), "at least one point"),
    ]:
        with pytest.raises(ValueError, match=problem):
            make()
    for density in (GaussianGrid(), Rings(), TwoMoons()):
        with pytest.raises(ValueError, match=r"shape \(\.\.\., 2\); got \(4, 3\)"):
            density.log_prob(torch.zeros(4, 3))


@needs_cuda
@pytest.mark.gpu
@pytest.mark.parametrize("density", DENSITIES, ids=str)
def test_a_log_density_is_the_same_on_a_gpu_and_copies_nothing(density):
    x = density.sample(1000, seeded()).double()
    there = x.cuda()
    density.log_prob(there)  # quadrature's nodes are placed once
    torch.cuda.set_sync_debug_mode("error")
    try:
        log_p = density.log_prob(there)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(log_p.cpu(), density.log_prob(x))


# Sprites


def covered(kind: int, scale: float, angle: float, x: float, y: float, size: int, fine: int = 16) -> torch.Tensor:
    """The share of each pixel that is inside the figure, by counting 16 x 16 points in it."""
    axis = (torch.arange(size * fine, dtype=torch.float64) + 0.5) / (size * fine)
    down, across = torch.meshgrid(axis - y, axis - x, indexing="ij")
    radius = scale / 4
    turned = torch.complex(across, down) * np.exp(-1j * angle) / radius  # in the figure's own frame, its rim at 1
    u, v = turned.real, turned.imag
    if kind == 0:
        inside = (u.abs() < 0.5**0.5) & (v.abs() < 0.5**0.5)
    elif kind == 1:
        inside = u**2 + 4 * v**2 < 1
    else:
        side = 1.5 * 2**0.5 - 1
        corner = torch.complex(torch.zeros_like(u), torch.ones_like(u))  # the lowest point
        p = (turned - corner) * np.exp(1j * pi / 4) / side  # the square is 0 < Re p < 1 and -1 < Im p < 0
        square = (p.real > 0) & (p.real < 1) & (p.imag < 0) & (p.imag > -1)
        inside = square | ((p - (1 - 0.5j)).abs() < 0.5) | ((p - (0.5 - 1j)).abs() < 0.5)
    return inside.double().reshape(size, fine, size, fine).mean((1, 3))


def draw(kind: int, scale: float, angle: float, x: float, y: float, size: int = 32) -> torch.Tensor:
    values = (torch.tensor([value], dtype=torch.float64) for value in (scale, angle, x, y))
    return draw_sprites(torch.tensor([kind]), *values, size=size).reshape(size, size)


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("angle", [0.0, 0.3, 1.2])
def test_a_pixel_is_the_share_that_the_figure_covers(kind, angle):
    ours, exact = draw(kind, 0.8, angle, 0.47, 0.56), covered(kind, 0.8, angle, 0.47, 0.56, 32)
    # Along an edge the distance tells the share within a few hundredths; the pixel at a figure's corner is up to .25 off.
    assert (ours - exact).abs().max() < 0.25 and (ours - exact).abs().mean() < 0.0015
    assert ours[exact == 0].max() < 0.05 and ours[exact == 1].min() > 0.95


@pytest.mark.parametrize("kind, area", [(0, 2.0), (1, pi / 2), (2, (1.5 * 2**0.5 - 1) ** 2 * (1 + pi / 4))])
@pytest.mark.parametrize("scale", [0.6, 1.0])
def test_a_sprite_has_the_area_of_its_figure(kind, area, scale):
    assert draw(kind, scale, 0.4, 0.5, 0.5, size=64).sum().item() == pytest.approx(area * (16 * scale) ** 2, rel=0.01)


@pytest.mark.parametrize("kind", range(3))
def test_a_quarter_turn_and_a_step_are_those_of_the_image(kind):
    centered, stepped = draw(kind, 0.7, 0.3, 0.5, 0.5), draw(kind, 0.7, 0.3, 0.5 + 3 / 32, 0.5 - 2 / 32)
    torch.testing.assert_close(draw(kind, 0.7, 0.3 + pi / 2, 0.5, 0.5), centered.rot90(-1))  # y goes down: clockwise
    torch.testing.assert_close(stepped, centered.roll((-2, 3), (0, 1)))


@pytest.mark.parametrize("kind, period", [(0, pi / 2), (1, pi), (2, 2 * pi)])
def test_only_a_symmetry_of_the_figure_repeats_an_image(kind, period):
    turns = torch.stack([draw(kind, 0.9, period * k / 12, 0.5, 0.5).flatten() for k in range(13)])
    assert torch.cdist(turns[:1], turns[12:]).item() < 1e-6
    assert torch.pdist(turns[:12]).min() > 0.3


@pytest.mark.parametrize("kind", range(3))
def test_every_figure_stays_inside_its_disk_and_the_image(kind):
    for angle in (0.0, 0.5, 1.1):
        image = draw(kind, 1.0, angle, 0.25, 0.75, size=64)
        row, column = image.nonzero().T
        distance = ((row + 0.5 - 48) ** 2 + (column + 0.5 - 16) ** 2).sqrt()
        assert 15 < distance.max() < 17.5  # the rim at 16, and the breadth of a pixel
    assert draw(kind, 1.0, 0.0, 0.25, 0.25).max() == 1


def test_the_default_sprites_are_a_full_grid_of_a_few_thousand_images_no_two_of_them_alike():
    data = sprites()
    assert repr(data) == "Sprites(2,646 images of 16 x 16 pixels: 3 shape x 3 scale x 6 orientation x 7 x x 7 y)"
    assert data.images.shape == (2646, 256) and data.images.min() == 0 and data.images.max() == 1
    assert torch.equal(data.factors, torch.from_numpy(np.indices(data.sizes).reshape(5, -1).T))
    assert torch.pdist(data.images).min() > 0.5


@pytest.mark.parametrize("arguments", [{"size": 12}, {"size": 32, "positions": 4}, {"orientations": 12, "positions": 3}])
def test_the_factors_can_be_told_from_the_image_at_other_sizes(arguments):
    assert torch.pdist(sprites(**arguments).images).min() > 0.2


def test_rounded_sprites_of_32_pixels_are_binary_and_still_differ():
    rounded = sprites(32).images.round()
    assert len(rounded.unique(dim=0)) == len(rounded) and set(rounded.unique().tolist()) == {0.0, 1.0}


def test_each_image_is_the_one_its_factors_say():
    data = sprites(16, scales=2, orientations=3, positions=4)
    for row in (0, 37, len(data.images) - 1):
        kind, s, a, i, j = data.factors[row].tolist()
        expected = draw(kind, [0.6, 1.0][s], pi / 6 * a, 0.25 + i / 6, 0.25 + j / 6, size=16)
        torch.testing.assert_close(data.images[row].reshape(16, 16), expected.float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("color", [False, True])
def test_an_image_is_found_by_its_factors(color):
    data = sprites(8, color=color, scales=2, orientations=2, positions=3, colors=3)
    assert torch.equal(data.index(data.factors), torch.arange(len(data.factors)))
    rows = torch.tensor([[3, 17], [40, 5]])
    assert torch.equal(data.at(data.factors[rows]), data.images[rows])
    for bad in (data.factors[0] * 0 - 1, torch.tensor(data.sizes), torch.zeros(3, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"factors must be .*scale, orientation, x, y, from 0 to below"):
            data.index(bad)


def test_color_is_one_more_factor_and_a_hue_of_the_wheel():
    data, gray = (
        sprites(16, color=True, scales=1, orientations=2, positions=2, colors=5),
        sprites(16, scales=1, orientations=2, positions=2),
    )
    assert data.names[0] == "color" and data.sizes == (5, 3, 1, 2, 2, 2) and data.shape == (3, 16, 16)
    images = data.images.reshape(5, 24, 3, 256)
    for k in range(5):
        for channel, share in enumerate(colorsys.hsv_to_rgb(k / 5, 1, 1)):
            torch.testing.assert_close(images[k, :, channel], gray.images * share)
    assert torch.pdist(data.images).min() > 0.5


def test_one_value_of_each_factor_is_one_centered_sprite():
    data = sprites(16, shapes=1, scales=1, orientations=1, positions=1)
    assert len(data.images) == 1
    torch.testing.assert_close(data.images[0].reshape(16, 16), draw(0, 1.0, 0.0, 0.5, 0.5, size=16).float())


def test_bad_sprites_are_refused(no_shape_checks):
    for arguments in ({"size": 7}, {"shapes": 4}, {"scales": 0}, {"positions": -1}, {"color": True, "colors": 0}):
        with pytest.raises(ValueError, match="size must be at least 8, shapes at most 3, all counts at least 1"):
            sprites(**arguments)
    one = torch.ones(1)
    with pytest.raises(ValueError, match=r"shapes are 0, 1 and 2, for square, ellipse, heart; got \[3\]"):
        draw_sprites(torch.tensor([3]), one, one, one, one, 16)


# Stacked digits


@pytest.mark.parametrize("source, side", [("digits", 8), ("mnist5k", 28)])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_stacked_image_is_three_digits_of_its_split_and_its_label_names_them(source, side, split):
    images, labels = stacked_digits(30, seed=1, source=source, split=split)
    data = datasets.load(source)
    known = dict(zip(map(bytes, getattr(data, split).numpy()), getattr(data, f"{split}_labels").tolist(), strict=True))
    assert images.shape == (30, 3 * side * side)
    for image, label in zip(images.reshape(30, 3, -1), labels.tolist(), strict=True):
        a, b, c = (known[bytes(digit.numpy())] for digit in image)
        assert label == 100 * a + 10 * b + c


def test_all_thousand_modes_are_there_about_evenly():
    # A mode has 1.0e-3 of the mass, give or take 4 %; one of 1,000 is missed by 20,000 draws with probability below 1e-5.
    _, labels = stacked_digits(20_000)
    share = labels.bincount(minlength=1000) / 20_000
    assert len(share) == 1000 and (share > 0).all()
    # The divergence of such a histogram from uniform is chi-square / 2n: 999 / 40,000 = .025 on average, plus the 4 %'s.
    assert (share * (share * 1000).log()).sum().item() == pytest.approx(0.026, abs=0.008)


def test_stacked_digits_repeat_with_their_seed():
    first, again, other = (stacked_digits(50, seed=seed)[1] for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_bad_stacks_are_refused():
    for arguments in ({"source": "cifar10"}, {"split": "valid"}, {"n": 0}):
        with pytest.raises(ValueError, match=r"source must be one of digits, mnist5k, mnist and split|at least one image"):
            stacked_digits(**{"n": 5, **arguments})


# Textures


@pytest.mark.parametrize("kind", ["grain", "waves", "wood"])
def test_gray_levels_of_a_texture_are_even_at_each_pixel(kind):
    images = textures(kind, 2000)
    assert images.shape == (2000, 256) and images.min() >= 0 and images.max() <= 1
    for pixel in (0, 100, 255):
        assert stats.kstest(images[:, pixel].numpy(), "uniform").pvalue > 1e-6


def spectrum(kind: str) -> np.ndarray:
    """Mean power at each frequency (down, across), in 1/20 of a wave per pixel, of pieces of 20 x 20 pixels without mean."""
    images = textures(kind, 500, size=20).reshape(500, 20, 20).numpy() - 0.5
    return (np.abs(np.fft.fft2(images)) ** 2).mean(0)[:11, :11]


def test_waves_run_downwards_wood_stands_upright_and_both_every_five_pixels():
    for kind, at in (("waves", (4, 0)), ("wood", (0, 4))):
        power = spectrum(kind)
        assert np.unravel_index(power.argmax(), power.shape) == at, kind


def test_grain_has_power_at_all_frequencies_and_the_others_little_at_high_ones():
    def high(power):
        return power[6:, 6:].mean() / power.mean()

    assert high(spectrum("grain")) > 0.15 and max(high(spectrum("waves")), high(spectrum("wood"))) < 0.02


def test_opposite_edges_of_a_texture_are_unrelated():
    images = textures("waves", 2000).reshape(2000, 16, 16)
    first, last = images[:, 0, 3].numpy(), images[:, 15, 3].numpy()
    neighbor = images[:, 1, 3].numpy()
    assert abs(np.corrcoef(first, last)[0, 1]) < 0.25 < np.corrcoef(first, neighbor)[0, 1]


@pytest.mark.parametrize("kind", ["grain", "waves", "wood"])
def test_textures_repeat_with_their_seed_and_each_piece_is_another(kind):
    first, again, other = (textures(kind, 3, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other) and torch.pdist(first).min() > 1


def test_bad_textures_are_refused():
    for arguments in ({"kind": "hair"}, {"n": 0}, {"size": 3}):
        with pytest.raises(ValueError, match="kind must be one of grain, waves, wood, n at least 1, size at least 4"):
            textures(**{"kind": "grain", "n": 2, **arguments})


# Intrinsic dimension


@pytest.mark.parametrize("dimension", [1, 2, 5])
@pytest.mark.parametrize("neighbors", [2, 10])
def test_the_dimension_of_a_flat_set_in_a_space_of_thirty_is_found(dimension, neighbors):
    flat = torch.randn(4000, dimension, generator=seeded()) @ torch.randn(dimension, 30, generator=seeded(1))
    assert intrinsic_dimension(flat, neighbors=neighbors) == pytest.approx(dimension, rel=0.08)


def test_the_dimension_of_curved_sets_is_found():
    roll, _ = make_swiss_roll(4000, random_state=0)
    assert intrinsic_dimension(torch.from_numpy(roll).float()) == pytest.approx(2, rel=0.08)
    sphere = torch.randn(4000, 4, generator=seeded())
    assert intrinsic_dimension(sphere / sphere.norm(dim=1, keepdim=True), neighbors=5) == pytest.approx(3, rel=0.08)


def test_two_neighbors_make_it_two_nn_by_scikit_learns_neighbors():
    x = torch.rand(700, 6, generator=seeded(), dtype=torch.float64)
    distances, _ = NearestNeighbors(n_neighbors=3).fit(x.numpy()).kneighbors()
    two_nn = 1 / np.log(distances[:, 1] / distances[:, 0]).mean()
    assert intrinsic_dimension(x, neighbors=2) == pytest.approx(two_nn, rel=1e-9)
    mle = 1 / np.mean([np.log(d[4] / d[:4]).mean() for d in NearestNeighbors(n_neighbors=5).fit(x.numpy()).kneighbors()[0]])
    assert intrinsic_dimension(x, neighbors=5) == pytest.approx(mle, rel=1e-9)


@pytest.mark.slow
def test_textures_are_of_high_dimension_and_sprites_of_low():
    u = torch.rand(4, 2000, generator=seeded())
    heart = torch.full((2000,), 2)
    moving = draw_sprites(heart, 0.6 + 0.4 * u[0], pi / 2 * u[1], 0.25 + 0.5 * u[2], 0.25 + 0.5 * u[3], 16)
    assert intrinsic_dimension(moving) == pytest.approx(4, abs=0.6)  # scale, orientation, x and y
    found = {kind: intrinsic_dimension(textures(kind, 2000)) for kind in ("grain", "waves", "wood")}
    assert min(found.values()) > 12 and found["grain"] > 50, found


def test_what_says_nothing_about_a_dimension_is_refused():
    x = torch.randn(20, 3, generator=seeded())
    for points, neighbors, problem in [
        (x, 1, "neighbors must lie between 2 and 19"),
        (x, 20, "neighbors must lie between 2 and 19"),
        (torch.cat([x, x[:1]]), 2, "some rows are equal"),
        (x * float("nan"), 2, "not finite"),
    ]:
        with pytest.raises(ValueError, match=problem):
            intrinsic_dimension(points, neighbors=neighbors)
