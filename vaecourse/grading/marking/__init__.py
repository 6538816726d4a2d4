"""From a submission to its marks, across the boundary of trust: a student's code runs in a sandbox, tests outside of it.

`bubblewrap` is the sandbox, `sandbox` the student's kernel in it, `wire` what is said to the kernel and back, `judge` what
marks one notebook, and `lane` the process in which that is done for a `task`.
"""
