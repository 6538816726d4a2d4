"""Langevin dynamics in a page: what is written, and how the chains of a real browser walk. The oracles are the package's
sampler on the package's exact densities, and, after many steps, the law that the theory gives."""

import re

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from helpers import accessibility_faults
from vaecourse import explorable, samplers
from vaecourse.datasets.densities import GaussianGrid
from vaecourse.exact_models import BimodalMixture, TiltedGaussian
from vaecourse.randomness import normal

ALT = 'Chains about "one" & <another> mode.'
GRID = GaussianGrid()
EYE = torch.eye(2, dtype=torch.float64)
TWO = torch.tensor([[-2.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
TILTED = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
THREE = {
    "means": torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]], dtype=torch.float64),
    "covariances": torch.tensor([[[0.5, 0.2], [0.2, 0.5]], [[0.5, -0.3], [-0.3, 0.8]], [[1.0, 0.0], [0.0, 0.1]]]).double(),
    "weights": torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
}


def walk(means=TWO, covariances=0.7**2 * EYE, alt=ALT, **settings):
    return explorable.langevin(means, covariances, alt, **settings)


def tilted(**settings):
    return walk(torch.zeros(1, 2), TILTED, **settings)


def grid(**settings):
    return walk(GRID.centers, GRID.sigma**2 * EYE, step=0.001, **settings)


DENSITIES = {
    "tilted": (tilted(), TiltedGaussian(0.9).log_prob),
    "bimodal": (walk(weights=torch.tensor([0.3, 0.7], dtype=torch.float64)), BimodalMixture(weight=0.3).log_prob),
    "grid": (grid(), GRID.log_prob),
    "three": (
        walk(**THREE),
        MixtureSameFamily(
            Categorical(THREE["weights"]), MultivariateNormal(THREE["means"], THREE["covariances"], validate_args=False)
        ).log_prob,
    ),
}


# What is written


