"""The package behind the book: one module a chapter, on a ground floor of shared ones.

Modules are the public names, `from vaecourse import vae`, and are imported when first used, so that
`import vaecourse` costs nothing.
"""

from importlib import import_module

__version__ = "0.1.0"

FLOORS: dict[str, tuple[str, ...]] = {
    "ground": (
        *("provenance", "processes", "inputs", "randomness", "distributions", "importance", "networks", "training", "samplers"),
        *("exact_models", "datasets", "metrics", "figures"),
    ),
    "chapters": (
        *("pca", "autoencoders", "elbo", "cavi", "gradients", "fvi", "vae", "regularizers", "priors", "beta_vae"),
        *("vq_vae", "vq_vae2", "avae", "vaebm"),
    ),
    "shows": ("explorable", "experiments", "results", "claims", "grading"),
}
"""The house. Modules of the ground floor may import one another; a chapter, the ground floor and earlier chapters; what shows
them, all of these. Nothing imports from above, and imports make no circle (`tests/ground/test_package.py`)."""

__all__ = [name for floor in FLOORS.values() for name in floor]


def __getattr__(name: str):
    if name in __all__:
        return import_module(f"vaecourse.{name}")
    raise AttributeError(f"module 'vaecourse' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
