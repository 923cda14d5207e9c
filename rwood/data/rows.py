"""Arrays of images that are read or made when they are indexed, e.g. some rows of another."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np


class LazyImages(ABC):
    """What is needed of an array of (N, H, W, C) uint8 images: shape, length, some rows."""

    dtype = np.dtype(np.uint8)

    def __init__(self, *shape: int) -> None:
        """Say the shape: N, H, W, C."""
        self.shape = shape

    def __len__(self) -> int:
        """Number of images."""
        return self.shape[0]

    @abstractmethod
    def __getitem__(self, rows: slice) -> np.ndarray:
        """Some images: (n, H, W, C) uint8."""

    def _stack(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(images) if images else np.empty((0, *self.shape[1:]), np.uint8)


class RowImages(LazyImages):
    """Some images of another array."""

    def __init__(self, whole_MHWC: np.ndarray, rows_N: np.ndarray, digest: str) -> None:
        """Remember (N,) int64 rows of (M, H, W, C) images, whose pixels the digest names."""
        super().__init__(len(rows_N), *whole_MHWC.shape[1:])
        self.whole_MHWC, self.rows_N, self.digest = whole_MHWC, rows_N, digest

    @classmethod
    def of(cls, images: np.ndarray | LazyImages, digest: str) -> "RowImages":
        """All images of an array whose pixels the digest names; rows of another as they are."""
        if isinstance(images, cls):
            return images
        assert isinstance(images, np.ndarray)
        return cls(images, np.arange(len(images)), digest)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Read some images."""
        images_NHWC: np.ndarray = self.whole_MHWC[self.rows_N[rows]]
        return images_NHWC


def rows_of(labels_M: np.ndarray, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Where the images of some classes lie, and their new labels: 0, 1, ... in the order given.

    Returns:
        (N,) int64 rows of the whole set, ascending, and (N,) int64 labels.
    """
    rows_N = np.flatnonzero(np.isin(labels_M, classes))
    number = {label: new for new, label in enumerate(classes)}
    labels_N = np.array([number[label] for label in labels_M[rows_N].tolist()], dtype=np.int64)
    return rows_N, labels_N
