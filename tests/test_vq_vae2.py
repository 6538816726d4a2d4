"""VQ-VAE-2's levels against scipy's neighbors and finite differences; its prior against sums over all rows of codes.

A share of draws is held right if a chi-square test does not reject it at 1 in 10,000; the seeds are fixed.
"""

from functools import partial
from itertools import product
from math import exp, log, log2

import numpy as np
import pytest
import torch
from scipy import special, stats
from scipy.cluster.vq import vq
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from helpers import assert_mean_is, generator, needs_cuda
from vaecourse import training
from vaecourse.distributions import Categorical
from vaecourse.vq_vae2 import (
    VQVAE2,
    CodePrior,
    HierarchicalPrior,
    attention,
    attention_weights,
    bits_per_code,
    conv_vq_vae2,
    evaluate,
    prior,
)

QUIET = {"progress": False, "device": "cpu"}


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=generator(seed), dtype=torch.float64)


def all_rows(codes: int, length: int) -> Tensor:
    return torch.tensor(list(product(range(codes), repeat=length)))


def tiny(**more) -> VQVAE2:
    """4 x 4 pixels: one code at the top, four at the bottom; in double precision."""
    settings = {"codes": (3, 2), "dim": 2, "halvings": 1, "width": 4, "log_sigma": -1.0} | more
    return conv_vq_vae2((1, 4, 4), **settings).double()


@pytest.fixture
def x() -> Tensor:
    return uniform(5, 16, seed=1)


# The two levels


@pytest.mark.equation("eq-vq_vae2-levels", oracle="another library: scipy.cluster.vq, level by level")
def test_the_top_is_quantized_first_and_the_bottom_is_encoded_with_the_tops_codes(x):
    model = tiny(codes=(7, 6))
    for book, at in ((model.top, 0), (model.bottom, 1)):  # codes among the vectors, so that several are in use
        book.vectors.copy_(model.encode(x)[at].z.detach().mean((0, 1)) + 0.05 * (uniform(book.codes, 2) - 0.5))
    top, bottom = model.encode(x)
    features = model.local(x.reshape(5, 1, 4, 4))
    z_top = model.to_top(features).detach()[:, :, 0, 0].numpy()
    k_top = vq(z_top, model.top.vectors.numpy())[0]
    assert np.array_equal(top.code, k_top[:, None])
    said = model.from_top(model.top.vectors[k_top][:, :, None, None])
    z_bottom = model.to_bottom(torch.cat([features, said], 1)).detach().numpy()
    k_bottom = vq(z_bottom.transpose(0, 2, 3, 1).reshape(-1, 2), model.bottom.vectors.numpy())[0].reshape(5, 4)
    assert np.array_equal(bottom.code, k_bottom) and len(np.unique(k_bottom)) > 2 < len(np.unique(k_top)) + 1
    e_bottom = torch.from_numpy(model.bottom.vectors.numpy()[k_bottom].transpose(0, 2, 1).reshape(5, 2, 2, 2))
    mean = model.decoder(torch.cat([e_bottom, said], 1)).mean
    assert torch.allclose(model.reconstruct(x), mean) and torch.allclose(model.generate((top.code, bottom.code)), mean)
    assert [torch.equal(*pair) for pair in zip(model.codes(x), (top.code, bottom.code), strict=True)] == [True, True]


def test_another_code_at_the_top_changes_what_the_bottom_encodes(x):
    model = tiny()
    _, bottom = model.encode(x)
    model.top.vectors.mul_(-1)
    assert not torch.allclose(model.encode(x)[1].z, bottom.z)


@pytest.mark.equation("eq-vq_vae2-objective", oracle="finite differences with the stopped gradients held fixed")
def test_the_tops_gradient_comes_through_the_decoder_and_through_the_bottoms_encoder(x):
    model = tiny(beta=0.3)
    model.bottom.vectors.mul_(3)
    top, bottom = model.encode(x)
    features, e_top = model.local(x.reshape(5, 1, 4, 4)), top.e.clone()

    def surrogate(said_at: Tensor) -> Tensor:
        """The loss as a function of the top's vectors, each sg(.) replaced by its value at the point."""
        said = model.from_top(said_at.mT.unflatten(2, (1, 1)))
        z = model.to_bottom(torch.cat([features, said], 1)).flatten(2).mT
        distortion = -model.decode_vectors(said_at, bottom.e + (z - bottom.z)).log_prob(x).mean()
        return distortion + 0.3 * (z - bottom.e).square().sum(-1).mean()

    parts = model.loss(x)
    with torch.no_grad():
        assert parts["loss"].item() == pytest.approx((surrogate(e_top) + 0.3 * top.commitment.mean()).item(), abs=1e-10)
    again_top, again_bottom = model.encode(x)
    distortion = -model.decode_vectors(again_top.straight_through, again_bottom.straight_through).log_prob(x).mean()
    total = distortion + model.top.loss(again_top).mean() + model.bottom.loss(again_bottom).mean()
    (ours,) = torch.autograd.grad(total, again_top.z)
    ours = ours - 2 * 0.3 * (top.z - top.e) / top.code.numel()
    by_differences, h = torch.zeros_like(e_top), 1e-6
    with torch.no_grad():
        for index in np.ndindex(*e_top.shape):
            step = torch.zeros_like(e_top)
            step[index] = h
            by_differences[index] = (surrogate(e_top + step) - surrogate(e_top - step)) / (2 * h)
    assert torch.allclose(ours, by_differences, atol=1e-6) and by_differences.abs().min() > 1e-4


