"""A plane of latents to drag a point over, with no kernel and no network, in a page, from a file, and in a notebook.

What it needs is in its own HTML, the script (latent_plane.js), the style (latent_plane.css) and the decoder's weights
included. Where HTML cannot be shown, on paper, there is a still.
"""

from base64 import b64encode
from html import escape
from importlib.resources import files
from io import BytesIO
from itertools import pairwise
from math import prod

import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor, nn

from vaecourse import figures
from vaecourse.explorable import plane
from vaecourse.explorable.alternative import check_alt
from vaecourse.explorable.plane import LEFT, MINUS, SIDE, TOP, at
from vaecourse.networks import BernoulliNetwork
from vaecourse.vae import VAE


def latent_plane(
    vae: VAE,
    shape: tuple[int, int],
    alt: str = "",
    codes: Float[Tensor, "n 2"] | None = None,
    labels: Int[Tensor, " n"] | None = None,
    reach: float = 3.0,
) -> "LatentPlane":
    """A plane of two latents, from -reach to reach, with a point to drag and the image that the decoder makes of it.

    `shape` is an image's (height, width). `alt` says in words what there is to see, and is required. `codes` are drawn as
    dots, by class where there are `labels` (ten at most); the point starts at the first code on the plane, or the origin.
    Raises ValueError for a model without two latents, a decoder that is not a BernoulliNetwork of Linear layers with Tanh
    between, weights that float16 cannot hold, or codes and labels that do not match.
    """
    return LatentPlane(vae, shape, alt, codes, labels, reach)


