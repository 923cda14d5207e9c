"""Within the published standard deviation, or by how much not."""

import pytest
from a_study import CIFAR10, make_run, make_table

from rwood.report.beside_published import verdict_sentence, verdict_table, verdicts
from rwood.report.published import published
from rwood.results import BenchmarkTable, RunResult, SetMetrics

KEY = "ood/mahalanobis"


def as_published(stds: float, id_set: str = "cifar10") -> list[RunResult]:
    """A run whose figures all lie that many published stds above the published ones."""
    sets = {
        part: {
            name: SetMetrics(
                **{
                    metric: found.mean + stds * (found.std or 1.0)
                    for metric in SetMetrics.model_fields
                    if (found := published()[id_set, "ood", name, metric])
                }
            )
            for name in names
        }
        for part, names in CIFAR10.items()
    }
    return [make_run("base", 1, 0.0, tables={KEY: BenchmarkTable.model_validate(sets)})]


def test_the_published_figures_themselves_are_within() -> None:
    found = verdicts(as_published(0.0), KEY, "cifar10")
    assert len(found) == 16
    assert all(verdict.within for verdict in found)
    assert verdict_sentence(found, "the base run") == (
        "Of 16 published figures (FPR@95 and AUROC), the base run is within one published std of "
        "16: all of them."
    )


def test_two_stds_away_is_outside_and_better_or_worse_by_the_metric() -> None:
    found = [v for v in verdicts(as_published(2.0), KEY, "cifar10") if v.ood_set == "cifar100"]
    assert [verdict.words for verdict in found] == ["worse by 2.0 std", "better by 2.0 std"]
    rows = verdict_table(found, "the base run").rows
    assert rows == (("cifar100", "+1.94", "worse by 2.0 std", "+0.16", "better by 2.0 std"),)
    told = verdict_sentence(found, "the base run")
    assert "within one published std of 0, better than 1 and worse than 1; furthest off" in told


def test_a_single_published_run_has_no_std_to_lie_within() -> None:
    sets = {"near": ("ssb_hard", "ninco"), "far": ("inaturalist", "textures", "openimage_o")}
    run = make_run("base", 1, 0.0, tables={KEY: make_table(0.0, sets)})
    found = verdicts([run], KEY, "imagenet1k")
    assert {verdict.stds for verdict in found} == {None}
    assert verdict_sentence(found, "the base run").startswith(
        "Beside the published figures, of one run without a std, the base run differs by "
    )


@pytest.mark.parametrize("id_set", [None, "digits"])
def test_nothing_published_nothing_said(id_set: str | None) -> None:
    assert verdicts(as_published(0.0), KEY, id_set) == []
