"""The reruns of the benchmark stage: champion and base run over seeds, and which are done."""

from pathlib import Path

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.held_out import without_held_out
from rwood.config.run import RunConfig
from rwood.config.scorers import ScorerConfig, load_scorer
from rwood.config.search import Params, apply
from rwood.config.study import StudyConfig, run_digest
from rwood.paths import StudyPaths
from rwood.ray_backend.job import Job, trained
from rwood.results import RunResult
from rwood.study.measured import is_measured
from rwood.study.trainings import with_seed

CHAMPION, BASE = "champion", "base"


def plan(study: StudyConfig, champion: Params, *, folder: Path, data_root: Path) -> list[Job]:
    """The reruns of a study: champion, then base, seed by seed.

    Where the champion is the base run itself, the base is not trained twice. Reruns train on all
    classes.
    """
    benchmark = without_held_out(study.benchmark)
    runs = {CHAMPION: apply(study.run, champion)}
    if study.rerun.base and runs[CHAMPION] != study.run:
        runs[BASE] = study.run
    return [
        Job(
            run=with_seed(run, seed),
            benchmark=benchmark,
            data_root=data_root.resolve(),
            folder=run_folder(folder, label, with_seed(run, seed), benchmark).resolve(),
            threads=study.cluster.cpus_per_worker,
            label=label,
            scorers=_scorers(study, run),
            fsood=study.rerun.fsood,
            detector=label == CHAMPION and seed == study.rerun.seeds[0],
        )
        for label, run in runs.items()
        for seed in study.rerun.seeds
    ]


def finished(job: Job, study: StudyConfig) -> RunResult | None:
    """The result of a rerun that is done; None if anything that a study asks of it is missing."""
    result = trained(job)
    if result is None or (job.detector and not job.paths.detector.exists()):
        return None
    return result if is_measured(result, study) else None


def run_folder(study_folder: Path, label: str, run: RunConfig, benchmark: BenchmarkConfig) -> Path:
    """Where a rerun keeps its checkpoints and result: another champion gets another folder."""
    digest = run_digest(run, benchmark)
    return StudyPaths(study_folder).rerun(label, run.seed, digest).folder


def _scorers(study: StudyConfig, run: RunConfig) -> tuple[ScorerConfig, ...]:
    """The run's own scorer, then the others, which share its settings where they have them."""
    others = (name for name in study.rerun.scorers if name != run.scorer.name)
    plain = run.scorer.model_dump(mode="json", include=set(ScorerConfig.model_fields))
    return (run.scorer, *(load_scorer({**plain, "name": name}) for name in others))
