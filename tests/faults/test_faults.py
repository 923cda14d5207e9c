"""Real processes are killed, by number, on a real cluster; the study must not show it.

Each test breaks several things in one study and compares it with an undisturbed one.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.faults.driver import (
    SINGLE,
    Driver,
    assert_logged_once,
    epochs,
    outcome,
    trainers,
    wait_until,
)
from tests.faults.slow_loss import SLOW
from tests.tiny import write_tiny

GROUP: dict[str, Any] = {
    "run__epochs": 6,
    "search__trials": 2,
    "search__pruner": None,
    "cluster__workers": 2,
    "cluster__max_concurrent": 1,
}


@pytest.fixture(scope="module")
def calm_group(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The study of two-worker trials, likewise."""
    folder = tmp_path_factory.mktemp("calm")
    Driver("search", write_tiny(folder, name="calm-group", **GROUP)).ended()
    return outcome(folder / "results" / "calm-group")


def test_workers_nodes_and_mlflow_die(
    cluster: Any, calm: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    """A worker in mid-epoch, the MLflow server, and a node."""
    folder = tmp_path / "results" / "lost"
    file = write_tiny(tmp_path, name="lost", **SINGLE)
    driver = Driver("search", file, cluster)
    driver.until("an epoch of trial 0", lambda: epochs(folder, 0) >= 1)
    trainers(cluster)[0].kill()
    driver.until("an epoch of trial 1", lambda: epochs(folder, 1) >= 1)
    cluster.stop("mlflow")
    driver.until("an epoch of trial 2", lambda: epochs(folder, 2) >= 1)
    cluster.kill("worker-1")
    cluster.start("mlflow", "worker-1")
    said = driver.ended()
    assert outcome(folder) == calm
    if "the next rwood run sends them" in said:  # MLflow came back after the last trial.
        Driver("search", file, cluster).ended()
    assert_logged_once(cluster, folder)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_node_that_is_preempted_loses_steps_only(
    cluster: Any, tmp_path: Path, workers: int
) -> None:
    """SIGTERM, as a spot node gets it: what trains there goes on elsewhere, within its epoch.

    The loss waits in every step, so that an epoch takes longer than the node has left, and ten
    steps, after which a worker asks whether it has to go, do not.
    """
    changes: dict[str, Any] = {
        "name": f"preempted-{workers}",
        "run__loss": {"name": SLOW, "seconds": 0.15},
        "run__batch_size": 4,
        "run__epochs": 2,
        "search__trials": 1,
        "search__space": {"loss.temperature": {"low": 0.05, "high": 0.5}},
        "search__pruner": None,
        "cluster__workers": workers,
        "cluster__max_concurrent": 1,
        "cluster__retries": 1,
    }
    file = write_tiny(tmp_path, **changes)
    calm_results = ("--results", tmp_path / "calm", "--set", "loss.seconds=0")
    Driver("train", file, None, *calm_results).ended()
    (calm,) = (tmp_path / "calm").glob("*/runs/*/encoder.pt")
    folder = tmp_path / "results" / changes["name"]
    driver = Driver("search", file, cluster)
    kind = "ray::ImplicitFunc" if workers == 1 else "ray::RayTrainWorker"
    nodes = [name for name in cluster.names if name.startswith("worker")]
    driver.until("an epoch", lambda: epochs(folder, 0) == 1)
    home = next(name for name in nodes if trainers(cluster, kind, name))
    os.kill(cluster.pid(home), signal.SIGTERM)
    within = "trials/0000/epoch-0001-step-*.pt"
    driver.until("a checkpoint within the epoch", lambda: any(folder.glob(within)))
    wait_until("the node is gone", lambda: cluster.pid(home) is None)
    assert epochs(folder, 0) == 1
    driver.ended()
    cluster.start(home)
    assert [trial[2] for trial in outcome(folder)] == ["complete"]
    found, wanted = (torch.load(path, weights_only=True)
                     for path in (folder / "trials" / "0000" / "encoder.pt", calm))  # fmt: skip
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert_logged_once(cluster, folder)


def test_drivers_die_and_the_database_goes_away(
    cluster: Any, calm: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    """The driver killed at random moments, told to end, and doubled; a checkpoint damaged."""
    file = write_tiny(tmp_path, name="driven", **SINGLE)
    folder = tmp_path / "results" / "driven"
    for epoch in (1, 3):
        driver = Driver("run", file, cluster)
        driver.until(f"epoch {epoch}", lambda least=epoch: epochs(folder, 0) >= least)
        time.sleep(random.uniform(0, 0.2))
        driver.kill()
        wait_until("its trainings are gone", lambda: not trainers(cluster))
    newest = folder / "trials" / "0000" / f"epoch-{epochs(folder, 0):04d}.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    cluster.stop("postgres")
    driver = Driver("run", file, cluster)
    driver.until("it says so", lambda: f"{newest} is damaged (" in driver.said())
    driver.until("it goes on", lambda: not newest.exists() or newest.stat().st_size > 1000)
    second = Driver("run", file, cluster).ended(2)
    assert f"is in use by process {driver.process.pid} on {os.uname().nodename}" in second
    driver.process.terminate()
    assert "interrupted; what ran is saved, the same command goes on" in driver.ended(143)
    cluster.start("postgres")
    driver = Driver("run", file, cluster)
    driver.until("a rerun's epoch", lambda: any(folder.glob("runs/*/epoch-*.pt")))
    driver.kill()
    Driver("run", file, cluster).ended()
    assert outcome(folder) == calm
    assert_logged_once(cluster, folder)
    assert "nothing is left to do" in Driver("run", file, cluster).ended()


def test_a_group_loses_a_rank_and_a_node(
    cluster: Any, calm_group: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    """Trials of two workers: one rank killed in mid-epoch, then a node that holds one."""
    file = write_tiny(tmp_path, name="group", **GROUP)
    folder = tmp_path / "results" / "group"
    driver = Driver("search", file, cluster)
    driver.until("an epoch of trial 0", lambda: epochs(folder, 0) >= 1)
    trainers(cluster, "ray::RayTrainWorker")[-1].kill()
    driver.until("an epoch of trial 1", lambda: epochs(folder, 1) >= 1)
    nodes = (name for name in cluster.names if name.startswith("worker"))
    home = next(name for name in nodes if trainers(cluster, "ray::RayTrainWorker", name))
    cluster.kill(home)
    cluster.start(home)
    driver.ended()
    assert outcome(folder) == calm_group
    assert_logged_once(cluster, folder)


def test_a_full_disk_ends_in_a_sentence(
    cluster: Any, calm: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    with small_disk(tmp_path / "results") as fill:
        file = write_tiny(tmp_path, name="full", **SINGLE)
        folder = tmp_path / "results" / "full"
        driver = Driver("search", file, cluster)
        driver.until("an epoch of trial 1", lambda: epochs(folder, 1) >= 1)
        fill()
        said = driver.ended(2)
        assert "cannot be written: " in said
        assert "the same command goes on" in said
        fill(0)
        Driver("search", file, cluster).ended()
        assert outcome(folder) == calm
        assert_logged_once(cluster, folder)


@pytest.mark.parametrize("workers", [1, 2])
def test_trials_that_fail_are_recorded_and_too_many_end_the_study(
    cluster: Any, tmp_path: Path, workers: int
) -> None:
    changes: dict[str, Any] = {
        "name": f"failing-{workers}",
        "run__epochs": 1,
        "search__trials": 3,
        "search__space": {"optimizer.lr": {"low": 0.05, "high": 1e30, "log": True}},
        "search__sampler": "random",
        "search__pruner": None,
        "cluster__workers": workers,
        "cluster__max_concurrent": 1,
    }
    file = write_tiny(tmp_path, **changes, cluster__max_failures=1)
    folder = tmp_path / "results" / changes["name"]
    said = Driver("search", file, cluster).ended(2)
    assert "1 trial failed (cluster.max_failures is 1), the last one: " in said
    assert "the last one: the loss became" in said
    assert [trial[2] for trial in outcome(folder)] == ["complete", "failed"]
    if workers == 1:
        write_tiny(tmp_path, **changes, cluster__max_failures=5)
        Driver("search", file, cluster).ended()
        states = [trial[2] for trial in outcome(folder)]
        assert len(states) == 3
        assert set(states) == {"complete", "failed"}
    assert_logged_once(cluster, folder)


@contextmanager
def small_disk(folder: Path) -> Iterator[Any]:
    """A disk of 32 MiB where we may mount one; else a folder that takes no further trial.

    Yields:
        A function: `fill()` takes the room, `fill(0)` gives it back.
    """
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    mounted = os.getuid() == 0 and subprocess.run(words, capture_output=True).returncode == 0
    ballast = folder / "ballast"

    def fill(size: int = 2**30) -> None:
        if not mounted:
            for number in range(2, 20):
                path = next(folder.glob("*/trials")) / f"{number:04d}"
                path.unlink() if size == 0 and path.is_file() else None
                if size and not path.exists():
                    path.touch()
            return
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            for _ in range(size // 2**12):
                file.write(bytes(2**12))

    try:
        yield fill
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)
        wait_until("the disk is gone", lambda: not folder.exists())
