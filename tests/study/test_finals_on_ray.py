"""The finals through a whole study on a real Ray, in MLflow, the report and on disk."""

from typing import Any

import pytest

from rwood.data import image_sets
from rwood.results import StudyResult, load
from rwood.study.context import Context
from rwood.study.frames import StudyResults
from rwood.study.stages import open_study
from tests.study.test_study import Recorder, runs_of


def test_a_study_with_finals(finals_study: StudyResults, monkeypatch: pytest.MonkeyPatch) -> None:
    study, record, folder = finals_study.study, finals_study.record, finals_study.folder
    results = folder.parent
    finals = record.finals
    assert finals is not None
    assert finals.promoted in (True, False)
    assert len(finals.candidates) == 2
    assert {len(values) for values in finals.confirmation.values()} == {2}
    assert {path.name.rpartition("-")[0] for path in (folder / "finals").iterdir()} >= {
        "base-seed1001", "base-seed1002"
    }  # fmt: skip
    champion = finals.finalist if finals.promoted else 0
    assert record.champion == champion
    assert finals_study.verdict == finals.sentence
    text = (folder / "report.md").read_text()
    assert "## Finals" in text
    assert finals.sentence.split(",")[0] in text
    runs = runs_of(results, "tiny")
    parent, _ = runs["finals"]
    assert parent.data.tags["rwood.promoted"] == str(finals.promoted).lower()
    assert parent.data.tags["mlflow.note.content"] == finals.sentence
    setting, _ = runs["finals base"]
    assert setting.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert setting.data.metrics["seeds"] == 2.0
    seeds = [runs[f"finals base-seed{seed}"][0] for seed in (1001, 1002)]
    mean = sum(run.data.metrics["val/families"] for run in seeds) / 2
    assert setting.data.metrics["val/families"] == pytest.approx(mean)
    assert "val/families/std" in setting.data.metrics
    tags = [run.data.tags.get("rwood.is_champion") for run, _ in runs.values()]
    assert tags.count("true") == 1
    opened_sets: list[Any] = []
    monkeypatch.setattr(image_sets, "open_set", lambda *args: opened_sets.append(args))
    again = Recorder(study)
    with open_study(study, Context(results, results.parent), again) as opened:
        opened.run()
    after = load(StudyResult, folder / "study.json")
    assert after.finals == finals
    assert after.champion == champion
    assert opened_sets == []
    assert "[finals] confirmation: 0 of 4 trainings to run" in again.lines
    assert f"[finals] {finals.sentence}" in again.lines
