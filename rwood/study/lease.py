"""Who works on a study whose results lie on an object store, which knows no locks.

A lease is an object `lock/<number>`, made only if it is not there: of several processes that want
the next number one gets it. Its holder rewrites it every few seconds. Whoever wants a lease that is
held watches it: rewritten, its holder is alive; not rewritten for `LEASE_S`, the next number may be
taken. No clocks are compared. A holder that finds a higher number than its own has lost the study,
and ends.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from rwood import storage
from rwood.errors import StudyError
from rwood.paths import StudyPaths

LEASE_S = 40.0
"""A holder that has not renewed its lease for so long has died."""
BEAT_S = 8.0
"""Seconds between two renewals."""


class Holder(BaseModel):
    """What a lease says."""

    model_config = ConfigDict(frozen=True)

    process: str
    """`process <id> on <host>`."""
    began: float
    """When that process began, which tells it from a later one of the same number."""
    renewed: float
    """Unix seconds by the holder's clock; watchers see that it changes."""
    released: bool = False

    @property
    def is_gone(self) -> bool:
        """True if the lease is known to be free: given back, or its process died on this host."""
        number, host = self.process.removeprefix("process ").split(" on ", 1)
        if self.released or host != socket.gethostname():
            return self.released
        try:
            return psutil.Process(int(number)).create_time() != self.began
        except psutil.NoSuchProcess:
            return True


@contextmanager
def held(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold the lease of a study while the block runs.

    Yields:
        What to call before something is written: raises a StudyError if the lease is lost.

    Raises:
        StudyError: the store refuses, another process holds the lease, or took it over.
    """
    try:
        number = _take(folder)
    except StudyError:
        raise
    except Exception as error:  # An object store's library raises errors of its own.
        raise storage.unwritable(folder, error) from error
    stop, lost = threading.Event(), threading.Event()
    beat = threading.Thread(target=_renew, args=(folder, number, stop, lost), daemon=True)
    beat.start()
    ours = signal.getsignal(signal.SIGINT)
    if ours is signal.SIG_IGN:  # A script's background job: the loss of its lease must end it too.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def check() -> None:
        if lost.is_set() or not storage.exists(_path(folder, number)):
            raise StudyError(
                f"another process took over {folder}: this one did not renew its lease for "
                f"{LEASE_S:.0f} s"
            )

    try:
        yield check
    except KeyboardInterrupt:
        if lost.is_set():
            check()
        raise
    finally:
        if ours is signal.SIG_IGN:
            signal.signal(signal.SIGINT, ours)
        stop.set()
        beat.join()
        if not lost.is_set():
            with suppress(Exception):  # Not given back it runs out; what ended the block is said.
                _path(folder, number).write_bytes(_content(released=True))


def last_holder(folder: Path) -> Holder | None:
    """Who has or had the lease last; None if nobody ever had."""
    last = _last(folder)
    return last[1] if last else None


def this_process() -> str:
    """The process as a lock or a lease names it."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def in_use(folder: Path, process: str | None) -> StudyError:
    """The sentence for a study that another process works on; None if it is not known which."""
    return StudyError(
        f"{folder} is in use by {process or 'another process'}; wait for it, or choose another "
        "--results",
        folder=str(folder),
    )


def _take(folder: Path) -> int:
    last = _last(folder)
    if last is not None and not last[1].is_gone:
        _watch(folder, *last)
    number = last[0] + 1 if last else 1
    if not storage.created(_path(folder, number), _content()):
        holder = last_holder(folder)
        raise in_use(folder, holder.process if holder else None)
    for old in StudyPaths(folder).lock.glob("*"):
        if int(old.name) < number:
            old.unlink(missing_ok=True)
    return number


def _watch(folder: Path, number: int, holder: Holder) -> None:
    """Return once a lease has run out; refuse as soon as it is renewed."""
    until = time.monotonic() + LEASE_S
    while time.monotonic() < until:
        time.sleep(min(1.0, LEASE_S / 10))
        last = _last(folder)
        if last is None or (last[0] == number and last[1].is_gone):
            return
        if last != (number, holder):
            raise in_use(folder, last[1].process)


def _renew(folder: Path, number: int, stop: threading.Event, lost: threading.Event) -> None:
    """Rewrite the lease until told to stop; interrupt the main thread if it is lost."""
    while not stop.wait(BEAT_S):
        try:
            last = _last(folder)
            if last is not None and last[0] > number:
                lost.set()
                # A real signal: it ends whatever the main thread waits for.
                os.kill(os.getpid(), signal.SIGINT)
                return
            _path(folder, number).write_bytes(_content())
        except Exception as error:  # The store may be back at the next beat.
            logging.getLogger(__name__).warning("the lease was not renewed: %s", error)


def _last(folder: Path) -> tuple[int, Holder] | None:
    """The lease with the highest number."""
    number = max((int(path.name) for path in StudyPaths(folder).lock.glob("*")), default=None)
    if number is None:
        return None
    path = _path(folder, number)
    try:
        return number, Holder.model_validate_json(storage.content(path))
    except FileNotFoundError:  # Removed since by whoever took a higher number.
        return _last(folder)
    except ValidationError as error:
        raise StudyError(f"{path} is no lease of this version of rwood: remove it") from error


def _path(folder: Path, number: int) -> Path:
    return StudyPaths(folder).lock / f"{number:06d}"


def _content(*, released: bool = False) -> bytes:
    holder = Holder(
        process=this_process(),
        began=psutil.Process().create_time(),
        renewed=time.time(),
        released=released,
    )
    return holder.model_dump_json().encode()
