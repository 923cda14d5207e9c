"""Some rows of an array of images, e.g. those of some classes."""

from collections.abc import Sequence

import numpy as np


class RowImages:
    """An array of some images of another array, read when they are indexed."""

    dtype = np.dtype(np.uint8)

    def __init__(self, whole_MHWC: np.ndarray, rows_N: np.ndarray, digest: str) -> None:
        """Remember the rows.

        Args:
            whole_MHWC: (M, H, W, C) uint8; may be a memory map.
            rows_N: (N,) int64 rows of it.
            digest: names the pixels of `whole_MHWC`.
        """
        self.whole_MHWC, self.rows_N, self.digest = whole_MHWC, rows_N, digest
        self.shape = (len(rows_N), *whole_MHWC.shape[1:])

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows_N)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Some images: (n, H, W, C) uint8."""
        images_NHWC: np.ndarray = self.whole_MHWC[self.rows_N[rows]]
        return images_NHWC


def rows_of(labels_M: np.ndarray, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Where the images of some classes lie, and their new labels.

    Args:
        labels_M: (M,) int64 of the whole set.
        classes: labels; they become 0, 1, ... in this order.

    Returns:
        (N,) int64 rows, ascending, and (N,) int64 labels.
    """
    rows_N = np.flatnonzero(np.isin(labels_M, classes))
    number = {label: new for new, label in enumerate(classes)}
    labels_N = np.array([number[label] for label in labels_M[rows_N].tolist()], dtype=np.int64)
    return rows_N, labels_N
