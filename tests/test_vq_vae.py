"""The VQ-VAE against neighbors found by scipy, gradients derived by hand, averages in numpy loops, K-means, and enumerations.

What people get wrong is built here beside the right form, and shown to fail.
"""

import heapq
import json
import subprocess
import sys
from functools import partial
from itertools import product
from math import exp, log, log2, pi
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.cluster.vq import kmeans2, vq
from scipy.integrate import quad
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import double, generator, needs_cuda
from vaecourse import processes, training, vq_vae
from vaecourse.networks import GaussianNetwork, initial_weights
from vaecourse.randomness import SharedGenerator
from vaecourse.vq_vae import VQVAE, Codebook, EMACodebook, Quantized, conv_vq_vae, evaluate
from vaecourse.vq_vae.model import Residual


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def rows_of(n: int, positions: int) -> Tensor:
    return torch.zeros(n, positions, dtype=torch.int64)


# Nearest codes


@pytest.mark.equation("eq-vq_vae-nearest", oracle="another library: scipy.cluster.vq")
@settings(deadline=None, max_examples=50)
@given(n=st.integers(1, 40), codes=st.integers(1, 30), dim=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_the_code_of_a_vector_is_the_one_that_scipy_finds_nearest(n, codes, dim, seed):
    z, vectors = normal(n, dim, seed=seed), normal(codes, dim, seed=seed + 1)
    q = Codebook(vectors)(z)
    code, distance = vq(z.numpy(), vectors.numpy())
    assert np.array_equal(q.code, code) and torch.equal(q.e, vectors[q.code])
    assert np.allclose(q.codebook_loss.detach(), distance**2) and torch.equal(q.commitment, q.codebook_loss)


def test_single_precision_errs_only_between_codes_that_are_as_good_as_equally_near():
    z, vectors = normal(2000, 8) + 10, normal(512, 8, seed=1) + 10
    found = Codebook(vectors.float())(z.float()).code
    distance = torch.cdist(z, vectors)
    excess = distance.gather(1, found[:, None])[:, 0] ** 2 - distance.min(1).values ** 2
    assert excess.max() < 1e-6 * (z.square().sum(1) + vectors.square().sum(1).max()).max()


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 4, 3), (2, 1, 4, 3)])
def test_vectors_of_any_batch_get_one_code_each(shape):
    for book in (Codebook(normal(6, 3)), EMACodebook(normal(6, 3))):
        q = book(normal(*shape, seed=1))
        assert q.code.shape == shape[:-1] == q.commitment.shape and q.e.shape == q.straight_through.shape == shape
        assert torch.equal(q.code.flatten(), book(normal(*shape, seed=1).reshape(-1, 3)).code)
        squares = ((q.z - q.e).detach().numpy() ** 2).sum(-1)
        assert np.allclose(q.codebook_loss.detach(), squares) and np.allclose(q.commitment.detach(), squares)


@pytest.mark.equation("eq-vq_vae-posterior", oracle="another library: scipy.cluster.vq")
def test_the_posterior_is_certain_of_the_nearest_code():
    vectors = torch.cat([normal(4, 2), double([50.0, 50.0])])  # the last is nearest to nothing
    model, x = linear(Codebook(vectors)), normal(7, 3, seed=1)
    posterior = model.posterior(x)
    code, _ = vq(model.encode(x).z.detach().reshape(-1, 2).numpy(), model.codebook.vectors.detach().numpy())
    assert posterior.shape == (7, 2, 5)
    assert np.array_equal(posterior.reshape(-1, 5), np.eye(5)[code])


# Gradients, by hand, of a model with linear encoder and decoder: two positions, two coordinates, three pixels


def linear(codebook: Codebook, log_sigma: float = -0.25) -> VQVAE:
    with initial_weights(5):
        encoder, decoder = nn.Linear(3, 4), GaussianNetwork(nn.Linear(4, 3), log_sigma)
    return VQVAE(encoder, decoder, codebook, pixels=3, latents=2).double()


class ByHand:
    """The linear model's loss and gradients in numpy: e's channels come first, as in a grid of two channels."""

    def __init__(self, model: VQVAE, x: Tensor):
        V, v = (p.detach().numpy() for p in model.encoder.parameters())
        W, w = (p.detach().numpy() for p in model.decoder.net.parameters())
        self.x, vectors, variance = x.numpy(), model.codebook.vectors.detach().numpy(), exp(2 * -0.25)
        n = len(self.x)
        self.z = (self.x @ V.T + v).reshape(n, 2, 2).transpose(0, 2, 1)
        self.code = vq(self.z.reshape(-1, 2), vectors)[0].reshape(n, 2)
        self.e = vectors[self.code]
        error = self.e.transpose(0, 2, 1).reshape(n, 4) @ W.T + w - self.x
        self.distortion = (error**2).sum() / variance / 2 / n + 1.5 * log(2 * pi * variance)
        self.gap = self.z - self.e
        self.squared = (self.gap**2).sum(-1).mean()
        self.at_e = (error @ W / variance / n).reshape(n, 2, 2).transpose(0, 2, 1)  # the distortion's gradient in e

    def at_encoder(self, at_z: np.ndarray) -> np.ndarray:
        return np.einsum("npd,ni->dpi", at_z, self.x).reshape(4, 3)

    def at_codes(self, at_e: np.ndarray, codes: int) -> np.ndarray:
        gradient = np.zeros((codes, 2))
        np.add.at(gradient, self.code.ravel(), at_e.reshape(-1, 2))
        return gradient


BETA = 0.25


@pytest.fixture
def x() -> Tensor:
    return normal(6, 3, seed=3)


def gradient(loss: Tensor, *of: Tensor) -> list[Tensor]:
    found = torch.autograd.grad(loss, of, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, of, strict=True)]


@pytest.mark.equation("eq-vq_vae-straight-through", oracle="derivation by hand: the decoder's gradient at e")
def test_straight_through_the_encoder_gets_the_gradient_that_the_decoder_has_at_the_code(x):
    model = linear(Codebook(normal(4, 2)))
    hand, q = ByHand(model, x), model.encode(x)
    assert torch.allclose(q.straight_through, q.e, rtol=0, atol=1e-15) and (q.z - q.e).abs().max() > 0.1
    distortion = -model.decode_vectors(q.straight_through).log_prob(x).mean()
    at_z, at_vectors = gradient(distortion, q.z, model.codebook.vectors)
    assert np.allclose(at_z, hand.at_e, atol=1e-12) and np.abs(hand.at_e).min() > 1e-4
    assert not at_vectors.any(), "the decoder does not move the codes"
    at_z, at_vectors = gradient(-model.decode_vectors(q.e).log_prob(x).mean(), q.z, model.codebook.vectors)
    assert not at_z.any() and at_vectors.any(), "without the straight-through line the encoder learns nothing"


