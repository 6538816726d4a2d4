"""Autoencoders: linear ones against PCA, codes of one number against what topology and a table allow, probes against labels."""

from functools import partial
from math import pi

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, optimize
from torch import Tensor, nn

from helpers import generator, needs_cuda
from vaecourse import autoencoders, datasets, pca, training
from vaecourse.autoencoders import Autoencoder, Lookup, antipodal_clash, principal_angles
from vaecourse.networks import mlp


def fit(model: Autoencoder, x: Tensor, steps: int, rate: float = 1e-3) -> Autoencoder:
    adam = partial(torch.optim.Adam, lr=rate)
    training.fit(model, x, steps=steps, batch_size=len(x), optimizer=adam, progress=False, device="cpu")
    return model


# Linear codes


@pytest.fixture(scope="module")
def oblong() -> Tensor:
    """Rows of six pixels around a mean that is not 0, with two directions of larger variance."""
    noise = generator(1)
    spread = torch.tensor([2.0, 1.5, 0.3, 0.2, 0.2, 0.1], dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=noise, dtype=torch.float64)).Q
    return torch.randn(200, 6, generator=noise, dtype=torch.float64) * spread @ rotation.T + 1


@pytest.fixture(scope="module")
def linear_models(oblong) -> dict[bool, Autoencoder]:
    models = {shared: autoencoders.linear(6, 2, shared=shared, seed=1).double() for shared in (False, True)}
    for model in models.values():
        for rate in (3e-2, 3e-3, 3e-4):
            fit(model, oblong, 800, rate)
    return models


@pytest.mark.equation("eq-autoencoders-linear", oracle="closed form: the eigenvectors of the covariance")
@pytest.mark.parametrize("shared", [False, True], ids=["free weights", "shared weights"])
@pytest.mark.slow
def test_a_linear_code_ends_in_the_subspace_of_pca_with_its_error(linear_models, oblong, shared):
    model, basis = linear_models[shared], pca.eigen(oblong, 2)
    assert principal_angles(autoencoders.decoder_basis(model), basis.components).max() < 1e-3
    assert model.error(oblong).mean().item() == pytest.approx(basis.error_by_rank[2].item(), rel=1e-6)


@pytest.mark.equation("eq-autoencoders-shared", oracle="closed form: the definition of orthonormal")
@pytest.mark.slow
def test_free_weights_give_no_orthogonal_basis_and_correlated_codes_and_shared_ones_an_orthonormal_basis(linear_models, oblong):
    free, shared = (autoencoders.decoder_basis(linear_models[key]) for key in (False, True))
    cosine = nn.functional.cosine_similarity(free[:, 0], free[:, 1], dim=0)
    assert cosine.abs() > 0.05
    assert torch.allclose(shared.T @ shared, torch.eye(2, dtype=torch.float64), atol=1e-3)
    z = linear_models[False].encode(oblong).detach()
    assert torch.corrcoef(z.T)[0, 1].abs() > 0.05, "nothing asks the codes to be uncorrelated"


@pytest.mark.equation(
    "eq-autoencoders-freedom", oracle="independent code: covariance of the codes, inner products of the directions"
)
@pytest.mark.parametrize("shared", [False, True], ids=["free weights", "shared weights"])
def test_the_matrix_that_the_loss_does_not_see_makes_codes_correlated_and_directions_skew(linear_models, oblong, shared):
    model, basis = linear_models[shared], pca.eigen(oblong, 2)
    A = model.encoder.weight.detach() @ basis.components
    V, z = autoencoders.decoder_basis(model), model.encode(oblong).detach()
    assert torch.allclose(model.encoder.weight, A @ basis.components.T, atol=1e-3)
    assert torch.allclose(torch.cov(z.T, correction=0), A @ basis.variances[:2].diag() @ A.T, atol=1e-3)
    assert torch.allclose(V.T @ V, torch.linalg.inv(A @ A.T), atol=1e-3)


