"""The embedded image sets: scikit-learn's 8x8 digits and its two bundled photographs.

Real images without a download, small enough that a whole study takes minutes. Digits 0-6 are ID,
split per class 60 / 20 / 20 by a fixed seed; digits 7, 8 and 9 and patches of the photographs
are OOD.
"""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rwood.errors import DataError

ID_DIGITS = 7
PATCHES = 300
SPLIT_SEED = 20240617
PERMUTATION_SEED = 8


@functools.cache
def read(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one embedded set, read once a process.

    Returns:
        (N, 8, 8) uint8 grey images of `digits/<part>` and (N,) int64 labels, -1 for OOD.
    """
    images_NHW, labels_N = _READERS[part]()
    images_NHW.setflags(write=False)
    labels_N.setflags(write=False)
    return images_NHW, labels_N


def _bundled(name: str) -> Path:
    """A file of `sklearn.datasets`, whose import would cost every worker a second of its CPU.

    Raises:
        DataError: it is not there.
    """
    package = importlib.util.find_spec("sklearn")
    folders = package.submodule_search_locations if package else None
    path = Path(folders[0], "datasets", name) if folders else Path(name)
    if not path.exists():
        raise DataError(f"scikit-learn's {name} is missing: install scikit-learn anew")
    return path


@functools.cache
def _all_digits() -> tuple[np.ndarray, np.ndarray]:
    table = np.loadtxt(_bundled("data/digits.csv.gz"), delimiter=",")  # 64 pixels of 0 to 16, label
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8)
    return images.reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def _split(part: int) -> tuple[np.ndarray, np.ndarray]:
    images, labels = _all_digits()
    rng = np.random.default_rng(SPLIT_SEED)
    chosen = []
    for digit in range(ID_DIGITS):
        rows = rng.permutation(np.flatnonzero(labels == digit))
        ends = (0, round(0.6 * len(rows)), round(0.8 * len(rows)), len(rows))
        chosen.append(rows[ends[part] : ends[part + 1]])
    rows = np.sort(np.concatenate(chosen))
    return images[rows], labels[rows]


def _digit(digit: int) -> tuple[np.ndarray, np.ndarray]:
    images, labels = _all_digits()
    return _ood(images[labels == digit])


def _permuted() -> tuple[np.ndarray, np.ndarray]:
    """ID test images, the pixels of each in an order of its own: right histogram, no digit."""
    images, _ = _split(2)
    rng = np.random.default_rng(PERMUTATION_SEED)
    return _ood(rng.permuted(images.reshape(len(images), -1), axis=1).reshape(images.shape))


def _patches(photograph: str) -> tuple[np.ndarray, np.ndarray]:
    """The most contrasted 8x8 tiles of a photograph at half size; sky and blur drop out."""
    from PIL import Image

    photo = Image.open(_bundled(f"images/{photograph}")).convert("L")
    grey = np.asarray(photo.reduce(2))
    rows, columns = grey.shape[0] // 8, grey.shape[1] // 8
    blocks = grey[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8)
    tiles = blocks.transpose(0, 2, 1, 3).reshape(-1, 8, 8)
    contrast = tiles.reshape(len(tiles), -1).std(axis=1)
    kept = np.sort(np.argsort(-contrast, kind="stable")[:PATCHES])
    return _ood(tiles[kept])


def _ood(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return images, np.full(len(images), -1, dtype=np.int64)


_READERS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "train": lambda: _split(0),
    "val": lambda: _split(1),
    "test": lambda: _split(2),
    "7": lambda: _digit(7),
    "8": lambda: _digit(8),
    "9": lambda: _digit(9),
    "flower": lambda: _patches("flower.jpg"),
    "china": lambda: _patches("china.jpg"),
    "permuted": _permuted,
}
