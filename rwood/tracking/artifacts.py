"""A run's files, uploaded when their content changes."""

import errno
import hashlib
import os
import zlib
from pathlib import Path
from typing import Any

from rwood.storage import local_copy
from rwood.tracked.run import TrackedRun

ARTIFACTS_TAG = "rwood.artifacts"
"""JSON: artifact path -> `<digest of the file that was uploaded>-<its mark>`."""


def upload(client: Any, run: TrackedRun, run_id: str, uploaded: dict[str, str]) -> None:
    """Upload files that changed; a missing one does not keep the others back.

    `uploaded` is what `ARTIFACTS_TAG` says, and is kept up to date.

    Raises:
        FileNotFoundError: a file is missing; the others are uploaded.
    """
    missing = None
    for path, folder in run.artifacts:
        name = f"{folder}/{path.name}" if folder else path.name
        content_before, _, mark_before = uploaded.get(name, "").partition("-")
        try:
            mark = _mark(path)
        except FileNotFoundError:
            missing = missing or path
            continue
        if mark == mark_before:
            continue
        with path.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()[:16]
        if content != content_before:
            with local_copy(path) as file:
                client.log_artifact(run_id, str(file), folder)
        uploaded[name] = f"{content}-{mark}"
    if missing is not None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(missing))


def _mark(path: Path) -> str:
    """Names a file's time of change and size: while they are equal it is not read again."""
    stat = path.stat()
    return f"{zlib.crc32(f'{stat.st_mtime_ns} {stat.st_size}'.encode()):08x}"
