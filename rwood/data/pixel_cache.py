"""An image set decoded and resized once: one memory-mapped uint8 file with labels and a digest.

A pack is a page of JSON, the labels, and the pixels in the order of the set. Its file name holds
the digest of the list and of the transform, so that a changed list or size makes another pack.
It is written under another name and renamed when whole; a journal beside it records the chunks
that are on disk, so that an interrupted packing goes on where it stopped. Processes of one node
that want the same pack wait for the one that writes it.
"""

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rwood.data import decode, processes
from rwood.data.listing import Listing
from rwood.data.processes import Progress, silent
from rwood.data.transform import Transform
from rwood.errors import DataError

PACKS = "packs"
FORMAT = 1
PAGE = 4096
CHUNK_BYTES = 16 * 2**20
"""Pixels written between two entries of the journal."""


@dataclass(frozen=True)
class Pack:
    """An opened pack."""

    images_NHWC: np.ndarray
    """uint8, read-only memory map."""
    labels_N: np.ndarray
    """int64."""
    digest: str
    """Names pixels and labels by content."""
    whole: bool
    """Whether every file had the pack's size, so that nothing was resized or cut away."""


def pack_path(listing: Listing, how: Transform, data_root: Path) -> Path:
    """Where the pack of a set lies."""
    text = json.dumps([FORMAT, listing.digest, asdict(how)], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    stem = f"{_stem(listing.name)}.{how.size}x{how.size}x{how.channels}.{key}"
    return data_root / PACKS / f"{stem}.pack"


def packs_of(name: str, data_root: Path) -> list[Path]:
    """Every pack of a set, of whatever sizes and lists."""
    return sorted((data_root / PACKS).glob(f"{_stem(name)}.*.pack"))


def pack_bytes(count: int, how: Transform) -> int:
    """Size of the pack of so many images, in bytes."""
    return _pixels_at(count) + count * _image_bytes(how)


def open_pack(listing: Listing, how: Transform, data_root: Path) -> Pack | None:
    """The pack of a set, or None where there is none.

    Raises:
        DataError: a file of this name is no whole pack of this set.
    """
    path = pack_path(listing, how, data_root)
    if not path.exists():
        return None
    shape = (len(listing), how.size, how.size, how.channels)
    start = _pixels_at(len(listing))
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(PAGE))
        fits = header["listing"] == listing.digest and tuple(header["shape"]) == shape
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits or path.stat().st_size != pack_bytes(len(listing), how):
        raise DataError(
            f"{path} is not a whole pack of {listing.name}: delete it, then run `rwood data pack`",
            file=str(path),
        )
    images = np.memmap(path, np.uint8, "r", offset=start, shape=shape)
    labels = np.fromfile(path, np.int64, count=len(listing), offset=PAGE)
    return Pack(images, labels, header["digest"], header["whole"])


def pack(
    listing: Listing,
    how: Transform,
    data_root: Path,
    *,
    workers: int = 1,
    progress: Progress = silent,
) -> Pack:
    """Open the pack of a set; write it first where there is none, with so many decoding processes.

    Raises:
        DataError: a file is missing or damaged, or the folder cannot be written.
    """
    path = pack_path(listing, how, data_root)
    if not path.exists():
        with _locked(path):
            if not path.exists():  # another process may have written it while this one waited
                _write(listing, how, path, workers, progress)
    opened = open_pack(listing, how, data_root)
    assert opened is not None
    progress(len(listing), len(listing))
    return opened


def _write(listing: Listing, how: Transform, path: Path, workers: int, progress: Progress) -> None:
    part, journal = path.with_suffix(".part"), path.with_suffix(".journal")
    size = pack_bytes(len(listing), how)
    resumed = part.exists() and part.stat().st_size == size
    done = _read_journal(journal) if resumed else {}
    if not done:
        _check_space(path.parent, size)
        journal.unlink(missing_ok=True)
        with part.open("wb") as file:
            file.truncate(size)
    chunks = listing.parts(max(1, CHUNK_BYTES // _image_bytes(how)))
    images_done = sum(len(chunks[i][1]) for i in done)
    progress(images_done, len(listing))
    left = [(i, *chunk) for i, chunk in enumerate(chunks) if i not in done]
    decode_chunk = functools.partial(_decode, how, part, _pixels_at(len(listing)))
    with journal.open("a", encoding="ascii") as log:
        for i, digest, whole in processes.each(decode_chunk, left, workers):
            done[i] = (digest, whole)
            log.write(f"{i} {digest} {int(whole)}\n")
            log.flush()
            os.fsync(log.fileno())
            images_done += len(chunks[i][1])
            progress(images_done, len(listing))
    _finish(listing, how, part, [done[i] for i in range(len(chunks))])
    part.replace(path)
    journal.unlink()


def _finish(listing: Listing, how: Transform, part: Path, chunks: list[tuple[str, bool]]) -> None:
    """Put header and labels before the pixels."""
    digests = "".join(digest for digest, _ in chunks).encode()
    header = {
        "format": FORMAT,
        "name": listing.name,
        "listing": listing.digest,
        "transform": asdict(how),
        "shape": (len(listing), how.size, how.size, how.channels),
        "whole": all(whole for _, whole in chunks),
        "digest": hashlib.sha256(digests + listing.labels_N.tobytes()).hexdigest()[:16],
    }
    with part.open("r+b") as file:
        file.write(json.dumps(header).encode().ljust(PAGE))
        file.write(listing.labels_N.astype(np.int64).tobytes())
        file.flush()
        os.fsync(file.fileno())


def _decode(
    how: Transform, part: Path, pixels_at: int, chunk: tuple[int, int, Listing]
) -> tuple[int, str, bool]:
    """Decode a chunk into its place; returns once it is on disk: number, digest, all uncut."""
    number, first, files = chunk
    content, whole = hashlib.sha256(), True
    with part.open("r+b") as file:
        file.seek(pixels_at + first * _image_bytes(how))
        for row in range(len(files)):
            image_HWC, uncut = decode.scored(files, row, how)
            pixels = image_HWC.tobytes()
            content.update(pixels)
            file.write(pixels)
            whole &= uncut
        file.flush()
        os.fsync(file.fileno())
    return number, content.hexdigest(), whole


def _check_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DataError(
            f"{folder} has {free / 1e9:.1f} GB free, the pack needs {size / 1e9:.1f} GB",
            file=str(folder),
        )


def _stem(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[-60:]


def _image_bytes(how: Transform) -> int:
    return how.size * how.size * how.channels


def _pixels_at(count: int) -> int:
    """Offset of the first pixel: after the header page and the labels, at a page's start."""
    return PAGE + -(-8 * count // PAGE) * PAGE


def _read_journal(journal: Path) -> dict[int, tuple[str, bool]]:
    """Chunks that are on disk; a last line that a crash cut short does not count."""
    done = {}
    if journal.exists():
        for line in journal.read_text(encoding="ascii").splitlines(keepends=True):
            words = line.split()
            if line.endswith("\n") and len(words) == 3 and len(words[1]) == 64:
                done[int(words[0])] = (words[1], words[2] == "1")
    return done


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a pack; the operating system frees it if the process dies.

    Raises:
        DataError: the folder cannot be written, now or while the lock is held.
    """
    import fcntl

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise DataError(
            f"{path.parent} cannot be written ({error.strerror}): packs need it; use a data root "
            "of your own with links to the image folders",
            file=str(path.parent),
        ) from error
