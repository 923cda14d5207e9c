"""The reruns of the benchmark stage as trainings, and which are done."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from rwood.config.held_out import without_held_out
from rwood.config.run import RunConfig
from rwood.config.scorers import ScorerConfig
from rwood.config.search import Params
from rwood.config.study import StudyConfig
from rwood.paths import StudyPaths
from rwood.ray_backend.job import Job, job_of, trained
from rwood.results import RunResult, TrialResult
from rwood.storage import local_copy, replaced
from rwood.study.measured import is_measured
from rwood.study.plans import BASE, CHAMPION, rerun_folder, rerun_plan


def plan(
    study: StudyConfig,
    champion: Params,
    trials: Iterable[TrialResult],
    *,
    folder: Path,
    data_root: Path,
) -> list[Job]:
    """The reruns of a study, see `rerun_plan`. They train on all classes."""
    benchmark = without_held_out(study.benchmark)
    return [
        job_of(
            study,
            run,
            rerun_folder(study, folder, label, run),
            data_root,
            benchmark=benchmark,
            label=label,
            scorers=_scorers(study, run),
            fsood=study.rerun.fsood,
            detector=label == CHAMPION and run.seed == study.rerun.seeds[0],
        )
        for label, run in rerun_plan(study, champion, trials)
    ]


def finished(job: Job, study: StudyConfig) -> RunResult | None:
    """The result of a rerun that is done; None if anything that a study asks of it is missing."""
    result = trained(job)
    if result is None or (job.detector and not job.paths.detector.exists()):
        return None
    return result if is_measured(result, study) else None


def results_of(jobs: Iterable[Job], study: StudyConfig) -> tuple[RunResult, ...]:
    """Results of all reruns; none if one of them is missing.

    Where the champion is the base run, its reruns stand for the base run's too.
    """
    found = [finished(job, study) for job in jobs]
    runs = [run for run in found if run is not None]
    if len(runs) < len(found):
        return ()
    if study.rerun.base and all(run.label != BASE for run in runs):
        runs += [r.model_copy(update={"label": BASE}) for r in runs if r.label == CHAMPION]
    return tuple(runs)


def hand_over(jobs: Iterable[Job], paths: StudyPaths) -> None:
    """Put the champion's detector where people look for it."""
    made = next(job.paths.detector for job in jobs if job.detector)
    with local_copy(made) as source, replaced(paths.detector) as target:
        shutil.copytree(source, target, dirs_exist_ok=True)


def _scorers(study: StudyConfig, run: RunConfig) -> tuple[ScorerConfig, ...]:
    """The run's own scorer, then the others, which share its settings where they have them."""
    others = (name for name in study.rerun.scorers if name != run.scorer.name)
    return (run.scorer, *(run.scorer.named(name) for name in others))
