"""Networks as a page runs them: a list of plain layers, and their parameters in float16 (network.js is the interpreter)."""

from collections.abc import Callable
from copy import deepcopy
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaecourse.autoencoders import Transposed
from vaecourse.distributions import Bernoulli, Normal, Point
from vaecourse.explorable import inline
from vaecourse.networks import BernoulliNetwork, GaussianNetwork, OnImages, by_rows
from vaecourse.vq_vae.model import Residual

RUNS = (
    "Linear, Conv2d and ConvTranspose2d (zero padding, no dilation, no groups), nearest Upsample by whole factors, Flatten, "
    "Unflatten, OnImages, Residual, Tanh, SiLU, ReLU, LeakyReLU and Sigmoid, in Sequentials"
)

LARGE = 150_000  # parameters; a larger network beside another one is rounded further, to so many steps up and down:
ENCODER, DECODER = 127, 2047  # a code is looked at to a 200th of the plane's reach, a pixel to half a gray level

ELEMENTWISE = {nn.Tanh: "tanh", nn.SiLU: "silu", nn.ReLU: "relu", nn.Sigmoid: "sigmoid"}


class First(nn.Module):
    """The first so many entries of each row: the means of a Gaussian network that gives log sigma, too."""

    def __init__(self, entries: int):
        super().__init__()
        self.entries = entries

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch entries"]:
        """x[..., :entries]."""
        return x[..., : self.entries]


class Network:
    """A module over rows, (batch, inputs) -> (batch, outputs), as a page runs it: in eval mode, parameters rounded to float16.

    `layers`: a dictionary a layer, of strings, numbers and lists alone; sizes are those of one row, images (channels, height,
    width). `parameters`: the layers' parameters in order, each layer's weight as PyTorch lays it out, then its bias. `finest`:
    a linear layer's weight is rounded to whole numbers up to this one, its `steps`, which stand for shares of each output's
    largest weight, which is in the weight's place among the parameters; up to 127 a step takes a byte. Raises ValueError for a
    module that a page cannot run, and for rows that do not fit it.
    """

    def __init__(self, module: nn.Module, inputs: int, finest: int | None = None):
        self.module = deepcopy(module).cpu().float().eval().requires_grad_(False)
        for parameter in self.module.parameters():
            parameter.copy_(parameter.half())
        reader = _Reader(finest)
        (self.outputs,) = reader.read(nn.Sequential(self.module, nn.Flatten()), (inputs,))
        self.layers, self.parameters, self.steps = reader.layers, reader.parameters, reader.steps
        self.kind = torch.int8 if finest and finest <= 127 else torch.int16

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """What the page computes."""
        return by_rows(self.module, x.cpu().float())

    def attributes(self, name: str) -> str:
        """The attributes of a figure's element that network.js reads as the network of that name."""
        weights = inline.numbers(_joined(self.parameters), torch.float16)
        described = f'data-{name}-layers="{inline.attribute(self.layers)}" data-{name}="{weights}"'
        if not self.steps:
            return described
        steps = inline.numbers(_joined(self.steps), self.kind)
        return f'{described} data-{name}-steps="{steps}" data-{name}-bytes="{self.kind.itemsize}"'


