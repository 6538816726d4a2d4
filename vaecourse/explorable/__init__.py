"""Figures a reader can move: in a notebook, in the built book with no kernel and no network, and still on paper.

- `figure(draw, alt, **controls)`: a Matplotlib figure over a few controls. In a notebook it is drawn anew as a control
  moves; in a page of the book all its states are drawn when the book is built.
- `latent_plane(model, shape, alt, ...)`: a plane to drag a point over, or a slider a latent, and the image that a decoder,
  run in the page, makes.
- `code_grid(model, codes, shape, alt)`: the grid of words that an image is to a VQ-VAE; one is changed, the image decoded.
- `langevin(means, covariances, alt, ...)`: chains that walk, in the page, over a mixture of Gaussians in the plane, or, with
  `potential=`, over a learned energy or prior given on a grid.
- `sketchpad(model, shape, images, alt, ...)`: a place to draw; the drawing's code, its posterior, and its reconstruction.
- `on_plane(function, reach)`: numbers over a plane, on a grid, of which figures make bands of color.

`alt` says in words what there is to see, and is required.
"""

from vaecourse.explorable.code_grid import code_grid
from vaecourse.explorable.figure import figure
from vaecourse.explorable.grid import on_plane
from vaecourse.explorable.langevin import langevin
from vaecourse.explorable.latent_plane import latent_plane
from vaecourse.explorable.sketchpad import sketchpad

__all__ = ["code_grid", "figure", "langevin", "latent_plane", "on_plane", "sketchpad"]
