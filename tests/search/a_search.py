"""A search without Ray: the real searcher, scheduler and storage, and workers that are a loop."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rwood.config.study import StudyConfig
from rwood.ray_backend.messages import FAILURE, KIND, REPORT
from rwood.ray_backend.stalls import Progress
from rwood.results import EpochReport, TrialResult
from rwood.search.generations import open_generation, open_pruning_study
from rwood.search.journal import open_storage
from rwood.search.read_trials import read_trials
from rwood.search.scheduler import PruningScheduler
from rwood.search.searcher import OptunaSearcher
from rwood.search.trials import Trials

RECORD_ID = "0123456789ab"


def trial_that_ends_late(config: dict[str, Any], **how: Any) -> None:
    """On Ray: a trial whose checkpoint goes to a slow disk, from a thread as beside a GPU."""
    from rwood.search.tuner import _trial

    try:
        _trial(config, **how)
    except BaseException:  # it was stopped
        time.sleep(4)
        raise


class TuneTrial:
    """What the scheduler reads of a Tune trial."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config


def objective(params: dict[str, Any], epoch: int) -> float:
    """A smooth objective; a setting that a trial's loss does not have costs a point."""
    temperature, shift = params.get("loss.temperature"), params.get("loss.between_shift")
    lost = 1.0 if temperature is None else 40 * abs(temperature - 0.2)
    return 90 - lost - (1.0 if shift is None else abs(shift)) + epoch


def report(params: dict[str, Any], epoch: int) -> dict[str, Any]:
    """An epoch as a worker sends it."""
    other = 80 - 3 * abs(params.get("loss.between_shift", 0.0) - 4) + 0.1 * epoch
    metrics = {"val/auroc": objective(params, epoch), "val/digit7/fpr95": 100 - other}
    plain = EpochReport(epoch=epoch, time=float(epoch), metrics=metrics)
    return {REPORT: plain.model_dump_json()}


@dataclass
class Search:
    """A search as Tune's loop sees it; a new one of the same folder is another start."""

    study: StudyConfig
    folder: Path
    order: random.Random = field(default_factory=lambda: random.Random(0))
    fails: Callable[[int], bool] = lambda number: False
    url: str | None = None
    retry_failed: bool = False
    epochs: dict[int, int] = field(default_factory=dict)
    """Trial -> epochs whose checkpoint is on disk: what a killed driver does not lose."""
    changes: list[TrialResult] = field(default_factory=list)
    trained: list[tuple[int, int]] = field(default_factory=list)
    """Every epoch that was trained, by trial: none twice."""

    def run(self, steps: int | None = None) -> int:
        """Work until nothing is left, or die after so many reports; the reports that were sent."""
        with open_storage(self.folder, self.url) as store:
            main = open_generation(self.study, store, RECORD_ID, retry_failed=self.retry_failed)
            pruning = open_pruning_study(self.study, store, main)
            trials = Trials(self.study, self.folder, store, main, pruning, self.changes.append)
            cluster = self.study.cluster
            searcher = OptunaSearcher(trials, cluster.max_concurrent, cluster.max_failures)
            scheduler = PruningScheduler(trials, Progress(), print)
            sent = self._loop(searcher, scheduler, steps)
            trials.discard_checkpoints()
            return sent

    def _loop(
        self, searcher: OptunaSearcher, scheduler: PruningScheduler, steps: int | None
    ) -> int:
        live: dict[str, dict[str, Any]] = {}
        resent: dict[int, int] = {}
        sent = 0
        while steps is None or sent < steps:
            while isinstance(config := searcher.suggest(f"t{self.order.random()}"), dict):
                live[next(reversed(searcher._numbers))] = config
                resent[config["number"]] = 0
            if not live:
                break
            name = self.order.choice(sorted(live))
            number, params = live[name]["number"], live[name]["params"]
            sent += 1
            if self.fails(number):
                message = {FAILURE: "ValueError: boom", KIND: "setting"}
                scheduler.on_trial_result(None, TuneTrial(live[name]), message)
                searcher.on_trial_complete(name)
                del live[name]
                continue
            epoch = resent[number] + 1
            resent[number] = epoch
            if epoch > self.epochs.get(number, 0):
                self.epochs[number] = epoch
                self.trained.append((number, epoch))
            message = report(params, epoch)
            decision = scheduler.on_trial_result(None, TuneTrial(live[name]), message)
            if decision == "STOP" or epoch == self.study.run.epochs:
                searcher.on_trial_complete(name, message)
                del live[name]
        return sent

    def trials(self) -> dict[int, TrialResult]:
        """What is on disk."""
        return read_trials(self.study, self.folder, self.url)


def outcome(trials: dict[int, TrialResult]) -> list[tuple[Any, ...]]:
    """What was proposed, reported and decided, without times."""
    return [
        (n, t.params, t.state, t.objectives, [(r.epoch, r.metrics) for r in t.history], t.error)
        for n, t in sorted(trials.items())
    ]
