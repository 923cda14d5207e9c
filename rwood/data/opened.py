"""An opened image set, and parts of it: the same pixels, so that all folds share one pack."""

import functools
from dataclasses import dataclass, replace

import numpy as np

from rwood.data import listing
from rwood.data.decode import FileImages
from rwood.data.listing import Listing
from rwood.data.rows import LazyImages, RowImages, rows_of
from rwood.errors import DataError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """An opened image set, as the encoder is to see it when it scores."""

    name: str
    """Its name, folder or list."""
    images_NHWC: np.ndarray | LazyImages
    """uint8, after the test transform's resize and crop, not normalised; may be a memory map."""
    labels_N: np.ndarray
    """int64: 0..classes-1, or -1 where OOD."""
    digest: str
    """Names pixels and labels (of a set that is never packed: paths, labels and sizes)."""
    files: Listing | None = None
    """The files that a random crop is cut from, where `images_NHWC` does not hold all of them."""


@functools.cache
def of_classes(whole: ImageSet, classes: tuple[int, ...], name: str) -> ImageSet:
    """The images of some classes, numbered 0, 1, ... in that order.

    Raises:
        DataError: there are none.
    """
    rows_N, labels_N = rows_of(whole.labels_N, classes)
    if not len(rows_N):
        raise DataError(f"{name}: {whole.name} has no image of these classes")
    return _rows(replace(whole, name=name), rows_N, labels_N)


@functools.cache
def as_ood(part: ImageSet, limit: int) -> ImageSet:
    """At most `limit` images of a set as OOD: as many of each class as of any other."""
    rows_N = listing.even_rows(part.labels_N, min(limit, len(part.labels_N)), part.name)
    return _rows(part, rows_N, np.full(len(rows_N), -1))


def _rows(part: ImageSet, rows_N: np.ndarray, labels_N: np.ndarray) -> ImageSet:
    """Some images of a set, under other labels."""
    digest = listing.digest_of([part.digest, *map(str, rows_N)], labels_N)
    files = part.files.take(rows_N, labels_N) if part.files is not None else None
    images = part.images_NHWC
    made: LazyImages
    if isinstance(images, FileImages):
        assert files is not None
        made = images.of(files)
    else:
        held = RowImages.of(images, part.digest)
        made = RowImages(held.whole_MHWC, held.rows_N[rows_N], held.digest)
    return ImageSet(part.name, made, labels_N, digest, files)
