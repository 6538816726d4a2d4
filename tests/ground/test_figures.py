"""The figures: each draws what it is given, alone or on given axes, the same each time; and says what it cannot draw."""

import io
from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from vaecourse import figures
from vaecourse.distributions import Normal
from vaecourse.training import History

IMAGES = torch.rand(7, 12, generator=torch.Generator().manual_seed(0))
CODES = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(60) % 3


@pytest.fixture(autouse=True)
def book_style():
    with mpl.rc_context():
        figures.style()
        yield


def run(steps=500):
    falling = 100 + 400 * np.exp(-np.arange(steps) / 20)
    return History({"loss": falling + 20, "distortion": falling, "rate": np.full(steps, 20.0)}, steps, seconds=1.0)


def decode(z):
    """A decoder of 3 x 4 images whose every pixel is z_1 + 10 z_2."""
    mu = (z @ torch.tensor([[1.0], [10.0]])).expand(-1, 12)
    return Normal(mu, torch.zeros_like(mu))


PICTURES = {
    "image_grid": lambda ax: figures.image_grid(IMAGES, (3, 4), 3, ax, titles=range(7)),
    "image_rows": lambda ax: figures.image_rows({"data": IMAGES, "mean": IMAGES[:5]}, (3, 4), ax),
    "history": lambda ax: figures.history(run(), ax=ax),
    "latent_scatter": lambda ax: figures.latent_scatter(CODES, LABELS, ax),
    "latent_plane": lambda ax: figures.latent_plane(decode, (3, 4), 5, 2.0, ax),
}


def png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=50)
    return file.getvalue()


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_without_axes_a_picture_is_a_new_figure_no_wider_than_the_page_and_the_same_each_time(draw):
    figure = draw(None)
    assert isinstance(figure, Figure) and figure.get_figwidth() <= figures.WIDTH
    assert png(figure) == png(draw(None))


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_with_axes_a_picture_is_drawn_there_and_nothing_is_returned(draw):
    ax = Figure().subplots()
    assert draw(ax) is None
    assert ax.has_data()


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_a_new_figure_is_unknown_to_pyplot_so_that_a_notebook_shows_it_once(draw):
    before = plt.get_fignums()
    draw(None)
    assert plt.get_fignums() == before


def test_a_grid_shows_each_image_in_reading_order_on_a_transparent_ground():
    figure = figures.image_grid(IMAGES, (3, 4), columns=3)
    picture = figure.axes[0].images[0].get_array()
    drawn = picture.compressed().reshape(-1)
    assert picture.shape == (3 * (3 + 1), 3 * 4 + 2)
    assert len(drawn) == IMAGES.numel()
    np.testing.assert_array_equal(picture[1:4, 5:9], IMAGES[1].reshape(3, 4))
    np.testing.assert_array_equal(picture[9:12, 0:4], IMAGES[6].reshape(3, 4))


def test_images_may_come_as_rows_of_pixels_or_in_two_dimensions():
    rows, squares = (figures.image_grid(images, (3, 4)) for images in (IMAGES, IMAGES.reshape(7, 3, 4)))
    assert png(rows) == png(squares)


def test_black_is_zero_and_white_is_one_whatever_the_images():
    image = figures.image_grid(IMAGES * 0.1, (3, 4)).axes[0].images[0]
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)
    assert image.to_rgba(np.array([[0.0, 1.0]]))[0, :, :3].tolist() == [[0, 0, 0], [1, 1, 1]]


def test_rows_carry_their_labels():
    figure = figures.image_rows({"data": IMAGES, "reconstruction": IMAGES}, (3, 4))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["data", "reconstruction"]


def test_a_history_names_each_curve_in_its_color_and_the_names_do_not_overlap():
    figure = figures.history(run())
    ax = figure.axes[0]
    figure.draw_without_rendering()
    names = {text.get_text(): text for text in ax.texts}
    assert list(names) == ["loss", "distortion", "rate"]
    assert [text.get_color() for text in ax.texts] == [line.get_color() for line in ax.lines]
    boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
    assert all(lower.y1 <= upper.y0 + 1 for lower, upper in pairwise(boxes))
    assert ax.get_ylabel() == "nats per image"


