"""A finished study takes more test sets and scorers without another training."""

import json
from pathlib import Path

import pytest

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.study import StudyConfig
from rwood.errors import StudyError
from rwood.paths import StudyPaths
from rwood.results import StudyResult, load
from rwood.study.context import Context
from rwood.study.stages import open_study
from tests.study.test_study import Recorder
from tests.tiny import tiny

pytestmark = pytest.mark.usefixtures("ray_session", "unpainted")


def run(study: StudyConfig, results: Path, verb: str = "run") -> tuple[StudyResult, list[str]]:
    view = Recorder(study)
    with open_study(study, Context(results, results.parent), view) as opened:
        getattr(opened, verb)()
    return load(StudyResult, StudyPaths(results / study.name).record), view.lines


def with_benchmark(study: StudyConfig, **changes: object) -> StudyConfig:
    plain = study.benchmark.model_dump(mode="json") | changes
    return study.model_copy(update={"benchmark": BenchmarkConfig.model_validate_json(
        json.dumps(plain))})  # fmt: skip


def test_a_set_and_a_scorer_join_a_finished_study(tmp_path: Path, results: Path) -> None:
    study = tiny(tmp_path, search=None, run__epochs=2)
    first, _ = run(study, results)
    assert first.earlier == ()
    near = {**study.benchmark.near, "flower": "digits/flower"}
    wider = with_benchmark(study, near=near)
    wider = wider.model_copy(update={"rerun": study.rerun.model_copy(update={"scorers": ("knn",)})})
    second, lines = run(wider, results)
    assert "[benchmark] 0 of 1 rerun to run, 1 to score again without training" in lines
    (old,), (new,) = first.runs, second.runs
    assert new.digest == old.digest
    assert new.history == old.history
    assert new.seconds > old.seconds
    assert [*new.tables["ood/mahalanobis"].near] == ["digit8", "digit9", "flower"]
    assert "ood/knn" in new.tables
    kept = {name: new.tables["ood/mahalanobis"].near[name] for name in ("digit8", "digit9")}
    assert kept == old.tables["ood/mahalanobis"].near
    (before,) = second.earlier
    assert before[0].tables == old.tables
    page = (results / "tiny" / "report.md").read_text()
    assert "Benchmark 1 of these checkpoints was on near sets digit8, digit9; far sets" in page
    third, lines = run(wider, results, "benchmark")
    assert "[benchmark] 0 of 1 rerun to run" in lines
    assert len(third.earlier) == 1


def test_what_trials_see_cannot_change(tmp_path: Path, results: Path) -> None:
    study = tiny(tmp_path)
    with open_study(study, Context(results, tmp_path), Recorder(study)):
        pass
    other = with_benchmark(study, near={"flower": "digits/flower"},
                           validation={"digit9": "digits/9"})  # fmt: skip
    with (
        pytest.raises(StudyError, match="another study: benchmark.validation.digit9 was None"),
        open_study(other, Context(results, tmp_path), Recorder(other)),
    ):
        pass
