"""Checkpoints of one run: written atomically, read back only if whole and its own."""

import pickle
import re
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, Self

import torch
from torch import Tensor

from rwood.errors import StudyError
from rwood.model.checkpoint_keys import write_tensors

KEPT = 2
"""Newest checkpoints kept: if the last one is damaged, the one before it is used."""

State = dict[str, Any]


def save(folder: Path, epoch: int, digest: str, state: State, *, step: int = 0) -> Path:
    """Write `epoch-<n>.pt`, or `epoch-<n>-step-<m>.pt`; a crash leaves the earlier files alone.

    Args:
        folder: the run's folder.
        epoch: epochs done.
        digest: names the training; reading under another digest is refused.
        state: tensors and plain values only.
        step: steps done in the epoch after those.
    """
    path = folder / (f"epoch-{epoch:04d}" + (f"-step-{step:06d}" if step else "") + ".pt")
    write_tensors(path, {"digest": digest, "epoch": epoch, **state})
    for _, _, old in _by_time(folder)[:-KEPT]:
        if old.name != path.name:  # which damaged ones of later epochs may follow
            old.unlink(missing_ok=True)
    return path


class Writer:
    """Writes the checkpoints of one run; beside a GPU in a thread, so that it need not wait.

    A checkpoint is then copied to the host and written while the next epoch trains. An epoch that
    ends while the one before it is still being written has none: a crash costs what was trained
    since the last write began. Files appear whole or not at all, as ever.
    """

    def __init__(self, folder: Path, digest: str, *, behind: bool) -> None:
        """Write nothing yet; `behind`: later in a thread."""
        self.folder, self._digest, self._behind = folder, digest, behind
        self._thread: Thread | None = None
        self._error: Exception | None = None

    def save(self, epoch: int, state: State, *, step: int = 0, at_once: bool = False) -> None:
        """Write a checkpoint (see `save`), or begin to, or leave it out; `at_once`: it is on disk.

        Raises:
            StorageError: this one or the one before it could not be written.
        """
        waits = at_once or not self._behind
        if not waits and self._thread is not None and self._thread.is_alive():
            return
        self._join()
        if self._error is not None:
            raise self._error
        if waits:
            save(self.folder, epoch, self._digest, state, step=step)
            return
        self._thread = Thread(target=self._write, args=(epoch, step, _on_host(state)))
        self._thread.start()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave when nothing is being written any more."""
        self._join()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _write(self, epoch: int, step: int, state: State) -> None:
        try:
            save(self.folder, epoch, self._digest, state, step=step)
        except Exception as error:  # raised where the run hears of it
            self._error = error


def discard(folder: Path) -> None:
    """Delete the checkpoints below a folder; what cannot be deleted stays."""
    for path in folder.rglob("epoch-*.pt"):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def load_latest(folder: Path, digest: str, note: Callable[[str], None]) -> State | None:
    """The newest whole checkpoint, on the CPU; None if there is none.

    A damaged file is passed over, with a note: the one before it is used.

    Raises:
        StudyError: the folder belongs to another training than the digest names.
    """
    for epoch, _, path in reversed(_by_time(folder)):
        try:
            with path.open("rb") as file:
                if damaged := zipfile.ZipFile(file).testzip():  # torch asks for no checksum
                    raise zipfile.BadZipFile(damaged)
                file.seek(0)
                state: State = torch.load(file, map_location="cpu", weights_only=True)
            found_digest = state["digest"]
        except (RuntimeError, OSError, EOFError, KeyError, ValueError, pickle.UnpicklingError,
                zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
            note(f"{path} is damaged ({type(error).__name__}); going on from the one before it")
            continue
        if found_digest != digest:
            raise StudyError(
                f"{folder} holds another training (digest {found_digest} at epoch {epoch}, wanted "
                f"{digest}); move it away or choose another results folder",
                found=found_digest,
                wanted=digest,
            )
        return state
    return None


def _on_host(state: State) -> State:
    """A copy that training does not change: on the host, pinned if it comes from a GPU."""

    def copied(value: Any) -> Any:
        if isinstance(value, Tensor):
            held = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
            return held.copy_(value)
        if isinstance(value, dict):
            return {key: copied(part) for key, part in value.items()}
        return type(value)(map(copied, value)) if isinstance(value, list | tuple) else value

    made: State = copied(state)
    return made


def _by_time(folder: Path) -> list[tuple[int, int, Path]]:
    """Epochs done, steps done after those, file; the oldest first."""
    pattern = re.compile(r"epoch-(\d+)(?:-step-(\d+))?\.pt")
    named = ((pattern.fullmatch(path.name), path) for path in folder.glob("epoch-*.pt"))
    return sorted((int(match[1]), int(match[2] or 0), path) for match, path in named if match)
