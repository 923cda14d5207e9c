"""Image files to pixels, one at a time or many on demand."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from rwood.data import transform
from rwood.data.listing import Listing
from rwood.data.rows import LazyImages
from rwood.data.transform import Transform
from rwood.errors import DataError


def load(file: Path | BinaryIO, remedy: str, name: str | None = None) -> Image.Image:
    """An image, decoded to the last byte.

    Raises:
        DataError: the file is missing, truncated, Lab or no image; says its name, which is its path
            if none is given, and the remedy.
    """
    name = name or str(file)
    try:
        with Image.open(file) as image:
            image.load()
        if image.mode == "LAB":  # the one mode of a file that PIL does not convert
            raise ValueError("it has Lab colours; save it as RGB")
        return image
    except FileNotFoundError:
        raise DataError(f"{name} is missing: {remedy}", file=name) from None
    except UnidentifiedImageError:
        raise DataError(f"{name} is not an image: {remedy}", file=name) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} is damaged ({error}): {remedy}", file=name) from error


def scored(listing: Listing, row: int, how: Transform) -> tuple[np.ndarray, bool]:
    """One image of a set after the test transform's resize and crop.

    Returns:
        (size, size, channels) uint8, and whether these are all the pixels of the file.

    Raises:
        DataError: the file is missing or damaged.
    """
    image = load(listing.path(row), listing.remedy)
    whole = image.size == (how.size, how.size) and how.resize == how.size
    return transform.apply(image, how), whole


class FileImages(LazyImages):
    """A set too large for a pack: images that are decoded when they are indexed."""

    def __init__(self, listing: Listing, how: Transform, threads: int) -> None:
        """Remember the files, the test transform, and how many threads decode."""
        super().__init__(len(listing), how.size, how.size, how.channels)
        self._listing, self._how, self._threads = listing, how, threads

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Decode some images."""
        with ThreadPoolExecutor(self._threads) as pool:
            return self._stack(list(pool.map(self._decode, range(*rows.indices(len(self))))))

    def of(self, listing: Listing) -> "FileImages":
        """The same for other files."""
        return FileImages(listing, self._how, self._threads)

    def _decode(self, row: int) -> np.ndarray:
        return scored(self._listing, row, self._how)[0]
