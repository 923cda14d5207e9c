"""A study's record on disk: made once, owned by one config, worked on by one process at a time."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rwood import results, storage
from rwood.config.base import digest
from rwood.config.study import TEST_SETS, StudyConfig, trial_digest
from rwood.errors import StorageError, StudyError
from rwood.paths import StudyPaths
from rwood.ray_backend.versions import versions
from rwood.results import Change, StudyResult
from rwood.study import lease
from rwood.study.plans import ALONE
from rwood.text import without_password

_IDENTITY = ("benchmark.", "run.", "search.objective", "search.seeds")
"""Settings that name a study: with others it is another study, and its trials count for nothing."""
_FREE = (*(f"benchmark.{part}" for part in (*TEST_SETS, "published", "id.test")), "run.compile")
"""Settings of those that change no trial."""
_RECORDED = ("search.", "finals", "cluster.")
"""Settings whose changes are recorded."""


@contextmanager
def open_record(
    study: StudyConfig, folder: Path
) -> Iterator[tuple[StudyResult, Callable[[], None]]]:
    """The record of a study, new or as it was left, while no other process has it open.

    Yields:
        The record, and what to call before it is saved: raises a StudyError if another process has
        taken it over.

    Raises:
        StudyError: the folder cannot be written, belongs to another study, or is in use.
    """
    alone = lease.held if storage.is_remote(folder) else _locked
    with alone(folder) as check:
        with storage.probe(folder):
            pass
        yield _read(study, folder), check


@contextmanager
def _locked(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold a lock that the operating system frees if the process dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written: {error.strerror}; choose another --results",
            path=str(folder),
        ) from error
    try:
        if StudyPaths(folder).lock.is_dir():  # Leases, copied from an object store.
            shutil.rmtree(StudyPaths(folder).lock)
        lock = (StudyPaths(folder).lock).open("a+", encoding="utf-8")
    except OSError as error:
        raise storage.unwritable(folder, error) from error
    with lock:
        _take(lock, folder)
        yield lambda: None  # Nobody takes it over.


def _take(lock: Any, folder: Path) -> None:
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        raise lease.in_use(folder, lock.read().strip()) from error
    except OSError as error:  # A shared file system without locks.
        raise storage.unwritable(StudyPaths(folder).lock, error) from error
    lock.seek(0)
    lock.truncate()
    lock.write(lease.this_process())
    lock.flush()


def _read(study: StudyConfig, folder: Path) -> StudyResult:
    config, record = study.model_dump(mode="json"), _stored(study, folder)
    if record is None:
        record = StudyResult(
            name=study.name,
            id=uuid.uuid4().hex[:12],
            objective=study.search.primary if study.search else None,
            objectives=study.search.objectives if study.search else (),
            trial_digest=study.trial_digest,
            config=config,
            versions=versions(),
        )
        results.save(record, StudyPaths(folder).record)
        return record
    changes = record.changes + tuple(_changes(record, config))
    return record.model_copy(update={"config": config, "versions": versions(), "changes": changes})


def is_finished(study: StudyConfig, folder: Path) -> bool:
    """True if nothing is left to do for a study in its results folder, and nothing is missing."""
    paths = StudyPaths(folder)
    if not all(map(storage.exists, (paths.record, paths.report, paths.detector))):
        return False
    return results.load(StudyResult, paths.record).finished == digest(study)


def read_record(study: StudyConfig, folder: Path, url: str | None) -> StudyResult | None:
    """The record of a study so far, None without one; whoever works on it is not disturbed.

    Raises:
        StudyError: the folder belongs to another study, or the study's trials are elsewhere.
    """
    record = _stored(study, folder)
    if record is not None:
        check_storage(record, url)
    return record


def _stored(study: StudyConfig, folder: Path) -> StudyResult | None:
    path = StudyPaths(folder).record
    if not storage.exists(path):
        _check_not_lost(folder)
        return None
    record = results.load(StudyResult, path)
    if trial_digest(record.config) != study.trial_digest:
        difference = _first_difference(record.config, study.model_dump(mode="json"))
        raise StudyError(
            f"{folder} belongs to another study: {difference}; choose another name or --results, "
            "or move the folder away",
            folder=str(folder),
        )
    if record.finals is None or record.finals.rules:
        return record
    # Of a version that kept them in the config alone.
    finals = record.finals.model_copy(update={"rules": record.config.get("finals") or {}})
    return record.model_copy(update={"finals": finals})


def check_storage(record: StudyResult, url: str | None) -> str | None:
    """The address of Optuna's storage as it may be shown; None: a journal in the results folder.

    Raises:
        StudyError: the study's trials are elsewhere.
    """
    shown = without_password(url) if url else None
    if record.trials and shown != (record.storage and without_password(record.storage)):
        where = record.storage or "the journal in the results folder"
        how = "name it by --storage (RWOOD_STORAGE)" if record.storage else "leave --storage out"
        raise StudyError(f"the trials of study {record.name} are in {where}: {how}")
    return shown


def _check_not_lost(folder: Path) -> None:
    """Refuse results whose record was deleted: a new one would not know what they are.

    Raises:
        StudyError: there are trials or reruns.
    """
    paths = StudyPaths(folder)
    # What `rwood train` leaves needs no record.
    reruns = (run for run in paths.runs.glob("*") if not run.name.startswith(f"{ALONE}-"))
    if storage.exists(paths.optuna) or any(reruns):
        raise StudyError(
            f"{paths.record} is missing, but {folder} holds trials or reruns of an earlier start: "
            "put it back, or move the folder away to start anew",
            folder=str(folder),
        )


def _changes(record: StudyResult, config: dict[str, Any]) -> Iterator[Change]:
    """What this start of search and finals does in another way; nothing before its first trial."""
    for key, before, after in _differences(record.config, config) if record.trials else ():
        if key.startswith(_RECORDED):
            yield Change(trials=len(record.trials), key=key, before=before, after=after)


def _first_difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The first setting that makes it another study, with its old and new value."""
    differences = (
        f"{key} was {before!r}, is {after!r}"
        for key, before, after in _differences(old, new)
        if key.startswith(_IDENTITY) and not key.startswith(_FREE)
    )
    return next(differences, "a part of its run has other settings, or settings of another type")


def _differences(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Dotted key, old and new value of every setting that differs; None is one without it."""
    before, after = _flat(old), _flat(new)
    for key in dict.fromkeys([*after, *before]):
        if before.get(key) != after.get(key):
            yield key, before.get(key), after.get(key)


def _flat(node: Any, key: str = "") -> dict[str, Any]:
    """Dotted keys of a tree of settings; a searched setting's range is one value."""
    if not isinstance(node, dict) or key.startswith("search.space."):
        return {key: node}
    below = f"{key}." if key else ""
    return {k: v for name, child in node.items() for k, v in _flat(child, below + name).items()}
