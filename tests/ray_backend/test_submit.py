"""A study as a Ray job, on a real head node with its dashboard, job server and token."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rwood.errors import RwoodError, StudyError
from rwood.ray_backend.job_folder import entrypoint
from rwood.ray_backend.submit import JobServer
from tests.conftest import with_store
from tests.ray_backend.a_cluster import Cluster, cluster
from tests.stored_trials import trials_in
from tests.tiny import write_tiny


def submit(
    there: Cluster, file: Path, *words: object, **environment: str
) -> "subprocess.CompletedProcess[str]":
    address = () if "--address" in words else ("--address", there.dashboard)
    return subprocess.run(
        [sys.executable, "-m", "rwood", "submit", str(file), *address, *map(str, words)],
        capture_output=True, text=True, env={**there.environment, **environment}, timeout=300,
    )  # fmt: skip


def sentence(done: "subprocess.CompletedProcess[str]") -> str:
    """What was said where the user can mend it: one line."""
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_a_study_is_sent_followed_and_stopped(tmp_path: Path, empty_store: bytes) -> None:
    file = write_tiny(tmp_path, search__trials=2, run__epochs=2)
    slow = write_tiny(tmp_path, name="slow", run__epochs=500)
    far = with_store(tmp_path / "far", empty_store)
    with cluster() as there:
        assert "knows no job of study tiny: submit it first" in sentence(
            submit(there, file, "--status")
        )
        wrong = submit(there, file, "--status", RAY_AUTH_TOKEN_PATH="", RAY_AUTH_TOKEN="0" * 64)
        assert "does not accept the token of this user" in sentence(wrong)
        closed = submit(there, file, "--status", "--address", "http://127.0.0.1:9")
        assert "no Ray dashboard answers at http://127.0.0.1:9" in sentence(closed)

        lacking = submit(there, slow, "--results", far, "--requirements", tmp_path / "nowhere.txt")
        assert "nowhere.txt: there is no such file" in sentence(lacking)

        sent = submit(there, slow, "--results", far, "--code", "--no-wait", "--json")
        assert sent.returncode == 0, sent.stderr
        assert json.loads(sent.stdout)["id"] == "rwood-slow-1"
        second = sentence(submit(there, slow, "--results", far))
        assert re.search("study slow is already (running|pending) as rwood-slow-1", second)
        typo = sentence(submit(there, Path("slwo"), "--stop"))
        assert "knows no job of study slwo" in typo
        stopped = submit(there, Path("slow"), "--stop")
        assert stopped.stdout.startswith("rwood-slow-1: stopped"), stopped.stderr

        done = submit(there, file, "--results", far, "--code")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "[report]" in done.stdout
        assert "rwood-tiny-1: succeeded" in done.stdout
        heard = [sent, second, stopped, done]
        assert not any(there.token in str(h) for h in heard)
        for path in (*there.folder.rglob("*"), *tmp_path.rglob("*")):
            if path.is_file() and path.name != "token":
                assert there.token.encode() not in path.read_bytes(), path

    assert (far / "tiny" / "report.html").stat().st_size > 0
    trials = trials_in(far / "tiny").values()
    assert [trial.state for trial in trials] == ["complete", "complete"]


def test_what_cannot_be_sent_is_said() -> None:
    assert entrypoint(Path("/results"), Path("/my data"), "http://mlflow:5000") == (
        "python -m rwood run study.yaml --results /results --data-root '/my data' "
        "--tracking-uri http://mlflow:5000"
    )
    with pytest.raises(StudyError, match="--results results is a path of this machine"):
        entrypoint(Path("results"), None, None)
    with pytest.raises(StudyError, match="--data-root data is a path of this machine"):
        entrypoint(Path("/results"), Path("data"), None)
    with pytest.raises(StudyError, match="holds a login") as caught:
        entrypoint(Path("/results"), None, "http://me:planted@mlflow:5000")
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("address", ["head:8265", "ray://head:10001", "auto"])
def test_what_is_no_dashboard_is_told_at_once(address: str) -> None:
    with pytest.raises(RwoodError, match=f"{address} is not .* --address http://head:8265"):
        JobServer(address)
