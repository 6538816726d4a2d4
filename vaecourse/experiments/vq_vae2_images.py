"""The larger experiments of the chapter on VQ-VAE-2: what each level says, and what both stages make of clothes.

32 x 32, gray. `bottoms`: sprites with a surface, a top of 4 x 4 codes out of 128 above 8 x 8 codes out of a book of varied
size. `stages`: Fashion-MNIST with an empty rim of two pixels, 640 bits an image in two ways: 4 x 4 and 8 x 8 codes out of 256
each, or one grid of 8 x 8 codes out of 1,024. Codes learn by averages with revival; one standard deviation is learned for all
pixels; Adam at 1e-3, falling along half a cosine. Squared errors, bits and nats are per image.
"""

from functools import cache, partial
from math import log, log2

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from vaecourse import datasets, metrics, training
from vaecourse.experiments import Experiment
from vaecourse.experiments.vq_vae2 import labeled_sprites
from vaecourse.experiments.vq_vae_images import compared
from vaecourse.vq_vae import VQVAE, conv_vq_vae
from vaecourse.vq_vae import evaluate as evaluate_one
from vaecourse.vq_vae2 import VQVAE2, CodePrior, HierarchicalPrior, conv_vq_vae2, evaluate

SEEDS = (0, 1, 2)
SIZE, SHOWN = 32, 8
SHAPE = (1, SIZE, SIZE)
EDGE = 0.15  # of a pixel: half of the least light of a surface
TEMPERATURES = (0.5, 0.7, 0.85, 1.0)
SETTINGS = {"optimizer": partial(Adam, lr=1e-3, fused=True), "schedule": training.cosine, "progress": False, "device": "cpu"}


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def _bytes(images: Tensor) -> Tensor:
    return (255 * images.clamp(0, 1)).round().to(torch.uint8)


def _log_sigma() -> nn.Parameter:
    return nn.Parameter(torch.tensor(-1.0))


# What each level says: exchange them


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """|A and B| / |A or B| for the pixels above the edge of each pair of images: 1 for one outline, 0 for two apart."""
    a, b = a > EDGE, b > EDGE
    return (a & b).sum(-1) / (a | b).sum(-1)


@cache
def witnesses(steps: int) -> tuple[metrics.Classifier, metrics.Classifier]:
    """Who tells the shape of a sprite, and who its surface."""
    images, kind, wood = labeled_sprites(8000, seed=3)
    return tuple(metrics.Classifier.fit(images, labels, SHAPE, steps=steps, device="cpu") for labels in (kind, wood))


