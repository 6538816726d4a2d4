"""What the benchmarks share: timing in turn, ratios within a round, and where the figures were taken."""

import json
import os
import platform
import random
from collections.abc import Callable

import numpy as np
import torch
from tqdm import tqdm

from vaecourse import results

Timed = Callable[[], float]  # runs a block once, and gives its time in seconds


def machine() -> dict:
    """Where a benchmark ran."""
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_at_start": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def quartiles(values: np.ndarray) -> dict[str, float]:
    """Median and quartiles."""
    return dict(zip(("low", "median", "high"), np.quantile(values, (0.25, 0.5, 0.75)).tolist(), strict=True))


def in_turn(blocks: dict[str, Timed], rounds: int, what: str) -> dict[str, np.ndarray]:
    """The seconds of each block in each round; in every round all run once, in a new order.

    What else the machine does weighs on all alike, and ratios are to be taken within a round.
    """
    times: dict[str, list[float]] = {name: [] for name in blocks}
    for _ in tqdm(range(rounds), desc=what):
        for name in random.sample(list(blocks), len(blocks)):
            times[name].append(blocks[name]())
    return {name: np.array(values) for name, values in times.items()}


def table(times: dict[str, np.ndarray], reference: str, **about) -> list[dict]:
    """One row a block: milliseconds, and quartiles of its ratio to the reference in the same round."""
    return [
        {"what": name, **about, "milliseconds": 1000 * float(np.median(t)), "ratio": quartiles(t / times[reference])}
        for name, t in times.items()
    ]


def write(name: str, settings: dict, rows: list[dict], **more) -> dict:
    """Write book/results/NAME.benchmark.json; what is in it."""
    report = {"machine": machine(), "settings": settings, "rows": rows, **more}
    (results.RESULTS / f"{name}.benchmark.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def store(name: str, settings: dict, rows: list[dict], **more) -> None:
    """Write book/results/NAME.benchmark.json, which a chapter shows, and print it."""
    report = write(name, settings, rows, **more)
    print(f"\n{name}: {report['machine']['cores']} cores, {report['machine']['threads']} threads")
    for row in rows:
        about = {key: value for key, value in row.items() if key not in ("what", "milliseconds", "ratio")}
        ratio = "{median:.3f} ({low:.3f} to {high:.3f})".format(**row["ratio"])
        print(f"{row['what']:<44}{row['milliseconds']:>10.3f} ms   {ratio}   {about or ''}")
