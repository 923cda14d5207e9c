"""Trials of several workers on Ray Train, and what is left of them when they are stopped."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import ray
import torch

from rwood.config.run import RunConfig
from rwood.config.study import StudyConfig
from rwood.errors import RunError
from rwood.ray_backend import job as jobs
from rwood.ray_backend import launch
from rwood.ray_backend.job import Job
from rwood.ray_backend.messages import FAILURE, KIND
from rwood.ray_backend.pool import TrainingPool
from rwood.results import EpochReport, TrialResult
from rwood.search.read_trials import read_trials
from rwood.search.tuner import search
from rwood.training.seeds import train_seeds
from rwood.training.worker import LocalWorker
from tests.tiny import tiny

pytestmark = pytest.mark.usefixtures("ray_session")


class Enough(Exception):
    """Stands for a scheduler that stops a trial."""


def job(study: StudyConfig, folder: Path, run: RunConfig | None = None) -> Job:
    return Job(run or study.run, study.benchmark, folder, folder / "run", threads=1)


def busy_cpus() -> float:
    total = ray.cluster_resources()["CPU"]
    return float(total - ray.available_resources().get("CPU", 0.0))


def wait_until_free(seconds: float) -> float:
    end = time.monotonic() + seconds
    while busy_cpus() > 0 and time.monotonic() < end:
        time.sleep(0.2)
    return busy_cpus()


def test_stopping_a_group_frees_its_workers(tmp_path: Path) -> None:
    study = tiny(tmp_path, run__epochs=200, cluster__workers=2)
    seen: list[EpochReport] = []

    def stop(report: EpochReport) -> None:
        seen.append(report)
        if report.epoch == 2:
            assert busy_cpus() == 2
            raise Enough

    with pytest.raises(Enough):
        TrainingPool(study.cluster, tmp_path / "ray").fit(
            job(study, tmp_path), name="pruned", on_report=stop, on_note=print
        )
    assert [r.epoch for r in seen] == [1, 2]
    assert wait_until_free(20) == 0


def test_a_failing_training_is_not_repeated(tmp_path: Path) -> None:
    study = tiny(tmp_path, cluster__workers=2, cluster__retries=0)
    broken = study.run.model_copy(
        update={"model": study.run.model.model_copy(update={"weights": "nowhere.pt"})}
    )
    started = []
    with pytest.raises(RunError, match=r"^broken: .*nowhere.pt") as failed:
        TrainingPool(study.cluster, tmp_path / "ray").fit(
            job(study, tmp_path, broken), name="broken", on_report=started.append, on_note=print
        )
    assert failed.value.details["kind"] == "environment"
    assert started == []
    assert wait_until_free(20) == 0


def test_a_group_that_runs_out_of_memory_is_not_put_up_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every rank of it would run out of memory again."""
    said: list[Any] = []
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    monkeypatch.setattr(jobs, "work", Mock(side_effect=full))
    rank = SimpleNamespace(rank=0, world_size=2)
    monkeypatch.setattr(launch, "TrainWorker", lambda folder, queue: rank)
    launch._loop({"job": job(tiny(tmp_path), tmp_path), "queue": SimpleNamespace(put=said.append)})
    sentence = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    assert said[-1] == {FAILURE: sentence, KIND: "setting"}


def test_a_search_with_two_workers_a_trial(tmp_path: Path) -> None:
    """Two workers train what one trains, seed by seed, and nothing of them is left."""
    study = tiny(
        tmp_path,
        cluster__workers=2,
        search__trials=1,
        search__seeds=[0, 7],
        run__epochs=2,
        run__schedule={"warmup": "none"},
        search__pruner={"name": "asha", "min_resource": 1, "reduction_factor": 2},
    )
    changed: list[TrialResult] = []
    asked: dict[str, Any] = {"record_id": "two", "folder": tmp_path / "s", "data_root": tmp_path,
                             "on_note": print, "on_change": changed.append}  # fmt: skip
    search(study, **asked)
    trials = list(read_trials(study, tmp_path / "s").values())
    assert [t.number for t in trials] == [0]
    assert trials[0].state == "complete"
    assert len(trials[0].history) == 2
    assert wait_until_free(20) == 0
    alone: list[EpochReport] = []
    worker = LocalWorker(tmp_path / "alone", torch.device("cpu"), alone.append)
    train_seeds(study.run, (0, 7), study.benchmark, worker, data_root=tmp_path)
    one, two = alone[0].metrics, trials[0].history[0].metrics
    assert one.keys() == two.keys()
    assert two["train/loss"] == pytest.approx(one["train/loss"], rel=1e-3)
    assert "val/auroc/std" in two
    search(study, **asked)
    assert list(read_trials(study, tmp_path / "s").values()) == trials
