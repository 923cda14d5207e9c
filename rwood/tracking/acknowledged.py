"""Which runs a server has acknowledged, kept from one start of a study to the next.

The file is a shortcut and not a record: without it every run is compared with the server again,
which takes longer and changes nothing.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rwood.errors import StorageError
from rwood.storage import written
from rwood.tracked.run import TrackedRun
from rwood.tracking.artifacts import Marks


def digest(run: TrackedRun, run_id: str, links: Mapping[str, str | None], marks: Marks) -> str:
    """Digest of a run as it was sent, 16 hexadecimal digits.

    A run that was deleted there and made again has another id; a link is None while the server
    lacks its run.
    """
    params = {name: str(value) for name, value in run.params.items()}
    made = hashlib.sha256(repr(replace(run, params=params, history=(), artifacts=())).encode())
    for report in run.history:
        made.update(report.model_dump_json().encode())
    files = [(str(path), folder, marks.get(path)) for path, folder in run.artifacts]
    made.update(repr((run_id, sorted(links.items()), files)).encode())
    return made.hexdigest()[:16]


def read_acknowledged(path: Path, server: str) -> dict[str, str]:
    """Run key -> digest of what a server acknowledged; empty if the file says nothing of it."""
    digests = _read(path).get(server)
    if not isinstance(digests, dict):
        return {}
    return {str(key): text for key, text in digests.items() if isinstance(text, str)}


def write_acknowledged(path: Path, server: str, digests: Mapping[str, str]) -> None:
    """Keep what a server acknowledged, beside what the file says of other servers."""
    text = json.dumps(_read(path) | {server: dict(digests)}, indent=0)
    with suppress(StorageError), written(path) as file:  # Without the file, only time is lost.
        file.write(text.encode("utf-8"))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except Exception:  # Missing, damaged, or on an object store, whose library has its own errors.
        return {}
    return content if isinstance(content, dict) else {}
