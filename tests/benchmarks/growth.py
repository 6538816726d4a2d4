"""How time and memory grow with the data, the dimensions, the codes and the length of chains, with the fitted exponents.

    python tests/benchmarks/growth.py

Each size runs in a process of its own, on the CPU with one thread, so that its peak of memory is its own; seconds are the
fastest of three. The growth of coordinate ascent for a mixture is measured by mixture.py. Writes
book/results/growth.benchmark.json: for each algorithm what varies, the exponents of time and memory by least squares on the
logarithms, over all sizes and over the last two.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from harness import machine
from torch import Tensor
from tqdm import tqdm

from vaecourse import metrics, pca, results, samplers, vae, vq_vae
from vaecourse.vq_vae2 import prior as code_prior

Prepared = Callable[[], object]


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def components(method: str, n: int, d: int) -> Prepared:
    x = normal(n, d)
    return lambda: getattr(pca, method)(x, min(10, d))


def chains(steps: int) -> Prepared:
    start = normal(1000, 10)
    return lambda: samplers.langevin(lambda z: 0.5 * (z**2).sum(-1), start, 0.1, steps, torch.Generator(), every=steps)


def quantize(n: int, k: int) -> Prepared:
    book, z = vq_vae.EMACodebook(normal(k, 16)), normal(n, 16)
    return lambda: book(z)


def bound(k: int) -> Prepared:
    model, x = vae.bernoulli_vae(64, 8), (normal(100, 64) > 0).float()
    return torch.no_grad()(lambda: model.iwae_bound(x, k, torch.Generator()))


def frechet(d: int) -> Prepared:
    a, b = normal(2000, d), normal(2000, d)
    return lambda: metrics.frechet_distance(a, b)


def codes(length: int) -> Prepared:
    model = code_prior.CodePrior(64, length, width=32, heads=2, layers=2).eval()
    return lambda: model.sample(8, torch.Generator())


CASES: dict[str, tuple[Callable[..., Prepared], str, list[dict]]] = {
    "PCA by eigenvectors, n": (components, "n", [{"method": "eigen", "n": n, "d": 64} for n in (10_000, 40_000, 160_000)]),
    "PCA by eigenvectors, d": (components, "d", [{"method": "eigen", "n": 4000, "d": d} for d in (128, 256, 512, 1024)]),
    "PCA by SVD, d": (components, "d", [{"method": "svd", "n": 4000, "d": d} for d in (128, 256, 512, 1024)]),
    "PCA in a random subspace, d": (components, "d", [{"method": "randomized", "n": 4000, "d": d} for d in (256, 512, 1024)]),
    "Langevin dynamics, steps": (chains, "steps", [{"steps": steps} for steps in (100, 400, 1600)]),
    "nearest codes, n": (quantize, "n", [{"n": n, "k": 128} for n in (10_000, 40_000, 160_000)]),
    "nearest codes, k": (quantize, "k", [{"n": 10_000, "k": k} for k in (128, 512, 2048)]),
    "importance-weighted bound, k": (bound, "k", [{"k": k} for k in (50, 200, 800)]),
    "Fréchet distance, d": (frechet, "d", [{"d": d} for d in (64, 128, 256, 512)]),
    "codes sampled with a cache, length": (codes, "length", [{"length": length} for length in (32, 64, 128, 256)]),
}


def measure(case: str, arguments: dict) -> dict:
    """Seconds, the fastest of three, and the peak of memory beyond what was there before, in this process."""
    run = CASES[case][0](**arguments)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {**arguments, "seconds": min(seconds), "megabytes": megabytes}


def exponent(sizes: list[float], values: list[float]) -> float | None:
    """The slope of the logarithms; None where a value is too small to be seen."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0]) if min(values) > 0 else None


def main() -> None:
    rows = []
    for case, (_, varies, cases) in tqdm(CASES.items()):
        command = [sys.executable, __file__, case]
        points = [
            json.loads(subprocess.run([*command, json.dumps(one)], check=True, capture_output=True, text=True).stdout)
            for one in cases
        ]
        sizes = [point[varies] for point in points]
        row: dict = {"what": case, "varies": varies}
        for key in ("seconds", "megabytes"):
            values = [point[key] for point in points]
            row[f"{key}_exponent"], row[f"{key}_exponent_at_the_end"] = (
                exponent(sizes, values),
                exponent(sizes[-2:], values[-2:]),
            )
        rows.append({**row, "points": points})
    report = {"machine": machine(), "settings": {"best_of": 3}, "rows": rows}
    (results.RESULTS / "growth.benchmark.json").write_text(json.dumps(report, indent=1) + "\n")
    for row in rows:
        exponents = "  ".join(
            f"{key}^{row[f'{key}_exponent']:.2f}" if row[f"{key}_exponent"] is not None else f"{key} not seen"
            for key in ("seconds", "megabytes")
        )
        print(f"{row['what']:<40}{exponents}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1], json.loads(sys.argv[2]))))
    else:
        main()
