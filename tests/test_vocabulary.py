"""One vocabulary: every image model of the package answers to the same verbs, in the same order, whatever its chapter."""

from functools import partial
from importlib import import_module

import pytest
import torch
from torch import Tensor, nn

import vaecourse
from helpers import generator, needs_cuda
from vaecourse import avae
from vaecourse.beta_vae import BetaTCVAE, BetaVAE, CapacityVAE, ConstrainedVAE
from vaecourse.distributions import Bernoulli, Categorical, Normal, Point
from vaecourse.networks import BernoulliNetwork, GaussianNetwork, initial_weights, mlp
from vaecourse.regularizers import DUVAE, GeometricVAE
from vaecourse.vae import IWAE, VAE
from vaecourse.vaebm import VAEBM, Chains, energy_mlp
from vaecourse.vq_vae import Quantized, conv_vq_vae
from vaecourse.vq_vae2 import conv_vq_vae2

PIXELS, LATENTS, N = 64, 3, 5
IMAGES = torch.rand(N, PIXELS, generator=generator(9))


def vae(kind: type[VAE], *required: float, decoder: type[nn.Module] = BernoulliNetwork, **settings) -> VAE:
    with initial_weights(0):
        encoder = GaussianNetwork(mlp(PIXELS, 8, 2 * LATENTS))
        return kind(encoder, decoder(mlp(LATENTS, 8, PIXELS)), PIXELS, LATENTS, *required, **settings)


def vaebm() -> VAEBM:
    stage_one = vae(VAE, decoder=partial(GaussianNetwork, log_sigma=-1.0))
    return VAEBM(stage_one, energy_mlp(PIXELS, (4,)), Chains(8, PIXELS + LATENTS, 0.1), steps=2)


LAYERS = avae.Layers((8, 8), (8,))
MODELS = {
    "VAE": partial(vae, VAE),
    "IWAE": partial(vae, IWAE, 2),
    "GeometricVAE": partial(vae, GeometricVAE, alpha=0.5),
    "DUVAE": partial(vae, DUVAE),
    "BetaVAE": partial(vae, BetaVAE, beta=4.0),
    "CapacityVAE": partial(vae, CapacityVAE, capacity=2.0, steps=10),
    "ConstrainedVAE": partial(vae, ConstrainedVAE, delta=2.0),
    "BetaTCVAE": partial(vae, BetaTCVAE, beta=4.0, n=100),
    "VQVAE": partial(conv_vq_vae, (1, 8, 8), 7, 2, halvings=2, width=4),
    "VQVAE2": partial(conv_vq_vae2, (1, 8, 8), (7, 4), 2, halvings=1, width=4),
    "GAN": partial(avae.image_gan, LAYERS, LATENTS, features=4),
    "VAEGAN": partial(avae.image_vae_gan, LAYERS, LATENTS, features=4),
    "BiGAN": partial(avae.image_bigan, LAYERS, LATENTS, features=4),
    "AVAE": partial(avae.image_avae, LAYERS, LATENTS, 2, features=4),
    "VAEBM": vaebm,
}
LACKS = {"GAN": {"encode", "reconstruct"}, "VAEBM": {"prior", "generate", "reconstruct"}}
VERBS = ("prior", "encode", "decode", "generate", "sample", "reconstruct")


