"""Build fashion-mnist-12k.npz: a class-balanced subset of Fashion-MNIST, the same bytes on every run.

    python models/data/build_fashion_mnist.py FOLDER [--out FILE]

FOLDER holds the four idx files of the full set, packed (.gz) or not: /usr/share/datasets/fashion-mnist after
`apt-get install dataset-fashion-mnist`, or ROOT/FashionMNIST/raw after torchvision's download.
The 10,000 training images come from the full training set, the 2,000 test images from the full test set.
"""

import argparse
import gzip
import io
import zipfile
from pathlib import Path

import numpy as np

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
TRAIN_A_CLASS, TEST_A_CLASS = 1000, 200
SEED = 20_170_825  # the day on which Fashion-MNIST was published


def read_idx(folder: Path, name: str) -> np.ndarray:
    """Return the array of an idx file: images (N, 28, 28) uint8 or labels (N,) uint8."""
    packed = folder / f"{name}.gz"
    data = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / name).read_bytes()
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def balanced(labels: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Return the sorted indices of `per_class` images of each class."""
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in range(len(CLASSES))]
    return np.sort(np.concatenate(chosen))


def build(folder: Path, out: Path) -> None:
    """Write the subset as an npz of uint8 arrays, with fixed time stamps inside."""
    rng = np.random.Generator(np.random.Philox(SEED))
    arrays: dict[str, np.ndarray] = {"classes": np.array(CLASSES)}
    for split, name, per_class in (("train", "train", TRAIN_A_CLASS), ("test", "t10k", TEST_A_CLASS)):
        images, labels = read_idx(folder, f"{name}-images-idx3-ubyte"), read_idx(folder, f"{name}-labels-idx1-ubyte")
        index = balanced(labels, per_class, rng)
        arrays |= {f"{split}_images": images[index], f"{split}_labels": labels[index], f"{split}_index": index.astype(np.uint16)}
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for key, array in sorted(arrays.items()):
            stream = io.BytesIO()
            np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, stream.getvalue(), compresslevel=9)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the four idx files are")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("fashion-mnist-12k.npz"))
    arguments = parser.parse_args()
    build(arguments.folder, arguments.out)