@pytest.mark.equation("eq-vq_vae-straight-through", oracle="finite differences of a loss in which e moves along with z")
def test_what_straight_through_gives_is_the_slope_of_a_loss_in_which_the_code_moves_along_with_its_vector(x):
    model = linear(Codebook(normal(4, 2)))
    q = model.encode(x)

    def pretended(z: Tensor) -> Tensor:  # the offset e - z is held
        return -model.decode_vectors(z + (q.e - q.z).detach()).log_prob(x).mean()

    (at_z,) = gradient(-model.decode_vectors(q.straight_through).log_prob(x).mean(), q.z)
    h, z = 1e-5, q.z.detach()
    for place in ((0, 0, 0), (2, 1, 1), (5, 0, 1)):
        step = torch.zeros_like(z)
        step[place] = h
        assert at_z[place].item() == pytest.approx((pretended(z + step) - pretended(z - step)).item() / (2 * h), abs=1e-8)
        moved = Codebook(model.codebook.vectors)(z + step)
        assert torch.equal(moved.code, q.code), "of the loss at hand the slope is zero: no code changes"
        assert abs(at_z[place]) > 1e-4


def two_codes(b: float, a: float = 0.8):
    """x ~ N(0, 1), z = x + b, codes -a and a, the code itself for an image: the mean loss, the mean straight-through slope."""

    def mean(f) -> float:
        return (
            quad(lambda x: stats.norm.pdf(x) * f(x), -12, -b, limit=200)[0]
            + quad(lambda x: stats.norm.pdf(x) * f(x), -b, 12, limit=200)[0]
        )

    def code(x: float) -> float:
        z = torch.tensor([[x + b]]).double()
        return Codebook(double(-a, a)[:, None])(z).e.item()

    return mean(lambda x: (x - code(x)) ** 2), mean(lambda x: -2 * (x - code(x)))


@pytest.mark.equation("eq-vq_vae-straight-through-bias", oracle="quadrature, and its finite differences")
@pytest.mark.parametrize("b", [-1.5, 0.3, 1.0, 2.0])
def test_straight_through_is_the_slope_of_the_mean_loss_times_a_factor_that_is_one_at_the_middle_and_grows(b):
    a, h, phi, Phi = 0.8, 1e-3, stats.norm.pdf(b), stats.norm.cdf(b)
    loss, slope = two_codes(b, a)
    assert loss == pytest.approx(1 + a**2 - 4 * a * phi, abs=1e-7)
    true = (two_codes(b + h, a)[0] - two_codes(b - h, a)[0]) / (2 * h)
    assert true == pytest.approx(4 * a * b * phi, abs=1e-5) and slope == pytest.approx(2 * a * (2 * Phi - 1), abs=1e-7)
    factor = slope / true
    assert factor == pytest.approx((2 * Phi - 1) / (2 * b * phi), rel=1e-4) and factor > 1


def stretched(w: float, v: float, beta: float, x: Tensor) -> tuple[float, float]:
    """z = w x, two codes at the means of their vectors, images v e: the gradients of squared error and of commitment in w."""
    weight = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    z = weight * x[:, None]
    mean = z.detach().abs().mean().item()
    q = Codebook(double(-mean, mean)[:, None], beta=beta)(z)
    error = (x[:, None] - v * q.straight_through).square().sum(-1).mean()
    return gradient(error, weight)[0].item(), gradient(beta * q.commitment.mean(), weight)[0].item()


@pytest.mark.equation("eq-vq_vae-balance", oracle="derivation by hand, on the quantiles of a Gaussian")
@pytest.mark.parametrize("beta", [0.1, 0.25, 1.0, 3.0])
def test_commitment_stops_the_stretching_at_one_over_the_root_of_beta(beta):
    x = torch.from_numpy(stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000))
    m = x.abs().mean().item()
    assert m**2 == pytest.approx(2 / pi, rel=1e-3)
    for w in (0.5, 1.0, 2.0, 4.0):
        outward, inward = stretched(w, v=1 / w, beta=beta, x=x)  # the best decoder of codes at w m
        assert outward == pytest.approx(-2 * (1 - 2 / pi) / w, rel=1e-2)
        assert inward == pytest.approx(2 * beta * w * (1 - 2 / pi), rel=1e-2)
    assert sum(stretched(beta**-0.5, v=beta**0.5, beta=beta, x=x)) == pytest.approx(0, abs=1e-12)


@pytest.mark.equation("eq-vq_vae-scale", oracle="derivation by hand: each gradient of the model, rescaled")
@pytest.mark.parametrize("s", [0.5, 3.0])
def test_a_model_stretched_by_s_has_under_beta_over_s_squared_the_same_gradients_but_for_powers_of_s(x, s):
    model, wide = (linear(Codebook(normal(4, 2), beta=b)) for b in (BETA, BETA / s**2))
    with torch.no_grad():
        for p in wide.encoder.parameters():
            p.mul_(s)
        wide.codebook.vectors.mul_(s)
        wide.decoder.net.weight.div_(s)
    parts, stretched_parts = model.loss(x), wide.loss(x)
    assert torch.equal(model.codes(x), wide.codes(x)) and torch.allclose(model.reconstruct(x), wide.reconstruct(x))
    assert parts["distortion"].item() == pytest.approx(stretched_parts["distortion"].item(), abs=1e-12)
    powers = {"encoder.weight": -1, "encoder.bias": -1, "decoder.net.weight": 1, "decoder.net.bias": 0, "codebook.vectors": 1}
    theirs = dict(wide.named_parameters())
    for name, p in model.named_parameters():
        (before,), (after,) = gradient(parts["loss"], p), gradient(stretched_parts["loss"], theirs[name])
        assert before.abs().max() > 1e-3 and torch.allclose(after, before * s ** powers[name], atol=1e-12), name


@pytest.mark.equation("eq-vq_vae-objective", oracle="derivation by hand")
def test_the_objective_and_its_gradients_are_those_derived_by_hand(x):
    model = linear(Codebook(normal(4, 2), beta=BETA))
    hand, parts = ByHand(model, x), model.loss(x)
    assert parts["distortion"].item() == pytest.approx(hand.distortion, abs=1e-12)
    assert parts["quantization"].item() == pytest.approx((1 + BETA) * hand.squared, abs=1e-12)
    assert parts["loss"].item() == pytest.approx(hand.distortion + (1 + BETA) * hand.squared, abs=1e-12)
    at_encoder, at_vectors = gradient(parts["loss"], model.encoder.weight, model.codebook.vectors)
    pull = 2 * hand.gap / hand.code.size
    assert np.allclose(at_encoder, hand.at_encoder(hand.at_e + BETA * pull), atol=1e-12)
    assert np.allclose(at_vectors, hand.at_codes(-pull, 4), atol=1e-12)


