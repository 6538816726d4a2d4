"""The experiments of the chapter on beta-VAE: sprites with four known factors, and total correlation where it is known.

The sprites: 3 shapes, 4 scales, 8 x 8 places, all 768 combinations, 16 x 16 gray pixels. Encoder and decoder have two hidden
layers of 128 tanh units, 6 latents, a decoder of variance .05; Adam at 2e-3, batches of 64, 2,500 steps. The grid is the whole
population: there are no test images. Figures in nats are per image.
"""

from functools import partial
from math import log

import torch
from torch import Generator, Tensor

from vaecourse import beta_vae, datasets, training
from vaecourse.distributions import Normal
from vaecourse.experiments import Experiment
from vaecourse.vae import VAE, evaluate, gaussian_vae

SEEDS = tuple(range(5))
BETAS = (1.0, 4.0, 8.0, 16.0, 32.0)
C = 0.05
LATENTS = 6
BINS = (5, 20, 100)
TRACE = 50  # points of a stored trace


def grid() -> datasets.Sprites:
    """The sprites; the first of their five factors that varies is the shape, orientation does not vary."""
    return datasets.sprites(16, scales=4, orientations=1, positions=8)


def factors_of(sprites: datasets.Sprites) -> Tensor:
    """The columns of the factors that vary: shape, scale, x, y."""
    return sprites.factors[:, [k for k, size in enumerate(sprites.sizes) if size > 1]]


