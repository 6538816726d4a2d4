"""The latent plane: what is written into the page, and what a real browser makes of it. The oracle is Python's decoder."""

import base64
import io
import json
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from helpers import accessibility_faults
from vaecourse import autoencoders, avae, explorable, vae
from vaecourse.explorable import network
from vaecourse.explorable.latent_plane import LatentPlane
from vaecourse.networks import BernoulliNetwork, mlp

ALT = 'The latent plane of a test; the second dot is "b" & the first is <a>.'
GRAY_LEVEL = 1 / 255


def model(hidden=(256,), pixels=784, contrast=3.0):
    """An untrained VAE with its decoder's weights enlarged, so that its images are black, white and all between."""
    untrained = vae.bernoulli_vae(pixels, 2, hidden=hidden, seed=0)
    with torch.no_grad():
        for parameter in untrained.decoder.parameters():
            parameter.mul_(contrast)
    return untrained


def plane(n=0, labeled=True, trained=None, shape=(28, 28), **settings):
    codes = torch.randn(n, 2, generator=torch.Generator().manual_seed(0)) if n else None
    labels = torch.arange(n) % 10 if n and labeled else None
    return explorable.latent_plane(trained or model(), shape, ALT, codes, labels, **settings)


def attribute(html, name):
    return re.search(rf'data-{name}="([^"]*)"', html)[1]


# What is written


@pytest.mark.parametrize("hidden", [(256,), (32, 16), ()])
def test_the_page_carries_the_decoders_parameters_rounded_to_float16(hidden):
    trained = model(hidden)
    html = plane(trained=trained)._repr_html_()
    low, high = np.frombuffer(base64.b64decode(attribute(html, "decoder")), "u1").reshape(2, -1)
    written = np.stack([low, high], 1).reshape(-1).view("<f2")
    parameters = np.concatenate([p.detach().numpy().ravel() for p in trained.decoder.parameters()])
    np.testing.assert_array_equal(written, parameters.astype(np.float16))
    layers = json.loads(attribute(html, "decoder-layers").replace("&quot;", '"'))
    widths = [2, *reversed(hidden), 784]
    assert [(layer["inputs"], layer["outputs"]) for layer in layers[::2]] == list(pairwise(widths))
    assert [layer["kind"] for layer in layers[1::2]] == ["tanh"] * len(hidden) + ["sigmoid"]


def test_a_page_with_5000_codes_weighs_less_than_600_kilobytes():
    assert len(plane(5000)._repr_html_().encode()) < 600_000


def test_the_point_starts_at_the_first_code_on_the_plane_or_at_the_origin():
    codes = torch.tensor([[9.0, 0.0], [1.234, -2.0], [0.0, 0.0]])
    assert explorable.latent_plane(model(), (28, 28), ALT, codes).start == (1.23, -2.0)
    assert plane().start == (0.0, 0.0)


def test_codes_outside_the_plane_are_not_drawn_and_codes_at_one_place_are_drawn_once():
    codes = torch.tensor([[0.0, 0.0], [0.0, 0.0], [-3.0, 3.0], [3.1, 0.0]])
    html = explorable.latent_plane(model(), (28, 28), ALT, codes)._repr_html_()
    assert re.search(r'class="dots"[^>]* d="M0 0m44 10h0m200 200h0"', html)


def test_the_alternative_text_is_escaped():
    assert 'aria-label="The latent plane of a test; the second dot is &quot;b&quot; &amp; the first is &lt;a&gt;."' in (
        plane()._repr_html_()
    )
    assert repr(plane()) == f"LatentPlane: {ALT}"


def test_on_paper_the_plane_and_the_image_at_its_first_point_stand_side_by_side():
    figure = plane(50)
    assert figure._repr_png_().startswith(b"\x89PNG")
    _, image = figure.still().axes
    z = torch.tensor(figure.start)
    assert image.get_title() == f"z = ({z[0]:.2f}, {z[1]:.2f})".replace("-", "\u2212")
    drawn = image.images[0].get_array()[-28:]
    np.testing.assert_allclose(drawn, figure.decode(z).reshape(28, 28), atol=1e-6)


def test_rounding_is_noticed_where_it_would_show():
    with pytest.raises(ValueError, match="float16 cannot hold the decoder"):
        plane(trained=model(contrast=100.0))
    with pytest.raises(ValueError, match="float16 cannot hold the decoder"):
        plane(trained=model(contrast=float("nan")))


def decoded_by(net, latents=2):
    trained = vae.bernoulli_vae(784, latents)
    trained.decoder = net
    return trained


