import csv
import io
import statistics
from dataclasses import replace

import pytest
from a_study import BASE_SHIFTS, CHAMPION_SHIFTS, make_run, make_study, make_table, published_inputs

from rwood.report.inputs import ReportInputs
from rwood.report.published import Published, published
from rwood.report.tables import (
    accuracy_sentence,
    benchmark_csv,
    benchmark_files,
    gain,
    gain_table,
    own_table,
    versus_table,
)

KEY = "ood/mahalanobis"


def rows_of(text: str) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in csv.reader(io.StringIO(text))}


def test_csv_has_openood_rows_and_population_std(inputs: ReportInputs) -> None:
    rows = rows_of(benchmark_csv(inputs.runs, KEY))
    assert rows[""] == ["FPR@95", "AUROC", "AUPR_IN", "AUPR_OUT", "LINEAR_PROBE", "NEAREST_MEAN"]
    assert list(rows) == ["", "digit8", "digit9", "nearood", "china", "permuted", "farood"]
    # AUROC of digit8 is 92 + shift with shifts 1, 2, 1.5: mean 93.5, population std sqrt(1/6).
    assert rows["digit8"][1] == "93.50 ± 0.41"
    assert f"{statistics.pstdev(CHAMPION_SHIFTS.values()):.2f}" == "0.41"
    assert rows["digit8"][4:] == ["99.00 ± 0.41", "97.00 ± 0.00"]


def test_near_std_is_that_of_the_runs_means() -> None:
    # Seed 1: 90 and 80, seed 2: 80 and 90; each set varies, their mean does not.
    runs = []
    for seed, (a, b) in enumerate(((90.0, 80.0), (80.0, 90.0)), start=1):
        table = make_table(0.0)
        near = {
            name: metrics.model_copy(update={"auroc": value})
            for (name, metrics), value in zip(table.near.items(), (a, b), strict=True)
        }
        table = table.model_copy(update={"near": near})
        runs.append(make_run("champion", seed, 0.0, tables={KEY: table}))
    rows = rows_of(benchmark_csv(runs, KEY))
    assert rows["digit8"][1] == "85.00 ± 5.00"
    assert rows["nearood"][1] == "85.00 ± 0.00"


def test_single_run_prints_plain_numbers() -> None:
    rows = rows_of(benchmark_csv([make_run("champion", 5, 1.0)], KEY))
    assert rows["nearood"][:4] == ["34.00", "91.50", "92.00", "92.50"]


def test_checkpoints_have_no_seed_to_name() -> None:
    runs = [make_run("checkpoint", seed, 0.0, run={"checkpoint": f"{seed}.pt"}) for seed in (0, 1)]
    one, both = (own_table(some, "ood/knn", None, "The checkpoint") for some in (runs[:1], runs))
    assert ": one checkpoint, in percent" in one.caption
    assert ": mean ± population std over 2 checkpoints, in percent" in both.caption


def test_reruns_name_their_seeds() -> None:
    """Though a run has a setting called checkpoint, too: which one of its epochs is kept."""
    run = {"scorer": {"name": "mahalanobis"}, "checkpoint": "last"}
    runs = [make_run("champion", seed, 0.0, run=run) for seed in (1, 2)]
    caption = own_table(runs, KEY, None, "the champion").caption
    assert "mean ± population std over 2 runs (seeds 1, 2)" in caption


def test_missing_accuracy_is_a_slash() -> None:
    rows = rows_of(benchmark_csv([make_run("champion", 5, 1.0, id_metrics={})], KEY))
    assert rows["nearood"][4:] == ["/", "/"]
    assert accuracy_sentence([make_run("champion", 5, 1.0, id_metrics={})], "the champion") == ""


def test_one_file_a_label_and_scorer(inputs: ReportInputs) -> None:
    files = benchmark_files(inputs)
    assert list(files) == [
        "benchmark.csv",
        "benchmark_champion_ood_knn.csv",
        "benchmark_base.csv",
        "benchmark_base_ood_knn.csv",
    ]
    assert rows_of(files["benchmark_base.csv"])["nearood"][1] == "91.00 ± 0.41"
    assert rows_of(files["benchmark_champion_ood_knn.csv"])["nearood"][1] == "91.00 ± 0.41"


