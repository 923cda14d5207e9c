"""The lock of an object store: one holder, found alive or dead, and lost when taken over."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from rich.console import Console

from rwood.errors import StudyError
from rwood.progress.display import screen
from rwood.results import StudyResult, load
from rwood.study import lease
from rwood.study.context import Context
from rwood.study.stages import open_study
from tests.conftest import with_store
from tests.tiny import tiny


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 1.5)
    monkeypatch.setattr(lease, "BEAT_S", 0.1)


def put(folder: Path, number: int, process: str) -> None:
    holder = lease.Holder(process=process, began=0.0, renewed=time.time())
    (folder / "lock" / f"{number:06d}").write_text(holder.model_dump_json())


def test_one_process_at_a_time_and_again_when_it_is_done(bucket: Path) -> None:
    with lease.held(bucket):
        holder = lease.last_holder(bucket)
        assert holder is not None
        assert holder.process.startswith(f"process {os.getpid()} on ")
        with (
            pytest.raises(StudyError, match=rf"is in use by process {os.getpid()} on "),
            lease.held(bucket),
        ):
            pass
    with lease.held(bucket):
        pass
    assert [path.name for path in (bucket / "lock").glob("*")] == ["000002"]
    last = lease.last_holder(bucket)
    assert last is not None
    assert last.released


def test_a_dead_process_of_this_host_is_followed_at_once(bucket: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = lease.socket.gethostname()
    put(bucket, 7, f"process {dead.pid} on {host}")
    lease.LEASE_S = 3600.0  # nobody waits for it
    with lease.held(bucket):
        assert [path.name for path in (bucket / "lock").glob("*")] == ["000008"]


def test_a_process_elsewhere_is_dead_when_it_does_not_renew(bucket: Path) -> None:
    put(bucket, 3, "process 1 on elsewhere")
    with lease.held(bucket):
        assert [path.name for path in (bucket / "lock").glob("*")] == ["000004"]


def test_who_lost_its_lease_overwrites_nothing(
    bucket: Path, tmp_path: Path, empty_store: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that slept for longer than its lease, and ends before it hears of its loss."""
    monkeypatch.setattr(lease, "BEAT_S", 3600.0)
    store = f"sqlite:///{with_store(tmp_path, empty_store) / 'mlflow.db'}"
    study = tiny(tmp_path, search=None)
    context = Context(bucket, tmp_path, tracking_uri=store)

    def work() -> None:
        with open_study(study, context, screen(study, Console(quiet=True))) as opened:
            put(bucket / "tiny", 2, "process 1 on elsewhere")
            (bucket / "tiny" / "lock" / "000001").unlink()
            opened._save(champion=7)

    with pytest.raises(StudyError, match="another process took over"):
        work()
    assert load(StudyResult, bucket / "tiny" / "study.json").champion is None


def test_a_store_that_is_gone_does_not_hide_why_a_study_ended(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        with lease.held(bucket):
            monkeypatch.setattr(type(bucket), "write_bytes", Mock(side_effect=OSError("gone")))
            raise StudyError("the reason")

    with pytest.raises(StudyError, match="the reason"):
        work()


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["terminal", "script"])
def started(request: pytest.FixtureRequest) -> Iterator[object]:
    """How a terminal starts a process, and how a script starts one in the background."""
    before = signal.signal(signal.SIGINT, request.param)
    yield request.param
    signal.signal(signal.SIGINT, before)


def test_a_lease_that_was_taken_over_ends_its_holder(
    bucket: Path, monkeypatch: pytest.MonkeyPatch, started: object
) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.2)

    def work() -> None:
        with lease.held(bucket):
            put(bucket, 2, "process 1 on elsewhere")
            time.sleep(60)

    with pytest.raises(StudyError, match="another process took over"):
        work()
    assert signal.getsignal(signal.SIGINT) is started
    last = lease.last_holder(bucket)
    assert last is not None
    assert (last.process, last.released) == ("process 1 on elsewhere", False)
