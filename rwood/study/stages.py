"""The stages of a study; each goes on where it stopped."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from rwood import results
from rwood.config.search import Params, apply
from rwood.config.study import StudyConfig
from rwood.errors import StudyError
from rwood.ray_backend.job import Job, trained
from rwood.report.inputs import ReportInputs, load_scores, project_embeddings
from rwood.report.page import render_report
from rwood.search.importance import importances
from rwood.search.tuner import search
from rwood.selection import pareto_front, select_champion, values_of
from rwood.storage import is_remote
from rwood.study.context import Context, Screen
from rwood.study.finals import finals_run, run_finals
from rwood.study.measured import superseded
from rwood.study.opened import OpenedStudy
from rwood.study.plans import CHAMPION, is_decided, trials_to_run
from rwood.study.record import check_storage, open_record
from rwood.study.rerun import finished, hand_over, plan, results_of
from rwood.text import count_of, short
from rwood.tracking.client import check_uri


class Study(OpenedStudy):
    """An opened study and its stages; see `open_study`."""

    def run(self) -> None:
        """All stages."""
        if self.config.search is not None:
            self.search()
        self.select()
        if self.config.search is not None and self.config.finals is not None:
            self.finals()
        self.benchmark()
        self.report()

    def search(self) -> None:
        """Run the trials that are left."""
        if self.config.search is None:
            raise StudyError(f"study {self.config.name} has no search: give it a `search:` section")
        self._mlflow.search(self.record, "running")
        trials = self._trials()
        self._save(trials=trials)
        for trial in trials:
            self._mlflow.trial(self.record, trial)
        left = trials_to_run(self.config, trials)
        self.screen.stage(
            "search", f"{left} of {count_of(self.config.search.trials, 'trial')} to run"
        )
        self.screen.known(trials)
        if left or (self.context.retry_failed and any(t.state == "failed" for t in trials)):
            self._ray.connect()
            with self._timed("search"):
                try:
                    search(
                        self.config,
                        record_id=self.record.id,
                        folder=self.folder,
                        data_root=self.context.data_root,
                        on_change=self._on_trial,
                        on_note=self._on_note,
                        storage=self.context.storage,
                        retry_failed=self.context.retry_failed,
                    )
                except StudyError:  # Too many trials failed.
                    self._mlflow.search(self.record, "failed")
                    raise
        self._save(trials=self._trials())
        self._mlflow.search(self.record, "complete")

    def select(self) -> None:
        """Choose the best complete trial, on validation sets only: the champion, or a finalist."""
        if self.config.search is None:
            self.screen.stage("select", "no search: the base run is the champion")
            self._crown(None, {})
            return
        trials = self._trials()
        names = self.config.search.objectives
        best, front = select_champion(trials, names), pareto_front(trials, names)
        self._save(front=tuple(t.number for t in front))
        hyperparameters = ", ".join(f"{key} = {short(value)}" for key, value in best.params.items())
        among = f" of {len(front)} on the Pareto front" if len(names) > 1 else ""
        goals = ", ".join(f"{n} {v:.2f}" for n, v in values_of(best, names).items())
        self.screen.stage("select", f"trial {best.number}{among}, {goals}: {hyperparameters}")
        if self.config.finals is None:
            self._save(finals=None)  # An earlier start's verdict is on another champion.
            self._crown(best.number, best.params)

    def finals(self) -> None:
        """Race the best trials on fresh seeds, and prove the winner against the base run."""
        if self.config.search is None or self.config.finals is None:
            raise StudyError(
                f"study {self.config.name} has no finals: they need a `search:` section, and "
                "`finals:` must not be null"
            )
        trials = self._trials()
        select_champion(trials, self.config.search.objectives)  # or there is nothing to prove
        finals = run_finals(
            self.config,
            trials,
            folder=self.folder,
            data_root=self.context.data_root,
            train=self._train_finals,
            on_change=lambda finals: self._save(finals=finals),
        )
        self.screen.stage("finals", finals.sentence)
        for sentence in finals.notes:
            self.screen.note(sentence)
        if finals.promoted and finals.finalist is not None:
            self._crown(finals.finalist, finals.candidates[finals.finalist])
        else:
            same = (t.number for t in trials if apply(self.config.run, t.params) == self.config.run)
            self._crown(next(same, None), {})
        self._mlflow.finals(self.record, "complete")

    def _train_finals(self, jobs: list[Job], part: str) -> None:
        """Run the trainings of a part of the finals that are not done."""
        self._mlflow.finals(self.record, "running")
        left = sum(finals_run(job) is None for job in jobs)
        detail = f"{part}: {left} of {count_of(len(jobs), 'training')} to run"
        self._train("finals", detail, jobs, lambda job: finals_run(job) is not None)
        runs = [run for job in jobs if (run := finals_run(job)) is not None]
        for job, run in zip(jobs, runs, strict=True):
            self._mlflow.training(self.record, job, run.history, run)
            same = [other for other in runs if other.label == run.label]
            self._mlflow.finals_setting(self.record, job, same)

    def _crown(self, champion: int | None, params: Params) -> None:
        """Record the champion; None is the base run without a trial of its own."""
        self._save(champion=champion, champion_params=dict(params), trials=self._trials())
        run = apply(self.config.run, self.record.champion_params).model_dump(mode="json")
        plain = yaml.safe_dump({"run": run}, sort_keys=False)
        results.write_atomically(self.paths.champion, plain)
        if champion is not None:
            trials = {trial.number: trial for trial in self.record.trials}
            self._mlflow.champion(self.record, trials[champion], trials.values())

    def benchmark(self) -> None:
        """Rerun champion, base and the trials of `rerun.trials` over seeds on the test sets."""
        if not is_decided(self.config, self.record, self._trials()):
            stage = "select" if self.config.finals is None else "finals"
            raise StudyError(
                f"study {self.config.name} has no champion yet, or its file or trials changed "
                f"since: run `rwood search` and `rwood {stage}` first, or `rwood run`"
            )
        jobs = self._jobs()
        left = [job for job in jobs if finished(job, self.config) is None]
        kept = sum(trained(job) is not None for job in left)
        detail = f"{len(left) - kept} of {count_of(len(jobs), 'rerun')} to run"
        detail += f", {kept} to score again without training" if kept else ""
        self._mlflow.benchmark(self.record, "running")
        self._train("benchmark", detail, jobs, lambda job: finished(job, self.config) is not None)
        runs = results_of(jobs, self.config)
        for job, result in zip(jobs, runs, strict=False):
            self._mlflow.training(self.record, job, result.history, result)
        earlier = superseded(self.record.runs, runs)
        self._save(runs=runs, earlier=self.record.earlier + ((earlier,) if earlier else ()))
        hand_over(jobs, self.paths)
        self._mlflow.benchmark(self.record, "complete")

    def report(self) -> None:
        """Write tables, figures and the page from what is on disk."""
        trials, jobs = self._trials(), self._jobs()
        decided = is_decided(self.config, self.record, trials)
        runs = results_of(jobs, self.config)
        measured = [(run.label, run.digest) for run in self.record.runs]
        if not decided or not runs or [(run.label, run.digest) for run in runs] != measured:
            raise StudyError(
                f"study {self.config.name} has no benchmark yet, or its file or trials changed "
                "since: run `rwood benchmark` first"
            )
        self.screen.stage("report", str(self.paths.report))
        record = self.record.model_copy(update={"trials": trials})
        with self._timed("report"):
            files = self._write_report(record, jobs)
        self._mlflow.benchmark(self.record, "complete", files)
        # The first job has the detector; another start may have sent it.
        self._mlflow.training(self.record, jobs[0], runs[0].history, runs[0])
        self._mlflow.register(self.record, jobs[0])
        self._is_complete = self.config.search is None or not trials_to_run(self.config, trials)

    def _write_report(self, record: results.StudyResult, jobs: list[Job]) -> list[Path]:
        """Of each label of reruns it shows the scores and embeddings of the first seed."""
        search, importance, note = self.config.search, dict[str, float](), ""
        if search is not None:
            importance, note = importances(self.config.run, search, record.trials)
        first = {str(job.label): job.paths for job in reversed(jobs)}
        inputs = ReportInputs(
            study=record,
            config=self.config,
            importance=importance,
            importance_note=note,
            scores={label: load_scores(paths.scores) for label, paths in first.items()},
            embedding=project_embeddings(first[CHAMPION].embeddings),
        )
        return render_report(inputs, self.folder)

    def _jobs(self) -> list[Job]:
        return plan(
            self.config,
            self.record.champion_params,
            self._trials() if self.config.rerun.trials else (),
            folder=self.folder,
            data_root=self.context.data_root,
        )


@contextmanager
def open_study(study: StudyConfig, context: Context, screen: Screen) -> Iterator[Study]:
    """Open a study's results folder, alone, and its MLflow experiment; leave both consistent.

    Raises:
        StudyError: the folder belongs to another study, or another process works on it.
    """
    if context.tracking_uri is None and is_remote(context.results):
        raise StudyError(
            f"results at {context.results} need an MLflow server: name it by --tracking-uri "
            "(MLFLOW_TRACKING_URI); the store used without one is a file of this machine"
        )
    if context.tracking_uri is not None:
        check_uri(context.tracking_uri)
    folder = context.results / study.name
    with open_record(study, folder) as (record, check):
        shown = check_storage(record, context.storage)
        record = record.model_copy(update={"storage": shown})
        opened = Study(study, context, folder, record, screen, check)
        try:
            yield opened
        except BaseException:
            opened.close(interrupted=True)
            raise
        opened.close(interrupted=False)
