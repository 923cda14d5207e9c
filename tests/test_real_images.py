"""Real colour images from the archive to a table, by the command line alone."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rwood.config.load import load_benchmark
from tests.conftest import STUDIES

pytestmark = pytest.mark.shared_data
FAR = ("eurosat", "mnist", "scenes", "texture")


def rwood(*words: object, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "RWOOD_"))}
    done = subprocess.run(
        [sys.executable, "-m", "rwood", *map(str, words)],
        cwd=cwd, capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked archive, a benchmark of a few hundred images a set, a study."""
    folder = tmp_path_factory.mktemp("real")
    archive = shared_data / "cifar10-jpeg.tar.gz"
    words = rwood("data", "fetch", "cifar10-jpeg", "--from", archive, "--data-root", "data",
                  cwd=folder)  # fmt: skip
    assert words.strip() == "cifar10-jpeg: 89,219 files in data/cifar10-jpeg"
    plain = yaml.safe_load((STUDIES / "benchmarks" / "cifar10-jpeg-small.yaml").read_text())
    plain["name"] = "cifar10-jpeg-tiny"
    for part in ("validation", "near", "far"):
        for ref in plain[part].values():
            ref["images"] = 300
    plain["id"] = {
        part: {"of": f"cifar10-jpeg/{part}_cifar10", "images": count}
        for part, count in (("train", 1000), ("val", 200), ("test", 400))
    }
    study: dict[str, Any] = {
        "name": "real",
        "question": "Does a network train on real colour images?",
        "benchmark": "tiny.yaml",
        "run": {
            "model": {"backbone": "resnet18_32x32", "width": 8},
            "schedule": {"warmup": "none"},
            "epochs": 1,
            "batch_size": 100,
        },
        "rerun": {"seeds": [1], "base": False},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    (folder / "real.yaml").write_text(yaml.safe_dump(study))
    return folder


def test_the_whole_archive_is_what_its_table_says(place: Path) -> None:
    rows = json.loads(rwood("data", "list", "--data-root", "data", "--json", cwd=place))
    found = {r["name"].split("/")[1]: r for r in rows if r["name"].startswith("cifar10-jpeg/")}
    assert {name: r["images"] for name, r in found.items()} == {
        "train_cifar10": 50_000, "val_cifar10": 1_000, "test_cifar10": 9_000, "val_tin": 1_000,
        "test_tin": 8_000, "test_mnist": 10_000, "test_texture": 1_200, "test_eurosat": 5_000,
        "test_scenes": 4_010,
    }  # fmt: skip
    assert {r["state"] for r in found.values()} == {"here"}


def test_verify_and_pack(place: Path) -> None:
    words = ["tiny.yaml", "--data-root", "data"]
    found = json.loads(rwood("data", "verify", *words, "--json", cwd=place))
    sets = {s["key"]: (s["images"], s["packed"]) for s in found["sets"]}
    assert sets == {
        "id.train": (1000, False), "id.val": (200, False), "id.test": (400, False),
        "validation.tin": (300, False), "near.tin": (300, False),
    } | {f"far.{name}": (300, False) for name in FAR}  # fmt: skip
    assert rwood("data", "pack", *words, cwd=place) == "cifar10-jpeg-tiny: packed\n"
    packs = list((place / "data" / "packs").glob("*.pack"))
    assert len(packs) == 9
    assert sum(path.stat().st_size for path in packs) < 15e6, "a pack holds its subset alone"
    again = json.loads(rwood("data", "verify", *words, "--json", cwd=place))
    assert all(s["packed"] and not s["problems"] for s in again["sets"])


def test_train_and_evaluate(place: Path) -> None:
    told = json.loads(
        rwood("train", "real.yaml", "--data-root", "data", "--json", cwd=place).splitlines()[-1]
    )
    assert 20 < told["metrics"]["val/auroc"] < 100
    weights = Path(told["folder"]) / "encoder.pt"
    words = ["evaluate", weights, "--benchmark", "tiny.yaml", "--data-root", "data",
             "--scorer", "mahalanobis", "--scorer", "knn"]  # fmt: skip
    told = json.loads(rwood(*words, "--csv", "tables", "--json", cwd=place))[0]
    assert told["run"]["model"]["width"] == 8
    assert set(told["tables"]) == {"ood/mahalanobis", "ood/knn"}
    assert told["id_metrics"]["linear_probe"] > 15, "chance is 10"
    for key, table in told["tables"].items():
        assert list(table["near"]) == ["tin"]
        assert set(table["far"]) == set(FAR)
        assert all(0 < v <= 100 for row in table["far"].values() for v in row.values())
        csv = (place / "tables" / f"{key.replace('/', '_')}.csv").read_text().splitlines()
        assert [row.split(",")[0] for row in csv[1:]] == [
            "tin", "nearood", "mnist", "texture", "eurosat", "scenes", "farood",
        ]  # fmt: skip


def test_the_shipped_small_benchmark_draws_even_classes(place: Path) -> None:
    import numpy as np

    from rwood.data.image_sets import files_of

    small = load_benchmark(STUDIES / "benchmarks" / "cifar10-jpeg-small.yaml")
    files = files_of(small.id.train, small, place / "data")
    assert np.bincount(files.labels_N).tolist() == [500] * 10
    texture = files_of(small.far["texture"], small, place / "data")
    kinds = {path.split("/")[-2] for path in texture.paths}
    assert len(kinds) == 10, "every texture is in the subset"
