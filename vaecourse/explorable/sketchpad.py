"""A place to draw: the drawing's code, its posterior on the plane of latents, and what the decoder makes of it, in the page.

What it needs is in its own HTML, the script (sketchpad.js), the style (sketchpad.css) and both networks' weights included.
Where HTML cannot be shown, on paper, there is a still.
"""

from collections.abc import Mapping
from dataclasses import asdict
from html import escape
from io import BytesIO

import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from torch import Tensor, nn

from vaecourse import figures
from vaecourse.distributions import Normal
from vaecourse.explorable import drawing, image, inline, network, plane
from vaecourse.explorable.alternative import check_alt
from vaecourse.explorable.codes import Codes

EXAMPLES = 4
CHECKED = 500  # images


def sketchpad(
    model: nn.Module,
    shape: tuple[int, int],
    images: Float[Tensor, "n pixels"],
    alt: str = "",
    labels: Int[Tensor, " n"] | None = None,
    examples: Mapping[str, Float[Tensor, " pixels"]] | None = None,
    reach: float | None = None,
) -> "Sketchpad":
    """A place to draw on, by mouse, finger or keys; beside it the drawing's code and what the decoder makes of that.

    `model`: a VAE of two latents, whose posterior is shown by its mean and by ellipses of one and two standard deviations, or
    an Autoencoder of two, which gives the code alone. `shape` is an image's (height, width). `images` are the data: their codes
    are dots, by class where there are `labels` (ten at most), and they say how a drawing should look (`drawing.Look`): what is
    drawn is scaled to the data's mean size, put where the data lie, and averaged over each pixel's area. `examples`, images by
    name, are shown as they are: by default the first of four classes, or the first four images; a scribble always comes last.
    `alt` says in words what there is to see, and is required. The plane goes from -reach to reach, by default a little beyond
    the codes. Below stands the squared error of the reconstruction, beside the one that 95 % of the images fall short of.
    Raises ValueError for a model without two latents or with networks that a page cannot run, weights that float16 cannot hold,
    a figure too heavy, and images, labels or examples that do not match.
    """
    return Sketchpad(model, shape, images, alt, labels, examples, reach)


