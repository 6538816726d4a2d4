"""What people really pass, and what becomes of it."""

import numpy as np
import pytest
import torch
from torch import nn

from helpers import generator
from vaecourse import datasets, inputs, randomness, vaebm
from vaecourse.networks import GaussianNetwork


def test_whole_numbers_of_numpy_and_torch_are_python_s_own(no_shape_checks):
    for number in (3, np.int64(3), np.uint8(3), torch.tensor(3)):
        assert inputs.whole(number) == 3 and type(inputs.whole(number)) is int
    with pytest.raises(TypeError, match="float"):
        inputs.whole(3.0)


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", "<i8", "<f2"])
def test_an_array_becomes_a_tensor_of_its_numbers_whatever_its_layout(kind):
    values = np.arange(12).reshape(3, 4).astype(kind)
    values.flags.writeable = False
    assert np.array_equal(inputs.tensor(values[::-1, ::2]).numpy(), values[::-1, ::2])


def test_what_is_no_array_of_numbers_is_refused_in_plain_words(no_shape_checks):
    for wrong, said in (([1.0], "list"), (np.array(["a"]), "array of <U1"), (None, "NoneType")):
        with pytest.raises(TypeError, match=f"must be a tensor or a NumPy array of numbers, got {said}"):
            inputs.tensor(wrong)
    with pytest.raises(TypeError, match=r"floats, got torch.int64: x.float\(\)"):
        inputs.floats(torch.arange(3))


def test_half_precision_becomes_single_for_linear_algebra_and_double_stays():
    for dtype, wanted in ((torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        assert inputs.floats(torch.zeros(2, dtype=dtype)).dtype == wanted


def test_data_take_the_type_of_a_module_and_whole_numbers_keep_theirs():
    net = nn.Linear(2, 2).double()
    assert inputs.onto(net, torch.zeros(1, 2)).dtype == torch.float64
    assert inputs.onto(net, torch.zeros(1, 2, dtype=torch.int64)).dtype == torch.int64


def test_gradients_are_taken_inside_no_grad_and_inference_mode_is_named():
    x = torch.ones(1, requires_grad=True)
    with torch.no_grad(), inputs.gradients():
        assert (2 * x).requires_grad
    with torch.inference_mode(), pytest.raises(ValueError, match=r"inference_mode.*no_grad"), inputs.gradients():
        pass


def test_seeds_of_numpy_draw_what_python_s_draw(no_shape_checks):
    seed = np.int64(3)
    assert torch.equal(torch.rand(3, generator=randomness.generator(seed)), torch.rand(3, generator=generator(3)))
    assert torch.equal(datasets.textures("wood", 2, seed=seed), datasets.textures("wood", 2, seed=3))
    assert torch.equal(datasets.stacked_digits(2, seed=seed)[0], datasets.stacked_digits(2, seed=3)[0])
    assert torch.equal(vaebm.Chains(3, 2, 0.1, seed=seed).states, vaebm.Chains(3, 2, 0.1, seed=3).states)
    mine, theirs = (vaebm.energy_mlp(2, (4,), features=3, seed=s) for s in (seed, 3))
    assert torch.equal(mine(torch.ones(1, 2)), theirs(torch.ones(1, 2)))


def test_a_decoder_s_standard_deviation_may_be_any_number_or_tensor_and_is_saved_and_moved(no_shape_checks):
    for log_sigma in (-1.0, np.float32(-1), torch.tensor(-1.0), np.array([-1.0, -1.0]), torch.full((2,), -1.0)):
        net = GaussianNetwork(nn.Linear(3, 2), log_sigma).double()
        assert "log_sigma" in net.state_dict()
        p = net(torch.zeros(4, 3).double())
        assert p.log_sigma.dtype == torch.float64 and torch.equal(p.log_sigma, torch.full((4, 2), -1.0).double())