def exchange(words: int, seed: int, images: int = 8000, steps: int = 3000, judge_steps: int = 1500) -> dict:
    """The first stage with a bottom book of `words`; then each test image's top with the bottom of the one before it.

    outline_NAME: overlap of the outlines, mean over the test images: of the mixture with the image that gave the top, and with
    that which gave the bottom; of a reconstruction with its image ("rebuilt"); of two images ("strangers"). shape_NAME,
    surface_NAME: the share of mixtures in which the classifier sees the shape or surface of the image that gave the top or the
    bottom, among pairs that differ in it; "rebuilt", "test": that of its own image in reconstructions, and in test images.
    Tensors, for seed 0: eight images, and pictures of all their tops (rows) with all their bottoms; for 16 words the weights.
    """
    train, (test, kind, wood) = labeled_sprites(images, seed=1)[0], labeled_sprites(images // 16, seed=2)
    model = conv_vq_vae2(SHAPE, (128, words), dim=8, log_sigma=_log_sigma(), seed=seed, revive_below=0.5)
    history = training.fit(model, train, steps=steps, batch_size=32, seed=seed, **SETTINGS)
    model.eval()
    score = evaluate(model, test)
    row = {"squared_error": score.nmse * test.double().square().sum(-1).mean().item(), "distortion": score.distortion}
    for name, level in (("top", score.top), ("bottom", score.bottom)):
        row |= {f"{name}_perplexity": level.perplexity, f"{name}_usage": level.usage, f"{name}_coded_bits": level.coded_bits}

    top, bottom = model.codes(test)
    other = torch.arange(len(test)).roll(1)
    rebuilt, mixed = model.generate((top, bottom)).detach(), model.generate((top, bottom[other])).detach()
    pairs = {"top": (mixed, test), "bottom": (mixed, test[other]), "rebuilt": (rebuilt, test), "strangers": (test[other], test)}
    row |= {f"outline_{name}": overlap(*pair).mean().item() for name, pair in pairs.items()}
    for what, witness, labels in zip(("shape", "surface"), witnesses(judge_steps), (kind, wood), strict=True):
        with torch.no_grad():
            seen, of_rebuilt, of_test = (witness(x).argmax(-1) for x in (mixed, rebuilt, test))
        differ = labels != labels[other]
        for name, found, wanted, among in (
            ("top", seen, labels, differ),
            ("bottom", seen, labels[other], differ),
            ("rebuilt", of_rebuilt, labels, slice(None)),
            ("test", of_test, labels, slice(None)),
        ):
            row[f"{what}_{name}"] = (found == wanted)[among].float().mean().item()
    row["training_seconds"] = round(history.seconds, 1)
    if seed == 0:
        grid = model.generate((top[:SHOWN].repeat_interleave(SHOWN, 0), bottom[:SHOWN].repeat(SHOWN, 1))).detach()
        row |= {"images": _bytes(test[:SHOWN]), "mixtures": _bytes(grid)}
        if words == 16:
            row |= {f"model.{key}": value for key, value in model.state_dict().items()}
    return row


bottoms = Experiment(
    exchange,
    cases=[{"words": words, "seed": seed} for words in (2, 4, 16, 256) for seed in SEEDS],
    replay={"words": 4, "seed": 1, "images": 320, "steps": 6, "judge_steps": 6},
)


# Both stages on clothes


@cache
def clothes() -> tuple[Tensor, Tensor, Tensor]:
    """Training images, their labels, and test images, 32 x 32."""
    data = datasets.load("fashion_mnist")
    train, test = (functional.pad(x.unflatten(-1, (28, 28)), (2, 2, 2, 2)).flatten(1) for x in (data.train, data.test))
    return train, data.train_labels, test


@cache
def judge(steps: int) -> metrics.Classifier:
    """The classifier whose features are compared."""
    train, labels, _ = clothes()
    return metrics.Classifier.fit(train, labels, SHAPE, steps=steps, device="cpu")


def _one_level(seed: int, steps: int, prior_steps: int) -> tuple[VQVAE, CodePrior, dict]:
    train = clothes()[0]
    model = conv_vq_vae(SHAPE, 1024, 16, halvings=2, width=32, log_sigma=_log_sigma(), seed=seed, revive_below=0.5)
    first = training.fit(model, train, steps=steps, batch_size=32, seed=seed, **SETTINGS)
    model.eval()
    known = torch.cat([model.codes(part) for part in train.split(1000)])
    prior = CodePrior(1024, model.latents, seed=seed)
    second = training.fit(prior, known, steps=prior_steps, batch_size=32, seed=seed, **SETTINGS)
    return model, prior, {"training_seconds": round(first.seconds, 1), "prior_seconds": round(second.seconds, 1)}


def _two_levels(seed: int, steps: int, prior_steps: int) -> tuple[VQVAE2, HierarchicalPrior, dict]:
    train = clothes()[0]
    model = conv_vq_vae2(SHAPE, (256, 256), 16, width=32, log_sigma=_log_sigma(), seed=seed, revive_below=0.5)
    first = training.fit(model, train, steps=steps, batch_size=32, seed=seed, **SETTINGS)
    model.eval()
    known = tuple(map(torch.cat, zip(*(model.codes(part) for part in train.split(1000)), strict=True)))
    prior = HierarchicalPrior.of(model, seed=seed)
    second = training.fit(prior, known, steps=prior_steps, batch_size=32, seed=seed, **SETTINGS)
    return model, prior, {"training_seconds": round(first.seconds, 1), "prior_seconds": round(second.seconds, 1)}


def train_stages(
    levels: int, seed: int, steps: int = 6000, prior_steps: int = 6000, n: int = 1000, judge_steps: int = 1500
) -> dict:
    """Both stages with one level or two; what the codes cost and lose, and what samples are, at several temperatures.

    prior_bits: -log2 of the learned prior, of n test images; minus_elbo: the distortion of the same images and that, in nats.
    NAME_frechet, _precision, _recall: n pictures against n test images; NAME is "uniform", "rebuilt" (of n others), "at_T" for
    samples at temperature T, and for two levels "strangers", the tops of test images with the bottoms of others.
    Tensors, for seed 0: weights and codes of 8 test images; 24 samples of each kind.
    """
    model, prior, row = (_one_level, _two_levels)[levels - 1](seed, steps, prior_steps)
    return row | _judged(model, prior.eval(), levels, seed, n, judge(judge_steps))


@torch.no_grad()
def _judged(model, prior, levels: int, seed: int, n: int, features: metrics.Classifier) -> dict:
    row: dict = {}
    generator, test = _generator(seed), clothes()[2]
    real, rest = test[:n], test[-n:]
    new = model.codes(real)
    score = (evaluate_one, evaluate)[levels - 1](model, test)
    if levels == 1:
        nats = -torch.cat([prior.log_prob(part) for part in new.split(250)])
        row |= {"perplexity": score.perplexity, "uniform_bits": float(model.latents * log2(1024))}
    else:
        top, bottom = new
        above = -torch.cat([prior.top.log_prob(part) for part in top.split(250)])
        below = -torch.cat([prior.bottom.log_prob(b, t) for t, b in zip(top.split(250), bottom.split(250), strict=True)])
        nats = above + below
        row |= {"top_bits": above.mean().item() / log(2), "bottom_bits": below.mean().item() / log(2)}
        row |= {"top_perplexity": score.top.perplexity, "bottom_perplexity": score.bottom.perplexity}
        row["uniform_bits"] = float(model.latents * log2(256))
    row |= {
        "squared_error": score.nmse * test.double().square().sum(-1).mean().item(),
        "distortion": score.distortion,
        "prior_bits": nats.double().mean().item() / log(2),
        "minus_elbo": (nats - model.decode(new).log_prob(real)).double().mean().item(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "prior_parameters": sum(p.numel() for p in prior.parameters()),
    }
    made = {"uniform": model.sample(n, generator), "rebuilt": model.generate(model.codes(rest))}
    made |= {f"at_{t}": model.generate(prior.sample(n, generator, temperature=t)) for t in TEMPERATURES}
    if levels == 2:
        made["strangers"] = model.generate((new[0], new[1].roll(1, 0)))
    row |= compared(made, real, features)
    if seed == 0:
        row["images"] = _bytes(real[:SHOWN])
        row |= {f"samples.{name}": _bytes(pictures[:24]) for name, pictures in made.items()}
        if levels == 2:
            row |= {"top": new[0][:SHOWN], "bottom": new[1][:SHOWN]}
            for part, net in (("model", model), ("prior", prior)):
                row |= {f"{part}.{key}": value for key, value in net.state_dict().items()}
    return row


stages = Experiment(
    train_stages,
    cases=[{"levels": levels, "seed": seed} for levels in (2, 1) for seed in SEEDS],
    replay={"levels": 2, "seed": 1, "steps": 6, "prior_steps": 3, "n": 40, "judge_steps": 10},
)