def test_a_history_can_be_of_a_single_step():
    assert figures.history(run(1), parts=["loss"]).axes[0].lines[0].get_ydata() == [520]


def test_a_part_that_was_not_recorded_is_an_error_that_lists_those_that_were():
    with pytest.raises(KeyError, match="no part 'kl' was recorded; there are loss, distortion, rate"):
        figures.history(run(), parts=["kl"])


def test_codes_are_drawn_at_their_coordinates_in_the_color_of_their_class():
    ax = figures.latent_scatter(CODES, LABELS).axes[0]
    assert [text.get_text() for text in ax.get_legend().texts] == ["0", "1", "2"]
    for label, dots in enumerate(ax.collections):
        np.testing.assert_array_equal(dots.get_offsets(), CODES[label == LABELS])
        assert mpl.colors.to_hex(dots.get_facecolor()) == figures.CLASS_COLORS[label]
    assert figures.latent_scatter(CODES).axes[0].get_legend() is None


def test_the_densest_point_lies_in_the_larger_of_two_clusters():
    large, small = 0.1 * torch.randn(800, 2) + 3, 0.1 * torch.randn(200, 2) - 3
    assert np.linalg.norm(np.array(figures.densest(torch.cat([small, large]))) - 3) < 0.5
    assert figures.densest(torch.tensor([[1.0, 2.0]])) == (1, 2)


def test_the_decoded_plane_has_z1_to_the_right_and_z2_upwards():
    ax = figures.latent_plane(decode, (3, 4), side=5, reach=2.0).axes[0]
    picture = ax.images[0].get_array()[::3, ::4]
    z1, z2 = np.arange(-2, 3), np.arange(2, -3, -1)
    np.testing.assert_allclose(picture, z1[None] + 10 * z2[:, None])
    assert ax.get_xlim() == (-2.5, 2.5)  # the images' centers are at -2, -1, 0, 1, 2


def test_the_reparameterization_graph_is_two_graphs_on_axes_of_its_own_or_given_ones():
    assert len(figures.reparameterization_graph().axes) == 2
    axes = Figure().subplots(1, 2)
    assert figures.reparameterization_graph(axes) is None
    assert [len(ax.patches) for ax in axes] == [4 + 4, 5 + 7]  # nodes and arrows; two more gradients pass on the right


@pytest.mark.parametrize(
    "draw, message",
    [
        (lambda: figures.image_grid(IMAGES, (4, 4)), r"images of shape \(4, 4\) have 16 pixels; got images of shape \(12,\)"),
        (lambda: figures.image_grid(IMAGES[0], (3, 4)), r"have 12 pixels; got images of shape \(\)"),
        (lambda: figures.image_grid(IMAGES[:0], (3, 4)), "no images to draw"),
        (lambda: figures.image_grid(IMAGES, (3, 4), titles=["one"]), "one title an image: 7 images, 1 titles"),
        (lambda: figures.image_rows({}, (3, 4)), "no rows to draw"),
        (lambda: figures.image_rows({"data": IMAGES}, (8, 8)), r"\(8, 8\) have 64 pixels"),
        (lambda: figures.latent_plane(decode, (8, 8)), r"\(8, 8\) have 64 pixels"),
        (lambda: figures.latent_scatter(CODES, torch.arange(60)), "10 classes can be told apart by color, there are 60"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_class_colors_can_be_seen_on_white_and_on_dark_paper():
    def luminance(color):
        rgb = np.array(mpl.colors.to_rgb(color))
        return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    for color in figures.CLASS_COLORS:
        assert 1.05 / (luminance(color) + 0.05) > 1.5
        assert (luminance(color) + 0.05) / (luminance("#14181e") + 0.05) > 1.5
