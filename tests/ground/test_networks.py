"""Networks that return distributions."""

from math import log, prod

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from helpers import generator
from vaecourse.distributions import Bernoulli, Normal
from vaecourse.networks import (
    BernoulliNetwork,
    FourierFeatures,
    GaussianNetwork,
    OnImages,
    by_rows,
    conv_decoder,
    conv_encoder,
    initial_weights,
    mlp,
    move_average,
    upsampling_decoder,
)


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


def test_a_gaussian_network_splits_the_last_axis_of_any_batch():
    assert GaussianNetwork(mlp(2, 4))(torch.zeros(5, 3, 2)).mu.shape == (5, 3, 2)


def test_a_gaussian_network_with_an_odd_number_of_outputs_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="even number of outputs, the network gives 3"):
        GaussianNetwork(mlp(2, 3))(torch.zeros(1, 2))


@pytest.mark.parametrize("log_sigma", [-1.5, 2.0])
def test_a_fixed_log_sigma_is_no_parameter_but_moves_and_is_saved_with_the_network(log_sigma):
    network = GaussianNetwork(mlp(2, 3), log_sigma)
    assert "log_sigma" not in dict(network.named_parameters()) and network.state_dict()["log_sigma"] == log_sigma
    assert network.double()(torch.zeros(1, 2, dtype=torch.float64)).log_sigma.tolist() == [[log_sigma] * 3]


def test_a_log_sigma_for_each_output_is_the_networks_own_and_moves_and_is_saved_with_it(no_shape_checks):
    given = torch.tensor([-1.5, 0.0, 2.0])
    network = GaussianNetwork(mlp(2, 3).double(), given)
    given.zero_()
    assert network.log_sigma.dtype == torch.float64 and "log_sigma" not in dict(network.named_parameters())
    assert network.state_dict()["log_sigma"].tolist() == [-1.5, 0.0, 2.0]
    assert network(torch.zeros(1, 2).double()).log_sigma.tolist() == [[-1.5, 0.0, 2.0]]
    assert network.to("meta").log_sigma.is_meta
    of_no_parameters = GaussianNetwork(nn.Identity(), np.array([0.5, 1.0]))
    assert of_no_parameters.log_sigma.dtype == torch.float32
    assert of_no_parameters(torch.zeros(4, 2)).log_sigma.tolist() == [[0.5, 1.0]] * 4
    with pytest.raises(TypeError, match="log_sigma"):
        GaussianNetwork(mlp(2, 3), "-1")


@pytest.mark.parametrize("shape", [(), (3,)], ids=["one for all", "one for each output"])
def test_a_shared_log_sigma_is_a_parameter_that_learns(shape):
    network = GaussianNetwork(mlp(2, 3), nn.Parameter(torch.zeros(shape)))
    p = network(torch.zeros(4, 2))
    assert torch.equal(p.log_sigma, torch.zeros(4, 3))
    p.log_prob(p.mu.detach()).sum().backward()
    assert torch.equal(network.log_sigma.grad, torch.full(shape, -4.0 if shape else -12.0))


@pytest.mark.equation("eq-vae-constant-c", oracle="another library: scipy's multivariate normal")
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


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 24)])
def test_convolutions_take_and_give_rows_for_any_axes_of_the_batch(shape):
    pixels = shape[0] * shape[1] * shape[2]
    encoder, decoder = conv_encoder(shape, 5, width=4), conv_decoder(5, shape, width=4)
    x = torch.rand(2, 3, pixels)
    codes = encoder(x)
    assert codes.shape == (2, 3, 5) and decoder(codes).shape == (2, 3, pixels)
    assert torch.allclose(codes[1, 2], encoder(x[1, 2]), atol=1e-6), "each row is an image of its own"


def test_a_row_is_reshaped_to_its_image_row_by_row():
    x = torch.arange(12.0).expand(2, 12)
    assert torch.equal(OnImages((1, 3, 4), nn.AvgPool2d((3, 4)))(x), torch.full((2, 1), 5.5))
    assert torch.equal(OnImages((3, 2, 2), nn.AvgPool2d(2))(x), torch.tensor([1.5, 5.5, 9.5]).expand(2, 3))


