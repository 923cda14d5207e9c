"""Ray Tune's scheduler over Optuna's pruner: every report is judged when it arrives."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from rwood.errors import StorageError
from rwood.ray_backend import compat
from rwood.ray_backend.failures import cause_of_death
from rwood.ray_backend.messages import FAILURE, KIND, NOTE, REPORT, STARTED, STORAGE
from rwood.ray_backend.stalls import Progress
from rwood.results import EpochReport
from rwood.search.searcher import Unsaved
from rwood.search.trials import Trials


class PruningScheduler(Unsaved, FIFOScheduler):  # type: ignore[misc]
    """Records what workers send, and stops the trials that Optuna's pruner ends."""

    def __init__(self, trials: Trials, progress: Progress, on_note: Callable[[str], None]) -> None:
        """Keep them."""
        super().__init__()
        self._trials, self._progress, self._on_note = trials, progress, on_note

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Take a trial that has ended out of Tune's queue, where a dead worker put it back."""
        super().on_trial_add(tune_controller, trial)
        if not self._trials.is_running(trial.config["number"]):
            tune_controller.request_stop_trial(trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Record the message; stop the trial or let it go on."""
        number, stop = trial.config["number"], False
        if STARTED in result:
            self._progress.start(number, time.monotonic())
        if STORAGE in result:
            self._trials.halt(StorageError(result[STORAGE]))
        if FAILURE in result:
            self._trials.fail(number, result[FAILURE], result[KIND])
        if NOTE in result:
            self._on_note(result[NOTE])
        if REPORT in result:
            self._progress.report(number, time.monotonic())
            stop = self._trials.report(number, EpochReport.model_validate_json(result[REPORT]))
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Say why a worker died; that is a failure if Tune does not start the trial again."""
        super().on_trial_error(tune_controller, trial)
        number = trial.config["number"]
        self._progress.end(number)
        if not self._trials.is_running(number):
            return
        cause = cause_of_death(compat.trial_error(trial))
        if trial.should_recover():
            self._on_note(f"trial {number}: {cause}; it goes on from its checkpoint")
        else:
            self._trials.fail(number, cause, "environment")


@dataclass
class Halt(Unsaved, tune.Stopper):  # type: ignore[misc]
    """Ends a search whose trials cannot be recorded: every further one would be lost."""

    trials: Trials

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped alone."""
        return False

    def stop_all(self) -> bool:
        """True once the storage refused to be written."""
        return self.trials.halted is not None
