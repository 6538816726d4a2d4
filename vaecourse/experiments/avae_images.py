"""GAN, VAE/GAN, BiGAN, AVAE and the VAE on sprites with a surface of wood, with convolutions and by one recipe.

The 16 x 16 sprites of `experiments.avae`: 30,000 to train, 2,000 to compare with. Encoders and critics halve the sides twice;
decoders and generators double them twice by repeating pixels. The critic sees the batch's deviation and pays for its slope at
real and generated images; generators are averaged, rates fall to nothing. All models are trained on as many batches of 32;
AVAE's first third trains its VAE alone. Its code cost has the weight .003.
"""

from functools import cache, partial
from math import log

import torch
from torch import Tensor, nn
from torch.optim import Adam

from vaecourse import avae, metrics, training
from vaecourse.avae import AVAE, Upsampling
from vaecourse.experiments import Experiment
from vaecourse.experiments.avae import sprites_on_textures

SEEDS = (0, 1, 2)
SHAPE, SIGMA = (16, 16), 0.12  # the deviation of a VAE's pixels
SLOPE = 0.1  # the weight of the critic's slope at real images, and at generated ones
LATENTS, NOISE, FEATURES = 8, 32, 128
ADVERSARIAL = {"betas": (0.0, 0.99), "fused": True}
ADAM = partial(Adam, lr=3e-4, fused=True)
CRITIC, GENERATOR = partial(Adam, lr=1e-3, **ADVERSARIAL), partial(Adam, lr=1.5e-3, **ADVERSARIAL)


@cache
def images() -> tuple[Tensor, Tensor]:
    """Those to train on, and those to compare with."""
    return tuple(sprites_on_textures(n, seed, ("wood",))[0] for n, seed in ((30_000, 2), (2000, 4)))


@cache
def judge(steps: int) -> metrics.Classifier:
    """The classifier whose features are compared."""
    return metrics.Classifier.fit(*sprites_on_textures(6000, seed=1), SHAPE, steps=steps, device="cpu")


def build(model: str, seed: int) -> nn.Module:
    """A model of one size."""
    networks = Upsampling((1, *SHAPE), width=32)
    critic = {"features": FEATURES, "penalty": SLOPE, "fake_penalty": SLOPE, "deviation": True, "decay": 0.998}
    make = {
        "VAE": partial(avae.image_vae, log_sigma=log(SIGMA)),
        "GAN": partial(avae.image_gan, **critic),
        "VAE/GAN": partial(avae.image_vae_gan, **critic),
        "BiGAN": partial(avae.image_bigan, **critic),
        "AVAE": partial(avae.image_avae, noise=NOISE, log_sigma=log(SIGMA), code_weight=0.003, **critic),
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
    players = {avae.VAEGAN: {"E": ADAM, "D": GENERATOR}, avae.BiGAN: {"EG": GENERATOR}, avae.GAN: {"G": GENERATOR}}
    mine = players.get(type(model))
    optimizer = mine | {"C": CRITIC} if mine else partial(ADAM, lr=1e-3)
    return training.fit(model, x, steps=steps, optimizer=optimizer, **settings).seconds


def judged(samples: Tensor, features: metrics.Classifier) -> dict:
    """Samples against as many images that no model was trained on."""
    _, test = images()
    found, real = features.features(samples), features.features(test)
    cover = metrics.precision_recall(real, found)
    across, down = avae.directional_energy(samples, SHAPE)
    return {
        "frechet": metrics.frechet_distance(found, real),
        "spectral": avae.spectral_distance(samples, test, SHAPE).item(),
        "across_over_down": (across.mean() / down.mean()).item(),
        "high_frequency": avae.high_frequency_energy(samples, SHAPE).mean().item(),
        "precision": cover.precision,
        "recall": cover.recall,
    }


@torch.no_grad()
def scores(model: nn.Module, features: metrics.Classifier) -> dict:
    """What is measured of a model, and of AVAE's decoder in the generator's place."""
    noise, (_, test) = torch.Generator().manual_seed(7), images()
    row = judged(model.sample(len(test), noise), features)
    if not isinstance(model, avae.GAN):  # it has no encoder
        x = test[:1000]
        rebuilt, z = model.reconstruct(x, noise), model.prior(1000).sample(noise)
        row |= {
            "squared_error": ((rebuilt - x) ** 2).sum(-1).mean().item(),
            "perceptual": metrics.perceptual_distance(features.layers, rebuilt, x).mean().item(),
            "code_error": ((model.encode(model.generate(z, noise)).mean - z) ** 2).mean().item(),
        }
    if isinstance(model, AVAE):
        of_data = model.encode(test).sample(noise)
        row["frechet_from_codes"] = metrics.frechet_distance(
            features.features(model.generate(of_data, noise)), features.features(test)
        )
        row |= {f"decoder_{key}": value for key, value in scores(model.vae, features).items()}
    return row


def _bytes(images: Tensor) -> Tensor:
    return (255 * images.clamp(0, 1)).round().to(torch.uint8)


def train_model(model: str, seed: int, steps: int = 3000, judge_steps: int = 1500) -> dict:
    """The scores of a model, or of "data", training images in the place of samples: the best there is.

    Tensors, for seed 0: samples, 8 test images rebuilt, of AVAE by its decoder ("mean") and by 10 draws of G for each; of
    "data" the first 32 test images.
    """
    x, test = images()
    if model == "data":
        return judged(x[: len(test)], judge(judge_steps)) | {"images": _bytes(test[:32])}
    trained = build(model, seed)
    seconds = train(trained, x, steps, seed)
    trained.eval()
    row = scores(trained, judge(judge_steps)) | {"seconds": round(seconds, 1)}
    if seed == 0:
        noise, x = torch.Generator().manual_seed(0), test[:8]
        row["samples"] = _bytes(trained.sample(32, noise))
        if model != "GAN":
            row["rebuilt"] = _bytes(trained.reconstruct(x, noise))
        if model == "AVAE":
            row["mean"] = _bytes(trained.vae.reconstruct(x))
            row["draws"] = _bytes(torch.stack([trained.reconstruct(x, noise) for _ in range(10)], 1))
    return row


wood = Experiment(
    train_model,
    cases=[
        {"model": "data", "seed": 0},
        *({"model": model, "seed": seed} for seed in SEEDS for model in ("VAE", "GAN", "VAE/GAN", "BiGAN", "AVAE")),
    ],
    replay={"model": "AVAE", "seed": 0, "steps": 6, "judge_steps": 20},
)