@pytest.mark.equation("eq-vq_vae2-elbo", oracle="enumeration of all codes")
def test_the_bound_is_below_the_evidence_by_what_the_codes_miss_of_the_posterior(x):
    model = tiny()
    rows = [(t, b) for t in all_rows(3, 1) for b in all_rows(2, 4)]
    log_joint = torch.stack([model.decode((t.expand(5, 1), b.expand(5, 4))).log_prob(x) for t, b in rows]) - log(48)
    top, bottom = model.codes(x)
    index = 16 * top[:, 0] + bottom @ torch.tensor([8, 4, 2, 1])
    elbo, evidence = model.elbo(x), log_joint.logsumexp(0)
    assert torch.allclose(elbo.value, log_joint.gather(0, index[None])[0])
    assert torch.allclose(elbo.rate, torch.full((5,), log(3) + 4 * log(2), dtype=torch.float64))
    assert (elbo.value < evidence).all()


def test_a_code_of_the_bottom_reaches_fewer_pixels_than_one_of_the_top():
    model = conv_vq_vae2((1, 32, 32), (4, 4), dim=2, halvings=2, width=4, blocks=0).double()
    top, bottom = torch.zeros(1, 16, dtype=torch.int64), torch.zeros(1, 64, dtype=torch.int64)
    before = model.decode((top, bottom)).logits
    sizes = []
    for level, position in ((0, 5), (1, 18)):
        codes = top.clone(), bottom.clone()
        codes[level][0, position] = 1
        changed = (model.decode(codes).logits - before).abs().reshape(32, 32) > 1e-9
        rows, columns = changed.nonzero().unbind(1)
        sizes.append(changed.sum().item())
        assert rows.min() <= 8 <= rows.max() and columns.min() <= 8 <= columns.max(), "both lie around pixel (8, 8)"
    assert sizes[1] <= 20**2 < sizes[0]


def test_codes_are_a_pair(no_shape_checks):
    with pytest.raises(ValueError, match="longer"):
        tiny().decode((rows_of(3, 1), rows_of(3, 4), rows_of(3, 4)))


def test_each_level_revives_its_codes_with_the_generator_alone(x):
    state, found = torch.random.get_rng_state(), []
    for seed in (1, 1, 2):
        model = tiny(codes=(30, 40), revive_below=0.5)
        model.loss(x)
        for book in (model.top, model.bottom):
            book.counts.zero_()
        model.after_step(generator(seed))
        found.append((model.top.vectors, model.bottom.vectors))
    for first, again, other in zip(*found, strict=True):
        assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_a_score_is_over_all_images_however_they_are_split(batch):
    model, x = tiny(codes=(5, 4)), uniform(20, 16)
    score, mean = evaluate(model, x, batch=batch), model.reconstruct(x)
    assert score.distortion == pytest.approx(-stats.norm.logpdf(x, mean, exp(-1.0)).sum(1).mean())
    assert score.nmse == pytest.approx((((x - mean) ** 2).sum() / (x**2).sum()).item())
    for level, code, codes in zip((score.top, score.bottom), model.codes(x), (5, 4), strict=True):
        assert level.coded_bits == pytest.approx(stats.entropy(np.bincount(code.flatten()), base=2))
        assert level.perplexity == pytest.approx(2**level.coded_bits) and level.fixed_bits == log2(codes)
        assert level.usage == len(code.unique()) / codes


@pytest.mark.slow
def test_both_codebooks_learn_and_the_images_are_told_better():
    model, x = conv_vq_vae2((1, 8, 8), (16, 16), 4, halvings=1, width=8, log_sigma=-1.0), uniform(40, 64).float()
    before, books = evaluate(model, x), [model.top.vectors.clone(), model.bottom.vectors.clone()]
    history = training.fit(model, x, steps=120, batch_size=20, **QUIET)
    after = evaluate(model, x)
    assert after.distortion < before.distortion - 5 and after.nmse < before.nmse / 2
    assert not torch.equal(books[0], model.top.vectors) and not torch.equal(books[1], model.bottom.vectors)
    assert np.allclose(history["loss"], history["distortion"] + history["top"] + history["bottom"], rtol=1e-4)


def test_a_run_resumes_to_the_bit(tmp_path):
    def build():
        return conv_vq_vae2((1, 4, 4), (6, 6), 2, halvings=1, width=4, log_sigma=-1.0, revive_below=0.5)

    x, whole, resumed = uniform(30, 16).float(), build(), build()
    fit = partial(training.fit, batch_size=10, **QUIET)
    fit(whole, x, steps=30)
    fit(build(), x, steps=12, checkpoint=tmp_path / "run")
    fit(resumed, x, steps=30, checkpoint=tmp_path / "run")
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


# Attention


