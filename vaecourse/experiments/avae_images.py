"""GAN, VAE/GAN, BiGAN, AVAE and the VAE on two kinds of images, with convolutions and by one recipe; what AVAE's weights do.

"wood": the 16 x 16 sprites on wood of `experiments.avae`. "digits": 28 x 28, 4,000 to train, 1,000 to compare with. Encoders
and critics halve the sides twice; decoders and generators double them twice by repeating pixels. The critic sees the batch's
deviation and pays for its slope at real and generated images; generators are averaged, rates fall to nothing. All models are
trained on as many batches; AVAE's first third trains its VAE alone.
"""

from dataclasses import dataclass
from functools import cache, partial
from math import log

import torch
from torch import Tensor, nn
from torch.optim import Adam

from vaecourse import avae, datasets, metrics, training
from vaecourse.avae import AVAE, Upsampling
from vaecourse.experiments import Experiment
from vaecourse.experiments.avae import sprites_on_textures

SEEDS = (0, 1, 2)
LATENTS, NOISE, FEATURES = 8, 32, 128
ADVERSARIAL = {"betas": (0.0, 0.99), "fused": True}
ADAM = partial(Adam, lr=3e-4, fused=True)
CRITIC, GENERATOR = partial(Adam, lr=1e-3, **ADVERSARIAL), partial(Adam, lr=1.5e-3, **ADVERSARIAL)


@dataclass(frozen=True)
class Kind:
    """Images, the deviation of a VAE's pixels and the weight of a critic's two slopes that suit them, and the judge."""

    side: int
    sigma: float
    slope: float
    train: Tensor
    test: Tensor
    features: metrics.Classifier


@cache
def kind(data: str, judge_steps: int) -> Kind:
    """The images of that name."""
    settings = {"steps": judge_steps, "device": "cpu"}
    if data == "wood":
        train, test = (sprites_on_textures(n, seed, ("wood",))[0] for n, seed in ((30_000, 2), (2000, 4)))
        judge = metrics.Classifier.fit(*sprites_on_textures(6000, seed=1), (16, 16), **settings)
        return Kind(16, 0.12, 0.1, train, test, judge)
    digits = datasets.load("mnist5k")
    judge = metrics.Classifier.fit(digits.train, digits.train_labels, digits.shape, **settings)
    return Kind(28, 0.3, 0.2, digits.train, digits.test, judge)


def build(model: str, images: Kind, seed: int, code_weight: float) -> nn.Module:
    """A model of one size."""
    networks = Upsampling((1, images.side, images.side), width=32)
    critic = {"features": FEATURES, "penalty": images.slope, "fake_penalty": images.slope, "deviation": True, "decay": 0.998}
    make = {
        "VAE": partial(avae.image_vae, log_sigma=log(images.sigma)),
        "GAN": partial(avae.image_gan, **critic),
        "VAE/GAN": partial(avae.image_vae_gan, **critic),
        "BiGAN": partial(avae.image_bigan, **critic),
        "AVAE": partial(avae.image_avae, noise=NOISE, log_sigma=log(images.sigma), code_weight=code_weight, **critic),
    }
    return make[model](networks, LATENTS, seed=seed)


def together(model: AVAE) -> dict[str, training.Maker]:
    """AVAE's optimizers: G faster than E and D, and without momentum."""

    def of_EDG(parameters: list[nn.Parameter]) -> Adam:
        of_G = set(model.G.parameters())
        of_vae, of_generator = ([p for p in parameters if (p in of_G) == it_is] for it_is in (False, True))
        return ADAM([{"params": of_vae}, {"params": of_generator, "lr": 1.5e-3, "betas": ADVERSARIAL["betas"]}])

    return {"C": CRITIC, "EDG": of_EDG}


