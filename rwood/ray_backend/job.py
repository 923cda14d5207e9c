"""One training, as it travels to a worker: all it needs, and what the worker does with it."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rwood import results
from rwood.config.benchmark import BenchmarkConfig
from rwood.config.held_out import fold_of
from rwood.config.run import RunConfig
from rwood.config.scorers import ScorerConfig
from rwood.config.search import apply
from rwood.config.study import StudyConfig, run_digest, tested_digest
from rwood.detector.build import build_detector
from rwood.errors import StorageError
from rwood.evaluation.benchmark import run_benchmark
from rwood.evaluation.validation import settle
from rwood.model.encoder import Encoder
from rwood.paths import RunPaths, StudyPaths
from rwood.ray_backend.failures import kind_of, one_line
from rwood.ray_backend.messages import FAILURE, KIND, STARTED, STORAGE
from rwood.results import EpochReport, FinalsRun, RunResult
from rwood.storage import replaced, written
from rwood.training import checkpoint
from rwood.training.seeds import train_seeds
from rwood.training.train import train
from rwood.training.worker import Worker


@dataclass(frozen=True)
class Job:
    """One training, and whether a benchmark follows."""

    run: RunConfig
    benchmark: BenchmarkConfig
    data_root: Path
    folder: Path
    """The run's own folder, visible from every node."""
    threads: int
    """Torch threads of a worker."""
    deterministic: bool = False
    """Torch's deterministic mode."""
    label: str | None = None
    """Of a rerun, which the benchmark follows, or of the finals. None: a trial of the search."""
    validates: bool = False
    """Of the finals: the last epoch's metrics are the result, and no test set is opened."""
    seeds: tuple[int, ...] = ()
    """Of a trial: train with each of these, side by side, instead of the run's own seed."""
    scorers: tuple[ScorerConfig, ...] = ()
    """Scorers of the benchmark, the run's own first."""
    fsood: bool = False
    detector: bool = False
    """Make a detector of the encoder, in the run's folder."""

    @property
    def paths(self) -> RunPaths:
        """Its files."""
        return RunPaths(self.folder)

    @property
    def digest(self) -> str:
        """Names the training by content."""
        return run_digest(self.run, self.benchmark)


def job_of(study: StudyConfig, run: RunConfig, folder: Path, data_root: Path, **kind: Any) -> Job:
    """A training of a study; `kind` are further fields, of a rerun, of the finals or of a trial."""
    given: dict[str, Any] = {
        "benchmark": study.benchmark,
        "threads": study.cluster.cpus_per_worker,
        "deterministic": study.cluster.deterministic,
    }
    return Job(run=run, folder=folder.resolve(), data_root=data_root.resolve(), **(given | kind))


def trial_job(study: StudyConfig, config: dict[str, Any], *, folder: Path, data_root: Path) -> Job:
    """A trial of a search, from what Tune hands out; `folder` is the study's."""
    run, paths = apply(study.run, config["params"]), StudyPaths(folder).trial(config["number"])
    return job_of(study, run, paths.folder, data_root, seeds=study.the_search.seeds)


def attempt(job: Job, worker: Worker, send: Callable[[dict[str, Any]], None]) -> None:
    """Do a job, and send how it went; what its surroundings do to it is raised."""
    if worker.rank == 0:
        send({STARTED: True})
    try:
        work(job, worker)
    except StorageError as error:
        send({STORAGE: str(error)})
    except Exception as error:
        if kind_of(error, alone=worker.world_size == 1) == "environment":
            raise
        send({FAILURE: one_line(error), KIND: "setting"})


def work(job: Job, worker: Worker) -> None:
    """Train, and for a rerun measure the test sets and write the result into the run's folder."""
    torch.set_num_threads(job.threads)
    if job.deterministic:  # read by cuBLAS when it is first called
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(job.deterministic, warn_only=True)
    started = time.monotonic()
    if job.seeds:
        train_seeds(job.run, job.seeds, job.benchmark, worker, data_root=job.data_root)
        return
    encoder = train(job.run, job.benchmark, worker, data_root=job.data_root)
    if job.label is None or worker.rank != 0:
        return
    if job.validates:
        result: FinalsRun | RunResult = FinalsRun(
            label=job.label,
            seed=job.run.seed,
            digest=job.digest,
            history=_history(job, worker),
            seconds=time.monotonic() - started,
        )
    else:
        result = _measure(job, worker, encoder, started)
    results.save(result, job.paths.result)


def _measure(job: Job, worker: Worker, encoder: Encoder, started: float) -> RunResult:
    """Score the test sets, and keep what a report and a detector need."""
    where: dict[str, Any] = {"data_root": job.data_root, "device": worker.device}
    scorers = settle(encoder, job.benchmark, job.scorers, **where)
    outcome = run_benchmark(encoder, job.benchmark, scorers, fsood=job.fsood, **where)
    history = _history(job, worker)
    before = trained(job)
    if job.detector:
        with replaced(job.paths.detector) as made:
            weights = job.paths.encoder
            build_detector(job.run, job.benchmark, weights, made, scorer=scorers[0], **where)
    _save_arrays(job.paths.scores, outcome.scores)
    _save_arrays(job.paths.embeddings, outcome.embeddings)
    return RunResult(
        label=str(job.label),
        seed=job.run.seed,
        digest=job.digest,
        run=job.run.model_dump(mode="json"),
        history=history,
        tables=outcome.tables,
        scorers=scorers,
        test_sets=tested_digest(job.benchmark),
        id_metrics=outcome.id_metrics,
        seconds=time.monotonic() - started + (before.seconds if before else 0),
    )


def trained(job: Job) -> RunResult | None:
    """The result of a rerun, whatever it was measured on; None if its training is not done."""
    if not job.paths.result.exists():
        return None
    result = results.load(RunResult, job.paths.result)
    return result if result.digest == job.digest else None


def _history(job: Job, worker: Worker) -> tuple[EpochReport, ...]:
    """Epochs of a training that is done, from its last checkpoint."""
    digest = run_digest(job.run, fold_of(job.benchmark, job.run.seed))
    saved = checkpoint.load_latest(job.folder, digest, worker.note)
    assert saved is not None
    return tuple(EpochReport.model_validate(report) for report in json.loads(saved["history"]))


def _save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    with written(path) as file:
        np.savez_compressed(file, **arrays)
