"""The driver and the workers of a search on a private Ray are killed, by number, or hang."""

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from rwood.results import StudyResult, load
from tests.faults.driver import Driver, epochs, outcome, wait_until
from tests.faults.slow_loss import SLOW
from tests.stored_trials import trials_in
from tests.tiny import write_tiny

STUDY: dict[str, Any] = {"run__epochs": 8, "search__trials": 8}
KILLS = int(os.environ.get("RWOOD_KILLS", "10"))
"""How often a driver is killed; CI, which has little time, asks for fewer."""


def slow(at_a_time: int) -> dict[str, Any]:
    """Changes that keep a search busy for all the kills, on any machine."""
    return {
        **STUDY,
        "run__loss": {"name": SLOW, "seconds": 0.015 * KILLS * at_a_time},
        "search__space": {"loss.temperature": {"low": 0.05, "high": 0.5}},
        "cluster__max_concurrent": at_a_time,
    }


def workers(driver: Driver) -> list[psutil.Process]:
    """Processes of the actors that train for a driver."""
    family = psutil.Process(driver.process.pid).children(recursive=True)
    return [process for process in family if "ray::ImplicitFunc" in _title(process)]


def kill_all(driver: Driver) -> None:
    """Kill -9 the driver, then the Ray that it started, which would end by itself in a while."""
    family = psutil.Process(driver.process.pid).children(recursive=True)
    driver.kill()
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=30)


def _has_worker(driver: Driver) -> bool:
    return bool(workers(driver))


def _has_checkpoint(folder: Path, since: float) -> bool:
    for path in folder.glob("trials/*/epoch-*.pt"):
        with suppress(FileNotFoundError):  # The next one replaced it.
            if path.stat().st_mtime > since:
                return True
    return False


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def killed_often(file: Path, folder: Path, seed: int) -> None:
    """Kill -9 at random moments of a search, every other one in its trainings; let it end."""
    order = random.Random(seed)
    decided: dict[int, Any] = {}
    for turn in range(KILLS):
        began = time.time()
        driver = Driver("search", file)
        driver.until("a worker", partial(_has_worker, driver))
        if turn % 2:
            driver.until("an epoch", partial(_has_checkpoint, folder, began))
        time.sleep(order.uniform(0.0, 1.5))
        kill_all(driver)
        trials = trials_in(folder)
        for number, before in decided.items():
            assert trials[number].params == before.params
            assert before.state == "running" or trials[number] == before
        decided = trials
    Driver("search", file).ended()
    trials = trials_in(folder)
    assert sorted(trials) == list(range(8))
    assert {trial.state for trial in trials.values()} <= {"complete", "pruned"}
    for number, before in decided.items():
        assert before.state == "running" or trials[number] == before