@pytest.mark.parametrize("figure, log_prob", DENSITIES.values(), ids=DENSITIES)
def test_the_density_is_the_mixture_of_its_parts(figure, log_prob):
    z = 2 * torch.randn(50, 2, generator=Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(figure.log_prob(z), log_prob(z))


@pytest.mark.parametrize("sigma", [1.0, 0.1])
def test_contours_of_a_gaussian_are_circles_that_enclose_the_masses(sigma):
    (svg,) = re.findall(r'<g class="contours">(.*?)</g>', walk(torch.zeros(1, 2), sigma**2 * EYE, step=1e-3)._repr_html_())
    for mass, path in zip([0.95, 0.75, 0.5, 0.25], re.findall(r' d="M([^"]*)"', svg), strict=True):
        first, rest = path.split("l")
        steps = np.array(rest.split(), float).reshape(-1, 2)
        corners = (np.array(first.split(), float) + steps.cumsum(0) - 2000) / 2000 * 3.5
        # P(|z| < r) = 1 - exp(-r^2 / 2), of the mass in the plane; a cell of the grid is .07 wide
        np.testing.assert_allclose(np.hypot(*corners.T), np.sqrt(-2 * np.log(1 - mass)), atol=0.04)


def test_a_page_weighs_less_than_50_kilobytes_even_with_25_modes():
    assert len(walk()._repr_html_().encode()) < 22_000
    assert len(grid()._repr_html_().encode()) < 50_000


def test_the_densitys_mean_variance_and_weights_stand_in_the_table():
    html = walk(weights=torch.tensor([0.25, 0.75]))._repr_html_()
    assert re.findall(r"<th scope=\"row\">(.*?)</th><td></td><td>(.*?)</td>", html) == [
        ("mean of z₁", "1.00"),
        ("mean of z₂", "0.00"),
        ("variance of z₁", "3.49"),  # .49 + 4 (1 - (.75 - .25)^2)
        ("variance of z₂", "0.49"),
        ("near (−2, 0)", "25 %"),
        ("near (2, 0)", "75 %"),
    ]
    assert '<th scope="row">modes reached</th><td></td><td>25</td>' in grid()._repr_html_()
    assert "near" not in tilted()._rows()


def test_the_alternative_text_is_escaped():
    assert 'aria-label="Chains about &quot;one&quot; &amp; &lt;another&gt; mode."' in walk()._repr_html_()
    assert repr(walk()) == f"Langevin: {ALT}"


def test_on_paper_the_chains_stand_where_the_packages_sampler_leaves_them():
    figure = walk(start=(0.5, -1.0), step=0.1, chains=7)
    assert figure._repr_png_().startswith(b"\x89PNG")
    dots, start = figure.still().axes[0].lines
    target = BimodalMixture()
    z = torch.tensor([[0.5, -1.0]], dtype=torch.float64).expand(7, 2)
    z, _ = samplers.langevin(lambda z: -target.log_prob(z), z, 0.1, 100, Generator().manual_seed(0))
    np.testing.assert_allclose(dots.get_xydata(), z, atol=1e-9)
    assert start.get_xydata().tolist() == [[0.5, -1.0]]
    assert figure.still().axes[0].get_title() == "100 steps of h = 0.1 from (0.50, \u22121.00)"


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"alt": " "}, "alt is missing: say in a sentence or two what the plane shows"),
        ({"means": torch.zeros(2)}, r"means must be \(modes, 2\), at least one; got \(2,\)"),
        ({"means": torch.zeros(4, 3)}, r"means must be \(modes, 2\), at least one; got \(4, 3\)"),
        ({"means": torch.zeros(0, 2)}, r"at least one; got \(0, 2\)"),
        ({"means": torch.full((1, 2), torch.nan)}, "all means must lie on the plane"),
        ({"covariances": torch.ones(2)}, r"covariances must be \(2, 2\), or one a mode, \(2, 2, 2\); got \(2,\)"),
        ({"covariances": torch.ones(3, 2, 2)}, r"or one a mode, \(2, 2, 2\); got \(3, 2, 2\)"),
        ({"covariances": torch.tensor([[1.0, 0.5], [0.0, 1.0]])}, "symmetric and positive definite"),
        ({"covariances": torch.tensor([[1.0, 2.0], [2.0, 1.0]])}, "symmetric and positive definite"),
        ({"covariances": torch.full((2, 2), torch.nan)}, "symmetric and positive definite"),
        ({"weights": torch.tensor([0.5, 0.6])}, r"weights must be positive, one a mode \(2\), and sum to 1"),
        ({"weights": torch.tensor([1.5, -0.5])}, "weights must be positive"),
        ({"weights": torch.tensor([1.0])}, "weights must be positive, one a mode"),
        ({"step": 0.0}, "step must be positive and less than 4 times the smallest variance, 1.96"),
        ({"step": -1.0}, "step must be positive"),
        ({"step": 2.0}, "beyond which chains explode; got 2.0"),
        ({"chains": 0}, "chains must be from 1 to 1000, got 0"),
        ({"start": (5.0, 0.0), "reach": 4.0}, r"start must be a point of the plane, which reaches to 4; got \(5.0, 0.0\)"),
        ({"reach": 1.5}, "all means must lie on the plane, which goes from -reach to reach; reach is 1.5"),
        ({"reach": 100.0}, "a standard deviation of 0.7 is too small to be seen on a plane that reaches to 100"),
    ],
)
def test_what_cannot_be_shown_is_refused(settings, message, no_shape_checks):
    with pytest.raises(ValueError, match=message):
        walk(**settings)


# How the chains walk


def figure_of(page, number=0):
    return page.locator(".langevin").nth(number)


def chains_of(page, number=0):
    return np.array(figure_of(page, number).evaluate("figure => figure.chains()"))


def press(page, name, number=0):
    figure_of(page, number).get_by_role("button", name=name, exact=True).click()


def caption(page):
    return page.locator("caption").text_content()


def table(page):
    return dict(
        page.locator("tbody tr").evaluate_all("rows => rows.map(row => [row.cells[0], row.cells[1]].map(c => c.textContent))")
    )


def put(page, place):
    """Move the slider of the step size as a hand would: the value, then the event."""
    page.locator("input").evaluate(
        "(slider, to) => { slider.value = to; slider.dispatchEvent(new Event('input', { bubbles: true })); }", place
    )


@pytest.mark.equation(
    "eq-samplers-langevin", oracle="independent code: the page's step beside the package's, with the same noise"
)
def test_one_step_of_the_page_is_the_samplers_step_with_the_same_noise(open_page):
    page = open_page(*(figure for figure, _ in DENSITIES.values()))
    seed = Generator().manual_seed(0)
    for number, (name, (figure, log_prob)) in enumerate(DENSITIES.items()):
        z = torch.cat([figure.target.means, 1.5 * normal((20, 2), figure.target.means, seed)])
        for h in (1e-4, 0.003, 0.1):
            state = seed.get_state()
            eps = normal(z.shape, z, seed)
            expected = samplers.langevin_step(lambda z, log_prob=log_prob: -log_prob(z), z, h, Generator().set_state(state))
            moved = figure_of(page, number).evaluate(
                "(figure, [z, h, eps]) => z.map((at, i) => figure.move(at, h, eps[i]))", [z.tolist(), h, eps.tolist()]
            )
            np.testing.assert_allclose(moved, expected, atol=1e-9, rtol=0, err_msg=name)


