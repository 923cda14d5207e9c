"""The local cluster asks for its secrets, runs nothing as root that must not, and comes back."""

import base64
import os
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import REPOSITORY
from tests.faults.driver import SINGLE, Driver, assert_logged_once, outcome
from tests.tiny import write_tiny


def ask_mlflow(cluster: Any, user: str, password: str) -> int:
    """The status of a request that needs a user."""
    url = f"{cluster.place.mlflow_uri}/api/2.0/mlflow/experiments/search?max_results=1"
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {login}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_secrets_are_private_and_asked_for(cluster: Any) -> None:
    place = cluster.place
    for file in (place.folder / "secrets").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    password = place.secret("mlflow_password").read_text()
    assert ask_mlflow(cluster, place.admin, password) == 200
    assert ask_mlflow(cluster, place.admin, "password1234") == 401
    secrets = [file.read_text() for file in (place.folder / "secrets").glob("*_*")]
    for name in cluster.names:
        for process in cluster.processes(name):
            shown = " ".join(process.cmdline())
            assert not any(secret in shown for secret in secrets), name
            assert name != "postgres" or process.uids().effective != 0


def test_nothing_listens_beyond_the_loopback(cluster: Any) -> None:
    heard = [
        connection.laddr.ip
        for name in cluster.names
        for process in cluster.processes(name)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(heard) > len(cluster.names)
    assert set(heard) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_a_submitted_study_is_the_laptops(
    cluster: Any, calm: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    """The job runs on the head, finds MLflow and its login there, and trains on the workers."""
    file = write_tiny(tmp_path, name="sent", **SINGLE)
    said = Driver("submit", file, cluster, "--results", tmp_path / "far").ended()
    assert "rwood-sent-1: succeeded" in said
    assert outcome(tmp_path / "far" / "sent") == calm
    assert_logged_once(cluster, tmp_path / "far" / "sent")


def test_a_search_through_the_client_port_is_the_laptops(
    cluster: Any, calm: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    """Its loop, Optuna's study and screen are here, its trials there."""
    file = write_tiny(tmp_path, name="client", **SINGLE)
    address = f"ray://127.0.0.1:{cluster.place.port('client')}"
    said = Driver("search", file, cluster, "--address", address).ended()
    assert "[search] trial 5" in said
    assert outcome(tmp_path / "results" / "client") == calm
    assert_logged_once(cluster, tmp_path / "results" / "client")


def test_ray_refuses_another_token(
    cluster: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = cluster.environment()
    (tmp_path / "token").write_text("0" * 64)
    wrong = own | {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    monkeypatch.setattr(cluster, "environment", lambda: wrong)
    said = Driver("search", write_tiny(tmp_path), cluster).ended(2)
    assert f"rwood: cannot connect to Ray at {own['RAY_ADDRESS']}" in said


def test_the_command_shows_no_secret_and_starts_nothing_twice(cluster: Any) -> None:
    script = REPOSITORY / "infra" / "local" / "cluster.py"
    words = [sys.executable, str(script), "start", "--folder", str(cluster.place.folder)]
    before = {name: cluster.pid(name) for name in cluster.names}
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert {name: cluster.pid(name) for name in cluster.names} == before
    assert f"export RAY_ADDRESS={cluster.place.ray_address}" in done.stdout
    assert cluster.place.secret("mlflow_password").read_text() not in done.stdout
    told = subprocess.run(
        ["bash", "-c", f"{done.stdout}\nprintf %s $MLFLOW_TRACKING_PASSWORD"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout == cluster.place.secret("mlflow_password").read_text()


def test_data_outlive_a_crash(cluster: Any) -> None:
    place = cluster.place
    password = place.secret("mlflow_password").read_text()
    cluster.kill("postgres")
    assert cluster.pid("postgres") is None
    cluster.start()
    assert ask_mlflow(cluster, place.admin, password) == 200
