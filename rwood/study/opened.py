"""What all stages of an opened study share: its record, who is told, and where it trains."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import yaml

from rwood import results
from rwood.config.base import digest
from rwood.config.study import StudyConfig
from rwood.errors import RwoodError, StudyError
from rwood.paths import StudyPaths
from rwood.ray_backend.job import Job
from rwood.results import EpochReport, TrialResult
from rwood.search.read_trials import read_trials
from rwood.study.connection import Connection
from rwood.study.context import Context, Screen
from rwood.study.mlflow_updates import MlflowUpdates
from rwood.tracking.signals import signals_deferred

NOTE_EVERY_S = 30.0
"""Between two times that a running search writes how many trials it has, for who starts it after a
kill; the record grows with them."""


class OpenedStudy:
    """A study whose folder this process holds, its record, screen, MLflow experiment and Ray."""

    def __init__(
        self,
        study: StudyConfig,
        context: Context,
        folder: Path,
        record: results.StudyResult,
        screen: Screen,
        check: Callable[[], None],
    ) -> None:
        """Start tracking; `check` raises a StudyError if the study is no longer this process's."""
        self.config, self.context, self.folder, self.screen = study, context, folder, screen
        self._check, self._noted = check, float("-inf")
        self._is_complete = False
        self.paths = StudyPaths(folder)
        self.record = record
        self._mlflow = MlflowUpdates(study, folder, context.results, context.tracking_uri, record)
        self._ray = Connection(study, context, folder, screen.note, self._on_note)
        self._live: dict[str, tuple[EpochReport, ...]] = {}
        plain = yaml.safe_dump(self.record.config, sort_keys=False)
        results.write_atomically(self.paths.config, plain)

    def close(self, *, interrupted: bool) -> None:
        """Leave Ray, send what is left to MLflow; note on disk if nothing is left to do."""
        with signals_deferred():  # A second Ctrl-C would leave runs as if they still ran.
            try:
                self._ray.close()
            finally:
                problem = self._mlflow.close(interrupted=interrupted)
        if problem:
            self.screen.note(problem)
        elif not interrupted and self._is_complete:
            self._save(finished=digest(self.config))

    def _trials(self) -> tuple[TrialResult, ...]:
        """Every trial so far, by number."""
        return tuple(read_trials(self.config, self.folder, self.context.storage).values())

    def _train(
        self, stage: str, detail: str, jobs: list[Job], is_done: Callable[[Job], bool]
    ) -> None:
        """Run the trainings of a stage that are not done."""
        left = [job for job in jobs if not is_done(job)]
        self.screen.stage(stage, detail)
        self.screen.reruns(_name(job) for job in left)
        if left:
            self._ray.connect()
            with self._timed(stage):
                self._train_side_by_side(left, is_done)

    def _train_side_by_side(self, jobs: list[Job], is_done: Callable[[Job], bool]) -> None:
        """Run trainings, `cluster.max_concurrent` at a time.

        Raises:
            RunError: a training failed; the others are finished first.
            StudyError: a training left no result that can be seen here.
        """
        cancelled = threading.Event()

        def one(job: Job) -> None:
            name = f"{self.config.name}-{job.folder.name}"
            try:
                self._ray.pool.fit(
                    job,
                    name=name,
                    on_report=partial(self._on_epoch, job),
                    on_note=self._on_note,
                    cancelled=cancelled.is_set,
                )
            finally:
                self.screen.done(_name(job))
            if not is_done(job):
                raise StudyError(
                    f"{name} ended without a result in {job.folder}: can every node see the "
                    "results folder?"
                )

        with ThreadPoolExecutor(self.config.cluster.max_concurrent) as threads:
            futures = [threads.submit(one, job) for job in jobs]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            except KeyboardInterrupt:
                cancelled.set()
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        for future in futures:
            future.result()

    def _on_trial(self, trial: TrialResult) -> None:
        if trial.number >= len(self.record.trials):
            self.record = self.record.model_copy(update={"trials": (*self.record.trials, trial)})
            if time.monotonic() - self._noted >= NOTE_EVERY_S:
                self._noted = time.monotonic()
                with suppress(RwoodError):  # The search itself finds out, and says it better.
                    self._save()
        self._mlflow.trial(self.record, trial)
        self.screen.trial(trial)

    def _on_epoch(self, job: Job, report: EpochReport) -> None:
        """Called from several threads."""
        name = _name(job)
        history = self._live.get(name, ())
        if len(history) < report.epoch:
            self._live[name] = (*history, report)
            self._mlflow.training(self.record, job, self._live[name])
        self.screen.epoch(name, report, job.run.epochs)

    def _on_note(self, text: str) -> None:
        logging.getLogger(__name__).warning(text)
        self.screen.note(text)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            spent = self.record.wall_seconds
            total = spent.get(stage, 0.0) + time.monotonic() - started
            self._save(wall_seconds={**spent, stage: total})

    def _save(self, **changes: object) -> None:
        """Change the record, which is finished no more; histories of trials stay in their files."""
        self._check()
        self.record = self.record.model_copy(update={"finished": None, **changes})
        slim = tuple(t.model_copy(update={"history": ()}) for t in self.record.trials)
        results.save(self.record.model_copy(update={"trials": slim}), self.paths.record)


def _name(job: Job) -> str:
    return f"{job.label}-seed{job.run.seed}"
