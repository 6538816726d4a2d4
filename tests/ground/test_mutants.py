"""The tool that judges the tests: what it changes, where it puts the change, and what it calls killed."""

import inspect
import json
import subprocess
from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest

from helpers import ROOT, load
from vaecourse import vae

judge = load(ROOT / "tests" / "mutants" / "judge.py")

FUNCTION = '''def excess(a: int, b: float = 2.0) -> float:
    """How much more."""
    if a < 0:
        raise ValueError("a is negative: a + 1")
    return a - b
'''


def test_each_mutant_has_one_change_and_words_are_left_alone():
    made = list(judge.mutants(FUNCTION, 10))
    assert {(mutant.line, mutant.after) for mutant in made} == {
        (12, "if a <= 0:"),
        (12, "if a < 1:"),
        (14, "return a + b"),
    }


def test_a_method_takes_the_place_of_its_own_and_super_means_the_same():
    class Base:
        def value(self):
            return 1

    class Sum(Base):
        def value(self):
            return super().value() + 1

    source = "def value(self):\n    return super().value() - 1\n"
    target = judge.Target("x.py", "Sum.value", set(), set())
    Sum.value.__code__ = judge.code_of(target, source, Sum.value.__code__)
    assert Sum().value() == 0


def test_every_target_is_a_function_that_python_runs_and_has_tests():
    found = judge.targets()
    assert len(found) > 300
    for target in found:
        source, line = judge.source_of(target)
        function = judge.function_of(target)
        assert inspect.isfunction(function), target.key
        assert source.startswith((f"def {function.__name__}(", f"def {function.__name__}[")), target.key
        assert function.__code__.co_firstlineno <= line, "decorators stand above"
        assert target.files, f"{target.key} has no test file"


def test_in_each_module_the_tests_kill_at_least_95_of_100_mutants():
    made, killed = Counter(), Counter()
    for key, score in json.loads(judge.SCORES.read_text("utf-8")).items():
        module = key.split(".")[1]
        made[module] += score["made"]
        killed[module] += score["killed"]
    assert sum(made.values()) > 6000
    assert {module: killed[module] for module in made if killed[module] < 0.95 * made[module]} == {}


def test_of_a_class_all_methods_are_judged():
    place = SimpleNamespace(file="vaecourse/vae.py", name="VAE")
    assert {"VAE.__init__", "VAE.loss"} <= set(judge.methods(place))
    assert judge.function_of(judge.Target("vaecourse/vae.py", "VAE.elbo", set(), set())) is inspect.unwrap(vae.VAE.elbo)


@pytest.mark.slow
def test_a_mutant_that_fails_a_test_or_never_ends_is_killed_and_one_that_passes_survives():
    def passes(mutant):
        while mutant == "endless":
            pass
        assert mutant != "raises"
        return None if mutant == "fails" else True

    stranger = subprocess.Popen(["false"])  # a process of somebody else, whose end is not ours to take
    names = ["endless", "raises", "fails", "equal"]
    found = judge.run([partial(passes, name) for name in names], [1.0] * 4)
    assert {names[one.place]: one.said for one in found} == {"endless": None, "raises": None, "fails": None, "equal": True}
    assert stranger.wait() == 1
