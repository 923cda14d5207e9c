"""Images and the compose file, as Docker's own tools read them; nothing is built or started."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

INFRA = Path(__file__).parents[2] / "infra"
COMPOSE = (INFRA / "compose.yaml").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
VARIABLES = sorted(set(re.findall(r"\$\{(\w+)", COMPOSE)))


def compose(*words: str, **given: str) -> "subprocess.CompletedProcess[str]":
    environment = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    return subprocess.run(
        [str(BIN / "docker-compose"), "-f", str(INFRA / "compose.yaml"), "config", *words],
        capture_output=True, text=True, env=environment | given,
    )  # fmt: skip


@pytest.fixture(scope="module")
def resolved() -> dict[str, Any]:
    done = compose("--format", "json", **{name: "given" for name in VARIABLES})
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_compose_reads_the_file_and_knows_every_field(
    resolved: dict[str, Any], tmp_path: Path
) -> None:
    assert resolved["services"].keys() == {
        "head", "worker", "mlflow", "postgres", "minio", "buckets",
    }  # fmt: skip
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.replace("restart:", "restarts:"), encoding="utf-8")
    done = subprocess.run(
        [str(BIN / "docker-compose"), "-f", str(wrong), "config", "--quiet"],
        capture_output=True, text=True, env=os.environ | {name: "given" for name in VARIABLES},
    )  # fmt: skip
    assert done.returncode != 0
    assert "restarts" in done.stderr


def test_no_password_has_a_default() -> None:
    assert len(VARIABLES) >= 6
    assert len(re.findall(r"\$\{", COMPOSE)) == len(re.findall(r"\$\{\w+:\?[^}]+\}", COMPOSE))
    done = compose("--quiet")
    assert done.returncode != 0
    assert "required variable" in done.stderr
    one_empty = dict.fromkeys(VARIABLES, "given") | {"MLFLOW_PASSWORD": ""}
    assert "MLFLOW_PASSWORD" in compose("--quiet", **one_empty).stderr


def test_ports_are_on_the_loopback_only(resolved: dict[str, Any]) -> None:
    ports = [port for s in resolved["services"].values() for port in s.get("ports", [])]
    assert {port["published"] for port in ports} == {"8265", "5000", "9000", "9001"}
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_every_ray_node_asks_for_the_token(resolved: dict[str, Any]) -> None:
    for name in ("head", "worker"):
        service = resolved["services"][name]
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
        assert [secret["source"] for secret in service["secrets"]] == ["ray_token"]
        assert "RAY_AUTH_TOKEN" not in service["environment"]
    assert "MLFLOW_TRACKING_PASSWORD" not in resolved["services"]["worker"]["environment"]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.detector"])
def test_hadolint_finds_nothing_in_a_dockerfile(name: str) -> None:
    done = subprocess.run(
        [str(BIN / "hadolint"), str(INFRA / name)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_images_run_without_root_and_hold_no_secret() -> None:
    files = [INFRA / name for name in ("Dockerfile", "Dockerfile.detector")]
    texts = [file.read_text(encoding="utf-8") for file in files]
    stages = [stage for text in texts for stage in re.split(r"^FROM ", text, flags=re.M)[1:]]
    assert len(stages) == 3
    for stage in stages:
        (user,) = re.findall(r"^USER (.+)$", stage, re.M)
        assert int(user) > 0
        assert re.findall(r"^HEALTHCHECK ", stage, re.M)
        assert not re.findall(r"^ARG|(?:TOKEN|PASSWORD|SECRET)\w*=", stage, re.M)
