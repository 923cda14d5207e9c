"""The trials of a search as they happen: durable, in order, and the only truth on resume.

What a study does next depends on the results of trials of lower numbers and on nothing else: not on
who reports first, not on when the study was interrupted. A trial is judged at a rung by all trials
before it; it trains on while one of them is still on its way there, and what it reports meanwhile
is held back. Trial `n` is proposed from what the first rung says of trials `0 .. n - workers`, and
from how trials `0 .. n - lag` ended (`workers` = trials at a time).
"""

import time
from collections.abc import Callable
from pathlib import Path

from rwood import results
from rwood.config.search import Params, apply
from rwood.config.study import StudyConfig, run_digest
from rwood.errors import StorageError
from rwood.results import EpochReport, TrialResult, TrialState
from rwood.search.rungs import Rung, build_rungs

TRIAL_FILE = "trial.json"
LAG = 4
"""With early stopping trials differ in length, so that waiting for the end of trial `n - workers`
would leave workers idle: 8 workers would be busy 46 % of the time, and are 97 % if it is trial
`n - 4 workers` (`tests/benchmarks/lag.py`)."""


class Ledger:
    """Trials by number, each in `trials/<number>/trial.json`.

    Args:
        study: whose trials.
        folder: results folder of the study.
        listener: told of every trial that changed.
    """

    def __init__(
        self, study: StudyConfig, folder: Path, listener: Callable[[TrialResult], None]
    ) -> None:
        """Read back what was done before."""
        assert study.search is not None
        self.study = study
        self.objectives = study.search.objectives
        self.workers = study.cluster.max_concurrent
        self.rungs = build_rungs(study.search, study.run.epochs)
        self.lag = LAG * self.workers if self.rungs else self.workers
        self._root = folder / "trials"
        self._listener = listener
        self._held: dict[int, list[EpochReport]] = {}
        self._failed: dict[int, str] = {}
        self._closed = 0
        self.trials = read_trials(folder)
        self.failures = sum(trial.state == "failed" for trial in self.trials.values())
        """Failed trials."""
        self.halted: StorageError | None = None
        """Why nothing more is noted: the trials that run are taken up by the next start."""
        self._settle()

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

    def add(self, number: int, report: EpochReport) -> None:
        """Note an epoch, unless it is known: a resumed worker reports its past again.

        Not written to disk: until the trial is closed, its worker's checkpoint holds the history.
        """
        if self._is_open(number) and self._reported(number) < report.epoch:
            self._held.setdefault(number, []).append(report)
            self._release(number)
            self._settle()

    def fail(self, number: int, error: str) -> None:
        """Note that a trial broke down, unless it was to be stopped before that."""
        if self._is_open(number):
            self._failed.setdefault(number, error)  # the first one says more
            self._release(number)
            self._settle()

    def halt(self, error: StorageError) -> None:
        """Note nothing more: what is on disk is what the next start goes on from."""
        self.halted = self.halted or error

    def is_trained(self, number: int) -> bool:
        """Whether a trial's last epoch was reported; its verdict may still be open."""
        return self._reported(number) == self.study.run.epochs

    def may_propose(self, number: int) -> bool:
        """Whether all that a trial's proposal depends on is known."""
        judged = self.rungs[0].next if self.rungs else self._closed
        return judged > number - self.workers and self._closed > number - self.lag

    def is_told(self, number: int, to: int) -> bool:
        """Whether the proposal of trial `to` depends on how trial `number` ended."""
        if number <= to - self.lag:
            return True
        return bool(self.rungs) and number <= to - self.workers and number in self.rungs[0].weak

    def _is_open(self, number: int) -> bool:
        """Whether there is more to be noted of a trial."""
        return self.halted is None and self.trials[number].state == "running"

    def _reported(self, number: int) -> int:
        """Epochs reported, those held back included."""
        return len(self.trials[number].history) + len(self._held.get(number, ()))

    def _settle(self) -> None:
        """Judge whoever can be judged, rung by rung in the order of numbers."""
        moved = True
        while moved and not self.halted:
            moved = False
            for rung in self.rungs:
                while self._judge(rung):
                    moved = True
        while self._closed in self.trials and self.trials[self._closed].state != "running":
            self._closed += 1

    def _judge(self, rung: Rung) -> bool:
        """Take a rung's next trial; False if it is not there yet."""
        trial = self.trials.get(rung.next)
        if trial is None:
            return False
        reached = metrics_at(trial, rung.epoch, self.objectives[0])
        if reached is None:
            if trial.state == "running":
                return False
            rung.skip()
        elif rung.judge(reached) and trial.state == "running":
            self._close(trial.number, "stopped")
        else:
            self._release(trial.number)
        return True

    def _release(self, number: int) -> None:
        """Note what a trial reported up to the next rung that has not judged it."""
        held = self._held.get(number, [])
        while self._is_open(number) and not self._awaits(number):
            if held:
                self._note(number, held.pop(0))
            elif number in self._failed:
                self._close(number, "failed", self._failed[number])
            else:
                return

    def _note(self, number: int, report: EpochReport) -> None:
        trial = self.trials[number]
        history = (*trial.history, report)
        self._put(trial.model_copy(update={"history": history}), durable=False)
        if report.epoch == self.study.run.epochs:
            self._close(number, "complete")

    def _awaits(self, number: int) -> bool:
        """Whether a trial has come to a rung that has not judged it."""
        trial = self.trials[number]
        return any(
            rung.next <= number and metrics_at(trial, rung.epoch, self.objectives[0]) is not None
            for rung in self.rungs
        )

    def _close(self, number: int, state: TrialState, error: str | None = None) -> None:
        trial = self.trials[number]
        self._held.pop(number, None)
        self._failed.pop(number, None)
        self.failures += state == "failed"
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


def metrics_at(trial: TrialResult, epoch: int, objective: str) -> dict[str, float] | None:
    """What the first validation from an epoch on reported; None if the trial did not get there."""
    for report in trial.history:
        if report.epoch >= epoch and objective in report.metrics:
            return report.metrics
    return None
