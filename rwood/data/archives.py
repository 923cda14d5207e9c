"""Unpack a local archive below a folder: no path leaves it, no link is made, no file is half."""

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

from rwood.data.listing import is_below
from rwood.data.processes import Progress
from rwood.errors import DataError

Place = Callable[[str], str | None]
"""Where a member of an archive goes, below the folder; None: nowhere."""
EXPANSION, ALLOWED_BYTES = 20, 100_000_000
"""An archive may unpack to so many times its size, and some bytes beside: images are compressed."""


def is_archive(path: Path) -> bool:
    """Whether a path is named like an archive that can be unpacked."""
    return path.name.endswith((".tar", ".tar.gz", ".tgz", ".zip"))


def unpack(archive: Path, folder: Path, place: Place, progress: Progress) -> int:
    """Unpack the files of an archive below a folder; those already there in full are left alone.

    `place` maps a member's path to one below the folder; `progress` is told bytes read and in all.

    Returns:
        Files that the archive had a place for.

    Raises:
        DataError: not an archive, damaged, far larger unpacked than images are, or a member that
            leaves the folder or is a link.
    """
    count = total = 0
    try:
        allowed = ALLOWED_BYTES + EXPANSION * archive.stat().st_size
        members = _zip_members if archive.name.endswith(".zip") else _tar_members
        for name, size, source in members(archive, progress):
            total += size
            if total > allowed:
                raise DataError(
                    f"{archive} expands to more than {EXPANSION} times its size, which image files "
                    "do not; the archive is refused"
                )
            # Archives are made on other systems too, where these separate folders and name drives.
            if not is_below(name) or "\\" in name or ":" in name.split("/")[0]:
                raise DataError(
                    f"{archive}: {name} leads out of the folder; the archive is refused"
                )
            target = place(name)
            if target is not None:
                count += 1
                _store(source, folder / target, size)
    except FileNotFoundError:
        raise DataError(f"{archive} is missing", file=str(archive)) from None
    except (
        tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, RuntimeError
    ) as error:  # fmt: skip  # zipfile raises RuntimeError where a password is asked for
        raise DataError(f"{archive} cannot be unpacked ({error})", file=str(archive)) from error
    return count


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def _store(source: Callable[[], IO[bytes]], target: Path, size: int) -> None:
    if target.exists() and target.stat().st_size == size:
        return
    with source() as stream:
        write_whole(target, stream.read())


Members = Iterator[tuple[str, int, Callable[[], IO[bytes]]]]
"""Path, size and opener of each regular file."""


def _tar_members(archive: Path, progress: Progress) -> Members:
    total = archive.stat().st_size
    with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as tar:
        for member in tar:
            progress(min(raw.tell(), total), total)
            if member.isdir():
                continue
            if not member.isreg():
                raise DataError(f"{archive}: {member.name} is a link or a device, not a file")
            yield member.name.removeprefix("./"), member.size, partial(_tar_stream, tar, member)
    progress(total, total)


def _tar_stream(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(member)
    assert stream is not None, "only regular files are asked for"
    return stream


def _zip_members(archive: Path, progress: Progress) -> Members:
    with zipfile.ZipFile(archive) as bundle:
        members = [member for member in bundle.infolist() if not member.is_dir()]
        total = sum(member.compress_size for member in members)
        read = 0
        for member in members:
            if stat.S_ISLNK(member.external_attr >> 16):
                raise DataError(f"{archive}: {member.filename} is a link, not a file")
            yield member.filename, member.file_size, partial(bundle.open, member)
            read += member.compress_size
            progress(read, total)
