"""Scores from mutual information between latents and factors: MIG and modularity. All informations are in nats.

Two estimates: from codes cut into bins, or from the posteriors themselves, with no bins. They differ, and so do scores.
"""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.nn import functional

from vaecourse import importance
from vaecourse.beta_vae import checks
from vaecourse.distributions import Normal

BINS = 20


def _binned(codes: Tensor, bins: int) -> Tensor:
    """The bin of each code among `bins` of equal width from a latent's least value to its largest."""
    least, most = codes.amin(0), codes.amax(0)
    width = torch.where(most > least, most - least, 1.0)
    return ((codes - least) / width * bins).long().clamp(max=bins - 1)


def mutual_information(
    codes: Float[Tensor, "n latents"], factors: Int[Tensor, "n factors"], *, bins: int = BINS
) -> Float[Tensor, "latents factors"]:
    """I(bin of z_j; v_k) in nats from counts over the n rows (eq-beta_vae-binned-information).

    The sum over bins b and values v of p(b, v) log(p(b, v) / (p(b) p(v))), each p a share of the rows.
    Bins have equal width over a latent's range: scale and sign do not count, an outlier does. The count's estimate is biased
    upwards by about (bins - 1)(values - 1) / (2 n): many bins make every latent seem to know. Raises ValueError or TypeError
    for codes and factors that are not (n, latents) floats and (n, factors) integers, a factor that never varies, bins < 2.
    """
    codes, indices = checks.codes_and_values(codes, factors)
    if bins < 2:
        raise ValueError(f"bins must be at least 2; got {bins}")
    each = functional.one_hot(_binned(codes, bins), bins).to(codes)  # (n, latents, bins)
    columns = []
    for index in indices:
        joint = torch.einsum("njb,nv->jbv", each, functional.one_hot(index).to(codes)) / len(codes)
        independent = joint.sum(1, keepdim=True) * joint.sum(2, keepdim=True)
        columns.append((torch.special.xlogy(joint, joint) - torch.special.xlogy(joint, independent)).sum((1, 2)))
    return torch.stack(columns, 1).clamp(min=0)  # rounding may leave -1e-17


@torch.no_grad()
def posterior_information(
    q: Normal,
    factors: Int[Tensor, "n factors"],
    draws: int = 1,
    generator: Generator | None = None,
    *,
    chunk: int = 500,
) -> Float[Tensor, "latents factors"]:
    """I(z_j; v_k) in nats, z_j drawn from the posterior of its image: no bins (eq-beta_vae-posterior-information).

    The mean of log q(z_j | v_k) - log q(z_j), both exact mixtures of the n posteriors, over `draws` codes of each image: Chen
    et al. (2018). Monte Carlo noise, no bias; n^2 densities a latent, chunk x n at once. It measures what a draw
    tells, which is at most the latent's rate (eq-beta_vae-at-most); a posterior mean tells more.
    Raises ValueError or TypeError for posteriors and factors that are not (n, latents) floats and (n, factors) integers, a
    factor that never varies, draws < 1.
    """
    mu, indices = checks.codes_and_values(q.mu, factors)
    log_sigma = q.log_sigma.double()
    n, latents = mu.shape
    members = [functional.one_hot(index).to(mu) for index in indices]
    information = mu.new_zeros(latents, len(members))
    for z in importance.draw(Normal(mu, log_sigma), draws, generator):
        for start in range(0, n, chunk):
            rows = slice(start, start + chunk)
            for j in range(latents):
                log_q = -0.5 * ((z[rows, j, None] - mu[:, j]) * (-log_sigma[:, j]).exp()) ** 2 - log_sigma[:, j]
                density = (log_q - log_q.amax(1, keepdim=True)).exp()  # of each image's posterior; constants cancel
                marginal = density.mean(1)
                for k, (index, member) in enumerate(zip(indices, members, strict=True)):
                    own = index[rows, None]
                    of_value = (density @ member).gather(1, own)[:, 0] / member.sum(0)[own[:, 0]]
                    information[j, k] += (of_value / marginal).log().sum()
    return information / (n * draws)


def entropies(factors: Int[Tensor, "n factors"]) -> Float[Tensor, " factors"]:
    """H(v_k) = -sum over values v of p(v) log p(v) in nats, each p a share of the rows.

    Raises TypeError for factors that are not integers, ValueError where they are not (n, factors) or one never varies.
    """
    shares = [index.bincount().double() / len(index) for index in checks.values(factors)]
    return torch.stack([-torch.special.xlogy(share, share).sum() for share in shares])


def gap(table: Float[Tensor, "latents factors"]) -> Float[Tensor, " factors"]:
    """By how much the best latent of each factor is ahead of the next. Raises ValueError for fewer than two latents."""
    if table.ndim != 2 or len(table) < 2:
        raise ValueError(f"a gap is between the best two of at least 2 latents; got a table of shape {tuple(table.shape)}")
    best, second = table.topk(2, dim=0).values
    return best - second


def mig(codes: Float[Tensor, "n latents"], factors: Int[Tensor, "n factors"], *, bins: int = BINS) -> float:
    """The mutual information gap: mean over factors of (I best - I second) / H(v_k), from 0 to 1 (eq-beta_vae-mig).

    1: each factor is known by one latent, and by no other. Nothing is said of a latent that knows two factors. Chen et al.
    (2018), who take `posterior_information`: (gap(posterior_information(q, v)) / entropies(v)).mean(). Here codes
    are binned.
    Raises ValueError or TypeError for codes and factors that are not (n, latents) floats and (n, factors) integers, a factor
    that never varies, one latent, bins < 2.
    """
    codes, values = checks.codes_and_values(codes, factors, least=2)
    factors = torch.stack(values, 1)
    return (gap(mutual_information(codes, factors, bins=bins)) / entropies(factors)).mean().item()


def modularity(codes: Float[Tensor, "n latents"], factors: Int[Tensor, "n factors"], *, bins: int = BINS) -> float:
    """Whether each latent knows one factor only, from 0 to 1: `modularity_of` the binned informations.

    Equation eq-beta_vae-modularity. Raises ValueError or TypeError for codes and factors that are not (n, latents) floats and
    (n, factors) integers, a factor that never varies, one factor, bins < 2.
    """
    return modularity_of(mutual_information(codes, factors, bins=bins))


def modularity_of(information: Float[Tensor, "latents factors"]) -> float:
    """The mean over latents of 1 - sum of squared informations beside the largest / ((factors - 1) largest^2).

    Equation eq-beta_vae-modularity; Ridgeway and Mozer (2018), section 3. Latents with no information at all are left out,
    and without any other the score is 0. A factor that no latent knows does not lower it. Raises ValueError for one factor,
    with which every latent is modular.
    """
    if information.ndim != 2 or information.shape[1] < 2:
        raise ValueError(f"modularity needs a table of at least 2 factors; got shape {tuple(information.shape)}")
    largest = information.amax(1)
    knows = largest > 0
    if not knows.any():
        return 0.0
    others = information[knows].square().sum(1) - largest[knows] ** 2
    return (1 - others / ((information.shape[1] - 1) * largest[knows] ** 2)).mean().item()
