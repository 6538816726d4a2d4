"""A small assignment, of parts to choose from: three functions, a student's own number and a sentence. Nothing is slow."""

from pathlib import Path

from nbformat import NotebookNode

from vaecourse.grading.authoring import forms
from vaecourse.grading.authoring.assignment import REGION, Assignment, read

SLUG = "90_small"
SECRET = "the-examiner" + "s-own-secret"
"""Stands in whatever a student must not read: hidden tests, the seed, the gradebook, another student's notebook."""

EXERCISES = ("twice", "norm", "settings")
POINTS = 9
"""What machines give for the three: 1 for the visible and 2 for the hidden test of each. A person has 2 more for the text."""

BEGIN = """\
# Exercises: a small assignment

Nothing slow.

```{code-cell} ipython3
:tags: [setup, id=packages]
import torch

from vaecourse.grading import checks
```

```{code-cell} ipython3
:tags: [known, id=known_answers]
```
"""
PARTS = {
    "twice": f"""
## Twice

Double a number.

```{{code-cell}} ipython3
:tags: [solution, id=twice, minutes=5, difficulty=easy]
def twice(x):
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION
```

```{{code-cell}} ipython3
:tags: [test, id=twice_visible, points=1]
check("double", twice(3))
```

```{{code-cell}} ipython3
:tags: [test, id=twice_hidden, points=2]
# Hidden tests run here.
### BEGIN HIDDEN TESTS
# {SECRET}
numbers = torch.randn(5, generator=checks.hidden_generator("twice")).tolist()
for number, got in zip(numbers, map(twice, numbers)):
    checks.compare("double", got, 2 * number)
### END HIDDEN TESTS
```
""",
    "draw": """
Your own number: the first draw of your own generator.

```{code-cell} ipython3
:tags: [entry, id=draw]
student = ""
own = None
### BEGIN SOLUTION
student = "Ada"
own = torch.rand((), generator=checks.own_generator("twice", student))
### END SOLUTION
```

```{code-cell} ipython3
:tags: [test, id=draw_hidden, points=1]
# Hidden tests run here.
### BEGIN HIDDEN TESTS
checks.compare("your draw", own, torch.rand((), generator=checks.own_generator("twice", student)))
### END HIDDEN TESTS
```
""",
    "norm": f"""
## Norm

The length of a vector.

```{{code-cell}} ipython3
:tags: [solution, id=norm, minutes=5, difficulty=easy]
def norm(v):
    ### BEGIN SOLUTION
    return v.square().sum().sqrt()
    ### END SOLUTION
```

```{{code-cell}} ipython3
:tags: [test, id=norm_visible, points=1]
check("norm", norm(torch.tensor([3.0, 4.0])))
```

```{{code-cell}} ipython3
:tags: [test, id=norm_hidden, points=2]
# Hidden tests run here.
### BEGIN HIDDEN TESTS
# {SECRET}
v = torch.randn(5, generator=checks.hidden_generator("norm"))
got = norm(v)
checks.compare("norm", got, v.norm())
### END HIDDEN TESTS
```
""",
    "settings": f"""
## Settings

A dictionary: `"half"` of n, and its `"powers"` 1, 2 and 3.

```{{code-cell}} ipython3
:tags: [solution, id=settings, minutes=5, difficulty=easy]
def settings(n):
    ### BEGIN SOLUTION
    return {{"half": n / 2, "powers": [n, n**2, n**3]}}
    ### END SOLUTION
```

```{{code-cell}} ipython3
:tags: [test, id=settings_visible, points=1]
check("settings", settings(3))
```

```{{code-cell}} ipython3
:tags: [test, id=settings_hidden, points=2]
# Hidden tests run here.
### BEGIN HIDDEN TESTS
# {SECRET}
n = 1 + torch.rand((), generator=checks.hidden_generator("settings")).item()
checks.compare("settings", settings(n), {{"half": n / 2, "powers": [n, n**2, n**3]}})
### END HIDDEN TESTS
```
""",
    "why": """
Why is a dictionary better than a tuple here?

+++ {"tags": ["answer", "id=why", "points=2"]}

Its parts have names.
""",
}
WRONG = {
    "twice": """
## twice

### squared

squared,
not doubled.

```python
return x**2
```

### one_more

one more, not twice.

```python
return x + 1
```

### itself

the number itself.

```python
return x
```
""",
    "norm": """
## norm

### no_root

the root is missing.

```python
return v.square().sum()
```

### absolute

absolute values were summed.

```python
return v.abs().sum()
```

### averaged

averaged, not summed.

```python
return v.square().mean().sqrt()
```
""",
    "settings": """
## settings

### doubled

doubled, not halved.

```python
return {"half": 2 * n, "powers": [n, n**2, n**3]}
```

### from_zero

the powers begin with 0.

```python
return {"half": n / 2, "powers": [1, n, n**2]}
```

### multiples

multiples, not powers.

```python
return {"half": n / 2, "powers": [n, 2 * n, 3 * n]}
```
""",
}


def texts(*parts: str) -> tuple[str, str]:
    """The text of an assignment of these parts, and of the wrong answers to it."""
    wrong = "".join(WRONG[part] for part in parts if part in WRONG)
    return BEGIN + "".join(PARTS[part] for part in parts), f"# Wrong answers\n{wrong}"


def assignment(sources: Path, *parts: str) -> Assignment:
    """The assignment of these parts, or of three exercises and a sentence, written to a folder and read from there."""
    text, wrong = texts(*parts or (*EXERCISES, "why"))
    folder = sources / SLUG
    folder.mkdir(parents=True)
    (folder / "assignment.md").write_text(text, "utf-8")
    (folder / "wrong_answers.md").write_text(wrong, "utf-8")
    return read(folder)


def solved(source: NotebookNode) -> NotebookNode:
    """The student's notebook of any assignment, all of it solved."""
    notebook = forms.student(source)
    for cell, right in zip(notebook.cells, source.cells, strict=True):
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = REGION.sub(r"\2", right.source)
    return notebook