@pytest.mark.parametrize(
    "net, message",
    [
        (BernoulliNetwork(mlp(2, 8, 784, activation=nn.GELU)), "a page cannot run GELU.*; it runs Linear, Conv2d"),
        (BernoulliNetwork(nn.Sequential()), "the decoder gives 2 numbers a row where the model has 784"),
        (BernoulliNetwork(mlp(3, 784)), r"Linear\(.*\) is given rows of shape \(2,\), and takes \(3\)"),
        (nn.Sequential(nn.Linear(2, 784), nn.Conv2d(1, 1, 3)), r"of shape \(784,\), and takes \(channels, height, width\)"),
        (None, "the model has no decoder that a page can run: a module `decoder`, of Linear"),
    ],
    ids=["GELU", "no layer", "three latents", "rows to a convolution", "none"],
)
def test_a_decoder_that_the_page_cannot_run_is_refused(net, message):
    with pytest.raises(ValueError, match=message):
        plane(trained=decoded_by(net))


@pytest.mark.parametrize("alt", ["", "  "])
def test_a_plane_without_alternative_text_is_refused_with_advice(alt):
    with pytest.raises(ValueError, match="alt is missing: say in a sentence or two what the plane shows"):
        explorable.latent_plane(model(), (28, 28), alt)
    with pytest.raises(ValueError, match="alt is missing"):
        explorable.latent_plane(model(), (28, 28))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"shape": (8, 8)}, r"\(8, 8\) have 64 pixels, the model's have 784"),
        ({"reach": 0.0}, "reach must be positive"),
        ({"background": torch.ones(9, 9)}, "background_name is missing: say what is shaded"),
        ({"background": torch.ones(9, 9), "background_name": "r"}, "r is 1 all over the plane: there is nothing to shade"),
        (
            {"background": torch.ones(3, 3), "background_name": "r"},
            r"the background must be \(side, side\) .*; got shape \(3, 3\)",
        ),
        ({"background": torch.full((9, 9), torch.nan), "background_name": "r"}, "the background must be finite at all points"),
    ],
)
def test_what_cannot_be_drawn_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        plane(**settings)


@pytest.mark.parametrize(
    "n, labels, message",
    [
        (0, [0, 1], "labels without codes"),
        (3, [0, 1], "one label a code: 3 codes, 2 labels"),
        (11, range(11), "at most 10 classes have a color, there are 11"),
    ],
)
def test_labels_that_do_not_match_are_refused(n, labels, message):
    codes = torch.zeros(n, 2) if n else None
    with pytest.raises(ValueError, match=message):
        LatentPlane(model(), (28, 28), ALT, codes, torch.tensor(list(labels)), reach=3.0)


# What the browser makes of it


def z_of(page, figure=0):
    return [float(value) for value in page.locator(".latent-plane").nth(figure).get_attribute("data-z").split()]


def place(page, z1, z2, reach=3.0, figure=0):
    """Where a code lies on the screen, a quarter of a pixel inside the plane's edges."""
    box = page.locator(".field").nth(figure).bounding_box()
    x, y = box["width"] * (z1 / reach + 1) / 2, box["height"] * (1 - z2 / reach) / 2
    return box["x"] + min(max(x, 0.25), box["width"] - 0.25), box["y"] + min(max(y, 0.25), box["height"] - 0.25)


def canvas_bytes(figure):
    """The image as it is on the screen: red, green, blue, opacity of each pixel, 0 to 255."""
    url = figure.locator("canvas").evaluate("canvas => canvas.toDataURL()")
    return np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))).reshape(-1, 4)


def assert_shown(page, trained, figure=0):
    """The network that the page runs, the bytes on its canvas and the numbers below are what Python says of the same z."""
    z = z_of(page, figure)
    expected = network.image(trained.decode(torch.tensor([z])))[0].numpy()
    shown = page.locator(".latent-plane").nth(figure)
    computed = shown.evaluate("(figure, z) => Array.from(figure.decode(z))", z)
    np.testing.assert_allclose(computed, expected, atol=GRAY_LEVEL, rtol=0)
    red, green, blue, alpha = canvas_bytes(shown).T
    np.testing.assert_array_equal(red, green)
    np.testing.assert_array_equal(red, blue)
    assert (alpha == 255).all()
    np.testing.assert_allclose(red / 255, expected.clip(0, 1), atol=GRAY_LEVEL, rtol=0)
    assert shown.locator("output").text_content() == "z = ({:.2f}, {:.2f})".format(*z).replace("-", "\u2212")


