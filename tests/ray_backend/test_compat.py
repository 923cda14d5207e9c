"""Each private name of Ray that rwood uses is there and does what rwood needs of it."""

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.train.torch import TorchTrainer

from rwood.ray_backend import compat
from rwood.ray_backend.session import SETTINGS


def test_a_ray_without_a_dashboard_has_no_address_of_one(ray_session: None) -> None:
    """Else `--dashboard` names an address where nothing answers."""
    assert compat.dashboard_url() is None


def test_what_ray_would_print_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Else lost workers are printed into the live display."""
    compat.log_instead_of_printing()
    with caplog.at_level(logging.WARNING, logger="ray"):
        ray._private.worker.print_to_stdstream({"lines": ["a worker died"]}, False)
    assert "a worker died" in caplog.text


def test_a_private_ray_listens_on_the_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a laptop's Ray is open to its network."""
    from ray._private import ray_constants

    monkeypatch.setenv(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, "1")
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)
    compat.listen_on_loopback()
    assert os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] == "0"
    assert ray_constants.ENABLE_RAY_CLUSTER is False


def test_a_token_is_shown_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else `rwood submit` is refused by every cluster with a token."""
    (tmp_path / "token").write_text("0" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    compat.show_token()
    assert os.environ.get("RAY_AUTH_MODE") == "token"


def test_draining_nodes_are_a_set_of_ids(ray_session: None) -> None:
    """Else a preempted node loses its epoch."""
    assert compat.draining_nodes() == set()


def test_actors_get_our_settings_and_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the object store's secret is in Ray's logs, and Tune waits for a stopped trial for ever.

    The settings are missing where the user started Ray.
    """
    from ray.tune.execution import class_cache

    names = {"AWS_SECRET_ACCESS_KEY", "OTHER"}
    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", names)
    for name in (*names, *SETTINGS):
        monkeypatch.setenv(name, "here")
    compat.choose_variables_of_actors(SETTINGS)
    actor = class_cache._ActorClassCache().get(type("Trainable", (), {}))
    given = actor._default_options["runtime_env"]["env_vars"]
    assert "TUNE_FUNCTION_THREAD_TIMEOUT_S" in given
    assert given.keys() - class_cache.DEFAULT_ENV_VARS == {"OTHER", *SETTINGS}


def test_tune_runs_here_through_a_client() -> None:
    """Else a study at `ray://` loses its storage and its screen."""
    from ray.train._internal import storage

    real = storage._get_ray_train_session_dir
    with compat.tune_here():
        assert storage._get_ray_train_session_dir is real  # a driver: nothing changes
    ray.util.client.ray.is_connected = lambda: True  # as of one that `tune_here` takes away again
    with compat.tune_here():
        assert not ray.util.client.ray.is_connected()
        assert Path(storage._get_ray_train_session_dir()).is_dir()
    assert storage._get_ray_train_session_dir is real


def test_ray_trains_callbacks_are_those_that_are_left_out(ray_session: None) -> None:
    """Else every run pays for two actors of Ray Data and asks a dashboard that is not there."""
    trainer = TorchTrainer(print)
    callbacks = trainer._create_default_callbacks()
    lean = compat.needed_callbacks(callbacks, with_dashboard=False)
    shown = compat.needed_callbacks(callbacks, with_dashboard=True)
    assert len(lean) < len(shown) <= len(callbacks)


def test_the_codes_own_errors_are_taken_out_of_ray_trains() -> None:
    """Else a failed group says `worker failed` in place of why."""
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    lost = WorkerHealthCheckFailedError("no answer", failure=OSError("gone"))
    failures = {0: ValueError("boom"), 1: lost, 2: ray.exceptions.ActorDiedError()}
    failed = ray.train.WorkerGroupError("training failed", failures)
    assert [str(error) for error in compat.own_errors(failed)] == ["boom"]


@ray.remote(num_cpus=0)
class Sleeper:
    def pid(self) -> int:
        return os.getpid()


class State:
    def __init__(self, actor: Any) -> None:
        self.ray_actor = actor


def _call_until_dead(actor: Any) -> None:
    for _ in range(600):  # the kill is a message, which a call may overtake
        ray.get(actor.pid.remote(), timeout=30)
        time.sleep(0.05)


def test_a_trials_worker_can_be_killed_and_its_error_read(
    ray_session: None, tmp_path: Path
) -> None:
    """Else a stalled trial holds its resources for ever, and nobody says why a worker died."""
    from ray.tune.experiment import Trial

    assert isinstance(Trial.error_file, property)
    actor = Sleeper.remote()
    ray.get(actor.pid.remote())
    trial = type("Trial", (), {"temporary_state": State(actor)})()
    compat.kill_worker(trial)
    with pytest.raises(ray.exceptions.RayActorError) as died:
        _call_until_dead(actor)
    path = tmp_path / "error.txt"
    first, last = (f"Failure # {n} (occurred at noon)\n{died.value}\n" for n in (1, 2))
    path.write_text(first + last)
    trial.error_file = str(path)
    assert compat.trial_error(trial) == str(died.value).strip()
    trial.error_file = None
    assert compat.trial_error(trial) is None


def test_private_names_stand_in_compat_alone() -> None:
    root = Path(compat.__file__).parents[1]
    for path in root.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name != "compat.py" and "ray" in text:
            for name in ("ray._private", "._internal", "class_cache"):
                assert name not in text, f"{path.relative_to(root)} uses {name}"
