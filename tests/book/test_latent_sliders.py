"""A slider for each latent: what is written, and what a real browser makes of it. The oracle is Python's decoder."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import accessibility_faults
from vaecourse import autoencoders, explorable, vae

ALT = 'Sliders; "one" & <another>.'
GRAY_LEVEL = 1 / 255


def model(latents=5):
    return vae.bernoulli_vae(64, latents, hidden=(32,))


def codes(n, latents=5):
    return torch.randn(n, latents, generator=torch.Generator().manual_seed(0))


def sliders(n=0, trained=None, **settings):
    trained = trained or model()
    return explorable.latent_plane(trained, (8, 8), ALT, codes(n, trained.latents) if n else None, **settings)


@pytest.mark.parametrize("latents", [1, 3, 16])
def test_a_model_of_any_other_number_of_latents_than_two_has_a_slider_for_each(latents):
    html = sliders(trained=model(latents))._repr_html_()
    assert html.count('type="range" min="-3" max="3"') == latents
    assert f"<i>z{str(latents).translate(str.maketrans('0136', '₀₁₃₆'))}</i>" in html
    assert 'aria-label="Sliders; &quot;one&quot; &amp; &lt;another&gt;."' in html


def test_on_paper_each_latent_moves_alone_from_the_first_code():
    figure = sliders(2)
    assert figure._repr_png_().startswith(b"\x89PNG") and repr(figure) == f"LatentSliders: {ALT}"
    (axes,) = figure.still().axes
    assert axes.get_title() == "from −3 to 3, each latent alone" and len(axes.get_yticklabels()) == 5
    z = figure.codes[0].clone()
    z[4] = 3
    np.testing.assert_allclose(axes.images[0].get_array()[-8:, -8:], figure.decode(z[None]).reshape(8, 8), atol=1e-6)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"model": model(17)}, "room for 16 sliders, one a latent; this model has 17 latents"),
        ({"labels": torch.zeros(3).long()}, "labels are shown on a plane of 2 latents, this model has 5: leave it out"),
        ({"background": torch.zeros(9, 9)}, "a background is shown on a plane"),
        ({"codes": torch.zeros(0, 5)}, r"codes must be \(n, 5\), at least one; got \(0, 5\)"),
        ({"codes": torch.zeros(3, 2)}, r"codes must be \(n, 5\), at least one; got \(3, 2\)"),
        ({"shape": (4, 4)}, r"images of shape \(4, 4\) have 16 pixels, the model's have 64"),
        ({"reach": 0.0}, "reach must be positive"),
        ({"alt": ""}, "alt is missing"),
    ],
)
def test_what_cannot_be_shown_is_refused(settings, message, no_shape_checks):
    with pytest.raises(ValueError, match=message):
        explorable.latent_plane(**{"model": model(), "shape": (8, 8), "alt": ALT, **settings})


def assert_shown(page, trained):
    z = [float(value) for value in page.locator(".latent-sliders").get_attribute("data-z").split()]
    decoded = trained.decode(torch.tensor([z]))
    expected = (decoded if isinstance(decoded, torch.Tensor) else decoded.mean)[0].detach().numpy()
    url = page.locator("canvas").evaluate("canvas => canvas.toDataURL()")
    red = np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))).reshape(-1, 4)[:, 0]
    np.testing.assert_allclose(red / 255, expected.clip(0, 1), atol=GRAY_LEVEL, rtol=0)
    written = page.locator("output").all_text_contents()
    assert written == [f"{value:.2f}".replace("-", "\u2212") for value in z]
    return z


@pytest.mark.parametrize("trained", [model(), autoencoders.convolutional((1, 8, 8), 3)], ids=["VAE", "convolutional"])
def test_a_slider_is_moved_and_the_image_decoded_as_python_does_it(open_page, trained):
    page = open_page(sliders(3, trained))
    start = codes(3, trained.latents)[0]
    np.testing.assert_allclose(assert_shown(page, trained), start, atol=0.0051)
    second = page.get_by_role("slider", name="z₂")
    second.focus()
    page.keyboard.press("End")
    assert assert_shown(page, trained)[1] == 3
    page.keyboard.press("ArrowLeft")
    assert assert_shown(page, trained)[1] == 2.99
    page.get_by_role("button", name="Next code").click()
    np.testing.assert_allclose(assert_shown(page, trained), codes(3, trained.latents)[1].clamp(-3, 3), atol=0.0051)
    assert page.locator(".said").text_content() == "Code 2 of 3"
    second.focus()
    page.keyboard.press("Home")
    page.get_by_role("button", name="Reset").click()
    np.testing.assert_allclose(assert_shown(page, trained), codes(3, trained.latents)[1].clamp(-3, 3), atol=0.0051)


def test_without_codes_the_sliders_start_in_the_middle(open_page):
    page = open_page(sliders())
    assert assert_shown(page, model()) == [0, 0, 0, 0, 0]
    assert page.get_by_role("button").all_text_contents() == ["Reset"]


def test_figures_that_compute_share_a_page_without_a_clash_of_styles(open_page):
    """A plane with dots, then chains: each keeps its own strokes."""
    chains = explorable.langevin(torch.zeros(1, 2), torch.eye(2), "Chains.")
    flat = explorable.latent_plane(vae.bernoulli_vae(64, 2), (8, 8), "A plane.", codes(20, 2))
    widths = []
    for figures in ([chains], [flat], [chains, flat, sliders()]):
        page = open_page(*figures)
        look = "dots => dots.map(dot => [dot.closest('[role=group]').className, getComputedStyle(dot).strokeWidth])"
        widths.append(page.locator(".dots").evaluate_all(look))
    assert widths[2] == [*widths[0], *widths[1]] == [["langevin", "55px"], ["latent-plane", "3.5px"]]


def test_contrast_names_and_roles_pass_an_accessibility_checker(open_page):
    page = open_page("<h1>A test</h1>", sliders(2))
    assert not accessibility_faults(page, ".latent-sliders")


def test_on_a_phone_nothing_is_cut_and_in_print_the_image_stays(open_page):
    page = open_page(sliders(2, model(16)), viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.emulate_media(media="print")
    assert page.locator("canvas").is_visible() and not page.get_by_role("button", name="Reset").is_visible()
