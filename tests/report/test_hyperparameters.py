import pytest
from a_study import BASE, make_config

from rwood.config.search import Choices, Range
from rwood.report.hyperparameters import (
    NONE_AT,
    Hyperparameter,
    hyperparameters,
    last_metrics,
    metric_title,
)
from rwood.results import EpochReport, TrialResult

LOG = Hyperparameter("loss.temperature", Range(low=0.01, high=1.0, log=True), 0.1)
LINEAR = Hyperparameter("loss.within_scale", Range(low=-1.0, high=3.0), 2.0)
WORDS = Hyperparameter(
    "scorer.name", Choices(choices=("knn", "mahalanobis", "cosine")), "mahalanobis"
)


def trial(**changes: object) -> TrialResult:
    fields = {"number": 0, "params": {}, "state": "pruned", "digest": "d", "started": 0.0}
    return TrialResult.model_validate(fields | changes)


def test_knobs_know_the_base_run() -> None:
    found = hyperparameters(make_config())
    assert {parameter.key: parameter.base for parameter in found} == BASE
    assert [parameter.name for parameter in found][:2] == ["temperature (τ)", "within_scale (m_w)"]


def test_no_search_no_knobs() -> None:
    assert hyperparameters(make_config(search=None)) == []


def test_other_settings_go_by_their_whole_key() -> None:
    assert WORDS.name == "scorer.name"
    assert WORDS.base_among
    assert not Hyperparameter("x", Choices(choices=(1, 2)), 3).base_among


def test_shares() -> None:
    assert [LOG.share(v) for v in (0.01, 0.1, 1.0)] == pytest.approx([0, 0.5, 1])
    assert [LINEAR.share(v) for v in (-1.0, 0.0, 3.0)] == pytest.approx([0, 0.25, 1])
    assert [WORDS.share(v) for v in ("knn", "mahalanobis", "cosine")] == [0, 0.5, 1]
    assert Hyperparameter("x", Range(low=2, high=2), 2).share(2) == 0.5


def test_ticks_stand_where_their_text_says() -> None:
    assert [text for _, text in LOG.ticks(5, ())] == ["0.01", "0.032", "0.1", "0.32", "1"]
    assert all(place == LOG.share(float(text)) for place, text in LOG.ticks(5, ()))
    assert LINEAR.ticks(3, ()) == [(0, "-1"), (0.5, "1"), (1, "3")]
    assert WORDS.ticks(3, ()) == [(0, "knn"), (0.5, "mahalanobis"), (1, "cosine")]


def test_ticks_of_whole_numbers_are_whole() -> None:
    neighbours = Hyperparameter("scorer.k", Range(low=1, high=50, log=True), 10)
    assert [text for _, text in neighbours.ticks(5, ())] == ["1", "3", "7", "19", "50"]
    few = Hyperparameter("schedule.warmup_epochs", Range(low=1, high=3), 2)
    assert few.ticks(5, ()) == [(0, "1"), (0.5, "2"), (1, "3")]
    epochs = Hyperparameter("epochs", Range(low=50, high=300, log=True), 100)
    assert [text for _, text in epochs.ticks(3, ())] == ["50", "120", "300"]


def test_range_in_words() -> None:
    assert [parameter.range for parameter in (LOG, LINEAR, WORDS)] == [
        "0.01 to 1, log scale",
        "−1 to 3",
        "knn, mahalanobis, cosine",
    ]


def test_a_trial_has_its_own_value() -> None:
    assert LOG.of(trial(params={"loss.temperature": 0.3})) == 0.3
    assert LOG.of(trial()) is None


def test_last_metrics() -> None:
    history = [
        EpochReport(epoch=1, time=0, metrics={"val/auroc": 80.0}),
        EpochReport(epoch=2, time=0, metrics={"val/auroc": 85.0}),
        EpochReport(epoch=3, time=0, metrics={"train/loss": 3.0}),
    ]
    assert last_metrics(trial(history=history), "val/auroc") == (85.0, None)
    assert last_metrics(trial(objective=90.0), "val/auroc") == (90.0, None)
    assert last_metrics(trial(), "val/auroc") is None


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("val/auroc", "validation AUROC (%)"),
        ("val/tin/fpr95", "validation FPR@95 on tin (%)"),
        ("val/families", "validation AUROC over families (%)"),
        ("near/aupr_in", "near-OOD AUPR_IN (%)"),
    ],
)
def test_metric_title(name: str, title: str) -> None:
    assert metric_title(name) == title


def test_a_setting_of_another_loss_has_no_value_and_a_place_of_its_own() -> None:
    plain = make_config().search.model_dump(mode="json")
    plain["space"] = {
        "loss.name": {"choices": ["reweightood", "cider"]},
        "loss.temperature": {"low": 0.02, "high": 0.5},
        "loss.momentum": {"low": 0.5, "high": 0.9},
    }
    found = {parameter.key: parameter for parameter in hyperparameters(make_config(search=plain))}
    momentum = found["loss.momentum"]
    assert momentum.base is None
    assert not momentum.base_among
    one = trial(params={"loss.name": "reweightood", "loss.temperature": 0.1})
    assert [parameter.of(one) for parameter in found.values()] == ["reweightood", 0.1, None]
    assert momentum.share(momentum.of(one)) == NONE_AT < 0
    assert momentum.ticks(3, [one])[0] == (NONE_AT, "none")
    assert [text for _, text in momentum.ticks(3, ())] == ["0.5", "0.7", "0.9"]
