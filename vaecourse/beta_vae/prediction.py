"""Scores from predicting factors by codes: SAP, one latent at a time, and DCI, all of them at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from vaecourse.beta_vae import checks
from vaecourse.beta_vae.information import gap


def interval_accuracy(codes: Float[Tensor, "n latents"], values: Int[Tensor, " n"]) -> Float[Tensor, " latents"]:
    """The best balanced accuracy of predicting the value (0, 1, ...) by the interval in which a latent lies.

    The mean over values v of P(z_j in an interval that says v | v), at the cuts and answers that make it largest.
    Exact, for as many intervals as values, each with the value that is best: by dynamic programming over the sorted codes.
    Guessing scores 1 / values. Equation eq-beta_vae-interval-accuracy.
    """
    count = int(values.max()) + 1
    ordered, order = codes.sort(dim=0)
    share = functional.one_hot(values, count).to(codes) / values.bincount(minlength=count)
    below = functional.pad(share[order].cumsum(0), (0, 0, 0, 0, 1, 0))  # (n + 1, latents, values): share of a value so far
    may_cut = functional.pad(ordered.diff(dim=0) > 0, (0, 0, 1, 1), value=True)
    best = torch.full_like(below[..., 0], -torch.inf)  # recall summed over values, with a cut here
    best[0] = 0
    for _ in range(count):
        best = (below + (best[..., None] - below).cummax(0).values).amax(-1)
        best = torch.where(may_cut, best, -torch.inf)
    return best[-1] / count


def sap(codes: Float[Tensor, "n latents"], factors: Int[Tensor, "n factors"], *, categorical: Sequence[int] = ()) -> float:
    """Separated attribute predictability: mean over factors of the gap between the two latents that tell most of it.

    How much one latent tells: the squared correlation for ordered factors, `interval_accuracy` for those whose numbers are in
    `categorical`. From 0 to 1; a categorical factor adds at most 1 - 1 / values. Equation eq-beta_vae-sap; Kumar, Sattigeri and
    Balakrishnan (2018). Raises ValueError or TypeError for codes and factors that are not (n, latents) floats and (n, factors)
    integers, a factor that never varies, one latent, and a number that is no factor's.
    """
    codes, indices = checks.codes_and_values(codes, factors, least=2)
    if not all(0 <= k < len(indices) for k in categorical):
        raise ValueError(f"categorical factors are numbers from 0 to {len(indices) - 1}; got {list(categorical)}")
    z = checks.standardized(codes)
    columns = []
    for k, index in enumerate(indices):
        if k in categorical:
            columns.append(interval_accuracy(codes, index))
        else:
            v = checks.standardized(factors[:, k, None].to(codes))
            columns.append((z * v).mean(0).square())
    return gap(torch.stack(columns, 1)).mean().item()


@dataclass(frozen=True)
class DCI:
    """Eastwood and Williams (2018), each from 0 to 1."""

    disentanglement: float
    """Whether each latent matters to one factor."""
    completeness: float
    """Whether each factor needs one latent."""
    informativeness: float
    """How well factors are predicted."""


def _concentration(shares: Float[Tensor, "rows choices"]) -> Float[Tensor, " rows"]:
    """1 - entropy in units of log choices; one choice is as concentrated as can be."""
    choices = shares.shape[1]
    return 1 + torch.special.xlogy(shares, shares).sum(1) / np.log(choices) if choices > 1 else shares[:, 0]


def dci_of(importance: Float[Tensor, "latents factors"]) -> tuple[float, float]:
    """Disentanglement and completeness of a table that says how much each latent matters to each factor.

    Disentanglement: 1 - entropy of a latent's shares among the factors, in units of log factors, averaged over latents by
    their weight in the table (eq-beta_vae-disentanglement). Completeness: 1 - entropy of a factor's shares among the latents,
    in units of log latents, averaged over factors (eq-beta_vae-completeness); a factor that nothing predicts has 0. A
    table of zeros has 0 and 0. Raises ValueError for negative or infinite entries.
    """
    if importance.ndim != 2 or importance.numel() == 0 or not ((importance >= 0) & importance.isfinite()).all():
        raise ValueError(f"importance must be a table (latents, factors) of finite numbers >= 0; got {importance}")
    if importance.sum() == 0:
        return 0.0, 0.0
    by_latent, by_factor = importance.sum(1), importance.sum(0)
    latents, factors = by_latent > 0, by_factor > 0
    weights = by_latent / by_latent.sum()
    among_factors = _concentration(importance[latents] / by_latent[latents, None])
    among_latents = _concentration((importance / by_factor.clamp(min=torch.finfo(importance.dtype).tiny)).T[factors])
    return (weights[latents] @ among_factors).item(), (among_latents.sum() / len(by_factor)).item()


LASSO_PENALTY = 0.02  # on standardized codes and factors: what correlates by less with what is left is not used
TREES = 40  # so that each row is out of the bag of some tree


def dci(
    codes: Float[Tensor, "n latents"], factors: Int[Tensor, "n factors"], *, predictor: str = "forest", seed: int = 0
) -> DCI:
    """`dci_of` what a predictor finds important, and how well it predicts: scikit-learn's, one for each factor.

    predictor: "lasso", linear, for factors whose values are ordered; importance is the absolute coefficient between
    standardized code and factor, informativeness the explained share of the factor's variance. "forest", for any: trees of
    leaves of at least 5 rows, importance is the share in the reduction of impurity, informativeness the accuracy on the rows
    that a tree was not grown on. Both are those of the paper; gradient-boosted trees score otherwise. `seed` is the forest's.
    Raises ValueError or TypeError for codes and factors that are not (n, latents) floats and (n, factors) integers, a factor
    that never varies, and another predictor.
    """
    if predictor not in ("lasso", "forest"):
        raise ValueError(f'predictor must be "lasso" or "forest"; got {predictor!r}')
    codes, indices = checks.codes_and_values(codes, factors)
    z = checks.standardized(codes).cpu().numpy()
    fitted = [
        _lasso(z, checks.standardized(column[:, None].to(codes)).cpu().numpy()[:, 0])
        if predictor == "lasso"
        else _forest(z, index.cpu().numpy(), seed)
        for column, index in zip(factors.unbind(1), indices, strict=True)
    ]
    importance = torch.from_numpy(np.stack([column for column, _ in fitted], 1))
    return DCI(*dci_of(importance), float(np.mean([predicted for _, predicted in fitted])))


def _lasso(z: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, float]:
    from sklearn.linear_model import Lasso

    model = Lasso(alpha=LASSO_PENALTY, tol=1e-7, max_iter=10_000).fit(z, v)
    return np.abs(model.coef_), model.score(z, v)


def _forest(z: np.ndarray, v: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(TREES, max_features=None, min_samples_leaf=5, oob_score=True, random_state=seed).fit(z, v)
    return model.feature_importances_, model.oob_score_