@pytest.mark.equation("eq-vq_vae-ema-objective", oracle="derivation by hand")
def test_with_averages_there_is_no_codebook_loss_and_no_gradient_for_the_codes(x):
    model = linear(EMACodebook(normal(4, 2), beta=BETA))
    hand, parts = ByHand(model, x), model.loss(x)
    assert parts["loss"].item() == pytest.approx(hand.distortion + BETA * hand.squared, abs=1e-12)
    assert parts["quantization"].item() == pytest.approx(BETA * hand.squared, abs=1e-12)
    (at_encoder,) = gradient(parts["loss"], model.encoder.weight)
    assert np.allclose(at_encoder, hand.at_encoder(hand.at_e + 2 * BETA * hand.gap / hand.code.size), atol=1e-12)
    assert not model.codebook.vectors.requires_grad and len(list(model.parameters())) == 4


def test_beta_on_the_codebooks_term_slows_the_codes_and_holds_the_encoder_beta_times_too_hard(x):
    model = linear(Codebook(normal(4, 2), beta=BETA))
    q, hand = model.encode(x), ByHand(model, x)
    wrong = BETA * q.codebook_loss.mean() + q.commitment.mean()
    at_z, at_vectors = gradient(wrong, q.z, model.codebook.vectors)
    right_z, right_vectors = gradient(model.codebook.loss(q).mean(), q.z, model.codebook.vectors)
    assert wrong.item() == pytest.approx(model.codebook.loss(q).mean().item()), "its value does not tell"
    assert torch.allclose(at_z, right_z / BETA) and torch.allclose(at_vectors, BETA * right_vectors)
    assert np.allclose(right_vectors, hand.at_codes(-2 * hand.gap / hand.code.size, 4))


@pytest.mark.equation("eq-vq_vae-objective", oracle="derivation by hand")
@pytest.mark.equation("eq-vq_vae-ema-objective", oracle="derivation by hand")
def test_at_beta_zero_nothing_holds_vectors_near_their_codes():
    z, vectors = normal(5, 2, seed=1), normal(3, 2)
    learned, averaged = Codebook(vectors, beta=0.0), EMACodebook(vectors, beta=0.0)
    nearest = torch.cdist(z, vectors).square().min(1).values
    assert torch.allclose(learned.loss(learned(z)), nearest) and not averaged.loss(averaged(z)).any()


def test_a_codebook_loss_after_the_straight_through_line_never_moves_the_codes(x):
    model = linear(Codebook(normal(4, 2), beta=BETA))

    def wrong(x: Tensor, generator=None) -> dict[str, Tensor]:
        q = model.encode(x)
        late = Quantized(q.z, q.code, q.straight_through)  # `e` was overwritten before its loss
        distortion = -model.decode_vectors(late.e).log_prob(x).mean()
        return {"loss": distortion + late.codebook_loss.mean() + BETA * late.commitment.mean()}

    assert wrong(x)["loss"].item() == pytest.approx(model.loss(x)["loss"].item(), abs=1e-12), "its value does not tell"
    before = model.codebook.vectors.detach().clone()
    for loss, moved in ((wrong, False), (model.loss, True)):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        optimizer.zero_grad()
        loss(x)["loss"].backward()
        optimizer.step()
        assert torch.equal(model.codebook.vectors, before) != moved


# Moving averages


def by_loop(vectors: np.ndarray, batches: list[np.ndarray], decay: float, eps: float):
    """The averages one vector at a time: after each batch, e, N and m."""
    codes = len(vectors)
    e, N, m = vectors.copy(), np.ones(codes), vectors.copy()
    for z in batches:
        code = vq(z, e)[0]
        for i in range(codes):
            mine = [z[j] for j in range(len(z)) if code[j] == i]
            N[i] = decay * N[i] + (1 - decay) * len(mine)
            m[i] = decay * m[i] + (1 - decay) * sum(mine, np.zeros(vectors.shape[1]))
        for i in range(codes):
            e[i] = m[i] / ((N[i] + eps) / (N.sum() + codes * eps) * N.sum())
    return e, N, m


@pytest.mark.equation("eq-vq_vae-ema", oracle="independent code: a loop in numpy")
@pytest.mark.equation("eq-vq_vae-smoothing", oracle="independent code: a loop in numpy")
@pytest.mark.parametrize("decay, eps", [(0.99, 1e-5), (0.8, 0.1), (0.0, 1e-9)])
def test_codes_follow_the_averages_of_their_vectors(decay, eps):
    book, batches = EMACodebook(normal(5, 3), decay=decay, eps=eps), [normal(4, 5, 3, seed=s) for s in range(1, 8)]
    for z in batches:
        book(z)
        book.after_step()
    e, N, m = by_loop(normal(5, 3).numpy(), [z.reshape(-1, 3).numpy() for z in batches], decay, eps)
    for ours, theirs in ((book.vectors, e), (book.counts, N), (book.sums, m)):
        assert np.allclose(ours, theirs, atol=1e-12)


@pytest.mark.equation("eq-vq_vae-ema-step", oracle="derivation by hand")
@pytest.mark.parametrize("decay", [0.99, 0.6, 0.0])
def test_an_average_moves_a_code_to_the_mean_of_its_vectors_by_a_share_that_its_count_sets(decay):
    book, z = EMACodebook(normal(5, 3), decay=decay, eps=1e-12), normal(30, 3, seed=1)
    for _ in range(4):
        code = book(z).code
        before, N = book.vectors.clone(), book.counts.clone()
        book.after_step()
        for k in range(5):
            mine = z[code == k]
            if len(mine):
                share = (1 - decay) * len(mine) / (decay * N[k] + (1 - decay) * len(mine))
                assert torch.allclose(book.vectors[k], before[k] + share * (mine.mean(0) - before[k]), atol=1e-9)
            elif decay:
                assert torch.allclose(book.vectors[k], before[k], atol=1e-9), "and an unused one stays where it is"
        z = z + 0.3
    steady = EMACodebook(torch.zeros(1, 3).double(), decay=decay)
    steady.counts.fill_(30)  # a count that has settled: the share is 1 - decay
    steady.update(z, torch.zeros(30, dtype=torch.int64))
    assert torch.allclose(steady.vectors[0], (1 - decay) * z.mean(0), atol=1e-5)


