"""The experiments of the chapter on PCA: how much of the digits a few directions keep, and how many a likelihood asks for.

The data: scikit-learn's 8 x 8 digits. Errors are squared distances summed over pixels, evidences nats an image.
"""

import torch

from vaecourse import datasets, pca
from vaecourse.exact_models import ProbabilisticPCA
from vaecourse.experiments import Experiment
from vaecourse.randomness import uniform

SEEDS = (0, 1, 2)
RANKS = (1, 2, 4, 8, 16, 24, 32, 40, 48, 56)


def keep(seed: int, ranks: tuple[int, ...] = RANKS) -> dict:
    """Principal components of 4 in 5 images: errors and exact evidence by the number of components, there and on the rest.

    kept: the share of all images' variance that the components of all of them keep. Evidences are of pixels with uniform noise
    of one gray level added, since a pixel that is black in all images has no density.
    """
    digits = datasets.load("digits")
    images = torch.cat([digits.train, digits.test]).double()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, test = images[order].tensor_split([4 * len(images) // 5])
    basis = pca.svd(train, max(ranks))
    noise = torch.Generator().manual_seed(seed)
    smooth = [(16 * part + uniform(part.shape, part, noise)) / 17 for part in (train, test)]
    models = [ProbabilisticPCA.fit(smooth[0], k) for k in ranks]
    return {
        "ranks": list(ranks),
        "kept": [pca.svd(images, 1).explained[k - 1].item() for k in ranks],
        "error_train": [basis.error_by_rank[k].item() for k in ranks],
        "error_test": [basis.truncated(k).error(test).mean().item() for k in ranks],
        "evidence_train": [model.evidence(smooth[0]).mean().item() for model in models],
        "evidence_test": [model.evidence(smooth[1]).mean().item() for model in models],
        "c": [model.c for model in models],
    }


digits = Experiment(keep, [{"seed": seed} for seed in SEEDS], {"seed": 0, "ranks": (1, 2)})


def scale(factor: float, seed: int) -> dict:
    """One of the companies' eight figures in another unit, `factor` times as large: what the first component then is.

    weight: the square of its entry for that figure. kept: the share of all variance that it keeps.
    """
    x, _ = pca.shares(2000, torch.Generator().manual_seed(seed))
    scaled = x.clone()
    scaled[:, -1] *= factor
    basis = pca.eigen(scaled, 1)
    return {"weight": basis.components[-1, 0].item() ** 2, "kept": basis.explained[0].item()}


scaling = Experiment(
    scale,
    [{"factor": factor, "seed": seed} for factor in (0.1, 1.0, 3.0, 10.0, 100.0) for seed in SEEDS],
    {"factor": 3.0, "seed": 0},
)
