"""The trials of a search as they happen: durable, in order, and the only truth on resume.

Trial `n` is proposed, and at every rung judged, by what trials `0 .. n - window` did and by nothing
else (`window` = trials at a time). Those are closed by then, so the study does not depend on who
reports first: interrupted and resumed, or on a faster machine, it is the same study.
"""

import time
from collections.abc import Callable
from pathlib import Path

from rwood import results
from rwood.results import EpochReport, TrialResult, TrialState
from rwood.spec.search import Params, apply
from rwood.spec.study import StudySpec, run_digest

TRIAL_FILE = "trial.json"


class Ledger:
    """Trials by number, each in `trials/<number>/trial.json`.

    Args:
        study: whose trials.
        folder: results folder of the study.
        listener: told of every trial that changed.
    """

    def __init__(
        self, study: StudySpec, folder: Path, listener: Callable[[TrialResult], None]
    ) -> None:
        """Read back what was done before."""
        self.study = study
        self.window = study.cluster.max_concurrent
        self._root = folder / "trials"
        self._listener = listener
        self.trials = read_trials(folder)

    def folder(self, number: int) -> Path:
        """Where a trial keeps its checkpoints."""
        return trial_folder(self._root.parent, number)

    def open(self, number: int, params: Params) -> None:
        """Note a trial before it starts."""
        run = apply(self.study.run, params)
        trial = TrialResult(
            number=number,
            params=params,
            state="running",
            digest=run_digest(run, self.study.benchmark),
            started=time.time(),
        )
        self._put(trial, durable=True)

    def add(self, number: int, report: EpochReport) -> bool:
        """Note an epoch; False if it is known: a resumed worker reports its past again.

        Not written to disk: until the trial is closed, its worker's checkpoint holds the history.
        """
        trial = self.trials[number]
        if trial.state != "running" or len(trial.history) >= report.epoch:
            return False
        history = (*trial.history, report)
        self._put(trial.model_copy(update={"history": history}), durable=False)
        return True

    def close(self, number: int, state: TrialState, error: str | None = None) -> None:
        """Note how a trial ended."""
        trial = self.trials[number]
        last = trial.history[-1].metrics if trial.history else {}
        update: dict[str, object] = {
            "state": state,
            "finished": time.time(),
            "error": error,
        }
        if state == "complete":
            update["objective"] = last.get(self.objectives[0])
            update["objectives"] = {n: last[n] for n in self.objectives if n in last}
            stds = {n: last.get(f"{n}/std") for n in self.objectives}
            update["spread"] = {n: std for n, std in stds.items() if std is not None}
        self._put(trial.model_copy(update=update), durable=True)

    @property
    def objectives(self) -> tuple[str, ...]:
        """Metrics that the study optimises."""
        assert self.study.search is not None
        return self.study.search.objectives

    def settled_before(self, number: int) -> list[TrialResult] | None:
        """Trials `0 .. number - window`, or None while one of them is still open."""
        earlier = [self.trials[n] for n in range(max(0, number - self.window + 1))]
        return None if any(t.state == "running" for t in earlier) else earlier

    def _put(self, trial: TrialResult, *, durable: bool) -> None:
        self.trials[trial.number] = trial
        if durable:
            results.save(trial, self.folder(trial.number) / TRIAL_FILE)
        self._listener(trial)


def trial_folder(study_folder: Path, number: int) -> Path:
    """Where a trial of a study keeps its record and checkpoints."""
    return study_folder / "trials" / f"{number:04d}"


def read_trials(study_folder: Path) -> dict[int, TrialResult]:
    """Every trial of a study so far, by number.

    Raises:
        StudyError: a record is not one of this version.
    """
    files = sorted((study_folder / "trials").glob(f"*/{TRIAL_FILE}"))
    trials = (results.load(TrialResult, file) for file in files)
    return {trial.number: trial for trial in trials}


def metrics_at(trial: TrialResult, epoch: int, objective: str) -> dict[str, float] | None:
    """What the first validation from an epoch on reported; None if the trial did not get there."""
    for report in trial.history:
        if report.epoch >= epoch and objective in report.metrics:
            return report.metrics
    return None
