"""Every named image set, one row each, and `open_set()`, the one door to images."""

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from rwood.config.benchmark import (
    BenchmarkConfig,
    ClassesSet,
    DerivedSet,
    FolderSet,
    HeldOutSet,
    ImageSetRef,
    ListSet,
    SubsetSet,
    WholeSetRef,
    whole_set,
)
from rwood.data import derived, digits, listing, openood, pixel_cache, processes, transform
from rwood.data.decode import FileImages
from rwood.data.derived import DerivedImages
from rwood.data.listing import Listing
from rwood.data.opened import ImageSet, as_ood, of_classes
from rwood.data.transform import Transform
from rwood.errors import SpecError
from rwood.text import count_of, did_you_mean

PACK_LIMIT = 64 * 2**30
"""Largest pack that `open_set` writes, in bytes; larger sets are decoded when they are read."""


@dataclass(frozen=True)
class NamedSet:
    """A row of the table."""

    count: int | None
    """Images it must have; None where nobody says."""
    classes: int
    """ID classes; 0 for an OOD set."""
    about: str
    """What it shows, in a few words."""


NAMED: dict[str, NamedSet] = {
    "digits/train": NamedSet(759, 7, "scikit-learn's digits 0-6, 60 %"),
    "digits/val": NamedSet(253, 7, "scikit-learn's digits 0-6, 20 %"),
    "digits/test": NamedSet(252, 7, "scikit-learn's digits 0-6, 20 %"),
    "digits/7": NamedSet(179, 0, "scikit-learn's digit 7"),
    "digits/8": NamedSet(174, 0, "scikit-learn's digit 8"),
    "digits/9": NamedSet(180, 0, "scikit-learn's digit 9"),
    "digits/flower": NamedSet(300, 0, "8x8 grey patches of scikit-learn's flower.jpg"),
    "digits/china": NamedSet(300, 0, "8x8 grey patches of scikit-learn's china.jpg"),
    "digits/permuted": NamedSet(252, 0, "digits/test, the pixels of each image permuted"),
} | {
    name: NamedSet(row.count, row.classes, f"images of {row.tree}, a list of OpenOOD v1.5")
    for name, row in openood.table().items()
}


def open_set(ref: ImageSetRef, benchmark: BenchmarkConfig, data_root: Path) -> ImageSet:
    """Open an image set: pixels after the test transform, and labels.

    Sets of files are packed at first use, by one process of a node while the others wait; a set
    whose pack would pass `PACK_LIMIT` is decoded when it is read. Opened once a process.

    Args:
        ref: a named set, a folder, a list, a part of one, or a set made of ID images.
        benchmark: channels and sizes; tells by its `id` and `shifted` sets which labels count.
        data_root: where image sets lie; embedded sets need none.

    Raises:
        DataError: the set is missing, short or corrupt.
        SpecError: no set has this name, or classes are held out of a benchmark that is no fold.
    """
    if isinstance(ref, DerivedSet):
        return _derived(ref, open_set(benchmark.id.val, benchmark, data_root))
    if isinstance(ref, HeldOutSet):
        return _held_out(benchmark, data_root)
    if isinstance(ref, ClassesSet):
        whole = _open(ref.of, ref.among, benchmark, data_root)
        return of_classes(whole, ref.classes, name_of(ref))
    return _open(ref, _classes_of(ref, benchmark), benchmark, data_root)


def has_files(ref: ImageSetRef) -> bool:
    """Whether there are files to list and to pack: not if embedded in a dependency, or derived."""
    whole = whole_set(ref)
    embedded = isinstance(whole, str) and whole.startswith("digits/")
    return not (embedded or isinstance(whole, DerivedSet | HeldOutSet))


def name_of(ref: ImageSetRef) -> str:
    """What messages call a set: its name, folder or list, and a part's images or classes."""
    if isinstance(ref, ClassesSet):
        return f"{name_of(ref.of)}, {len(ref.classes)} of {ref.among} classes"
    if isinstance(ref, SubsetSet):
        return f"{name_of(ref.of)}:{ref.images}"
    if isinstance(ref, str):
        return ref
    if isinstance(ref, DerivedSet):
        return f"id.val, {ref.derived}"
    if isinstance(ref, HeldOutSet):
        return "id.train, the classes held out"
    return ref.folder if isinstance(ref, FolderSet) else ref.list


def files_of(ref: ImageSetRef, benchmark: BenchmarkConfig, data_root: Path) -> Listing:
    """The files of a set that has some, listed once a process; opens none of them.

    Raises:
        DataError: list or folder is missing, or is not what it should be.
    """
    return _files(ref, _classes_of(ref, benchmark), _whole_train(benchmark), data_root)


def transform_of(ref: ImageSetRef, benchmark: BenchmarkConfig) -> Transform:
    """The test transform of a set. ImageNet-C comes cropped and is not resized, as in OpenOOD."""
    how = transform.of(benchmark)
    whole = whole_set(ref)
    row = openood.table().get(whole) if isinstance(whole, str) else None
    if row is not None and row.tree == "imagenet_c":
        return Transform(how.channels, how.size, how.size)
    return how


def check_name(name: str, where: str = "") -> None:
    """Refuse a name that is not in the table.

    Raises:
        SpecError: names the nearest right one.
    """
    if name in NAMED:
        return
    hint = did_you_mean(name, NAMED, "`rwood data list` shows the names", cutoff=0.4)
    raise SpecError(f"{where}{name} is not a known image set; {hint}", got=name)


