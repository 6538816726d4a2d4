"""Graded exercises: one readable source an assignment, from which everything that is opened is generated.

`checks` is what a student's notebook imports, and needs no more than the book's package; `authoring` reads the source, `forms`
makes notebooks and pages of it (nbgrader, jupytext), `trials` runs them.
"""
