"""Networks that return distributions."""

from math import log

import pytest
import torch
from scipy import stats
from torch import nn

from vaecourse.distributions import Bernoulli, Normal
from vaecourse.networks import BernoulliNetwork, GaussianNetwork, mlp


def test_mlp_has_the_widths_it_is_given_and_an_activation_between_only():
    kinds = [type(layer) for layer in mlp(6, 5, 4, 3, activation=nn.ReLU)]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [tuple(layer.weight.shape) for layer in mlp(6, 5, 4, 3)[::2]] == [(5, 6), (4, 5), (3, 4)]


def test_mlp_of_one_width_is_an_error():
    with pytest.raises(ValueError, match="at least an input and an output width"):
        mlp(3)


def test_a_gaussian_network_without_log_sigma_splits_its_outputs_in_two():
    net = mlp(3, 8)
    x = torch.randn(5, 2, 3)
    p = GaussianNetwork(net)(x)
    assert isinstance(p, Normal)
    assert torch.equal(torch.cat([p.mu, p.log_sigma], -1), net(x)) and p.mu.shape == (5, 2, 4)


def test_a_gaussian_network_with_an_odd_number_of_outputs_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="even number of outputs, the network gives 3"):
        GaussianNetwork(mlp(2, 3))(torch.zeros(1, 2))


@pytest.mark.parametrize("log_sigma", [-1.5, 2.0])
def test_a_fixed_log_sigma_is_no_parameter_but_moves_and_is_saved_with_the_network(log_sigma):
    network = GaussianNetwork(mlp(2, 3), log_sigma)
    assert "log_sigma" not in dict(network.named_parameters()) and network.state_dict()["log_sigma"] == log_sigma
    assert network.double()(torch.zeros(1, 2, dtype=torch.float64)).log_sigma.tolist() == [[log_sigma] * 3]


@pytest.mark.parametrize("shape", [(), (3,)], ids=["one for all", "one for each output"])
def test_a_shared_log_sigma_is_a_parameter_that_learns(shape):
    network = GaussianNetwork(mlp(2, 3), nn.Parameter(torch.zeros(shape)))
    p = network(torch.zeros(4, 2))
    assert torch.equal(p.log_sigma, torch.zeros(4, 3))
    p.log_prob(p.mu.detach()).sum().backward()
    assert torch.equal(network.log_sigma.grad, torch.full(shape, -4.0 if shape else -12.0))


@pytest.mark.equation("eq-vae-constant-c", oracle="scipy's multivariate normal")
@pytest.mark.parametrize("c", [0.01, 0.5, 1.0, 30.0])
def test_a_decoder_of_variance_c_pays_the_squared_error_over_2c_and_half_the_log_of_2_pi_c_for_each_pixel(c):
    f = mlp(2, 7).double()
    z, x = torch.randn(2, 5, 2, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    decoder = GaussianNetwork(f, 0.5 * log(c)).double()
    cost = -decoder(z[0]).log_prob(x)
    for row in range(5):
        oracle = -stats.multivariate_normal(f(z[0])[row].detach().numpy(), c).logpdf(x[row].numpy())
        assert cost[row].item() == pytest.approx(oracle, rel=1e-6)  # the fixed log sigma was stored in float32
    squared_error = ((x - f(z[0])) ** 2).sum(-1)
    assert torch.allclose(cost, squared_error / (2 * c) + 7 / 2 * log(2 * torch.pi * c), rtol=1e-6)


def test_a_bernoulli_network_outputs_logits():
    net = mlp(3, 8)
    x = torch.randn(5, 2, 3)
    p = BernoulliNetwork(net)(x)
    assert isinstance(p, Bernoulli) and torch.equal(p.logits, net(x))
