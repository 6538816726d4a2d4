"""The experiments of the chapter on AVAE.

The images: 16 x 16 sprites (square, ellipse, heart; two scales, 25 places), white, on a ground of wood, at most half as
bright. A few numbers say which sprite it is and where; no few numbers say the ground. 30,000 images to train, 1,000 to
reconstruct, 2,000 to compare samples with. All networks have two hidden layers of 256, and one size; 8 latents, 32 inputs of
z_a. The features are those of a classifier of our own that tells 3 shapes on 3 textures.
"""

from functools import cache, partial
from math import log

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.optim import Adam

from vaecourse import avae, datasets, metrics, training
from vaecourse.avae import AVAE, Layers
from vaecourse.experiments import Experiment
from vaecourse.networks import FourierFeatures, initial_weights, leaky, mlp

SEEDS = (0, 1, 2)
SIDE, LATENTS, NOISE, FEATURES = 16, 8, 32, 256
NETWORKS = Layers((SIDE, SIDE), (256, 256))
LOG_SIGMA = log(0.12)  # about the root mean squared error a pixel that the VAE is left with
PENALTY = 1.0
TEXTURES = ("grain", "waves", "wood")
ADAM = partial(Adam, lr=1e-3, betas=(0.5, 0.99), fused=True)
SLOW = partial(ADAM, lr=3e-4)  # for BiGAN: at 1e-3 its codes run away from its critic


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def sprites_on_textures(
    n: int, seed: int, textures: tuple[str, ...] = TEXTURES
) -> tuple[Float[Tensor, "n pixels"], Int[Tensor, " n"]]:
    """n images, and labels 0 ... 8: three times the shape, plus the texture."""
    noise = _generator(seed)
    sprites = datasets.sprites(SIDE, scales=2, orientations=1, positions=5)
    which = torch.randint(len(sprites.images), (n,), generator=noise)
    texture = torch.randint(len(textures), (n,), generator=noise)
    grounds = [datasets.textures(kind, n, size=SIDE, seed=10 * seed + i) for i, kind in enumerate(textures)]
    ground = torch.stack(grounds)[texture, torch.arange(n)]
    sprite = sprites.images[which]
    kind = torch.tensor([TEXTURES.index(name) for name in textures])[texture]
    return sprite + (1 - sprite) * 0.5 * ground, 3 * sprites.factors[which, 0] + kind


@cache
def judge(steps: int) -> metrics.Classifier:
    """The classifier whose features are compared, trained on images of its own."""
    images, labels = sprites_on_textures(6000, seed=1)
    return metrics.Classifier.fit(images, labels, (SIDE, SIDE), steps=steps, device="cpu")


BUILD = {
    "VAE": partial(avae.image_vae, log_sigma=LOG_SIGMA),
    "GAN": partial(avae.image_gan, features=FEATURES, penalty=PENALTY),
    "VAE/GAN": partial(avae.image_vae_gan, features=FEATURES, penalty=PENALTY),
    "BiGAN": partial(avae.image_bigan, features=FEATURES, penalty=PENALTY),
    "AVAE": partial(avae.image_avae, noise=NOISE, features=FEATURES, penalty=PENALTY, log_sigma=LOG_SIGMA),
}


def judged_samples(model: nn.Module, features: metrics.Classifier, others: Tensor, noise: Generator) -> dict:
    """A model's samples against as many other images."""
    samples = model.sample(len(others), noise)
    return {
        "high_frequency": avae.high_frequency_energy(samples, (SIDE, SIDE)).mean().item(),
        "frechet": metrics.frechet_distance(features.features(samples), features.features(others)),
    }


def judged_reconstructions(features: metrics.Classifier, rebuilt: Tensor, images: Tensor) -> dict:
    """A model's reconstructions against the images."""
    return {
        "squared_error": ((rebuilt - images) ** 2).sum(-1).mean().item(),
        "perceptual": metrics.perceptual_distance(features.layers, rebuilt, images).mean().item(),
    }


@torch.no_grad()
def judged(name: str, model: nn.Module, features: metrics.Classifier, images: Tensor, others: Tensor) -> dict:
    """A trained model's samples against `others`, its reconstructions of `images`, and the codes that come back.

    Of AVAE also what its decoder makes of codes in the generator's place.
    """
    noise = _generator(7)
    row = judged_samples(model, features, others, noise)
    if name == "GAN":  # it has no encoder
        return row
    z = model.prior(len(others)).sample(noise)
    x_G = model.generate(z, noise)
    faint = 0.05 * torch.randn(x_G.shape, generator=noise)
    row |= judged_reconstructions(features, model.reconstruct(images, noise), images) | {
        "code_error": ((model.encode(x_G).mean - z) ** 2).mean().item(),
        "code_error_under_noise": ((model.encode(x_G + faint).mean - z) ** 2).mean().item(),
    }
    if name == "AVAE":
        decoders = judged_reconstructions(features, model.decode(model.encode(images).mean).mean, images)
        decoders |= judged_samples(model.vae, features, others, noise)
        row |= {f"decoder_{key}": value for key, value in decoders.items()}
    return row


def _bytes(images: Tensor) -> Tensor:
    return (255 * images).round().to(torch.uint8)


# Five models of one size, side by side.


