"""Networks that a page runs: each kind of layer and the book's own networks in a real browser. The oracle is PyTorch."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from vaecourse import autoencoders, avae, beta_vae, networks, vae, vq_vae
from vaecourse.distributions import Bernoulli
from vaecourse.explorable import inline, network
from vaecourse.explorable.network import Network
from vaecourse.networks import GaussianNetwork, OnImages, mlp

GRAY_LEVEL = 1 / 255
EXPOSED = inline.script("inline", "network").replace("})();", "window.network = network; })();")
IMAGE = (3, 6, 7)


def on_images(*layers, shape=IMAGE):
    return OnImages(shape, nn.Sequential(*layers))


def inputs_of(module):
    first = module[0] if isinstance(module, nn.Sequential) else module
    return first.in_features if isinstance(first, nn.Linear) else int(np.prod(first.shape))


LAYERS = {
    "linear": nn.Linear(5, 3),
    "linear without bias": nn.Linear(5, 3, bias=False),
    "tanh": mlp(5, 8, 3),
    "silu": mlp(5, 8, 3, activation=nn.SiLU),
    "relu": mlp(5, 8, 3, activation=nn.ReLU),
    "sigmoid": mlp(5, 8, 3, activation=nn.Sigmoid),
    "leaky": nn.Sequential(nn.Linear(5, 8), nn.LeakyReLU(0.2), nn.Linear(8, 3)),
    "nested": nn.Sequential(nn.Linear(5, 8), nn.Sequential(nn.Tanh(), nn.Linear(8, 3)), nn.Sigmoid()),
    "convolution 3": on_images(nn.Conv2d(3, 4, 3, padding=1)),
    "convolution stride 2": on_images(nn.Conv2d(3, 4, 4, stride=2, padding=1)),
    "convolution unequal": on_images(nn.Conv2d(3, 2, (2, 5), stride=(1, 3), padding=(0, 2), bias=False)),
    "convolution wide padding": on_images(nn.Conv2d(3, 2, 3, padding=3, stride=2)),
    "transposed": on_images(nn.ConvTranspose2d(3, 4, 4, stride=2, padding=1)),
    "transposed unequal": on_images(nn.ConvTranspose2d(3, 2, (2, 5), stride=(3, 1), padding=(0, 2), output_padding=(2, 0))),
    "upsample": on_images(nn.Upsample(scale_factor=2), nn.Conv2d(3, 2, 3, padding=1)),
    "upsample to a size": on_images(nn.Upsample(size=(6, 14))),
    "flatten and back": nn.Sequential(
        nn.Linear(5, 24), nn.Unflatten(1, (2, 3, 4)), nn.ReLU(), nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(36, 2)
    ),
    "residual": on_images(vq_vae.model.Residual(3)),
    "shared weights": nn.Sequential(nn.Linear(3, 5), autoencoders.Transposed(nn.Linear(7, 5))),
    "first": nn.Sequential(nn.Linear(5, 6), network.First(4), nn.Linear(4, 3)),
    "no layer": on_images(),
}

NETWORKS = {
    "VAE": (vae.bernoulli_vae(64, 2), "decoder"),
    "Gaussian VAE": (vae.gaussian_vae(64, 2), "decoder"),
    "Gaussian VAE, log sigma for each": (vae.gaussian_vae(64, 2, log_sigma=None), "decoder"),
    "beta-VAE": (vae.bernoulli_vae(64, 10, kind=beta_vae.BetaVAE, beta=4.0), "decoder"),
    "autoencoder": (autoencoders.deep(64, 2), "decoder"),
    "linear autoencoder": (autoencoders.linear(64, 2, shared=True), "decoder"),
    "convolutional autoencoder": (autoencoders.convolutional((1, 28, 28), 2), "decoder"),
    "GAN": (avae.image_gan(avae.Layers((8, 8), (32,)), 2), "decoder"),
    "VAE/GAN": (avae.image_vae_gan(avae.Convolutions((1, 8, 8), 8), 2), "decoder"),
    "AVAE": (avae.image_avae(avae.Layers((8, 8), (32,)), 2, noise=2), "decoder"),
    "VAE's encoder": (vae.bernoulli_vae(64, 2), "encoder"),
    "convolutional encoder": (autoencoders.convolutional((1, 28, 28), 2), "encoder"),
}


def run(page, module, x):
    """What the page's interpreter makes of each row."""
    page.evaluate(
        """html => {
            document.body.insertAdjacentHTML("beforeend", html);
            window.run = network(document.body.lastElementChild, "net");
        }""",
        f"<div {module.attributes('net')}></div>",
    )
    return np.array(page.evaluate("rows => rows.map(row => Array.from(run(row)))", x.tolist()))