@pytest.mark.equation("eq-autoencoders-linear", oracle="independent code: the error of each data point")
def test_any_change_of_basis_between_encoder_and_decoder_leaves_the_error_as_it_is(linear_models, oblong):
    model = linear_models[False]
    A = torch.tensor([[2.0, 0.5], [-1.0, 0.3]], dtype=torch.float64)
    changed = autoencoders.linear(6, 2).double()
    with torch.no_grad():
        changed.encoder.weight.copy_(A @ model.encoder.weight)
        changed.encoder.bias.copy_(A @ model.encoder.bias)
        changed.decoder.weight.copy_(model.decoder.weight @ torch.linalg.inv(A))
        changed.decoder.bias.copy_(model.decoder.bias)
    assert torch.allclose(changed.error(oblong), model.error(oblong))


@pytest.mark.equation("eq-autoencoders-uncentered", oracle="another library: numpy's singular values")
@pytest.mark.slow
def test_without_biases_and_centering_the_subspace_is_another_one(oblong):
    model = autoencoders.linear(6, 2, shared=True, seed=1).double()
    model.encoder.bias.requires_grad_(False).zero_()
    model.decoder.bias.requires_grad_(False).zero_()
    for rate in (3e-2, 3e-3, 3e-4):
        fit(model, oblong, 800, rate)
    assert principal_angles(autoencoders.decoder_basis(model), pca.eigen(oblong, 2).components).max() > 0.1
    _, s, Vt = np.linalg.svd(oblong.numpy(), full_matrices=False)  # it is that of the rows as they are
    assert principal_angles(autoencoders.decoder_basis(model), torch.from_numpy(Vt[:2].T.copy())).max() < 1e-3
    assert model.error(oblong).mean().item() == pytest.approx((s[2:] ** 2).sum() / len(oblong), rel=1e-6)


@pytest.mark.equation("eq-autoencoders-direction", oracle="independent code: the error of each data point")
@pytest.mark.parametrize("theta", [0.0, 0.4, 1.3, 2.9])
def test_the_error_of_one_direction_in_a_plane_is_what_its_angle_to_the_axes_says(theta):
    x = torch.randn(50, 2, generator=generator(), dtype=torch.float64) @ torch.tensor([[2.0, 1.0], [0.0, 0.5]]).double()
    basis = pca.eigen(x, 2)
    (first, second), u1 = basis.variances, basis.components[:, 0]
    u = torch.tensor([np.cos(theta), np.sin(theta)])
    model = autoencoders.linear(2, 1, shared=True).double()
    with torch.no_grad():
        model.encoder.weight.copy_(u[None])
        model.encoder.bias.copy_(-u @ basis.mean)
        model.decoder.bias.copy_(basis.mean)
    away = theta - torch.atan2(u1[1], u1[0])
    assert model.error(x).mean().item() == pytest.approx((first * away.sin() ** 2 + second * away.cos() ** 2).item())


@pytest.mark.equation("eq-autoencoders-affine", oracle="another library: scikit-learn")
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), latents=st.integers(1, 4))
def test_with_an_affine_decoder_not_even_the_best_code_of_each_point_beats_pca(seed, latents):
    from sklearn.decomposition import PCA

    x = torch.randn(30, 5, generator=generator(seed), dtype=torch.float64).cumsum(1)
    least = PCA().fit(x.numpy()).explained_variance_[latents:].sum() * 29 / 30
    V, c = torch.randn(5, latents + 1, generator=generator(seed + 1), dtype=torch.float64).split([latents, 1], 1)
    z = torch.linalg.lstsq(V, (x - c.T).T).solution.T  # no encoder can give better codes to this decoder
    assert ((x - z @ V.T - c.T) ** 2).sum(1).mean() >= least - 1e-9
    assert pca.eigen(x, latents).error(x).mean().item() == pytest.approx(least, abs=1e-9)