class Sketchpad:
    """What `sketchpad` returns: HTML for a page, a PNG for paper."""

    def __init__(self, model, shape, images, alt, labels, examples, reach):
        check_alt(alt, "the figure")
        if model.latents != 2:
            raise ValueError(f"codes are shown on a plane of 2 latents, this model has {model.latents}")
        image.check_shape(shape, model.pixels)
        if images.ndim != 2 or images.shape[1] != model.pixels or not len(images):
            raise ValueError(f"images must be rows, (n, {model.pixels}), at least one; got {tuple(images.shape)}")
        self.shape, self.alt = shape, alt
        self.look = drawing.look(images, shape)
        self.encoder, self.fixed = network.encoder(model)
        self.decode = network.decoder(model, network.DECODER)
        codes, _ = self.encode(images)
        self.reach = 1.1 * codes.abs().max().item() if reach is None else reach
        if not self.reach > 0:
            raise ValueError(f"reach must be positive, got {self.reach}")
        self.codes = Codes(codes, labels, self.reach)
        self.examples = _examples(images, self.codes.labels) if examples is None else dict(examples)
        if not self.examples or any(row.shape != (model.pixels,) for row in self.examples.values()):
            raise ValueError(f"examples must be rows of {model.pixels} pixels by name, at least one")
        self._check(model, images[:CHECKED])
        errors = ((self.decode(codes) - images.cpu()) ** 2).sum(1)
        self.usual = errors.quantile(0.95).item()
        inline.check_weight(self._repr_html_(), "narrower networks")

    def __repr__(self) -> str:
        return f"Sketchpad: {self.alt}"

    def encode(self, x: Float[Tensor, "n pixels"]) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2"] | None]:
        """What the page shows: the codes' means and standard deviations, if there are any, by the rounded weights."""
        out = self.encoder(x)
        if self.encoder.outputs == 4:
            return out[:, :2], out[:, 2:].exp()
        return out, None if self.fixed is None else self.fixed.exp().expand_as(out)

    def _check(self, model: nn.Module, images: Tensor) -> None:
        """Raise ValueError where rounding the weights moves what is shown."""
        mean, sigma = self.encode(images)
        with torch.no_grad():
            q = model.encode(images)
        exact = (q.mean if isinstance(q, Normal) else q).cpu()
        moved = (mean - exact).abs().max().item()
        if sigma is not None:
            moved = max(moved, (sigma - q.log_sigma.exp().cpu()).abs().max().item())
        if not moved <= self.reach / 200:
            raise ValueError(
                f"the page cannot hold the encoder: rounding its weights moves a code by {moved:.2g}, more than a 200th of the "
                f"plane's reach, {self.reach:.2g}. Are the weights finite and of ordinary size?"
            )
        network.check_float16(self.decode(mean), network.image(model.decode(mean)))

    def _repr_html_(self) -> str:
        height, width = self.shape
        fine = max(1, round(drawing.FINE / max(self.shape)))
        look = asdict(self.look) | {"threshold": drawing.INK, "most": drawing.MOST}
        fixed = "" if self.fixed is None else f' data-log-sigma="{inline.attribute(self.fixed.tolist())}"'
        return f"""\
<div class="sketchpad computed" role="group" aria-label="{escape(self.alt)}" data-reach="{self.reach:g}" data-fine="{fine}" \
data-look="{inline.attribute(look)}" data-usual="{self.usual:.3g}" data-examples="{self._pixels()}"{fixed} \
{self.encoder.attributes("encoder")} {self.decode.attributes("decoder")}>
{inline.style("inline", "codes", "sketchpad")}
<div class="pads">
<div class="pane pad"><div class="sheet"><canvas class="drawn" width="{fine * width}" height="{fine * height}" tabindex="0" \
role="application" data-lm-suppress-shortcuts="true" aria-roledescription="sheet to draw on" aria-label="Sheet. The arrow keys \
move the pen, the space bar puts it down and lifts it, Delete clears."></canvas><span class="pen"></span></div>\
<div class="title">Draw here</div></div>
<div class="pane">{image.canvas(self.shape, "What the encoder is given", "given")}<div class="title">Input</div></div>
<div class="pane">{image.canvas(self.shape, "What the decoder makes of the code", "decoded")}\
<div class="title">Reconstruction</div></div>
</div>
<div class="code">{self._plane()}{self.codes.legend()}</div>
<div class="below"><output></output>
<div class="buttons"><button type="button" class="clear">Clear</button>{self._thumbnails()}</div></div>
<p class="hint">Draw with the mouse or a finger. Or focus the sheet, move the pen by arrow keys (with Shift: larger steps), \
and put it down or lift it with the space bar. What is drawn is scaled and moved to where the data lie.</p>
{inline.script("inline", "plane", "network", "image", "drawing", "sketchpad")}
</div>"""

    def _pixels(self) -> str:
        return inline.numbers(torch.stack([row.cpu().float() for row in self.examples.values()]), torch.float16)

    def _thumbnails(self) -> str:
        height, width = self.shape
        names = [*self.examples, "a scribble"]
        return "".join(
            f'<button type="button" class="example" aria-label="Example: {escape(str(name))}">'
            f'<canvas width="{width}" height="{height}" aria-hidden="true"></canvas></button>'
            for name in names
        )

    def _plane(self) -> str:
        ellipses = '<ellipse class="posterior"/><ellipse class="posterior"/>'
        return plane.svg(
            self.reach,
            inside=f"{self.codes.svg()}<svg {plane.WINDOW}>{ellipses}</svg>",
            above='<g class="point"><circle r="5"/></g>',
            role="",
            label="The plane of latents with the code of the drawing.",
        )

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.still().savefig(file, format="png", dpi=200)
        return file.getvalue()

    def still(self) -> Figure:
        """The first example, its code and posterior, and its reconstruction, for paper."""
        x = next(iter(self.examples.values()))[None].cpu()
        mean, sigma = self.encode(x)
        figure = Figure(figsize=(figures.WIDTH, 4.0), layout="constrained")
        panes = figure.subplot_mosaic([["given", "code"], ["decoded", "code"]], width_ratios=(1, 2.2))
        figures.latent_scatter(self.codes.codes, self.codes.labels, ax=panes["code"])
        if sigma is not None:
            for count in (1, 2):
                size = (2 * count * sigma[0]).tolist()
                panes["code"].add_patch(Ellipse(mean[0].tolist(), *size, fill=False, color="black", linewidth=1.2, zorder=4))
        panes["code"].plot(*mean[0].tolist(), "o", color="black", markersize=5, markeredgecolor="white", zorder=5)
        panes["code"].set(xlim=(-self.reach, self.reach), ylim=(-self.reach, self.reach))
        for name, shown in (("given", x), ("decoded", self.decode(mean))):
            figures.image_grid(shown, self.shape, ax=panes[name])
            panes[name].set_title({"given": "the encoder's input", "decoded": "reconstruction"}[name])
        return figure


def _examples(images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
    """The first image of each of the first classes, or the first images."""
    if labels is None:
        return {f"image {i + 1}": row for i, row in enumerate(images[:EXAMPLES])}
    classes = labels.unique().tolist()
    chosen = classes[:: max(1, len(classes) // EXAMPLES)][:EXAMPLES]
    return {str(label): images[(labels == label).nonzero()[0, 0]] for label in chosen}