def attention_by_hand(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """One row of one head: position i of the new ones, which stand last, sees all up to itself."""
    out = np.zeros((len(q), v.shape[1]))
    for i in range(len(q)):
        seen = len(k) - len(q) + i + 1
        weights = np.exp([q[i] @ k[j] / np.sqrt(q.shape[1]) for j in range(seen)])
        out[i] = sum(w * v[j] for j, w in enumerate(weights / weights.sum()))
    return out


@pytest.mark.equation("eq-vq_vae2-attention", oracle="another library: PyTorch's own attention; a loop in numpy")
@pytest.mark.parametrize("new, all_", [(6, 6), (1, 6), (3, 6), (1, 1)])
def test_attention_is_the_weighted_mean_of_what_came_before(new, all_):
    q, k, v = uniform(2, 3, new, 4) * 4 - 2, uniform(2, 3, all_, 4, seed=1) * 4 - 2, uniform(2, 3, all_, 5, seed=2)
    ours = attention(q, k, v)
    for b, h in np.ndindex(2, 3):
        assert np.allclose(ours[b, h], attention_by_hand(q[b, h].numpy(), k[b, h].numpy(), v[b, h].numpy()), atol=1e-12)
    for at in (0, (1, 2)):  # without one or both of the axes in front
        assert torch.allclose(attention(q[at], k[at], v[at]), ours[at], atol=1e-12)
    if new == all_:
        assert torch.allclose(ours, nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True))


@pytest.mark.equation("eq-vq_vae2-weights", oracle="another library: scipy's softmax, row by row")
@pytest.mark.parametrize("new, all_", [(6, 6), (1, 6), (3, 6)])
def test_weights_are_the_softmax_of_what_a_place_sees_and_zero_behind_the_mask(new, all_):
    q, k = uniform(2, new, 4) * 4 - 2, uniform(2, all_, 4, seed=1) * 4 - 2
    w = attention_weights(q, k)
    for b, i in np.ndindex(2, new):
        seen = all_ - new + i + 1
        scores = (k[b, :seen] @ q[b, i]).numpy() / 2  # the root of four
        assert np.allclose(w[b, i, :seen], special.softmax(scores), atol=1e-12) and not w[b, i, seen:].any()
    by_hand = attention_weights(torch.ones(3, 1).double(), torch.tensor([[0.0], [log(2)], [log(3)]]).double())
    assert np.allclose(by_hand, [[1, 0, 0], [1 / 3, 2 / 3, 0], [1 / 6, 2 / 6, 3 / 6]])


# Two levels by hand: seven numbers, each told by a top and a bottom word


SEVEN = np.array([[1, 1, 1, 1], [1, 1, 1, 0]]) / 7


@pytest.mark.equation("eq-vq_vae2-words", oracle="enumeration of all pairs of words")
def test_two_books_name_as_many_pairs_as_the_product_of_their_sizes_at_the_same_bits():
    for top, bottom in ((2, 4), (3, 5), (128, 16)):
        pairs = set(product(range(top), range(bottom)))
        assert len(pairs) == top * bottom and log2(len(pairs)) == pytest.approx(log2(top) + log2(bottom))
    model = tiny(codes=(3, 5))
    top, bottom = model.prior(1)
    assert (top.entropy().sum() + bottom.entropy().sum()).item() == pytest.approx(log(3) + 4 * log(5))  # one place, four places


@pytest.mark.equation("eq-vq_vae2-information", oracle="enumeration: scipy's entropies of the joint and its margins")
def test_to_know_the_top_saves_the_mutual_information_of_the_levels():
    for joint in (SEVEN, np.random.default_rng(0).dirichlet(np.ones(12)).reshape(3, 4)):
        top, bottom = joint.sum(1), joint.sum(0)
        alone = -(joint * np.log(bottom)).sum()
        given = -special.xlogy(joint, joint / top[:, None]).sum()
        information = stats.entropy(top) + stats.entropy(bottom) - stats.entropy(joint.ravel())
        assert alone - given == pytest.approx(information) and information > 0.01
    assert stats.entropy(top) + given == pytest.approx(stats.entropy(joint.ravel()))


@pytest.mark.equation("eq-vq_vae2-capacity", oracle="enumeration: scipy's entropies of all pairs")
def test_what_the_bottom_cannot_hold_the_top_must_say():
    joints = [SEVEN, *(law.reshape(5, 3) for law in np.random.default_rng(1).dirichlet(np.full(15, 0.3), 20))]
    for joint in joints:
        both, below = stats.entropy(joint.ravel()), stats.entropy(joint.sum(0))
        given = -special.xlogy(joint, joint / joint.sum(0)).sum()
        assert given == pytest.approx(both - below) and given >= both - log(joint.shape[1]) - 1e-12
    even = np.full((5, 3), 1 / 15)  # the floor is reached where the bottom's words are all as likely
    assert stats.entropy(even.ravel()) - log(3) == pytest.approx(log(5))


# The prior as a distribution