@pytest.mark.slow
def test_a_bent_encoder_before_a_linear_decoder_does_not_beat_pca_and_a_bent_decoder_does():
    t = torch.linspace(-1, 1, 60, dtype=torch.float64)[:, None]
    x = torch.cat([t, t**2], 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = {"encoder": (mlp(2, 16, 1), nn.Linear(1, 2)), "decoder": (nn.Linear(2, 1), mlp(1, 16, 2))}
    error = {
        bent: fit(Autoencoder(*net, pixels=2, latents=1).double(), x, 1500, 1e-2).error(x).mean().item()
        for bent, net in nets.items()
    }
    least = pca.eigen(x, 1).error_by_rank[1].item()
    assert error["encoder"] >= least - 1e-9 and error["decoder"] < 0.1 * least


@pytest.mark.equation("eq-autoencoders-saddle", oracle="known case: eigenvectors put in, second derivatives by autograd")
@pytest.mark.parametrize("chosen", [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])
def test_each_choice_of_eigenvectors_is_a_level_point_and_only_the_first_ones_are_no_saddle(chosen):
    x = torch.randn(40, 4, generator=generator(), dtype=torch.float64) * torch.tensor([2.0, 1.5, 1.0, 0.5])
    basis = pca.eigen(x, 4)
    x, U = x - basis.mean, basis.components[:, list(chosen)]
    A = torch.tensor([[1.5, 0.4], [-0.3, 0.8]], dtype=torch.float64)
    start = torch.cat([(A @ U.T).flatten(), (U @ torch.linalg.inv(A)).flatten()])

    def loss(weights):
        W, V = weights[:8].view(2, 4), weights[8:].view(4, 2)
        return ((x - x @ W.T @ V.T) ** 2).sum(1).mean()

    dropped = sum(basis.variances[j].item() for j in range(4) if j not in chosen)
    assert loss(start).item() == pytest.approx(dropped)
    assert torch.autograd.functional.jacobian(loss, start).abs().max() < 1e-9
    least = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, start))[0].item()
    assert least > -1e-9 if chosen == (0, 1) else least < -0.05


@pytest.mark.equation("eq-autoencoders-angles", oracle="another library: scipy")
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), a=st.integers(1, 4), b=st.integers(1, 4))
def test_principal_angles_are_scipys(seed, a, b):
    A, B = (torch.randn(6, k, generator=generator(seed + k), dtype=torch.float64) for k in (a, b + 10))
    B = B[:, :b]
    assert np.allclose(principal_angles(A, B), linalg.subspace_angles(A.numpy(), B.numpy())[::-1], atol=1e-7)


@pytest.mark.parametrize("angle", [0.0, 1e-10, 1e-3, 1.0, pi / 2])
def test_a_plane_turned_by_an_angle_is_that_angle_away_however_small(angle):
    A = torch.eye(4, dtype=torch.float64)[:, :2]
    B = torch.tensor([[1, 0], [0, np.cos(angle)], [0, np.sin(angle)], [0, 0]], dtype=torch.float64)
    assert np.allclose(principal_angles(3 * A, B.flip(1)), [0, angle], rtol=1e-6, atol=1e-15)


def test_directions_that_span_less_than_they_count_are_an_error(no_shape_checks):
    A = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="the first 2 directions are linearly dependent"):
        principal_angles(A, torch.eye(3)[:, :2])
    with pytest.raises(ValueError, match="as many entries in both; got 3 and 4"):
        principal_angles(torch.eye(3)[:, :2], torch.eye(4)[:, :2])


# Errors and gradients


@pytest.mark.equation("eq-autoencoders-error", oracle="independent code: numpy")
def test_an_error_is_summed_over_pixels_and_the_loss_averaged_over_images():
    model, x = autoencoders.deep(5, 2, hidden=(4,)).double(), torch.rand(7, 5, generator=generator(), dtype=torch.float64)
    W = [parameter.detach().numpy() for parameter in model.parameters()]
    code = np.tanh(x.numpy() @ W[0].T + W[1]) @ W[2].T + W[3]
    image = np.tanh(code @ W[4].T + W[5]) @ W[6].T + W[7]
    errors = ((x.numpy() - image) ** 2).sum(1)
    assert np.allclose(model.error(x).detach(), errors) and model.loss(x)["loss"].item() == pytest.approx(errors.mean())


