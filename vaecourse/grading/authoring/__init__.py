"""From text to notebooks: one readable source an assignment, from which everything that is opened is generated.

`assignment` reads the source, `forms` makes notebooks and pages of it (nbgrader, jupytext), `trials` runs them,
`build` does so on all cores, and `release` packs what the students get.
"""
