"""The costly experiments of the book, one file a chapter. `python -m vaecourse.experiments` lists and computes them."""
