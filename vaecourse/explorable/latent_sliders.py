"""A slider for each latent, and the image of the code that they make; in a page, with no kernel and no network.

What it needs is in its own HTML, the script (latent_sliders.js), the style (latent_sliders.css) and the decoder's weights
included. Where HTML cannot be shown, on paper, there is a still.
"""

from html import escape
from io import BytesIO

import torch
from matplotlib.figure import Figure
from torch import Generator

from vaecourse import figures
from vaecourse.explorable import image, inline, network
from vaecourse.explorable.alternative import check_alt
from vaecourse.explorable.plane import MINUS

MOST = 16
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


class LatentSliders:
    """What `latent_plane` returns for a model of one latent, or more than two: HTML for a page, a PNG for paper."""

    def __init__(self, model, shape, alt, codes, reach):
        check_alt(alt, "the figure")
        if not 1 <= model.latents <= MOST:
            raise ValueError(f"a figure has room for {MOST} sliders, one a latent; this model has {model.latents} latents")
        image.check_shape(shape, model.pixels)
        if reach <= 0:
            raise ValueError(f"reach must be positive, got {reach}")
        self.shape, self.alt, self.reach, self.latents = shape, alt, reach, model.latents
        codes = torch.zeros(1, model.latents) if codes is None else codes.detach().cpu()
        if codes.ndim != 2 or codes.shape[1] != model.latents or not len(codes):
            raise ValueError(f"codes must be (n, {model.latents}), at least one; got {tuple(codes.shape)}")
        self.codes = (100 * codes.clamp(-reach, reach)).round() / 100
        self.decode = network.decoder(model)
        drawn = torch.empty(200, model.latents).uniform_(-reach, reach, generator=Generator().manual_seed(0))
        z = torch.cat([drawn, self.codes])
        network.check_float16(self.decode(z), network.image(model.decode(z)))
        inline.check_weight(self._repr_html_())

    def __repr__(self) -> str:
        return f"LatentSliders: {self.alt}"

    def _repr_html_(self) -> str:
        codes = [[round(value, 2) for value in code] for code in self.codes.tolist()]
        another = '<button type="button" class="next">Next code</button>' if len(codes) > 1 else ""
        return f"""\
<div class="latent-sliders computed" role="group" aria-label="{escape(self.alt)}" data-codes="{inline.attribute(codes)}" \
{self.decode.attributes("decoder")}>
{inline.style("inline", "latent_sliders")}
{image.canvas(self.shape, "The image decoded from the sliders' code")}
<form>
{"".join(map(self._slider, range(self.latents)))}
<div class="buttons">{another}<button type="button" class="back">Reset</button><span class="said" role="status"></span></div>
</form>
{inline.script("inline", "plane", "network", "image", "latent_sliders")}
</div>"""

    def _slider(self, index: int) -> str:
        name = f"z{str(index + 1).translate(SUBSCRIPTS)}"
        ends = f'min="{-self.reach:g}" max="{self.reach:g}" step="0.01"'
        return f'<label><i>{name}</i><input type="range" {ends}><output></output></label>'

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.still().savefig(file, format="png", dpi=200)
        return file.getvalue()

    def still(self) -> Figure:
        """The first code's image as each latent moves alone from -reach to reach, a row a latent, for paper."""
        steps = torch.linspace(-self.reach, self.reach, 9)
        rows = {}
        for index in range(self.latents):
            z = self.codes[:1].repeat(len(steps), 1)
            z[:, index] = steps
            rows[f"$z_{{{index + 1}}}$"] = self.decode(z)
        figure = Figure(
            figsize=(figures.WIDTH, 0.75 * self.latents * self.shape[0] / self.shape[1] + 0.5), layout="constrained"
        )
        ax = figure.subplots()
        figures.image_rows(rows, self.shape, ax=ax)
        ax.set_title(f"from {self.reach:g} to {self.reach:g}, each latent alone".replace("from ", f"from {MINUS}", 1))
        return figure