def train_model(model: str, texture: str, seed: int, steps: int = 4000, judge_steps: int = 1500, points: int = 30_000) -> dict:
    """One model on sprites on that texture: its scores beside the data's own, and for seed 0 a few images."""
    train, images, others = (sprites_on_textures(n, k, (texture,))[0] for n, k in ((points, 2), (1000, 3), (2000, 4)))
    trained, adam = BUILD[model](NETWORKS, LATENTS, seed=seed), SLOW if model == "BiGAN" else ADAM
    history = training.fit(trained, train, steps=steps, batch_size=64, seed=seed, optimizer=adam)
    features = judge(judge_steps)
    row = judged(model, trained, features, images, others) | {
        "data_high_frequency": avae.high_frequency_energy(others, (SIDE, SIDE)).mean().item(),
        "data_frechet": metrics.frechet_distance(features.features(train[:2000]), features.features(others)),
        "step_milliseconds": round(1000 * history.seconds / steps, 2),
    }
    if seed == 0:
        row["samples"] = _bytes(trained.sample(16, _generator(0)))
        row["images"] = _bytes(images[:8])
        if model != "GAN":
            row["rebuilt"] = _bytes(trained.reconstruct(images[:8], _generator(0)))
    return row


compare = Experiment(
    train_model,
    cases=[{"model": name, "texture": "wood", "seed": seed} for seed in SEEDS for name in BUILD],
    replay={"model": "AVAE", "texture": "wood", "seed": 1, "steps": 30, "judge_steps": 100, "points": 2000},
)


# Without log sigma in the cost of codes.


class WithoutLogSigma(AVAE):
    """A mistake: the code's squared error over 2 sigma^2, and nothing that holds sigma down."""

    def code_cost(self, x_G: Tensor, z: Tensor) -> Tensor:
        """(z - mu)^2 / (2 sigma^2), summed over latents."""
        q = self.encode(x_G)
        return (0.5 * ((z - q.mu) * (-q.log_sigma).exp()) ** 2).sum(-1)


def train_code_cost(with_log_sigma: bool, seed: int, steps: int = 2000, points: int = 30_000) -> dict:
    """AVAE with the cost of codes whole or without log sigma: the encoder's sigma, and what comes back of a code."""
    train, others = (sprites_on_textures(n, k, ("wood",))[0] for n, k in ((points, 2), (2000, 4)))
    model = BUILD["AVAE"](NETWORKS, LATENTS, seed=seed)
    if not with_log_sigma:
        model = WithoutLogSigma(model.vae, model.G, model.C, NOISE)
    training.fit(model, train, steps=steps, batch_size=64, seed=seed, optimizer=ADAM)
    noise = _generator(7)
    with torch.no_grad():
        z = model.prior(len(others)).sample(noise)
        q, on_data = model.encode(model.generate(z, noise)), model.encode(others)
        return {
            "log_sigma": q.log_sigma.mean().item(),
            "log_sigma_on_data": on_data.log_sigma.mean().item(),
            "code_error": ((q.mu - z) ** 2).mean().item(),
            "code_cost": -q.log_prob(z).mean().item(),
            "rate": on_data.kl_to_standard().mean().item(),
        }


log_sigma = Experiment(
    train_code_cost,
    cases=[{"with_log_sigma": whole, "seed": seed} for whole in (True, False) for seed in SEEDS],
    replay={"with_log_sigma": False, "seed": 0, "steps": 30, "points": 2000},
)


# A GAN on 25 Gaussians that keeps them, and one that loses them.

GRID = datasets.densities.GaussianGrid(side=5, spacing=1.0, sigma=0.05)
RADIUS = 3 * GRID.sigma
MARKS = (250, 500, 1000, 2000, 4000, 8000)


def grid_gan(seed: int, decay: float) -> avae.GAN:
    """Two numbers to two; the critic sees sines and cosines of its point beside it."""
    with initial_weights(seed):
        G = mlp(2, 128, 128, 128, 2, activation=leaky)
        body = nn.Sequential(FourierFeatures(2, 32, 0.5, seed=seed), mlp(66, 128, 128, activation=leaky))
        C = avae.Critic(body, nn.Sequential(leaky(), nn.Linear(128, 1)), penalty=0.1, fake_penalty=0.1)
        return avae.GAN(G, C, 2, 2, decay=decay)


def train_modes(recipe: str, seed: int, steps: int | None = None, n: int = 10_000) -> dict:
    """The share of n samples within three deviations of a center, and the centers with a tenth of their fair share, at marks.

    "keeps": a fast critic without momentum, both rates falling, G averaged. "loses": a slow critic with momentum, a fast G.
    Tensors: 2,000 samples at the end.
    """
    keeps = recipe == "keeps"
    betas, rates = ((0.0, 0.99), (2e-3, 1e-3)) if keeps else ((0.9, 0.99), (2e-4, 2e-3))
    steps = steps or (8000 if keeps else 2000)
    model = grid_gan(seed, decay=0.999 if keeps else 0.0)
    players = {name: partial(Adam, lr=rate, betas=betas, fused=True) for name, rate in zip("CG", rates, strict=True)}
    settings = {"batch_size": 256, "seed": seed, "optimizer": players, "schedule": training.cosine if keeps else None}
    course = {"steps": [], "share": [], "modes": []}
    for run in training.train(model, GRID.sample(50_000, _generator(100 + seed)), steps=steps, device="cpu", **settings):
        if run.step in MARKS or run.step == steps:
            model.eval()
            share, counts = metrics.on_modes(model.sample(n, _generator(seed)), GRID.centers, RADIUS)
            kept = int((counts >= n / len(GRID.centers) / 10).sum())
            for name, value in zip(course, (run.step, share, kept), strict=True):
                course[name].append(value)
    return {**course, "samples": model.sample(2000, _generator(seed))}


modes = Experiment(
    train_modes,
    cases=[{"recipe": recipe, "seed": seed} for recipe in ("keeps", "loses") for seed in SEEDS],
    replay={"recipe": "keeps", "seed": 0, "steps": 20, "n": 500},
)
