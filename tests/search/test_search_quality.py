"""Several objectives, seeds and scorer settings through a whole study on a real Ray."""

import json
from pathlib import Path
from typing import Any

import pytest

from rwood.results import StudyResult, load
from rwood.selection import select_champion
from rwood.study.context import Context
from rwood.study.stages import open_study
from tests.stored_trials import trials_in
from tests.study.test_study import Recorder, runs_of
from tests.tiny import tiny

pytestmark = pytest.mark.usefixtures("ray_session", "unpainted")
NAMES = ("val/mixed/auroc", "val/nearest_mean")
CHANGES: dict[str, Any] = {
    "search__objective": list(NAMES),
    "search__seeds": [0, 7],
    "search__trials": 3,
    "run__epochs": 3,
    "run__scorer": {"name": "knn", "k": [2, 40]},
}


def test_a_study_of_everything(tmp_path: Path, results: Path) -> None:
    benchmark = Path(__file__).parents[2] / "studies" / "benchmarks" / "digits-derived.yaml"
    study = tiny(tmp_path, benchmark=str(benchmark), **CHANGES)
    view = Recorder(study)
    with open_study(study, Context(results, tmp_path), view) as opened:
        opened.run()
    folder = results / "tiny"
    record = load(StudyResult, folder / "study.json")
    trials = trials_in(folder)
    assert record.objectives == NAMES
    assert record.champion == select_champion(trials.values(), NAMES).number
    assert record.champion in record.front
    assert any(f"trial {record.champion} of {len(record.front)} on the Pareto" in line
               for line in view.lines)  # fmt: skip
    for trial in trials.values():
        if trial.state == "complete":
            assert trial.spread.keys() == trial.objectives.keys() == set(NAMES)
            assert trial.objective == trial.objectives[NAMES[0]]
    chosen = trials[record.champion]
    for seed in (0, 7):
        own = folder / "trials" / f"{chosen.number:04d}" / f"seed-{seed}"
        assert {path.name for path in own.iterdir()} >= {"encoder.pt", "epoch-0003.pt"}
    text = (folder / "report.md").read_text()
    assert "](figures/front.png)" in text
    assert "Chosen on the validation sets (seeds 1): k of knn:" in text
    (run,) = record.of("champion")
    used = run.scorers[0].k
    assert used in (2, 40)
    card = json.loads((folder / "detector" / "detector.json").read_text())
    assert card["scorer"]["k"] == used
    runs = runs_of(results, "tiny")
    told, client = runs[f"trial-{chosen.number:04d}"]
    assert told.data.metrics["objective/val/nearest_mean/std"] == chosen.spread[NAMES[1]]
    assert told.data.tags["rwood.on_front"] == "true"
    assert runs["champion-seed1"][0].data.metrics["scorer/knn/k"] == used
    weights = client.list_artifacts(runs["search"][0].info.run_id, "checkpoint")
    assert {a.path for a in weights} == {"checkpoint/seed-0", "checkpoint/seed-7"}