def references(benchmark: BenchmarkConfig) -> Iterator[tuple[str, ImageSetRef]]:
    """Every image set of a benchmark under its dotted key, e.g. `near.tin`.

    Held-out classes are not among them: their images are those of `id.train`.
    """
    for part in ("train", "val", "test"):
        yield f"id.{part}", getattr(benchmark.id, part)
    for part in ("validation", "near", "far", "shifted"):
        for name, ref in getattr(benchmark, part).items():
            if not isinstance(ref, HeldOutSet):
                yield f"{part}.{name}", ref


def _classes_of(ref: ImageSetRef, benchmark: BenchmarkConfig) -> int | None:
    """Number of ID classes; None for an OOD set."""
    labelled = any(
        ref == other and key.startswith(("id.", "shifted.")) for key, other in references(benchmark)
    )
    return benchmark.classes if labelled else None


def _whole_train(benchmark: BenchmarkConfig) -> WholeSetRef:
    """The whole ID train set, whose folders number the classes."""
    train = whole_set(benchmark.id.train)
    assert not isinstance(train, DerivedSet | HeldOutSet)
    return train


def _open(
    ref: WholeSetRef | SubsetSet, classes: int | None, benchmark: BenchmarkConfig, data_root: Path
) -> ImageSet:
    """Open a whole set or a subset; `classes` None: an OOD set."""
    whole = whole_set(ref)
    if isinstance(whole, str):
        check_name(whole)
    how = transform_of(ref, benchmark)
    if not has_files(ref):
        return _embedded(ref, how)
    return _from_files(ref, classes, _whole_train(benchmark), how, data_root)


def _held_out(benchmark: BenchmarkConfig, data_root: Path) -> ImageSet:
    """The classes that `id.train` of a fold lacks: at most as many images as its ID val has."""
    train = benchmark.id.train
    if not isinstance(train, ClassesSet):
        raise SpecError(
            f"benchmark {benchmark.name}: classes are held out of a trial only; open a fold of it "
            "(`fold_of`)"
        )
    limit = len(open_set(benchmark.id.val, benchmark, data_root).labels_N)
    whole = _open(train.of, train.among, benchmark, data_root)
    left_out = tuple(label for label in range(train.among) if label not in train.classes)
    name = f"{name_of(train.of)}, {count_of(len(left_out), 'class', 'classes')} held out"
    return as_ood(of_classes(whole, left_out, name), limit)


@functools.cache
def _files(ref: ImageSetRef, classes: int | None, train: WholeSetRef, data_root: Path) -> Listing:
    whole = whole_set(ref)
    files, class_names = _listed(whole, classes, train, data_root)
    if isinstance(ref, SubsetSet):
        files = files.subset(ref.images)
    if class_names is not None and whole == train:
        listing.check_classes(files, class_names)
    return files.with_sizes() if isinstance(whole, ListSet) else files


@functools.cache
def _listed(
    ref: ImageSetRef, classes: int | None, train: WholeSetRef, data_root: Path
) -> tuple[Listing, list[str] | None]:
    """All files of a whole set, and the names of its classes, None for an OOD set."""
    names = None if classes is None else [str(label) for label in range(classes)]
    if isinstance(ref, str):
        files = openood.read(ref, data_root, ood=classes is None)
    elif isinstance(ref, ListSet):
        path = data_root / ref.list
        lines = listing.list_lines(listing.read_text(path, "the benchmark file names it"))
        files = listing.parse_list(
            lines,
            path,
            images=data_root / ref.images,
            classes=classes,
            name=ref.list,
            remedy=f"the list {path} names it",
        )
    else:
        assert isinstance(ref, FolderSet)
        if classes is not None:
            first = train if isinstance(train, FolderSet) else ref
            names = listing.class_folders(data_root / first.folder, classes)
        files = listing.read_folder(data_root / ref.folder, name=ref.folder, class_names=names)
    return files, names


@functools.cache
def _from_files(
    ref: ImageSetRef, classes: int | None, train: WholeSetRef, how: Transform, data_root: Path
) -> ImageSet:
    files = _files(ref, classes, train, data_root)
    workers = processes.processors()
    packed = pixel_cache.pack_path(files, how, data_root).exists()
    if not packed and pixel_cache.pack_bytes(len(files), how) > PACK_LIMIT:
        digest = f"{files.digest}-{how.resize}-{how.size}-{how.channels}"
        return ImageSet(files.name, FileImages(files, how, workers), files.labels_N, digest, files)
    opened = pixel_cache.pack(files, how, data_root, workers=workers)
    uncut = None if opened.whole else files
    return ImageSet(files.name, opened.images_NHWC, opened.labels_N, opened.digest, uncut)


@functools.cache
def _derived(ref: DerivedSet, val: ImageSet) -> ImageSet:
    assert not isinstance(val.images_NHWC, DerivedImages)
    images_NHWC = derived.derive(ref.derived, val.images_NHWC, val.labels_N)
    labels_N = np.full_like(val.labels_N, -1)
    return ImageSet(name_of(ref), images_NHWC, labels_N, derived.digest(ref.derived, val.digest))


@functools.cache
def _embedded(ref: ImageSetRef, how: Transform) -> ImageSet:
    name = name_of(whole_set(ref))
    images_NHW, labels_N = digits.read(name.removeprefix("digits/"))
    if isinstance(ref, SubsetSet):
        rows = listing.even_rows(labels_N, ref.images, name)
        images_NHW, labels_N = images_NHW[rows], labels_N[rows]
    images_NHWC = np.stack([transform.apply(Image.fromarray(image), how) for image in images_NHW])
    images_NHWC.setflags(write=False)
    digest = hashlib.sha256(images_NHWC.tobytes() + labels_N.tobytes()).hexdigest()[:16]
    return ImageSet(name_of(ref), images_NHWC, labels_N, digest)