@pytest.mark.equation("eq-vq_vae-unused", oracle="closed form")
@pytest.mark.parametrize("start", [0.0, 1.0])
def test_an_unused_code_is_thrown_out_by_a_count_from_zero_and_fades_only_when_its_count_is_as_small_as_eps(start):
    decay, eps, z, used = 0.9, 1e-5, torch.ones(400, 8).double(), torch.ones(400, dtype=torch.int64)
    book = EMACodebook(normal(16, 8), decay=decay, eps=eps)
    book.counts.fill_(start)
    for t in range(1, 161):
        book.update(z, used)
        expected = decay**t / (start * decay**t + eps)
        assert (book.vectors[0].norm() / normal(16, 8)[0].norm()).item() == pytest.approx(expected, rel=1e-4)
        if t == 1 and not start:
            assert expected == 90_000
    assert 0.004 < expected < 0.005 if start else expected < 0.005


def test_a_safe_start_leaves_an_unused_code_alone_where_counts_from_zero_throw_it_a_hundred_thousand_times_as_far():
    vectors = torch.full((128, 8), 0.0)
    vectors[1:] = 5.0
    vectors[0] = 0.009 / 8**0.5
    z = torch.full((400, 8), 5.0)
    safe, cold = EMACodebook(vectors), EMACodebook(vectors)
    cold.counts.zero_()
    for book in (safe, cold):
        book(z)
        book.after_step()
    assert vectors[0].norm().item() == pytest.approx(0.009, rel=1e-6)
    assert safe.vectors[0].norm().item() == pytest.approx(0.009, rel=1e-4)
    total = 0.01 * 400
    assert cold.vectors[0].norm().item() == pytest.approx(0.99 * 0.009 / (1e-5 / (total + 128e-5) * total), rel=1e-4)
    assert cold.vectors[0].norm() > 890
    for _ in range(700):  # its m decays while its divisor stays eps: it comes back by the accident of the smoothing
        cold.update(z, torch.ones(400, dtype=torch.int64))
    assert cold.vectors[0].norm() < 1


@pytest.mark.equation("eq-vq_vae-smoothing", oracle="closed form")
def test_an_unused_code_shrinks_as_its_count_sinks_below_the_smoothing():
    book, used = EMACodebook(normal(2, 3)), torch.zeros(100, dtype=torch.int64)
    z = normal(100, 3, seed=1)
    for _ in range(1500):
        book.update(z, used)
    N = 0.99**1500
    left = (book.vectors[1].norm() / normal(2, 3)[1].norm()).item()
    assert left == pytest.approx(N / (N + 1e-5), rel=1e-3) and 0.02 < left < 0.04
    assert torch.allclose(book.vectors[0], z.mean(0), atol=1e-5), "the code in use is its vectors' mean"


def test_smoothed_counts_written_back_pile_up_and_pull_a_rare_code_to_the_origin():
    right, wrong = (EMACodebook(torch.ones(128, 1)) for _ in range(2))
    z, code = torch.ones(100, 1), torch.zeros(100, dtype=torch.int64)
    rare = code.clone()
    rare[0] = 1
    for step in range(4000):
        for book in (right, wrong):
            book.update(z, rare if step % 1000 == 999 else code)  # code 1 is given a vector, 1, every thousand steps
        total = wrong.counts.sum()
        wrong.counts.copy_((wrong.counts + 1e-5) / (total + 128e-5) * total)
    assert right.vectors[1].item() == pytest.approx(1, abs=0.002)
    assert wrong.vectors[1].item() < 0.95
    assert wrong.counts[5] > 90 * right.counts[5] > 0, "a floor of eps / (1 - decay), and no longer a count"


@pytest.mark.equation("eq-vq_vae-revival", oracle="independent code: the averages by their definition")
def test_a_dead_code_moves_with_its_averages_to_a_vector_of_the_batch():
    book, z = EMACodebook(normal(4, 2), revive_below=0.5), normal(9, 2, seed=1)
    book.counts.copy_(double(3.0, 0.4, 0.5, 0.0))
    before = book.vectors.clone()
    book.revive(z, generator(2))
    assert torch.equal(book.vectors[[0, 2]], before[[0, 2]]) and book.counts.tolist() == [3.0, 1.0, 0.5, 1.0]
    for k in (1, 3):
        assert (book.vectors[k] == z).all(1).sum() == 1 and torch.equal(book.sums[k], book.vectors[k])
    drawn = z[(torch.rand(4, generator=generator(2), dtype=torch.float64) * 9).long()]
    assert torch.equal(book.vectors[[1, 3]], drawn[[1, 3]])


def test_processes_revive_a_code_at_the_same_vector(monkeypatch):
    z, found = normal(40, 2, seed=1), []
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "joined", lambda mine: z)
    for rank in (0, 1):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        book = EMACodebook(normal(4, 2), revive_below=0.5)
        book.counts.zero_()
        book.revive(z[20 * rank : 20 * rank + 20], SharedGenerator().manual_seed(3))
        found.append(book.vectors)
    assert torch.equal(*found) and all((row == z).all(1).any() for row in found[0])


def test_a_code_revived_without_its_averages_is_back_where_it_died_after_one_step():
    z, far, elsewhere = torch.zeros(50, 2), torch.tensor([[0.0, 0.0], [70.0, 70.0]]), torch.tensor([3.0, 3.0])
    right, wrong = EMACodebook(far, revive_below=0.5), EMACodebook(far)
    for book in (right, wrong):
        for _ in range(200):
            book.update(z, torch.zeros(50, dtype=torch.int64))
    death = wrong.vectors[1].clone()
    right.revive(elsewhere.expand(5, 2), generator())
    wrong.vectors[1] = elsewhere
    for book in (right, wrong):
        book.update(z, torch.zeros(50, dtype=torch.int64))
    assert torch.allclose(right.vectors[1], elsewhere, rtol=1e-4)
    assert torch.allclose(wrong.vectors[1], death, rtol=1e-4) and death.norm() > 90


