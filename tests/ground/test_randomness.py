"""Noise from explicit generators; the noise of a whole batch, shared by several processes."""

import pytest
import torch

from helpers import generator
from vaecourse import processes, randomness
from vaecourse.distributions import Bernoulli, Normal
from vaecourse.randomness import indices, normal, uniform


@pytest.mark.parametrize("draw, torch_draw", [(normal, torch.randn), (uniform, torch.rand)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_alone_noise_is_torchs_own_from_the_same_generator(draw, torch_draw, dtype):
    like = torch.zeros(3, dtype=dtype)
    assert torch.equal(draw((2, 5), like, generator(4)), torch_draw(2, 5, generator=generator(4), dtype=dtype))


def test_noise_for_whole_numbers_is_of_the_default_type():
    assert uniform((2,), torch.zeros(2, dtype=torch.int64), generator()).dtype == torch.get_default_dtype()


@pytest.fixture(params=[0, 1, 2])
def one_of_three(request, monkeypatch):
    """As process `param` of three sees it; nothing is sent."""
    monkeypatch.setattr(processes, "count", lambda: 3)
    monkeypatch.setattr(processes, "rank", lambda: request.param)
    return request.param


def test_a_process_keeps_its_rows_of_the_noise_of_the_whole_batch(one_of_three):
    rows = slice(2 * one_of_three, 2 * one_of_three + 2)
    like = torch.zeros(1)
    assert torch.equal(normal((2, 5), like, randomness.generator(4)), normal((6, 5), like, generator(4))[rows])
    axis_1 = uniform((7, 2, 5), like, randomness.generator(4), batch_axis=1)
    assert torch.equal(axis_1, uniform((7, 6, 5), like, generator(4))[:, rows])


def test_a_draw_without_a_batch_is_the_same_in_all_processes(one_of_three):
    like = torch.zeros(1)
    assert torch.equal(normal((2, 5), like, randomness.generator(4), None), normal((2, 5), like, generator(4)))


def test_a_distribution_knows_where_its_batch_lies(one_of_three):
    rows, mu = slice(2 * one_of_three, 2 * one_of_three + 2), torch.zeros(6, 3)
    whole, shared = Normal(mu, mu), Normal(mu[rows], mu[rows])
    assert torch.equal(shared.sample(randomness.generator(1), shape=(4,)), whole.sample(generator(1), shape=(4,))[:, rows])
    assert torch.equal(Bernoulli(mu[rows]).sample(randomness.generator(1)), Bernoulli(mu).sample(generator(1))[rows])
    lone = Normal(mu[0], mu[0])
    assert torch.equal(lone.sample(randomness.generator(1), shape=(4,)), lone.sample(generator(1), shape=(4,)))


def test_a_generator_of_ones_own_is_not_shared_even_beside_other_processes(one_of_three):
    like = torch.zeros(1)
    assert torch.equal(normal((2, 5), like, generator(4)), torch.randn(2, 5, generator=generator(4)))


def test_indices_are_even_and_on_the_options():
    drawn = indices(3, (30_000,), torch.zeros(1), generator(5))
    counts = drawn.bincount(minlength=3)
    assert len(counts) == 3 and ((counts - 10_000).abs() < 4.2 * (30_000 * 2 / 9) ** 0.5).all()  # three counts: once in 10,000
    assert indices(1, (4,), torch.zeros(1)).tolist() == [0] * 4
    with pytest.raises(ValueError, match="at least one option"):
        indices(0, (4,), torch.zeros(1))