def test_the_pages_noise_is_standard_normal_and_without_memory(open_page):
    """Seeded, so that the outcome is fixed; for other seeds each check would fail falsely once in 10,000 times at most."""
    pairs = np.array(
        open_page(tilted())
        .locator(".langevin")
        .evaluate("figure => { const next = figure.normals(7); return Array.from({ length: 10_000 }, next); }")
    )
    n, bound = pairs.size, stats.norm.isf(0.5e-4)
    draws = pairs.ravel()
    assert abs(draws.mean()) < bound / n**0.5
    assert abs((draws**2).mean() - 1) < bound * (2 / n) ** 0.5  # Var e^2 = 2
    assert stats.kstest(draws, "norm").pvalue > 1e-4
    for lag in (1, 2, 200):  # the other of a pair, the next chain's, the next step's
        assert abs((draws[lag:] * draws[:-lag]).mean()) < bound / (n - lag) ** 0.5


@pytest.mark.equation("eq-samplers-langevin-variance", oracle="closed form: the page's chains after many steps")
def test_after_many_steps_the_chains_mean_and_covariance_are_those_of_the_gaussian(open_page):
    """1,000 chains; an eigenvalue l of the covariance becomes l / (1 - h / 4l), for the smallest, .1, 5 % more at h = .02."""
    h, n = 0.02, 1000
    page = open_page(tilted(step=h, chains=n, start=(-2.0, 2.0)))
    for _ in range(8):
        page.locator('[data-steps="100"]').evaluate("button => button.click()")
    z = chains_of(page)  # a time of 18: of the start there is left exp(-18 / (2 * 1.9)) < .01, and it lay across that axis
    values, vectors = np.linalg.eigh(TILTED.numpy())
    law = vectors * (values / (1 - h / (4 * values))) @ vectors.T
    bound = stats.norm.isf(1e-5)  # two-sided, for five numbers: a false alarm in 10,000
    assert (np.abs(z.mean(0)) < bound * np.sqrt(law.diagonal() / n)).all()
    error = bound * np.sqrt((np.outer(law.diagonal(), law.diagonal()) + law**2) / n)
    assert (np.abs(np.cov(z.T) - law) < error).all()
    np.testing.assert_allclose(law, TILTED.numpy(), atol=0.01)  # and the law is nearly the Gaussian's


def test_two_visits_show_the_same_walk_and_each_start_begins_it_anew(open_page):
    first, second = open_page(walk()), open_page(walk())
    before = chains_of(first)
    np.testing.assert_array_equal(before, chains_of(second))
    press(first, "Start again")
    assert (chains_of(first) == [-2, 0]).all() and caption(first) == "0 steps from (−2.00, 0.00)"
    press(first, "100 steps")
    np.testing.assert_array_equal(before, chains_of(first))


def test_chains_far_from_one_mode_do_not_find_it_and_the_table_says_so(open_page):
    page = open_page(walk(2 * TWO, chains=50))
    press(page, "100 steps")
    z, found = chains_of(page), table(page)
    assert caption(page) == "200 steps from (−4.00, 0.00)"
    assert (found["near (−4, 0)"], found["near (4, 0)"]) == ("100 %", "0 %")
    said = [f"{value:.2f}".replace("-", "−") for value in (*z.mean(0), *z.var(0))]
    assert [found[f"{name} of z{i}"] for name in ("mean", "variance") for i in "₁₂"] == said
    page.locator(".langevin > svg").press("Shift+ArrowRight")
    status = page.get_by_role("status").text_content()
    assert status == "0 steps from (−3.50, 0.00)"
    press(page, "1 step")
    status = page.get_by_role("status").text_content()
    assert status.startswith("1 step from (−3.50, 0.00); mean of z₁: −3.") and "near (4, 0): 0 %, of the density 50 %" in status


def test_of_many_modes_those_with_a_chain_are_counted(open_page):
    page = open_page(grid(start=(0.5, 0.5)))
    assert table(page)["modes reached"] == "4"
    near = torch.cdist(torch.tensor(chains_of(page)), GRID.centers.double()).argmin(1)
    assert len(near.unique()) == 4


