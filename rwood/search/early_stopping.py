"""What Tune does with a report: nothing but to stop the trials that the ledger has closed."""

from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from rwood.errors import StorageError
from rwood.ray_backend.messages import FAILURE, NOTE, REPORT, STORAGE
from rwood.results import EpochReport
from rwood.search.ledger import Ledger


class Halving(FIFOScheduler):  # type: ignore[misc]
    """Writes every report into the ledger, whose rungs judge it.

    A verdict may come when its trial has trained on: the trial is stopped at its next report, and
    the ledger has kept what it did until it was judged.

    Args:
        ledger: trials so far.
        on_note: told of what a worker has to say.
    """

    def __init__(self, ledger: Ledger, on_note: Callable[[str], None]) -> None:
        """Keep the ledger."""
        super().__init__()
        self._ledger, self._on_note = ledger, on_note

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Note the report; stop or go on."""
        number = trial.config["number"]
        if STORAGE in result:
            self._ledger.halt(StorageError(result[STORAGE]))
            return str(TrialScheduler.CONTINUE)
        if FAILURE in result:
            self._ledger.fail(number, result[FAILURE])
            return str(TrialScheduler.CONTINUE)
        if NOTE in result:
            self._on_note(result[NOTE])
            return str(TrialScheduler.CONTINUE)
        self._ledger.add(number, EpochReport.model_validate_json(result[REPORT]))
        stopped = self._ledger.trials[number].state == "stopped"
        return str(TrialScheduler.STOP if stopped else TrialScheduler.CONTINUE)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune's snapshot is not used, and the ledger is durable."""
        return {}


class Halt(tune.Stopper):  # type: ignore[misc]
    """Ends a search whose ledger cannot be written: every further trial would be lost.

    Args:
        ledger: trials so far.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Keep the ledger."""
        self._ledger = ledger

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped alone."""
        return False

    def stop_all(self) -> bool:
        """Asked by Tune at every step."""
        return self._ledger.halted is not None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as for the scheduler."""
        return {}
