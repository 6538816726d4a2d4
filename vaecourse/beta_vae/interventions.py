"""Scores that hold one factor fixed and ask which one it was: those of beta-VAE and of FactorVAE.

Both are accuracies: guessing scores 1 / factors. Rows with a given value are drawn from the table with replacement, so that
on a full grid the other factors are independent and uniform.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Generator, Tensor
from torch.nn import functional

from vaecourse.beta_vae import checks
from vaecourse.randomness import indices, own_generator, uniform


@dataclass(frozen=True)
class _Groups:
    """The rows of the table by the value of one factor: `rows` sorted by it, where each value's begin, how many there are."""

    value: Int64[Tensor, " n"]
    rows: Int64[Tensor, " n"]
    first: Int64[Tensor, " values"]
    count: Int64[Tensor, " values"]

    @classmethod
    def of(cls, value: Int64[Tensor, " n"]) -> "_Groups":
        count = value.bincount()
        return cls(value, value.argsort(stable=True), count.cumsum(0) - count, count)

    def draw(self, value: Int64[Tensor, "*draws"], generator: Generator) -> Int64[Tensor, "*draws"]:
        """A row for each value, from those that have it."""
        u = uniform(tuple(value.shape), torch.empty(0, dtype=torch.float64, device=value.device), generator, None)
        return self.rows[self.first[value] + (u * self.count[value]).long()]


def _in_turn(values: list[Tensor], trials: int) -> list[tuple[int, _Groups]]:
    """Each factor and how its rows are drawn; there are `trials` of each. Raises ValueError where there is one factor only."""
    if len(values) < 2:
        raise ValueError("one factor only: which one was fixed is no question. At least 2 are needed")
    if trials < 1:
        raise ValueError(f"trials of each factor must be at least 1; got {trials}")
    return [(k, _Groups.of(value)) for k, value in enumerate(values)]


def beta_vae_score(
    codes: Float[Tensor, "n latents"], factors: Int[Tensor, "n factors"], *, pairs: int = 64, trials: int = 200, seed: int = 0
) -> float:
    """The accuracy of a linear classifier that tells which factor was fixed (eq-beta_vae-score).

    A trial: `pairs` of rows, each pair alike in factor k and otherwise independent; its features are the mean |difference| of
    each latent, standardized. `trials` of each factor fit a logistic regression, as many others are classified. Higgins et al.
    (2017). Two factors rotated by 30 degrees still score 1: only patterns that agree, as at 45 degrees, lower it.
    Raises ValueError or TypeError for codes and factors that are not (n, latents) floats and (n, factors) integers, a factor
    that never varies, one factor, and pairs or trials < 1.
    """
    from sklearn.linear_model import LogisticRegression

    codes, values = checks.codes_and_values(codes, factors)
    groups = _in_turn(values, trials)
    if pairs < 1:
        raise ValueError(f"pairs in a trial must be at least 1; got {pairs}")
    generator = own_generator(seed)
    features = []
    for _, group in groups:
        one = indices(len(codes), (2 * trials, pairs), codes, generator, None)
        other = group.draw(group.value[one], generator)
        features.append((codes[one] - codes[other]).abs().mean(1))
    table = checks.standardized(torch.cat(features)).reshape(len(groups), 2, trials, -1)
    fixed = np.repeat(np.arange(len(groups)), trials)
    fit, test = (table[:, half].flatten(0, 1).cpu().numpy() for half in (0, 1))
    return float(LogisticRegression(max_iter=1000).fit(fit, fixed).score(test, fixed))


def factor_vae_score(
    codes: Float[Tensor, "n latents"], factors: Int[Tensor, "n factors"], *, rows: int = 64, trials: int = 200, seed: int = 0
) -> float:
    """The accuracy of a majority vote that tells which factor was fixed by the latent that varies least.

    Equation eq-beta_vae-factor-score. A trial: `rows` rows alike in factor k; its vote is the latent of least variance, in
    units of its variance over the table.
    `trials` of each factor say which factor each latent stands for, as many others are classified. Kim and Mnih (2018).
    Latents that never vary have no vote, and codes with no other score 0; the paper leaves out what the model does not use,
    here the caller may.
    Raises ValueError or TypeError for codes and factors that are not (n, latents) floats and (n, factors) integers, a factor
    that never varies, one factor, rows < 2, and trials < 1.
    """
    codes, values = checks.codes_and_values(codes, factors)
    groups = _in_turn(values, trials)
    if rows < 2:
        raise ValueError(f"a variance needs at least 2 rows in a trial; got {rows}")
    z = checks.standardized(codes)
    z = z[:, z.any(0)]
    if z.shape[1] == 0:
        return 0.0
    generator = own_generator(seed)
    votes = []
    for _, group in groups:
        value = group.value[indices(len(z), (2 * trials,), z, generator, None)]
        drawn = group.draw(value[:, None].expand(-1, rows), generator)
        votes.append(z[drawn].var(1).argmin(1))
    ballots = functional.one_hot(torch.stack(votes), z.shape[1]).reshape(len(groups), 2, trials, -1)
    fit, test = ballots.sum(2).unbind(1)  # (factors, latents) votes each
    stands_for = fit.argmax(0)
    return (test.gather(0, stands_for[None]).sum() / test.sum()).item()
