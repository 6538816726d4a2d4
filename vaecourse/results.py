"""Results: computed once, shown everywhere, replayed.

An experiment that costs more than a page may spend is a function of one case and a list of cases. `run` computes them into
`book/results/NAME.json`, one row a case, with where they come from; killed, it goes on with the next case that is missing.
Pages `load` the file; a test replays one small case and compares; `stale` names the files whose code has changed since.
"""

import inspect
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from math import isfinite
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vaecourse import provenance
from vaecourse.experiments import Experiment

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "book" / "results"
CHECKPOINTS = REPOSITORY / "checkpoints"


@dataclass(frozen=True)
class Results:
    """A stored experiment: `rows` hold each case's arguments and values together."""

    name: str
    rows: list[dict]
    about: dict

    def values(self, key: str, **arguments) -> np.ndarray:
        """The values under `key` of all rows with these arguments, one a row (usually one a seed)."""
        found = [row[key] for row in self.rows if all(row[name] == value for name, value in arguments.items())]
        if not found:
            raise KeyError(f"{self.name} has no row with {arguments}")
        return np.array(found)

    def spread(self, key: str, digits: int = 2, **arguments) -> str:
        """Mean and standard deviation of those values, as text: "22.99 ± 0.02"; a dash where a run has none.

        Beyond a million only the mean is given, by its power of ten.
        """
        values = self.values(key, **arguments)
        if any(value is None for value in values):
            return "–"
        if abs(values.mean()) > 1e6:
            return f"{values.mean():.0e}"
        return f"{values.mean():.{digits}f}\u00a0±\u00a0{values.std(ddof=1):.{digits}f}"  # spaces that do not break

    @property
    def caption(self) -> str:
        """Where the numbers come from, in a sentence."""
        seconds = self.about["seconds"]
        took = f"{seconds / 60:.0f} minutes" if seconds >= 100 else f"{max(seconds, 1):.0f} s"
        return f"Stored results of {self.about['date']}, {took} on {self.about['device']}."