@pytest.mark.equation("eq-autoencoders-mean", oracle="numeric search for the minimum, by scipy")
def test_the_best_decoder_of_a_code_answers_with_the_mean_of_all_that_share_it():
    x, code = torch.randn(12, 3, generator=generator(), dtype=torch.float64).numpy(), np.array([0, 1, 2, 1] * 3)
    best = optimize.minimize(lambda table: ((x - table.reshape(3, 3)[code]) ** 2).sum(1).mean(), np.zeros(9))
    means = np.stack([x[code == z].mean(0) for z in range(3)])
    assert np.allclose(best.x.reshape(3, 3), means, atol=1e-5)
    left = sum((code == z).mean() * x[code == z].var(0).sum() for z in range(3))
    assert best.fun == pytest.approx(left, abs=1e-9)


@pytest.mark.parametrize(
    "build", [autoencoders.linear, partial(autoencoders.linear, shared=True), partial(autoencoders.deep, hidden=(5,))]
)
def test_gradients_are_finite_differences(build):
    model, x = build(4, 2).double(), torch.rand(3, 4, generator=generator(), dtype=torch.float64)
    parameters = dict(model.named_parameters())

    def loss(*values):
        return torch.func.functional_call(_Loss(model), dict(zip(_names(parameters), values, strict=True)), (x,))

    assert torch.autograd.gradcheck(loss, tuple(p.detach().requires_grad_() for p in parameters.values()))


class _Loss(nn.Module):
    def __init__(self, model: Autoencoder):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.loss(x)["loss"]


def _names(parameters: dict) -> list[str]:
    return [f"model.{name}" for name in parameters]


@pytest.mark.parametrize(
    "model, latents",
    [(autoencoders.deep(64, 3, hidden=(32,)), 3), (autoencoders.convolutional((1, 8, 8), 3, width=8), 3)],
    ids=["deep", "convolutional"],
)
@pytest.mark.slow
def test_a_network_that_bends_beats_pca_at_the_same_width(model, latents):
    digits = datasets.load("digits").train[:400]
    adam = partial(torch.optim.Adam, lr=5e-3)
    training.fit(model, digits, steps=600, batch_size=100, optimizer=adam, progress=False, device="cpu")
    assert model.error(digits).mean() < 0.9 * pca.svd(digits, latents).error(digits).mean()


# Codes of one number


@pytest.fixture(scope="module")
def creature_models() -> dict[int, tuple[Autoencoder, Tensor, Tensor]]:
    x, labels = autoencoders.creatures(400, generator())
    models = {}
    for latents in (1, 2):
        model = autoencoders.deep(12, latents, hidden=(32,), seed=0)
        models[latents] = fit(fit(model, x, 800, 1e-2), x, 300), x, labels
    return models


@pytest.mark.slow
def test_one_dimension_tells_alive_from_not_and_mixes_up_what_flies_and_two_tell_both(creature_models):
    def accuracy(latents, answers):
        model, x, labels = creature_models[latents]
        z, answers = model.encode(x), answers(labels).long()
        return autoencoders.probe(z, answers, z, answers)

    assert accuracy(1, lambda kind: kind < 2) > 0.98 and accuracy(1, lambda kind: kind % 2) < 0.8
    assert accuracy(2, lambda kind: kind < 2) > 0.98 and accuracy(2, lambda kind: kind % 2) > 0.98
    error = {latents: model.error(x).mean().item() for latents, (model, x, _) in creature_models.items()}
    assert error[2] < 0.5 * error[1]


def test_creatures_come_in_turn_and_differ_in_two_things():
    x, labels = autoencoders.creatures(4000, generator())
    assert labels[:5].tolist() == [0, 1, 2, 3, 0]
    assert len(autoencoders.FEATURES) == x.shape[1] and len(autoencoders.CREATURES) == 4
    assert pca.svd(x, 3).explained[1] > 0.9 and pca.svd(x, 3).explained[0] < 0.75


@pytest.mark.equation("eq-autoencoders-list", oracle="enumeration of the points")
def test_a_list_codes_any_finite_set_in_one_number_without_loss_and_nothing_else():
    x = torch.rand(500, 64, generator=generator())
    code = Lookup(x)
    z = code.encode(x)
    assert z.shape == (500, 1) and z.unique().numel() == 500
    assert torch.equal(code.decode(z), x)
    other = torch.rand(100, 64, generator=generator(1))
    assert ((code.decode(code.encode(other)) - other) ** 2).sum(-1).min() > 1
    steps = (code.decode(z[:-1] + 1 / 500) - x[:-1]).norm(dim=-1)
    assert steps.mean() > 2, "neighbors in code are no neighbors"


