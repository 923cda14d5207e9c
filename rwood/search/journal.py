"""Optuna's storage of a study: a journal in the results folder, or any that a URL names."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileOpenLock

from rwood import storage
from rwood.errors import StudyError
from rwood.paths import StudyPaths
from rwood.text import first_line, login_of, without_password

_SEGMENT_BYTES = 256 * 2**10
"""Size from which an object store's journal goes on in another segment."""


class Journal(BaseJournalBackend):  # type: ignore[misc]
    """Optuna's journal file, in which several operations appear at once or not at all.

    A report, the verdict on it and a trial's end are lines of one write: a driver that is killed
    has decided something or has not.

    Args:
        path: a file of this machine; only this process and dashboards write it.
        mirror: an object store's folder that gets what is written; None: the file is the place.
    """

    def __init__(self, path: Path, mirror: Path | None = None) -> None:
        """Open the file; half a line at its end, from a power cut, is cut off."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"{path.name}.lock").unlink(missing_ok=True)  # of a killed process
        self._path, self._mirror = path, mirror
        self._segment = _download(mirror, path) if mirror is not None else 0
        _cut_half_line(path)
        self._segment_start = path.stat().st_size
        self._lock = JournalFileOpenLock(str(path))
        # It writes in a batch alone, which holds the file's lock already.
        self._file = JournalFileBackend(str(path), threading.RLock())
        self._pending: list[dict[str, Any]] | None = None
        self._count: int | None = None
        """Operations in the file, while a batch is open and once they were read."""

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Operations from a number on, those of an open batch last."""
        if self._pending is None:
            yield from self._file.read_logs(log_number_from)
            return
        if self._count is None:  # The lock is held: the file is the same until the batch ends.
            self._count = log_number_from
            for operation in self._file.read_logs(log_number_from):
                self._count += 1
                yield operation
            log_number_from = self._count
        yield from self._pending[log_number_from - self._count :]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write operations, or keep them until the batch ends.

        Raises:
            StorageError: the file cannot be written.
        """
        with self.batch():
            assert self._pending is not None
            self._pending += logs

    @contextmanager
    def batch(self) -> Iterator[None]:
        """All that is written inside appears at once, or nothing if the block raises.

        After that, what is in memory is ahead of the file: the storage is not to be used again.

        Raises:
            StorageError: the file cannot be written.
        """
        if self._pending is not None:
            yield
            return
        self._lock.acquire()
        self._pending, self._count = [], None
        try:
            yield
            pending, self._pending = self._pending, None
            if pending:
                self._write(pending)
                if self._count is not None:
                    for _ in self._file.read_logs(self._count):
                        pass  # It remembers where lines begin, and later reads start there.
        finally:
            self._pending = None
            self._lock.release()

    def _write(self, logs: list[dict[str, Any]]) -> None:
        try:
            self._file.append_logs(logs)
        except OSError as error:
            raise storage.unwritable(self._path, error) from error
        self._upload()

    def _upload(self) -> None:
        """Bring the object store's last segment up to date."""
        if self._mirror is None:
            return
        with self._path.open("rb") as file:
            file.seek(self._segment_start)
            content = file.read()
        with storage.written(self._mirror / f"{self._segment:06d}.jsonl") as target:
            target.write(content)
        if len(content) > _SEGMENT_BYTES:
            self._segment += 1
            self._segment_start += len(content)


def _is_in_segments(place: Path) -> bool:
    """Whether a journal is an object store's, or was copied from one into a folder."""
    return storage.is_remote(place) or place.is_dir()


def _download(mirror: Path, path: Path) -> int:
    """Put an object store's journal together in a file; the number of its segments."""
    segments = sorted(mirror.glob("*.jsonl")) if storage.exists(mirror) else []
    if mirror.is_file():  # Copied from a folder, where the journal is one file.
        segments.insert(0, mirror)
    path.write_bytes(b"".join(map(storage.content, segments)))
    return len(segments)


def _cut_half_line(path: Path) -> None:
    path.touch()
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


@dataclass(frozen=True)
class StudyStorage:
    """Where a study's trials are kept."""

    optuna: BaseStorage
    shown: str
    """Its address as it may be shown."""
    batch: Callable[[], AbstractContextManager[None]] = nullcontext
    """What is written inside appears as one operation in a journal; in a database one by one."""


@contextmanager
def open_storage(folder: Path, url: str | None) -> Iterator[StudyStorage]:
    """The storage of a study, to be written by the process that holds the study's lock.

    Args:
        folder: the study's results folder.
        url: of a database (`postgresql://...`, any that Optuna takes); None: a journal in the
            folder.

    Raises:
        StudyError: the database does not answer, or the journal is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = StudyPaths(folder).optuna
    with TemporaryDirectory(prefix="rwood-") as scratch:
        if url is not None:
            yield StudyStorage(_database(url), without_password(url))
            return
        apart = _is_in_segments(place)
        journal = Journal(Path(scratch) / place.name, mirror=place) if apart else Journal(place)
        yield StudyStorage(_replayed(journal, place), str(place), journal.batch)


@contextmanager
def read_storage(folder: Path, url: str | None) -> Iterator[BaseStorage | None]:
    """The storage of a study that another process may work on; None if there is none yet.

    Raises:
        StudyError: the database does not answer, or the journal is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = StudyPaths(folder).optuna
    with TemporaryDirectory(prefix="rwood-") as scratch:
        if url is not None:
            yield _database(url)
        elif not storage.exists(place):
            yield None
        else:
            path = place
            if _is_in_segments(place):
                path = Path(scratch) / place.name
                _download(place, path)
            yield _replayed(JournalFileBackend(str(path)), place)


def _replayed(journal: BaseJournalBackend, place: Path) -> BaseStorage:
    try:
        return JournalStorage(journal)
    except (ValueError, KeyError, TypeError, AssertionError, IndexError) as error:
        raise StudyError(
            f"{place} is damaged and cannot be read as Optuna's journal; put back a copy, or move "
            "it away to search anew",
            file=str(place),
        ) from error


def _database(url: str) -> BaseStorage:
    try:
        return get_storage(url)
    except Exception as error:  # Whatever SQLAlchemy or the database's driver raises.
        text = first_line(error)
        password = login_of(url)[:-1].partition(":")[2]
        raise StudyError(
            f"the storage {without_password(url)} cannot be used: "
            f"{text.replace(password, '***') if password else text}"
        ) from error
