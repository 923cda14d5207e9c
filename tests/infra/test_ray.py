"""The files for Ray's own launchers, against their schemas; a misspelt field is refused."""

import copy
import gzip
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
SCHEMAS = ROOT.parent / "shared" / "schemas"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((INFRA / name).read_text(encoding="utf-8")))


def schema_of(kind: str) -> dict[str, Any]:
    """KubeRay's own, which lie beside the project."""
    path = SCHEMAS / f"{kind.lower()}.v1.schema.json.gz"
    if not path.exists():
        if os.environ.get("RWOOD_REQUIRE_SHARED_DATA"):
            pytest.fail(f"{path} is missing")
        pytest.skip(f"{path} is missing")
    found: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return found


def unknown(schema: dict[str, Any], value: Any, where: str = "") -> list[str]:
    """Fields that a schema does not know, which the API server would drop without a word."""
    if isinstance(value, list):
        items = schema.get("items", {})
        return [f for i, v in enumerate(value) for f in unknown(items, v, f"{where}[{i}]")]
    if not isinstance(value, dict) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return []
    if where == ".metadata":  # Kubernetes' own, which these schemas leave open
        return [f"{where}.{key}" for key in value if key not in ("name", "labels", "annotations")]
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    found = []
    for key, inner in value.items():
        if key in known:
            found += unknown(known[key], inner, f"{where}.{key}")
        elif isinstance(others, dict):
            found += unknown(others, inner, f"{where}.{key}")
        elif not others:
            found.append(f"{where}.{key}")
    return found


@pytest.mark.parametrize(("name", "kind"), [("raycluster", "RayCluster"), ("rayjob", "RayJob")])
def test_kuberay_knows_every_field(name: str, kind: str) -> None:
    schema = schema_of(kind)
    (manifest,) = documents(f"ray/{name}.yaml")
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", kind)
    jsonschema.validate(manifest, schema)
    assert unknown(schema, manifest) == []
    wrong = copy.deepcopy(manifest)
    cluster = wrong["spec"]["rayClusterSpec"] if kind == "RayJob" else wrong["spec"]
    cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resource"] = {}
    cluster["enableInTreeAutoscalin"] = True
    prefix = ".spec.rayClusterSpec" if kind == "RayJob" else ".spec"
    assert sorted(unknown(schema, wrong)) == [
        f"{prefix}.enableInTreeAutoscalin",
        f"{prefix}.workerGroupSpecs[0].template.spec.containers[0].resource",
    ]
    cluster["workerGroupSpecs"][0]["maxReplicas"] = "many"
    with pytest.raises(jsonschema.ValidationError, match="many"):
        jsonschema.validate(wrong, schema)


def test_the_pods_are_kubernetes_pods_and_the_two_clusters_are_one() -> None:
    (cluster,), (job,) = documents("ray/raycluster.yaml"), documents("ray/rayjob.yaml")
    spec = cluster["spec"]
    assert job["spec"]["rayClusterSpec"] == spec
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **group["template"]}
        kubernetes_validate.validate(pod, "1.34", strict=True)
    assert spec["authOptions"] == {"mode": "token"}
    gpu = spec["workerGroupSpecs"][0]
    assert spec["enableInTreeAutoscaling"]
    assert gpu["minReplicas"] == 0 < gpu["maxReplicas"]
    assert gpu["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_the_tracking_server_is_a_kubernetes_deployment() -> None:
    deployment, service = documents("mlflow/server.yaml")
    for manifest in (deployment, service):
        kubernetes_validate.validate(manifest, "1.34", strict=True)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"].get("type", "ClusterIP") == "ClusterIP"
    wrong = copy.deepcopy(service)
    wrong["spec"]["selectors"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.34", strict=True)


def test_ray_up_knows_every_field() -> None:
    schema = json.loads(
        (Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8")
    )
    (cluster,) = documents("ray/cluster.yaml")
    jsonschema.validate(cluster, schema)
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        jsonschema.validate({**cluster, "max_worker": 8}, schema)
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert cluster[commands][-1].startswith("RAY_AUTH_MODE=token ")
    assert cluster["head_node_type"] in cluster["available_node_types"]


def test_secrets_are_referred_to_and_never_written() -> None:
    """A variable that holds a secret comes from a Secret or a file, in every manifest."""
    for name in ("ray/raycluster.yaml", "ray/rayjob.yaml", "mlflow/server.yaml"):
        for manifest in documents(name):
            for entry in variables(manifest):
                if any(word in entry["name"] for word in ("PASSWORD", "SECRET", "TOKEN", "KEY")):
                    assert "secretKeyRef" in entry["valueFrom"], entry["name"]
                    assert "value" not in entry


def variables(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [entry for item in node for entry in variables(item)]
    if not isinstance(node, dict):
        return []
    own = node.get("env", []) if isinstance(node.get("env"), list) else []
    return own + [entry for value in node.values() for entry in variables(value)]
