"""One run that cannot be sent keeps nobody back; a server that is away keeps all waiting."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from rwood.tracking.sender import Sender
from tests.test_tracking import store
from tests.tracking.a_backlog import SEARCH, a_tracker, a_trial


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("rwood")]


def test_a_run_whose_file_is_missing_keeps_nobody_back(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page, missing = tmp_path / "page.md", tmp_path / "missing.pt"
    page.write_text("what was measured")
    broken = a_trial(0, artifacts=((missing, None), (page, None)))
    with caplog.at_level(logging.WARNING, "rwood"):
        tracker = a_tracker(uri, SEARCH, broken, *(a_trial(n) for n in range(1, 4)))
        assert tracker.flush()
        tracker.update(broken)  # Stated again as it was: said and tried no more.
        sentence = tracker.close()
    assert sentence is not None
    assert f"lacks all or part of run trial-0000 ({missing}: No such file" in sentence
    assert sentence.endswith("the next rwood run tries again")
    (warning,) = warnings(caplog)
    assert warning.startswith(f"run trial-0000 could not be sent to MLflow: {missing}: No such")
    held = store(uri)
    assert {held[f"id/search/{n}"]["status"] for n in range(4)} == {"FINISHED"}
    assert len(held["id/search/0"]["metrics"]["val/set0/auroc"]) == 6
    assert [path for path, _ in held["id/search/0"]["artifacts"]] == ["page.md"]
    missing.write_bytes(b"weights")
    assert a_tracker(uri, broken).close() is None  # the next start
    assert {path for path, _ in store(uri)["id/search/0"]["artifacts"]} == {"missing.pt", "page.md"}


def test_a_refused_parameter_is_tried_again_when_the_run_changes(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []
    send = Sender.send
    monkeypatch.setattr(Sender, "send", lambda self, run: (tries.append(run.key), send(self, run)
                                                           )[1])  # fmt: skip
    refused = a_trial(0, params={"not$a name": 1})
    tracker = a_tracker(uri, SEARCH, refused, a_trial(1))
    assert tracker.flush()
    assert tries.count(refused.key) == 2
    assert [store(uri)[f"id/search/{n}"]["status"] for n in (0, 1)] == ["FINISHED"] * 2
    tracker.update(refused)
    assert tracker.flush()
    assert tries.count(refused.key) == 2
    tracker.update(replace(refused, params={"a name": 1}))
    assert tracker.close() is None
    held = store(uri)["id/search/0"]
    assert (held["params"], held["status"]) == ({"a name": "1"}, "FINISHED")
    assert [step for step, *_ in held["metrics"]["val/set3/auroc"]] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_was_deleted_meanwhile_is_made_anew(uri: str) -> None:
    from rwood.tracking.client import connect

    tracker = a_tracker(uri, a_trial(0, epochs=2, state="running"))
    assert tracker.flush()
    connect(uri).delete_run(store(uri)["id/search/0"]["id"])
    tracker.update(a_trial(0))
    assert tracker.close() is None
    held = store(uri)["id/search/0"]
    assert [step for step, *_ in held["metrics"]["val/set0/auroc"]] == [1, 2, 3, 4, 5, 6]


@contextmanager
def broken_table(uri: str, table: str, when: str) -> Iterator[None]:
    """The database itself fails at some rows: what MLflow calls temporarily unavailable."""
    path = uri.removeprefix("sqlite:///")
    fault = "SELECT abs(-9223372036854775807 - min(1, length(NEW.run_uuid)))"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            f"CREATE TRIGGER fault BEFORE INSERT ON {table} WHEN {when} BEGIN {fault}; END"
        )
    yield
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DROP TRIGGER fault")


def test_a_run_at_which_the_server_breaks_keeps_nobody_back(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = a_tracker(uri, SEARCH)
    assert tracker.flush()
    with broken_table(uri, "params", "NEW.key = 'poison'"):
        tracker.update(a_trial(0, params={"poison": 1}))
        for number in range(1, 9):
            tracker.update(a_trial(number))
        sentence = tracker.close()
    assert sentence is not None
    held = store(uri)
    assert {held[f"id/search/{n}"]["status"] for n in range(1, 9)} == {"FINISHED"}


def test_children_go_before_a_parent_that_cannot_be_made(uri: str) -> None:
    tracker = a_tracker(uri, a_trial(7))
    assert tracker.flush()
    with broken_table(uri, "runs", "NEW.name = 'search'"):
        tracker.update(SEARCH)
        for number in range(3):
            tracker.update(a_trial(number))
        assert not tracker.flush()
    assert tracker.close() is None
    held = store(uri)
    parent = held.pop(SEARCH.key)["id"]
    for run in held.values():
        assert run["status"] == "FINISHED"
        assert run["tags"]["mlflow.parentRunId"] == parent
        assert run["tags"]["rwood.search_run_id"] == parent


def test_a_store_that_takes_nothing_is_an_outage(
    uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = a_tracker(uri, SEARCH)
    assert tracker.flush()
    with caplog.at_level(logging.WARNING, "rwood"):
        with broken_table(uri, "runs", "1"):
            for number in range(4):
                tracker.update(a_trial(number))
            assert not tracker.flush()
        assert tracker.flush() or tracker.flush()  # The first may end with the outage's last try.
    assert tracker.close() is None
    assert len(store(uri)) == 5
    (warning,) = warnings(caplog)
    assert warning.startswith("MLflow does not answer: ")
