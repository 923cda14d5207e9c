"""Which trials the importance of the settings is measured on."""

from pathlib import Path
from typing import Any

import pytest

from rwood.config.study import StudyConfig
from rwood.results import EpochReport, TrialResult
from rwood.search.importance import importances
from tests.tiny import tiny


@pytest.fixture
def study(tmp_path: Path) -> StudyConfig:
    pruner = {"name": "asha", "min_resource": 1, "reduction_factor": 3}
    schedule = {"warmup": "none"}
    return tiny(tmp_path, run__epochs=9, run__schedule=schedule, search__pruner=pruner)


def trial(number: int, epochs: int, **changes: Any) -> TrialResult:
    """The temperature matters early and the shift late."""
    temperature, shift = 0.05 + 0.02 * number, (number * 7 % 20) / 4
    values = [temperature] * 8 + [shift]
    history = tuple(
        EpochReport(epoch=e, time=0.0, metrics={"val/auroc": values[e - 1]})
        for e in range(1, epochs + 1)
    )
    fields = {
        "number": number,
        "params": {"loss.temperature": temperature, "loss.between_shift": shift},
        "state": "complete" if epochs == 9 else "pruned",
        "digest": "",
        "started": 0.0,
        "history": history,
        "objective": history[-1].metrics["val/auroc"] if epochs == 9 else None,
    }
    return TrialResult.model_validate(fields | changes)


def test_enough_complete_trials_are_compared_at_the_end(study: StudyConfig) -> None:
    assert study.search is not None
    trials = [trial(n, 9) for n in range(20)]
    share, note = importances(study.run, study.search, trials)
    assert share["loss.between_shift"] > 0.8
    assert sum(share.values()) == pytest.approx(1.0)
    assert "over 20 complete trials that" in note


def test_trials_of_a_searched_number_of_epochs_are_compared_at_their_ends(tmp_path: Path) -> None:
    space = {
        "epochs": {"low": 3, "high": 20},
        "loss.temperature": {"low": 0.01, "high": 1.0, "log": True},
    }
    study = tiny(tmp_path, run__epochs=9, search__space=space, search__pruner=None)
    assert study.search is not None
    trials = [
        trial(n, 3 + n % 7, state="complete", objective=float(n % 7),
              params={"epochs": 3 + n % 7, "loss.temperature": 0.05 + 0.02 * n})
        for n in range(20)
    ]  # fmt: skip
    share, note = importances(study.run, study.search, trials)
    assert share["epochs"] > 0.8
    assert "over 20 complete trials that" in note, "it compared those of 9 epochs or more alone"


def test_with_few_complete_ones_trials_are_compared_at_the_last_rung_of_many(
    study: StudyConfig,
) -> None:
    assert study.search is not None
    trials = [trial(n, 9 if n < 3 else 3 if n < 12 else 1) for n in range(20)]
    trials.append(trial(20, 5, state="failed"))
    share, note = importances(study.run, study.search, trials)
    assert share["loss.temperature"] > 0.8
    assert "over 12 trials that reached epoch 3 (only 3 are complete)" in note
    few, note = importances(study.run, study.search, trials[:6])
    assert few.keys() == share.keys()
    assert "over 6 trials that reached epoch 3 (only 3 are complete)" in note


def test_one_setting_has_no_share_to_compare(tmp_path: Path) -> None:
    space = {"loss.temperature": {"low": 0.05, "high": 0.5}}
    study = tiny(tmp_path, search__space=space)
    assert study.search is not None
    trials = [trial(n, 9, params={"loss.temperature": 0.05 + 0.02 * n}) for n in range(20)]
    assert importances(study.run, study.search, trials) == ({}, "")


def test_where_there_is_nothing_to_compare_the_report_says_so(study: StudyConfig) -> None:
    assert study.search is not None
    share, note = importances(study.run, study.search, [trial(n, 9) for n in range(3)])
    assert share == {}
    assert "takes 4 trials that differ" in note
    assert note.endswith("there are 3.")
    assert importances(study.run, study.search, [])[0] == {}
    same = [trial(n, 9, objective=90.0) for n in range(9)]
    assert importances(study.run, study.search, same)[0] == {}


def test_importance_across_losses_is_of_what_all_of_them_have(tmp_path: Path) -> None:
    space = {
        "loss.name": {"choices": ["reweightood", "supcon"]},
        "loss.temperature": {"low": 0.01, "high": 1.0},
        "loss.between_shift": {"low": 0.0, "high": 6.0},
    }
    mixed = tiny(tmp_path, run__epochs=9, search__space=space)
    assert mixed.search is not None
    trials = []
    for number in range(20):
        one = trial(number, 9)
        name = ("reweightood", "supcon")[number % 2]
        own = {k: v for k, v in one.params.items() if number % 2 == 0 or "temp" in k}
        trials.append(one.model_copy(update={"params": {"loss.name": name, **own}}))
    shares, sentence = importances(mixed.run, mixed.search, trials)
    assert shares.keys() == {"loss.name", "loss.temperature"}
    assert "Settings that not all of them have are left out." in sentence
    alone, sentence = importances(mixed.run, mixed.search, trials[::2])
    assert alone.keys() == space.keys()
    assert "left out" not in sentence