def assert_each_epoch_once(results: Path, name: str, folder: Path) -> None:
    """MLflow has every trial once, and each of its epochs once."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{results / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert max(Counter(run.info.run_name for run in runs).values()) == 1
    by_name = {run.info.run_name: run for run in runs}
    for number, trial in trials_in(folder).items():
        run = by_name[f"trial-{number:04d}"]
        assert run.info.status in ("FINISHED", "KILLED")
        history = client.get_metric_history(run.info.run_id, "train/loss")
        assert sorted(m.step for m in history) == [r.epoch for r in trial.history]


@pytest.mark.timeout(1200)
def test_one_trial_at_a_time_killed_often_equals_the_undisturbed_search(tmp_path: Path) -> None:
    calm = tmp_path / "calm"
    calm.mkdir()
    Driver("search", write_tiny(calm, name="calm", **slow(1))).ended()
    file = write_tiny(tmp_path, name="one", **slow(1))
    folder = tmp_path / "results" / "one"
    killed_often(file, folder, seed=1)
    assert outcome(folder) == outcome(calm / "results" / "calm")
    assert_each_epoch_once(tmp_path / "results", "one", folder)


@pytest.mark.timeout(1200)
def test_four_trials_at_a_time_killed_often_forget_nothing(tmp_path: Path) -> None:
    file = write_tiny(tmp_path, name="four", **slow(4))
    folder = tmp_path / "results" / "four"
    killed_often(file, folder, seed=2)
    assert_each_epoch_once(tmp_path / "results", "four", folder)


def test_a_trial_that_hangs_is_started_again_then_failed_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    """SIGSTOP: a worker that answers nothing, twice."""
    file = write_tiny(
        tmp_path, name="hang", run__epochs=40, run__model__width=32, search__trials=4,
        search__pruner=None, cluster__max_concurrent=2, cluster__stall_minutes=0.25,
    )  # fmt: skip
    folder = tmp_path / "results" / "hang"
    driver = Driver("search", file)
    driver.until("epochs of two trials", lambda: epochs(folder, 0) >= 2 and epochs(folder, 1) >= 2)
    stopped = workers(driver)[0]
    os.kill(stopped.pid, signal.SIGSTOP)
    driver.until("it is started again", lambda: "started again from its" in driver.said())
    number = _hung(driver)
    reached = epochs(folder, number)
    driver.until("it goes on", lambda: epochs(folder, number) > reached)
    young = max(workers(driver), key=lambda process: process.create_time())
    os.kill(young.pid, signal.SIGSTOP)
    driver.ended()
    trials = trials_in(folder)
    assert trials[number].state == "failed"
    assert trials[number].failure == "environment"
    assert trials[number].error == "no report for 15 s, for the second time"
    others = {trial.state for n, trial in trials.items() if n != number}
    assert others == {"complete"}
    again = Driver("search", file, None, "--retry-failed")
    again.ended()
    assert {trial.state for trial in trials_in(folder).values()} == {"complete"}


def _hung(driver: Driver) -> int:
    """Number of the trial that was last said to hang."""
    line = [line for line in driver.said().splitlines() if "started again from" in line][-1]
    return int(line.partition("trial ")[2].partition(":")[0])


def test_a_killed_worker_is_told_and_its_trial_goes_on(tmp_path: Path) -> None:
    changes = {**STUDY, "cluster__max_concurrent": 1, "search__trials": 2, "search__pruner": None,
               "run__epochs": 30}  # fmt: skip
    file = write_tiny(tmp_path, name="worker", **changes)
    folder = tmp_path / "results" / "worker"
    driver = Driver("search", file)
    driver.until("an epoch", lambda: epochs(folder, 0) >= 2)
    workers(driver)[0].kill()
    said = driver.ended()
    assert "trial 0: its worker process was killed or crashed" in said
    assert "it goes on from its checkpoint" in said
    assert {trial.state for trial in trials_in(folder).values()} == {"complete"}


def test_a_worker_that_dies_too_often_fails_its_trial_with_the_cause(tmp_path: Path) -> None:
    file = write_tiny(
        tmp_path, name="often", run__epochs=30, search__trials=2, search__pruner=None,
        cluster__max_concurrent=1, cluster__retries=0,
    )  # fmt: skip
    folder = tmp_path / "results" / "often"
    driver = Driver("search", file)
    driver.until("an epoch", lambda: epochs(folder, 0) >= 2)
    workers(driver)[0].kill()
    driver.ended()
    trials = trials_in(folder)
    assert (trials[0].state, trials[1].state) == ("failed", "complete")
    assert trials[0].failure == "environment"
    assert "was killed or crashed" in (trials[0].error or "")


def test_a_study_begun_with_two_at_a_time_goes_on_with_four(tmp_path: Path) -> None:
    changes = {**STUDY, "run__epochs": 30, "search__pruner": None}
    file = write_tiny(tmp_path, name="grown", **changes, cluster__max_concurrent=2)
    folder = tmp_path / "results" / "grown"
    driver = Driver("search", file)
    driver.until("two trials", lambda: epochs(folder, 1) >= 2)
    driver.process.send_signal(signal.SIGINT)
    driver.ended(130)
    before = trials_in(folder)
    write_tiny(tmp_path, name="grown", **changes, cluster__max_concurrent=4)
    Driver("search", file).ended()
    after = trials_in(folder)
    assert {n: t.params for n, t in after.items() if n in before} == {
        n: t.params for n, t in before.items()
    }
    assert {trial.state for trial in after.values()} == {"complete"}


def test_two_ctrl_c_leave_nothing_running(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    file = write_tiny(tmp_path, name="twice", **{**STUDY, "run__epochs": 100})
    driver = Driver("search", file)
    driver.until("an epoch", lambda: epochs(tmp_path / "results" / "twice", 0) >= 2)
    family = psutil.Process(driver.process.pid).children(recursive=True)
    driver.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    driver.process.send_signal(signal.SIGINT)
    driver.ended(130)
    wait_until("Ray's processes are gone", lambda: not any(p.is_running() for p in family))
    client = MlflowClient(f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("twice")
    statuses = {run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert "RUNNING" not in statuses


def test_a_driver_killed_in_the_finals_loses_nothing(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "run__epochs": 6, "search__trials": 3, "search__pruner": None, "cluster__max_concurrent": 1,
        "finals": {"candidates": 2, "race_seeds": 1, "confirm_seeds": 2},
    }  # fmt: skip
    calm = tmp_path / "calm"
    calm.mkdir()
    Driver("run", write_tiny(calm, name="calm", **changes)).ended()
    file = write_tiny(tmp_path, name="finals", **changes)
    folder = tmp_path / "results" / "finals"
    for pattern in ("finals/trial-*/epoch-*.pt", "finals/base-*/epoch-*.pt"):
        driver = Driver("run", file)
        driver.until("a training of the finals", partial(_any_file, folder, pattern))
        kill_all(driver)
    Driver("run", file).ended()
    undisturbed = load(StudyResult, calm / "results" / "calm" / "study.json")
    record = load(StudyResult, folder / "study.json")
    assert record.finals == undisturbed.finals
    assert record.champion == undisturbed.champion
    assert "nothing is left to do" in Driver("run", file).ended()


def _any_file(folder: Path, pattern: str) -> bool:
    return any(folder.glob(pattern))
