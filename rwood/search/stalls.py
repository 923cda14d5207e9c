"""Trials that report nothing for too long: started again once, then failed."""

import time
from collections.abc import Callable
from typing import Any

from ray import tune

from rwood.ray_backend import compat
from rwood.ray_backend.stalls import Progress
from rwood.search.searcher import Unsaved
from rwood.search.trials import Trials

_CHECK_S = 1.0


class StallWatch(Unsaved, tune.Callback):  # type: ignore[misc]
    """Ends the worker of a stalled trial; Tune starts the trial again from its checkpoint.

    At the second time the trial has failed. The others do not wait for it.
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

    def _end(self, number: int, trial: Any) -> None:
        silence = self._progress.silence
        if number in self._stalled:
            self._trials.fail(number, f"{silence}, for the second time", "environment")
        else:
            self._on_note(f"trial {number}: {silence}; it is started again from its checkpoint")
        self._stalled.add(number)
        self._progress.end(number)
        compat.kill_worker(trial)
