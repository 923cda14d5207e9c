"""The lock of an object store: one holder, found alive or dead, and lost when taken over."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rwood.errors import StudyError
from rwood.study import lease


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