def having(verb: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", [name for name in MODELS if verb not in LACKS.get(name, ())])


def build(name: str) -> nn.Module:
    return MODELS[name]().eval()


def parts(thing: object) -> tuple:
    """What a model says of each of its levels of codes."""
    return thing if isinstance(thing, tuple) else (thing,)


def drawn(model: nn.Module, seed: int = 1) -> Tensor | tuple[Tensor, ...]:
    """N codes of the prior, in the form in which `decode` takes them."""
    noise, levels = generator(seed), model.prior(N) if hasattr(model, "prior") else model.vae.prior(N)
    codes = tuple(p.sample(noise) for p in parts(levels))
    return codes if isinstance(levels, tuple) else codes[0]


def test_every_class_that_decodes_and_samples_is_here():
    found = set()
    for chapter in vaecourse.FLOORS["chapters"]:
        things = vars(import_module(f"vaecourse.{chapter}"))
        found |= {name for name, thing in things.items() if hasattr(thing, "decode") and hasattr(thing, "sample")}
    assert found == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_says_its_sizes_and_where_it_is_and_has_the_verbs_that_it_can_have(name):
    model = build(name)
    assert model.pixels == PIXELS and isinstance(model.latents, int)
    assert model.device == next(model.parameters()).device == torch.device("cpu")
    assert {verb for verb in VERBS if not hasattr(model, verb)} == LACKS.get(name, set())


@having("prior")
def test_the_prior_of_n_codes_is_a_distribution_with_the_codes_numbers(name):
    model = build(name)
    kind = Categorical if name.startswith("VQ") else Normal
    assert all(isinstance(p, kind) for p in parts(model.prior(N)))
    codes = parts(drawn(model))
    assert all(len(z) == N for z in codes) and sum(z[0].numel() for z in codes) == model.latents
    assert all(z.dtype == (torch.int64 if kind is Categorical else torch.float32) for z in codes)
    log_p = [p.log_prob(z) for p, z in zip(parts(model.prior(N)), codes, strict=True)]
    assert all(values.isfinite().all() for values in log_p)


@having("encode")
def test_encoding_gives_a_normal_over_codes_or_the_code_that_each_position_is_given(name):
    model = build(name)
    for q, z in zip(parts(model.encode(IMAGES)), parts(drawn(model)), strict=True):
        if name.startswith("VQ"):
            assert isinstance(q, Quantized) and q.code.shape == z.shape and q.code.dtype == torch.int64
        else:
            assert isinstance(q, Normal) and q.mean.shape == z.shape == (N, LATENTS)


@having("decode")
def test_decoding_gives_a_distribution_over_images(name):
    p = build(name).decode(drawn(build(name)))
    assert isinstance(p, Point if name in ("GAN", "VAEGAN", "BiGAN") else Bernoulli | Normal)
    assert p.mean.shape == p.sample(generator()).shape == (N, PIXELS)


@having("generate")
def test_generating_gives_one_image_a_code_and_draws_only_what_is_the_models_own_noise(name):
    model, z = build(name), drawn(build(name))
    images, again, other = (model.generate(z, generator(seed)) for seed in (1, 1, 2))
    assert images.shape == (N, PIXELS) and torch.equal(images, again)
    assert torch.equal(images, other) == (name != "AVAE")
    if name != "AVAE":
        assert torch.equal(images, model.generate(z)) and torch.equal(images, model.decode(z).mean)


@having("sample")
def test_sampling_takes_how_many_and_a_generator_which_alone_decides(name):
    model, state = build(name), torch.random.get_rng_state()
    first, again, other = (model.sample(N, generator(seed)) for seed in (1, 1, 2))
    assert first.shape == (N, PIXELS) and not first.requires_grad
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.sample(2).shape == (2, PIXELS)


@having("reconstruct")
def test_reconstructing_generates_at_the_code(name):
    model = build(name)
    found = tuple(q.code if isinstance(q, Quantized) else q.mean for q in parts(model.encode(IMAGES)))
    expected = model.generate(found if name == "VQVAE2" else found[0], generator(1))
    images = model.reconstruct(IMAGES, generator(1))
    assert images.shape == (N, PIXELS) and not images.requires_grad and torch.equal(images, expected)
    assert model.reconstruct(IMAGES).shape == (N, PIXELS)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("name", MODELS)
def test_on_a_gpu_images_and_codes_are_moved_there_and_a_generator_of_the_cpu_gives_the_same(name):
    here, there = build(name), build(name).cuda()
    assert there.device.type == "cuda"
    asked = {
        "decode": lambda model: model.decode(drawn(here)).mean,
        "generate": lambda model: model.generate(drawn(here), generator(1)),
        "sample": lambda model: model.sample(N, generator(1)),
        "reconstruct": lambda model: model.reconstruct(IMAGES, generator(1)),
    }
    for verb, ask in asked.items():
        if verb not in LACKS.get(name, ()):
            images = ask(there)
            assert images.is_cuda and torch.allclose(images.cpu(), ask(here), rtol=1e-3, atol=1e-4)