@pytest.mark.parametrize("network", [lambda: conv_encoder((1, 10, 8), 3), lambda: conv_decoder(3, (1, 8, 10))])
def test_sides_that_cannot_be_halved_are_an_error(network):
    with pytest.raises(ValueError, match=r"2 halvings need sides that are multiples of 4; images are (10 x 8|8 x 10)"):
        network()


def test_rows_of_another_image_are_an_error_with_both_sizes():
    with pytest.raises(ValueError, match=r"rows must have 64 entries, for images \(1, 8, 8\); got shape \(2, 49\)"):
        conv_encoder((1, 8, 8), 3)(torch.zeros(2, 49))


def test_initial_weights_are_those_of_the_seed_and_nothing_else_is_touched():
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    torch.manual_seed(5)
    with initial_weights(1):
        first = mlp(2, 3)
    assert torch.equal(torch.rand(3), undisturbed)
    with initial_weights(1):
        again = mlp(2, 3)
    assert torch.equal(first[0].weight, again[0].weight)


def test_a_network_is_given_rows_whatever_the_axes_of_the_batch():
    seen = []

    class Rows(nn.Module):
        def forward(self, x):
            seen.append(tuple(x.shape))
            return x[:, :1]

    for batch in ((5,), (2, 5), (2, 3, 5), ()):
        x = torch.randn(*batch, 4, generator=generator())
        assert torch.equal(by_rows(Rows(), x), x[..., :1]) and len(seen[-1]) == 2
        p = by_rows(GaussianNetwork(nn.Linear(4, 2), 0.5), x)
        assert p.mu.shape == p.log_sigma.shape == (*batch, 2)


def test_fourier_features_are_sines_and_cosines_of_drawn_frequencies():
    net, x = FourierFeatures(2, 3, scale=0.5, seed=4).double(), torch.tensor([0.3, -0.7], dtype=torch.float64)
    B = np.pi * torch.randn(2, 3, generator=torch.Generator().manual_seed(4)).double().numpy()
    expected = np.concatenate([x.numpy(), np.sin(x.numpy() @ B), np.cos(x.numpy() @ B)])
    assert np.allclose(net(x), expected, atol=1e-6)


@pytest.mark.parametrize("shape, doublings", [((1, 16, 16), 2), ((3, 8, 12), 1), ((1, 28, 28), 2)])
def test_an_upsampling_decoder_gives_rows_of_the_image_s_pixels_and_halves_its_channels(shape, doublings):
    net = upsampling_decoder(5, shape, width=4, doublings=doublings)
    assert net(torch.randn(7, 5)).shape == (7, prod(shape))
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [
        *((4 * 2**level, 2 * 2**level) for level in range(doublings, 0, -1)),
        (4, shape[0]),
    ]


def test_an_upsampling_decoder_repeats_pixels_before_it_filters_them():
    net = upsampling_decoder(2, (1, 4, 4), width=1, doublings=1, activation=nn.Identity)
    linear, (_, first, _, second) = net[0], net[2].net
    with torch.no_grad():
        for layer in (first, second):  # the middle tap of the first channel alone
            layer.bias.zero_()
            layer.weight.zero_()[0, 0, 1, 1] = 1.0
        small = linear(torch.tensor([[1.0, 2.0]])).reshape(2, 2, 2)[0]
        drawn = net(torch.tensor([[1.0, 2.0]])).reshape(4, 4)
    assert torch.equal(drawn, small.repeat_interleave(2, 0).repeat_interleave(2, 1))
    with pytest.raises(ValueError, match="multiples of 4"):
        upsampling_decoder(2, (1, 6, 8), doublings=2)


def test_an_average_moves_by_its_decay_and_takes_buffers_as_they_are():
    average, network = (nn.BatchNorm1d(2) for _ in range(2))
    with torch.no_grad():
        network.weight.fill_(3.0)
        network.running_mean.fill_(5.0)
    move_average(average, network, 0.75)
    assert average.weight.tolist() == [1.5, 1.5] and average.running_mean.tolist() == [5.0, 5.0]