class LatentPlane:
    """What `latent_plane` returns: HTML for a page, a PNG for paper."""

    def __init__(self, vae, shape, alt, codes, labels, reach):
        check_alt(alt, "the plane")
        if vae.latents != 2:
            raise ValueError(f"a plane has 2 latents, this model has {vae.latents}")
        if prod(shape) != vae.pixels:
            raise ValueError(f"images of shape {shape} have {prod(shape)} pixels, the model's have {vae.pixels}")
        if reach <= 0:
            raise ValueError(f"reach must be positive, got {reach}")
        self.shape, self.alt, self.reach = shape, alt, reach
        self.codes, self.labels = _codes(codes, labels)
        self.classes = [] if self.labels is None else self.labels.unique().tolist()
        if len(self.classes) > len(figures.CLASS_COLORS):
            raise ValueError(f"at most {len(figures.CLASS_COLORS)} classes have a color, there are {len(self.classes)}")
        self.layers = [(layer.weight.detach().cpu().half(), layer.bias.detach().cpu().half()) for layer in _layers(vae)]
        self._check_float16(vae)

    def __repr__(self) -> str:
        return f"LatentPlane: {self.alt}"

    @property
    def start(self) -> tuple[float, float]:
        """Where the point is at first, to two decimals."""
        on_plane = self.codes[(self.codes.abs() <= self.reach).all(1)]
        z1, z2 = on_plane[0].tolist() if len(on_plane) else (0.0, 0.0)
        return round(z1, 2), round(z2, 2)

    @property
    def weights(self) -> bytes:
        """The decoder's parameters as little-endian float16: each layer's weight (out x in, by rows), then its bias."""
        return b"".join(parameter.numpy().astype("<f2").tobytes() for layer in self.layers for parameter in layer)

    def decode(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch pixels"]:
        """What the page shows: the decoder's means with its weights rounded to float16."""
        *hidden, (weight, bias) = self.layers
        for w, b in hidden:
            z = torch.tanh(z @ w.float().T + b.float())
        return torch.sigmoid(z @ weight.float().T + bias.float())

    @torch.no_grad()
    def _check_float16(self, vae: VAE) -> None:
        ticks = torch.linspace(-self.reach, self.reach, 13)
        z = torch.cartesian_prod(ticks, ticks)
        error = 255 * (self.decode(z) - vae.decode(z).mean.cpu()).abs().max().item()
        if not error <= 0.5:
            raise ValueError(
                f"float16 cannot hold the decoder: rounding its weights changes a pixel by {error:.2g} gray levels of 255, "
                "more than 0.5. Are the weights finite and of ordinary size?"
            )

    def _repr_html_(self) -> str:
        package = files("vaecourse.explorable")
        height, width = self.shape
        widths = " ".join(str(w) for w in [2, *(len(bias) for _, bias in self.layers)])
        z = self.start
        return f"""\
<div class="latent-plane" role="group" aria-label="{escape(self.alt)}" data-reach="{self.reach:g}" data-z="{z[0]:g} {z[1]:g}" \
data-widths="{widths}" data-weights="{b64encode(self.weights).decode()}">
<style>{(package / "latent_plane.css").read_text("utf-8")}</style>
{self._plane()}
<div class="aside">
<canvas width="{width}" height="{height}" role="img" aria-label="The image decoded at the point"></canvas>
<output></output>
{self._legend()}
</div>
<p>Drag the point, or focus the plane and use the arrow keys (with Shift: larger steps).</p>
<script>{(package / "latent_plane.js").read_text("utf-8")}</script>
</div>"""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.still().savefig(file, format="png", dpi=200)
        return file.getvalue()

    def still(self) -> Figure:
        """The plane and the image as they are before the point is moved, for paper."""
        figure = Figure(figsize=(figures.WIDTH, 4.4), layout="constrained")
        codes, image = figure.subplots(1, 2, width_ratios=(2, 1))
        figures.latent_scatter(self.codes, self.labels, ax=codes)
        codes.plot(*self.start, "o", color="black", markersize=9, markeredgecolor="white", markeredgewidth=2)
        codes.set(xlim=(-self.reach, self.reach), ylim=(-self.reach, self.reach))
        figures.image_grid(self.decode(torch.tensor([self.start])), self.shape, ax=image)
        image.set_title("z = ({:.2f}, {:.2f})".format(*self.start).replace("-", MINUS))
        return figure

    def _plane(self) -> str:
        window = f'x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}" viewBox="{LEFT} {TOP} {SIDE} {SIDE}"'
        return plane.svg(
            self.reach,
            inside=f"<svg {window}>{self._dots()}</svg>",
            above='<path class="guides"/><g class="point"><circle r="8"/></g>',
            role="plane with a point to move",
            label="Latent plane. The arrow keys move the point, with Shift in larger steps.",
        )

    def _dots(self) -> str:
        """The codes, one path a class: a dot is a line without length and with round ends."""
        if self.labels is None:
            return _path(self.codes, self.reach, "var(--accent)")
        of_class = {label: self.codes[self.labels == label] for label in self.classes}
        dots = [_path(c, self.reach, color) for c, color in zip(of_class.values(), figures.CLASS_COLORS, strict=False)]
        places = {label: at(*figures.densest(codes), self.reach) for label, codes in of_class.items()}
        names = "".join(f'<text x="{x}" y="{y}">{label}</text>' for label, (x, y) in places.items())
        return f'{"".join(dots)}<g class="names">{names}</g>'

    def _legend(self) -> str:
        items = [
            f'<li><i style="background:{color}"></i>{label}</li>'
            for label, color in zip(self.classes, figures.CLASS_COLORS, strict=False)
        ]
        return f'<ul aria-label="Classes">{"".join(items)}</ul>' if items else ""


def _layers(vae: VAE) -> list[nn.Linear]:
    """The decoder's Linear layers. Raises ValueError where it is anything but Linear layers with Tanh between."""
    net = vae.decoder.net if isinstance(vae.decoder, BernoulliNetwork) else None
    modules = list(net) if isinstance(net, nn.Sequential) else []
    kinds = [nn.Tanh if i % 2 else nn.Linear for i in range(len(modules))]
    if len(modules) % 2 == 0 or any(type(module) is not kind for module, kind in zip(modules, kinds, strict=True)):
        raise ValueError(
            "the page can run a decoder that is BernoulliNetwork(mlp(...)), Linear layers with Tanh between; "
            f"this one is {vae.decoder}"
        )
    return modules[::2]


def _codes(codes: Tensor | None, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Codes and labels on the CPU; no codes are none, (0, 2). Raises ValueError where they do not match."""
    if codes is None:
        if labels is not None:
            raise ValueError("labels without codes: give the codes that the labels belong to")
        return torch.empty(0, 2), None
    if codes.ndim != 2 or codes.shape[1] != 2:
        raise ValueError(f"codes must be (n, 2), got {tuple(codes.shape)}")
    if labels is not None and len(labels) != len(codes):
        raise ValueError(f"one label a code: {len(codes)} codes, {len(labels)} labels")
    return codes.detach().cpu(), None if labels is None else labels.cpu()


def _path(codes: Tensor, reach: float, color: str) -> str:
    """The codes on the plane as dots of one color; two that fall on the same place are drawn once."""
    places = sorted({at(z1, z2, reach) for z1, z2 in codes[(codes.abs() <= reach).all(1)].tolist()})
    steps = (f"m{x1 - x0} {y1 - y0}h0" for (x0, y0), (x1, y1) in pairwise([(0, 0), *places]))
    return f'<path class="dots" stroke="{color}" d="M0 0{"".join(steps)}"/>'
