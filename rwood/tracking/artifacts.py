"""A run's files, uploaded when their content changes."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rwood.storage import local_copy
from rwood.tracked.run import TrackedRun

ARTIFACTS_TAG = "rwood.artifacts"
"""JSON: artifact path -> digest of the file that was uploaded."""
Marks = Mapping[Path, tuple[int, int] | None]
"""File -> its time of change (ns) and size (bytes); None if it is missing."""


def marks_of(run: TrackedRun) -> Marks:
    """Marks of a run's files: equal marks spare reading the files again."""
    marks: dict[Path, tuple[int, int] | None] = {}
    for path, _ in run.artifacts:
        try:
            stat = path.stat()
            marks[path] = (stat.st_mtime_ns, stat.st_size)
        except FileNotFoundError:
            marks[path] = None
    return marks


def upload(
    client: Any, run: TrackedRun, run_id: str, uploaded: dict[str, str], marks: Marks, before: Marks
) -> None:
    """Upload files that changed; a missing one does not keep the others back.

    `uploaded` has artifact path -> digest of what the server has, and is kept up to date; `before`
    are the marks of when the run was sent last.
    """
    for path, folder in run.artifacts:
        name = f"{folder}/{path.name}" if folder else path.name
        if marks[path] is None or (marks[path] == before.get(path) and name in uploaded):
            continue
        with path.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()[:16]
        if uploaded.get(name) != content:
            with local_copy(path) as file:
                client.log_artifact(run_id, str(file), folder)
            uploaded[name] = content
