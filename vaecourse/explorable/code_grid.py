"""A grid of words, codes of a codebook, of which a reader changes one after another; the image is decoded in the page.

What it needs is in its own HTML, the script (code_grid.js), the style (code_grid.css), the codebook and the decoder's weights
included. Where HTML cannot be shown, on paper, there is a still.
"""

from html import escape
from io import BytesIO

import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn

from vaecourse import figures
from vaecourse.explorable import image, inline, network
from vaecourse.explorable.alternative import check_alt
from vaecourse.explorable.network import Network
from vaecourse.networks import OnImages
from vaecourse.vq_vae import VQVAE
from vaecourse.vq_vae.model import to_grid

MOST_WORDS = 512
UNIT = 40  # a place of the grid in its drawing
CHANGED = 0.02  # a pixel that has changed by more, 5 gray levels, is counted


def code_grid(
    model: VQVAE,
    codes: Int[Tensor, " positions"] | Int[Tensor, "n positions"],
    shape: tuple[int, int],
    alt: str = "",
) -> "CodeGrid":
    """The grid of words that is an image to a VQ-VAE: one is chosen and changed, and the image is decoded at once.

    `codes`: the grid of an image, as `model.codes(x)` gives it, or of several, between which a button changes. `shape` is an
    image's (height, width); `alt` says in words what there is to see, and is required. Beside the image stands what has changed
    of it: brighter pixels in one color, darker ones in another. Each word of the codebook is shown by what it would draw at the
    chosen place: the image there and one place around.
    Raises ValueError for codes that are not the model's, a codebook of more than 512 words, a decoder that a page cannot run,
    weights that float16 cannot hold, and a figure too heavy.
    """
    return CodeGrid(model, codes, shape, alt)


