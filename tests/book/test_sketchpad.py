"""The sketchpad: drawings made images like the data's, their codes, and what a real browser makes of both. The oracles are
NumPy for the drawing, and PyTorch for the networks."""

import base64
import gzip
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from helpers import accessibility_faults
from vaecourse import autoencoders, datasets, explorable, vae
from vaecourse.explorable import drawing
from vaecourse.networks import GaussianNetwork, mlp

ALT = 'A sheet to draw on; "one" & <another>.'
GRAY_LEVEL = 1 / 255
DIGITS = datasets.load("digits")
SMALL = DIGITS.train[:200]


def contrasted(model, contrast=3.0):
    """An untrained model, its weights enlarged, so that codes and images differ from one drawing to the next."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(contrast)
    return model


def small(kind=vae.bernoulli_vae):
    return contrasted(kind(64, 2, hidden=(32,)))


def large():
    return contrasted(vae.bernoulli_vae(784, 2, hidden=(64,)), 2.0)


def pad(model=None, images=SMALL, shape=(8, 8), **settings):
    return explorable.sketchpad(small() if model is None else model, shape, images, ALT, **settings)


# How a drawing becomes an image


def test_digits_of_8_by_8_pixels_fill_all_rows_and_those_of_mnist_have_a_fixed_center_of_mass():
    look = drawing.look(DIGITS.train, (8, 8))
    assert look.longest == 8 and look.by_mass == (False, True) and look.center == pytest.approx((4, 4.07), abs=0.01)
    mnist = datasets.load("mnist5k")
    look = drawing.look(mnist.train, mnist.shape)
    assert look.longest == pytest.approx(20, abs=0.01) and look.by_mass == (True, True)
    assert look.center == pytest.approx((14.5, 14.5), abs=0.05)


def test_images_that_lie_alike_by_box_or_by_mass_are_told_apart():
    images = torch.zeros(2, 6, 6)
    images[0, 1:4, 2:4] = 1
    images[1, 1:4, 2:5] = 1
    images[1, 3, 2:5] = 0.5  # the box stays, the mass moves up
    look = drawing.look(images.reshape(2, 36), (6, 6))
    assert look.longest == 3 and look.by_mass[0] is False and look.center[0] == 2.5
    with pytest.raises(ValueError, match=r"no image has a pixel brighter than 0\.1"):
        drawing.look(torch.zeros(2, 36), (6, 6))


def averaged(ink, look, shape, fine):
    """The image of a drawing by a matrix each way: the overlap of each pixel with each point."""
    ink = np.asarray(ink, float).reshape(shape[0] * fine, shape[1] * fine)
    inked = ink > drawing.INK
    if not inked.any():
        return np.zeros(shape)
    boxes = [np.flatnonzero(inked.any(1 - axis))[[0, -1]] + [0, 1] for axis in (0, 1)]
    points = max(max(box[1] - box[0] for box in boxes) / look.longest, fine / drawing.MOST)
    matrices = []
    for axis in (0, 1):
        profile = ink.sum(1 - axis)
        middle = profile @ (np.arange(len(profile)) + 0.5) / profile.sum() if look.by_mass[axis] else np.mean(boxes[axis])
        edges = middle + (np.arange(shape[axis] + 1) - look.center[axis]) * points
        start = np.arange(len(profile))
        low, high = np.maximum(edges[:-1, None], start), np.minimum(edges[1:, None], start + 1)
        matrices.append((high - low).clip(0) / points)
    return matrices[0] @ ink @ matrices[1].T


# What is written


def test_dots_are_the_codes_of_the_data_and_examples_one_of_each_of_four_classes_and_a_scribble():
    figure = pad(labels=DIGITS.train_labels[:200])
    torch.testing.assert_close(figure.codes.codes, small().encode(SMALL).mean.detach(), atol=0.02, rtol=0)
    assert figure.reach == pytest.approx(1.1 * figure.codes.codes.abs().max().item())
    html = figure._repr_html_()
    assert re.findall('aria-label="Example: ([^"]*)"', html) == ["0", "2", "4", "6", "a scribble"]
    assert 'aria-label="A sheet to draw on; &quot;one&quot; &amp; &lt;another&gt;."' in html
    assert repr(figure) == f"Sketchpad: {ALT}"
    assert list(pad().examples) == ["image 1", "image 2", "image 3", "image 4"]


def test_a_page_with_mnists_digits_and_128_hidden_units_weighs_less_than_600_kilobytes_and_a_heavier_one_is_refused():
    x = torch.rand(20, 784)
    figure = pad(vae.bernoulli_vae(784, 2, hidden=(128,)), x, (28, 28))
    assert len(figure._repr_html_().encode()) < 600_000
    heavier = pad(contrasted(vae.bernoulli_vae(784, 2, hidden=(256,)), 1.5), x, (28, 28), reach=3.0)
    assert len(gzip.compress(heavier._repr_html_().encode())) < 600_000
    with pytest.raises(ValueError, match="compressed; 600 are allowed: take narrower networks"):
        pad(vae.bernoulli_vae(784, 2, hidden=(512,)), x, (28, 28), reach=3.0)


@pytest.mark.parametrize("model", [small(), small(vae.gaussian_vae), contrasted(autoencoders.deep(64, 2), 1.5)])
def test_on_paper_the_first_example_its_code_and_its_reconstruction_are_shown(model):
    figure = pad(model)
    assert figure._repr_png_().startswith(b"\x89PNG")
    panes = {axes.get_title(): axes for axes in figure.still().axes}
    np.testing.assert_allclose(panes["the encoder's input"].images[0].get_array()[-8:], SMALL[0].reshape(8, 8))
    code, sigma = figure.encode(SMALL[:1])
    assert panes[""].lines[-1].get_xydata().tolist() == [pytest.approx(code[0].tolist())]
    ellipses = [(patch.width, patch.height) for patch in panes[""].patches]
    assert len(ellipses) == (0 if sigma is None else 2)
    if sigma is not None:
        np.testing.assert_allclose(ellipses[1], 4 * sigma[0])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"model": vae.bernoulli_vae(64, 3)}, "codes are shown on a plane of 2 latents, this model has 3"),
        ({"shape": (4, 4)}, r"images of shape \(4, 4\) have 16 pixels, the model's have 64"),
        ({"images": torch.rand(5, 8)}, r"images must be rows, \(n, 64\), at least one; got \(5, 8\)"),
        ({"images": torch.rand(0, 64)}, r"at least one; got \(0, 64\)"),
        ({"images": torch.zeros(5, 64)}, "no image has a pixel brighter than 0.1"),
        ({"labels": torch.zeros(3).long()}, "one label a code: 200 codes, 3 labels"),
        ({"examples": {}}, "examples must be rows of 64 pixels by name, at least one"),
        ({"examples": {"a": torch.zeros(8, 8)}}, "examples must be rows of 64 pixels by name"),
        ({"reach": -1.0}, "reach must be positive, got -1.0"),
        (
            {"model": contrasted(vae.bernoulli_vae(64, 2), 30.0), "reach": 1.0},
            "the page cannot hold the encoder: rounding its weights moves a code by",
        ),
        ({"alt": ""}, "alt is missing: say in a sentence or two what the figure shows"),
    ],
)
def test_what_cannot_be_shown_is_refused(settings, message, no_shape_checks):
    given = {"model": small(), "shape": (8, 8), "images": SMALL, "alt": ALT, **settings}
    with pytest.raises(ValueError, match=message):
        explorable.sketchpad(**given)


def test_a_model_whose_encoder_the_page_cannot_run_is_refused():
    model = small()
    model.encoder = GaussianNetwork(mlp(64, 8, 4, activation=nn.GELU))
    with pytest.raises(ValueError, match="a page cannot run GELU"):
        pad(model)


# What the browser makes of it


def given_to(page):
    return np.array(page.locator(".sketchpad").evaluate("figure => figure.given()"))


def numbers(page, name):
    return [float(value) for value in page.locator(".sketchpad").get_attribute(f"data-{name}").split()]


def red(page, name):
    url = page.locator(name).evaluate("canvas => canvas.toDataURL()")
    return np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))).reshape(-1, 4)[:, 0]


def assert_shown(page, model, figure, x=None):
    """What is drawn is averaged as NumPy does it; code, posterior, image and text are what PyTorch says of that."""
    given = given_to(page)
    if x is None:
        ink = page.locator(".sketchpad").evaluate("figure => Array.from(figure.ink())")
        fine = round(drawing.FINE / max(figure.shape))
        x = averaged(ink, figure.look, figure.shape, fine).ravel()
    np.testing.assert_allclose(given, x, atol=3e-4)  # examples are float16
    np.testing.assert_allclose(red(page, ".given") / 255, given.clip(0, 1), atol=GRAY_LEVEL)
    with torch.no_grad():
        q = model.encode(torch.tensor(given, dtype=torch.float32)[None])
    mean, sigma = (q, None) if isinstance(q, torch.Tensor) else (q.mean, q.log_sigma.exp())
    z = numbers(page, "z")
    np.testing.assert_allclose(z, mean[0], atol=figure.reach / 200)
    if sigma is None:
        assert numbers(page, "sigma") == []
    else:
        np.testing.assert_allclose(numbers(page, "sigma"), sigma[0], atol=figure.reach / 200)
    decoded = model.decode(torch.tensor([z]))
    decoded = (decoded if isinstance(decoded, torch.Tensor) else decoded.mean)[0].detach().numpy()
    np.testing.assert_allclose(red(page, ".decoded") / 255, decoded.clip(0, 1), atol=GRAY_LEVEL)
    ellipse = page.locator(".posterior").nth(1)
    drawn = [float(ellipse.get_attribute(name)) for name in ("cx", "cy", "rx", "ry")]
    side, spread = 400 / figure.reach / 2, numbers(page, "sigma") or [0, 0]
    expected = [44 + 200 + side * z[0], 10 + 200 - side * z[1], 2 * side * spread[0], 2 * side * spread[1]]
    np.testing.assert_allclose(drawn, expected, atol=0.01)
    text = page.locator("output").text_content()
    written = "({:.2f}, {:.2f})".format(*z).replace("-", "\u2212")
    assert text.startswith(f"z = {written}") and ("σ = " in text) == (sigma is not None)
    (error,) = re.findall(r"Squared error ([\d.]+);", text)
    assert float(error) == pytest.approx(((given - decoded) ** 2).sum(), abs=0.06)  # to one digit, rounded by either side


def places(*shares, page):
    box = page.locator(".drawn").bounding_box()
    return [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in shares]


SEVEN = [(0.25, 0.2), (0.5, 0.22), (0.75, 0.2), (0.6, 0.5), (0.45, 0.85)]


def draw(page, shares):
    first, *rest = places(*shares, page=page)
    page.mouse.move(*first)
    page.mouse.down()
    for place in rest:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def with_one_sigma():
    model = small()
    model.encoder = contrasted(GaussianNetwork(mlp(64, 2), log_sigma=-1.0))
    return model


MODELS = {
    "VAE with one sigma": (with_one_sigma, SMALL, (8, 8)),
    "convolutional autoencoder": (lambda: contrasted(autoencoders.convolutional((1, 8, 8), 2), 1.5), SMALL, (8, 8)),
    "VAE": (small, SMALL, (8, 8)),
    "Gaussian VAE": (lambda: small(vae.gaussian_vae), SMALL, (8, 8)),
    "autoencoder": (lambda: contrasted(autoencoders.deep(64, 2), 1.5), SMALL, (8, 8)),
    "large VAE": (
        lambda: contrasted(vae.bernoulli_vae(784, 2, hidden=(200,)), 2.0),
        datasets.load("mnist5k").train[:9],
        (28, 28),
    ),
    "VAE of 28 x 28": (large, datasets.load("mnist5k").train[:100], (28, 28)),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_drawn_by_mouse_is_encoded_and_decoded_as_python_does_it(open_page, name):
    make, images, shape = MODELS[name]
    model = make()
    figure = pad(model, images, shape, reach=3.0)
    page = open_page(figure)
    assert_shown(page, model, figure, images[0].numpy())  # examples are given as they are
    page.get_by_role("button", name="Clear").click()
    assert_shown(page, model, figure, np.zeros(len(images[0])))
    draw(page, SEVEN)
    assert_shown(page, model, figure)
    x = given_to(page).reshape(shape)
    assert 0.9 < x.max() <= 1.0001 and 0.05 < x.mean() < 0.45
    page.get_by_role("button", name="Example: image 3").click()
    assert_shown(page, model, figure, images[2].numpy())
    page.get_by_role("button", name="Example: a scribble").click()
    assert_shown(page, model, figure)
    assert (given_to(page) > 0.5).sum() > 0.1 * len(images[0])


def test_wherever_and_however_large_a_digit_is_drawn_the_encoder_is_given_it_where_the_data_lie(open_page):
    figure = pad(large(), datasets.load("mnist5k").train[:100], (28, 28))
    page = open_page(figure)
    found = []
    for scale, shift in [(0.5, (0.0, 0.0)), (0.5, (0.45, 0.4)), (1.0, (0.0, 0.0))]:
        page.get_by_role("button", name="Clear").click()
        draw(page, [(scale * x + shift[0], scale * y + shift[1]) for x, y in SEVEN])
        found.append(given_to(page).reshape(28, 28))
    np.testing.assert_allclose(found[0], found[1], atol=0.15)  # places on the screen are whole pixels
    for x in found:
        center = [x.sum(1 - axis) @ (np.arange(28) + 0.5) / x.sum() for axis in (0, 1)]
        np.testing.assert_allclose(center, figure.look.center, atol=0.02)
        rows = np.flatnonzero((x > 0.3).any(1))
        assert abs(rows[-1] - rows[0] + 1 - 20) <= 1.5


def test_a_dot_stays_small(open_page):
    page = open_page(pad(large(), datasets.load("mnist5k").train[:100], (28, 28)))
    page.get_by_role("button", name="Clear").click()
    page.mouse.click(*places((0.2, 0.8), page=page)[0])
    x = given_to(page).reshape(28, 28)
    assert 15 < x.sum() < 25  # a disk as wide as the pen, .093 * 28 pixels, doubled: an area of 21
    assert np.hypot(*(np.argwhere(x > 0.1).mean(0) + 0.5 - 14.5)) < 0.5


def test_dragged_by_touch_a_stroke_is_drawn_and_the_page_does_not_scroll(open_page):
    model = small()
    figure = pad(model)
    page = open_page(figure, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 700})
    page.get_by_role("button", name="Clear").click()
    page.evaluate("scrollTo(0, 0)")
    touch = page.context.new_cdp_session(page)
    first, *rest = places(*SEVEN, page=page)

    def send(kind, *points):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    send("touchStart", first)
    for place in rest:
        send("touchMove", place)
    send("touchEnd")
    page.wait_for_function("document.querySelector('.sketchpad').given().filter(value => value > .5).length > 8")
    assert_shown(page, model, figure)
    assert page.evaluate("scrollY") == 0


def test_by_keys_the_pen_moves_draws_when_it_is_down_and_clears(open_page):
    model = small()
    figure = pad(model)
    page = open_page(figure)
    page.keyboard.press("Tab")
    assert page.locator(".pen").is_visible()
    page.keyboard.press("Delete")
    assert given_to(page).sum() == 0
    state = page.locator(".sketchpad").get_attribute("data-state")
    page.keyboard.press("ArrowRight")
    assert page.locator(".sketchpad").get_attribute("data-state") != state
    page.keyboard.press("ArrowLeft")
    assert page.locator(".sketchpad").get_attribute("data-state") == state
    for _ in range(3):
        page.keyboard.press("Shift+ArrowUp")
    assert given_to(page).sum() == 0
    page.keyboard.press(" ")
    for _ in range(6):
        page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press(" ")
    page.keyboard.press("ArrowLeft")
    x = given_to(page).reshape(8, 8)
    assert x[:, 3:5].sum() > 0.95 * x.sum() and (x.sum(1) > 0.5).all()  # a stroke downwards fills all rows
    assert_shown(page, model, figure)
    page.keyboard.press("Control+ArrowLeft")
    page.keyboard.press("a")
    np.testing.assert_array_equal(given_to(page).reshape(8, 8), x)
    assert page.evaluate("scrollY") == 0


def test_a_code_outside_the_plane_is_shown_at_its_edge_and_said_to_be_outside(open_page):
    farthest = small().encode(SMALL).mean.abs().amax(1).argmax()
    page = open_page(pad(reach=0.6, examples={"far": SMALL[farthest]}))
    assert "outside the plane" in page.locator("output").text_content()
    x, y = map(float, re.findall(r"[\d.]+", page.locator(".point").get_attribute("transform")))
    assert 44 <= x <= 444 and 10 <= y <= 410 and (x in (44, 444) or y in (10, 410))


def test_a_stroke_is_shown_in_less_than_30_milliseconds(open_page):
    page = open_page(pad(vae.bernoulli_vae(784, 2, hidden=(128,)), datasets.load("mnist5k").train[:100], (28, 28)))
    milliseconds = page.locator(".drawn").evaluate(
        """sheet => {
            sheet.dispatchEvent(new KeyboardEvent("keydown", { key: " " }));
            return Array.from({ length: 31 }, (_, i) => {
                const begin = performance.now();
                sheet.dispatchEvent(new KeyboardEvent("keydown", { key: i % 2 ? "ArrowLeft" : "ArrowDown" }));
                return performance.now() - begin;
            });
        }"""
    )
    assert np.median(milliseconds) < 30


def test_contrast_names_and_roles_pass_an_accessibility_checker(open_page):
    page = open_page("<h1>A test</h1>", pad(labels=DIGITS.train_labels[:200]))
    assert not accessibility_faults(page, ".sketchpad")


def test_on_a_phone_nothing_is_cut_and_in_print_the_drawing_and_the_plane_stay(open_page):
    page = open_page(pad(), pad(), viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.emulate_media(media="print")
    assert page.locator(".drawn").first.is_visible() and page.locator(".plane").first.is_visible()
    assert not page.get_by_text("Draw with the mouse").first.is_visible()
    assert not page.get_by_role("button", name="Clear").first.is_visible()
