"""Trials that report nothing for too long: started again once, then failed."""

import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ray import tune

from rwood.ray_backend import compat
from rwood.search.trials import Trials
from rwood.text import count_of

_LEAST_S = 600.0
_FACTOR = 10
"""A limit that nobody named: so many times the median between two reports, and at least that."""
_CHECK_S = 1.0


@dataclass
class Progress:
    """When each trial that runs was last heard of.

    A trial that waits for its resources is not among them. Where no trial has reported yet, nobody
    knows how long an epoch takes, and nothing is a stall unless the study names a limit.
    """

    limit_s: float | None = None
    """`cluster.stall_minutes`, in seconds."""
    last: dict[int, float] = field(default_factory=dict)
    """Trial -> seconds of the monotonic clock."""
    gaps: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    """Seconds between the last reports of all trials."""

    def start(self, number: int, now: float) -> None:
        """A worker began with a trial."""
        self.last[number] = now

    def report(self, number: int, now: float) -> None:
        """A trial reported."""
        if number in self.last:
            self.gaps.append(now - self.last[number])
        self.last[number] = now

    def end(self, number: int) -> None:
        """A trial's worker is gone."""
        self.last.pop(number, None)

    def limit(self) -> float | None:
        """Seconds without a report that are a stall; None if not known yet."""
        if self.limit_s is not None:
            return self.limit_s
        return max(_LEAST_S, _FACTOR * statistics.median(self.gaps)) if self.gaps else None

    def stalled(self, now: float) -> list[int]:
        """Trials that were not heard of for too long."""
        limit = self.limit()
        if limit is None:
            return []
        return [number for number, heard in self.last.items() if now - heard > limit]


class StallWatch(tune.Callback):  # type: ignore[misc]
    """Ends the worker of a stalled trial; Tune starts the trial again from its checkpoint.

    At the second time the trial has failed. The others do not wait for it.

    Args:
        trials: of the search.
        progress: when each was last heard of.
        on_note: told what was done, a sentence.
    """

    def __init__(self, trials: Trials, progress: Progress, on_note: Callable[[str], None]) -> None:
        """Keep them."""
        self._trials, self._progress, self._on_note = trials, progress, on_note
        self._stalled: set[int] = set()
        self._checked = 0.0

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Called by Tune several times a second."""
        now = time.monotonic()
        if now - self._checked < _CHECK_S:
            return
        self._checked = now
        silent = self._progress.stalled(now)
        for trial in trials if silent else ():
            number = trial.config["number"]
            if number in silent and trial.status == "RUNNING":
                self._end(number, trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **i: Any) -> None:
        """Forget a trial that has ended."""
        self._progress.end(trial.config["number"])

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune's snapshot is not used."""
        return {}

    def _end(self, number: int, trial: Any) -> None:
        limit = self._progress.limit() or 0.0
        silence = f"no report for {_minutes(limit)}"
        if number in self._stalled:
            self._trials.fail(number, f"{silence}, for the second time", "environment")
        else:
            self._on_note(f"trial {number}: {silence}; it is started again from its checkpoint")
        self._stalled.add(number)
        self._progress.end(number)
        compat.kill_worker(trial)


def _minutes(seconds: float) -> str:
    if seconds < 60:
        return count_of(round(seconds), "second")
    return count_of(round(seconds / 60), "minute")
