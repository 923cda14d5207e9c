"""A study's records as MLflow shows them: which run changes when a stage does something."""

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rwood.config.run import RunConfig
from rwood.config.study import StudyConfig
from rwood.data import image_sets
from rwood.detector.mlflow_model import log_detector
from rwood.paths import RunPaths, StudyPaths
from rwood.ray_backend.job import Job
from rwood.report.champion import champion_tags, champion_words, result_words
from rwood.results import EpochReport, FinalsRun, RunResult, StudyResult, TrialResult
from rwood.storage import local_copy
from rwood.tracked.finals import finals_run, finals_seed_run, finals_setting_run
from rwood.tracked.inputs import benchmark_inputs, search_inputs
from rwood.tracked.run import Artifacts, rerun_key
from rwood.tracked.study import benchmark_run, rerun_run, search_run, setting_run, trial_run
from rwood.tracked.views import experiment_tags
from rwood.tracking.client import local_uri
from rwood.tracking.registry import register_champion
from rwood.tracking.tracker import Tracker


class MlflowUpdates:
    """Keeps an MLflow experiment equal to a study; nothing here waits or fails with the server."""

    def __init__(
        self, study: StudyConfig, folder: Path, results: Path, uri: str | None, record: StudyResult
    ) -> None:
        """Start the thread that sends."""
        self._study, self._paths = study, StudyPaths(folder)
        self._unregistered: str | None = None
        artifacts = results / "mlartifacts" if uri is None else None
        tags = experiment_tags(study, result_words(study, record))
        self._tracker = Tracker(uri or local_uri(results), study.name, artifacts, tags)
        counts = {name: row.count for name, row in image_sets.NAMED.items()}
        self._searched = search_inputs(study.benchmark, counts)
        self._tested = benchmark_inputs(study.benchmark, counts)

    def search(self, record: StudyResult, state: str, artifacts: Artifacts = ()) -> None:
        """The search as a whole."""
        run = search_run(
            self._study, record, state=state, artifacts=artifacts, inputs=self._searched
        )
        self._tracker.update(run)

    def trial(self, record: StudyResult, trial: TrialResult) -> None:
        """One trial."""
        self._tracker.update(trial_run(record, trial, inputs=self._searched))

    def champion(
        self, record: StudyResult, trial: TrialResult, trials: Iterable[TrialResult]
    ) -> None:
        """The trial that was chosen: it alone of all trials has the tag, so all are sent again.

        Its weights and settings go to the search.
        """
        folder = self._paths.trial(trial.number).folder
        files = ((self._paths.config, None), (self._paths.champion, None))
        weights = tuple(  # of several seeds, each in a folder of its own
            (path, f"checkpoint{str(path.parent).removeprefix(str(folder))}")
            for path in sorted(folder.rglob(RunPaths(folder).encoder.name))
        )
        self.search(record, "complete", (*files, *weights))
        for other in trials:
            self.trial(record, other)

    def finals(self, record: StudyResult, state: str) -> None:
        """The finals as a whole, with their verdict once there is one."""
        self._tracker.update(finals_run(self._study, record, state=state, inputs=self._searched))

    def finals_setting(self, record: StudyResult, job: Job, runs: Sequence[FinalsRun]) -> None:
        """One setting of the finals over its seeds."""
        self._tracker.update(finals_setting_run(record, str(job.label), job.run, runs))

    def benchmark(self, record: StudyResult, state: str, files: Iterable[Path] = ()) -> None:
        """The benchmark as a whole; `files` are tables, figures and pages."""
        kept = (self._paths.config, self._paths.champion)
        artifacts: Artifacts = tuple(
            (file, "figures" if file.parent.name == "figures" else None) for file in (*files, *kept)
        )
        self._tracker.update(
            benchmark_run(
                self._study,
                record,
                state=state,
                artifacts=artifacts,
                inputs=self._tested,
                results=result_words(self._study, record),
            )
        )
        for label in {run.label for run in record.runs} if state == "complete" else ():
            run = RunConfig.model_validate_json(json.dumps(record.of(label)[0].run))
            self._tracker.update(setting_run(self._study, record, label, run))

    def training(
        self,
        record: StudyResult,
        job: Job,
        history: tuple[EpochReport, ...],
        result: FinalsRun | RunResult | None = None,
    ) -> None:
        """One training of the finals or one rerun, complete once it has a result."""
        facts: dict[str, Any] = {
            "label": str(job.label),
            "run": job.run,
            "digest": job.digest,
            "history": history,
            "result": result,
        }
        if job.validates:
            self._tracker.update(finals_seed_run(record, **facts, inputs=self._searched))
            return
        weights = ((job.paths.encoder, "checkpoint"),) if result else ()
        self._tracker.update(
            rerun_run(self._study, record, **facts, artifacts=weights, inputs=self._tested)
        )

    def register(self, record: StudyResult, job: Job) -> None:
        """The detector of a champion's rerun into the model registry; `close` says if it failed."""
        key = rerun_key(record, str(job.label), job.digest)
        run_id = self._tracker.run_id(key) if self._tracker.flush() else None
        if run_id is None:
            return  # `close` says that the server is away.
        uri = self._tracker.uri
        try:
            with local_copy(self._paths.detector) as detector:
                model = log_detector(uri, run_id, detector, "detector")
            register_champion(
                uri,
                self._study.name,
                model,
                run_id,
                question=self._study.question,
                description=champion_words(self._study, record, job.run),
                tags=champion_tags(record),
            )
        except Exception as error:  # MLflow raises whatever its store or HTTP client raises.
            logging.getLogger(__name__).warning("the detector was not registered", exc_info=error)
            self._unregistered = (
                f"MLflow did not take the detector ({type(error).__name__}, see the log); the next "
                "rwood run tries again"
            )

    def close(self, *, interrupted: bool) -> str | None:
        """Send the rest; a sentence if something could not be sent, else None."""
        if interrupted:
            self._tracker.interrupt()
        return self._tracker.close() or self._unregistered
