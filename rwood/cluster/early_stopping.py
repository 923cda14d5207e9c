"""ASHA's stopping rule (Li et al., MLSys 2020), judged by the ledger so that it can be repeated."""

from array import array
from typing import Any

import numpy as np
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from rwood.cluster.ledger import Ledger, value_at
from rwood.cluster.relay import FAILURE, REPORT, STORAGE
from rwood.errors import StorageError
from rwood.results import EpochReport
from rwood.spec.search import EarlyStopping
from rwood.spec.study import is_minimized


class Halving(FIFOScheduler):  # type: ignore[misc]
    """Writes every report into the ledger and stops weak trials at rungs.

    Differs from Ray's AsyncHyperBandScheduler: a trial's peers at a rung are the trials that the
    ledger calls settled, not whoever happened to report earlier; nothing is lost with the driver.

    Args:
        ledger: trials so far.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Take the rungs from the study."""
        super().__init__()
        self._ledger = ledger
        search = ledger.study.search
        assert search is not None
        self._rule = search.early_stopping
        self._rungs = rungs(self._rule, ledger.study.run.epochs) if self._rule else []
        self._peers = {rung: _Peers(rung) for rung in self._rungs}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Note the report; stop or go on."""
        number = trial.config["number"]
        if STORAGE in result:
            self._ledger.halt(StorageError(result[STORAGE]))
            return str(TrialScheduler.CONTINUE)
        if FAILURE in result:
            self._ledger.close(number, "failed", result[FAILURE])
            return str(TrialScheduler.CONTINUE)
        report = EpochReport.model_validate_json(result[REPORT])
        if not self._ledger.add(number, report):
            return str(TrialScheduler.CONTINUE)
        if report.epoch == self._ledger.study.run.epochs:
            self._ledger.close(number, "complete")
        elif self._is_weak(number, report):
            self._ledger.close(number, "stopped")
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune's snapshot is not used, and the ledger is durable."""
        return {}

    def _is_weak(self, number: int, report: EpochReport) -> bool:
        objective = self._ledger.objective
        rung = _rung_reached(self._rungs, self._ledger, number, report)
        if rung is None or self._rule is None:
            return False
        settled = self._ledger.settled_before(number)
        assert settled is not None
        return is_weak(
            report.metrics[objective],
            self._peers[rung].of_first(settled, self._ledger),
            reduction=self._rule.reduction,
            minimized=is_minimized(objective),
        )


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


class _Peers:
    """Objectives of settled trials at a rung, by number: each trial is looked at once."""

    def __init__(self, rung: int) -> None:
        self._rung = rung
        self._values = array("d")
        self._ends = [0]  # Of the first n trials, the first `_ends[n]` values.

    def of_first(self, count: int, ledger: Ledger) -> np.ndarray:
        """(N,) values of the first `count` trials, as far as they got to the rung."""
        while len(self._ends) <= count:
            value = value_at(ledger.trials[len(self._ends) - 1], self._rung, ledger.objective)
            if value is not None:
                self._values.append(value)
            self._ends.append(len(self._values))
        return np.array(self._values[: self._ends[count]])


def rungs(rule: EarlyStopping, epochs: int) -> list[int]:
    """Epochs at which trials are compared: grace, grace x eta, ... below the full budget."""
    found, rung = [], rule.grace_epochs
    while rung < epochs:
        found.append(rung)
        rung *= rule.reduction
    return found


def is_weak(value: float, peers: np.ndarray, *, reduction: int, minimized: bool) -> bool:
    """Whether a value is worse than the best 1/eta of its peers' at the same rung.

    Args:
        value: objective of the trial.
        peers: (N,) objectives of earlier trials; with none, no trial is weak.
        reduction: eta.
        minimized: less is better.
    """
    if not len(peers):
        return False
    sign = -1.0 if minimized else 1.0
    cutoff = np.percentile(sign * peers, (1 - 1 / reduction) * 100)
    return bool(sign * value < cutoff)


def _rung_reached(rungs: list[int], ledger: Ledger, number: int, report: EpochReport) -> int | None:
    """The rung whose first validation this report is, if any."""
    if ledger.objective not in report.metrics:
        return None
    before = [r.epoch for r in ledger.trials[number].history if ledger.objective in r.metrics][:-1]
    last = before[-1] if before else 0
    reached = [rung for rung in rungs if last < rung <= report.epoch]
    return reached[-1] if reached else None