def noise(n, width, scale=1.0):
    return scale * torch.randn(n, width, generator=torch.Generator().manual_seed(0))


def test_each_kind_of_layer_computes_in_the_page_what_it_computes_in_pytorch(open_page):
    page = open_page(EXPOSED)
    for name, module in LAYERS.items():
        described = Network(module, inputs_of(module))
        x = noise(3, inputs_of(module))
        assert described.outputs == module(x).shape[1], name
        np.testing.assert_allclose(run(page, described, x), described(x), atol=2e-6, rtol=1e-5, err_msg=name)
        with torch.no_grad():
            np.testing.assert_allclose(described(x), module(x), atol=0.01, rtol=0.01, err_msg=name)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_books_networks_run_in_the_page(open_page, name):
    model, part = NETWORKS[name]
    if part == "decoder":
        described, x = network.decoder(model), noise(4, model.latents, 2.0)
        exact = network.image(model.decode(x))
    else:
        (described, fixed), x = network.encoder(model), noise(4, model.pixels).abs().clamp(max=1)
        q = model.encode(x)
        exact = q if isinstance(q, torch.Tensor) else torch.cat([q.mean, q.log_sigma], -1)
        assert fixed is None
    np.testing.assert_allclose(run(open_page(EXPOSED), described, x), exact.detach(), atol=GRAY_LEVEL, rtol=0)