def strong(model: nn.Module, scale: float = 20.0) -> nn.Module:
    """With weights large enough that every dependence shows; in double precision."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1:
                p.mul_(scale if name.startswith(("meaning", "start", "place", "read")) else 3.0)
    return model.double()


CONTEXT = torch.tensor([[1, 0, 3]])


@pytest.fixture
def free() -> CodePrior:
    return strong(CodePrior(3, 4, width=8, heads=2, seed=1))


@pytest.fixture
def conditioned() -> CodePrior:
    return strong(CodePrior(3, 4, context=(4, 3), width=8, heads=2, seed=2))


@pytest.mark.equation("eq-vq_vae2-chain", oracle="enumeration of all rows of codes")
def test_the_probabilities_of_all_rows_of_codes_add_up_to_one(free, conditioned):
    rows = all_rows(3, 4)
    for model, context in ((free, None), *((conditioned, row) for row in (CONTEXT, 3 - CONTEXT))):
        p = model.log_prob(rows, context if context is None else context.expand(81, 3)).exp()
        assert p.sum().item() == pytest.approx(1, abs=1e-12)
        assert p.max() > 3 * p.min(), "not nearly uniform: a wrong sum would show"


@pytest.mark.equation("eq-vq_vae2-prior", oracle="enumeration of all codes of both levels")
def test_the_probabilities_of_all_codes_of_both_levels_add_up_to_one_and_the_tops_is_the_marginal():
    both = HierarchicalPrior(
        strong(CodePrior(2, 2, width=8, heads=2)), strong(CodePrior(3, 3, context=(2, 2), width=8, heads=2, seed=3))
    )
    top, bottom = all_rows(2, 2), all_rows(3, 3)
    joint = both.log_prob((top.repeat_interleave(27, 0), bottom.repeat(4, 1))).exp().reshape(4, 27)
    assert joint.sum().item() == pytest.approx(1, abs=1e-12)
    assert torch.allclose(joint.sum(1), both.top.log_prob(top).exp(), atol=1e-12)
    assert not torch.allclose(joint[0] / joint[0].sum(), joint[1] / joint[1].sum(), atol=0.01), "the bottom heeds the top"


@pytest.mark.equation("eq-vq_vae2-chain", oracle="enumeration: conditionals of the joint")
def test_logits_are_the_conditionals_of_the_joint(conditioned):
    rows = all_rows(3, 4)
    joint = conditioned.log_prob(rows, CONTEXT.expand(81, 3)).exp().detach().reshape(3, 3, 3, 3)
    for known in ((), (2,), (0, 1), (2, 2, 1)):
        left = joint[known].reshape(3, -1).sum(1)
        logits = conditioned.logits(torch.tensor([known], dtype=torch.int64).reshape(1, -1), CONTEXT)
        assert logits.shape == (1, len(known) + 1, 3)
        assert torch.allclose(logits[0, -1].softmax(-1), left / left.sum(), atol=1e-10)


def test_no_code_depends_on_itself_or_on_later_ones_and_each_on_all_before_and_on_the_context(conditioned):
    embedded: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs, output: Tensor) -> None:
        output.retain_grad()
        embedded[name] = output

    for name in ("meaning", "start"):
        getattr(conditioned, name).register_forward_hook(partial(keep, name))
    code = torch.tensor([[2, 0, 1], [1, 1, 0]])
    for i in range(4):
        conditioned.logits(code, CONTEXT.expand(2, 3))[:, i].square().sum().backward()
        on_code, on_context = (embedded[name].grad.abs().sum(-1) for name in ("meaning", "start"))
        assert not on_code[:, i:].any() and (on_code[:, :i] > 1e-8).all() and (on_context > 1e-8).all()


def test_later_codes_change_no_earlier_logits_to_the_bit(free):
    code = torch.tensor([[2, 0, 1]])
    for i in range(3):
        other = code.clone()
        other[0, i:] = 2 - other[0, i:]
        assert torch.equal(free.logits(other)[:, : i + 1], free.logits(code)[:, : i + 1])


def test_what_a_position_says_first_is_what_stands_there_and_where_it_stands(conditioned):
    """Where all blocks add nothing: the meaning and the place, added, normalized, and read by one linear layer."""
    with torch.no_grad():
        for block in conditioned.blocks:
            for layer in (block.combine, block.think[-1]):
                layer.weight.zero_()
                layer.bias.zero_()
        conditioned.read[-1].bias.copy_(uniform(3))
    code = torch.tensor([[2, 0, 1]])
    start, meaning, place, W = (
        p.detach().numpy()
        for p in (conditioned.start.weight, conditioned.meaning.weight, conditioned.place, conditioned.read[-1].weight)
    )
    h = np.concatenate([start[CONTEXT[0]], meaning[code[0]]]) + place
    h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)
    logits = h @ W.T + uniform(3).numpy()
    assert np.allclose(conditioned.logits(code, CONTEXT)[0].detach(), logits[2:], atol=1e-10)


def test_a_prior_has_no_place_and_no_start_that_is_never_used(free, conditioned):
    for model, contexts in ((free, (None,)), (conditioned, (CONTEXT, 3 - CONTEXT))):
        for context in contexts:
            rows = all_rows(3, 4)
            model.loss(rows if context is None else (rows, context.expand(81, 3)))["loss"].backward()
        for p in (model.place, model.start.weight):
            assert p.grad.abs().sum(1).min() > 1e-9


def test_a_prior_starts_out_nearly_uniform():
    model = CodePrior(500, 60, context=(50, 40), width=64)
    for p in (model.place, model.start.weight, model.meaning.weight, model.read[-1].weight):
        assert_mean_is(p, 0.0)
        assert p.std().item() == pytest.approx(0.02, rel=3.9 / (2 * p.numel()) ** 0.5)
    assert not model.read[-1].bias.any()


@pytest.mark.parametrize("ahead", [1, 4])
def test_a_mask_that_lets_a_position_look_ahead_gives_no_distribution(ahead, monkeypatch):
    def peeking(q, k, v):
        scores = q @ k.mT / q.shape[-1] ** 0.5
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril(k.shape[-2] - q.shape[-2] + ahead)
        return scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v

    def total() -> float:
        return strong(CodePrior(3, 4, width=8, heads=2, seed=1)).log_prob(all_rows(3, 4)).exp().sum().item()

    assert total() == pytest.approx(1, abs=1e-12)
    monkeypatch.setattr(prior, "attention", peeking)
    assert abs(total() - 1) > 0.01


# Sampling


@pytest.mark.equation("eq-vq_vae2-temperature", oracle="simulation: chi-square against the enumerated tempered conditionals")
@pytest.mark.equation("eq-vq_vae2-tempered", oracle="enumeration of all rows: the power of the joint over the product of sums")
@pytest.mark.parametrize("temperature", [0.5, 2.0])
@torch.no_grad()
def test_rows_drawn_at_a_temperature_have_the_law_of_tempered_conditionals(temperature, free):
    rows = all_rows(3, 4)
    law, sums = torch.ones(81).double(), torch.ones(81).double()
    for i in range(4):
        p = free.logits(rows[:, :i])[:, -1].softmax(-1)
        power = p ** (1 / temperature)
        sums *= power.sum(1)
        law *= (power / power.sum(1, keepdim=True))[torch.arange(81), rows[:, i]]
    joint = free.log_prob(rows).exp()
    assert torch.allclose(law, joint ** (1 / temperature) / sums, atol=1e-12) and law.sum().item() == pytest.approx(1)
    whole = joint ** (1 / temperature) / (joint ** (1 / temperature)).sum()
    assert (law - whole).abs().max() > 0.002, "conditionals at a temperature are not the whole at it"
    n = 20_000
    drawn = free.sample(n, generator(4), temperature=temperature) @ torch.tensor([27, 9, 3, 1])
    counts, likely = torch.bincount(drawn, minlength=81), law * n > 5
    seen, expected = (torch.cat([x[likely], x[~likely].sum()[None]]) for x in (counts.double(), law * n))
    seen, expected = seen[expected > 0].numpy(), expected[expected > 0].numpy()
    assert stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > 1e-4


@torch.no_grad()
def test_near_zero_the_likeliest_next_code_is_taken_and_at_one_nothing_changes(free, conditioned):
    row = free.sample(5, generator(), temperature=1e-3)
    for i in range(4):
        assert torch.equal(row[:, i], free.logits(row[:, :i])[:, -1].argmax(1))
    both = HierarchicalPrior(
        strong(CodePrior(4, 3, width=8, heads=2)), strong(CodePrior(3, 4, context=(4, 3), width=8, heads=2, seed=2))
    )
    drawn = [both.sample(7, generator(1), **dial) for dial in ({}, {"temperature": 1.0}, {"temperature": 0.05})]
    for a, b, c in zip(*drawn, strict=True):
        assert torch.equal(a, b) and not torch.equal(a, c)
        assert len(c.unique(dim=0)) < len(a.unique(dim=0))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_is_positive_and_finite(temperature, free):
    with pytest.raises(ValueError, match="temperature must be positive"):
        free.sample(2, generator(), temperature=temperature)


@torch.no_grad()
def test_the_weights_that_are_shown_are_those_the_network_uses(conditioned):
    code = torch.tensor([[2, 0, 1], [1, 1, 0]])
    used: list[Tensor] = []

    def keep(q: Tensor, k: Tensor) -> Tensor:
        used.append(attention_weights(q, k))
        return used[-1]

    shown = conditioned.attention_weights(code, CONTEXT.expand(2, 3))
    assert shown.shape == (2, 2, 2, 6, 6)  # blocks, rows, heads, three of the context and three codes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prior, "attention_weights", keep)
        conditioned.logits(code, CONTEXT.expand(2, 3))
    assert torch.allclose(shown, torch.stack(used), atol=1e-12)
    with pytest.raises(ValueError, match="at most 3"):
        conditioned.attention_weights(all_rows(3, 4)[:2], CONTEXT.expand(2, 3))


def sample_slowly(model: CodePrior, n: int, noise: torch.Generator, context: Tensor | None) -> Tensor:
    """Without the cache: the whole row again for each code."""
    code = torch.zeros(n, 0, dtype=torch.int64)
    for _ in range(model.length):
        logits = model.logits(code, context)[:, -1]
        code = torch.cat([code, Categorical(logits).sample(noise)[:, None]], 1)
    return code


@pytest.mark.equation("eq-vq_vae2-cache", oracle="independent code: sampling without a cache, under the same noise")
@pytest.mark.parametrize(
    "dtype, tolerance, layers", [(torch.float64, 1e-12, 3), (torch.float64, 1e-12, 1), (torch.float32, 1e-5, 3)]
)
@torch.no_grad()
def test_sampling_with_kept_keys_and_values_is_sampling_without_them(dtype, tolerance, layers):
    for context in (None, torch.arange(30).reshape(6, 5) % 7):
        model = strong(CodePrior(11, 12, context=None if context is None else (7, 5), width=16, heads=4, layers=layers)).to(
            dtype
        )
        logits: list[Tensor] = []
        hook = model.read.register_forward_hook(lambda module, inputs, output, to=logits: to.append(output[:, -1]))
        fast = model.sample(6, generator(3), context=context)
        kept, logits[:] = torch.stack(logits), []
        slow = sample_slowly(model, 6, generator(3), context)
        hook.remove()
        assert torch.equal(fast, slow) and fast.shape == (6, 12) and 3 < len(fast.unique()) <= 11
        assert torch.allclose(kept, torch.stack(logits), rtol=0, atol=tolerance * kept.abs().max().item())


@pytest.mark.equation("eq-vq_vae2-cost", oracle="simulation: positions counted as they pass")
@torch.no_grad()
def test_with_the_cache_each_position_passes_through_the_network_once_and_without_it_as_often_as_codes_follow():
    for length in (8, 16, 32):
        model = CodePrior(5, length, context=(4, 6), width=8, heads=2)
        context, rows = torch.zeros(2, 6, dtype=torch.int64), []
        model.blocks[-1].project.register_forward_hook(lambda module, inputs, output, to=rows: to.append(output.shape[1]))
        model.sample(2, generator(), context=context)
        fast, rows[:] = sum(rows), []
        sample_slowly(model, 2, generator(), context)
        assert fast == 6 + length - 1
        assert sum(rows) == 6 * length + length * (length - 1) // 2


@pytest.mark.equation("eq-vq_vae2-prior", oracle="simulation: chi-square against all enumerated probabilities")
def test_ancestral_samples_come_as_often_as_their_probability_says():
    both = HierarchicalPrior(
        strong(CodePrior(2, 2, width=8, heads=2), 10), strong(CodePrior(3, 2, context=(2, 2), width=8, heads=2, seed=3), 10)
    )
    n = 20_000
    top, bottom = both.sample(n, generator(1))
    index = top @ torch.tensor([18, 9]) + bottom @ torch.tensor([3, 1])
    with torch.no_grad():
        p = both.log_prob((all_rows(2, 2).repeat_interleave(9, 0), all_rows(3, 2).repeat(4, 1))).exp()
    expected = n * (p / p.sum()).numpy()
    often = expected > 5
    counts = np.bincount(index, minlength=36)
    observed = np.append(counts[often], counts[~often].sum())
    wanted = np.append(expected[often], expected[~often].sum())
    keep = wanted > 0
    assert often.sum() > 8
    assert stats.chisquare(observed[keep], wanted[keep]).pvalue > 1e-4


def test_a_prior_of_a_model_is_two_priors_of_the_stated_sizes():
    both, sizes = HierarchicalPrior.of(tiny(), width=12, heads=3, layers=1, seed=5), {"width": 12, "heads": 3, "layers": 1}
    for level, same in (
        (both.top, CodePrior(3, 1, **sizes, seed=5)),
        (both.bottom, CodePrior(2, 4, (3, 1), **sizes, seed=5)),
    ):
        theirs = same.state_dict()
        assert theirs.keys() == level.state_dict().keys() and level.blocks[0].heads == 3
        assert all(torch.equal(value, theirs[name]) for name, value in level.state_dict().items())


def test_images_are_drawn_from_the_top_down():
    model = tiny()
    both = HierarchicalPrior.of(model, width=8, heads=2).double()
    images = model.sample(4, generator(2), prior=both)
    noise = generator(2)
    top = both.top.sample(4, noise)
    bottom = both.bottom.sample(4, noise, context=top)
    assert torch.equal(images, model.generate((top, bottom))) and images.shape == (4, 16) and not images.requires_grad


def test_without_a_prior_codes_of_both_levels_are_drawn_evenly():
    model, noise = tiny(), generator(3)
    u = [torch.rand(6, positions, generator=noise, dtype=torch.float64) for positions in model.positions]
    top, bottom = (u[0] * 3).long(), (u[1] * 2).long()
    assert torch.equal(model.sample(6, generator(3)), model.generate((top, bottom)))
    above, below = model.prior(6)
    assert torch.allclose(above.log_prob(top).exp(), torch.full((6, 1), 1 / 3, dtype=torch.float64))
    assert torch.allclose(below.log_prob(bottom).exp(), torch.full((6, 4), 1 / 2, dtype=torch.float64))
    assert above.logits.shape == (6, 1, 3) and below.logits.shape == (6, 4, 2) and model.latents == 1 + 4


# Bits


@pytest.mark.equation("eq-vq_vae2-bits", oracle="enumeration of the divergence; log2 of the codes for a uniform prior")
@torch.no_grad()
def test_a_uniform_prior_pays_log2_of_the_codes_and_any_other_the_entropy_and_its_divergence():
    both = HierarchicalPrior(CodePrior(4, 2, width=8, heads=2), CodePrior(3, 3, context=(4, 2), width=8, heads=2)).double()
    top, bottom = torch.tensor([[0, 3], [1, 1], [2, 0]]), torch.tensor([[0, 1, 2], [2, 2, 1], [0, 0, 0]])
    by_hand = -both.top.log_prob(top).mean().item() / 2 / log(2), -both.bottom.log_prob(bottom, top).mean().item() / 3 / log(2)
    assert bits_per_code(both, (top, bottom)) == pytest.approx(by_hand)
    assert bits_per_code(both, (top, bottom), batch=2) == pytest.approx(by_hand)
    parts = {name: value.item() for name, value in both.loss((top, bottom)).items()}
    nats = 2 * log(2) * by_hand[0] + 3 * log(2) * by_hand[1]
    assert parts == pytest.approx({"loss": nats, "top_bits": by_hand[0], "bottom_bits": by_hand[1]})
    for level in (both.top, both.bottom):
        for p in level.read[-1].parameters():
            p.zero_()
    assert bits_per_code(both, (top, bottom)) == pytest.approx((2, log2(3)))
    q = strong(CodePrior(3, 3, width=8, heads=2, seed=4))
    log_q, p = q.log_prob(all_rows(3, 3)).numpy(), stats.dirichlet(np.ones(27)).rvs(random_state=0)[0]
    paid = sum(p_i * q.loss(row[None])["bits"].item() for p_i, row in zip(p, all_rows(3, 3), strict=True))
    assert paid == pytest.approx((stats.entropy(p, base=2) + stats.entropy(p, np.exp(log_q), base=2)) / 3, abs=1e-9)


def test_rows_of_one_level_without_those_of_the_other_have_no_bits(no_shape_checks):
    both = HierarchicalPrior(CodePrior(4, 2, width=8, heads=2), CodePrior(3, 3, context=(4, 2), width=8, heads=2))
    for n, m in ((2, 4), (4, 2)):
        with pytest.raises(ValueError, match=r"shorter|longer"):
            bits_per_code(both, (rows_of(n, 2), rows_of(m, 3)), batch=2)


@pytest.mark.slow
def test_a_prior_learns_a_markov_chain_down_to_its_entropy():
    P = np.full((4, 4), 0.05) + 0.8 * np.eye(4)[[1, 2, 3, 0]]
    noise, rows = np.random.RandomState(0), np.zeros((3000, 8), int)
    rows[:, 0] = noise.randint(4, size=3000)
    for i in range(1, 8):
        rows[:, i] = [noise.choice(4, p=P[k]) for k in rows[:, i - 1]]
    exact = (2 + 7 * stats.entropy(P[0], base=2)) / 8  # the first code is uniform; each other costs a transition's entropy
    code = torch.from_numpy(rows)
    model = CodePrior(4, 8, width=16, heads=2, layers=1)
    assert model.loss(code)["bits"].item() == pytest.approx(2, abs=0.2)
    training.fit(
        model, code[:2500], steps=400, batch_size=50, progress=False, device="cpu", optimizer=partial(training.adam, lr=3e-3)
    )
    assert exact - 0.03 < model.loss(code[2500:])["bits"].item() < exact + 0.05


@pytest.mark.slow
def test_a_bottom_that_the_top_decides_costs_nothing_given_the_top_and_its_entropy_without():
    top = torch.randint(4, (2000, 2), generator=generator())
    bottom = torch.stack([top[:, 1], top[:, 0], (top[:, 0] + top[:, 1]) % 4], 1)
    both = HierarchicalPrior(CodePrior(4, 2, width=16, heads=2), CodePrior(4, 3, context=(4, 2), width=16, heads=2))
    settings = {
        "steps": 400,
        "batch_size": 50,
        "progress": False,
        "device": "cpu",
        "optimizer": partial(training.adam, lr=5e-3),
    }
    training.fit(both, (top, bottom), **settings)
    above, below = bits_per_code(both, (top, bottom))
    assert above == pytest.approx(2, abs=0.05) and below < 0.1
    alone = CodePrior(4, 3, width=16, heads=2)
    training.fit(alone, bottom, **settings)
    assert alone.loss(bottom)["bits"].item() == pytest.approx(4 / 3, abs=0.1), "the third code follows from the two before"


# Devices, randomness, bad input


class Reads(TorchDispatchMode):
    """Count what brings a number to the host, or makes a shape depend on values."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in str(func) for name in ("_local_scalar_dense", "nonzero", "masked_select", "bincount", "unique")):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def test_neither_a_step_of_either_stage_nor_sampling_waits_for_the_device(x):
    model = tiny(revive_below=0.5)
    both = HierarchicalPrior.of(model, width=8, heads=2).double()
    codes = model.codes(x)
    with Reads() as reads:
        model.loss(x)["loss"].backward()
        model.after_step(generator())
        both.loss(codes)["loss"].backward()
        model.sample(3, generator(), prior=both)
    assert reads.found == []