@dataclass(frozen=True)
class Table:
    """Rows under a header, shown as a table by a page or a notebook; text may be Markdown."""

    header: list[str]
    rows: list[list[object]]

    def _repr_markdown_(self) -> str:
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def find(name: str) -> Experiment:
    """The experiment `vae.mistakes` is `mistakes` of vaecourse/experiments/vae.py. Raises LookupError for an unknown one."""
    module, _, attribute = name.partition(".")
    try:
        return getattr(import_module(f"vaecourse.experiments.{module}"), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise LookupError(f"there is no experiment {name!r}; there are {', '.join(names())}") from error


def names() -> list[str]:
    """All experiments, by module and attribute."""
    files = sorted((Path(__file__).parent / "experiments").glob("[a-z]*.py"))
    modules = {file.stem: import_module(f"vaecourse.experiments.{file.stem}") for file in files}
    return [f"{m}.{name}" for m, module in modules.items() for name, v in vars(module).items() if isinstance(v, Experiment)]


def code_hash(name: str) -> str:
    """The hash of the code that an experiment's numbers depend on."""
    return provenance.code_hash([f"vaecourse.experiments.{name.partition('.')[0]}"])


def _read(name: str) -> dict | None:
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None


def _write(name: str, stored: dict, tensors: dict[str, Tensor]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    if tensors:
        save_file(tensors, RESULTS / f"{name}.safetensors")
    partial_file = RESULTS / f"{name}.json.partial"
    partial_file.write_text(json.dumps(stored, indent=1) + "\n")
    os.replace(partial_file, RESULTS / f"{name}.json")


def _row(experiment: Experiment, name: str, arguments: dict) -> tuple[dict, dict[str, Tensor]]:
    """Compute one case: its row for the JSON file, and its tensors."""
    started = time.perf_counter()
    extra: dict[str, Path] = {}
    if "checkpoint" in inspect.signature(experiment.case).parameters:
        slug = "-".join(f"{key}={value}" for key, value in arguments.items())
        extra["checkpoint"] = CHECKPOINTS / f"{name}-{slug}.safetensors"
    values = experiment.case(**arguments, **extra)
    for checkpoint in extra.values():
        checkpoint.unlink(missing_ok=True)
    seconds = round(time.perf_counter() - started, 1)
    tensors = {key: value.detach().cpu().contiguous() for key, value in values.items() if isinstance(value, Tensor)}
    numbers = {key: value for key, value in values.items() if key not in tensors}
    numbers = {key: None if isinstance(v, float) and not isfinite(v) else v for key, v in numbers.items()}  # JSON has no NaN
    return {"arguments": arguments, "values": numbers, "seconds": seconds}, tensors


def _device() -> str:
    if torch.cuda.is_available():
        return f"a GPU ({torch.cuda.get_device_name()})"
    threads = torch.get_num_threads()
    return "one CPU thread" if threads == 1 else f"{threads} CPU threads"


def run(name: str) -> Results:
    """Compute the cases that the stored file lacks, printing each as it comes, and return the results.

    Rows that other code computed are not kept.
    """
    experiment, code = find(name), code_hash(name)
    stored, tensors = _read(name), {}
    if stored is None or stored["code"] != code:
        stored = {"experiment": name, "code": code, "rows": []}
    elif (RESULTS / f"{name}.safetensors").exists():
        tensors = load_file(RESULTS / f"{name}.safetensors")
    done = [row["arguments"] for row in stored["rows"]]
    missing = [arguments for arguments in experiment.cases if arguments not in done]
    for number, arguments in enumerate(missing, start=len(done) + 1):
        print(f"{name} {number}/{len(experiment.cases)}: {arguments}", flush=True)
        row, found = _row(experiment, name, arguments)
        print(f"    {row['values']} in {row['seconds']} s", flush=True)
        tensors |= {f"{len(stored['rows'])}.{key}": value for key, value in found.items()}
        stored["rows"].append(row)
        stored |= {
            "date": date.today().isoformat(),
            "device": _device(),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__.split("+")[0],
                "numpy": np.__version__,
            },
            "seconds": round(sum(row["seconds"] for row in stored["rows"]), 1),
        }
        _write(name, stored, tensors)
    if "replay" not in stored or missing:
        stored["replay"] = _row(experiment, name, experiment.replay)[0]
        _write(name, stored, tensors)
    return load(name)


def load(name: str) -> Results:
    """Read stored results. Raises FileNotFoundError, with the command that makes them, where there are none."""
    stored = _read(name)
    if stored is None:
        raise FileNotFoundError(f"no results of {name} are stored; compute them by: python -m vaecourse.experiments {name}")
    rows = [{**row["arguments"], **row["values"], "seconds": row["seconds"]} for row in stored["rows"]]
    file = RESULTS / f"{name}.safetensors"
    for key, value in (load_file(file) if file.exists() else {}).items():
        number, _, tensor_name = key.partition(".")
        rows[int(number)][tensor_name] = value
    return Results(name, rows, {key: value for key, value in stored.items() if key != "rows"})


def replay(name: str) -> tuple[dict, dict]:
    """Compute an experiment's small case again: (the values stored, the values now)."""
    now = _row(find(name), name, find(name).replay)[0]["values"]
    return load(name).about["replay"]["values"], json.loads(json.dumps(now))  # as they would be stored


def restamp(name: str, before: Path | None = None) -> list[str]:
    """Say that results come from today's code, if its small case gives the stored values to the last digit.

    So a renaming makes nobody compute anew what it did not touch. Processors round in their own ways: where the values were
    computed on another kind, `before` is a folder with the code that computed them, and the small case is compared with what
    that code gives here. Returns what differs, by name, and then changes nothing; seconds are not compared. Raises ValueError
    where cases are missing, or other code than that in `before` computed them, FileNotFoundError where nothing is stored.
    """
    load(name)
    stored = _read(name)
    if [row["arguments"] for row in stored["rows"]] != find(name).cases:
        raise ValueError(
            f"{name} does not hold the cases of today's experiment: compute it by python -m vaecourse.experiments {name}"
        )
    if before is None:
        then, now = replay(name)
    else:
        if (code := _told(before, f"results.code_hash({name!r})")) != stored["code"]:
            raise ValueError(f"{name} was computed by code {stored['code']}, and {before} holds {code}")
        then, now = (_told(folder, f"results.replay({name!r})[1]") for folder in (before, REPOSITORY))
    different = [key for key in then.keys() | now.keys() if "seconds" not in key and then.get(key) != now.get(key)]
    if not different:
        _write(name, stored | {"code": code_hash(name), "restamped": date.today().isoformat()}, {})
    return sorted(different)


def _told(folder: Path, what: str) -> Any:
    """What the package in a folder says, in a process of its own."""
    code = f"import json; from vaecourse import results; print(); print(json.dumps({what}))"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=os.environ | {"PYTHONPATH": "."}, stdout=PIPE, check=True
    )
    return json.loads(told.stdout.splitlines()[-1])


def stale() -> list[str]:
    """One line for each experiment whose file is missing, incomplete, or older than its code; none where all is well."""
    lines = []
    for name in names():
        stored = _read(name)
        if stored is None:
            lines.append(f"{name}: never computed")
        elif len(stored["rows"]) < len(find(name).cases):
            lines.append(f"{name}: {len(stored['rows'])} of {len(find(name).cases)} cases computed")
        elif stored["code"] != code_hash(name):
            lines.append(f"{name}: its code has changed since it was computed")
    return lines