def model_of(kind: str, strength: float, seed: int, steps: int, n: int) -> VAE:
    """The model of a kind; its strength is the price, the limit, the last capacity, or what total correlation costs.

    "limit" starts at a multiplier of 1, "limit from below" at 100; "capacity" is at its last after 3/5 of the steps.
    """
    build = partial(gaussian_vae, 256, LATENTS, log_sigma=0.5 * log(C), seed=seed)
    match kind:
        case "beta":
            return build(kind=beta_vae.BetaVAE, beta=strength)
        case "limit":
            return build(kind=beta_vae.ConstrainedVAE, delta=strength)
        case "limit from below":
            return build(kind=beta_vae.ConstrainedVAE, delta=strength, start=100.0)
        case "capacity":
            return build(kind=beta_vae.CapacityVAE, capacity=strength, steps=3 * steps // 5)
        case _:
            return build(kind=beta_vae.BetaTCVAE, beta=strength, n=n)


def scores(q: Normal, factors: Tensor) -> dict:
    """All scores of posterior means, with the choices that MIG depends on made in several ways; shape is categorical."""
    codes, drawn = q.mu, q.sample(Generator().manual_seed(0))
    posterior = beta_vae.posterior_information(q, factors, generator=Generator().manual_seed(0))
    dci = beta_vae.dci(codes, factors)
    return {
        "mig": beta_vae.mig(codes, factors),
        "mig_by_bins": [beta_vae.mig(codes, factors, bins=bins) for bins in BINS],
        "mig_of_draws": beta_vae.mig(drawn, factors),
        "mig_of_posteriors": (beta_vae.gap(posterior) / beta_vae.entropies(factors)).mean().item(),
        "mig_of_places": beta_vae.mig(codes, factors[:, 2:]),
        "modularity": beta_vae.modularity(codes, factors),
        "sap": beta_vae.sap(codes, factors, categorical=[0]),
        "disentanglement": dci.disentanglement,
        "completeness": dci.completeness,
        "informativeness": dci.informativeness,
        "beta_vae_score": beta_vae.beta_vae_score(codes, factors),
        "factor_vae_score": beta_vae.factor_vae_score(codes, factors),
    }


def train(kind: str, strength: float, seed: int, steps: int = 2500) -> dict:
    """One model on the sprites: the two sides of its bargain, the parts of its rate, its scores; how the rate went.

    end: the mean of the rate over the last tenth of the steps. beta: what a nat of rate costs at the end, where that is known.
    Seed 0 stores what each latent does to a square in the middle, in 256 gray levels, (latents, 7 values from -2 to 2, pixels).
    """
    sprites = grid()
    factors = factors_of(sprites)
    model = model_of(kind, strength, seed, steps, len(sprites.images))
    adam = partial(training.adam, lr=2e-3)
    history = training.fit(
        model, sprites.images, steps=steps, batch_size=64, seed=seed, optimizer=adam, progress=False, device="cpu"
    )
    score = evaluate(model, sprites.images, 20, Generator().manual_seed(0))
    with torch.no_grad():
        q = model.encode(sprites.images)
        error = ((model.reconstruct(sprites.images) - sprites.images) ** 2).sum(-1).mean().item()
    parts = beta_vae.rate_parts(q, 4, Generator().manual_seed(0))
    window = max(1, steps // TRACE)
    watched = [name for name in ("rate", "beta", "capacity") if name in history.parts]
    traces = {f"{name}_trace": history.smooth(name, window).round(4).tolist() for name in watched}
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
        **scores(q, factors),
        **traces,
    }
    if seed == 0:
        middle = sprites.at(torch.tensor([0, 2, 0, 4, 4]))[None]
        row["traversal"] = (255 * beta_vae.traverse(model, middle, torch.linspace(-2, 2, 7))[0].clamp(0, 1)).to(torch.uint8)
    return row


SETTINGS = [
    *(("beta", beta) for beta in BETAS),
    *(("limit", delta) for delta in (3.0, 5.0)),
    *(("limit from below", delta) for delta in (3.0, 5.0)),
    *(("capacity", capacity) for capacity in (3.0, 5.0)),
    *(("correlation", beta) for beta in (8.0, 32.0)),
]

sprites = Experiment(
    train,
    [{"kind": kind, "strength": strength, "seed": seed} for kind, strength in SETTINGS for seed in SEEDS],
    {"kind": "limit", "strength": 3.0, "seed": 1, "steps": 60},
)


# Total correlation from a batch, where it is known


def weighted_weights(batch: int, n: int) -> Tensor:
    """Log weights of minibatch weighted sampling: 1 / (n batch) for all, the image that a code came from among them."""
    return torch.full((batch, batch), -log(n * batch))


def copied_weights(batch: int, n: int) -> Tensor:
    """The log weights that are widely copied for stratified sampling: the own image has column 0, not the diagonal.

    That matrix, up to one entry. Rows sum to one, but a code's own image, which has by far the largest density there, weighs
    1 / (batch - 1) and not 1 / n.
    """
    others = batch - 1
    weights = torch.full((batch, batch), 1 / others)
    weights[:, 0] = 1 / n
    weights[:, 1] = (n - others) / (n * others)
    return weights.log()


def with_weights(q: Normal, z: Tensor, log_weights: Tensor) -> Tensor:
    """log q(z) - sum_j log q(z_j), each from the batch's posteriors with these weights."""
    each = q[..., None].log_prob(z[:, None, :, None])  # each latent a distribution of its own
    return (log_weights + each.sum(-1)).logsumexp(1) - (log_weights[..., None] + each).logsumexp(1).sum(-1)


def estimate_correlation(variance: float, batch: int, seed: int, n: int = 4000, latents: int = 5, codes: int = 8192) -> dict:
    """Estimates of a total correlation that is known exactly, each averaged over that many codes in batches.

    n posterior means from N(0, A), all correlations of A .8, posteriors of that variance s: q(z) is N(0, A + s I) as n grows.
    all: from all n posteriors. stratified: as `BetaTCVAE` trains. copied, weighted: the two sets of weights above.
    """
    generator = Generator().manual_seed(seed)
    A = torch.full((latents, latents), 0.8).fill_diagonal_(1)
    S = A + variance * torch.eye(latents)
    mu = torch.randn(n, latents, generator=generator) @ torch.linalg.cholesky(A).T
    q = Normal(mu, torch.full_like(mu, 0.5 * log(variance)))
    found: dict[str, list[Tensor]] = {"stratified": [], "copied": [], "weighted": []}
    for _ in range(codes // batch):
        rows = torch.randperm(n, generator=generator)[:batch]
        part = q[rows]
        z = part.sample(generator)
        found["stratified"].append(beta_vae.batch_total_correlation(part, z, n).mean())
        found["copied"].append(with_weights(part, z, copied_weights(batch, n)).mean())
        found["weighted"].append(with_weights(part, z, weighted_weights(batch, n)).mean())
    return {
        "exact": 0.5 * (S.diagonal().log().sum() - torch.logdet(S)).item(),
        "all": beta_vae.rate_parts(q, generator=generator).total_correlation,
        **{name: torch.stack(values).mean().item() for name, values in found.items()},
    }


correlation = Experiment(
    estimate_correlation,
    [
        {"variance": variance, "batch": batch, "seed": seed}
        for variance in (0.05, 0.25)
        for batch in (32, 128, 512)
        for seed in SEEDS[:3]
    ],
    {"variance": 0.25, "batch": 64, "seed": 0, "n": 500, "codes": 640},
)
