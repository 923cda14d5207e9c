"""Every named image set, one row each, and `open_set()`, the one door to images."""

import difflib
import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rwood.data import digits, transform
from rwood.data.transform import Transform
from rwood.errors import DataError, SpecError
from rwood.spec.benchmark import BenchmarkSpec, ImageSetRef


@dataclass(frozen=True)
class NamedSet:
    """A row of the table."""

    count: int
    """Images it must have."""
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
}


@dataclass(frozen=True)
class ImageSet:
    """An opened image set, as the encoder is to see it when it scores."""

    name: str
    """Its name, folder or list."""
    images_NHWC: np.ndarray
    """uint8, after the test transform's resize and crop, not normalised; may be a memory map."""
    labels_N: np.ndarray
    """int64: 0..classes-1, or -1 where OOD."""
    digest: str
    """16 hex digits that name pixels and labels."""


def open_set(ref: ImageSetRef, benchmark: BenchmarkSpec, data_root: Path) -> ImageSet:
    """Open an image set: pixels after the test transform, and labels.

    Args:
        ref: a named set, a folder or a list.
        benchmark: channels and sizes; tells by its `id` and `shifted` sets which labels count.
        data_root: where image sets lie; embedded sets need none.

    Raises:
        DataError: the set is missing, short or corrupt.
        SpecError: no set has this name.
    """
    if isinstance(ref, str):
        _check_name(ref)
        if ref.startswith("digits/"):
            return _embedded(ref, transform.of(benchmark))
    raise DataError(f"{ref}: cannot be opened")


def check_known(benchmark: BenchmarkSpec) -> None:
    """Refuse a benchmark that names an unknown set, or an ID set of other classes.

    Raises:
        SpecError: which name, and the nearest right one. Opens no data.
    """
    for key, ref in references(benchmark):
        if not isinstance(ref, str):
            continue
        _check_name(ref, f"benchmark {benchmark.name}: {key}: ")
        classes = NAMED[ref].classes
        if key.startswith("id.") and classes != benchmark.classes:
            raise SpecError(
                f"benchmark {benchmark.name}: {key}: {ref} has {classes} ID classes, the "
                f"benchmark says {benchmark.classes}",
                key=key,
                got=ref,
            )


def references(benchmark: BenchmarkSpec) -> Iterator[tuple[str, ImageSetRef]]:
    """Every image set of a benchmark under its dotted key, e.g. `near.tin`."""
    for part in ("train", "val", "test"):
        yield f"id.{part}", getattr(benchmark.id, part)
    for part in ("validation", "near", "far", "shifted"):
        for name, ref in getattr(benchmark, part).items():
            yield f"{part}.{name}", ref


def _check_name(name: str, where: str = "") -> None:
    if name in NAMED:
        return
    near = difflib.get_close_matches(name, NAMED, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else "`rwood data list` shows the names"
    raise SpecError(f"{where}{name} is not a known image set; {hint}", got=name)


@functools.cache
def _embedded(name: str, how: Transform) -> ImageSet:
    images_NHW, labels_N = digits.read(name.removeprefix("digits/"))
    images_NHWC = transform.apply_all(images_NHW, how)
    images_NHWC.setflags(write=False)
    digest = hashlib.sha256(images_NHWC.tobytes() + labels_N.tobytes()).hexdigest()[:16]
    return ImageSet(name, images_NHWC, labels_N, digest)
