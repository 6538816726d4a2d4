"""Graded exercises, in four parts; each imports itself and those before it, and no other.

What stands here, beside the commands, is the student's: `checks` and `statistics`, which notebooks import, and `selfcheck`.
`authoring` makes notebooks of an assignment's text and tries them out. `marking` runs what was handed in, in a sandbox, and
judges it. `course` keeps a class: submissions, gradebook, pages.
"""
