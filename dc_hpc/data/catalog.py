"""The official data sets, one entry each: what their files are, how they are read, and where they come from.

A further set is one more entry here, if its files have one of the forms that `official.py` reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Form:
    """One way in which the files of a data set come.

    reader: how they are read, one of `official.READERS`. files: path below the data root -> MD5 sum of the official
    file as it is read; of the idx files that is the uncompressed one, since Debian's package and the authors' server
    hold the same bytes under different gzip headers. archive: a tar.gz with these files, where there is one.
    """

    reader: str
    files: dict[str, str]
    archive: str = ""

    @property
    def folder(self) -> Path:
        """Where the files lie, below the data root."""
        return Path(next(iter(self.files))).parent


@dataclass(frozen=True)
class OfficialDataset:
    """A data set that the package fetches, verifies and loads.

    title: its name in tables and figures. channels: of an image, 1 or 3. train_images, test_images: their number.
    forms: the first is the one that torchvision downloads. torchvision: its class there. by_hand: what a person can do
    where nothing can be downloaded; {root} is the data root. package: a folder where a package of the system puts the
    compressed files.
    """

    title: str
    channels: int
    train_images: int
    forms: tuple[Form, ...]
    torchvision: str
    by_hand: str
    package: Path | None = None
    classes: int = 10
    test_images: int | None = None


DATASETS = {
    "fmnist": OfficialDataset(
        title="Fashion-MNIST",
        channels=1,
        train_images=60_000,
        test_images=10_000,
        torchvision="FashionMNIST",
        package=Path("/usr/share/datasets/fashion-mnist"),
        by_hand="install Debian's package (apt-get install dataset-fashion-mnist), put the four *-ubyte.gz files into "
        "{root}/FashionMNIST/raw",
        forms=(
            Form(
                "idx",
                {
                    "FashionMNIST/raw/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
                    "FashionMNIST/raw/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
                    "FashionMNIST/raw/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
                    "FashionMNIST/raw/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
                },
            ),
        ),
    ),
    "mnist": OfficialDataset(
        title="MNIST",
        channels=1,
        train_images=60_000,
        test_images=10_000,
        torchvision="MNIST",
        by_hand="put the four *-ubyte.gz files into {root}/MNIST/raw",
        forms=(
            Form(
                "idx",
                {
                    "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
                    "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
                    "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
                    "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
                },
            ),
        ),
    ),
    "svhn": OfficialDataset(
        title="SVHN",
        channels=3,
        train_images=73_257,
        test_images=26_032,
        torchvision="SVHN",
        by_hand="put train_32x32.mat and test_32x32.mat into {root}/SVHN",
        forms=(
            Form(
                "svhn",
                {
                    "SVHN/train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
                    "SVHN/test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
                },
            ),
        ),
    ),
    "cifar10": OfficialDataset(
        title="CIFAR10",
        channels=3,
        train_images=50_000,
        test_images=10_000,
        torchvision="CIFAR10",
        by_hand="put cifar-10-python.tar.gz or cifar-10-binary.tar.gz into {root}",
        forms=(
            Form(
                "cifar10",
                {
                    "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
                    "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                    "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                    "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
                    "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                    "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
                    "cifar-10-batches-py/batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
                },
                archive="cifar-10-python.tar.gz",
            ),
            Form(
                "cifar10-binary",
                {
                    "cifar-10-batches-bin/data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
                    "cifar-10-batches-bin/data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
                    "cifar-10-batches-bin/data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
                    "cifar-10-batches-bin/data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
                    "cifar-10-batches-bin/data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
                    "cifar-10-batches-bin/test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
                },
                archive="cifar-10-binary.tar.gz",
            ),
        ),
    ),
}