class OneDevice(TorchDispatchMode):
    """Fails where an operation is given tensors of several devices, but for a copy."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        devices = {leaf.device for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.ndim}
        assert len(devices) < 2 or "copy" in str(func), f"{func} is given tensors on {devices}"
        return func(*args, **(kwargs or {}))


def test_codes_and_contexts_may_lie_elsewhere_than_the_model():
    """On the device "meta", which computes shapes alone."""
    model = tiny()
    both = HierarchicalPrior.of(model, width=8, heads=2).double().to("meta")
    model.to("meta")
    top, bottom = rows_of(3, 1), rows_of(3, 4)
    with OneDevice():
        found = [
            model.decode((top, bottom)).mean,
            both.top.log_prob(top),
            both.bottom.log_prob(bottom, top),
            both.bottom.logits(bottom[:, :2], top),
            both.top.logits(top[:, :0]),
            both.bottom.sample(3, generator(), context=top),
        ]
    assert [(part.device.type, *part.shape) for part in found] == [
        ("meta", 3, 16),
        ("meta", 3),
        ("meta", 3),
        ("meta", 3, 3, 2),
        ("meta", 3, 1, 3),
        ("meta", 3, 4),
    ]


@pytest.mark.gpu
@needs_cuda
def test_a_gpu_computes_and_draws_what_the_cpu_does(x):
    models = [tiny(revive_below=0.5), tiny(revive_below=0.5).cuda()]
    priors = [HierarchicalPrior.of(model, width=8, heads=2).double() for model in models]
    priors[1].cuda()
    losses = [model.loss(x)["loss"].item() for model in models]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    for model in models:
        model.after_step(generator(1))
    assert torch.allclose(models[0].top.vectors, models[1].top.vectors.cpu())
    codes = [model.codes(x) for model in models]
    assert all(torch.equal(a, b.cpu()) for a, b in zip(*codes, strict=True))
    assert bits_per_code(priors[0], codes[0]) == pytest.approx(bits_per_code(priors[1], codes[1]))
    images = [model.sample(3, generator(4), prior=both) for model, both in zip(models, priors, strict=True)]
    assert torch.allclose(images[0], images[1].cpu())


def test_what_is_drawn_depends_on_the_generator_alone_and_a_seed_touches_no_other_randomness():
    state = torch.random.get_rng_state()
    model = tiny()
    both = HierarchicalPrior.of(model, width=8, heads=2).double()
    first, again, other = (model.sample(5, generator(seed), prior=both) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    for build in (
        lambda seed: conv_vq_vae2((1, 4, 4), (3, 2), 2, halvings=1, seed=seed),
        lambda seed: CodePrior(3, 4, seed=seed),
    ):
        one, same, another = (build(seed).state_dict() for seed in (1, 1, 2))
        assert all(torch.equal(value, same[name]) for name, value in one.items())
        assert any(not torch.equal(value, another[name]) for name, value in one.items())
    assert torch.equal(torch.random.get_rng_state(), state)


def rows_of(n: int, length: int) -> Tensor:
    return torch.zeros(n, length, dtype=torch.int64)


BAD = {
    "images must be rows, (batch, 16); got (2, 4, 4)": lambda: tiny().loss(torch.zeros(2, 4, 4)),
    "images must be rows, (batch, 16); got (2, 15)": lambda: tiny().loss(torch.zeros(2, 15)),
    "2 halvings need sides that are multiples of 4; images are 6 x 4": lambda: conv_vq_vae2((1, 6, 4), (3, 2), 2, halvings=1),
    "the top vectors must be (batch, 1, 2); got (3, 2, 2)": lambda: tiny().decode((rows_of(3, 2), rows_of(3, 4))),
    "the bottom vectors must be (batch, 4, 2)": lambda: tiny().decode_vectors(torch.zeros(3, 1, 2), torch.zeros(3, 4, 1)),
    "there are no images to judge by": lambda: evaluate(tiny(), torch.zeros(0, 16)),
    "at least one code of at least one dimension, got 0 of 2": lambda: tiny(codes=(0, 2)),
    "all sizes of a prior must be at least 1; got 0 codes": lambda: CodePrior(0, 4),
    "context (2, 0)": lambda: CodePrior(3, 4, context=(2, 0)),
    "length 0": lambda: CodePrior(3, 0),
    "width 0": lambda: CodePrior(3, 4, width=0),
    "0 heads": lambda: CodePrior(3, 4, heads=0),
    "0 layers": lambda: CodePrior(3, 4, layers=0),
    "width must be a multiple of the heads, got 10 and 4": lambda: CodePrior(3, 4, width=10),
    "codes must be rows of 4, got shape (2, 3)": lambda: CodePrior(3, 4).log_prob(rows_of(2, 3)),
    "codes must be rows of at most 3, got shape (2, 4)": lambda: CodePrior(3, 4).logits(rows_of(2, 4)),
    "built without a context, and is given one": lambda: CodePrior(3, 4).log_prob(rows_of(2, 4), rows_of(2, 4)),
    "the context must be codes of shape (2, 5), got None": lambda: CodePrior(3, 4, context=(2, 5)).log_prob(rows_of(2, 4)),
    "of shape (2, 5), got (2, 4)": lambda: CodePrior(3, 4, context=(2, 5)).sample(2, generator(), context=rows_of(2, 4)),
    "the bottom's context must be the top's (3, 4); it is None": lambda: HierarchicalPrior(CodePrior(3, 4), CodePrior(3, 4)),
    "there are no codes to judge by": lambda: bits_per_code(
        HierarchicalPrior(CodePrior(3, 4), CodePrior(3, 4, (3, 4))), (rows_of(0, 4), rows_of(0, 4))
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_right_is_refused_with_what_was_expected(message, no_shape_checks):
    with pytest.raises((ValueError, TypeError)) as caught:
        BAD[message]()
    assert message in str(caught.value)