def test_base_alone_is_the_benchmark(inputs: ReportInputs) -> None:
    study = inputs.study.model_copy(update={"runs": tuple(inputs.study.of("base"))})
    assert list(benchmark_files(replace(inputs, study=study))) == [
        "benchmark.csv",
        "benchmark_base_ood_knn.csv",
    ]


def test_published_file_is_read() -> None:
    figures = published()
    assert figures["cifar10", "ood", "nearood", "fpr95"] == Published(30.74, 0.79)
    assert figures["imagenet1k", "fsood", "ninco", "aupr_out"] == Published(7.24, None)
    assert str(figures["cifar10", "ood", "svhn", "aupr_out"]) == "99.96 ± 0.00"
    assert str(figures["imagenet1k", "ood", "ssb_hard", "fpr95"]) == "86.30"


def test_published_figures_stand_beside_ours(inputs: ReportInputs) -> None:
    table = own_table(published_inputs(inputs).runs, KEY, "cifar10", "the champion")
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows) == [
        "cifar100", "tin", "nearood", "mnist", "svhn", "texture", "places365", "farood",
    ]  # fmt: skip
    # Every run has shift 1: FPR@95 of cifar100 is 20 + 10 - 1 = 29, published 37.68 ± 0.97.
    assert rows["cifar100"][0] == "29.00 ± 0.00\n37.68 ± 0.97; −8.68"
    # Near AUROC: mean of 93 and 90; published 91.86 ± 0.16.
    assert rows["nearood"][1] == "91.50 ± 0.00\n91.86 ± 0.16; −0.36"
    assert "published" in table.caption


def test_nothing_published_leaves_no_note(inputs: ReportInputs) -> None:
    table = own_table(inputs.runs, KEY, None, "the champion")
    assert not any("\n" in cell for row in table.rows for cell in row)
    assert "published" not in table.caption


def test_versus_base(inputs: ReportInputs) -> None:
    table = versus_table(inputs.runs, inputs.base_runs, ("fpr95", "auroc"), KEY, KEY)
    rows = {row[0]: row[1:] for row in table.rows}
    difference = statistics.fmean(CHAMPION_SHIFTS.values()) - statistics.fmean(BASE_SHIFTS.values())
    assert difference == 1.0
    assert rows["farood"] == (
        "11.00 ± 0.41", "12.00 ± 0.41", "−1.00", "98.75 ± 0.41", "97.75 ± 0.41", "+1.00",
    )  # fmt: skip


def test_gain_is_paired_by_seed(inputs: ReportInputs) -> None:
    found = gain(inputs.runs, inputs.base_runs, "nearood", "auroc")
    assert found is not None
    assert found.seeds == (1, 2, 3)
    assert found.mean == pytest.approx(1.0)  # 1, 1.5, 0.5
    assert found.p == pytest.approx(0.0741799)
    table = gain_table(inputs.runs, inputs.base_runs)
    assert table is not None
    assert table.rows[0] == (
        "near FPR@95 ↓", "−1.00 ± 0.41", "−2.24 to +0.24", "0.074", "within noise",
    )  # fmt: skip
    assert "paired t-test" in table.caption


def test_clear_gains_read_better_for_every_metric() -> None:
    champion = [make_run("champion", seed, 2.0 + 0.01 * seed) for seed in (1, 2, 3)]
    base = [make_run("base", seed, 0.0) for seed in (1, 2, 3)]
    for first, second, reading in ((champion, base, "better"), (base, champion, "worse")):
        table = gain_table(first, second)
        assert table is not None
        assert {row[-1] for row in table.rows} == {reading}


def test_one_seed_and_no_seed_in_common() -> None:
    table = gain_table([make_run("champion", 1, 1.0)], [make_run("base", 1, 0.0)])
    assert table is not None
    assert table.rows[1] == ("near AUROC ↑", "+1.00", "n/a", "n/a", "one seed")
    assert gain_table([make_run("champion", 1, 1.0)], [make_run("base", 2, 0.0)]) is None


def test_study_without_runs_has_no_csv(inputs: ReportInputs) -> None:
    assert benchmark_files(replace(inputs, study=make_study(inputs.config, runs=()))) == {}
