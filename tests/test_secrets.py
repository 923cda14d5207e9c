"""A study on an object store, killed and taken up again; and nothing of it holds a secret."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from rwood.storage import local_copy
from tests.a_command import said as command_line
from tests.an_object_store import SECRET
from tests.conftest import with_store
from tests.tiny import write_tiny

PASSWORD, TOKEN = "planted-mlflow-password", "planted-ray-token"
PLANTED = (SECRET, PASSWORD, TOKEN)


@pytest.fixture
def environment(object_store: dict[str, str]) -> Iterator[dict[str, str]]:
    logs = tempfile.mkdtemp(prefix="rw")  # short: Ray puts sockets below it
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
    yield {**kept, "RAY_AUTH_TOKEN": TOKEN, "MLFLOW_TRACKING_PASSWORD": PASSWORD,
           "RAY_TMPDIR": logs}  # fmt: skip
    shutil.rmtree(logs, ignore_errors=True)


def test_a_study_on_an_object_store_survives_and_keeps_no_secret(
    tmp_path: Path, bucket: Path, environment: dict[str, str], empty_store: bytes
) -> None:
    file = write_tiny(tmp_path, run__epochs=2, search__trials=4, search__pruner=None)
    command = [sys.executable, "-m", "rwood", "run", file.name, "--results", str(bucket)]
    away = f"http://me:{PASSWORD}@127.0.0.1:9"
    store = f"sqlite:///{with_store(tmp_path, empty_store) / 'mlflow.db'}"
    kwargs: Any = {"cwd": tmp_path, "env": environment, "text": True}

    with patch.dict(os.environ, environment, clear=True):
        refused = command_line(*command[3:], cwd=tmp_path)
    assert refused.returncode == 2
    assert "need an MLflow server: name it by --tracking-uri" in refused.stderr

    first = subprocess.Popen(
        [*command, "--tracking-uri", away], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        **kwargs,
    )  # fmt: skip
    assert first.stdout is not None
    said = ""
    for line in first.stdout:
        said += line
        if "trial 0" in line:
            break
    first.kill()
    first.wait()
    assert "trial 0" in said, said
    assert (bucket / "tiny" / "trials" / "0000" / "encoder.pt").exists()

    second = subprocess.run([*command, "--tracking-uri", store], capture_output=True, **kwargs)
    assert second.returncode == 0, second.stdout + second.stderr
    assert re.search(r"\[search\] [0-3] of 4 trials to run", second.stdout)
    with patch.dict(os.environ, environment, clear=True):
        status = command_line("status", file, "--results", bucket, cwd=tmp_path)
    assert "study tiny: finished" in status.stdout

    for text in (said, *(p.stdout + p.stderr for p in (second, status))):
        assert not any(secret in text for secret in PLANTED)
    with local_copy(bucket) as results:
        left = [p for p in results.rglob("*") if p.is_file()]
        names = {p.relative_to(results / "tiny").as_posix() for p in left}
        assert {"study.json", "champion.yaml", "report.html", "benchmark.csv", "rwood.log",
                "optuna.journal/000000.jsonl", "detector/detector.json"} <= names  # fmt: skip
        left += [p for p in tmp_path.rglob("*") if p.is_file()]
        logs = [p for p in Path(environment["RAY_TMPDIR"]).rglob("*") if p.is_file()]
        assert {"mlflow.db", "MLmodel"} <= {p.name for p in left}
        assert any("raylet" in p.name for p in logs)
        for path in left + logs:
            content = path.read_bytes()
            assert not any(secret.encode() in content for secret in PLANTED), path
