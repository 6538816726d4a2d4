"""Notebooks for the small assignment by people who would rather have its points than solve it.

Each `Hostile` builds a submission from the solved notebook, and says what it may earn and what the student must be told. A bomb
ends by itself, well after any limit, so that a hole in the sandbox is a failed test and not a dead machine.
"""

from hostile import bombs, breakouts, endless, forgeries, notebooks, values
from hostile.attacks import Host, Hostile, dumps

HOSTILE = [attack for part in (endless, bombs, values, forgeries, breakouts, notebooks) for attack in part.attacks]

__all__ = ["HOSTILE", "Host", "Hostile", "dumps"]
