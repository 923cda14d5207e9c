"""Does every file of a benchmark decode, are there enough, does a set hold images of another?"""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rwood.config.benchmark import BenchmarkConfig, ImageSetRef
from rwood.data import decode, image_sets, pixel_cache, processes
from rwood.data.listing import Listing
from rwood.data.shared_images import OOD_PARTS
from rwood.data.transform import Transform
from rwood.errors import DataError

CHUNK = 1000
"""Images a process verifies at a time."""
HASH_BYTES = 16

Progress = Callable[[str, int, int], None]
"""Called with a set's dotted key, what is done and what there is to do."""


@dataclass(frozen=True)
class SetReport:
    """What was found in one set."""

    key: str
    """Dotted, e.g. `near.tin`."""
    name: str
    images: int
    """Images that decode."""
    packed: bool
    """Whether there is a pack."""
    problems: tuple[str, ...]
    """A sentence each; empty: the set is sound."""


@dataclass(frozen=True)
class Duplicate:
    """An image of a set with the very pixels of an ID image of another."""

    key: str
    """Dotted key of the set."""
    image: str
    """Its file or row there."""
    id_key: str
    """Dotted key of the other set: `id.train`, or for an OOD image any part of ID."""
    id_image: str
    """File or row in that set."""


@dataclass(frozen=True)
class Verification:
    """What was found in a benchmark."""

    sets: tuple[SetReport, ...]
    duplicates: tuple[Duplicate, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong; ID images that come twice are no error (CIFAR has some)."""
        return not any(report.problems for report in self.sets) and not self.shared

    @property
    def shared(self) -> tuple[Duplicate, ...]:
        """Images that are ID and OOD."""
        return tuple(d for d in self.duplicates if d.key.startswith(OOD_PARTS))


def verify(
    benchmark: BenchmarkConfig,
    data_root: Path,
    *,
    workers: int = 1,
    progress: Progress = lambda key, done, total: None,
) -> Verification:
    """Decode every file of a benchmark; look for ID images in OOD sets, train images in all.

    Images are compared after the test transform, which is what an encoder sees. Where there is a
    pack, its pixels are compared with the files'. `workers` processes decode.
    """
    reports, duplicates = [], []
    known: dict[bytes, tuple[str, str]] = {}
    for key, ref in image_sets.references(benchmark):
        try:
            report, hashes, names = _verify(key, ref, benchmark, data_root, workers, progress)
        except DataError as error:
            reports.append(SetReport(key, image_sets.name_of(ref), 0, False, (str(error),)))
            continue
        reports.append(report)
        for content, name in zip(hashes, names, strict=True):
            twin = known.get(content)
            if twin and key != "id.train" and (key.startswith(OOD_PARTS) or twin[0] == "id.train"):
                duplicates.append(Duplicate(key, name, *twin))
            if content and key.startswith("id."):
                known.setdefault(content, (key, name))
    return Verification(tuple(reports), tuple(duplicates))


def _verify(
    key: str,
    ref: ImageSetRef,
    benchmark: BenchmarkConfig,
    data_root: Path,
    workers: int,
    progress: Progress,
) -> tuple[SetReport, list[bytes], list[str]]:
    """A set's report, the hash of each image (empty where it does not decode), and its name."""
    if not image_sets.has_files(ref):
        images = image_sets.open_set(ref, benchmark, data_root).images_NHWC
        hashes = [_hash(images[row : row + 1][0]) for row in range(len(images))]
        progress(key, len(hashes), len(hashes))
        report = SetReport(key, image_sets.name_of(ref), len(hashes), False, ())
        return report, hashes, [f"row {i}" for i in range(len(hashes))]
    files = image_sets.files_of(ref, benchmark, data_root)
    how = image_sets.transform_of(ref, benchmark)
    check = functools.partial(_check, how)
    hashes, problems, done = [b""] * len(files), [], 0
    for first, part_hashes, part_problems in processes.each(check, files.parts(CHUNK), workers):
        hashes[first : first + len(part_hashes)] = part_hashes
        problems += part_problems
        done += len(part_hashes)
        progress(key, done, len(files))
    decoded = sum(map(bool, hashes))
    packed, stale = _compare_pack(files, how, data_root, hashes)
    report = SetReport(key, files.name, decoded, packed, (*sorted(problems), *stale))
    return report, hashes, list(files.paths)


def _check(how: Transform, part: tuple[int, Listing]) -> tuple[int, list[bytes], list[str]]:
    first, files = part
    hashes, problems = [], []
    for row in range(len(files)):
        try:
            hashes.append(_hash(decode.scored(files, row, how)[0]))
        except DataError as error:
            hashes.append(b"")
            problems.append(str(error))
    return first, hashes, problems


def _compare_pack(
    files: Listing, how: Transform, data_root: Path, hashes: list[bytes]
) -> tuple[bool, tuple[str, ...]]:
    try:
        pack = pixel_cache.open_pack(files, how, data_root)
    except DataError as error:
        return True, (str(error),)
    if pack is None:
        return False, ()
    differ = sum(
        bool(content) and content != _hash(image)
        for content, image in zip(hashes, pack.images_NHWC, strict=True)
    )
    if not differ:
        return True, ()
    path = pixel_cache.pack_path(files, how, data_root)
    return True, (f"{path} differs from {differ:,} of its files: delete it and pack again",)


def _hash(image_HWC: np.ndarray) -> bytes:
    return hashlib.blake2b(image_HWC.tobytes(), digest_size=HASH_BYTES).digest()
