"""A study in a process of its own, what it left behind, and how two of them compare."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from tests.conftest import REPOSITORY
from tests.stored_trials import trials_in

PATIENCE_S = 240
SINGLE: dict[str, Any] = {
    "run__epochs": 8,
    "search__trials": 6,
    "search__pruner": {"name": "asha", "min_resource": 4, "reduction_factor": 2},
    "cluster__max_concurrent": 1,
}
"""Changes of the tiny study: one trial at a time, some of them pruned. With several at a
time the verdicts depend on who reports first, so that two searches need not be equal."""


class Driver:
    """`rwood VERB FILE ...`, on a cluster if one is given, else on a private Ray."""

    started: ClassVar[list["Driver"]] = []

    def __init__(self, verb: str, file: Path, cluster: Any = None, *more: object) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
        extra = cluster.environment() if cluster else {}
        self.log = file.with_suffix(f".{time.monotonic_ns()}.log")
        self._output = self.log.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rwood", verb, file.name, *map(str, more)],
            cwd=file.parent,
            env=clean | extra | {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "300"},
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.started.append(self)

    def said(self) -> str:
        """Everything on its screen so far."""
        return self.log.read_text()

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait for something to happen while the driver works."""
        wait_until(what, lambda: condition() or self.process.poll() is not None, self.said)
        if self.process.poll() is not None and not condition():
            pytest.fail(f"the driver ended before {what}:\n{self.said()}")

    def ended(self, code: int = 0) -> str:
        """Wait for its end; its screen."""
        try:
            found = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"the driver does not end:\n{self.said()}")
        finally:
            self._output.close()
        assert found == code, self.said()
        assert "Traceback" not in self.said()
        return self.said()

    def kill(self) -> None:
        """Kill -9, alone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def wait_until(what: str, condition: Callable[[], bool], context: Callable[[], str] = str) -> None:
    """Poll until something happened."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"{what}: not within {PATIENCE_S} s\n{context()}")
        time.sleep(0.05)


def epochs(folder: Path, number: int) -> int:
    """Epochs of a trial whose checkpoint is on disk; of one that has ended, all it trained."""
    trial = folder / "trials" / f"{number:04d}"
    if (trial / "epochs.json").exists():
        return len(json.loads((trial / "epochs.json").read_text(encoding="utf-8")))
    files = trial.glob("epoch-*.pt")
    return max((int(file.stem.split("-")[1]) for file in files), default=0)


def trainers(cluster: Any, kind: str = "ray::ImplicitFunc", *nodes: str) -> list[psutil.Process]:
    """Processes of Ray's actors of a kind, on all nodes by default."""
    asked = nodes or [name for name in cluster.names if name.startswith("worker")]
    found = [process for name in asked for process in cluster.processes(name)]
    return [process for process in found if kind in " ".join(_words(process))]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def outcome(folder: Path) -> list[tuple[Any, ...]]:
    """What must not depend on what broke: everything but times and speeds."""
    trials = trials_in(folder)
    return [
        (
            number,
            trials[number].params,
            trials[number].state,
            trials[number].objective,
            trials[number].error,
            [(r.epoch, {k: v for k, v in r.metrics.items() if not k.startswith("sys/")})
             for r in trials[number].history],
        )
        for number in sorted(trials)
    ]  # fmt: skip


def assert_logged_once(cluster: Any, folder: Path) -> None:
    """MLflow has each trial once, ended as it ended, and each of its epochs once."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        for key, value in cluster.environment().items():
            patch.setenv(key, value)
        from mlflow import MlflowClient

        client = MlflowClient()
        experiment = client.get_experiment_by_name(folder.name)
        runs = client.search_runs([experiment.experiment_id], max_results=1000)
        names = [run.info.run_name for run in runs]
        assert sorted(names) == sorted(set(names))
        assert {run.info.status for run in runs} <= {"FINISHED", "KILLED", "FAILED"}
        by_name = {run.info.run_name: run for run in runs}
        status = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
        for number, trial in trials_in(folder).items():
            run = by_name.pop(f"trial-{number:04d}")
            assert run.info.status == status[trial.state]
            for name in {name for report in trial.history for name in report.metrics}:
                key = name.replace("sys/", "system/")
                told = client.get_metric_history(run.info.run_id, key)
                expected = [(r.epoch, r.metrics[name]) for r in trial.history if name in r.metrics]
                if key.startswith("system/"):  # An epoch that was trained twice took another time.
                    assert sorted(m.step for m in told) == [epoch for epoch, _ in expected]
                else:
                    assert sorted((m.step, m.value) for m in told) == expected, (number, name)
        others = {"search", "benchmark", "champion", "base"}
        assert {name.partition("-")[0] for name in by_name} <= others
