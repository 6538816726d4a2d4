"""python -m vaecourse.experiments: list the experiments and their state; with names, compute them.

python -m vaecourse.experiments --restamp [NAME...]: of those whose code has changed, or of the named ones, keep what today's
code replays to the last digit. What it does not, has to be computed again.

python -m vaecourse.experiments --restamp --before FOLDER [NAME...]: on a processor of another kind, which rounds otherwise:
keep what gives the same digits here as the code in FOLDER, which computed them.
"""

import sys
from pathlib import Path

import torch

from vaecourse import results
from vaecourse.datasets import DataError


def restamp(wanted: list[str]) -> None:
    """Replay the named experiments, or all stale ones; exit with 1 where one gives other values."""
    before = Path(wanted[1]).resolve() if wanted[:1] == ["--before"] else None
    wanted = wanted[2:] if before else wanted
    failed = False
    for name in wanted or [line.split(":")[0] for line in results.stale()]:
        try:
            different = results.restamp(name, before)
        except (LookupError, ValueError, FileNotFoundError, DataError) as error:
            different = [str(error)]
        failed |= bool(different)
        print(f"{name:24} {'not kept: ' + ', '.join(different) if different else 'replayed to the digit'}", flush=True)
    sys.exit(int(failed))


def main(wanted: list[str]) -> None:
    """Compute the named experiments; without names, list all."""
    torch.set_num_threads(1)  # sums come out the same on all machines; and small tensors make threads wait for one another
    if wanted[:1] == ["--restamp"]:
        restamp(wanted[1:])
    if not wanted:
        notes = dict(line.split(": ", 1) for line in results.stale())
        for name in results.names():
            print(f"{name:24} {notes.get(name, 'stored, up to date')}")
        print("\npython -m vaecourse.experiments NAME... computes; stopped, it goes on where it was.")
    for name in wanted:
        try:
            print(results.run(name).caption)
        except LookupError as error:
            sys.exit(error.args[0])


if __name__ == "__main__":
    main(sys.argv[1:])