class _Reader:
    """Goes through a module, with the shape of one row at hand, and notes its layers and their parameters."""

    def __init__(self, finest: int | None):
        self.finest = finest
        self.layers: list[dict] = []
        self.parameters: list[Tensor] = []
        self.steps: list[Tensor] = []

    def read(self, module: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Note the module; the shape of its output. Raises ValueError where a page cannot run it, or it does not fit."""
        kind = type(module)  # of a subclass nobody knows what it computes
        if kind in ELEMENTWISE:
            return self._note(shape, kind=ELEMENTWISE[kind])
        method: Callable | None = {
            nn.Sequential: self._sequential,
            nn.LeakyReLU: self._leaky,
            nn.Linear: self._linear,
            Transposed: self._transposed,
            nn.Conv2d: self._convolution,
            nn.ConvTranspose2d: self._convolution,
            nn.Upsample: self._upsample,
            nn.Flatten: self._flatten,
            nn.Unflatten: self._unflatten,
            OnImages: self._on_images,
            Residual: self._residual,
            First: self._first,
        }.get(kind)
        if method is None:
            raise ValueError(f"a page cannot run {module}; it runs {RUNS}")
        return method(module, shape)

    def _note(self, shape: tuple[int, ...], **layer: object) -> tuple[int, ...]:
        self.layers.append(layer)
        return shape

    def _sequential(self, module: nn.Sequential, shape: tuple[int, ...]) -> tuple[int, ...]:
        for part in module:
            shape = self.read(part, shape)
        return shape

    def _leaky(self, module: nn.LeakyReLU, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._note(shape, kind="leaky", slope=module.negative_slope)

    def _linear(self, module: nn.Linear, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._matrix(module, module.weight, module.bias, shape)

    def _transposed(self, module: Transposed, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._matrix(module, module.encoder.weight.T, module.bias, shape)

    def _matrix(self, module: nn.Module, weight: Tensor, bias: Tensor | None, shape: tuple[int, ...]) -> tuple[int, ...]:
        outputs, inputs = weight.shape
        _fits(module, shape, (inputs,))
        note = {"kind": "linear", "inputs": inputs, "outputs": outputs}
        if self.finest:
            largest = weight.abs().amax(1, keepdim=True).half().float().clamp(min=1e-4)
            steps = (weight / largest * self.finest).round().clamp(-self.finest, self.finest)
            weight.copy_(largest / self.finest * steps)  # what the page computes with
            self.steps.append(steps)
            note["finest"] = self.finest
        self.parameters += [largest if self.finest else weight, _bias(bias, outputs)]
        return self._note((outputs,), **note)

    def _convolution(self, module: nn.Conv2d | nn.ConvTranspose2d, shape: tuple[int, ...]) -> tuple[int, ...]:
        plain = module.padding_mode == "zeros" and module.groups == 1 and set(module.dilation) == {1}
        if not plain or isinstance(module.padding, str):
            raise ValueError(f"a page cannot run {module}; it runs {RUNS}, with the padding in numbers")
        _fits(module, shape, (module.in_channels, *shape[1:]) if len(shape) == 3 else ("channels", "height", "width"))
        outputs = tuple(module(torch.zeros(1, *shape)).shape[1:])
        self.parameters += [module.weight, _bias(module.bias, module.out_channels)]
        kind = "transposed" if isinstance(module, nn.ConvTranspose2d) else "convolution"
        sizes = {"kernel": module.kernel_size, "stride": module.stride, "padding": module.padding}
        return self._note(
            outputs, kind=kind, inputs=list(shape), outputs=list(outputs), **{k: list(v) for k, v in sizes.items()}
        )

    def _upsample(self, module: nn.Upsample, shape: tuple[int, ...]) -> tuple[int, ...]:
        _fits(module, shape, shape if len(shape) == 3 else ("channels", "height", "width"))
        outputs = tuple(module(torch.zeros(1, *shape)).shape[1:])
        if module.mode != "nearest" or outputs[1] % shape[1] or outputs[2] % shape[2]:
            raise ValueError(f"a page cannot run {module} on images {shape}; it runs {RUNS}")
        return self._note(outputs, kind="upsample", inputs=list(shape), outputs=list(outputs))

    def _flatten(self, module: nn.Flatten, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(module(torch.zeros(1, *shape)).shape[1:])  # one row, and what lies in it stays in its order

    def _unflatten(self, module: nn.Unflatten, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(module(torch.zeros(1, *shape)).shape[1:])

    def _on_images(self, module: OnImages, shape: tuple[int, ...]) -> tuple[int, ...]:
        _fits(module, shape, (prod(module.shape),))
        return (prod(self.read(module.net, module.shape)),)

    def _residual(self, module: Residual, shape: tuple[int, ...]) -> tuple[int, ...]:
        outer, self.layers = self.layers, []
        outputs = self.read(module.correction, shape)
        inner, self.layers = self.layers, outer
        return self._note(outputs, kind="residual", layers=inner)

    def _first(self, module: First, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._note((module.entries,), kind="first", entries=module.entries)


def _joined(tensors: list[Tensor]) -> Tensor:
    return torch.cat([torch.empty(0), *(tensor.flatten() for tensor in tensors)])


def _bias(bias: Tensor | None, outputs: int) -> Tensor:
    return torch.zeros(outputs) if bias is None else bias


def _fits(module: nn.Module, shape: tuple[int, ...], expected: tuple[int | str, ...]) -> None:
    if shape != expected:
        raise ValueError(f"{module} is given rows of shape {shape}, and takes ({', '.join(map(str, expected))})")


def decoder(model: nn.Module, finest: int | None = None) -> Network:
    """What a page runs for the mean of `model.decode(z)`: (batch, latents) -> (batch, pixels), a picture.

    `model`: a VAE of any kind, a model that holds one (`vae`), an Autoencoder, or one whose codes a `network` maps to images.
    Raises ValueError for what a page cannot run.
    """
    model = getattr(model, "vae", model)
    module = getattr(model, "decoder", None) or getattr(model, "network", None)
    return _checked(means(module, model.pixels), model.latents, model.pixels, "decoder", finest)


def encoder(model: nn.Module) -> tuple[Network, Tensor | None]:
    """What a page runs for `model.encode(x)`, (batch, pixels) -> (batch, outputs), and log sigma where it is fixed.

    A Gaussian encoder with fixed log sigma, and one that gives a code alone, have one output a latent; one whose inputs have
    each their own log sigma have two, first all means. Raises ValueError for what a page cannot run.
    """
    model = getattr(model, "vae", model)
    module = getattr(model, "encoder", None)
    gaussian = isinstance(module, GaussianNetwork)
    fixed = module.log_sigma if gaussian else None
    outputs = 2 * model.latents if gaussian and fixed is None else model.latents
    network = _checked(module.net if gaussian else module, model.pixels, outputs, "encoder", ENCODER)
    return network, None if fixed is None else fixed.detach().cpu().float().expand(model.latents)


def image(decoded: Tensor | Bernoulli | Normal | Point) -> Float[Tensor, "*batch pixels"]:
    """The picture of what a model decodes, on the CPU: a distribution's mean, or the image itself."""
    return (decoded if isinstance(decoded, Tensor) else decoded.mean).detach().cpu()


def check_float16(shown: Tensor, exact: Tensor) -> None:
    """Raise ValueError where images that the page computes are not, to half a gray level, those of the model itself."""
    error = 255 * (shown - exact).abs().max().item()
    if not error <= 0.5:
        raise ValueError(
            f"float16 cannot hold the decoder: rounding its weights changes a pixel by {error:.2g} gray levels of 255, "
            "more than 0.5. Are the weights finite and of ordinary size?"
        )


def means(module: nn.Module | None, outputs: int) -> nn.Module | None:
    """The module that gives the means, `outputs` of them, of a Bernoulli or Gaussian network; any other module as it is."""
    if isinstance(module, BernoulliNetwork):
        return nn.Sequential(module.net, nn.Sigmoid())
    if not isinstance(module, GaussianNetwork):
        return module
    if module.log_sigma is not None:
        return module.net
    *before, last = module.net if type(module.net) is nn.Sequential else [module.net]
    if type(last) is not nn.Linear:
        return nn.Sequential(module.net, First(outputs))
    half = nn.Linear(last.in_features, outputs)  # the other half, log sigma, need not travel
    half.weight = nn.Parameter(last.weight[:outputs])
    half.bias = nn.Parameter(_bias(last.bias, last.out_features)[:outputs])
    return nn.Sequential(*before, half)


def _checked(module: nn.Module | None, inputs: int, outputs: int, name: str, finest: int | None) -> Network:
    """The network, rounded further than to float16 only where it is large."""
    if not isinstance(module, nn.Module):
        raise ValueError(f"the model has no {name} that a page can run: a module `{name}`, of {RUNS}")
    large = sum(parameter.numel() for parameter in module.parameters()) > LARGE
    network = Network(module, inputs, finest if large else None)
    if network.outputs != outputs:
        raise ValueError(f"the {name} gives {network.outputs} numbers a row where the model has {outputs}")
    return network
