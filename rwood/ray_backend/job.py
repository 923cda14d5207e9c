"""One training, as it travels to a worker: all it needs, and what the worker does with it."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rwood import results
from rwood.config.benchmark import BenchmarkConfig
from rwood.config.held_out import fold_of
from rwood.config.run import RunConfig
from rwood.config.scorers import ScorerConfig
from rwood.config.study import run_digest, tested_digest
from rwood.detector import build_detector
from rwood.evaluation.benchmark import run_benchmark
from rwood.evaluation.validation import settle
from rwood.paths import RunPaths
from rwood.results import FinalsRun, RunResult
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
        _save_finals_run(job, worker, time.monotonic() - started)
        return
    scorers = settle(
        encoder, job.benchmark, job.scorers, data_root=job.data_root, device=worker.device
    )
    outcome = run_benchmark(
        encoder,
        job.benchmark,
        scorers,
        data_root=job.data_root,
        device=worker.device,
        fsood=job.fsood,
    )
    saved = checkpoint.load_latest(job.folder, job.digest, worker.note)
    assert saved is not None
    before = trained(job)
    if job.detector:
        with replaced(job.paths.detector) as made:
            build_detector(
                job.run,
                job.benchmark,
                job.paths.encoder,
                made,
                scorer=scorers[0],
                data_root=job.data_root,
                device=worker.device,
            )
    _save_arrays(job.paths.scores, outcome.scores)
    _save_arrays(job.paths.embeddings, outcome.embeddings)
    result = RunResult(
        label=job.label,
        seed=job.run.seed,
        digest=job.digest,
        run=job.run.model_dump(mode="json"),
        history=json.loads(saved["history"]),
        tables=outcome.tables,
        scorers=scorers,
        test_sets=tested_digest(job.benchmark),
        id_metrics=outcome.id_metrics,
        seconds=time.monotonic() - started + (before.seconds if before else 0),
    )
    results.save(result, job.paths.result)


def trained(job: Job) -> RunResult | None:
    """The result of a rerun, whatever it was measured on; None if its training is not done."""
    if not job.paths.result.exists():
        return None
    result = results.load(RunResult, job.paths.result)
    return result if result.digest == job.digest else None


def _save_finals_run(job: Job, worker: Worker, seconds: float) -> None:
    digest = run_digest(job.run, fold_of(job.benchmark, job.run.seed))
    saved = checkpoint.load_latest(job.folder, digest, worker.note)
    assert saved is not None
    result = FinalsRun(
        label=str(job.label),
        seed=job.run.seed,
        digest=job.digest,
        history=json.loads(saved["history"]),
        seconds=seconds,
    )
    results.save(result, job.paths.result)


def _save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with written(path) as file:
        np.savez_compressed(file, **arrays)