ENDS_MIDDLE_RANDOM = [(-3, -3), (-3, 3), (3, -3), (3, 3), (0, 0)]
ENDS_MIDDLE_RANDOM += torch.empty(5, 2).uniform_(-3, 3, generator=torch.Generator().manual_seed(0)).tolist()


@pytest.mark.parametrize("hidden", [(256,), (32, 16), ()])
def test_dragged_by_mouse_the_page_shows_what_python_decodes(open_page, hidden):
    trained = model(hidden)
    page = open_page(plane(100, trained=trained))
    assert_shown(page, trained)
    images = set()
    page.mouse.move(*place(page, 1, 1))
    page.mouse.down()
    for z in ENDS_MIDDLE_RANDOM:
        page.mouse.move(*place(page, *z))
        assert z_of(page) == pytest.approx(z, abs=0.02)
        assert_shown(page, trained)
        images.add(canvas_bytes(page).tobytes())
    assert len(images) == len(ENDS_MIDDLE_RANDOM)
    page.mouse.move(0, 0)
    assert z_of(page) == [-3, 3]  # a point dragged off the plane stays on its edge
    page.mouse.up()
    page.mouse.move(*place(page, 1, 1))
    assert z_of(page) == [-3, 3]  # and stays there when it is let go


CONVOLUTIONAL = autoencoders.convolutional((1, 28, 28), 2, width=8)


@pytest.mark.parametrize(
    "trained",
    [
        vae.gaussian_vae(784, 2),
        vae.gaussian_vae(784, 2, hidden=(64,), log_sigma=None),
        CONVOLUTIONAL,
        avae.image_gan(avae.Convolutions((1, 28, 28), 8), 2),
    ],
    ids=["Gaussian", "Gaussian with its own sigma", "convolutional", "GAN"],
)
def test_other_decoders_of_the_book_are_shown_as_python_decodes(open_page, trained):
    page = open_page(plane(trained=trained))
    for z in [(-3, 3), (1.2, -0.4)]:
        page.mouse.click(*place(page, *z))
        assert_shown(page, trained)


def test_a_background_is_shaded_has_a_legend_and_is_read_off_at_the_point(open_page):
    background = explorable.on_plane(lambda z: z[:, 0] ** 2 - 2 * z[:, 1] - 2, 3.0, 31)
    figure = plane(30, background=background, background_name="log r")
    page = open_page(figure)
    page.mouse.click(*place(page, 1, -2))
    z = z_of(page)
    value = f"{z[0] ** 2 - 2 * z[1] - 2:.2f}".replace("-", "\u2212")
    assert page.locator("output").text_content().split("\n")[1] == f"log r = {value}"
    # A band is drawn where its values are: the darkest of each sign at the ends of the plane.
    inside = "([path, x, y]) => path.isPointInFill(new DOMPoint(x, y))"
    bands = page.locator("svg.bands path")
    for z1, z2 in [(-2.9, -2.9), (0.0, 2.9), (0.0, -1.4)]:
        height = z1**2 - 2 * z2 - 2
        at = (2000 * (1 + z1 / 3), 2000 * (1 - z2 / 3))
        hit = [band for band in bands.all() if band.evaluate(f"(path, [x, y]) => ({inside})([path, x, y])", list(at))]
        if abs(height) > 2:
            assert [band.get_attribute("class") for band in hit] == ["high" if height > 0 else "low"]
    opacity = [float(band.get_attribute("fill-opacity")) for band in bands.all()]
    assert opacity == [0.4, 0.2, 0.2, 0.4, 0.6]  # from -10 to 15 by 5
    legend = page.get_by_role("img", name="Shades: log r from -10 to 15")
    assert legend.locator("text").all_text_contents()[0] == "log r"
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_shades_of_one_sign_grow_from_the_lowest():
    bands = plane(background=explorable.on_plane(lambda z: 5 + z[:, 0], 3.0), background_name="E").bands
    assert bands.depths == list(range(len(bands.levels) - 1)) and bands.svg().count('class="low"') == 0


def test_a_plane_with_a_background_passes_an_accessibility_checker(open_page):
    background = explorable.on_plane(lambda z: z.sum(1), 3.0)
    page = open_page("<h1>A test</h1>", plane(30, background=background, background_name="log r"))
    assert not accessibility_faults(page, ".latent-plane")