@pytest.mark.equation("eq-autoencoders-clash", oracle="numeric search for the largest error on a fine circle")
@pytest.mark.parametrize("trained", [False, True])
def test_a_continuous_code_of_one_number_fails_somewhere_on_the_circle_by_at_least_its_radius(trained):
    t = torch.linspace(0, 2 * pi, 401, dtype=torch.float64)[:-1]
    circle = torch.stack([t.cos(), t.sin()], -1)
    model = autoencoders.deep(2, 1, hidden=(32, 32), seed=2).double()
    if trained:
        fit(model, circle, 600, 1e-2)
    two = antipodal_clash(lambda x: model.encode(x).detach())
    assert torch.allclose(two[0], -two[1]) and torch.allclose(two.norm(dim=-1), torch.ones(2, dtype=torch.float64))
    z = model.encode(two)
    assert z[0].item() == pytest.approx(z[1].item(), abs=1e-9)
    assert model.error(two).max().sqrt() >= 1 - 1e-9
    assert model.error(circle).max().sqrt() > 0.95
    if trained:
        assert model.error(circle).mean() < 0.2, "the average hides it"


def sine(x: Tensor, root: float) -> Tensor:
    """The sine of each point's angle less the root, (batch, 1)."""
    return x @ torch.tensor([[-np.sin(root)], [np.cos(root)]], dtype=torch.float64)


@pytest.mark.equation("eq-autoencoders-clash", oracle="closed form: where a sine is 0")
@pytest.mark.parametrize("root, slope", [(0.4, 1.0), (0.4, -0.2), (2.0, 3.0), (0.0, 1.0)])
def test_a_linear_code_cannot_tell_the_points_across_its_own_direction(root, slope):
    here = torch.tensor([np.cos(root), np.sin(root)])
    assert torch.allclose(antipodal_clash(lambda x: 5 + slope * sine(x, root)), torch.stack([here, -here]))


def test_of_a_code_that_tells_no_opposite_points_apart_the_clash_is_at_angle_0():
    two = antipodal_clash(lambda x: x[:, :1] ** 2)
    assert torch.allclose(two, torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize(
    "offset, slope, jump, counts",
    [
        *((0, 0, 1e-6, False), (0, 0, 1.5e-6, True)),
        *((1000, 0, 0.9e-3, False), (1000, 0, 1.1e-3, True)),
        *((0, 1000, 0.8e-3, False), (0, 1000, 0.9e-3, True)),  # at angle 0 the code is -841
    ],
)
def test_a_jump_counts_above_a_millionth_of_one_and_the_code_at_angle_0(offset, slope, jump, counts):
    def encode(x):
        side = sine(x, 1.0)
        above = torch.where(side == 0, x[:, :1] > 0, side > 0)  # of the two points at the jump itself, one is above
        return offset + slope * side + jump * above.double()

    if counts:
        with pytest.raises(ValueError, match=r"at angle 1\.0000: it is not continuous"):
            antipodal_clash(encode)
    else:
        assert torch.allclose(antipodal_clash(encode)[0], torch.tensor([np.cos(1.0), np.sin(1.0)]))


def test_a_code_that_jumps_has_no_clash_and_says_so():
    with pytest.raises(ValueError, match=r"the code jumps by 3\.14 at angle .* not continuous"):
        antipodal_clash(lambda x: torch.atan2(x[:, 1:], x[:, :1]))


@pytest.mark.equation("eq-autoencoders-hole", oracle="numeric search along a fine walk between two codes")
@pytest.mark.parametrize("latents", [1, 2])
@pytest.mark.slow
def test_on_every_way_from_one_kind_to_another_a_decoder_passes_half_their_gap_from_all_data(creature_models, latents):
    model, x, labels = creature_models[latents]
    alive, rest = x[labels < 2], x[labels >= 2]
    gap = torch.cdist(alive, rest).min()
    start, end = model.encode(alive[:1]), model.encode(rest[:1])
    bow = torch.randn(1, latents, generator=generator())  # a way need not be straight
    t = torch.linspace(0, 1, 5001)[:, None]
    walk = model.decode(start + t * (end - start) + 4 * t * (1 - t) * bow).detach()
    assert torch.cdist(walk[:1], alive).min() < torch.cdist(walk[:1], rest).min()
    assert torch.cdist(walk[-1:], alive).min() > torch.cdist(walk[-1:], rest).min()
    assert torch.cdist(walk, x).amin(1).max() >= gap / 2 - 0.01  # a walk of steps, not quite the whole way


# What codes are good for


def test_a_probe_counts_what_a_line_can_tell():
    z = torch.linspace(-1, 1, 200)[:, None]
    assert autoencoders.probe(z, (z[:, 0] > 0.3).long(), z, (z[:, 0] > 0.3).long()) == pytest.approx(1, abs=0.02)
    between = (z[:, 0].abs() < 0.5).long()
    assert autoencoders.probe(z, between, z, between) < 0.6


def test_the_distance_to_data_is_to_the_nearest():
    data = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert autoencoders.distance_to_data(torch.tensor([[0.0, 1.0], [3.0, 4.0]]), data).tolist() == [1.0, 0.0]


# Bad input


def test_rows_of_the_wrong_length_are_an_error_that_says_what_to_do(no_shape_checks):
    model = autoencoders.deep(6, 2, hidden=(4,))
    with pytest.raises(ValueError, match=r"rows of 6 pixels; got \(5, 2, 3\). Flatten them"):
        model.encode(torch.zeros(5, 2, 3))
    with pytest.raises(ValueError, match=r"codes must end in 2 latents; got shape \(5, 3\)"):
        model.decode(torch.zeros(5, 3))
    for call in (model.encode, model.decode):
        with pytest.raises(ValueError, match=r"got (shape )?\(\)"):
            call(torch.tensor(1.0))


def test_a_bent_decoder_has_no_basis():
    with pytest.raises(TypeError, match="only a linear decoder"):
        autoencoders.decoder_basis(autoencoders.deep(6, 2))


def test_a_list_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="the list is empty"):
        Lookup(torch.zeros(0, 3))


