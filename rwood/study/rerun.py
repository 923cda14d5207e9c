"""The benchmark stage: champion and base run over seeds, each on Ray Train."""

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from rwood import results
from rwood.config.benchmark import BenchmarkConfig, ScorerConfig
from rwood.config.held_out import without_held_out
from rwood.config.run import RunConfig
from rwood.config.search import Params, apply
from rwood.config.study import StudyConfig, run_digest
from rwood.errors import StudyError
from rwood.ray_backend.job import DETECTOR_FOLDER, RESULT_FILE, Job
from rwood.ray_backend.launch import fit
from rwood.results import EpochReport, RunResult

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
            run=_with_seed(run, seed),
            benchmark=benchmark,
            data_root=data_root.resolve(),
            folder=run_folder(folder, label, _with_seed(run, seed), benchmark).resolve(),
            threads=study.cluster.cpus_per_worker,
            label=label,
            scorers=_scorers(study, run),
            fsood=study.rerun.fsood,
            detector=label == CHAMPION and seed == study.rerun.seeds[0],
        )
        for label, run in runs.items()
        for seed in study.rerun.seeds
    ]


def finished(job: Job) -> RunResult | None:
    """The result of a rerun that is done; None if it is not, or was another training."""
    path = job.folder / RESULT_FILE
    if not path.exists():
        return None
    result = results.load(RunResult, path)
    wanted = {f"ood/{s.name}" for s in job.scorers}
    wanted |= {f"fsood/{s.name}" for s in job.scorers if job.fsood}
    if job.detector and not (job.folder / DETECTOR_FOLDER).exists():
        return None
    same = result.digest == job.digest and wanted <= result.tables.keys()
    return result if same else None


def rerun(
    study: StudyConfig,
    jobs: list[Job],
    *,
    folder: Path,
    on_report: Callable[[Job, EpochReport], None],
    on_note: Callable[[str], None],
) -> None:
    """Run the jobs that are not finished, `cluster.max_concurrent` at a time.

    Args:
        study: whose reruns.
        jobs: from `plan`.
        folder: results folder of the study, visible from every node.
        on_report: called for each epoch, from several threads.
        on_note: called with what a worker has to say, likewise.

    Raises:
        RunError: a training failed; the others are finished first.
    """
    cancelled = threading.Event()

    def one(job: Job) -> None:
        name = f"{study.name}-{job.folder.name}"
        fit(
            job,
            study.cluster,
            name=name,
            storage=(folder / "ray").resolve(),
            on_report=lambda report: on_report(job, report),
            on_note=on_note,
            cancelled=cancelled.is_set,
        )
        if finished(job) is None:
            raise StudyError(
                f"{name} ended without a result in {job.folder}: can every node see the results "
                "folder?"
            )

    with ThreadPoolExecutor(study.cluster.max_concurrent) as pool:
        futures = [pool.submit(one, job) for job in jobs if finished(job) is None]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        except KeyboardInterrupt:
            cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for future in futures:
        future.result()


def run_folder(study_folder: Path, label: str, run: RunConfig, benchmark: BenchmarkConfig) -> Path:
    """Where a rerun keeps its checkpoints and result: another champion gets another folder."""
    digest = run_digest(run, benchmark)
    return study_folder / "runs" / f"{label}-seed{run.seed}-{digest[:8]}"


def _with_seed(run: RunConfig, seed: int) -> RunConfig:
    return apply(run, {"seed": seed})


def _scorers(study: StudyConfig, run: RunConfig) -> tuple[ScorerConfig, ...]:
    others = (name for name in study.rerun.scorers if name != run.scorer.name)
    return (run.scorer, *(run.scorer.model_copy(update={"name": name}) for name in others))
