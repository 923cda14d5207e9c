"""Downloadable sets as OpenOOD's trees, and the lists that name their files.

File names are those of OpenOOD's lists, so that a list fits whether the tree came from OpenOOD or
from here: CIFAR `<split>/<class>/<number from 1>.png`, MNIST `<split>/<label>_<number>.jpg`, SVHN
`test/<number from 1>_<label>.jpg`; Tiny-ImageNet, DTD and Places365 keep their own. OpenOOD's MNIST
and SVHN are JPEG of a quality that is not published; here it is 95.

The split of a list among the files of a tree (which 1,000 test images are validation, which
classes were left out for their overlap) is a bitmap over their names in order, in `splits.json`;
`lists.json` has the checksum of the sorted list, so that a rebuilt list is proved right.
"""

import base64
import functools
import io
import itertools
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rwood.data import archives, listing, openood
from rwood.data.processes import Progress
from rwood.errors import DataError

TIN_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TIN_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
JPEG_QUALITY = 95


def tree(name: str, raw: Path, folder: Path, download: bool, progress: Progress) -> int:
    """Fill a tree from torchvision's files in `raw`, which are downloaded first if need be.

    Returns:
        Images in the tree.

    Raises:
        DataError: the download failed, or files are missing.
    """
    raw.mkdir(parents=True, exist_ok=True)
    try:
        total, files = _MAKERS[name](raw, download)
    except (OSError, RuntimeError, ValueError) as error:
        how = "be downloaded" if download else f"be read from {raw}"
        raise DataError(
            f"{name} cannot {how} ({error}); give a local copy: "
            f"`rwood data fetch {name} --from PATH`"
        ) from error
    done = 0
    for path, content in files:
        target = folder / path
        if not target.exists():
            archives.write_whole(target, content())
        done += 1
        progress(done, total)
    return done


Files = Iterator[tuple[str, Callable[[], bytes]]]
"""Path below the tree, and the file's content."""


def _cifar(kind: str, raw: Path, download: bool) -> tuple[int, Files]:
    from torchvision import datasets

    made = getattr(datasets, kind)
    splits = {s: made(raw, train=s == "train", download=download) for s in ("train", "test")}
    numbers: Counter[str] = Counter()

    def name(split: str, _: int, label: int) -> str:
        folder = f"{split}/{splits[split].classes[label]}"
        numbers[folder] += 1
        return f"{folder}/{numbers[folder]:04d}.png"

    return _pictures(splits, name)


def _mnist(raw: Path, download: bool) -> tuple[int, Files]:
    from torchvision.datasets import MNIST

    splits = {s: MNIST(raw, train=s == "train", download=download) for s in ("train", "test")}
    return _pictures(splits, lambda split, row, label: f"{split}/{label}_{row}.jpg")


def _svhn(raw: Path, download: bool) -> tuple[int, Files]:
    from torchvision.datasets import SVHN

    splits = {"test": SVHN(raw, split="test", download=download)}
    return _pictures(splits, lambda split, row, label: f"{split}/{row + 1:06d}_{label}.jpg")


def _pictures(splits: Mapping[str, Any], name: Callable[[str, int, int], str]) -> tuple[int, Files]:
    """The images of torchvision's datasets, by a name of their split, row and label."""

    def files() -> Files:
        for split, dataset in splits.items():
            for row, (image, label) in enumerate(dataset):
                path = name(split, row, label)
                yield path, functools.partial(_encoded, image, path)

    return sum(map(len, splits.values())), files()


def _texture(raw: Path, download: bool) -> tuple[int, Files]:
    from torchvision.datasets import DTD

    paths: dict[str, Path] = {}
    for split in ("train", "val", "test"):
        for path in DTD(raw, split=split, download=download)._image_files:
            paths[f"{Path(path).parent.name}/{Path(path).name}"] = Path(path)
    return _copied(paths)


def _places365(raw: Path, download: bool) -> tuple[int, Files]:
    from torchvision.datasets import Places365

    present = (raw / "val_256").is_dir()
    dataset = Places365(raw, split="val", small=True, download=download and not present)
    paths = {}
    for file, label in dataset.imgs:  # a class reads /f/field/cultivated
        category = "-".join(Path(dataset.classes[label]).parts[2:])
        paths[f"{category}/{Path(file).name}"] = Path(file)
    return _copied(paths)


def _tin(raw: Path, download: bool) -> tuple[int, Files]:
    from torchvision.datasets.utils import download_and_extract_archive

    unpacked = raw / "tiny-imagenet-200"
    if download and not unpacked.is_dir():
        download_and_extract_archive(TIN_URL, str(raw), md5=TIN_MD5)
    return _copied({f"val/images/{p.name}": p for p in (unpacked / "val" / "images").iterdir()})


def _copied(paths: dict[str, Path]) -> tuple[int, Files]:
    """Files as they are, by their path below the tree."""
    return len(paths), ((name, path.read_bytes) for name, path in sorted(paths.items()))


_MAKERS: dict[str, Callable[[Path, bool], tuple[int, Files]]] = {
    "cifar10": functools.partial(_cifar, "CIFAR10"),
    "cifar100": functools.partial(_cifar, "CIFAR100"),
    "mnist": _mnist,
    "svhn": _svhn,
    "texture": _texture,
    "places365": _places365,
    "tin": _tin,
}


def _encoded(image: Image.Image, path: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if path.endswith(".png") else "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def missing_lists(name: str, data_root: Path) -> list[str]:
    """Rebuild the lists of a tree that are not there; those that are there are left alone.

    Returns:
        Names of the lists written.

    Raises:
        DataError: a rebuilt list is not OpenOOD's, so the tree is not complete.
    """
    of_tree = [row for row in openood.table().values() if row.tree == name]
    missing = [row for row in of_tree if not row.list_path(data_root).exists()]
    if not missing:
        return []
    folder = missing[0].images(data_root) / name
    files = [f"{name}/{path}" for path in listing.images_below(folder)]
    for row in missing:
        lines = rebuilt(row.name, files)
        if openood.checksum(lines) != row.md5_sorted:
            raise DataError(
                f"{folder} does not hold what {row.name} lists ({len(lines):,} of {row.count:,} "
                f"images): delete it and fetch {name} again"
            )
        text = "".join(f"{line}\n" for line in lines)
        archives.write_whole(row.list_path(data_root), text.encode())
    return [row.name for row in missing]


def rebuilt(name: str, files: list[str]) -> list[str]:
    """Lines of a list, sorted, from the paths, below the image folder, of all files of its tree."""
    row = openood.table()[name]
    if row.tree in ("cifar10", "cifar100"):
        split = "train" if "/train_" in name else "test"
        files = [file for file in files if file.split("/")[1] == split]
    bits = _splits().get(name)
    if bits is not None:
        by_name = (lambda f: f) if row.tree.startswith("cifar") else os.path.basename
        chosen = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
        files = list(itertools.compress(sorted(files, key=by_name), chosen))
    labels: dict[str, Any] = {}
    if row.classes:
        labels = {c: i for i, c in enumerate(sorted({f.split("/")[2] for f in files}))}
    return sorted(f"{f} {labels[f.split('/')[2]] if labels else -1}" for f in files)


@functools.cache
def _splits() -> dict[str, bytes]:
    packed = openood.resource("splits.json")
    return {k: zlib.decompress(base64.b64decode(v)) for k, v in packed.items()}
