"""The experiment of the chapter on VQ-VAE-2: shapes with a surface, whose codes part into shape and surface.

The images: 32 x 32, gray; one sprite, with a surface of waves or of wood; 8,000 to train and 500 to test. The first stage: a
grid of 4 x 4 codes out of 128 above one of 8 x 8 out of 16, so that the bottom alone could not tell the whole image; one
learned standard deviation for all pixels. The second: a transformer of two blocks for each level. Adam at 1e-3, batches of 32.
Distortion in nats per image, codes in bits each.
"""

from math import log2, pi

import torch
from torch import Tensor, nn

from vaecourse import datasets, training
from vaecourse.datasets.shapes import draw_sprites
from vaecourse.experiments import Experiment
from vaecourse.vq_vae import code_length, frequencies
from vaecourse.vq_vae2 import CodePrior, HierarchicalPrior, bits_per_code, conv_vq_vae2, evaluate

SEEDS = (0, 1, 2)
SIZE = 32
CODES = 128, 16
SHOWN = 8


def labeled_sprites(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """n images of a large sprite of any shape, size, angle and place, with a surface of its own: waves (0) or wood (1).

    With them, which shape each has, and which surface.
    """
    generator = torch.Generator().manual_seed(seed)
    scale, angle, x, y, wood = torch.rand(5, n, generator=generator)
    kind = torch.randint(3, (n,), generator=generator)
    sprites = draw_sprites(kind, 1.1 + 0.6 * scale, 2 * pi * angle, 0.38 + 0.24 * x, 0.38 + 0.24 * y, SIZE)
    waves, rings = (datasets.textures(kind, n, size=SIZE, seed=seed) for kind in ("waves", "wood"))
    return sprites * (0.3 + 0.7 * torch.where(wood[:, None] < 0.5, rings, waves)), kind, (wood < 0.5).long()


def surfaced_sprites(n: int, seed: int) -> Tensor:
    """The images alone."""
    return labeled_sprites(n, seed)[0]


def bands(images: Tensor) -> tuple[float, float]:
    """Energy per image in waves longer than eight pixels, which only shapes have, and in shorter ones."""
    power = torch.fft.fft2(images.reshape(-1, SIZE, SIZE)).abs().square().mean(0) / SIZE**2
    across = torch.fft.fftfreq(SIZE)
    coarse = across[:, None] ** 2 + across**2 < (1 / 8) ** 2
    return power[coarse].sum().item(), power[~coarse].sum().item()


def _bytes(images: Tensor) -> Tensor:
    return (255 * images[:SHOWN].clamp(0, 1)).round().to(torch.uint8)


def train_both_stages(seed: int, images: int = 8000, steps: int = 1500, prior_steps: int = 1200) -> dict:
    """Both stages, and what becomes of reconstructions when one level's codes are another image's.

    Of replaced codes: energies of the change, coarse (waves longer than eight pixels) and fine. Bits per code: by the
    frequencies of the training codes, by the prior, and by a prior of the bottom that does not see the top.
    """
    train, test = surfaced_sprites(images, seed=1), surfaced_sprites(images // 16, seed=2)
    log_sigma = nn.Parameter(torch.tensor(-1.0))
    model = conv_vq_vae2((1, SIZE, SIZE), CODES, dim=8, log_sigma=log_sigma, seed=seed, revive_below=0.5)
    first = training.fit(model, train, steps=steps, batch_size=32, seed=seed)
    score = evaluate(model, test)
    row = {"distortion": score.distortion, "nmse": score.nmse}
    for name, level in (("top", score.top), ("bottom", score.bottom)):
        row |= {f"{name}_perplexity": level.perplexity, f"{name}_usage": level.usage}

    top, bottom = model.codes(test)
    known = model.generate((top, bottom)).detach()
    other = torch.arange(len(test)).roll(1)
    shown = {"image": test, "reconstruction": known}
    for name, codes in (("top", (top[other], bottom)), ("bottom", (top, bottom[other]))):
        shown[f"{name}_replaced"] = model.generate(codes).detach()
        coarse, fine = bands(shown[f"{name}_replaced"] - known)
        row |= {f"{name}_replaced_coarse": coarse, f"{name}_replaced_fine": fine}
    row["image_coarse"], row["image_fine"] = bands(test)
    row["error_coarse"], row["error_fine"] = bands(known - test)

    codes = model.codes(train)
    prior = HierarchicalPrior.of(model, seed=seed)
    alone = CodePrior(CODES[1], model.positions[1], seed=seed)
    settings = {"steps": prior_steps, "batch_size": 32, "seed": seed}
    second = training.fit(prior, codes, **settings)
    training.fit(alone, codes[1], **settings)
    row["top_bits"], row["bottom_bits"] = bits_per_code(prior, (top, bottom))
    row["bottom_bits_alone"] = alone.loss(bottom)["bits"].item()
    for name, size, seen, new in zip(("top", "bottom"), CODES, codes, (top, bottom), strict=True):
        smoothed = 0.999 * frequencies(seen, size) + 0.001 / size
        row |= {f"{name}_uniform_bits": log2(size), f"{name}_frequency_bits": code_length(new, smoothed).mean().item()}
    generator = torch.Generator().manual_seed(seed)
    shown["sample"] = model.sample(SHOWN, generator, prior=prior)
    top, bottom = (torch.randint(k, (SHOWN, n), generator=generator) for k, n in zip(CODES, model.positions, strict=True))
    shown["uniform_sample"] = model.generate((top, bottom)).detach()
    row |= {"training_seconds": round(first.seconds, 1), "prior_seconds": round(second.seconds, 1)}
    return row | {f"images.{name}": _bytes(kept) for name, kept in shown.items()}


levels = Experiment(
    train_both_stages,
    cases=[{"seed": seed} for seed in SEEDS],
    replay={"seed": 0, "images": 320, "steps": 12, "prior_steps": 6},
)
