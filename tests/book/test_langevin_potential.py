"""Langevin dynamics in a page over a potential on a grid: the interpolation, and the walk beside the package's sampler."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.interpolate import RegularGridInterpolator
from torch import Generator

from vaecourse import explorable, priors, samplers, vae
from vaecourse.explorable.grid import Grid
from vaecourse.randomness import normal

ALT = "Chains over a potential on a grid."
REACH = 3.0


def quadratic(z):
    """U of a Gaussian with precision (2, .6; .6, 1) about (.5, -.25)."""
    x, y = (z - torch.tensor([0.5, -0.25])).unbind(-1)
    return x**2 + 0.6 * x * y + 0.5 * y**2


def rings(z):
    """A bent valley with two hollows, as energies that are learned may have."""
    radius = z.norm(dim=-1)
    return 3 * (radius - 1.5) ** 2 + torch.cos(2 * z[..., 0]) + 0.2 * z[..., 1]


def walk(function=rings, side=41, reach=REACH, **settings):
    return explorable.langevin(
        alt=ALT, potential=explorable.on_plane(function, reach, side), **{"reach": reach, "step": 0.05, **settings}
    )


def noise(n, seed=0):
    return torch.randn(n, 2, generator=Generator().manual_seed(seed), dtype=torch.float64)


# The interpolation


def test_a_quadratic_potential_is_itself_between_the_grids_points_up_to_the_edge():
    grid = Grid(explorable.on_plane(quadratic, REACH, 7), REACH)
    z = torch.empty(500, 2, dtype=torch.float64).uniform_(-REACH, REACH, generator=Generator().manual_seed(0))
    z = torch.cat([z, torch.tensor([[-3.0, 3.0], [3.0, -3.0], [3.0, 3.0], [-3.0, 0.2]], dtype=torch.float64)]).requires_grad_()
    value = grid(z)
    exact = quadratic(z)
    torch.testing.assert_close(value, exact, atol=2e-6, rtol=0)  # the values are float32
    (force,), (exact_force,) = (torch.autograd.grad(v.sum(), z) for v in (value, exact))
    torch.testing.assert_close(force, exact_force, atol=2e-5, rtol=0)
    torch.testing.assert_close(grid.curvatures().max().item(), 1.5 + np.hypot(0.5, 0.6), atol=1e-4, rtol=0)


def test_at_the_grids_points_the_values_are_the_grids_the_first_row_the_lowest():
    values = explorable.on_plane(lambda z: z[:, 0] + 10 * z[:, 1], REACH, 5)
    assert values[0].tolist() == [-33.0, -31.5, -30.0, -28.5, -27.0] and values[-1, 0] == 27
    ticks = torch.linspace(-REACH, REACH, 5, dtype=torch.float64)
    z = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), -1)
    torch.testing.assert_close(Grid(values, REACH)(z), values.double())


def test_the_interpolation_is_near_to_that_of_another_library():
    values = explorable.on_plane(rings, REACH, 61)
    ticks = np.linspace(-REACH, REACH, 61)
    spline = RegularGridInterpolator((ticks, ticks), values.numpy(), method="cubic")
    z = noise(400)
    z = z[(z.norm(dim=1) > 0.5) & (z.abs().amax(1) < 2.5)]  # |z| has no slope at 0; at the edge each goes on as it likes
    assert len(z) > 200
    np.testing.assert_allclose(Grid(values, REACH)(z), spline(z.flip(-1).numpy()), atol=0.01)


def test_the_force_is_continuous_across_the_cells_of_the_grid():
    grid = Grid(explorable.on_plane(rings, REACH, 13), REACH)
    borders = 0.5 * noise(20).mul(2).round()
    z = [(borders + side).requires_grad_() for side in (-1e-9, 1e-9)]
    (before,), (after,) = (torch.autograd.grad(grid(side).sum(), side) for side in z)
    torch.testing.assert_close(before, after, atol=1e-6, rtol=0)


def test_outside_the_plane_the_potential_rises_as_that_of_a_standard_normal():
    grid = Grid(explorable.on_plane(rings, REACH, 41), REACH, confined=True)
    z = torch.tensor([[4.0, 1.0], [-5.0, -4.0]], dtype=torch.float64).requires_grad_()
    edge = torch.tensor([[3.0, 1.0], [-3.0, -3.0]], dtype=torch.float64)
    value = grid(z)
    torch.testing.assert_close(value, grid(edge) + torch.tensor([3.5, 11.5]))
    (gradient,) = torch.autograd.grad(value.sum(), z)
    assert gradient[0, 0] == 4 and gradient[1].tolist() == [-5, -4]


# What is written


def test_the_table_has_the_densitys_moments_and_the_shares_of_its_regions():
    figure = walk(quadratic, side=61, reach=5.0)
    mean, variance = figure.target.moments()
    law = torch.linalg.inv(torch.tensor([[2.0, 0.6], [0.6, 1.0]])).diagonal()
    np.testing.assert_allclose(mean, [0.5, -0.25], atol=0.01)
    np.testing.assert_allclose(variance, law, atol=0.01)
    # {U <= level} holds the mass p of a Gaussian in the plane at level -log(1 - p)
    np.testing.assert_allclose(figure.target.levels, -np.log([0.5, 0.05]), atol=0.05)
    html = figure._repr_html_()
    assert '<th scope="row">in the likeliest 95 %</th><td></td><td>95 %</td>' in html
    assert figure.start == pytest.approx((0.5, -0.25), abs=0.1)  # the grid's point next to the mean


def test_a_page_weighs_little():
    assert len(walk(side=61)._repr_html_().encode()) < 60_000


def test_on_paper_the_chains_stand_where_the_packages_sampler_leaves_them():
    figure = walk(start=(0.5, -1.0), step=0.1, chains=7)
    assert figure._repr_png_().startswith(b"\x89PNG")
    dots, _ = figure.still().axes[0].lines
    grid = Grid(explorable.on_plane(rings, REACH, 41), REACH, confined=True)
    z = torch.tensor([[0.5, -1.0]], dtype=torch.float64).expand(7, 2)
    z, _ = samplers.langevin(grid, z, 0.1, 100, Generator().manual_seed(0))
    np.testing.assert_allclose(dots.get_xydata(), z, atol=1e-9)


def test_a_learned_prior_is_shown_as_it_is():
    model = vae.bernoulli_vae(64, 2)
    prior = priors.contrastive_prior(model)
    figure = explorable.langevin(alt=ALT, potential=explorable.on_plane(prior.potential, 4.0), reach=4.0)
    z = noise(30)
    torch.testing.assert_close(-figure.log_prob(z), prior.potential(z).detach().double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"potential": torch.zeros(3, 3)}, r"the potential must be \(side, side\) .* side >= 4; got shape \(3, 3\)"),
        ({"potential": torch.zeros(5, 6)}, r"got shape \(5, 6\)"),
        ({"potential": torch.full((5, 5), torch.inf)}, "the potential must be finite at all points"),
        ({"reach": None}, "a potential on a grid needs reach: the grid goes from -reach to reach; got None"),
        ({"reach": 0.0}, "a potential on a grid needs reach"),
        ({"means": torch.zeros(1, 2)}, "one density at a time"),
        ({"potential": None}, "a density is missing: give means and covariances of a mixture, or a potential"),
        ({"step": 0.0}, "step must be positive and less than 4 over the largest curvature of the potential"),
        ({"step": 2.0}, "beyond which chains explode; got 2.0"),
        ({"start": (4.0, 0.0)}, "start must be a point of the plane, which reaches to 3"),
        ({"chains": 0}, "chains must be from 1 to 1000, got 0"),
    ],
)
def test_what_cannot_be_shown_is_refused(settings, message, no_shape_checks):
    given = {"potential": explorable.on_plane(rings, REACH, 41), "reach": REACH, "step": 0.05, **settings}
    with pytest.raises(ValueError, match=message):
        explorable.langevin(alt=ALT, **given)


@pytest.mark.parametrize(
    "function, side, message",
    [
        (rings, 3, "a grid has at least 4 points a side, got 3"),
        (lambda z: z, 5, r"the function must give one number a point, \(25,\); got \(25, 2\)"),
    ],
)
def test_numbers_over_a_plane_are_one_a_point(function, side, message):
    with pytest.raises(ValueError, match=message):
        explorable.on_plane(function, REACH, side)


# How the chains walk


@pytest.mark.equation(
    "eq-samplers-langevin", oracle="independent code: the page's step beside the package's, on one interpolated potential"
)
def test_one_step_of_the_page_is_the_samplers_step_with_the_same_noise(open_page):
    figures = [walk(), walk(quadratic, side=9), walk(side=4)]
    page = open_page(*figures)
    seed = Generator().manual_seed(0)
    corners = torch.tensor([[-3.0, 3.0], [3.0, 3.0], [3.0, -1.0], [4.0, 0.0], [-7.0, 9.0]], dtype=torch.float64)
    for number, figure in enumerate(figures):
        z = torch.cat([1.5 * normal((40, 2), corners, seed), corners])
        for h in (1e-4, 0.003, 0.1):
            state = seed.get_state()
            eps = normal(z.shape, z, seed)
            expected = samplers.langevin_step(figure.target.grid, z, h, Generator().set_state(state))
            moved = (
                page.locator(".langevin")
                .nth(number)
                .evaluate(
                    "(figure, [z, h, eps]) => z.map((at, i) => figure.move(at, h, eps[i]))", [z.tolist(), h, eps.tolist()]
                )
            )
            np.testing.assert_allclose(moved, expected, atol=1e-9, rtol=0)


def test_after_many_steps_the_chains_have_the_densitys_mean_variance_and_shares(open_page):
    n = 1000
    figure = walk(quadratic, side=61, reach=5.0, step=0.1, chains=n)
    page = open_page(figure)
    for _ in range(5):
        page.locator('[data-steps="100"]').evaluate("button => button.click()")
    z = np.array(page.locator(".langevin").evaluate("figure => figure.chains()"))
    mean, variance = (moment.numpy() for moment in figure.target.moments())
    bound = stats.norm.isf(1e-5)  # two-sided, for six numbers: a false alarm in 10,000
    bias = 0.1 / 4 * 2.3  # of the smallest variance, .43: v becomes v / (1 - h / 4v)
    assert (np.abs(z.mean(0) - mean) < bound * np.sqrt(variance / n) + 0.02).all()
    assert (np.abs(z.var(0) / variance - 1) < bound * np.sqrt(2 / n) + bias).all()
    shares = [
        int(cell.split()[0]) / 100 for cell in page.locator("tbody tr:nth-last-child(-n+2) td:nth-child(2)").all_inner_texts()
    ]
    for share, true in zip(shares, (0.5, 0.95), strict=True):
        assert abs(share - true) < bound * np.sqrt(true * (1 - true) / n) + 0.03
    inside = figure.target.grid(torch.tensor(z)) <= torch.tensor(figure.target.levels)[:, None]
    np.testing.assert_allclose(shares, inside.double().mean(1), atol=0.005)


def test_a_step_too_large_explodes_and_says_so(open_page):
    page = open_page(walk(step=0.2))
    page.locator("input").evaluate(
        "slider => { slider.value = 5; slider.dispatchEvent(new Event('input', { bubbles: true })); }"
    )
    page.locator('[data-steps="100"]').click()
    page.locator('[data-steps="100"]').click()
    assert page.locator("caption").text_content().startswith("Exploded at step ")


def test_a_step_of_200_chains_takes_less_than_16_milliseconds(open_page):
    page = open_page(walk(chains=200))
    milliseconds = page.get_by_role("button", name="1 step").evaluate(
        """button => Array.from({ length: 31 }, () => {
            const begin = performance.now();
            button.click();
            return performance.now() - begin;
        })"""
    )
    assert np.median(milliseconds) < 16