def test_a_revived_code_that_nobody_takes_is_dead_again_after_the_steps_that_are_promised():
    book, z = EMACodebook(normal(2, 2), revive_below=0.5), normal(30, 2, seed=1)
    steps = 0
    while book.counts[1] >= 0.5:
        book.update(z, torch.zeros(30, dtype=torch.int64))
        steps += 1
    assert steps == -(-log(2) // 0.01) == 70 or steps == 69  # log(1 / 0.5) / (1 - 0.99), to first order


def test_vectors_are_quantized_before_the_codes_move_or_the_codes_have_seen_the_answer():
    z = normal(6, 3, seed=1)
    book = EMACodebook(normal(8, 3) * 0.1, decay=0.0, eps=1e-9)
    before = book.vectors.clone()
    q = book(z)
    assert torch.equal(book.vectors, before) and torch.equal(q.e, before[q.code]), "a loss moves nothing"
    book.after_step()
    assert not torch.equal(book.vectors, before)
    assert torch.equal(q.e, before[q.code]), "and what was quantized stays as it was"
    late = book.embed(q.code)  # averages first, vectors looked up after
    assert (z - late).square().sum(-1).mean() < 0.6 * q.commitment.mean(), "an error that this batch will never have again"


@pytest.mark.equation("eq-vq_vae-kmeans", oracle="another library: scipy's K-means")
def test_averages_that_forget_all_are_lloyds_steps_and_rest_at_a_fixed_point_of_k_means():
    z = torch.cat([normal(60, 2, seed=s) * 0.5 + normal(1, 2, seed=50 + s) * 4 for s in range(5)])
    start = z[::60][:5].clone()
    book = EMACodebook(start, decay=0.0, eps=1e-12)
    for steps in range(1, 30):
        book(z)
        book.after_step()
        centers, labels = kmeans2(z.numpy(), start.numpy(), iter=steps, minit="matrix", missing="raise")
        assert np.allclose(book.vectors, centers, atol=1e-9)
    assert np.array_equal(book(z).code, labels)
    for k in range(5):
        assert torch.allclose(book.vectors[k], z[book(z).code == k].mean(0), atol=1e-9)
    by_gradient = Codebook(book.vectors)
    assert gradient(by_gradient(z).codebook_loss.mean(), by_gradient.vectors)[0].abs().max() < 1e-9


def test_in_evaluation_nothing_is_remembered_and_after_step_without_a_loss_is_an_error():
    book = EMACodebook(normal(4, 2))
    book.eval()
    book(normal(3, 2))
    book.train()
    with torch.no_grad():
        book(normal(3, 2))
    with pytest.raises(RuntimeError, match="no vectors were quantized in training since the last step"):
        book.after_step()
    book(normal(3, 2))
    book.after_step()
    with pytest.raises(RuntimeError, match="after_step follows a loss"):
        book.after_step()


# Counting codes


def draws(seed: int, n: int = 300, codes: int = 12) -> Tensor:
    p = stats.dirichlet(np.full(codes, 0.5)).rvs(random_state=seed)[0]
    return torch.from_numpy(np.random.RandomState(seed).choice(codes, n, p=p))


@pytest.mark.equation("eq-vq_vae-perplexity", oracle="another library: scipy.stats.entropy")
@pytest.mark.equation("eq-vq_vae-entropy-rate", oracle="another library: scipy.stats.entropy")
@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 300), codes=st.integers(1, 40))
def test_entropy_and_perplexity_are_scipys_and_bounded_by_codes_and_draws(seed, n, codes):
    code = draws(seed, n, codes)
    counts = np.bincount(code, minlength=codes)
    assert vq_vae.entropy_bits(code, codes) == pytest.approx(stats.entropy(counts, base=2), abs=1e-9)
    perplexity = vq_vae.perplexity(code, codes)
    assert perplexity == pytest.approx(exp(stats.entropy(counts)), rel=1e-9)
    assert 1 - 1e-9 <= perplexity <= vq_vae.usage(code, codes) * codes + 1e-9 <= min(n, codes) + 2e-9
    assert np.allclose(vq_vae.frequencies(code, codes), counts / n)


def test_a_batchs_perplexity_is_neither_usage_nor_the_data_sets_perplexity():
    code = torch.arange(512).repeat(8)  # all codes, equally often
    batches = code.reshape(-1, 32)
    per_batch = [vq_vae.perplexity(batch, 512) for batch in batches]
    assert vq_vae.usage(code, 512) == 1 and vq_vae.perplexity(code, 512) == pytest.approx(512)
    assert max(per_batch) <= 32 + 1e-9, "read as usage, it says that 6 % of the codes are used"
    rare = torch.cat([torch.arange(512), torch.zeros(10**6, dtype=torch.int64)])
    assert vq_vae.usage(rare, 512) == 1 and vq_vae.perplexity(rare, 512) < 1.02, "all used, and one does all the work"


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), batches=st.integers(1, 10))
def test_the_mean_entropy_of_batches_never_exceeds_the_data_sets(seed, batches):
    code = draws(seed).reshape(batches, -1) if 300 % batches == 0 else draws(seed, 60 * batches).reshape(batches, -1)
    mean = np.mean([vq_vae.entropy_bits(batch, 12) for batch in code])
    assert mean <= vq_vae.entropy_bits(code, 12) + 1e-9
    assert np.mean([vq_vae.usage(batch, 12) for batch in code]) <= vq_vae.usage(code, 12) + 1e-9


def test_the_mean_perplexity_of_batches_may_exceed_the_data_sets_so_it_bounds_nothing():
    one, all_ = torch.zeros(100, dtype=torch.int64), torch.arange(100)
    mean = (vq_vae.perplexity(one, 100) + vq_vae.perplexity(all_, 100)) / 2
    assert mean == pytest.approx(50.5)
    assert vq_vae.perplexity(torch.cat([one, all_]), 100) == pytest.approx(19.4, abs=0.1)


# Bits


def huffman(p: np.ndarray) -> np.ndarray:
    """The lengths of the best code of whole bits, a symbol at a time."""
    heap = [(q, [i]) for i, q in enumerate(p)]
    heapq.heapify(heap)
    lengths = np.zeros(len(p), int)
    while len(heap) > 1:
        (q, a), (r, b) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[a + b] += 1
        heapq.heappush(heap, (q + r, a + b))
    return lengths


@pytest.mark.equation("eq-vq_vae-entropy-rate", oracle="enumeration: Huffman codes of blocks")
def test_the_entropy_is_what_the_best_real_codes_approach_and_never_beat():
    code = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    p, H = np.array([0.7, 0.2, 0.1]), vq_vae.entropy_bits(code, 3)
    above = []
    for block in (1, 2, 4, 7):
        joint = np.array([np.prod(ps) for ps in product(p, repeat=block)])  # all 3^block messages
        rate = huffman(joint) @ joint / block
        assert H - 1e-12 <= rate < H + 1 / block
        above.append(rate - H)
    assert above[-1] < 0.02 < above[0] and log2(3) > H


