"""How long a Bayesian mixture takes to a given ELBO, beside scikit-learn's and bayespy's; and how time and memory grow.

    python tests/benchmarks/mixture.py

fits 10 Gaussians of full covariance to generated clusters, in double precision, on the CPU with one thread. The book's mixture
and scikit-learn's BayesianGaussianMixture start from the same responsibilities under the same prior and go through the same
sweeps, which is checked, so the same number of sweeps is the same ELBO; each time is that of all a user calls: the set-up, the
start, the sweeps, each with its bound. bayespy 0.6.6 has the same start; its Normal-Wishart node does not run, so its means and
precisions have factors of their own, and its bound is another model's; being slow it goes through a tenth of the sweeps, its
time is taken ten times, and it sits out rounds once it has had a minute. All in turn, in a new order each round; times are
compared within a round, so that what else the machine does weighs on all alike. Writes what chapter 4 shows,
book/results/cavi.benchmark.json.
"""

import json
import os
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np
import sklearn
import torch
from harness import machine, quartiles
from torch import Tensor
from tqdm import tqdm

from vaecourse import cavi, results
from vaecourse.experiments.cavi import clusters, scikit_learn

K, SWEEPS, ROUNDS = 10, 20, 7
SIZES = list(product((10_000, 100_000), (2, 16)))  # points, dimensions
THREADS = 1
GROWTH = {  # what varies, the others fixed
    "n": [(n, 8, 10) for n in (10_000, 30_000, 100_000, 300_000, 1_000_000)],
    "dim": [(20_000, dim, 10) for dim in (4, 8, 16, 32, 64)],
    "k": [(20_000, 8, k) for k in (4, 8, 16, 32, 64, 128)],
}

Fit = Callable[[Tensor, Tensor], float]  # data and responsibilities -> the last bound, for the check


