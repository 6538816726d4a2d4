"""Begin a chapter: write the stubs of its five faces, and say what is to be filled in. What is there already stays.

python notebooks/source/new_chapter.py 08_regularizers    or: make chapter NAME=08_regularizers
"""

import keyword
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STUB = "To be written"

HEADER = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""

PAGE = """{header}# {title}

*To be written: a question in two or three sentences, with a figure to play with before any theory.*

:::{{admonition}} After this chapter you can
:class: tip
- *To be written: three to five objectives that an exercise checks.*

**You need** *to be written.* **Time**: 40 minutes, no computer.
Then the {{download}}`lab <../notebooks/{name}.ipynb>` and the [exercises](exercises/{name}.md).
:::

```{{takes}}
eq-elbo-gap *to be written: each equation of an earlier chapter that is needed, in a few words*
```

## The smallest case

*To be written: the case that shows the idea, in an exact world, by hand.*

## The theory

*To be written: one idea a paragraph, mathematics first, then code with the same letters; a reason beside each step. Labels of
equations begin with `eq-{slug}-`. Derivations by `{{derivation}}`.*

## Check it where the answer is known

*To be written.*

## The algorithm

*To be written: as a box, then the package's own code, by literalinclude from `vaecourse/{slug}`.*

## On real data

*To be written: train it here, look at what it learned; a number with its uncertainty, from stored results. What a run
showed is a claim.*

## How it fails

*To be written: the failure that the sources name, made on purpose, and its diagnosis. One thing varied at a time.*

## Quiz

*To be written: three to five questions, each aimed at a misconception, with answers that explain; two of them by
`{{question}}`.*

```{{gives}}
```

## Summary

*To be written: five lines; what the sources say, and where they err; further reading; links to the lab and the exercises.*
"""

LAB = """{header}# Lab {number}. {title}

45 minutes, in pairs. In every section **predict** before you touch anything, **run** the cell, move the controls, and only
then open **What happened**.

| | | minutes |
| --- | --- | --- |
| 0 | Set-up | 3 |
| 1 | *To be written* | 42 |
| | Open play | what is left |

+++

## 0. Set-up · 3 minutes

```{{code-cell}} ipython3
from vaecourse import figures, {slug}

figures.style()
```

## 1. *To be written* · 42 minutes

**Predict.** *To be written: what the page does not show.*

<details><summary><b>What happened</b></summary>

*To be written.*
</details>

## Open play

*To be written.*

+++

<details><summary><b>For the instructor</b></summary>

| section | expect | ask |
| --- | --- | --- |
| 1 | *To be written: the misconception.* | *To be written.* |
</details>
"""

ASSIGNMENT = """{header}# Exercises: {title}

*To be written: four to seven exercises, 60 to 120 minutes, 20 to 40 points in all; one of them mathematical, one experimental.
notebooks/source/assignments/README.md says how.*

{{{{exercises}}}}

```{{code-cell}} ipython3
:tags: [setup, id=packages]
import torch

from vaecourse.grading import checks
```

```{{code-cell}} ipython3
:tags: [known, id=known_answers]
```
"""

WRONG_ANSWERS = """# Wrong answers

*To be written: for every exercise at least three mistakes that people really make: the exercise's id as a heading, under it the
mistake's name, its message, its code.*
"""

MODULE = '"""To be written: what chapter {number} computes, in one line; then shapes, units and the equations\' labels."""\n'
TESTS = '"""To be written: for each equation of chapter {number} an oracle test; properties; what bad input is answered."""\n'


def sources(name: str) -> dict[str, str]:
    """The files of a chapter that are edited, by their paths in the repository, each with its stub."""
    slug = name[3:]
    module = f"vaecourse/{slug}/__init__.py" if (ROOT / "vaecourse" / slug).is_dir() else f"vaecourse/{slug}.py"
    assignment = f"notebooks/source/assignments/{name}"
    return {
        f"book/{name}.md": PAGE,
        f"notebooks/source/labs/{name}.md": LAB,
        f"{assignment}/assignment.md": ASSIGNMENT,
        f"{assignment}/wrong_answers.md": WRONG_ANSWERS,
        module: MODULE,
        f"tests/test_{slug}.py": TESTS,
    }


def generated(name: str) -> dict[str, str]:
    """The files of a chapter that are generated, each with what generates it."""
    return {
        f"notebooks/{name}.ipynb": f"python notebooks/source/build_labs.py {name}",
        f"notebooks/assignments/{name}.ipynb": "python -m vaecourse.grading build",
        f"book/exercises/{name}.md": "python -m vaecourse.grading build",
    }


def unfinished(name: str) -> list[str]:
    """What a chapter lacks: files that are missing, and stubs that are not filled in."""
    lacks = []
    for file in (*sources(name), *generated(name)):
        if not (ROOT / file).exists():
            lacks.append(f"{file} is missing")
        elif STUB in (ROOT / file).read_text("utf-8"):
            lacks.append(f"{file} is not written")
    return lacks


def fault(name: str) -> str | None:
    """What is wrong with a new chapter's name; None where nothing is."""
    if not re.fullmatch(r"\d\d_[a-z][a-z0-9_]*", name) or keyword.iskeyword(name[3:]):
        return f"{name!r} is no chapter's name: it is two digits, _, and a module's name, as in 08_regularizers"
    for page in (ROOT / "book").glob("[0-9][0-9]_*.md"):
        if page.stem != name and (page.stem[:2] == name[:2] or page.stem[3:] == name[3:]):
            return f"{page.stem} is a chapter already: number and name belong to one"
    return None


def begin(name: str) -> list[str]:
    """Write the stubs that are missing; their files. Raises ValueError where the name is no new chapter's."""
    if problem := fault(name):
        raise ValueError(problem)
    slug, title = name[3:], name[3:].replace("_", " ").capitalize()
    written = []
    for file, stub in sources(name).items():
        path = ROOT / file
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(stub.format(header=HEADER, name=name, slug=slug, number=int(name[:2]), title=title), "utf-8")
            written.append(file)
    return written


def main(name: str) -> None:
    written = begin(name)
    for file in sources(name):
        print(f"{'written' if file in written else 'there  '}  {file}")
    print(f"\nFill in what says {STUB!r}; CONTRIBUTING.md says how. A new module stands in FLOORS of vaecourse/__init__.py.")
    for file, command in generated(name).items():
        print(f"{command:<50} generates {file}")
    print(f"At last name book/{name} and book/exercises/{name} in _toc.yml. From then on a test names what is missing:")
    print("pytest tests/book/test_book.py -k five_faces")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:] or [""])
    except ValueError as error:
        sys.exit(str(error))
