"""The exact world of the chapter on AVAE: x = (2 s, .3 n), with s and n ~ N(0, 1), and a code of one number.

One number can say s and has no room for n: the decoder's mean leaves n out, the generator is to draw it. All maps are affine:
the encoder's mean and log sigma, the decoder, G(z, z_a). So p_G = N(b, A A') is known, and with it the best critic, the
divergence and the entropy. Batches of 256 of 50,000 points, Adam at 3e-3, falling along a cosine.
"""

from functools import partial

import torch
from torch import Generator, Tensor, nn
from torch.distributions import MultivariateNormal
from torch.optim import Adam

from vaecourse import training
from vaecourse.avae import AVAE, Critic
from vaecourse.experiments import Experiment
from vaecourse.networks import GaussianNetwork, initial_weights, leaky, mlp
from vaecourse.vae import VAE

SEEDS = (0, 1, 2)
WIDTHS = torch.tensor([2.0, 0.3])
DATA = MultivariateNormal(torch.zeros(2), torch.diag(WIDTHS**2))
TURN = partial(Adam, lr=3e-3, betas=(0.5, 0.99), fused=True)


class Known(nn.Module):
    """The logit of the best critic, log p_data - log p_G with p_G as it is; with_entropy, log p_data alone.

    -E log p_data is KL(p_G || p_data) + H(p_G): what the generator's loss is with the entropy that AVAE leaves out.
    """

    def __init__(self, G: nn.Linear, with_entropy: bool):
        super().__init__()
        self.law, self.with_entropy = lambda: made_by(G), with_entropy

    def forward(self, x: Tensor) -> Tensor:
        """One logit a point, nats."""
        return DATA.log_prob(x) - (0.0 if self.with_entropy else self.law().log_prob(x))


class WithKnownRatio(AVAE):
    """AVAE that has no critic to train."""

    def turns(self) -> list[training.Turn]:
        """E, D and G."""
        return super().turns()[1:]


def made_by(G: nn.Linear) -> MultivariateNormal:
    """p_G, the law of G(z, z_a); no gradient follows its weights."""
    A = G.weight.detach()
    return MultivariateNormal(G.bias.detach(), A @ A.T + 1e-6 * torch.eye(2))


def build(kind: str, code_weight: float, seed: int) -> AVAE:
    """ "learned": with a critic of two layers of 64. "known": with the best one. "with entropy": with the entropy kept."""
    with initial_weights(seed):
        vae = VAE(GaussianNetwork(nn.Linear(2, 2)), GaussianNetwork(nn.Linear(1, 2), WIDTHS[1].log().item()), 2, 1)
        G = nn.Linear(2, 2)
        body, head = mlp(2, 64, 64, activation=leaky), nn.Sequential(leaky(), nn.Linear(64, 1))
    if kind == "learned":
        return AVAE(vae, G, Critic(body, head, penalty=0.02, fake_penalty=0.02), 1, code_weight=code_weight)
    return WithKnownRatio(vae, G, Known(G, kind == "with entropy"), 1, code_weight=code_weight)


def train_exact(kind: str, code_weight: float, seed: int, steps: int = 4000) -> dict:
    """What G and D make of a code, at `moments`.

    G_x1, D_x1: how far x_1 moves with a unit of z. G_x2: deviation of x_2 in G's draws at one code. D_x2: how far its mean
    moves with a unit of z. kl: KL(p_G || p_data), nats, p_G never narrower than .001. ratio_error: the root mean squared
    distance of a learned critic's logit from log p_data - log p_G, over points of the data. At the end: the squared error of
    codes found again, the encoder's sigma, its rate.
    """
    model, noise = build(kind, code_weight, seed), Generator().manual_seed(seed)
    points = torch.randn(50_000, 2, generator=noise) * WIDTHS
    course: dict[str, list] = {}
    settings = {"batch_size": 256, "seed": seed, "optimizer": TURN, "schedule": training.cosine, "device": "cpu"}
    for run in training.train(model, points, steps=steps, **settings):
        if run.step % max(1, steps // 20) == 0:
            A, D, law, x = model.G.weight.detach(), model.vae.decoder.net.weight.detach(), made_by(model.G), points[:2000]
            kl = torch.distributions.kl_divergence(law, DATA)
            found = {"G_x1": A[0, 0].abs(), "G_x2": A[1, 1].abs(), "D_x1": D[0, 0].abs(), "D_x2": D[1, 0].abs(), "kl": kl}
            if kind == "learned":
                with torch.no_grad():
                    found["ratio_error"] = (model.C(x) - DATA.log_prob(x) + law.log_prob(x)).square().mean().sqrt()
            course.setdefault("moments", []).append(run.step)
            for name, value in found.items():
                course.setdefault(name, []).append(round(value.item(), 5))
    with torch.no_grad():
        z = model.prior(5000).sample(noise)
        q = model.encode(model.generate(z, noise))
        at_data = model.encode(points[:5000])
    return {
        **course,
        "code_error": ((q.mu - z) ** 2).mean().item(),
        "sigma": at_data.log_sigma.exp().mean().item(),
        "rate": at_data.kl_to_standard().mean().item(),
    }


exact = Experiment(
    train_exact,
    [
        {"kind": kind, "code_weight": weight, "seed": seed}
        for kind, weights in (("known", (1.0, 0.1, 0.01)), ("with entropy", (1.0, 0.01)), ("learned", (1.0, 0.1, 0.01)))
        for weight in weights
        for seed in SEEDS
    ],
    {"kind": "learned", "code_weight": 0.01, "seed": 1, "steps": 40},
)
