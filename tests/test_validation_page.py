"""The page on validation and test says what the committed records say."""

import json
import re

import pytest

from rwood.config.held_out import without_held_out
from rwood.config.run import RunConfig
from rwood.config.study import StudyConfig, run_digest
from rwood.report.ranking import rank_correlation
from tests.a_validation_page import NAMES, PAGE, RESULTS, TABLES, inputs_of, settings_of
from tests.an_evidence_page import filled, prose


@pytest.mark.parametrize("name", NAMES.values())
def test_the_records_are_of_these_study_files(name: str) -> None:
    inputs = inputs_of(name)
    config, record = inputs.config, inputs.study
    asked = StudyConfig.model_validate_json(json.dumps(record.config))
    assert asked.model_copy(update={"cluster": config.cluster}) == config
    assert config.search is not None
    assert config.search.sampler.name == "random"
    assert [trial.state for trial in record.trials] == ["complete"] * config.search.trials
    settings = settings_of(name)
    assert len(settings) == config.rerun.trials == config.search.trials
    for run in record.runs:
        plain = RunConfig.model_validate_json(json.dumps(run.run))
        assert run.digest == run_digest(plain, without_held_out(config.benchmark))
    assert {run.seed for run in record.runs} == set(config.rerun.seeds)


def test_every_table_is_made_of_the_records_and_no_number_by_hand() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page, TABLES) == page
    assert re.findall(r"\d+[.,]\d+|\d+ ?%|[±+−]\d", prose(page)) == []


def test_no_machine_is_named() -> None:
    for path in RESULTS.iterdir():
        assert not re.search(r'["\s](/(tmp|root|home|work|opt)|file:)', path.read_text()), path


def test_the_findings_hold() -> None:
    """What the page says in words: correlations by study, measure, and column."""

    def correlation(name: str, measure: str, source: str, part: str) -> tuple[float, float, float]:
        known = [(getattr(s, source)[measure], s.test[part]) for s in settings_of(name)]
        return rank_correlation(*zip(*known, strict=True))

    def digits(measure: str, part: str) -> float:
        return correlation("digits-ranking", measure, "search", part)[0]

    near_like, far_like = ("mixed", "unseen", "digit7"), ("jigsaw", "permuted", "blobs")
    assert min(digits(name, "near") for name in near_like) > 0.8
    assert min(digits(name, "far") for name in far_like) > 0.75
    assert max(digits(name, "near") for name in far_like) < 0.5
    assert max(digits(name, "far") for name in near_like) < 0.65
    sets = (*near_like, *far_like)
    assert digits("flower", "near") < min(digits(name, "near") for name in sets)
    assert digits("ID accuracy", "near") > 0.85

    def cifar(measure: str, source: str, part: str) -> tuple[float, float, float]:
        return correlation("cifar10-jpeg-ranking", measure, source, part)

    ood = ("tin", "mixed", "jigsaw", "blobs")
    tested = {name: cifar(name, "reruns", "near")[0] for name in ood}
    assert max(tested, key=tested.__getitem__) == "tin"
    above = {(name, part) for name in (*ood, "unseen") for part in ("near", "far")
             if cifar(name, "search", part)[1] > 0}  # fmt: skip
    assert above == {("mixed", "near"), ("mixed", "far")}
    for part in ("near", "far"):
        accuracy = cifar("ID accuracy", "search", part)[0]
        assert accuracy > max(cifar(name, "search", part)[0] for name in (*ood, "unseen"))