class CodeGrid:
    """What `code_grid` returns: HTML for a page, a PNG for paper."""

    def __init__(self, model, codes, shape, alt):
        check_alt(alt, "the figure")
        image.check_shape(shape, model.pixels)
        self.shape, self.alt, self.words = shape, alt, model.codebook.codes
        if self.words > MOST_WORDS:
            raise ValueError(f"a page shows a codebook of at most {MOST_WORDS} words, this one has {self.words}")
        self.codes = torch.atleast_2d(codes).cpu()
        if self.codes.ndim != 2 or self.codes.shape[1] != model.latents or not len(self.codes):
            raise ValueError(f"codes must be ({model.latents},) or (n, {model.latents}); got shape {tuple(codes.shape)}")
        if not (self.codes.min() >= 0 and self.codes.max() < self.words):
            raise ValueError(
                f"codes must lie in 0..{self.words - 1}, the codebook's words; got {self.codes.min()}..{self.codes.max()}"
            )
        self.grid = _grid(model)
        self.vectors = model.codebook.vectors.detach().cpu().half()
        self.decoder = Network(network.means(model.decoder, model.pixels), model.latents * model.codebook.dim)
        drawn = torch.randint(self.words, (50, model.latents), generator=Generator().manual_seed(0))
        k = torch.cat([self.codes, drawn])
        network.check_float16(self.decode(k), network.image(model.decode(k)))
        inline.check_weight(self._repr_html_())

    def __repr__(self) -> str:
        return f"CodeGrid: {self.alt}"

    def decode(self, codes: Int[Tensor, "n positions"]) -> Float[Tensor, "n pixels"]:
        """What the page shows: the decoder's means, its weights and the codebook rounded to float16."""
        return self.decoder(to_grid(self.vectors.float()[codes]))

    def _repr_html_(self) -> str:
        rows, columns = self.grid
        here = f'<span class="here" style="width:{100 / columns:.4g}%;height:{100 / rows:.4g}%"></span>'
        images = '<button type="button" class="next">Next image</button>' if len(self.codes) > 1 else ""
        return f"""\
<div class="code-grid computed" role="group" aria-label="{escape(self.alt)}" data-grid="{rows} {columns}" \
data-codes="{inline.attribute(self.codes.tolist())}" data-changed="{CHANGED}" \
data-vectors="{inline.numbers(self.vectors, torch.float16)}" \
{self.decoder.attributes("decoder")}>
{inline.style("inline", "code_grid")}
<div class="panes">
<div class="pane">{self._board()}<div class="title">Words</div></div>
<div class="pane"><div class="sheet">{image.canvas(self.shape, "The image decoded from the words", "decoded")}{here}</div>\
<div class="title">Image</div></div>
<div class="pane"><div class="sheet">{image.canvas(self.shape, "What has changed of the image", "change")}{here}</div>\
<div class="title">Change: <span class="more">brighter</span>, <span class="less">darker</span></div></div>
<output></output>
</div>
<div class="book" role="listbox" tabindex="0" data-lm-suppress-shortcuts="true" \
aria-label="The codebook: the word at the chosen place. The arrow keys change it.">{self._book()}</div>
<div class="buttons"><button type="button" class="undo">Undo this place</button>\
<button type="button" class="reset">Reset</button>{images}</div>
<p class="hint">Choose a place among the words or on the image (or focus the words and use the arrow keys), then a word of the \
codebook (by arrow keys, too).</p>
{inline.script("inline", "plane", "network", "image", "code_grid")}
</div>"""

    def _board(self) -> str:
        """The grid of words: a look and a number each, painted by the script."""
        rows, columns = self.grid
        lines = "".join(f"M0 {UNIT * i}H{UNIT * columns}" for i in range(rows + 1))
        lines += "".join(f"M{UNIT * i} 0V{UNIT * rows}" for i in range(columns + 1))
        places = "".join(
            f'<text x="{UNIT * (i % columns + 0.5):g}" y="{UNIT * (i // columns + 0.5):g}"></text>'
            for i in range(rows * columns)
        )
        return f"""\
<svg class="board" viewBox="-2 -2 {UNIT * columns + 4} {UNIT * rows + 4}" tabindex="0" role="application" \
data-lm-suppress-shortcuts="true" aria-roledescription="grid of words" \
aria-label="Words. The arrow keys choose a place, plus and minus change the word there."><path class="lines" d="{lines}"/>\
<g class="touched"></g><rect class="chosen" width="{UNIT}" height="{UNIT}"/>{places}</svg>"""

    def _book(self) -> str:
        tall, wide = 3 * self.shape[0] // self.grid[0], 3 * self.shape[1] // self.grid[1]
        return "".join(
            f'<span role="option" aria-selected="false" aria-label="word {k}">'
            f'<canvas width="{wide}" height="{tall}" aria-hidden="true"></canvas><small>{k}</small></span>'
            for k in range(self.words)
        )

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.still().savefig(file, format="png", dpi=200)
        return file.getvalue()

    def still(self) -> Figure:
        """The first grid, its words by number, and its image, for paper."""
        figure = Figure(figsize=(figures.WIDTH, 3.6), layout="constrained")
        words, decoded = figure.subplots(1, 2)
        rows, columns = self.grid
        words.set(xlim=(0, columns), ylim=(rows, 0), xticks=range(columns + 1), yticks=range(rows + 1), aspect="equal")
        words.tick_params(length=0, labelbottom=False, labelleft=False)
        words.grid(color="#dddddd")
        for place, word in enumerate(self.codes[0].tolist()):
            words.text(place % columns + 0.5, place // columns + 0.5, str(word), ha="center", va="center", fontsize=9)
        words.set_title("words")
        figures.image_grid(self.decode(self.codes[:1]), self.shape, ax=decoded)
        decoded.set_title("image")
        return figure


def _grid(model: nn.Module) -> tuple[int, int]:
    """The rows and columns of a model's grid: those of the images that its decoder is given, or a square."""
    inner = getattr(model.decoder, "net", None)
    if isinstance(inner, OnImages):
        return inner.shape[1:]
    side = round(model.latents**0.5)
    if side**2 != model.latents:
        raise ValueError(f"the decoder does not say how its {model.latents} places lie: make it one of OnImages")
    return side, side
