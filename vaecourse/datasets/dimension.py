"""How many coordinates it takes to say where in the data one is."""

import torch
from jaxtyping import Float
from torch import Tensor

from vaecourse.inputs import floats


def intrinsic_dimension(x: Float[Tensor, "n pixels"], *, neighbors: int = 2, chunk: int = 500) -> float:
    """The dimension of the set that the rows of x are drawn from, by maximum likelihood from distances to neighbors.

    Where the density is even, the k-th neighbor's distance T_k obeys E[log(T_k / T_j)] averaged over j < k = 1 / dimension;
    here it is averaged over all points, as MacKay and Ghahramani (2005) correct Levina and Bickel (2004, eq. 8). Two neighbors
    make it the TwoNN of Facco et al. (2017). With few points in a high dimension the estimate is too low: none is far inside.
    Raises ValueError for neighbors outside 2 to n - 1, and for rows that repeat, whose distances say nothing.
    """
    x = floats(x)
    if not 2 <= neighbors < len(x):
        raise ValueError(f"neighbors must lie between 2 and {len(x) - 1}, one less than the points; got {neighbors}")
    logs = []
    for rows in x.split(chunk):
        distances = torch.cdist(rows, x, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distances.topk(neighbors + 1, largest=False).values[:, 1:]  # the first is the point itself
        if not (nearest > 0).all():
            raise ValueError("some rows are equal (or not finite): remove repetitions, or add the noise the data should have")
        logs.append((nearest[:, -1:] / nearest[:, :-1]).log().mean(1))
    return 1 / torch.cat(logs).mean().item()
