"""The experiments of the chapter on VQ-VAE-2 that take longer: what each level holds, by outlines, and samples of both stages.

"surfaces": the shapes with a surface of `experiments.vq_vae2`, 8,000 to train and 500 to test. "fashion": Fashion-MNIST with a
margin of two pixels, 60,000 and 500. All 32 x 32, gray; grids of 4 x 4 and 8 x 8 codes of 8 dimensions with revival; one
learned standard deviation for all pixels; Adam at 1e-3, falling along half a cosine, batches of 32. An image's outline is where
it exceeds .15; the overlap of two outlines is their intersection over their union, averaged over images.
"""

from functools import cache, partial

import torch
from jaxtyping import Bool
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from vaecourse import datasets, metrics, training
from vaecourse.experiments import Experiment
from vaecourse.experiments.vq_vae2 import SIZE, surfaced_sprites
from vaecourse.vq_vae2 import VQVAE2, CodePrior, HierarchicalPrior, bits_per_code, conv_vq_vae2, evaluate

SEEDS = (0, 1, 2)
THRESHOLD = 0.15
SETTINGS = {"optimizer": partial(Adam, lr=1e-3, fused=True), "schedule": training.cosine, "progress": False, "device": "cpu"}


def _bytes(images: Tensor) -> Tensor:
    return (255 * images.clamp(0, 1)).round().to(torch.uint8)


@cache
def split(data: str, n: int) -> tuple[Tensor, Tensor]:
    """Images to train, at most n, and 500 to test."""
    if data == "surfaces":
        return surfaced_sprites(min(n, 8000), seed=1), surfaced_sprites(500, seed=2)
    images = datasets.load("fashion_mnist")
    return tuple(functional.pad(x.view(-1, 28, 28), (2, 2, 2, 2)).flatten(1) for x in (images.train[:n], images.test[:500]))


@cache
def judge(steps: int) -> metrics.Classifier:
    """The classifier whose features are compared: of Fashion-MNIST with its margin."""
    labels = datasets.load("fashion_mnist").train_labels
    return metrics.Classifier.fit(split("fashion", 60_000)[0], labels, (SIZE, SIZE), steps=steps, device="cpu")


def outline(images: Tensor) -> Bool[Tensor, "n pixels"]:
    """Where there is something."""
    return images > THRESHOLD


def overlap(a: Bool[Tensor, "n pixels"], b: Bool[Tensor, "n pixels"]) -> float:
    """Intersection over union, averaged over images."""
    return ((a & b).sum(-1) / (a | b).sum(-1).clamp(min=1)).mean().item()


def train_first_stage(data: str, codes: tuple[int, int], seed: int, steps: int, images: int) -> tuple[VQVAE2, float]:
    """A trained first stage and the seconds it took."""
    log_sigma = nn.Parameter(torch.tensor(-1.0))
    model = conv_vq_vae2((1, SIZE, SIZE), codes, dim=8, log_sigma=log_sigma, seed=seed, revive_below=0.5)
    history = training.fit(model, split(data, images)[0], steps=steps, batch_size=32, seed=seed, **SETTINGS)
    return model.eval(), history.seconds


@torch.no_grad()
def exchanged(model: VQVAE2, test: Tensor) -> dict:
    """What becomes of outlines when the top or the bottom codes are the next image's.

    overlap_with_top: of an image of mixed codes with the reconstruction of the one that gave the top; _with_bottom: that gave
    the bottom; unrelated: of these two. exchanges: of the first 6 images, all 36 pairs of a top (rows) and a bottom (columns).
    """
    top, bottom = model.codes(test)
    own = model.generate((top, bottom))
    other = torch.arange(len(test)).roll(1)
    mixed = outline(model.generate((top[other], bottom)))
    rows, columns = torch.arange(6).repeat_interleave(6), torch.arange(6).repeat(6)
    score = evaluate(model, test)
    return {
        "distortion": score.distortion,
        "nmse": score.nmse,
        **{f"top_{name}": getattr(score.top, name) for name in ("perplexity", "usage")},
        **{f"bottom_{name}": getattr(score.bottom, name) for name in ("perplexity", "usage")},
        "overlap_with_top": overlap(mixed, outline(own[other])),
        "overlap_with_bottom": overlap(mixed, outline(own)),
        "unrelated": overlap(outline(own), outline(own[other])),
        "exchanges": _bytes(model.generate((top[rows], bottom[columns]))),
    }


