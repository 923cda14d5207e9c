"""Checkpoints of one run: written atomically, read back only if whole and its own."""

import io
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rwood.errors import StudyError
from rwood.storage import written

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

    Returns:
        The file.
    """
    path = folder / (f"epoch-{epoch:04d}" + (f"-step-{step:06d}" if step else "") + ".pt")
    write_tensors(path, {"digest": digest, "epoch": epoch, **state})
    for _, _, old in _by_time(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def load_latest(folder: Path, digest: str, note: Callable[[str], None]) -> State | None:
    """The newest whole checkpoint, on the CPU; None if there is none.

    Args:
        folder: the run's folder.
        digest: names the training.
        note: told of a damaged file, which is passed over: the one before it is used.

    Raises:
        StudyError: the folder belongs to another training.
    """
    for epoch, _, path in reversed(_by_time(folder)):
        try:
            with path.open("rb") as file:
                state: State = torch.load(file, map_location="cpu", weights_only=True)
            found = state["digest"]
        except (RuntimeError, OSError, EOFError, KeyError, ValueError, pickle.UnpicklingError,
                zipfile.BadZipFile) as error:  # fmt: skip
            note(f"{path} is damaged ({type(error).__name__}); going on from the one before it")
            continue
        if found != digest:
            raise StudyError(
                f"{folder} holds another training (digest {found} at epoch {epoch}, wanted "
                f"{digest}); move it away or choose another results folder",
                found=found,
                wanted=digest,
            )
        return state
    return None


def write_tensors(path: Path, state: State) -> None:
    """`torch.save` so that readers see the old file or the new one, never half of one."""
    buffer = io.BytesIO()  # torch says of a full disk something else than that it is full.
    torch.save(state, buffer)
    with written(path) as file:
        file.write(buffer.getbuffer())


def _by_time(folder: Path) -> list[tuple[int, int, Path]]:
    """Epochs done, steps done after those, file; the oldest first."""
    pattern = re.compile(r"epoch-(\d+)(?:-step-(\d+))?\.pt")
    found = ((pattern.fullmatch(path.name), path) for path in folder.glob("epoch-*.pt"))
    return sorted((int(match[1]), int(match[2] or 0), path) for match, path in found if match)
