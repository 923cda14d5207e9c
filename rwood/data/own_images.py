"""One's own folders of images: their classes, seeded splits, sizes and pixel statistics."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from rwood.config.new_study import ImageFacts, input_size
from rwood.data import decode, transform
from rwood.data.listing import Listing, check_classes, digest_of, read_folder, subfolders
from rwood.data.sample import sampled_rows
from rwood.data.transform import Transform
from rwood.errors import DataError
from rwood.text import count_of

PART_FOLDERS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Folder, in small letters -> the part of the ID set that it holds, if it is alone or one of two.

OOD images may lie beside; a lone `train` beside other folders is a class.
"""
SHARE = 0.2
"""Of each class that val and test each get where they have no folder; at least one image."""
SPLIT_SEED = 0
SAMPLED = 500
"""Images whose sizes and pixels are measured."""


def own_splits(folder: Path) -> dict[str, Listing]:
    """ID train, val and test: its folders of these names, or a seeded draw from each class.

    The folder holds `train`, and perhaps `val` and `test`, or the class folders themselves.

    Returns:
        The three parts; paths start from `folder`, and the labels are the same in all.

    Raises:
        DataError: no class folder, an image in none, or a class too small to draw from.
    """
    given = given_parts(folder)
    names = subfolders(folder / given["train"] if given else folder)
    if len(names) < 2:
        raise DataError(
            f"{folder} has {count_of(len(names), 'class folder')}: ID images lie in one folder a "
            "class, and two classes are the least"
        )
    if not given:
        whole = read_folder(folder, name=folder.name, class_names=names)
        return _split(whole, names, ("val", "test"))
    parts = {part: _below(folder, name, names) for part, name in given.items()}
    check_classes(parts["train"], names)
    drawn = tuple(part for part in ("val", "test") if part not in parts)
    return parts | _split(parts["train"], names, drawn)


def given_parts(folder: Path) -> dict[str, str]:
    """Part of the ID set -> the folder that holds it; empty if the folders are the classes.

    Raises:
        DataError: no such folder, or one part twice.
    """
    there = subfolders(folder)
    named = [name for name in there if name.lower() in PART_FOLDERS]
    given = {PART_FOLDERS[name.lower()]: name for name in named}
    if "train" not in given or (len(named) == 1 < len(there)):
        return {}
    if len(given) < len(named):
        raise DataError(f"{folder}: {', '.join(named)} name one part of the ID set twice")
    return given


def check_apart(ood: Path, folder: Path, parts: Mapping[str, Listing]) -> None:
    """Refuse a folder of OOD images that is the ID folder, or lies in it as a class.

    Raises:
        DataError: it holds images of a part.
    """
    below = os.path.relpath(ood.resolve(), folder.resolve())
    every = (path for files in parts.values() for path in files.paths)
    if below == "." or any(path.startswith(f"{below}/") for path in every):
        raise DataError(f"{ood} holds images of the ID set {folder}: they cannot be OOD too")


def list_text(files: Listing) -> str:
    """The files as a list in OpenOOD's form: `<relative path> <label>` a line.

    Raises:
        DataError: a file's name has a line end, or is no UTF-8.
    """
    for path in files.paths:
        if re.search(r"[\n\udc80-\udcff]", path):
            raise DataError(f"{path!r} has no place in a list of files: give it another name")
    rows = zip(files.paths, files.labels_N, strict=True)
    return "".join(f"{path} {label}\n" for path, label in rows)


def key_of(folder: Path) -> str:
    """The name of a folder as a key of a benchmark: lower case, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_") or "images"


def measure(train: Listing, image_size: int | None) -> ImageFacts:
    """Sizes and pixel statistics of ID train, from at most `SAMPLED` images, evenly spread.

    `image_size` is that of the encoder's input; None: by the images' own size.

    Raises:
        DataError: an image cannot be read.
    """
    rows = sampled_rows(len(train), SAMPLED)
    sides, grey = [], True
    for image in _images(train, rows):
        sides.append(min(image.size))
        grey = grey and _is_grey(image)
    side = int(np.median(sides))
    size, channels = image_size or input_size(side), 1 if grey else 3
    how = Transform(channels, size, size)
    pixels_NHWC = np.stack([transform.apply(image, how) for image in _images(train, rows)])
    values = pixels_NHWC.reshape(-1, channels) / 255
    return ImageFacts(
        images=len(train),
        classes=int(train.labels_N.max()) + 1,
        channels=channels,
        side=side,
        image_size=size,
        mean=tuple(round(float(value), 4) for value in values.mean(axis=0)),
        std=tuple(max(0.01, round(float(value), 4)) for value in values.std(axis=0)),
    )


def _below(folder: Path, part: str, names: Sequence[str]) -> Listing:
    """The images of a part, with paths that start from the whole folder."""
    files = read_folder(folder / part, name=f"{folder.name}/{part}", class_names=names)
    paths = [f"{part}/{path}" for path in files.paths]
    return replace(files, root=folder, paths=paths, digest=digest_of(paths, files.labels_N))


def _split(whole: Listing, names: Sequence[str], drawn: Sequence[str]) -> dict[str, Listing]:
    """Some parts drawn from each class by `SPLIT_SEED`, and what is left of it as train."""
    generator = np.random.default_rng(SPLIT_SEED)
    part_N = np.full(len(whole), "train")
    for label, name in enumerate(names):
        rows = generator.permutation(np.flatnonzero(whole.labels_N == label))
        if len(rows) <= len(drawn):
            raise DataError(
                f"class {name} has {count_of(len(rows), 'image')}, and {', '.join(drawn)} and "
                "train need one each: add images, or give each part a folder"
            )
        share = max(1, round(SHARE * len(rows)))
        for i, part in enumerate(drawn):
            part_N[rows[i * share : (i + 1) * share]] = part
    rows_of = {part: np.flatnonzero(part_N == part) for part in ("train", *drawn)}
    return {part: whole.take(rows, whole.labels_N[rows]) for part, rows in rows_of.items()}


def _images(files: Listing, rows: Sequence[int]) -> Iterator[Image.Image]:
    return (decode.load(files.path(row), files.remedy) for row in rows)


def _is_grey(image: Image.Image) -> bool:
    """True if no pixel has a colour."""
    if image.mode in ("L", "1") or image.mode.startswith("I"):
        return True
    pixels_HWC = np.asarray(image.convert("RGB"))
    return bool((pixels_HWC == pixels_HWC[:, :, :1]).all())