def test_building_a_model_touches_no_other_randomness_and_a_seed_gives_it_again():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, again, other = (autoencoders.deep(6, 2, seed=seed).encoder[0].weight for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected) and torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.gpu
@needs_cuda
def test_a_gpu_gives_what_the_cpu_gives():
    x = datasets.load("digits").train[:50]
    model = autoencoders.convolutional((1, 8, 8), 3)
    here = model.error(x)
    assert torch.allclose(model.cuda().error(x.cuda()).cpu(), here, rtol=1e-4)


# Rows, and points far from the origin


def test_encoders_and_decoders_of_any_architecture_are_given_rows():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    model, x = Autoencoder(net, nn.Identity(), 3, 3).eval(), torch.randn(2, 5, 3, generator=generator())
    assert torch.equal(model.reconstruct(x)[1], model.reconstruct(x[1]))
    assert torch.allclose(model.reconstruct(x)[1, 2], model.reconstruct(x[1, 2])), "one row, and no batch"
    assert model.error(x.double()).dtype == torch.float32


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_a_list_gives_each_point_back_and_measures_distances_however_far_the_points_lie(offset):
    points = offset + torch.randn(40, 3, generator=generator())
    listed = Lookup(points)
    assert torch.equal(listed.decode(listed.encode(points)), points)
    exact = ((points[:, None] + 0.5 - points).double() ** 2).sum(-1).amin(1)
    assert torch.allclose(autoencoders.distance_to_data(points + 0.5, points).double(), exact, rtol=1e-3)


def test_a_code_beyond_the_list_is_the_point_at_its_end_and_rows_of_another_type_are_told_apart_in_the_lists():
    points = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    listed, rows = Lookup(points), points.double() + 0.1
    assert torch.equal(listed.decode(torch.tensor([[-0.5], [0.0], [0.9], [1.0], [7.0]])), points[[0, 0, 2, 2, 2]])
    assert torch.equal(listed.encode(rows), torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64) / 3)
    assert torch.allclose(autoencoders.distance_to_data(rows, points), torch.full((3,), 0.02))
