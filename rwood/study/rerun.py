"""The reruns of the benchmark stage as trainings, and which are done."""

from collections.abc import Iterable
from pathlib import Path

from rwood import results
from rwood.config.held_out import without_held_out
from rwood.config.run import RunConfig
from rwood.config.scorers import ScorerConfig
from rwood.config.search import Params
from rwood.config.study import StudyConfig
from rwood.ray_backend.job import Job
from rwood.results import RunResult, TrialResult
from rwood.study.rerun_plan import CHAMPION, rerun_folder, rerun_plan


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
        Job(
            run=run,
            benchmark=benchmark,
            data_root=data_root.resolve(),
            folder=rerun_folder(study, folder, label, run).resolve(),
            threads=study.cluster.cpus_per_worker,
            deterministic=study.cluster.deterministic,
            label=label,
            scorers=_scorers(study, run),
            fsood=study.rerun.fsood,
            detector=label == CHAMPION and run.seed == study.rerun.seeds[0],
        )
        for label, run in rerun_plan(study, champion, trials)
    ]


def finished(job: Job) -> RunResult | None:
    """The result of a rerun that is done; None if it is not, or was another training."""
    path = job.paths.result
    if not path.exists():
        return None
    result = results.load(RunResult, path)
    wanted = {f"ood/{s.name}" for s in job.scorers}
    wanted |= {f"fsood/{s.name}" for s in job.scorers if job.fsood}
    if job.detector and not job.paths.detector.exists():
        return None
    same = result.digest == job.digest and wanted <= result.tables.keys()
    return result if same else None


def _scorers(study: StudyConfig, run: RunConfig) -> tuple[ScorerConfig, ...]:
    """The run's own scorer, then the others, which share its settings where they have them."""
    others = (name for name in study.rerun.scorers if name != run.scorer.name)
    return (run.scorer, *(run.scorer.named(name) for name in others))