def test_the_entropy_of_powers_of_a_half_is_their_huffman_codes_length():
    code = torch.tensor([0] * 8 + [1] * 4 + [2] * 2 + [3] * 1 + [4] * 1)
    lengths = torch.tensor([1.0, 2, 3, 4, 4]).double()
    assert torch.equal(vq_vae.code_length(code, vq_vae.frequencies(code, 5)), lengths[code])
    assert vq_vae.entropy_bits(code, 5) == lengths[code].mean().item()


@pytest.mark.equation("eq-vq_vae-code-length", oracle="another library: scipy.stats.entropy")
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_a_coder_that_expects_other_frequencies_pays_the_divergence_on_top(seed):
    code, other = draws(seed), draws(seed + 1)
    p, q = vq_vae.frequencies(code, 12).numpy(), vq_vae.frequencies(other, 12).numpy() * 0.9 + 0.1 / 12
    paid = vq_vae.code_length(code, torch.from_numpy(q)).mean().item()
    assert paid == pytest.approx(stats.entropy(p, base=2) + stats.entropy(p, q, base=2), abs=1e-9)
    assert paid >= vq_vae.entropy_bits(code, 12) - 1e-9
    uniform = torch.full((12,), 1 / 12, dtype=torch.float64)
    assert vq_vae.code_length(code, uniform).mean().item() == pytest.approx(log2(12))


@pytest.mark.equation("eq-vq_vae-elbo", oracle="enumeration of all codes")
def test_the_bound_is_below_the_evidence_by_what_the_nearest_codes_miss_of_the_posterior(x):
    model = linear(Codebook(normal(4, 2)))
    elbo, chosen = model.elbo(x), model.codes(x)
    grids = torch.tensor(list(product(range(4), repeat=2)))
    log_joint = torch.stack([model.decode(grid.expand(6, 2)).log_prob(x) for grid in grids]) - 2 * log(4)
    evidence = log_joint.logsumexp(0)
    index = 4 * chosen[:, 0] + chosen[:, 1]
    log_posterior = (log_joint - evidence).gather(0, index[None])[0]
    assert torch.allclose(evidence - elbo.value, -log_posterior, atol=1e-10) and (evidence > elbo.value).all()
    one_hot = np.eye(16)[index]
    assert np.allclose(elbo.rate.detach(), stats.entropy(one_hot, np.full((6, 16), 1 / 16), axis=1))
    assert elbo.rate[0].item() == pytest.approx(2 * log2(4) * log(2)), "log2 of the codes, a position, in bits"


@pytest.mark.equation("eq-vq_vae-prior-rate", oracle="enumeration of all codes")
def test_a_learned_prior_saves_what_the_codes_differ_from_even_ones_and_pays_for_what_it_has_not_learned(x):
    model = linear(Codebook(normal(4, 2)))
    grids = torch.tensor(list(product(range(4), repeat=2)))
    learned = stats.dirichlet(np.ones(16)).rvs(random_state=1)[0]  # a prior of whole grids
    index = (4 * model.codes(x)[:, 0] + model.codes(x)[:, 1]).numpy()
    share = np.bincount(index, minlength=16) / len(x)
    rate = -np.log(learned[index]).mean()
    assert rate == pytest.approx(stats.entropy(share) + stats.entropy(share, learned))
    assert stats.entropy(share) == pytest.approx(2 * log(4) - stats.entropy(share, np.full(16, 1 / 16)))
    joint = (
        torch.stack([model.decode(grid.expand(6, 2)).log_prob(x) for grid in grids]) + torch.from_numpy(learned).log()[:, None]
    )
    bound = -model.elbo(x).distortion + torch.from_numpy(np.log(learned[index]))
    evidence = joint.logsumexp(0)
    posterior = (joint - evidence).gather(0, torch.from_numpy(index)[None])[0]
    assert torch.allclose(evidence - bound, -posterior, atol=1e-10) and (evidence > bound).all()


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_a_score_is_over_all_images_however_they_are_split(batch):
    model = conv_vq_vae((1, 4, 4), codes=6, dim=3, width=4, log_sigma=-1.0).double().eval()
    x = torch.rand(20, 16, generator=generator(), dtype=torch.float64)
    score, code, mean = evaluate(model, x, batch=batch), model.codes(x), model.reconstruct(x)
    assert score.distortion == pytest.approx(model.elbo(x).distortion.mean().item())
    error = stats.norm.logpdf(x, mean, exp(-1.0)).sum(1)
    assert score.distortion == pytest.approx(-error.mean())
    assert score.nmse == pytest.approx((((x - mean) ** 2).sum() / (x**2).sum()).item())
    assert score.fixed_bits == pytest.approx(4 * log2(6))
    assert score.coded_bits == pytest.approx(4 * stats.entropy(np.bincount(code.flatten()), base=2))
    assert score.perplexity == pytest.approx(vq_vae.perplexity(code, 6)) and score.usage == vq_vae.usage(code, 6)


