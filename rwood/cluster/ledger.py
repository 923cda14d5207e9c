"""The trials of a search as they happen: durable, in order, and the only truth on resume.

Trial `n` is proposed, and at every rung judged, by what trials `0 .. n - window` did and by nothing
else (`window` = trials at a time). Those are closed by then, so the study does not depend on who
reports first: interrupted and resumed, or on a faster machine, it is the same study.
"""

import time
from collections.abc import Callable
from pathlib import Path

from rwood import results
from rwood.errors import StorageError
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
        self.failed = sum(trial.state == "failed" for trial in self.trials.values())
        """Failed trials."""
        self.halted: StorageError | None = None
        """Why nothing more is noted: the trials that run are taken up by the next start."""
        self._settled = 0  # Trials below this number are closed.

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
        if self.halted or trial.state != "running" or len(trial.history) >= report.epoch:
            return False
        history = (*trial.history, report)
        self._put(trial.model_copy(update={"history": history}), durable=False)
        return True

    def close(self, number: int, state: TrialState, error: str | None = None) -> None:
        """Note how a trial ended."""
        if self.halted:
            return
        trial = self.trials[number]
        self.failed += state == "failed"
        last = trial.history[-1].metrics if trial.history else {}
        update: dict[str, object] = {
            "state": state,
            "finished": time.time(),
            "error": error,
            "objective": last.get(self.objective) if state == "complete" else None,
        }
        self._put(trial.model_copy(update=update), durable=True)

    @property
    def objective(self) -> str:
        """Metric that the study optimises."""
        assert self.study.search is not None
        return self.study.search.objective

    def settled_before(self, number: int) -> int | None:
        """How many trials `0 .. number - window` are; None while one of them is still open."""
        count = max(0, number - self.window + 1)
        while self._settled < count and self.trials[self._settled].state != "running":
            self._settled += 1
        return count if self._settled >= count else None

    def halt(self, error: StorageError) -> None:
        """Note nothing more: what is on disk is what the next start goes on from."""
        self.halted = self.halted or error

    def _put(self, trial: TrialResult, *, durable: bool) -> None:
        if durable:
            try:
                results.save(trial, self.folder(trial.number) / TRIAL_FILE)
            except StorageError as error:
                return self.halt(error)
        self.trials[trial.number] = trial
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


def value_at(trial: TrialResult, epoch: int, objective: str) -> float | None:
    """Objective at the first validation from an epoch on; None if the trial did not get there."""
    for report in trial.history:
        if report.epoch >= epoch and objective in report.metrics:
            return report.metrics[objective]
    return None
