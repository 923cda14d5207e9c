"""What the server has is neither sent nor asked for again at the next start."""

import hashlib
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from rwood.tracked.run import TrackedRun
from rwood.tracking import tracker
from rwood.tracking.client import connect, local_uri
from rwood.tracking.sender import Sender
from tests.test_tracking import store
from tests.tracking.a_backlog import SEARCH, a_tracker, a_trial

REQUESTS = ("create_run", "log_batch", "log_inputs", "get_run", "get_metric_history", "update_run",
            "set_terminated", "log_artifact")  # fmt: skip


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Requests about single runs, by kind."""
    counts: Counter[str] = Counter()

    def counted(name: str) -> None:
        real = getattr(MlflowClient, name)

        def call(*args: object, **kwargs: object) -> object:
            counts[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(MlflowClient, name, call)

    for name in REQUESTS:
        counted(name)
    return counts


def finished(count: int) -> list[TrackedRun]:
    return [replace(SEARCH, state="complete"), *(a_trial(n) for n in range(count))]


def test_a_finished_run_costs_four_requests(uri: str, requests: Counter[str]) -> None:
    assert a_tracker(uri, SEARCH).close() is None
    requests.clear()
    assert a_tracker(uri, a_trial(0)).close() is None
    assert requests == {"create_run": 1, "log_inputs": 1, "log_batch": 1, "set_terminated": 1}
    held = store(uri)["id/search/0"]
    assert (held["status"], held["end"]) == ("FINISHED", 1_010_000)
    assert [step for step, *_ in held["metrics"]["val/set9/auroc"]] == [1, 2, 3, 4, 5, 6]
    assert held["metrics"]["objective"] == [(0, 1_010_000, 90.0)]


def test_a_restart_asks_for_no_run_that_the_server_has(
    uri: str, requests: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a file read that has not changed."""
    page = tmp_path / "page.md"
    page.write_text("first")
    runs = [*finished(4), a_trial(4, artifacts=((page, None),))]
    assert a_tracker(uri, *runs).close() is None
    before = store(uri)
    requests.clear()
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read again"))
        again = a_tracker(uri, *runs)
        assert again.flush()
        assert again.run_id("id/search/3") == before["id/search/3"]["id"]
        assert again.close() is None
    assert not requests
    page.write_text("second")
    assert a_tracker(uri, *runs).close() is None
    assert requests == {"log_artifact": 1, "log_batch": 1}


def test_what_the_server_lost_is_sent_again(uri: str, tmp_path: Path, empty_store: bytes) -> None:
    assert a_tracker(uri, *finished(3)).close() is None
    before = store(uri)
    connect(uri).delete_run(before["id/search/1"]["id"])
    assert a_tracker(uri, *finished(3)).close() is None
    after = store(uri)
    assert after["id/search/1"].pop("id") != before["id/search/1"].pop("id")
    assert after == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mlflow.db").write_bytes(empty_store)
    fresh = local_uri(tmp_path / "other")
    assert a_tracker(fresh, *finished(3)).close() is None
    assert {k: r["metrics"] for k, r in store(fresh).items()} == {
        k: r["metrics"] for k, r in before.items()
    }


def test_a_fresh_store_at_the_same_address_gets_everything(
    uri: str, tmp_path: Path, empty_store: bytes
) -> None:
    assert a_tracker(uri, *finished(2)).close() is None
    before = store(uri)
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    assert a_tracker(uri, *finished(2)).close() is None
    assert {k: r["metrics"] for k, r in store(uri).items()} == {
        k: r["metrics"] for k, r in before.items()
    }


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that takes 50 ms more a run."""
    send = Sender.send

    def slowly(self: Sender, run: TrackedRun) -> str:
        time.sleep(0.05)
        return send(self, run)

    monkeypatch.setattr(Sender, "send", slowly)


@pytest.mark.usefixtures("slow")
def test_a_backlog_is_sent_in_one_start(uri: str) -> None:
    """Closing waits as long as runs go through, not for a fixed time."""
    sending = a_tracker(uri, SEARCH)
    assert sending.flush()
    for run in finished(60):
        sending.update(run)
    assert sending.close(timeout=2.0) is None
    held = store(uri)
    assert {run["status"] for run in held.values()} == {"FINISHED"}
    assert len(held) == 61


@pytest.mark.usefixtures("slow")
def test_an_interrupt_marks_what_runs_first_and_waits_for_no_backlog(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "_INTERRUPTED_S", 2.0)
    sending = a_tracker(uri, a_trial(900, epochs=2, state="running"))
    assert sending.flush()
    for run in finished(150):
        sending.update(run)
    sending.interrupt()
    began = time.monotonic()
    sentence = sending.close()
    assert time.monotonic() - began < 5
    assert store(uri)["id/search/900"]["status"] == "SCHEDULED"
    assert sentence is not None
    assert "(interrupted); nothing is lost: the next rwood run sends them" in sentence
    assert "RUNNING" not in {run["status"] for run in store(uri).values()}