def test_dragged_by_touch_the_page_shows_what_python_decodes_and_does_not_scroll(open_page):
    trained = model()
    page = open_page(plane(trained=trained), has_touch=True, is_mobile=True, viewport={"width": 390, "height": 700})
    touch = page.context.new_cdp_session(page)

    def send(kind, *points):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    send("touchStart", place(page, 0, 2))
    for z in [(0.5, 1), (1, 0), (1.5, -1), (2, -2)]:
        send("touchMove", place(page, *z))
        page.wait_for_function(
            "z => Math.abs(document.querySelector('.latent-plane').dataset.z.split(' ')[1] - z) < 0.02", arg=z[1]
        )
        assert z_of(page) == pytest.approx(z, abs=0.02)
        assert_shown(page, trained)
    send("touchEnd")
    assert page.evaluate("scrollY") == 0


def test_arrow_keys_move_the_point_by_a_tenth_and_with_shift_by_a_half(open_page):
    trained = model()
    page = open_page(plane(trained=trained))
    page.keyboard.press("Tab")
    for key, z in [
        ("ArrowRight", [0.1, 0]),
        ("ArrowUp", [0.1, 0.1]),
        ("Shift+ArrowLeft", [-0.4, 0.1]),
        ("Shift+ArrowDown", [-0.4, -0.4]),
        ("Control+ArrowLeft", [-0.4, -0.4]),
        ("a", [-0.4, -0.4]),
    ]:
        page.keyboard.press(key)
        assert z_of(page) == z
        assert_shown(page, trained)
    for _ in range(7):
        page.keyboard.press("Shift+ArrowDown")
    assert z_of(page) == [-0.4, -3]
    assert_shown(page, trained)
    assert page.evaluate("scrollY") == 0


def test_a_state_changes_in_less_than_16_milliseconds(open_page):
    page = open_page(plane(2000))
    milliseconds = page.locator(".latent-plane > svg").evaluate(
        """plane => Array.from({ length: 41 }, (_, i) => {
            const begin = performance.now();
            plane.dispatchEvent(new KeyboardEvent("keydown", { key: i % 2 ? "ArrowLeft" : "ArrowRight" }));
            return performance.now() - begin;
        })"""
    )
    assert np.median(milliseconds) < 16


def test_planes_on_one_page_do_not_disturb_each_other(open_page):
    first, second = model((16,), pixels=64), model()
    page = open_page(plane(30, trained=first, shape=(8, 8), reach=2.0), plane(trained=second))
    page.mouse.click(*place(page, 1, -1, reach=2.0, figure=0))
    page.locator(".latent-plane > svg").nth(1).press("Shift+ArrowUp")
    assert z_of(page, 0) == pytest.approx([1, -1], abs=0.02) and z_of(page, 1) == [0, 0.5]
    assert_shown(page, first, 0)
    assert_shown(page, second, 1)


def test_in_dark_mode_the_drawing_takes_the_themes_colors_and_the_image_keeps_its_own(open_page):
    trained = model()
    page = open_page(plane(50, trained=trained))
    look = """() => ["text", ".point circle"].map(name => getComputedStyle(document.querySelector(".latent-plane " + name)))
                     .flatMap(style => [style.fill, style.stroke])"""
    text, _, _, ring = page.evaluate(look)
    assert (text, ring) == ("rgb(1, 2, 3)", "rgb(255, 255, 255)")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    text, _, _, ring = page.evaluate(look)
    assert (text, ring) == ("rgb(201, 202, 203)", "rgb(20, 21, 22)")
    assert page.locator("canvas").evaluate("canvas => getComputedStyle(canvas).filter") == "none"
    assert_shown(page, trained)


def test_on_a_phone_the_image_lies_below_the_plane_and_nothing_is_cut(open_page):
    page = open_page(plane(50), viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    drawing, image = page.locator(".latent-plane > svg").bounding_box(), page.locator("canvas").bounding_box()
    assert drawing["width"] > 340 and image["y"] >= drawing["y"] + drawing["height"]


def test_a_screen_reader_finds_the_plane_its_image_and_the_value_of_z(open_page):
    page = open_page(plane(50))
    group = page.get_by_role("group", name=ALT)
    assert group.get_by_role("application", name="The arrow keys move the point").count() == 1
    assert group.get_by_role("img", name="The image decoded at the point").count() == 1
    assert group.get_by_role("status").text_content().startswith("z = (")  # a live region
    page.keyboard.press("Tab")
    assert page.locator("svg:focus").evaluate("plane => getComputedStyle(plane).outlineStyle") == "solid"


def test_nothing_moves_by_itself_and_print_shows_the_state_without_the_hint(open_page):
    page = open_page(plane(50))
    page.locator(".latent-plane > svg").press("ArrowUp")
    assert page.evaluate("document.getAnimations().length") == 0
    page.emulate_media(media="print")
    assert page.locator("canvas").is_visible() and page.locator(".latent-plane > svg").is_visible()
    assert not page.get_by_text("Drag the point").is_visible()
