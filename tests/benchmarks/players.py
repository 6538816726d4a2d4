"""How long a training step of the VQ-VAE and of the AVAE takes in `fit`, beside a bare hand-written loop of the same networks.

    python tests/benchmarks/players.py

on the CPU with two threads, batches of 64 images: a convolutional VQ-VAE of 28 x 28 pixels with an EMA codebook, and an AVAE of
16 x 16. The bare loops share the networks' classes and write the losses, the averages and the two players' moves by hand, in as
few operations as it takes, with the same fused Adam. Beside the VQ-VAE stand one with the quantizer of vector-quantize-pytorch
and pythae's EMA quantizer in the same bare loop. Writes book/results/vq_vae.benchmark.json and avae.benchmark.json.
"""

import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from math import log, pi

import torch
from harness import Timed, in_turn, store, table
from torch import Tensor, nn
from torch.nn import functional

from vaecourse import avae, training, vq_vae

BATCH, START, BLOCK, ROUNDS = 64, 5, 40, 9
THREADS = 2
CODES, DIM, BETA, DECAY = 128, 16, 0.25, 0.99


def block(step: Callable[[Tensor], None], data: Tensor) -> float:
    """Seconds a step of a bare loop, its start left out."""
    batches = shuffled(data)
    for _ in range(START):
        step(next(batches))
    started = time.perf_counter()
    for _ in range(BLOCK):
        step(next(batches))
    return (time.perf_counter() - started) / BLOCK


def shuffled(data: Tensor) -> Iterator[Tensor]:
    while True:
        for index in torch.randperm(len(data)).split(BATCH):
            if len(index) == BATCH:
                yield data[index]


def fitted(model: nn.Module, data: Tensor) -> float:
    """Seconds a step of `fit`, its start left out."""
    times: list[float] = []
    for run in training.train(model, data, steps=START + BLOCK, batch_size=BATCH, device="cpu"):
        if run.step in (START, START + BLOCK):
            times.append(time.perf_counter())
    return (times[1] - times[0]) / BLOCK


def adam(parameters) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)


# VQ-VAE


def new_vq_vae() -> vq_vae.VQVAE:
    return vq_vae.conv_vq_vae((1, 28, 28), CODES, DIM, halvings=2)