@pytest.mark.parametrize("finest, close", [(127, 0.01), (2047, 0.001)])
def test_weights_in_whole_steps_compute_nearly_the_same(open_page, finest, close):
    module = mlp(784, 256, 4)
    described, x = Network(module, 784, finest), torch.rand(5, 784, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(run(open_page(EXPOSED), described, x), described(x), atol=2e-6, rtol=1e-5)
    np.testing.assert_allclose(described(x), module(x).detach(), atol=close)
    exact, rounded = module[0].weight, described.module[0].weight
    assert max(len(row.unique()) for row in rounded) <= 2 * finest + 1
    largest = exact.abs().amax(1, keepdim=True)
    # half a step; and float16's rounding of the largest weight and of all, a 2,048th each
    assert ((rounded - exact).abs() <= largest * (0.5 / finest + 2 / 2048)).all()


def test_large_networks_alone_are_rounded_to_steps_and_a_decoder_only_where_it_is_asked_for():
    large, small = vae.bernoulli_vae(784, 2, hidden=(256,)), vae.bernoulli_vae(64, 2)
    assert network.encoder(large)[0].steps and not network.encoder(small)[0].steps
    assert network.decoder(large, network.DECODER).steps and not network.decoder(large).steps
    assert not network.decoder(small, network.DECODER).steps


def test_a_module_changes_nothing_by_being_described_and_its_description_is_plain():
    module = on_images(nn.Conv2d(3, 4, 3, padding=1), vq_vae.model.Residual(4), nn.Sigmoid())
    before = [parameter.clone() for parameter in module.parameters()]
    described = Network(module, 126)
    assert json.loads(json.dumps(described.layers)) == described.layers
    assert described.layers[0] == {
        "kind": "convolution",
        "inputs": [3, 6, 7],
        "outputs": [4, 6, 7],
        "kernel": [3, 3],
        "stride": [1, 1],
        "padding": [1, 1],
    }
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert sum(parameter.numel() for parameter in described.parameters) == sum(p.numel() for p in module.parameters())


def test_of_a_gaussian_network_the_means_half_alone_travels():
    model = vae.gaussian_vae(64, 2, hidden=(16,), log_sigma=None)
    assert network.decoder(model).layers[-1] == {"kind": "linear", "inputs": 16, "outputs": 64}
    model.decoder = GaussianNetwork(nn.Sequential(nn.Linear(2, 128), nn.Tanh()))
    assert network.decoder(model).layers[-1] == {"kind": "first", "entries": 64}


def test_an_encoder_with_one_sigma_for_all_says_so():
    model = vae.bernoulli_vae(64, 2)
    model.encoder = GaussianNetwork(mlp(64, 2), log_sigma=-1.0)
    described, log_sigma = network.encoder(model)
    assert described.outputs == 2 and log_sigma.tolist() == [-1.0, -1.0]


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "module, message",
    [
        (Doubled(5, 3), r"a page cannot run Doubled.*; it runs Linear"),
        (on_images(nn.Conv2d(3, 3, 3, padding="same")), "a page cannot run Conv2d.*with the padding in numbers"),
        (on_images(nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular")), "a page cannot run Conv2d"),
        (on_images(nn.Conv2d(3, 3, 3, groups=3)), "a page cannot run Conv2d"),
        (on_images(nn.Conv2d(3, 3, 3, dilation=2)), "a page cannot run Conv2d"),
        (on_images(nn.Conv2d(1, 3, 3)), r"is given rows of shape \(3, 6, 7\), and takes \(1, 6, 7\)"),
        (on_images(nn.Upsample(scale_factor=2, mode="bilinear")), "a page cannot run Upsample"),
        (on_images(nn.Upsample(size=(6, 10))), "a page cannot run Upsample"),
        (on_images(nn.BatchNorm2d(3)), "a page cannot run BatchNorm2d"),
        (nn.Sequential(nn.Linear(5, 3), OnImages((2, 2), nn.Sequential())), r"of shape \(3,\), and takes \(4\)"),
    ],
    ids=["subclass", "same", "circular", "groups", "dilation", "channels", "bilinear", "part of a pixel", "batch norm", "size"],
)
def test_what_a_page_cannot_run_is_refused(module, message):
    with pytest.raises(ValueError, match=message):
        Network(module, inputs_of(module))


def test_a_decoder_of_convolutions_over_28_by_28_pixels_runs_in_less_than_30_milliseconds(open_page):
    layers = [nn.Conv2d(32, 32, 3, padding=1), nn.SiLU(), nn.Upsample(scale_factor=2)] * 2
    layers += [nn.Conv2d(32, 32, 3, padding=1), nn.SiLU(), nn.Conv2d(32, 1, 3, padding=1)]  # 10 million products
    wide = nn.Sequential(nn.Linear(2, 32 * 49), OnImages((32, 7, 7), nn.Sequential(*layers)))
    page = open_page(EXPOSED)
    for module in (networks.conv_decoder(2, (1, 28, 28)), wide):
        run(page, Network(module, 2), noise(1, 2))
        milliseconds = page.evaluate(
            """() => Array.from({ length: 31 }, (_, i) => {
                const begin = performance.now();
                run([i / 10, -1]);
                return performance.now() - begin;
            })"""
        )
        assert min(milliseconds) < 30  # whatever else the machine does


def test_a_figure_too_heavy_for_a_page_is_refused():
    with pytest.raises(ValueError, match=r"the figure weighs \d+ kB, compressed; 600 are allowed: take a narrower network"):
        inline.check_weight("".join(map(str, torch.randn(200_000).tolist())))
    assert inline.check_weight("light") == "light"


def test_the_picture_is_a_distributions_mean_or_the_image_itself():
    x = torch.rand(2, 4)
    assert torch.equal(network.image(x), x)
    assert torch.equal(network.image(Bernoulli(torch.logit(x))), torch.sigmoid(torch.logit(x)))
