"""The experiment of the chapter on beta-VAE at 32 x 32: sprites large enough for the eye to see what each latent does.

The sprites: 3 shapes, 3 scales, 6 angles, 8 x 8 places, all 3,456 combinations, gray. Convolutions that halve the sides three
times, 16 channels at first; 8 latents, a decoder of variance .05; Adam at 1e-3, batches of 64. The grid is the whole
population: there are no test images. Figures in nats are per image.
"""

from functools import partial
from math import log

import torch
from torch import Generator
from torch.optim import Adam

from vaecourse import beta_vae, datasets, training
from vaecourse.experiments import Experiment
from vaecourse.experiments.beta_vae import TRACE, C, factors_of, scores
from vaecourse.networks import GaussianNetwork, conv_decoder, conv_encoder, initial_weights
from vaecourse.vae import VAE, evaluate

SEEDS = tuple(range(5))
SHAPE, LATENTS, WIDTH, HALVINGS = (1, 32, 32), 8, 16, 3


def grid() -> datasets.Sprites:
    """The sprites."""
    return datasets.sprites(32, scales=3, orientations=6, positions=8)


def model_of(kind: str, strength: float, seed: int, steps: int) -> VAE:
    """The model of a kind; its strength is the price, the limit or the last capacity.

    "limit" starts at a multiplier of 1, "limit from below" at 100; "capacity" is at its last after 3/5 of the steps.
    """
    with initial_weights(seed):
        encoder = GaussianNetwork(conv_encoder(SHAPE, 2 * LATENTS, WIDTH, HALVINGS))
        decoder = GaussianNetwork(conv_decoder(LATENTS, SHAPE, WIDTH, HALVINGS), 0.5 * log(C))
    parts = encoder, decoder, 1024, LATENTS
    match kind:
        case "beta":
            return beta_vae.BetaVAE(*parts, beta=strength)
        case "limit":
            return beta_vae.ConstrainedVAE(*parts, delta=strength)
        case "limit from below":
            return beta_vae.ConstrainedVAE(*parts, delta=strength, start=100.0)
        case _:
            return beta_vae.CapacityVAE(*parts, capacity=strength, steps=3 * steps // 5)


def train(kind: str, strength: float, seed: int, steps: int = 6000, trials: bool = True) -> dict:
    """One model: the two sides of its bargain, the parts of its rate, its scores, how the rate went.

    end: the mean of the rate over the last tenth of the steps. trials: whether to score. Tensors, for seed 0: both networks'
    weights; what each latent does to a square in the middle, 256 gray levels, (latents, 7 values from -2 to 2, pixels); each
    latent's rate, averaged over all images.
    """
    sprites = grid()
    model = model_of(kind, strength, seed, steps)
    adam = partial(Adam, lr=1e-3, fused=True)
    settings = {"batch_size": 64, "optimizer": adam, "progress": False, "device": "cpu"}
    history = training.fit(model, sprites.images, steps=steps, seed=seed, **settings)
    model.eval()
    score = evaluate(model, sprites.images, 20, Generator().manual_seed(0))
    with torch.no_grad():
        q = model.encode(sprites.images)
        error = ((model.reconstruct(sprites.images) - sprites.images) ** 2).sum(-1).mean().item()
    parts = beta_vae.rate_parts(q, 1, Generator().manual_seed(0))
    window = max(1, steps // TRACE)
    watched = [name for name in ("rate", "beta", "capacity") if name in history.parts]
    row = {
        "rate": score.rate,
        "distortion": score.distortion,
        "squared_error": error,
        "active_units": score.active_units,
        "information": parts.information,
        "total_correlation": parts.total_correlation,
        "marginals": parts.marginals,
        "end": float(history["rate"][-max(1, steps // 10) :].mean()),
        "beta": float(model.beta) if kind.startswith(("beta", "limit")) else None,
        "latent_rates": q[..., None].kl_to_standard().mean(0).tolist(),
        **(scores(q, factors_of(sprites)) if trials else {}),
        **{f"{name}_trace": history.smooth(name, window).round(4).tolist() for name in watched},
        "training_seconds": round(history.seconds, 1),
    }
    if seed == 0:
        middle = sprites.at(torch.tensor([0, 2, 0, 4, 4]))[None]
        row["traversal"] = (255 * beta_vae.traverse(model, middle, torch.linspace(-2, 2, 7))[0].clamp(0, 1)).to(torch.uint8)
        networks = {"encoder": model.encoder, "decoder": model.decoder}
        row |= {f"{name}.{key}": value for name, net in networks.items() for key, value in net.state_dict().items()}
    return row


sprites = Experiment(
    train,
    [
        {"kind": kind, "strength": strength, "seed": seed}
        for seed in SEEDS
        for kind, strength in (
            ("beta", 1.0),
            ("beta", 4.0),
            ("beta", 16.0),
            ("limit", 5.0),
            ("limit from below", 5.0),
            ("capacity", 5.0),
        )
    ],
    {"kind": "limit", "strength": 5.0, "seed": 1, "steps": 10, "trials": False},
)