class PlainEMA(nn.Module):
    """The plainest correct quantizer with moving averages."""

    def __init__(self):
        super().__init__()
        self.register_buffer("e", torch.randn(CODES, DIM) / CODES)
        self.register_buffer("N", torch.ones(CODES))
        self.register_buffer("m", self.e.clone())

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (n, dim) -> the straight-through ones, and the commitment."""
        with torch.no_grad():
            distance = (z**2).sum(1, keepdim=True) - 2 * z @ self.e.T + (self.e**2).sum(1)
            one_hot = functional.one_hot(distance.argmin(1), CODES).to(z.dtype)
            quantized = one_hot @ self.e
            if self.training:
                self.N.mul_(DECAY).add_(one_hot.sum(0), alpha=1 - DECAY)
                self.m.mul_(DECAY).add_(one_hot.T @ z, alpha=1 - DECAY)
                total = self.N.sum()
                self.e.copy_(self.m / ((self.N + 1e-5) / (total + CODES * 1e-5) * total)[:, None])
        return z + (quantized - z).detach(), ((z - quantized) ** 2).sum(1).mean()


def bare_vq_vae(data: Tensor, quantizer: Callable[[Tensor], tuple[Tensor, Tensor]]) -> float:
    model = new_vq_vae()
    encoder, decoder = model.encoder.net, model.decoder.net.net
    optimizer = adam([*encoder.parameters(), *decoder.parameters()])

    def step(x: Tensor) -> None:
        grid = encoder(x.view(-1, 1, 28, 28))
        z = grid.permute(0, 2, 3, 1).reshape(-1, DIM)
        quantized, commitment = quantizer(z)
        grid = quantized.view(len(x), *grid.shape[2:], DIM).permute(0, 3, 1, 2)
        logits = decoder(grid).flatten(1)
        distortion = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        loss = distortion + BETA * commitment
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return block(step, data)


def vq_vae_peers() -> dict[str, Callable[[], Callable]]:
    """Quantizers of other libraries with one calling convention, where they are installed."""
    peers = {}
    try:
        from vector_quantize_pytorch import VectorQuantize

        def lucidrains():
            quantizer = VectorQuantize(DIM, CODES, decay=DECAY, commitment_weight=1.0)

            def quantize(z: Tensor) -> tuple[Tensor, Tensor]:
                quantized, _, commitment = quantizer(z[None])
                return quantized[0], DIM * commitment.sum()

            return quantize

        peers[f"vector-quantize-pytorch {version('vector-quantize-pytorch')}"] = lucidrains
    except ImportError:
        print("vector-quantize-pytorch is not installed: it is left out")
    try:
        from pythae.models.vq_vae.vq_vae_config import VQVAEConfig
        from pythae.models.vq_vae.vq_vae_utils import QuantizerEMA

        def pythae():
            config = VQVAEConfig(
                input_dim=(1, 28, 28), latent_dim=DIM, num_embeddings=CODES, commitment_loss_factor=1.0, decay=DECAY
            )
            config.embedding_dim = DIM
            quantizer = QuantizerEMA(config)

            def quantize(z: Tensor) -> tuple[Tensor, Tensor]:
                out = quantizer(z.view(1, 1, *z.shape))
                return out.quantized_vector.permute(0, 2, 3, 1).reshape(z.shape), DIM * out.loss

            return quantize

        peers[f"pythae {version('pythae')}"] = pythae
    except ImportError:
        print("pythae is not installed: it is left out")
    return peers


def quantizer_block(quantizer: Callable[[Tensor], tuple[Tensor, Tensor]], z: Tensor) -> float:
    """Seconds of one forward and backward pass of a quantizer alone, averages included."""

    def step() -> None:
        quantized, commitment = quantizer(z)
        (quantized.sum() + commitment).backward()

    for _ in range(START):
        step()
    started = time.perf_counter()
    for _ in range(BLOCK):
        step()
    return (time.perf_counter() - started) / BLOCK


def our_quantizer() -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    book = vq_vae.EMACodebook(torch.randn(CODES, DIM) / CODES, beta=BETA, decay=DECAY)

    def quantize(z: Tensor) -> tuple[Tensor, Tensor]:
        q = book(z)
        book.after_step()
        return q.straight_through, q.commitment.mean()

    return quantize


def compare_vq_vae(data: Tensor) -> list[dict]:
    peers = vq_vae_peers()
    loops: dict[str, Timed] = {
        "step, bare": lambda: bare_vq_vae(data, PlainEMA()),
        "step, fit": lambda: fitted(new_vq_vae(), data),
        **{f"step, bare with {name}": lambda new=new: bare_vq_vae(data, new()) for name, new in peers.items()},
    }
    rows = table(in_turn(loops, ROUNDS, "VQ-VAE steps"), "step, bare", batch=BATCH)
    for vectors in (64 * 49, 64 * 256):
        z = torch.randn(vectors, DIM).requires_grad_()
        alone: dict[str, Timed] = {
            "quantizer, plain": lambda z=z: quantizer_block(PlainEMA(), z),
            "quantizer, vaecourse": lambda z=z: quantizer_block(our_quantizer(), z),
            **{f"quantizer, {name}": lambda new=new, z=z: quantizer_block(new(), z) for name, new in peers.items()},
        }
        times = in_turn(alone, ROUNDS if vectors < 10_000 else 5, f"quantizers, {vectors} vectors")
        rows += table(times, "quantizer, plain", vectors=vectors)
    return rows


# AVAE


SHAPE, LATENTS, NOISE, LOG_SIGMA = (1, 16, 16), 8, 8, -2.0


def new_avae() -> avae.AVAE:
    return avae.image_avae(avae.Convolutions(SHAPE), LATENTS, NOISE, log_sigma=LOG_SIGMA)


def bare_avae(data: Tensor) -> float:
    model = new_avae()
    encoder, decoder = model.vae.encoder.net, model.vae.decoder.net
    G, C = model.G, model.C
    own = adam([*encoder.parameters(), *decoder.parameters(), *G.parameters()])
    others = adam(C.parameters())
    scale = 0.5 * torch.exp(torch.tensor(-2 * LOG_SIGMA))
    constant = data.shape[1] * (LOG_SIGMA + 0.5 * log(2 * pi))

    def step(x: Tensor) -> None:
        with torch.no_grad():
            fake = G(torch.cat([torch.randn(len(x), LATENTS), torch.randn(len(x), NOISE)], 1))
        real, made = C(torch.cat([x, fake])).chunk(2)
        loss = functional.softplus(-real).mean() + functional.softplus(made).mean()
        others.zero_grad()
        loss.backward()
        others.step()

        mu, log_sigma = encoder(x).chunk(2, 1)
        z = mu + log_sigma.exp() * torch.randn_like(mu)
        distortion = scale * ((x - decoder(z)) ** 2).sum() / len(x) + constant
        rate = 0.5 * (mu**2 + (2 * log_sigma).exp() - 1 - 2 * log_sigma).sum() / len(x)
        z = torch.randn(len(x), LATENTS)
        fake = G(torch.cat([z, torch.randn(len(x), NOISE)], 1))
        mu, log_sigma = encoder(fake).chunk(2, 1)
        code = (0.5 * ((z - mu) * (-log_sigma).exp()) ** 2 + log_sigma + 0.5 * log(2 * pi)).sum() / len(x)
        loss = distortion + rate + code - C(fake).mean()
        own.zero_grad()
        loss.backward(inputs=own.param_groups[0]["params"])  # the critic's gradients are of no use here
        own.step()

    return block(step, data)


def main() -> None:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    settings = {"batch": BATCH, "steps_a_block": BLOCK, "rounds": ROUNDS, "codes": CODES, "dim": DIM}
    store("vq_vae", settings, compare_vq_vae((torch.rand(20 * BATCH, 784) < 0.2).float()))
    images = torch.rand(20 * BATCH, 256)
    loops: dict[str, Timed] = {"step, bare": lambda: bare_avae(images), "step, fit": lambda: fitted(new_avae(), images)}
    settings = {"batch": BATCH, "steps_a_block": BLOCK, "rounds": ROUNDS, "shape": SHAPE, "latents": LATENTS, "noise": NOISE}
    store("avae", settings, table(in_turn(loops, ROUNDS, "AVAE steps"), "step, bare", batch=BATCH))


if __name__ == "__main__":
    main()