class Zeros(nn.Module):
    """A learned prior that knows one image."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return rows_of(n, 4)


def test_samples_decode_even_codes_of_the_uniform_prior_or_those_of_a_learned_one():
    model = conv_vq_vae((1, 4, 4), codes=3, dim=2, width=4).double()
    prior, codes = model.prior(5), model.codes(normal(5, 16))
    assert torch.allclose(prior.log_prob(codes), double(-log(3)).expand(5, 4))
    expected = (torch.rand(500, 4, generator=generator(1), dtype=torch.float64) * 3).long()
    assert torch.equal(model.sample(500, generator(1)), model.generate(expected))
    assert stats.chisquare(np.bincount(expected.flatten())).pvalue > 1e-4
    assert torch.equal(model.sample(2, generator(), prior=Zeros()), model.decode(rows_of(2, 4)).mean)


# Networks


def test_a_layer_multiplied_is_one_layer_again_and_again_and_a_list_of_layers_is_not():
    one = sum(p.numel() for p in Residual(8).parameters())
    wrong, right = nn.Sequential(*[Residual(8)] * 3), nn.Sequential(*(Residual(8) for _ in range(3)))
    assert len(wrong) == len(right) == 3
    assert sum(p.numel() for p in wrong.parameters()) == one and sum(p.numel() for p in right.parameters()) == 3 * one
    for half in ("encoder", "decoder"):
        sizes = [
            sum(p.numel() for p in getattr(conv_vq_vae((1, 8, 8), 4, 3, width=8, blocks=blocks), half).parameters())
            for blocks in (0, 1, 3)
        ]
        assert sizes[2] - sizes[0] == 3 * (sizes[1] - sizes[0]) == 3 * one


@pytest.mark.parametrize("shape, halvings, grid", [((1, 8, 8), 1, 16), ((1, 8, 8), 2, 4), ((3, 8, 12), 2, 6)])
def test_the_chapters_model_has_a_code_for_each_patch(shape, halvings, grid):
    model = conv_vq_vae(shape, codes=7, dim=3, halvings=halvings, width=4, log_sigma=0.0)
    x = torch.rand(5, model.pixels, generator=generator())
    assert model.encode(x).z.shape == (5, grid, 3) and model.codes(x).shape == (5, grid) and model.latents == grid
    assert model.reconstruct(x).shape == x.shape and model.sample(2, generator()).shape == (2, model.pixels)
    assert model.decode_vectors(torch.zeros(2, 4, grid, 3)).mean.shape == (2, 4, model.pixels)


def test_a_code_changes_the_pixels_around_its_place_and_no_others():
    model = conv_vq_vae((1, 16, 16), codes=5, dim=3, halvings=2, width=8, blocks=0)
    x = torch.rand(1, 256, generator=generator())
    code = model.codes(x)
    for position in (0, 6, 15):
        other = code.clone()
        other[0, position] = (code[0, position] + 1) % 5
        change = (model.decode(other).logits - model.decode(code).logits).abs().reshape(16, 16)
        rows, columns = change.gt(1e-7).nonzero().unbind(1)
        for pixels, place in ((rows, position // 4), (columns, position % 4)):
            assert len(pixels) and (pixels - (4 * place + 1.5)).abs().max() < 9


# Training


@pytest.fixture(scope="module")
def clusters() -> Tensor:
    """Sixteen points of the plane, with a little noise."""
    centers = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    return (centers.repeat(30, 1) + 0.05 * torch.randn(480, 2, generator=generator())) / 4


class OnPlane(nn.Module):
    """A codebook alone: what is quantized are the data."""

    def __init__(self, codebook: Codebook):
        super().__init__()
        self.codebook, self.scale = codebook, nn.Parameter(torch.ones(()))

    def loss(self, x: Tensor, generator=None) -> dict[str, Tensor]:
        return {"loss": self.codebook.loss(self.codebook(x * self.scale.detach())).mean() + 0 * self.scale}

    def after_step(self, generator) -> None:
        self.codebook.after_step(generator)


@pytest.mark.slow
def test_revival_finds_all_clusters_where_a_far_codebook_finds_one(clusters):
    far = 5 + torch.rand(16, 2, generator=generator())
    stuck, revived = (OnPlane(EMACodebook(far, revive_below=below)) for below in (0.0, 0.5))
    for model in (stuck, revived):
        training.fit(model, clusters, steps=400, batch_size=240, device="cpu", progress=False)
    errors = [model.codebook(clusters).commitment.mean().item() for model in (stuck, revived)]
    used = [vq_vae.usage(model.codebook(clusters).code, 16) for model in (stuck, revived)]
    assert used[0] <= 0.25 and used[1] > 0.8 and errors[1] < errors[0] / 5


@pytest.mark.slow
def test_a_code_learned_by_gradient_or_averages_lowers_distortion_and_quantization():
    x = torch.rand(64, 16, generator=generator())
    for by_gradient in (True, False):
        model = conv_vq_vae((1, 4, 4), 16, 4, width=8, log_sigma=-1.0, by_gradient=by_gradient)
        before = evaluate(model, x)
        history = training.fit(model, x, steps=150, batch_size=32, progress=False, device="cpu")
        after = evaluate(model, x)
        assert after.distortion < before.distortion - 5 and after.nmse < before.nmse / 2
        assert np.allclose(history["loss"], history["distortion"] + history["quantization"])


@pytest.mark.slow
def test_a_run_resumes_to_the_bit_with_counts_and_sums(tmp_path):
    def build():
        return conv_vq_vae((1, 4, 4), 16, 4, width=4, log_sigma=-1.0, revive_below=0.5)

    x, whole, resumed = torch.rand(64, 16, generator=generator()), build(), build()
    fit = partial(training.fit, batch_size=16, progress=False, device="cpu")
    fit(whole, x, steps=60)
    fit(build(), x, steps=25, checkpoint=tmp_path / "run")
    fit(resumed, x, steps=60, checkpoint=tmp_path / "run")
    theirs = whole.state_dict()
    assert {"codebook.vectors", "codebook.counts", "codebook.sums"} <= theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in resumed.state_dict().items())


class Reads(TorchDispatchMode):
    """Count what brings a number to the host, or makes a shape depend on values."""

    WAITING = "_local_scalar_dense", "nonzero", "masked_select", "bincount", "unique"

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in str(func) for name in self.WAITING):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("by_gradient", [True, False])
def test_a_step_never_waits_for_the_device(by_gradient):
    more = {} if by_gradient else {"revive_below": 0.5}
    model = conv_vq_vae((1, 4, 4), 16, 4, width=4, log_sigma=-1.0, by_gradient=by_gradient, **more)
    x = torch.rand(8, 16, generator=generator())
    with Reads() as reads:
        model.loss(x, generator())["loss"].backward()
        model.after_step(generator())
    assert reads.found == []


# Two processes that train as one; this file is also the script they run.


def two_or_one(batch_size: int) -> tuple[list[float], dict[str, Tensor]]:
    x = torch.rand(37, 16, generator=generator())
    model = conv_vq_vae((1, 4, 4), 16, 4, width=4, log_sigma=-1.0, decay=0.9, revive_below=0.5)
    history = training.fit(model, x, steps=30, batch_size=batch_size, device="cpu", progress=False)
    return history["loss"].tolist(), model.state_dict()


@pytest.mark.equation("eq-vq_vae-ema", oracle="known case: one process with the whole batch")
@pytest.mark.slow
def test_counts_sums_and_revivals_are_those_of_the_whole_batch_in_two_processes(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*torchrun, __file__, str(tmp_path)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    loss, state = two_or_one(16)
    for rank in (0, 1):
        assert np.allclose(json.loads((tmp_path / f"{rank}.json").read_text()), loss, rtol=1e-4)
        theirs = torch.load(tmp_path / f"{rank}.pt")
        assert all(torch.allclose(theirs[name], value, rtol=1e-3, atol=1e-4) for name, value in state.items())


# Devices, randomness, bad input


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("by_gradient", [True, False])
def test_a_gpu_computes_what_the_cpu_does_and_brings_nothing_to_the_host(by_gradient):
    more = {} if by_gradient else {"revive_below": 0.5}
    models = [conv_vq_vae((1, 8, 8), 32, 4, log_sigma=-1.0, by_gradient=by_gradient, **more).double() for _ in range(2)]
    x = torch.rand(16, 64, generator=generator(), dtype=torch.float64)
    models[1].cuda()
    on_gpu, noise = x.cuda(), torch.Generator("cuda").manual_seed(1)
    models[1].loss(on_gpu)["loss"].backward()  # the libraries' own first call may wait
    models[1].zero_grad()
    torch.cuda.set_sync_debug_mode("error")
    try:
        parts = models[1].loss(on_gpu, noise)
        parts["loss"].backward()
        models[1].after_step(noise)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    here = models[0].loss(x)
    here["loss"].backward()
    models[0].after_step(generator())  # no code is dead after one step, so no draw is used
    losses = [here["loss"].item(), parts["loss"].item()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    theirs = models[1].state_dict()
    assert all(torch.allclose(value, theirs[name].cpu(), rtol=1e-8) for name, value in models[0].state_dict().items())
    assert evaluate(models[1], x).perplexity == pytest.approx(evaluate(models[0], x).perplexity)


def test_what_is_drawn_depends_on_the_generator_alone():
    model, state = conv_vq_vae((1, 4, 4), 6, 3, width=4), torch.random.get_rng_state()
    first, again, other = (model.sample(3, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    books = [EMACodebook(normal(9, 2), revive_below=0.5) for _ in range(3)]
    for book, seed in zip(books, (1, 1, 2), strict=True):
        book.counts.zero_()
        book.revive(normal(50, 2, seed=3), generator(seed))
    assert torch.equal(books[0].vectors, books[1].vectors) and not torch.equal(books[0].vectors, books[2].vectors)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_seed_sets_weights_and_codes_and_touches_no_other_randomness():
    state = torch.random.get_rng_state()
    one, again, other = (conv_vq_vae((1, 4, 4), 6, 3, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not torch.equal(one["codebook.vectors"], other["codebook.vectors"])
    assert torch.equal(torch.random.get_rng_state(), state)


BAD = {
    "a codebook needs vectors (codes, dim), at least one of each": lambda: Codebook(torch.zeros(0, 3)),
    "got shape (3,)": lambda: Codebook(torch.zeros(3)),
    "must be floats": lambda: Codebook(torch.zeros(4, 3, dtype=torch.int64)),
    "must be finite": lambda: Codebook(torch.full((4, 3), torch.nan)),
    "beta, the weight of the commitment, must not be negative; got -1": lambda: Codebook(torch.zeros(4, 3), beta=-1),
    "decay must lie in [0, 1), got 1": lambda: EMACodebook(torch.zeros(4, 3), decay=1.0),
    "eps, which keeps counts from zero, must be positive; got 0": lambda: EMACodebook(torch.zeros(4, 3), eps=0.0),
    "revive_below must lie in [0, 1): a revived code starts with a count of 1; got 1.0": lambda: EMACodebook(
        torch.zeros(4, 3), revive_below=1.0
    ),
    "a codebook's vectors must be a tensor or a NumPy array of numbers, got list": lambda: Codebook([[0.0, 1.0]]),
    "must end in 3 coordinates, and be some; got shape (5, 2)": lambda: Codebook(torch.zeros(4, 3))(torch.zeros(5, 2)),
    "and be some; got shape (0, 3)": lambda: Codebook(torch.zeros(4, 3))(torch.zeros(0, 3)),
    "there are no codes to count": lambda: vq_vae.perplexity(torch.zeros(0, dtype=torch.int64), 4),
    "codes must lie in 0..3; got 1..4": lambda: vq_vae.usage(torch.tensor([1, 4]), 4),
    "codes must be int64, got torch.float32": lambda: vq_vae.frequencies(torch.zeros(4), 4),
    "at least one code of at least one dimension, got 0 of 3": lambda: conv_vq_vae((1, 8, 8), 0, 3),
    "3 halvings need sides that are multiples of 8; images are 12 x 8": lambda: conv_vq_vae((1, 12, 8), 4, 3, halvings=3),
    "images must be rows, (batch, 64); got (2, 8, 8)": lambda: conv_vq_vae((1, 8, 8), 4, 3).loss(torch.zeros(2, 8, 8)),
    "images must be rows, (batch, 64); got (2, 63)": lambda: conv_vq_vae((1, 8, 8), 4, 3).loss(torch.zeros(2, 63)),
    "vectors must end in (16, 3), (positions, dim)": lambda: conv_vq_vae((1, 8, 8), 4, 3).decode_vectors(torch.zeros(2, 16, 4)),
    "codes must end in 16 positions; got shape (2, 4)": lambda: conv_vq_vae((1, 8, 8), 4, 3).decode(rows_of(2, 4)),
    "there are no images to judge by": lambda: evaluate(conv_vq_vae((1, 8, 8), 4, 3), torch.zeros(0, 64)),
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_right_is_refused_with_what_was_expected(message, no_shape_checks):
    with pytest.raises((ValueError, TypeError)) as caught:
        BAD[message]()
    assert message in str(caught.value)


if __name__ == "__main__":
    torch.set_num_threads(1)
    loss, state = two_or_one(8)
    folder, rank = Path(sys.argv[1]), processes.rank()
    (folder / f"{rank}.json").write_text(json.dumps(loss))
    torch.save(state, folder / f"{rank}.pt")


# Mixed precision


def test_codes_are_found_and_learned_in_their_own_precision_under_autocast():
    """Far from the origin, where half precision cannot tell codes apart."""
    z, e = torch.randn(500, 8, generator=generator()) + 3, torch.randn(64, 8, generator=generator(1)) + 3
    right = torch.cdist(z.double(), e.double(), compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    books = [EMACodebook(e, decay=0.5) for _ in range(2)]
    books[0](z)
    with torch.autocast("cpu", torch.bfloat16):
        assert (vq_vae.nearest(z, e) == right).double().mean() > 0.99
        books[1](z)
    for book in books:
        book.after_step(generator())
    assert torch.equal(books[0].vectors, books[1].vectors)


@pytest.mark.parametrize("kind", [Codebook, EMACodebook])
def test_vectors_in_half_precision_are_quantized_as_single(kind):
    book, z = kind(torch.randn(4, 8, generator=generator())), torch.randn(5, 8, generator=generator(1)).bfloat16()
    assert torch.equal(book(z).code, book(z.float()).code) and book(z).straight_through.dtype == torch.float32
    assert torch.equal(vq_vae.nearest(z, book.vectors), book(z.float()).code)
    book.after_step()
