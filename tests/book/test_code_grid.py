"""The grid of words: what is written into the page, and what a real browser makes of it. The oracle is Python's decoder."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import accessibility_faults
from vaecourse import explorable, vq_vae

ALT = 'A grid of words; "one" & <another>.'
GRAY_LEVEL = 1 / 255


def model(codes=20, shape=(1, 28, 28), halvings=2, contrast=2.0, **settings):
    """An untrained VQ-VAE, its decoder's weights enlarged, so that its images have contrast."""
    untrained = vq_vae.conv_vq_vae(shape, codes, 4, halvings=halvings, width=16, **settings)
    with torch.no_grad():
        for parameter in untrained.decoder.parameters():
            parameter.mul_(contrast)
    return untrained


TRAINED = model()


def codes(n, words=20, positions=49):
    return torch.randint(words, (n, positions), generator=torch.Generator().manual_seed(0))


def grid(n=1, trained=TRAINED, shape=(28, 28), **settings):
    return explorable.code_grid(trained, codes(n, positions=trained.latents), shape, ALT, **settings)


# What is written


def test_the_page_decodes_as_the_model_does_to_half_a_gray_level():
    k = codes(5)
    np.testing.assert_allclose(grid(5).decode(k), TRAINED.decode(k).mean.detach(), atol=GRAY_LEVEL / 2)


def test_the_alternative_text_is_escaped_and_a_page_weighs_little():
    html = grid()._repr_html_()
    assert 'aria-label="A grid of words; &quot;one&quot; &amp; &lt;another&gt;."' in html
    assert repr(grid()) == f"CodeGrid: {ALT}"
    assert len(grid(10, model(512))._repr_html_()) < 200_000


def test_on_paper_the_first_grid_stands_beside_its_image():
    figure = grid(3)
    assert figure._repr_png_().startswith(b"\x89PNG")
    words, decoded = figure.still().axes
    assert [text.get_text() for text in words.texts] == [str(word) for word in codes(3)[0].tolist()]
    np.testing.assert_allclose(decoded.images[0].get_array()[-28:], figure.decode(codes(3)[:1]).reshape(28, 28), atol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"alt": " "}, "alt is missing: say in a sentence or two what the figure shows"),
        ({"shape": (14, 14)}, r"images of shape \(14, 14\) have 196 pixels, the model's have 784"),
        ({"codes": torch.zeros(48).long()}, r"codes must be \(49,\) or \(n, 49\); got shape \(48,\)"),
        ({"codes": torch.zeros(0, 49).long()}, r"got shape \(0, 49\)"),
        ({"codes": torch.full((49,), 20)}, r"codes must lie in 0..19, the codebook's words; got 20..20"),
        ({"codes": torch.full((49,), -1)}, "codes must lie in 0..19"),
        ({"model": model(600)}, "a codebook of at most 512 words, this one has 600"),
        ({"model": model(contrast=float("nan"))}, "float16 cannot hold the decoder"),
    ],
)
def test_what_cannot_be_shown_is_refused(change, message):
    given = {"model": TRAINED, "codes": codes(1), "shape": (28, 28), "alt": ALT, **change}
    with pytest.raises(ValueError, match=message):
        explorable.code_grid(**given)


# What a reader does


def shown(page, name=".decoded"):
    url = page.locator(name).evaluate("canvas => canvas.toDataURL()")
    return np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))).reshape(-1, 4)


def words_of(page):
    return torch.tensor([int(word) for word in page.locator(".code-grid").get_attribute("data-words").split()])


def assert_shown(page, trained=TRAINED, given=None):
    """The words on the grid, the network that the page runs and the bytes on its canvases are what Python says."""
    words = words_of(page)
    expected = trained.decode(words[None]).mean[0].detach().numpy()
    computed = page.locator(".code-grid").evaluate("(figure, words) => Array.from(figure.decode(words))", words.tolist())
    np.testing.assert_allclose(computed, expected, atol=GRAY_LEVEL, rtol=0)
    red = shown(page)[:, 0]
    np.testing.assert_allclose(red / 255, expected.clip(0, 1), atol=GRAY_LEVEL, rtol=0)
    assert [int(text) for text in page.locator(".board text").all_text_contents()] == words.tolist()
    before = trained.decode((codes(1) if given is None else given)[:1]).mean[0].detach().numpy()
    opacity, green = shown(page, ".change")[:, 3] / 255, shown(page, ".change")[:, 1]
    np.testing.assert_allclose(opacity, np.abs(expected - before).clip(0, 1) ** 0.5, atol=0.05)
    clear = np.abs(expected - before) > 0.05
    assert ((green[clear] > 120) == (expected > before)[clear]).all()


def choose(page, row, column, element=".board"):
    box = page.locator(element).bounding_box()
    page.mouse.click(box["x"] + box["width"] * (column + 0.5) / 7, box["y"] + box["height"] * (row + 0.5) / 7)


def said(page):
    return page.locator("output").text_content()