def soft(n: int, k: int) -> Tensor:
    noise = torch.rand(n, k, generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** 8
    return noise / noise.sum(1, keepdim=True)


def ours(x: Tensor, responsibilities: Tensor) -> float:
    model = cavi.GaussianMixture(x, K)
    return cavi.fit(model, model.start_from(responsibilities), sweeps=SWEEPS, tolerance=0.0, progress=False).elbo


def theirs(x: Tensor, responsibilities: Tensor) -> float:
    return float(scikit_learn(x, responsibilities, SWEEPS, 1e-12).lower_bound_)


def bayespy() -> Fit:
    """The mixture of bayespy's manual; raises ImportError where it is not installed."""
    from bayespy.inference import VB
    from bayespy.nodes import Categorical, Dirichlet, Gaussian, Mixture, Wishart

    def fit(x: Tensor, responsibilities: Tensor) -> float:
        prior, dim = cavi.NormalWishart.default(x), x.shape[1]
        alpha = Dirichlet(np.full(K, 1 / K))
        z = Categorical(alpha, plates=(len(x),))
        mu = Gaussian(prior.m[0].numpy(), torch.linalg.inv(prior.W_inverse[0]).numpy(), plates=(K,))
        precision = Wishart(float(dim), prior.W_inverse[0].numpy(), plates=(K,))
        y = Mixture(z, Gaussian, mu, precision)
        z.initialize_from_parameters(responsibilities.numpy())
        y.observe(x.numpy())
        vb = VB(y, precision, mu, z, alpha, tol=0)
        vb.update(precision, mu, alpha, repeat=1, verbose=False)
        vb.update(z, precision, mu, alpha, repeat=SWEEPS // 10, tol=0, verbose=False)
        return float(vb.L[SWEEPS // 10])

    return fit


def compare(fits: dict[str, Fit], n: int, dim: int) -> list[dict]:
    """One row a library: its seconds, and how many times ours they are."""
    x, responsibilities = clusters(n, dim, K, seed=0, distance=1.5), soft(n, K)
    same = ours(x, responsibilities) - theirs(x, responsibilities)
    one_sweep = cavi.GaussianMixture(x, K)
    steps = list(cavi.ascend(one_sweep, one_sweep.start_from(responsibilities), sweeps=2, tolerance=0.0))
    reference = scikit_learn(x, responsibilities, 2, 1e-12).lower_bounds_
    assert np.allclose([step.elbo - bound for step, bound in zip(steps[1:], reference, strict=True)], same, atol=1e-6 * n)
    times: dict[str, list[float]] = {name: [] for name in fits}
    for _ in tqdm(range(ROUNDS), desc=f"{n} points, {dim} dimensions"):
        for name in random.sample(list(fits), len(fits)):
            scale = 10 if name.startswith("bayespy") else 1
            if scale > 1 and sum(times[name]) > scale * 60:
                times[name].append(np.nan)
                continue
            started = time.perf_counter()
            fits[name](x, responsibilities)
            times[name].append(scale * (time.perf_counter() - started))
    rows = []
    for name in fits:
        seconds, ratios = np.array(times[name]), np.array(times[name]) / np.array(times["vaecourse"])
        run = ~np.isnan(seconds)
        row = {"library": name, "n": n, "dim": dim, "rounds": int(run.sum()), "seconds": quartiles(seconds[run])}
        rows.append({**row, "over_ours": quartiles(ratios[run])})
    return rows


def peak(reset: bool = False) -> float:
    """This process's peak of memory since the last reset, in megabytes, by Linux's /proc; elsewhere 0."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def grow(n: int, dim: int, k: int) -> dict:
    """Seconds a sweep, the fastest of several, and the peak of memory beyond the given data's, in this process."""
    x = clusters(n, dim, k, seed=0)
    before = peak(reset=True)
    model = cavi.GaussianMixture(x, k)
    set_up = peak() - before
    before = peak(reset=True)
    q = model.start_at(x[:k])
    started_with = peak() - before
    before, seconds = peak(reset=True), []
    for _ in range(5 if n * dim * k > 5e6 else 10):
        started = time.perf_counter()
        for update in model.updates():
            q = update(q)
        model.elbo(q)
        seconds.append(time.perf_counter() - started)
    megabytes = {"set_up": set_up, "start": started_with, "sweeps": peak() - before}
    return {"n": n, "dim": dim, "k": k, "seconds": min(seconds), "megabytes": megabytes, "data_megabytes": n * dim * 8e-6}


def exponent(sizes: list[float], values: list[float]) -> float | None:
    """The slope of the logarithms; None where there is nothing to see."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0]) if min(values) > 0 else None


def growth() -> list[dict]:
    """One row for each of n, dim and k: the measurements, and the exponents of time and peak memory by least squares.

    Each measurement has a process of its own, so that its peak of memory is its own.
    """
    rows = []
    for name, sizes in GROWTH.items():
        command = [sys.executable, __file__, "grow"]
        points = [
            json.loads(subprocess.run([*command, *map(str, size)], check=True, capture_output=True, text=True).stdout)
            for size in tqdm(sizes, desc=f"growth with {name}")
        ]
        varied, row = [point[name] for point in points], {"varies": name}
        for key, values in {
            "seconds": [point["seconds"] for point in points],
            "megabytes": [max(point["megabytes"].values()) for point in points],
        }.items():
            row[f"{key}_exponent"] = exponent(varied, values)
            row[f"{key}_exponent_at_the_end"] = exponent(varied[-2:], values[-2:])
        rows.append({**row, "points": points})
    return rows


def main() -> None:
    torch.set_num_threads(THREADS)
    fits: dict[str, Fit] = {"vaecourse": ours, f"scikit-learn {sklearn.__version__}": theirs}
    warnings.simplefilter("ignore")
    try:
        fits[f"bayespy {version('bayespy')}"] = bayespy()
    except ImportError:
        print("bayespy is not installed: pip install bayespy==0.6.6 to have it in the table")
    about = machine()
    rows = [row for n, dim in SIZES for row in compare(fits, n, dim)]
    settings = {"rounds": ROUNDS, "sweeps": SWEEPS, "k": K}
    report = {"machine": about, "settings": settings, "rows": rows, "growth": growth()}
    (results.RESULTS / "cavi.benchmark.json").write_text(json.dumps(report, indent=1) + "\n")

    print(f"\n{about['cores']} cores, {THREADS} thread, load {about['load_at_start']} at the start; {SWEEPS} sweeps, k = {K}")
    print(f"{'library':<20}{'n':>8}{'dim':>5}{'seconds':>9}   times ours")
    for row in rows:
        ratio = "{median:.2f} ({low:.2f} to {high:.2f})".format(**row["over_ours"])
        print(f"{row['library']:<20}{row['n']:>8}{row['dim']:>5}{row['seconds']['median']:>9.3f}   {ratio}")
    for row in report["growth"]:
        print({key: value for key, value in row.items() if key != "points"})


if __name__ == "__main__":
    if sys.argv[1:2] == ["grow"]:
        torch.set_num_threads(THREADS)
        print(json.dumps(grow(*map(int, sys.argv[2:]))))
    else:
        # The libraries' threads are set before they are loaded.
        if os.environ.get("OMP_NUM_THREADS") != str(THREADS):
            threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
            os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **threads})
        main()
