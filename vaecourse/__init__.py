"""The package behind the book: one module a chapter, on a ground floor of shared ones.

Modules are the public names, `from vaecourse import vae`, and are imported when first used, so that
`import vaecourse` costs nothing.
"""

from importlib import import_module

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 (by floors)
    # ground floor
    "datasets",
    "distributions",
    "exact_models",
    "figures",
    "metrics",
    "networks",
    "processes",
    "randomness",
    "samplers",
    "training",
    # chapters
    "pca",
    "autoencoders",
    "elbo",
    "cavi",
    "gradients",
    "fvi",
    "vae",
    "regularizers",
    "priors",
    "beta_vae",
    "vq_vae",
    "vq_vae2",
    "avae",
    "vaebm",
    # what shows them
    "explorable",
    "results",
]


def __getattr__(name: str):
    if name in __all__:
        return import_module(f"vaecourse.{name}")
    raise AttributeError(f"module 'vaecourse' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
