"""Trials that report nothing for too long: started again once, then failed."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ray import tune

from rwood.ray_backend import compat
from rwood.ray_backend.stalls import Progress
from rwood.search.searcher import Unsaved
from rwood.search.trials import Trials

_CHECK_S = 1.0


@dataclass(eq=False)
class StallWatch(Unsaved, tune.Callback):  # type: ignore[misc]
    """Ends the worker of a stalled trial; Tune starts the trial again from its checkpoint.

    At the second time the trial has failed. The others do not wait for it.
    """

    trials: Trials
    progress: Progress
    """When each was last heard of."""
    on_note: Callable[[str], None]
    """Told what was done, a sentence."""
    stalled: set[int] = field(default_factory=set)
    """Trials that were started again."""
    checked: float = 0.0

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Called by Tune several times a second."""
        now = time.monotonic()
        if now - self.checked < _CHECK_S:
            return
        self.checked = now
        silent = self.progress.stalled(now)
        for trial in trials if silent else ():
            number = trial.config["number"]
            if number in silent and trial.status == "RUNNING":
                self._end(number, trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **i: Any) -> None:
        """Forget a trial that has ended."""
        self.progress.end(trial.config["number"])

    def _end(self, number: int, trial: Any) -> None:
        silence = self.progress.silence
        if number in self.stalled:
            self.trials.fail(number, f"{silence}, for the second time", "environment")
        else:
            self.on_note(f"trial {number}: {silence}; it is started again from its checkpoint")
        self.stalled.add(number)
        self.progress.end(number)
        compat.kill_worker(trial)
