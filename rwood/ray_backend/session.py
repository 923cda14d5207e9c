"""A Ray to work on: a private one on this machine, or a running cluster."""

import logging
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from rwood.errors import RwoodError
from rwood.ray_backend import compat
from rwood.text import first_line

SETTINGS = {
    # The Train controller polls its workers at this interval: the default of 2 s is most of a
    # short run.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ctrl-C must reach rwood, which knows what to save and what to say.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A stopped trial first finishes writing its checkpoint. Tune would give it 2 s, then lose the
    # next trial and wait for that one for ever.
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "600",
    # Reports travel as one JSON text, which the scheduler reads.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Every trial is durable in its own folder; Tune's snapshot of the experiment is not used.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # Less to say: a warning on hidden GPUs, Tune's own screen, folded log lines.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
}
"""Variables of the driver and of what runs for it; those that the user set win."""
WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
"""Ray's switch for an actor per run that watches for spot nodes being taken away. It is off on a
private Ray, whose only node is this machine; see also `launch`."""

REACH_S = 10.0
"""Seconds in which a cluster's port has to answer."""
ATTEMPTS = 3
"""Starts of a private Ray, or of a client's server on a head node: Ray gives each 30 s to come up,
which a busy machine may miss."""


@contextmanager
def session(
    address: str | None, *, log: Path, cpus: int | None = None, dashboard: bool = False
) -> Iterator[None]:
    """Connect to Ray; disconnect, and stop what was started here, at the end.

    Nodes and clients of one cluster share a token (Ray's default); Ray reads it from
    `RAY_AUTH_TOKEN`, `RAY_AUTH_TOKEN_PATH` or the user's home, and makes one for a private Ray.

    Args:
        address: a running cluster (`auto`, `host:port`, `ray://...`); None starts a private Ray.
        log: file for what Ray says.
        cpus: CPUs of a private Ray; None: those of the machine.
        dashboard: start the dashboard of a private Ray, on the loopback.

    Raises:
        RwoodError: the cluster does not answer or refuses the token.
    """
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    if address is None:
        os.environ.setdefault(WATCHER, "0")
    quiet(log)
    attached = ray.is_initialized()
    if not attached:
        _connect(address, cpus, dashboard)
    try:
        yield
    finally:
        if not attached:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ask whether anything listens there: Ray itself would try for minutes, and say nothing.

    Raises:
        RwoodError: nothing does, or it is the address of a job server.
    """
    if address.startswith(("http://", "https://")):
        raise RwoodError(
            f"--address {address} is a job server's: send it the study by rwood submit FILE "
            f"--address {address}, or name the head node, HOST:6379 or ray://HOST:10001",
            address=address,
        )
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # `auto`, or a name that Ray looks up
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
    except (OSError, OverflowError) as error:
        raise RwoodError(
            f"nothing answers at --address {address} ({error}): is Ray's head node up, and its "
            "port open to this machine?",
            address=address,
        ) from error


def _connect(address: str | None, cpus: int | None, dashboard: bool) -> None:
    compat.log_instead_of_printing()
    ours = signal.getsignal(signal.SIGTERM)
    if address is None:
        compat.listen_on_loopback()
    else:
        _check_reachable(address)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ray.init(
                    address=address or "local",
                    num_cpus=cpus,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    include_dashboard=dashboard if address is None else None,
                    # A private Ray inherits the environment; a cluster must be told.
                    runtime_env={"env_vars": SETTINGS} if address else None,
                )
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, ours)  # Ray's handler would end us unsaved.
            return
        except Exception as error:  # Ray raises bare exceptions when a node does not come up.
            ray.shutdown()
            logging.getLogger(__name__).warning("Ray, attempt %d: %s", attempt, error)
            # The second is of a server for this client that did not come up, as on a busy head.
            late = address is None or isinstance(error, ConnectionAbortedError)
            if late and attempt < ATTEMPTS:
                continue
            what = f"cannot connect to Ray at {address}" if address else "cannot start Ray here"
            raise RwoodError(f"{what}: {first_line(error)}", address=address) from error


class _LogFile(logging.FileHandler):
    """A file of `quiet`'s, for all of a process."""


@contextmanager
def logging_restored() -> Iterator[None]:
    """Let a program log as before once the block ends: `quiet` takes its handlers away."""
    root = logging.getLogger()
    handlers, raises = list(root.handlers), logging.raiseExceptions
    try:
        yield
    finally:
        for added in set(root.handlers) - set(handlers):
            added.close()
        root.handlers[:] = handlers
        logging.captureWarnings(False)
        logging.raiseExceptions = raises


def quiet(log: Path) -> None:
    """Send what libraries log and warn to a file instead of the screen."""
    log.parent.mkdir(parents=True, exist_ok=True)
    handlers = logging.getLogger().handlers
    for earlier in handlers:
        if isinstance(earlier, _LogFile):
            earlier.close()
    handlers[:] = [_LogFile(log.resolve())]
    line = "%(asctime)s %(name)s %(levelname)s %(message)s"
    handlers[0].setFormatter(logging.Formatter(line))
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # A log that cannot be written ends nothing.
    for name in ("ray", "ray.tune", "ray.train", "optuna", "mlflow", "alembic", "py.warnings"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
