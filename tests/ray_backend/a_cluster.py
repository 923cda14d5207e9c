"""A Ray cluster of one node with its dashboard and job server, on free ports of the loopback."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

PORTS = ("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port",
         "metrics-export-port", "runtime-env-agent-port", "node-manager-port",
         "object-manager-port")  # fmt: skip


@dataclass(frozen=True)
class Cluster:
    """A running cluster."""

    dashboard: str
    """Address of the job server."""
    address: str
    """For `ray.init`."""
    token: str
    folder: Path
    """Ray's own files and logs."""
    environment: Mapping[str, str]
    """For those who may use the cluster."""


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def cluster(cpus: int = 4, **extra: str) -> Iterator[Cluster]:
    """Start a head node, wait for its job server, stop it; `extra` goes to its environment."""
    folder = Path(tempfile.mkdtemp(prefix="rw"))  # short: Ray puts sockets below it
    token = secrets.token_hex(32)
    (folder / "token").write_text(token)
    (folder / "token").chmod(0o600)
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listen on the loopback only
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
             "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1",
             "--include-dashboard=true", "--disable-usage-stats", f"--num-cpus={cpus}",
             "--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={folder / 'ray'}",
             *(f"--{name}={port}" for name, port in ports.items())]  # fmt: skip
    with (folder / "head.log").open("w") as log:
        head = subprocess.Popen(
            words, env=environment | extra, stdout=log, stderr=log, start_new_session=True
        )
    try:
        found = Cluster(
            dashboard=f"http://127.0.0.1:{ports['dashboard-port']}",
            address=f"127.0.0.1:{ports['port']}",
            token=token,
            folder=folder,
            environment=environment,
        )
        _wait_for(found, head)
        yield found
    finally:
        _end(head)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(started: Cluster, head: "subprocess.Popen[bytes]") -> None:
    from urllib.request import Request, urlopen

    asked = Request(
        f"{started.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {started.token}"}
    )
    for _ in range(240):
        if head.poll() is not None:
            break
        try:
            with urlopen(asked, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the cluster did not start:\n{(started.folder / 'head.log').read_text()[-3000:]}")


def _end(head: "subprocess.Popen[bytes]") -> None:
    """Stop the head and whatever it started."""
    try:
        family = psutil.Process(head.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    head.send_signal(signal.SIGTERM)
    try:
        head.wait(20)
    except subprocess.TimeoutExpired:
        head.kill()
    for process in family:
        if process.is_running():
            process.kill()
    psutil.wait_procs(family, timeout=10)
