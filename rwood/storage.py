"""Where results lie: a folder, or a prefix of an object store, written and read in the same way.

A folder is a `pathlib.Path`. `s3://bucket/prefix` and `gs://bucket/prefix` are `UPath`s, which have
a path's methods; credentials come from the environment, as the store's own tools have them. What
differs between the two is here: how a file appears whole or not at all, and how to hand a file to a
library that knows files of this machine only.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

from rwood.errors import SpecError, StorageError, StudyError
from rwood.text import first_line

EXTRAS = {"s3": "s3fs", "gs": "gcsfs"}
"""Scheme -> the package that speaks it."""
_INSTALL = {"s3": "rwood[s3]", "gs": "rwood[gcs]"}


def place(text: str | Path) -> Path:
    """A folder of this machine, or a prefix of an object store.

    Raises:
        SpecError: no such scheme, its package is not installed, or credentials in the address.
    """
    scheme, separator, rest = str(text).partition("://")
    if isinstance(text, Path) or not separator:
        return Path(text)
    if scheme not in EXTRAS:
        raise SpecError(f"{scheme}:// is no place for results: allowed are a folder, s3://, gs://")
    bucket = rest.partition("/")[0]
    if "@" in bucket or not bucket:
        raise SpecError(
            f"write {scheme}://BUCKET/PREFIX; credentials come from the environment, as the "
            "store's own tools have them"
        )
    from upath import UPath

    try:
        # Other processes write here too: what a listing said before is not kept.
        path = UPath(str(text).rstrip("/"), use_listings_cache=False)
        path.fs  # noqa: B018  # imports the package
    except ImportError as error:
        raise SpecError(
            f"{scheme}:// needs {EXTRAS[scheme]}: pip install '{_INSTALL[scheme]}'"
        ) from error
    return cast(Path, path)  # It has a path's methods, without being one of this machine's.


def is_remote(path: Path) -> bool:
    """Whether a path lies on an object store."""
    return not isinstance(path, Path)


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """A file to write: readers see the old one until the block ends well, then the new one.

    On a file system a new file is renamed over the old one; an object store replaces an object
    at once.

    Raises:
        StorageError: the place is full, read-only or gone; the old file is as it was.
    """
    if is_remote(path):
        buffer = BytesIO()
        yield buffer
        try:
            path.write_bytes(buffer.getbuffer())
        except Exception as error:  # An object store's library raises errors of its own.
            raise unwritable(path, error) from error
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):  # On a full disk, half a file is in the way of a whole one.
            part.unlink(missing_ok=True)
        raise unwritable(path, error) from error


def content(path: Path) -> bytes:
    """A file as it is at one moment, though another process may replace it meanwhile."""
    if not is_remote(path):
        return path.read_bytes()
    whole: bytes = _filesystem(path).cat_file(_key(path))  # A path asks twice, and may get two.
    return whole


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """A file or folder as one of this machine: itself, or a copy for as long as the block lasts."""
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="rwood-") as scratch:
        copy = Path(scratch) / path.name
        _copy(path, copy)
        yield copy


@contextmanager
def grown(path: Path) -> Iterator[Path]:
    """A file of this machine that a library appends to: itself, or a copy that is put back.

    A copy is put back however the block ends; a process that is killed leaves the old one.
    """
    if not is_remote(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="rwood-") as scratch:
        copy = Path(scratch) / path.name
        if path.exists():
            _copy(path, copy)
        try:
            yield copy
        except BaseException:
            with suppress(StorageError):  # What ended the block is what to say.
                _put_back(copy, path)
            raise
        _put_back(copy, path)


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """An empty folder of this machine that takes a folder's place when the block ends well."""
    if not is_remote(folder):
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
        return
    with tempfile.TemporaryDirectory(prefix="rwood-") as scratch:
        yield Path(scratch)
        if folder.exists():
            _filesystem(folder).rm(_key(folder), recursive=True)
        _copy(Path(scratch), folder)


@contextmanager
def probe(folder: Path) -> Iterator[tuple[Path, str]]:
    """A file that was written to a folder and read back, and what is in it; deleted at the end.

    Raises:
        StorageError: the folder cannot be written.
        StudyError: it does not keep what is written.
    """
    text = uuid.uuid4().hex
    path = folder / f".probe-{text[:12]}"
    try:
        with written(path) as file:
            file.write(text.encode())
        back = content(path).decode("ascii", "replace")
    except Exception as error:  # An object store's library raises errors of its own.
        raise unwritable(folder, error.__cause__ or error) from error
    if back != text:
        raise StudyError(f"the results folder {folder} does not keep what is written to it")
    try:
        yield path, text
    finally:
        path.unlink(missing_ok=True)


def exists(path: Path) -> bool:
    """Whether a file is there.

    Raises:
        StudyError: the object store does not answer.
    """
    try:
        return path.exists()
    except Exception as error:  # An object store's library raises errors of its own.
        raise StudyError(f"{path} cannot be read: {_reason(error)}", file=str(path)) from error


def unwritable(path: Path, error: BaseException) -> StorageError:
    """The sentence for a place that refuses."""
    return StorageError(
        f"{path} cannot be written: {_reason(error)}; what was written before is whole, and "
        "the same command goes on from there",
        path=str(path),
    )


def created(path: Path, content: bytes) -> bool:
    """Make an object that is not there yet; False if it is. Of several callers one succeeds."""
    try:
        _filesystem(path).pipe_file(_key(path), content, mode="create")
    except FileExistsError:
        return False
    return True


def _put_back(copy: Path, path: Path) -> None:
    try:
        if copy.exists():
            _copy(copy, path)
    except Exception as error:  # An object store's library raises errors of its own.
        raise unwritable(path, error) from error


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or first_line(error))


def _copy(source: Path, target: Path) -> None:
    """A file or a folder, from here to there or from there to here."""
    if source.is_dir():
        for name in _names(source):
            _copy(source / name, target / name)
        return
    if not is_remote(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content(source))


def _names(folder: Path) -> list[str]:
    """Files below a folder, without the empty objects `folder/` by which some tools mark one."""
    if not is_remote(folder):
        return [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    root = _key(folder).rstrip("/") + "/"
    keys = [key for key in _filesystem(folder).find(root) if not key.endswith("/")]
    return [key.removeprefix(root) for key in keys]


def _filesystem(path: Path) -> Any:
    return cast(Any, path).fs


def _key(path: Path) -> str:
    return str(cast(Any, path).path)
