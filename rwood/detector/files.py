"""Verdicts on image files: one a file, in order, whether or not the file can be read."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from rwood.data import decode, listing
from rwood.data.processes import processors
from rwood.detector.model import Detector
from rwood.errors import DataError

BATCH = 64
"""Files read and scored at a time."""


@dataclass(frozen=True)
class Verdict:
    """What a detector says of one file."""

    path: Path
    score: float | None = None
    """Higher = more OOD; None if the file cannot be read."""
    ood: bool | None = None
    """The score is above the threshold."""
    nearest_class: int | None = None
    """The ID class that the image is nearest to, whatever the verdict."""
    class_name: str | None = None
    """Its name."""
    error: str | None = None
    """Why there is no score: a sentence that names the file."""


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Files as they are, folders replaced by the image files below them, sorted.

    A file that is missing or no image stays in the list: `detect` says so in its place.

    Raises:
        DataError: a folder holds no image.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += [path / name for name in listing.images_below(path)]
        else:
            files.append(path)
    return files


def detect(detector: Detector, paths: Iterable[Path]) -> Iterator[Verdict]:
    """Score image files, e.g. of `find_images`, a batch at a time.

    Yields:
        A verdict a path, in order. One whose file cannot be read has `error` and nothing else.
    """
    left = iter(paths)

    def read(path: Path) -> np.ndarray | str:
        try:
            return detector.pixels(decode.load(path, "it has no score"))
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(processors()) as pool:
        while batch := list(itertools.islice(left, BATCH)):
            yield from _verdicts(detector, batch, list(pool.map(read, batch)))


def verdicts_csv(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """Verdicts as CSV: a header, then a line each, without line ends; None is empty."""
    names = [field.name for field in fields(Verdict)]
    yield ",".join(names)
    for verdict in verdicts:
        text = io.StringIO()
        csv.writer(text).writerow([getattr(verdict, name) for name in names])
        yield text.getvalue().removesuffix("\r\n")  # a field with a line end is quoted


def _verdicts(
    detector: Detector, paths: Sequence[Path], read: Sequence[np.ndarray | str]
) -> Iterator[Verdict]:
    images = [image for image in read if not isinstance(image, str)]
    said = detector.predict_pixels(np.stack(images)) if images else None
    row = 0
    for path, image in zip(paths, read, strict=True):
        if isinstance(image, str) or said is None:
            yield Verdict(path, error=str(image))
            continue
        nearest = int(said.nearest_class[row])
        yield Verdict(
            path,
            score=float(said.score[row]),
            ood=bool(said.ood[row]),
            nearest_class=nearest,
            class_name=detector.metadata.class_names[nearest],
        )
        row += 1
