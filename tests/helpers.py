"""What the tests of many files share: seeded noise, float64 tensors, the rule of false alarms, and what is skipped where.

Whatever is drawn in a test is held to one rule: with other seeds a right answer would fail once in 10,000 (`assert_mean_is`).
"""

import importlib.util
import os
import sys
from importlib.resources import files
from math import sqrt
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
REAL_DATA = Path(os.environ.get("VAECOURSE_DATA") or ROOT.parent / "shared" / "data")
"""Files of published data sets, where there are any; the tests that need them are skipped elsewhere."""

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def generator(seed: int = 0) -> torch.Generator:
    """Noise with that seed."""
    return torch.Generator().manual_seed(seed)


def double(*values) -> Tensor:
    """The numbers as a float64 tensor."""
    return torch.tensor(values, dtype=torch.float64)


def accessibility_faults(page: Any, selector: str) -> list[tuple[str, str, list[str]]]:
    """What axe-core finds wrong with an element of a page in a browser: the theme, the rule, and where it is broken."""
    page.add_script_tag(content=files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    found = []
    for theme in ("light", "dark"):
        page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
        violations = page.evaluate("async at => (await axe.run(document.querySelector(at))).violations", selector)
        found += [(theme, fault["id"], [node["html"][:120] for node in fault["nodes"]]) for fault in violations]
    return found


def assert_mean_is(draws: Tensor | np.ndarray, exact: float, bias: float = 0.0) -> None:
    """The mean of independent draws agrees with the exact value; a right one fails for one seed in 10,000.

    `bias`: how far the mean may lie from it besides. Draws that scatter too much to tell anything fail, too.
    """
    draws = torch.as_tensor(draws).detach().double().flatten()
    error = draws.std().item() / sqrt(len(draws))
    assert error < 0.02 * (1 + abs(exact)), "too few draws to tell anything"
    assert abs(draws.mean().item() - exact) < bias + 3.9 * error


def load(file: Path) -> ModuleType:
    """A module of the repository that lies in no package, from its file."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(file.stem, module)  # where a dataclass looks for its own module
    spec.loader.exec_module(module)
    return module
