"""The parts of `gpu.py` that are real runs: training, evaluation, a search in one process.

`studies/cifar10.yaml` as it is, but that its image sets are noise of the right sizes: time does not
depend on what they show.
"""

import functools
import itertools
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from gpu_step import DEVICE, GPU, Size, wait

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.load import load_study
from rwood.config.run import RunConfig
from rwood.config.scorers import ScorerConfig
from rwood.config.search import Params, apply
from rwood.data import image_sets
from rwood.data.opened import ImageSet
from rwood.evaluation.benchmark import run_benchmark
from rwood.model.encoder import build_encoder
from rwood.model.precision import precision_on
from rwood.results import EpochReport
from rwood.training.train import train, training_epochs
from rwood.training.worker import LocalWorker

STUDY = load_study(Path(__file__).parents[2] / "studies" / "cifar10.yaml")
EPOCHS, VALIDATE_EVERY = 8, 3
"""Enough of a run to tell an epoch, a validation and a beginning apart."""
FULL_EPOCHS, FULL_VALIDATIONS = 100, 10
TRIALS, RUNGS = 16, (1, 3, 9)
"""Rungs of the study (11, 33 and 99 epochs), an epoch for eleven."""
EPOCHS_A_RUNG = 11
NOTES: list[str] = []
"""What the runs say: of steps that are not compiled, or not replayed from a CUDA graph."""


@contextmanager
def noise_sets(divisor: int) -> Iterator[None]:
    """Every named image set is noise, of the table's number of images by `divisor`."""

    @functools.cache
    def open_noise(name: str) -> ImageSet:
        row = image_sets.NAMED[name]
        count = max(40, (row.count or 0) // divisor)
        pixels = np.random.default_rng(len(name)).integers(0, 256, (count, 32, 32, 3), np.uint8)
        labels = np.arange(count) % row.classes if row.classes else np.full(count, -1)
        return ImageSet(name, pixels, labels, f"{name}-{count}")

    def opened(ref: str, benchmark: BenchmarkConfig, data_root: Path) -> ImageSet:
        return open_noise(ref)

    with patch.object(image_sets, "open_set", opened):
        yield


def run_of(size: Size, **params: object) -> RunConfig:
    """The study's base run with some settings changed."""
    changes: Params = {"model.width": size.width, "batch_size": size.batch, **params}  # type: ignore[dict-item]
    return apply(STUDY.run, changes)


@dataclass
class Heard:
    """When the reports of a run came."""

    times: list[float] = field(default_factory=lambda: [time.perf_counter()])
    validated: list[bool] = field(default_factory=list)

    def __call__(self, report: EpochReport) -> None:
        self.times.append(time.perf_counter())
        self.validated.append("val/auroc" in report.metrics)

    def gaps(self, validated: bool) -> list[float]:
        """Seconds of the epochs after the first, with or without a validation."""
        pairs = zip(self.times[1:], self.times[2:], self.validated[1:], strict=False)
        return [after - before for before, after, with_it in pairs if with_it == validated]


def training(size: Size, folder: Path, compiled: bool) -> dict[str, float]:
    """The base run, its 100 epochs put together from what its parts take."""
    heard = Heard()
    run = run_of(size, epochs=EPOCHS, validate_every=VALIDATE_EVERY, compile=compiled)
    with noise_sets(size.divisor):
        worker = LocalWorker(folder, DEVICE, heard, on_note=NOTES.append)
        train(run, STUDY.benchmark, worker, data_root=folder)
    epoch = statistics.median(heard.gaps(validated=False))
    validation = statistics.median(heard.gaps(validated=True)) - epoch
    start = heard.times[1] - heard.times[0] - epoch
    whole = start + FULL_EPOCHS * epoch + FULL_VALIDATIONS * validation
    return {
        "an epoch, s": epoch,
        "a validation, s": validation,
        "beginning, s": start,
        "100 epochs, s": whole,
        "peak memory, GB": torch.cuda.max_memory_allocated() / 1e9 if GPU else 0.0,
    }


def evaluation(size: Size, folder: Path) -> dict[str, float]:
    """The benchmark stage of a rerun: every test set, two scorers; the second of two passes."""
    run = run_of(size)
    kind = precision_on("float16" if GPU else "float32", DEVICE, 3)
    encoder = build_encoder(run.model, channels=3, seed=0)
    kind.place(encoder)
    scorers = [ScorerConfig(name="mahalanobis"), ScorerConfig(name="knn")]
    times = []
    with noise_sets(size.divisor):
        for _ in range(2):
            start = time.perf_counter()
            run_benchmark(encoder, STUDY.benchmark, scorers, data_root=folder, device=DEVICE)
            wait()
            times.append(time.perf_counter() - start)
    return {"first, s": times[0], "full evaluation, s": times[1]}


def search(size: Size, folder: Path, compiled: bool) -> dict[str, float]:
    """Trials one after another in this process, stopped as ASHA stops them, an epoch for eleven.

    Trials, their beginnings and their validations are as many as in a search of full length.
    """
    reached: dict[int, list[float]] = {rung: [] for rung in RUNGS}
    reports: list[tuple[int, float]] = []
    rng, started = np.random.default_rng(0), time.perf_counter()
    with noise_sets(size.divisor):
        for number in range(TRIALS):
            settings = {"loss.temperature": float(rng.uniform(0.05, 0.5)), "seed": number}
            run = run_of(size, epochs=RUNGS[-1], validate_every=1, compile=compiled, **settings)
            worker = LocalWorker(folder / str(number), DEVICE, on_note=NOTES.append)
            epochs = training_epochs(
                run, STUDY.benchmark, worker, folder=worker.folder, data_root=folder
            )
            for report in epochs:
                reports.append((report.epoch, time.perf_counter()))
                if report.epoch in RUNGS and _falls(report, reached[report.epoch]):
                    epochs.close()
                    break
    spent = time.perf_counter() - started
    gaps = {True: [], False: []}  # type: dict[bool, list[float]]
    for (_, before), (number, after) in itertools.pairwise(reports):
        gaps[number == 1].append(after - before)
    return {
        "16 trials, an epoch for eleven, s": spent,
        "epochs trained": float(len(reports)),
        "between two trials, s": statistics.median(gaps[True]) - statistics.median(gaps[False]),
    }


def _falls(report: EpochReport, rung: list[float]) -> bool:
    """True if a trial is not among the best third that reached the rung so far."""
    value = report.metrics["val/auroc"]
    rung.append(value)
    return sorted(rung, reverse=True).index(value) >= max(1, len(rung) // 3)
