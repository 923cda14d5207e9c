"""`rwood compare`, on a store filled by hand."""

import csv
import json
from pathlib import Path

import pytest

from rwood.tracking.client import local_uri
from tests.a_command import said
from tests.conftest import with_store
from tests.report.a_study import BASE_SHIFTS, CHAMPION_SHIFTS, make_config, make_run, make_study
from tests.test_tracking import send, whole_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, empty_store: bytes) -> Path:
    """Two studies in one store; the second is 2 points better on every seed but the third."""
    folder = tmp_path_factory.mktemp("compare")
    with_store(folder / "results", empty_store)
    for name, gains in (("first", (0.0, 0.0, 0.0)), ("second", (2.0, 2.0, 0.5))):
        config = make_config(name=name)
        shifts = [shift + gain for shift, gain in zip(CHAMPION_SHIFTS.values(), gains, strict=True)]
        runs = [make_run("champion", n + 1, shift) for n, shift in enumerate(shifts)]
        runs += [make_run("base", seed, shift) for seed, shift in BASE_SHIFTS.items()]
        record = make_study(config, runs=tuple(runs), id=f"id-{name}")
        send(local_uri(folder / "results"), whole_study(config, record), name)
    return folder


def test_two_studies_by_hand(folder: Path) -> None:
    done = said("compare", "first", "second", "--json", "--csv", "out/c.csv", "--plot",
                 "out/c.png", cwd=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    # near/auroc of a run: the mean of 95 - 3 x 1 and 95 - 3 x 2, and its shift.
    assert told["studies"][0]["seeds"]["2"]["near/auroc"] == pytest.approx(90.5 + 2.0)
    near = next(t for t in told["tests"] if t["metric"] == "near/auroc")
    # Differences 2, 2, 0.5: mean 1.5, sample std 0.75 ** 0.5; t = 3 with 2 degrees of freedom.
    assert (near["mean"], near["seeds"]) == (pytest.approx(1.5), [1, 2, 3])
    assert near["p"] == pytest.approx(1 - 3 / 11**0.5)
    with (folder / "out" / "c.csv").open() as file:
        rows = {row[0]: row[1:] for row in csv.reader(file)}
    assert rows["near-OOD AUROC (%) ↑"] == ["92.00 ± 0.41", "93.50 ± 0.82"]  # 93.5, 94.5 and 92.5
    assert (folder / "out" / "c.png").stat().st_size > 10_000


def test_a_single_study_is_champion_against_base(folder: Path) -> None:
    done = said("compare", "first", cwd=folder)
    assert done.returncode == 0, done.stderr
    lines = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert "91.00 ± 0.41" in lines["near-OOD AUROC (%) ↑"]
    assert "92.00 ± 0.41" in lines["near-OOD AUROC (%) ↑"]
    assert "+1.00 ± 0.41" in done.stdout  # differences 1, 1.5 and 0.5
    assert "two-sided paired t-test" in done.stdout


def test_markdown_and_mistakes(folder: Path) -> None:
    done = said("compare", "first", "second", "--markdown", cwd=folder)
    assert done.stdout.startswith("## Results")
    (folder / "garbage").mkdir()
    (folder / "garbage" / "mlflow.db").write_bytes(bytes(range(256)) * 16)
    for words, sentence in (
        (["frist", "second"], "knows no study frist; did you mean first?"),
        (["first", "first"], "a study is named twice"),
        (["first", "--results", "results", "--tracking-uri", "http://x"], "not both"),
        (["first", "--results", "nowhere"], "there is no MLflow store"),
        (["first", "--results", "garbage"], "mlflow.db is no store of MLflow's: file is not a"),
    ):
        done = said("compare", *words, cwd=folder)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
