"""ASHA's stopping rule (Li et al., MLSys 2020), judged by the ledger so that it can be repeated."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from rwood.cluster.ledger import Ledger, metrics_at
from rwood.cluster.relay import FAILURE, REPORT
from rwood.results import EpochReport
from rwood.selection import dominates
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

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Note the report; stop or go on."""
        number = trial.config["number"]
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
        objectives = self._ledger.objectives
        rung = _rung_reached(self._rungs, self._ledger, number, report)
        if rung is None or self._rule is None:
            return False
        peers = self._ledger.settled_before(number)
        assert peers is not None
        found = [metrics_at(peer, rung, objectives[0]) for peer in peers]
        reported = [metrics for metrics in found if metrics is not None]
        if len(objectives) > 1:
            return is_dominated(
                report.metrics, reported, objectives, reduction=self._rule.reduction
            )
        return is_weak(
            report.metrics[objectives[0]],
            [metrics[objectives[0]] for metrics in reported],
            reduction=self._rule.reduction,
            minimized=is_minimized(objectives[0]),
        )


def rungs(rule: EarlyStopping, epochs: int) -> list[int]:
    """Epochs at which trials are compared: grace, grace x eta, ... below the full budget."""
    found, rung = [], rule.grace_epochs
    while rung < epochs:
        found.append(rung)
        rung *= rule.reduction
    return found


def is_weak(value: float, peers: list[float], *, reduction: int, minimized: bool) -> bool:
    """Whether a value is worse than the best 1/eta of its peers' at the same rung.

    Args:
        value: objective of the trial.
        peers: objectives of earlier trials; with none, no trial is weak.
        reduction: eta.
        minimized: less is better.
    """
    if not peers:
        return False
    sign = -1.0 if minimized else 1.0
    cutoff = np.percentile([sign * peer for peer in peers], (1 - 1 / reduction) * 100)
    return bool(sign * value < cutoff)


def is_dominated(
    metrics: Mapping[str, float],
    peers: Sequence[Mapping[str, float]],
    objectives: Sequence[str],
    *,
    reduction: int,
) -> bool:
    """Whether more than one in eta peers dominate a trial at the same rung.

    `is_weak` for several objectives: trials are ranked by how many dominate them (Fonseca and
    Fleming, ICGA 1993), so a trial that none dominates goes on whatever its peers did. The more
    objectives, the fewer trials dominate each other and the fewer are stopped.

    Args:
        metrics: of the trial.
        peers: metrics of earlier trials; with none, no trial is weak.
        objectives: names of the metrics to compare.
        reduction: eta.
    """
    above = sum(dominates(peer, metrics, objectives) for peer in peers)
    return above > len(peers) / reduction


def _rung_reached(rungs: list[int], ledger: Ledger, number: int, report: EpochReport) -> int | None:
    """The rung whose first validation this report is, if any."""
    objective = ledger.objectives[0]
    if objective not in report.metrics:
        return None
    before = [r.epoch for r in ledger.trials[number].history if objective in r.metrics][:-1]
    last = before[-1] if before else 0
    reached = [rung for rung in rungs if last < rung <= report.epoch]
    return reached[-1] if reached else None
