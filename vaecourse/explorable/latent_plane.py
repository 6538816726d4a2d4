"""A plane of latents to drag a point over, with no kernel and no network, in a page, from a file, and in a notebook.

What it needs is in its own HTML, the script (latent_plane.js), the style (latent_plane.css) and the decoder's weights
included. Where HTML cannot be shown, on paper, there is a still.
"""

from html import escape
from io import BytesIO

import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor, nn

from vaecourse import figures
from vaecourse.explorable import image, inline, network, plane
from vaecourse.explorable.alternative import check_alt
from vaecourse.explorable.codes import Codes
from vaecourse.explorable.grid import Bands, Grid
from vaecourse.explorable.latent_sliders import LatentSliders
from vaecourse.explorable.plane import MINUS


def latent_plane(
    model: nn.Module,
    shape: tuple[int, int],
    alt: str = "",
    codes: Float[Tensor, "n latents"] | None = None,
    labels: Int[Tensor, " n"] | None = None,
    reach: float = 3.0,
    background: Float[Tensor, "side side"] | None = None,
    background_name: str = "",
) -> "LatentPlane | LatentSliders":
    """A plane of two latents, from -reach to reach, with a point to drag and the image that the decoder makes of it.

    `model` is one of the book's models of images: a VAE of any kind, an Autoencoder, a GAN; the image is the decoder's mean.
    `shape` is an image's (height, width). `alt` says in words what there is to see, and is required. `codes` are drawn as
    dots, by class where there are `labels` (ten at most); the point starts at the first code on the plane, or the origin.
    `background`: numbers over the plane, [i, j] at (z1, z2) = (t_j, t_i) with t evenly from -reach to reach, shaded in bands
    with a legend, and read off at the point; `on_plane` makes them of a function. `background_name` says what they are.

    A model of one latent, or of three to sixteen, has a slider for each in the place of the plane, and starts at the first
    of the codes, between which a button changes; there are neither dots nor labels nor a background.
    Raises ValueError for a decoder that a page cannot run, weights that float16 cannot hold, a figure too heavy, or codes,
    labels and a background that do not match.
    """
    if model.latents == 2:
        return LatentPlane(model, shape, alt, codes, labels, reach, background, background_name)
    for name, given in (("labels are", labels), ("a background is", background)):
        if given is not None:
            raise ValueError(f"{name} shown on a plane of 2 latents, this model has {model.latents}: leave it out")
    return LatentSliders(model, shape, alt, codes, reach)


class LatentPlane:
    """What `latent_plane` returns for two latents: HTML for a page, a PNG for paper."""

    def __init__(self, model, shape, alt, codes=None, labels=None, reach=3.0, background=None, background_name=""):
        check_alt(alt, "the plane")
        image.check_shape(shape, model.pixels)
        if reach <= 0:
            raise ValueError(f"reach must be positive, got {reach}")
        self.shape, self.alt, self.reach = shape, alt, reach
        self.codes = Codes(codes, labels, reach)
        self.bands = None
        if background is not None:
            if not background_name:
                raise ValueError('background_name is missing: say what is shaded, for instance "log r"')
            self.bands = Bands(Grid(background, reach, name="the background"), background_name)
        self.decode = network.decoder(model)
        ticks = torch.linspace(-reach, reach, 13)
        z = torch.cartesian_prod(ticks, ticks)
        network.check_float16(self.decode(z), network.image(model.decode(z)))
        inline.check_weight(self._repr_html_())

    def __repr__(self) -> str:
        return f"LatentPlane: {self.alt}"

    @property
    def start(self) -> tuple[float, float]:
        """Where the point is at first, to two decimals."""
        z1, z2 = next(iter(self.codes.on_plane.tolist()), (0.0, 0.0))
        return round(z1, 2), round(z2, 2)

    def _repr_html_(self) -> str:
        z = self.start
        shaded = self.bands
        grid = f' {shaded.grid.attributes()} data-name="{escape(shaded.name)}"' if shaded else ""
        return f"""\
<div class="latent-plane" role="group" aria-label="{escape(self.alt)}" data-reach="{self.reach:g}" data-z="{z[0]:g} {z[1]:g}" \
{self.decode.attributes("decoder")}{grid}>
{inline.style("latent_plane", "codes", "grid")}
{self._plane()}
<div class="aside">
{image.canvas(self.shape, "The image decoded at the point")}
<output></output>
{shaded.legend() if shaded else ""}
{self.codes.legend()}
</div>
<p>Drag the point, or focus the plane and use the arrow keys (with Shift: larger steps).</p>
{inline.script("inline", "plane", "network", "image", "grid", "latent_plane")}
</div>"""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.still().savefig(file, format="png", dpi=200)
        return file.getvalue()

    def still(self) -> Figure:
        """The plane and the image as they are before the point is moved, for paper."""
        figure = Figure(figsize=(figures.WIDTH, 4.4), layout="constrained")
        codes, decoded = figure.subplots(1, 2, width_ratios=(2, 1))
        if self.bands:
            self.bands.draw(codes)
        figures.latent_scatter(self.codes.codes, self.codes.labels, ax=codes)
        codes.plot(*self.start, "o", color="black", markersize=9, markeredgecolor="white", markeredgewidth=2)
        codes.set(xlim=(-self.reach, self.reach), ylim=(-self.reach, self.reach))
        figures.image_grid(self.decode(torch.tensor([self.start])), self.shape, ax=decoded)
        decoded.set_title("z = ({:.2f}, {:.2f})".format(*self.start).replace("-", MINUS))
        return figure

    def _plane(self) -> str:
        return plane.svg(
            self.reach,
            inside=f"{self.bands.svg() if self.bands else ''}{self.codes.svg()}",
            above='<path class="guides"/><g class="point"><circle r="8"/></g>',
            role="plane with a point to move",
            label="Latent plane. The arrow keys move the point, with Shift in larger steps.",
        )
