"""When a trial that reports nothing is a stall."""

from typing import Any

import pytest

from rwood.ray_backend.stalls import Progress
from rwood.search.stalls import StallWatch
from tests.search.a_search import TuneTrial


def test_nothing_is_a_stall_before_anyone_knows_how_long_an_epoch_takes() -> None:
    progress = Progress()
    progress.start(0, now=0.0)
    assert progress.limit() is None
    assert progress.stalled(now=1e6) == []


def test_ten_times_the_median_between_reports_is_a_stall_and_never_less_than_ten_minutes() -> None:
    progress = Progress()
    progress.start(0, now=0.0)
    for epoch in range(1, 6):
        progress.report(0, now=60.0 * epoch)
    assert progress.limit() == 600.0
    assert progress.stalled(now=900.0) == []
    assert progress.stalled(now=901.0) == [0]
    for epoch in range(1, 20):
        progress.report(0, now=300.0 + 200.0 * epoch)
    assert progress.limit() == 2000.0


def test_a_named_limit_counts_from_the_workers_start_and_a_waiting_trial_never_stalls() -> None:
    progress = Progress(limit_minutes=0.5)
    progress.start(3, now=100.0)
    assert progress.stalled(now=131.0) == [3]
    progress.end(3)
    assert progress.stalled(now=1e6) == []


class Ends:
    """What the watch asks of the trials."""

    def __init__(self) -> None:
        self.failed: list[tuple[int, str, str]] = []

    def fail(self, number: int, error: str, kind: str) -> None:
        self.failed.append((number, error, kind))


def test_a_stalled_trial_is_started_again_once_then_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    from rwood.ray_backend import compat

    killed: list[Any] = []
    monkeypatch.setattr(compat, "kill_worker", killed.append)
    ends, told, progress = Ends(), [], Progress(limit_minutes=1.0)
    watch = StallWatch(ends, progress, told.append)  # type: ignore[arg-type]
    trials = [TuneTrial({"number": number}) for number in (0, 1)]
    for trial in trials:
        trial.status = "RUNNING"  # type: ignore[attr-defined]
    for wanted in (1, 2):
        progress.start(0, now=-1e9)  # long before any clock
        watch.checked = 0.0
        watch.on_step_begin(0, trials)
        assert killed == [trials[0]] * wanted
    assert told == ["trial 0: no report for 1 min 00 s; it is started again from its checkpoint"]
    assert ends.failed == [(0, "no report for 1 min 00 s, for the second time", "environment")]
