"""A real MLflow server: what it refuses, and that it goes away and comes back."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rwood.tracking.client import KEY_TAG, all_runs, connect
from rwood.tracking.tracker import Tracker
from tests.tracking.a_backlog import SEARCH, a_trial


@contextmanager
def server(uri: str, port: int) -> Iterator[str]:
    """An MLflow server on a store, at a fixed port of the loopback."""
    folder = Path(uri.removeprefix("sqlite:///")).parent
    words = ["server", "--backend-store-uri", uri, "--artifacts-destination", str(folder / "files"),
             "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *words], cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 180
        while not _answers(f"{address}/health"):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.3)
        yield address
    finally:
        process.terminate()
        process.wait(120)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def test_a_server_refuses_one_run_and_goes_away_for_a_while(uri: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = tmp_path / "page.md"
    page.write_text("what was measured")
    with server(uri, port) as address:
        tracker = Tracker(address, "toy", memory=tmp_path / "mlflow.json")
        tracker.update(SEARCH)
        tracker.update(a_trial(0, params={"not$a name": 1}))
        tracker.update(a_trial(1, artifacts=((page, None),)))
        assert tracker.flush()
        assert tracker.run_id("id/search/0") is None
        assert tracker.run_id("id/search/1") is not None
    tracker.update(a_trial(2))
    assert not tracker.flush()
    with server(uri, port):
        tracker.interrupt()
        sentence = tracker.close()
    assert sentence is not None
    assert sentence.startswith(f"MLflow at {address} lacks all or part of run trial-0000 (")
    assert "not$a name" in sentence
    client = connect(uri)
    found = client.get_experiment_by_name("toy")
    held = {r.data.tags[KEY_TAG]: r for r in all_runs(client, found.experiment_id)}
    assert {key: run.info.status for key, run in held.items()} == {
        "id/search": "SCHEDULED", "id/search/0": "FINISHED", "id/search/1": "FINISHED",
        "id/search/2": "FINISHED",
    }  # fmt: skip
    assert [p.read_text() for p in (tmp_path / "files").rglob("page.md")] == ["what was measured"]
