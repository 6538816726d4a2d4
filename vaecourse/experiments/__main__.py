"""python -m vaecourse.experiments: list the experiments and their state; with names, compute them."""

import sys

from vaecourse import results


def main(wanted: list[str]) -> None:
    """Compute the named experiments; without names, list all."""
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
