"""The private and developer names of Ray that rwood needs, here and nowhere else.

Each has a test in `tests/ray_backend/test_compat.py` that says what breaks without it; the range of
Ray's versions in `pyproject.toml` is the one that they passed with. Nothing here imports torch.
"""

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
from ray.train.v2.api.exceptions import RayTrainError

__all__ = ["ControllerCallback", "WorkerGroupCallback"]


def dashboard_url() -> str | None:
    """Address of the dashboard of the Ray that this process is connected to; None without one."""
    url = ray._private.worker.get_dashboard_url()
    return f"http://{url}" if url else None


def log_instead_of_printing() -> None:
    """Send what Ray prints of lost workers and nodes to the log; it has no switch for that."""
    ray._private.worker.print_to_stdstream = _log_lines


def _log_lines(message: dict[str, Any], ignore_prefix: bool) -> None:
    logging.getLogger("ray").warning("\n".join(message["lines"]))


def listen_on_loopback() -> None:
    """Keep a private Ray off the network, as it is on macOS and Windows."""
    from ray._private import ray_constants

    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False


def show_token() -> None:
    """Show a cluster its token, as `ray.init` does.

    The job client alone would show none unless RAY_AUTH_MODE is set.
    """
    from ray._private.authentication import authentication_token_setup

    authentication_token_setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def draining_nodes() -> set[str]:
    """Ids of the nodes that Ray is draining; Ray Train asks likewise."""
    return set(ray._private.state.state.get_draining_nodes())


def choose_variables_of_actors(names: Iterable[str]) -> None:
    """Give Tune's actors these variables of the driver, and none of the object store's keys.

    A Ray that was there before has none of ours. The keys, which Tune copies too, Ray logs in
    clear; every node has its own keys, and a private Ray inherits them.
    """
    from ray.tune.execution import class_cache

    others = {n for n in class_cache.ENV_VARS_TO_PROPAGATE if not n.startswith("AWS_")}
    class_cache.ENV_VARS_TO_PROPAGATE = others.union(names)


@contextmanager
def tune_here() -> Iterator[None]:
    """Tune's loop in this process although Ray is reached through its client port (`ray://`).

    Tune would send the loop to the head node, where Optuna's study, MLflow's sender and the screen
    are not. While this is open, Tune takes a client for a driver; for a driver nothing changes.
    """
    from ray.train._internal import storage

    client = ray.util.client.ray
    if not client.is_connected():
        yield
        return
    session = storage._get_ray_train_session_dir
    with tempfile.TemporaryDirectory(prefix="rwood-") as scratch:
        client.is_connected = lambda: False
        storage._get_ray_train_session_dir = lambda: scratch
        try:
            yield
        finally:
            del client.is_connected
            storage._get_ray_train_session_dir = session


def needed_callbacks(callbacks: list[Any], *, with_dashboard: bool) -> list[Any]:
    """Ray Train's own callbacks without those whose actors a run here has no use for.

    Ray Data never; without a dashboard also the cleaner of placement groups, which asks the
    dashboard whether the controller lives.
    """
    unused: tuple[type, ...] = (DatasetsCallback,)
    if not with_dashboard:
        unused = (*unused, PlacementGroupCleanerCallback)
    return [callback for callback in callbacks if not isinstance(callback, unused)]


def own_errors(error: BaseException) -> list[BaseException]:
    """What the training code itself raised on the ranks of a Ray Train run that failed."""
    failures = getattr(error, "worker_failures", {}).values()
    return [f for f in failures if not isinstance(f, RayTrainError | ray.exceptions.RayError)]


def trial_error(trial: Any) -> str | None:
    """What Ray says of the last end of a Tune trial's worker; None if it left nothing.

    The text that Tune writes beside the trial; the exception itself is a pickle.
    """
    path = Path(trial.error_file or "")
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    return text.rpartition("Failure # ")[2].partition("\n")[2].strip() or None


def kill_worker(trial: Any) -> None:
    """End the actor of a Tune trial, which Tune takes for one that died."""
    actor = trial.temporary_state.ray_actor
    if actor is not None:
        ray.kill(actor)