# What a reader does


def place(page, z1, z2, reach=4.45):
    box = page.locator(".field").bounding_box()
    return box["x"] + box["width"] * (z1 / reach + 1) / 2, box["y"] + box["height"] * (1 - z2 / reach) / 2


def origin_of(page, number=0):
    return [float(value) for value in figure_of(page, number).get_attribute("data-z").split()]


def steps_of(page):
    return int(caption(page).split()[0])


def test_nothing_moves_by_itself_and_play_pause_step_and_start_again_do_what_they_say(open_page):
    page = open_page(walk())
    page.wait_for_timeout(100)
    assert steps_of(page) == 100 and page.evaluate("document.getAnimations().length") == 0
    press(page, "1 step")
    assert steps_of(page) == 101
    press(page, "Play")
    page.wait_for_function("parseInt(document.querySelector('caption').textContent) > 105")
    press(page, "Pause")
    paused = steps_of(page)
    assert page.get_by_role("status").text_content().startswith(f"{paused} steps")
    page.wait_for_timeout(100)
    assert steps_of(page) == paused
    press(page, "Play")
    press(page, "Start again")
    page.wait_for_timeout(100)
    assert steps_of(page) == 0 and page.get_by_role("button", name="Play").is_visible()


def test_a_click_and_a_touch_start_all_chains_there_and_a_walk_goes_on_from_there(open_page):
    page = open_page(walk(), has_touch=True)
    pixel = 0.03
    page.mouse.click(*place(page, 1, -2))
    assert origin_of(page) == pytest.approx([1, -2], abs=pixel)
    assert (chains_of(page) == origin_of(page)).all() and steps_of(page) == 0
    page.touchscreen.tap(*place(page, -1.5, 3))
    assert origin_of(page) == pytest.approx([-1.5, 3], abs=pixel)
    press(page, "Play")
    page.mouse.click(*place(page, 0, 0))
    page.wait_for_function("parseInt(document.querySelector('caption').textContent) > 2")
    assert origin_of(page) == pytest.approx([0, 0], abs=pixel)
    assert page.get_by_role("button", name="Pause").is_visible()


def test_arrow_keys_move_the_start_by_a_tenth_and_with_shift_by_a_half(open_page):
    page = open_page(walk(reach=4.0))
    page.keyboard.press("Tab")
    for key, z in [
        ("ArrowRight", [-1.9, 0]),
        ("ArrowUp", [-1.9, 0.1]),
        ("Shift+ArrowLeft", [-2.4, 0.1]),
        ("Shift+ArrowDown", [-2.4, -0.4]),
        ("Control+ArrowLeft", [-2.4, -0.4]),
        ("a", [-2.4, -0.4]),
    ]:
        page.keyboard.press(key)
        assert origin_of(page) == z and (chains_of(page) == z).all()
    for _ in range(8):
        page.keyboard.press("Shift+ArrowDown")
    assert origin_of(page) == [-2.4, -4]
    assert page.evaluate("scrollY") == 0


def test_dots_and_start_are_drawn_where_the_chains_are(open_page):
    page = open_page(walk(reach=4.0))
    drawn = page.locator(".dots").get_attribute("d")
    at = np.array(re.findall(r"M(-?\d+) (-?\d+)h0", drawn.replace(",", " ")), float)
    expected = 2000 * (1 + chains_of(page) * [1, -1] / 4)
    np.testing.assert_allclose(at, expected, atol=0.5)
    page.mouse.click(*place(page, 2, -1, reach=4.0))
    dot = page.locator(".start").bounding_box()
    x, y = place(page, 2, -1, reach=4.0)
    assert (dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2) == pytest.approx((x, y), abs=1)


def test_the_slider_doubles_and_halves_the_step_and_too_large_a_step_explodes_with_advice(open_page):
    page = open_page(walk(step=0.1))
    slider = page.get_by_role("slider", name="Step size h")
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "0.2" == page.locator(".size span").text_content()
    put(page, -5)
    assert slider.get_attribute("aria-valuetext") == "0.00313"
    press(page, "Start again")
    press(page, "100 steps")
    slow = chains_of(page).var(0)
    put(page, 4)  # 1.6 of the 1.96 at which chains explode
    press(page, "100 steps")
    assert slow[1] < 0.49 < 1.5 < chains_of(page)[:, 1].var() and steps_of(page) == 200
    put(page, 5)
    press(page, "Play")
    page.get_by_text("Choose a smaller h and start again.").first.wait_for()
    assert page.get_by_role("button", name="Play").is_visible()
    at = caption(page)
    assert re.fullmatch(r"Exploded at step 2\d\d: the chains are far outside. Choose a smaller h and start again.", at)
    press(page, "1 step")
    assert caption(page) == at == page.get_by_role("status").text_content()
    put(page, 0)
    press(page, "Start again")
    press(page, "1 step")
    assert steps_of(page) == 1