def train_bottom(bottom: int, seed: int, steps: int = 4000, images: int = 8000) -> dict:
    """A first stage on surfaces with 128 codes above and so many below: which level draws the outline. Pictures for seed 0."""
    model, seconds = train_first_stage("surfaces", (128, bottom), seed, steps, images)
    row = exchanged(model, split("surfaces", images)[1]) | {"training_seconds": round(seconds, 1)}
    if seed:
        del row["exchanges"]
    return row


bottoms = Experiment(
    train_bottom,
    cases=[{"bottom": bottom, "seed": seed} for bottom in (4, 16, 64, 512) for seed in SEEDS],
    replay={"bottom": 16, "seed": 1, "steps": 6, "images": 200},
)


def train_stages(
    data: str,
    seed: int,
    codes: tuple[int, int],
    steps: int = 6000,
    prior_steps: int = 6000,
    images: int = 60_000,
    n: int = 500,
    judge_steps: int = 1500,
) -> dict:
    """Both stages: outlines exchanged, bits per code by the prior and by one of the bottom that does not see the top; samples.

    frechet, rebuilt_frechet: of n samples and of n reconstructions against as many test images, by our own classifier; of
    "fashion" alone. Tensors, for seed 0: 32 samples, 32 with even codes, 32 test images and their reconstructions.
    """
    train, test = split(data, images)
    model, seconds = train_first_stage(data, codes, seed, steps, images)
    row = exchanged(model, test) | {"training_seconds": round(seconds, 1)}
    parts = [model.codes(x) for x in train.split(1000)]
    top, bottom = torch.cat([above for above, _ in parts]), torch.cat([below for _, below in parts])
    new = model.codes(test)
    prior = HierarchicalPrior.of(model, seed=seed)
    alone = CodePrior(codes[1], model.positions[1], seed=seed)
    settings = {"steps": prior_steps, "batch_size": 32, "seed": seed, **SETTINGS}
    second = training.fit(prior, (top, bottom), **settings)
    training.fit(alone, bottom, **settings)
    prior.eval()
    generator = Generator().manual_seed(seed)
    with torch.no_grad():
        row["top_bits"], row["bottom_bits"] = bits_per_code(prior, new)
        row["bottom_bits_alone"] = alone.loss(new[1])["bits"].item()
        samples, rebuilt = model.sample(n, generator, prior=prior), model.generate(new)
    if data == "fashion":
        features = judge(judge_steps).features
        row["frechet"] = metrics.frechet_distance(features(samples), features(test[:n]))
        row["rebuilt_frechet"] = metrics.frechet_distance(features(rebuilt[-n:]), features(test[:n]))
    row["prior_seconds"] = round(second.seconds, 1)
    if seed:
        del row["exchanges"]
    else:
        row |= {"samples": _bytes(samples[:32]), "even": _bytes(model.sample(32, generator))}
        row |= {"images": _bytes(test[:32]), "rebuilt": _bytes(rebuilt[:32])}
    return row


stages = Experiment(
    train_stages,
    cases=[
        {"data": data, "codes": codes, "seed": seed}
        for data, codes in (("fashion", (256, 256)), ("surfaces", (128, 16)))
        for seed in SEEDS
    ],
    replay={"data": "surfaces", "codes": (128, 16), "seed": 1, "steps": 4, "prior_steps": 2, "images": 200},
)