def test_a_place_is_clicked_its_word_changed_and_the_image_decoded_at_once(open_page):
    page = open_page(grid())
    assert words_of(page).tolist() == codes(1)[0].tolist()
    assert_shown(page)
    assert (shown(page, ".change")[:, 3] == 0).all()
    choose(page, 2, 5)
    was = codes(1)[0, 19].item()
    word = (was + 7) % 20
    page.get_by_role("option", name=f"word {word}", exact=True).click()
    assert words_of(page)[19] == word and (words_of(page) != codes(1)[0]).sum() == 1
    assert_shown(page)
    changed = TRAINED.decode(words_of(page)[None]).mean[0] - TRAINED.decode(codes(1)).mean[0]
    count = int((changed.abs() > 0.02).sum())
    assert said(page) == f"Row 3, column 6: word {word} (was {was}). Pixels changed so far: {count} of 784." and count > 10
    choose(page, 6, 0, ".decoded")
    assert said(page).startswith(f"Row 7, column 1: word {codes(1)[0, 42]}. Pixels")
    page.get_by_role("option", name="word 3", exact=True).click()
    assert_shown(page)
    assert page.locator(".touched rect").count() == (words_of(page) != codes(1)[0]).sum()
    page.get_by_role("button", name="Undo this place").click()
    assert words_of(page)[42] == codes(1)[0, 42] and words_of(page)[19] == word
    page.get_by_role("button", name="Reset").click()
    assert words_of(page).tolist() == codes(1)[0].tolist()
    assert_shown(page)


def test_each_word_shows_what_it_would_draw_at_the_chosen_place(open_page):
    page = open_page(grid())
    for row, column in [(3, 3), (0, 6)]:
        choose(page, row, column)
        page.locator(f'.code-grid[data-previewed="{7 * row + column}"]').wait_for()
        for word in (0, 7, 19):
            k = codes(1).clone()
            k[0, 7 * row + column] = word
            image = np.pad(TRAINED.decode(k).mean.detach().numpy().reshape(28, 28), 4)  # black around it
            expected = image[4 * row : 4 * row + 12, 4 * column : 4 * column + 12]
            seen = shown(page, f"[role=option]:nth-child({word + 1}) canvas")[:, 0]
            np.testing.assert_allclose(seen.reshape(12, 12) / 255, expected, atol=GRAY_LEVEL)


def test_by_keys_a_place_is_chosen_and_its_word_changed(open_page):
    page = open_page(grid())
    page.keyboard.press("Tab")
    middle = codes(1)[0, 24].item()
    for key, place in [("ArrowRight", 25), ("ArrowUp", 18), ("ArrowLeft", 17), ("ArrowDown", 24), ("Control+ArrowUp", 24)]:
        page.keyboard.press(key)
        assert page.locator(".code-grid").get_attribute("data-place") == str(place)
    page.keyboard.press("+")
    assert words_of(page)[24] == (middle + 1) % 20
    page.keyboard.press("-")
    page.keyboard.press("-")
    assert words_of(page)[24] == (middle - 1) % 20
    assert_shown(page)
    for _ in range(9):
        page.keyboard.press("ArrowUp")
    assert page.locator(".code-grid").get_attribute("data-place") == "3"  # the edge holds
    page.keyboard.press("Tab")
    word = words_of(page)[3].item()
    step = "ArrowRight" if word < 19 else "ArrowLeft"
    page.keyboard.press(step)
    assert abs(words_of(page)[3] - word) == 1
    assert_shown(page)
    assert page.evaluate("scrollY") == 0


def test_another_image_is_shown_with_its_own_words(open_page):
    page = open_page(grid(3))
    page.get_by_role("button", name="Next image").click()
    assert words_of(page).tolist() == codes(3)[1].tolist()
    assert_shown(page, given=codes(3)[1:])
    for _ in range(2):
        page.get_by_role("button", name="Next image").click()
    assert words_of(page).tolist() == codes(3)[0].tolist()


def test_gaussian_pixels_and_other_grids_are_shown_too(open_page):
    trained = model(12, (1, 8, 8), halvings=1, contrast=1.0, log_sigma=-1.0)
    figure = explorable.code_grid(trained, codes(1, 12, 16)[0], (8, 8), ALT)
    page = open_page(figure)
    choose(page, 0, 0)
    page.get_by_role("option", name="word 5", exact=True).click()
    assert_shown(page, trained, codes(1, 12, 16))


def test_a_word_changes_in_less_than_30_milliseconds(open_page):
    page = open_page(grid())
    milliseconds = page.locator(".board").evaluate(
        """board => Array.from({ length: 31 }, () => {
            const begin = performance.now();
            board.dispatchEvent(new KeyboardEvent("keydown", { key: "+" }));
            return performance.now() - begin;
        })"""
    )
    assert np.median(milliseconds) < 30


def test_two_grids_on_a_page_do_not_disturb_each_other(open_page):
    page = open_page(grid(), grid(2))
    page.locator(".board").nth(1).press("+")
    first, second = (figure.get_attribute("data-words") for figure in page.locator(".code-grid").all())
    assert first == " ".join(map(str, codes(1)[0].tolist())) != second
    identities = page.locator("[role=option]").evaluate_all("options => options.map(option => option.id)")
    assert len(set(identities)) == 40


def test_contrast_names_and_roles_pass_an_accessibility_checker(open_page):
    page = open_page("<h1>A test</h1>", grid(2))
    page.locator(".board").press("+")
    assert not accessibility_faults(page, ".code-grid")


def test_on_a_phone_nothing_is_cut_and_in_print_the_words_and_the_image_stay(open_page):
    page = open_page(grid(2), viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.emulate_media(media="print")
    assert page.locator(".board").is_visible() and page.locator(".decoded").is_visible()
    assert not page.get_by_text("Choose a place").is_visible() and not page.locator(".book").is_visible()