def test_a_step_of_200_chains_takes_less_than_16_milliseconds(open_page):
    page = open_page(grid(chains=200))
    milliseconds = page.get_by_role("button", name="1 step").evaluate(
        """button => Array.from({ length: 31 }, () => {
            const begin = performance.now();
            button.click();
            button.closest(".langevin").getBoundingClientRect();
            return performance.now() - begin;
        })"""
    )
    assert np.median(milliseconds) < 16


def test_two_figures_on_a_page_do_not_disturb_each_other(open_page):
    page = open_page(walk(chains=5), tilted(chains=6))
    before = chains_of(page, 0)
    figure_of(page, 1).locator("> svg").press("ArrowUp")
    press(page, "1 step", 1)
    np.testing.assert_array_equal(chains_of(page, 0), before)
    assert origin_of(page, 1) == [0, 0.1] and len(chains_of(page, 1)) == 6


def test_who_wants_less_motion_steps_and_does_not_play(open_page):
    page = open_page(walk(), reduced_motion="reduce")
    assert not page.get_by_role("button", name="Play").is_visible()
    press(page, "100 steps")
    assert steps_of(page) == 200


def test_who_asks_for_less_motion_while_chains_move_sees_them_stop(open_page):
    page = open_page(walk())
    press(page, "Play")
    page.emulate_media(reduced_motion="reduce")
    page.wait_for_function("document.querySelector('.play').textContent === 'Play'")
    stopped = steps_of(page)
    page.wait_for_timeout(100)
    assert steps_of(page) == stopped


def test_contrast_names_and_roles_pass_an_accessibility_checker(open_page):
    page = open_page("<h1>A test</h1>", walk())
    assert not accessibility_faults(page, ".langevin")


def test_a_screen_reader_finds_the_plane_the_controls_and_the_numbers(open_page):
    page = open_page(walk())
    group = page.get_by_role("group", name=ALT)
    assert group.get_by_role("application", name="The arrow keys move the point where all chains start").count() == 1
    assert group.get_by_role("table", name="100 steps from (−2.00, 0.00)").get_by_role("row").count() == 7
    assert group.get_by_role("status").text_content().startswith("100 steps from (−2.00, 0.00); mean of z₁: ")
    page.keyboard.press("Tab")
    for focused in ("svg", "button", "button", "button", "button", "input"):
        assert page.locator(f"{focused}:focus").evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
        page.keyboard.press("Tab")


def test_in_dark_mode_the_drawing_takes_the_themes_colors_and_the_chains_are_lighter(open_page):
    page = open_page(walk())
    look = """() => ["text", ".start", ".dots"].map(name => getComputedStyle(document.querySelector(".langevin " + name)))
                     .flatMap(style => [style.fill, style.stroke])"""
    text, _, _, ring, _, chains = page.evaluate(look)
    assert (text, ring, chains) == ("rgb(1, 2, 3)", "rgb(1, 2, 3)", "rgb(194, 79, 0)")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    text, _, _, ring, _, chains = page.evaluate(look)
    assert (text, ring, chains) == ("rgb(201, 202, 203)", "rgb(201, 202, 203)", "rgb(245, 160, 95)")


def test_on_a_phone_the_table_lies_below_the_plane_and_nothing_is_cut(open_page):
    page = open_page(walk(), viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    drawing, form = page.locator(".langevin > svg").bounding_box(), page.locator("form").bounding_box()
    assert drawing["width"] > 340 and form["y"] >= drawing["y"] + drawing["height"]


def test_print_shows_the_chains_and_the_table_without_controls(open_page):
    page = open_page(walk())
    page.emulate_media(media="print")
    assert page.locator(".langevin > svg").is_visible() and page.get_by_role("table").is_visible()
    assert page.locator(".dots").get_attribute("d").count("M") == 100 and steps_of(page) == 100
    assert page.get_by_text("0.1", exact=True).count() == 0 and page.get_by_text("0.05", exact=True).is_visible()
    assert not page.get_by_text("Click the plane").is_visible()
    assert not any(button.is_visible() for button in page.locator("button, input").all())
