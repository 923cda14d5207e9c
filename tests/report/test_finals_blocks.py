"""What the report shows of the finals."""

from dataclasses import replace

import pytest
from a_study import BASE, make_config

from rwood.report.document import Folded
from rwood.report.finals import finals_blocks, search_sentences
from rwood.report.inputs import ReportInputs
from rwood.report.table import Table
from rwood.results import Change, FinalsResult
from rwood.search.finals import gate, guard, verdict


@pytest.fixture
def tables(inputs: ReportInputs) -> dict[str, Table]:
    """First column title -> table of finals over families, whose objective is below 0."""
    ours, base = (-0.1, -0.2, -0.3), (-0.5, -0.7, -0.6)
    gated = gate([a - b for a, b in zip(ours, base, strict=True)], alpha=0.1)
    guarded = guard({"near-like": [1.0, 2.0, 1.5]}, alpha=0.5)
    finals = FinalsResult(
        candidates={1: BASE, 4: BASE}, race={1: (-0.4, -0.6), 4: (-0.1, -0.2)}, finalist=4,
        confirmation={"finalist": ours, "base": base}, seeds=(1002, 1003, 1004),
        gate=gated, guard=guarded, objective="mean logit AUROC over families",
        **vars(verdict(4, gated, guarded)),
    )  # fmt: skip
    study = inputs.study.model_copy(update={"finals": finals})
    config = make_config(finals={"confirm_seeds": 2, "first_seed": 2000})  # edited since
    blocks = finals_blocks(replace(inputs, study=study, config=config))
    shown = [block.block if isinstance(block, Folded) else block for block in blocks]
    return {table.columns[0]: table for table in shown if isinstance(table, Table)}


def test_only_the_families_are_said_to_be_in_points(tables: dict[str, Table]) -> None:
    assert tables["compared"].rows[0][0] == "objective: mean logit AUROC over families"
    assert tables["compared"].caption == (
        "Finalist minus base run over 3 paired seeds; the objective at level 0.1, the families in "
        "points at level 0.5, where the bound is the mean."
    )


def test_the_seeds_are_those_that_were_trained(tables: dict[str, Table]) -> None:
    assert tables["seed"].rows == (
        ("1002", "−0.10", "−0.50", "+0.40"),
        ("1003", "−0.20", "−0.70", "+0.50"),
        ("1004", "−0.30", "−0.60", "+0.30"),
    )


def test_a_race_of_negative_values_is_a_column_of_numbers(tables: dict[str, Table]) -> None:
    race = tables["candidate"]
    assert [row[1] for row in race.rows] == ["−0.50", "−0.15"]
    assert not race.holds_words[1]


def test_the_best_of_a_solved_fpr_is_no_negative_zero(inputs: ReportInputs) -> None:
    trials = tuple(trial.model_copy(update={"objective": 0.0}) for trial in inputs.study.trials)
    study = inputs.study.model_copy(
        update={"trials": trials, "objective": "val/fpr95", "objectives": ("val/fpr95",)}
    )
    (worth,) = (s for s in search_sentences(replace(inputs, study=study)) if "best" in s)
    assert "0.00 of 1, 0.00 of 2," in worth
    assert "-0.00" not in worth


def test_a_range_that_was_changed_is_written_as_in_a_study_file(inputs: ReportInputs) -> None:
    before, after = ({"low": low, "high": 0.2, "log": True} for low in (0.02, 0.01))
    changes = (
        Change(trials=24, key="search.space.optimizer.lr", before=before, after=after),
        Change(trials=24, key="search.pruner.name", before="asha", after=None),
    )
    study = inputs.study.model_copy(update={"changes": changes})
    assert search_sentences(replace(inputs, study=study))[-2:] == [
        "After 24 trials search.space.optimizer.lr was changed from {low: 0.02, high: 0.2, log: "
        "true} to {low: 0.01, high: 0.2, log: true}.",
        "After 24 trials search.pruner.name was changed from asha to nothing.",
    ]


@pytest.mark.parametrize(
    ("key", "low", "high", "value", "end"),
    [
        ("scorer.k", 1, 50, 1, None),
        ("scorer.k", 2, 50, 2, "lower"),
        ("scorer.k", 1, 50, 50, "upper"),
        ("views.flip", 0.0, 1.0, 1.0, None),
        ("views.flip", 0.0, 0.9, 0.9, "upper"),
        ("loss.temperature", 0.02, 0.5, 0.0201, "lower"),
        ("loss.within_shift", 0, 5, 0.0, "lower"),
    ],
)
def test_a_range_that_ends_where_the_setting_does_is_not_to_be_widened(
    inputs: ReportInputs, key: str, low: float, high: float, value: float, end: str | None
) -> None:
    config = make_config(search={"trials": 12, "objective": "val/auroc",
                                 "space": {key: {"low": low, "high": high}}})  # fmt: skip
    study = inputs.study.model_copy(update={"champion_params": {key: value}})
    sentences = search_sentences(replace(inputs, study=study, config=config))
    advised = [s.partition(" is at the ")[2] for s in sentences if "widen it" in s]
    assert [text.partition(" ")[0] for text in advised] == ([] if end is None else [end])