def train(model: nn.Module, x: Tensor, steps: int, seed: int) -> float:
    """Train by the recipe; the seconds it took."""
    settings = {"batch_size": 32, "seed": seed, "schedule": training.cosine, "progress": False, "device": "cpu"}
    if isinstance(model, AVAE):
        alone = training.fit(model.vae, x, steps=steps // 3, optimizer=partial(ADAM, lr=1e-3), **settings)
        joint = training.fit(model, x, steps=steps - steps // 3, optimizer=together(model), **settings)
        return alone.seconds + joint.seconds
    players = {"VAE/GAN": {"E": ADAM, "D": GENERATOR}, "BiGAN": {"EG": GENERATOR}, "GAN": {"G": GENERATOR}}
    name = {avae.VAEGAN: "VAE/GAN", avae.BiGAN: "BiGAN", avae.GAN: "GAN"}.get(type(model))
    optimizer = players[name] | {"C": CRITIC} if name else partial(ADAM, lr=1e-3)
    return training.fit(model, x, steps=steps, optimizer=optimizer, **settings).seconds


def judged(samples: Tensor, images: Kind) -> dict:
    """Samples against as many images that no model was trained on."""
    shape, judge = (images.side, images.side), images.features
    found, real = judge.features(samples), judge.features(images.test)
    cover = metrics.precision_recall(real, found)
    across, down = avae.directional_energy(samples, shape)
    return {
        "frechet": metrics.frechet_distance(found, real),
        "spectral": avae.spectral_distance(samples, images.test, shape).item(),
        "across_over_down": (across.mean() / down.mean()).item(),
        "high_frequency": avae.high_frequency_energy(samples, shape).mean().item(),
        "precision": cover.precision,
        "recall": cover.recall,
    }


@torch.no_grad()
def scores(model: nn.Module, images: Kind) -> dict:
    """What is measured of a model, and of AVAE's decoder in the generator's place."""
    noise, test, judge = torch.Generator().manual_seed(7), images.test, images.features
    row = judged(model.sample(len(test), noise), images)
    if not isinstance(model, avae.GAN):  # it has no encoder
        x = test[:1000]
        rebuilt, z = model.reconstruct(x, noise), model.prior(1000).sample(noise)
        row |= {
            "squared_error": ((rebuilt - x) ** 2).sum(-1).mean().item(),
            "perceptual": metrics.perceptual_distance(judge.layers, rebuilt, x).mean().item(),
            "code_error": ((model.encode(model.generate(z, noise)).mean - z) ** 2).mean().item(),
        }
    if isinstance(model, AVAE):
        of_data = model.encode(test).sample(noise)
        row["frechet_from_codes"] = metrics.frechet_distance(
            judge.features(model.generate(of_data, noise)), judge.features(test)
        )
        row |= {f"decoder_{key}": value for key, value in scores(model.vae, images).items()}
    return row


def _bytes(images: Tensor) -> Tensor:
    return (255 * images.clamp(0, 1)).round().to(torch.uint8)


def train_model(
    model: str, data: str, seed: int, code_weight: float = 0.003, steps: int = 3000, judge_steps: int = 1500
) -> dict:
    """One model: its scores. Tensors, for seed 0: samples, 8 images and what it rebuilds, of AVAE 10 draws of G for each."""
    images = kind(data, judge_steps)
    trained = build(model, images, seed, code_weight)
    seconds = train(trained, images.train, steps, seed)
    trained.eval()
    row = scores(trained, images) | {"seconds": round(seconds, 1)}
    if seed == 0:
        noise, x = torch.Generator().manual_seed(0), images.test[:8]
        row["samples"] = _bytes(trained.sample(32, noise))
        if model != "GAN":
            row["rebuilt"] = _bytes(trained.reconstruct(x, noise))
        if model == "AVAE":
            row["mean"] = _bytes(trained.vae.reconstruct(x))
            row["draws"] = _bytes(torch.stack([trained.reconstruct(x, noise) for _ in range(10)], 1))
    return row


def data_scores(data: str, judge_steps: int = 1500) -> dict:
    """What images of the training set score in the place of samples: the best there is."""
    images = kind(data, judge_steps)
    return judged(images.train[: len(images.test)], images) | {"images": _bytes(images.test[:32])}


def compared(model: str, data: str, seed: int, **sizes: int) -> dict:
    """A model; or "data"."""
    if model == "data":
        return data_scores(data, sizes.get("judge_steps", 1500))
    return train_model(model, data, seed, **sizes)


wood = Experiment(
    compared,
    cases=[
        {"model": "data", "data": "wood", "seed": 0},
        *(
            {"model": model, "data": "wood", "seed": seed}
            for seed in SEEDS
            for model in ("VAE", "GAN", "VAE/GAN", "BiGAN", "AVAE")
        ),
    ],
    replay={"model": "AVAE", "data": "wood", "seed": 0, "steps": 6, "judge_steps": 20},
)
