"""Warnings before anyone trusts a figure: each is given where it is due, and nowhere else."""

from dataclasses import replace

import pytest

from rwood.report.cautions import cautions
from rwood.report.inputs import ReportInputs
from rwood.results import BenchmarkTable, SetMetrics, TrialResult


@pytest.fixture
def sane(inputs: ReportInputs) -> ReportInputs:
    runs = tuple(
        run.model_copy(update={"tables": {"ood/mahalanobis": run.tables["ood/mahalanobis"]}})
        for run in inputs.study.runs
    )
    return replace(inputs, study=inputs.study.model_copy(update={"runs": runs}))


def with_near(inputs: ReportInputs, scorer: str, auroc: float) -> ReportInputs:
    """The same study whose near sets have this AUROC under a scorer."""

    def changed(table: BenchmarkTable) -> BenchmarkTable:
        near = {
            name: SetMetrics(**{**row.model_dump(), "auroc": auroc})
            for name, row in table.near.items()
        }
        return table.model_copy(update={"near": near})

    runs = tuple(
        run.model_copy(
            update={
                "tables": {**run.tables, f"ood/{scorer}": changed(run.tables["ood/mahalanobis"])}
            }
        )
        for run in inputs.study.runs
    )
    return replace(inputs, study=inputs.study.model_copy(update={"runs": runs}))


def with_trials(inputs: ReportInputs, *trials: TrialResult) -> ReportInputs:
    return replace(inputs, study=inputs.study.model_copy(update={"trials": trials}))


def test_a_sane_study_has_none(sane: ReportInputs) -> None:
    assert cautions(sane) == []


def test_worse_than_chance(sane: ReportInputs) -> None:
    (sentence,) = cautions(with_near(sane, "mahalanobis", 22.8))
    assert sentence.startswith("The near-OOD AUROC is below 50 %: the champion takes these OOD")


def test_scorers_that_disagree(sane: ReportInputs) -> None:
    (sentence,) = cautions(with_near(sane, "cosine", 55.0))
    assert "cosine scores 55.00 %" in sentence


def test_saturated_few_and_pruned(sane: ReportInputs) -> None:
    complete = [t for t in sane.study.trials if t.state == "complete"]
    pruned = [t for t in sane.study.trials if t.state == "pruned"]
    equal = [t.model_copy(update={"objective": 99.7 + 0.01 * i}) for i, t in enumerate(complete)]
    (sentence,) = cautions(with_trials(sane, *equal))
    assert "within 0.05 points" in sentence
    (sentence,) = cautions(with_trials(sane, *complete[:2], *pruned))
    assert sentence.startswith("Only 2 trials of 7 completed")
    (sentence,) = cautions(with_trials(sane, complete[0], *pruned))
    assert sentence.startswith("Every trial but the first was pruned")


def test_collapsed_classes(sane: ReportInputs) -> None:
    runs = []
    for run in sane.study.runs:
        last = run.history[-1]
        metrics = {**last.metrics, "id/dispersion": 1.5}
        history = (*run.history[:-1], last.model_copy(update={"metrics": metrics}))
        runs.append(run.model_copy(update={"history": history}))
    study = sane.study.model_copy(update={"runs": tuple(runs)})
    (sentence,) = cautions(replace(sane, study=study))
    assert "less than 5 degrees apart" in sentence
