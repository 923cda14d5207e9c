"""Trainings of one worker on processes that are kept, and what becomes of one that is lost."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
import ray

from rwood.config.run import RunConfig
from rwood.config.study import StudyConfig
from rwood.errors import RunError, StorageError
from rwood.ray_backend.job import Job
from rwood.ray_backend.pool import TrainingPool
from rwood.results import EpochReport
from tests.tiny import tiny

pytestmark = pytest.mark.usefixtures("ray_session")


def job(study: StudyConfig, folder: Path, run: RunConfig | None = None) -> Job:
    return Job(run or study.run, study.benchmark, folder, folder / "run", threads=1)


def workers() -> set[int]:
    """Processes of pools of this session's Ray; another session may work beside."""
    pids = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "ray::TrainingWorker" in " ".join(process.cmdline()):
                pids.add(process.pid)
    return pids


def until(condition: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.1)
    assert condition()  # type: ignore[operator]


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def seen() -> list[EpochReport]:
    return []


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    until(lambda: not workers())


def test_a_process_trains_one_job_after_another(
    tmp_path: Path, seen: list[EpochReport], told: list[str]
) -> None:
    study = tiny(tmp_path, run__epochs=2)
    with closing(TrainingPool(study.cluster, tmp_path / "ray")) as pool:
        pids = []
        for name in ("a", "b"):
            pool.fit(job(study, tmp_path / name), name=name, on_report=seen.append,
                     on_note=told.append)  # fmt: skip
            pids.append(workers())
        broken = study.run.model_copy(
            update={"optimizer": study.run.optimizer.model_copy(update={"lr": 1e30})}
        )
        with pytest.raises(RunError, match=r"^c: the loss became ") as failed:
            pool.fit(job(study, tmp_path / "c", broken), name="c", on_report=seen.append,
                     on_note=told.append)  # fmt: skip
        until(lambda: not workers())  # one that failed is not trusted with another training
    assert failed.value.details["kind"] == "setting"
    assert len(pids[0]) == 1
    assert pids[0] == pids[1]
    assert [report.epoch for report in seen[:4]] == [1, 2, 1, 2]
    one, other = ({k: v for k, v in r.metrics.items() if "sys/" not in k} for r in seen[:4:2])
    assert one == other
    assert (tmp_path / "b" / "run" / "encoder.pt").exists()
    assert told == []


def test_a_training_whose_worker_is_killed_goes_on_from_its_checkpoint(
    tmp_path: Path, seen: list[EpochReport], told: list[str]
) -> None:
    study = tiny(tmp_path, run__epochs=12)

    def kill_once(report: EpochReport) -> None:
        seen.append(report)
        if report.epoch == 4 and not told:
            os.kill(workers().pop(), signal.SIGKILL)

    with closing(TrainingPool(study.cluster, tmp_path / "ray")) as pool:
        pool.fit(job(study, tmp_path), name="killed", on_report=kill_once, on_note=told.append)
    assert {report.epoch for report in seen} == set(range(1, 13))
    (note,) = told
    assert note.startswith("killed: its worker process was killed or crashed")
    assert note.endswith("; it goes on from its checkpoint")
    assert len(seen) < 2 * 12


def test_what_the_surroundings_do_is_tried_again_and_then_told(
    tmp_path: Path, seen: list[EpochReport], told: list[str]
) -> None:
    study = tiny(tmp_path, cluster__retries=1)
    broken = study.run.model_copy(
        update={"model": study.run.model.model_copy(update={"weights": "nowhere.pt"})}
    )
    with (
        closing(TrainingPool(study.cluster, tmp_path / "ray")) as pool,
        pytest.raises(RunError, match=r"nowhere.pt: .*; given up after 2 attempts") as failed,
    ):
        pool.fit(job(study, tmp_path, broken), name="broken", on_report=seen.append,
                 on_note=told.append)  # fmt: skip
    assert failed.value.details["kind"] == "environment"
    assert len(told) == 1
    assert seen == []


def test_a_results_folder_that_cannot_be_written_is_told_once(
    tmp_path: Path, seen: list[EpochReport], told: list[str]
) -> None:
    study = tiny(tmp_path)
    (tmp_path / "run").write_text("a file, no folder")
    with (
        closing(TrainingPool(study.cluster, tmp_path / "ray")) as pool,
        pytest.raises(StorageError),
    ):
        pool.fit(job(study, tmp_path), name="a", on_report=seen.append, on_note=told.append)
    assert told == []


def test_a_worker_that_says_nothing_any_more_is_replaced(
    tmp_path: Path, seen: list[EpochReport], told: list[str]
) -> None:
    study = tiny(tmp_path, run__epochs=6, cluster__stall_minutes=0.15)

    def freeze_once(report: EpochReport) -> None:
        seen.append(report)
        if report.epoch == 3 and not told:
            os.kill(workers().pop(), signal.SIGSTOP)

    with closing(TrainingPool(study.cluster, tmp_path / "ray")) as pool:
        pool.fit(job(study, tmp_path), name="frozen", on_report=freeze_once, on_note=told.append)
    assert {report.epoch for report in seen} == set(range(1, 7))
    assert told == ["frozen: no report for 9.0 s; it goes on from its checkpoint"]


def test_a_cancelled_training_frees_its_worker(
    tmp_path: Path, seen: list[EpochReport], told: list[str]
) -> None:
    study = tiny(tmp_path, run__epochs=500)
    cancelled = threading.Event()

    def cancel(report: EpochReport) -> None:
        seen.append(report)
        cancelled.set()

    with closing(TrainingPool(study.cluster, tmp_path / "ray")) as pool:
        pool.fit(job(study, tmp_path), name="cancelled", on_report=cancel, on_note=told.append,
                 cancelled=cancelled.is_set)  # fmt: skip
    assert len(seen) < 100
    until(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"])
