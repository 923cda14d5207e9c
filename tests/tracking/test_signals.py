"""Ctrl-C twice, in a real process, leaves nothing RUNNING."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rwood.tracking.signals import signals_deferred
from tests.test_tracking import store

PROGRAM = """
import sys, time
from pathlib import Path
from rwood.tracking.signals import signals_deferred
from rwood.tracking.tracker import Tracker
from tests.tracking.a_backlog import SEARCH, a_tracker, a_trial

uri, way = sys.argv[1:]
tracker = a_tracker(uri, SEARCH, a_trial(0, state="running"))
assert tracker.flush()
if way == "draining":
    for number in range(1, 2000):
        tracker.update(a_trial(number))
    print("ready", flush=True)
    tracker.close()
try:
    print("ready", flush=True)
    time.sleep(60)
except BaseException:
    def leave():
        print("leaving", flush=True)
        time.sleep(2)  # Ray disconnects.
        tracker.interrupt()
        tracker.close()
        print("left", flush=True)
    if way == "deferred":
        with signals_deferred():
            leave()
    else:
        leave()
    raise
"""


@pytest.mark.parametrize("way", ["deferred", "not deferred", "draining"])
def test_ctrl_c_twice_leaves_nothing_running(uri: str, way: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, uri, way],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        if way != "draining":
            assert process.stdout.readline() == "leaving\n"
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        rest, errors = process.communicate(timeout=120)
    assert time.monotonic() - began < 40
    assert "KeyboardInterrupt" in errors
    assert rest == ("left\n" if way == "deferred" else "")
    held = store(uri)
    assert {held[key]["status"] for key in ("id/search", "id/search/0")} == {"SCHEDULED"}
    assert "RUNNING" not in {run["status"] for run in held.values()}


def test_a_deferred_signal_is_delivered_once_at_the_end() -> None:
    done = []

    def interrupted_twice() -> None:
        with signals_deferred() as outer:
            with signals_deferred() as inner:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
                done.append(list(inner))
            done.append(list(outer))

    with pytest.raises(KeyboardInterrupt):
        interrupted_twice()
    assert done == [[signal.SIGINT] * 2, [signal.SIGINT]]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_a_signal_nothing_is_delivered(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals_deferred() as came:
        assert signal.getsignal(signal.SIGTERM) is not before
    assert came == []
    assert signal.getsignal(signal.SIGTERM) is before
