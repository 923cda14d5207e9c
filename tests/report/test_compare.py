import csv
import io
from pathlib import Path

import pytest
from PIL import Image

from rwood.report.compare import Comparison, as_plain, compare_studies, draw_comparison
from rwood.results import COMPARED, StudySummary


def summary(name: str, near: dict[int, float], **changes: object) -> StudySummary:
    fields: dict[str, object] = {
        "settings": {"loss.temperature": 0.1, "run.epochs": 20, "model.backbone": "small_cnn"},
        "objective": 97.5,
        "objective_name": "val/auroc",
        "seeds": {
            s: {"near/auroc": v, "near/fpr95": 100 - v, "far/auroc": v + 1} for s, v in near.items()
        },
        "seconds": 200.0,
        "gpu_seconds": 0.0,
        "epochs": 300,
    }
    return StudySummary(name=name, **{**fields, **changes})  # type: ignore[arg-type]


FIRST = summary("paper", {1: 90.0, 2: 91.0, 3: 92.0})
SECOND = summary(
    "tuned",
    {1: 91.0, 2: 92.5, 3: 92.5, 4: 99.0},
    settings={"loss.temperature": 0.07, "run.epochs": 20, "views.flip": 0.5,
              "model.backbone": "small_cnn"},
    seconds=3661.0, gpu_seconds=120.0, epochs=900,
)  # fmt: skip


@pytest.fixture
def comparison() -> Comparison:
    return compare_studies([FIRST, SECOND])


def test_only_settings_that_differ(comparison: Comparison) -> None:
    assert comparison.settings.columns == ("setting", "paper", "tuned")
    assert comparison.settings.rows == (
        ("loss.temperature", "0.1", "0.07"),
        ("views.flip", "/", "0.5"),
    )


def test_settings_that_differ_beyond_four_digits_are_shown_in_full() -> None:
    a = summary("a", {}, settings={"x": 0.123456})
    b = summary("b", {}, settings={"x": 0.123457})
    assert compare_studies([a, b]).settings.rows == (("x", "0.123456", "0.123457"),)


def test_results_by_hand(comparison: Comparison) -> None:
    rows = {row[0]: row[1:] for row in comparison.results.rows}
    assert rows["its value on validation sets"] == ("97.50", "97.50")
    # 90, 91, 92: mean 91, population std sqrt(2/3); 91, 92.5, 92.5, 99: 93.75, sqrt(9.5625).
    assert rows["near-OOD AUROC (%) ↑"] == ("91.00 ± 0.82", "93.75 ± 3.09")
    assert rows["near-OOD FPR@95 (%) ↓"] == ("9.00 ± 0.82", "6.25 ± 3.09")
    assert rows["training time"] == ("3 min 20 s", "1 h 01 min")
    assert rows["GPU time"] == ("0.0 s", "2 min 00 s")
    assert rows["epochs"] == ("300", "900")
    assert "near-OOD AUPR_IN (%) ↑" not in rows, "what nobody measured has no row"
    assert "paper 1, 2, 3; tuned 1, 2, 3, 4" in comparison.results.caption


def test_paired_over_matching_seeds(comparison: Comparison) -> None:
    (table,) = comparison.tests
    rows = {row[0]: row[1:] for row in table.rows}
    # Differences over seeds 1 to 3: 1, 1.5, 0.5; as in test_paired.
    assert rows["near-OOD AUROC (%)"] == (
        "+1.00 ± 0.41", "−0.24 to +2.24", "0.074", "within noise",
    )  # fmt: skip
    assert "tuned minus paper" in table.caption
    assert "3 matching seeds; two-sided paired t-test" in table.caption


def test_no_matching_seed_no_test() -> None:
    assert compare_studies([FIRST, summary("c", {9: 1.0})]).tests == ()


def test_study_without_search_or_reruns() -> None:
    bare = summary("bare", {}, objective=None, objective_name=None)
    rows = {row[0]: row[1:] for row in compare_studies([FIRST, bare]).results.rows}
    assert rows["objective"] == ("val/auroc", "/")
    assert rows["its value on validation sets"] == ("97.50", "/")
    assert rows["near-OOD AUROC (%) ↑"] == ("91.00 ± 0.82", "/")


def test_no_row_for_gpus_that_nobody_used() -> None:
    rows = [row[0] for row in compare_studies([FIRST, FIRST]).results.rows]
    assert rows[-2:] == ["training time", "epochs"]


def test_csv_and_markdown(comparison: Comparison) -> None:
    rows = list(csv.reader(io.StringIO(comparison.csv())))
    assert rows[0] == ["", "paper", "tuned"]
    assert ["loss.temperature", "0.1", "0.07"] in rows
    text = comparison.markdown()
    for heading in ("## Results", "## Settings that differ", "## Paired differences"):
        assert heading in text
    assert "None." in compare_studies([FIRST, FIRST]).markdown()


def test_plain_numbers_are_not_rounded() -> None:
    plain = as_plain([FIRST, SECOND])
    assert [study["name"] for study in plain["studies"]] == ["paper", "tuned"]  # type: ignore[attr-defined]
    near = next(t for t in plain["tests"] if t["metric"] == "near/auroc")  # type: ignore[attr-defined]
    assert (near["study"], near["minus"], near["seeds"]) == ("tuned", "paper", (1, 2, 3))
    # Differences 1, 1.5, 0.5: t = 1 / (0.5 / sqrt 3) with 2 degrees of freedom.
    assert near["mean"] == 1.0
    assert near["p"] == pytest.approx(1 - 12**0.5 / (2 + 12) ** 0.5)
    assert near["test"] == "two-sided paired t-test"


def test_one_study_is_no_comparison() -> None:
    with pytest.raises(ValueError, match="needs two studies, got 1"):
        compare_studies([FIRST])


def test_figure(tmp_path: Path) -> None:
    bare = summary("without_reruns", {})
    path = draw_comparison(
        [FIRST, SECOND, bare, summary("one_seed", {1: 95.0})], tmp_path / "c.png"
    )
    with Image.open(path) as image:
        assert image.width == 1080
        assert 300 < image.height < 1200


@pytest.mark.parametrize("metric", COMPARED)
def test_a_clear_difference_is_read_by_the_metrics_own_direction(metric: str) -> None:
    def told(name: str, at: float) -> StudySummary:
        seeds = {seed: {metric: at + 0.01 * seed * len(name)} for seed in (1, 2, 3)}
        return StudySummary(name, {}, None, None, seeds, 1.0, 0.0, 1)

    [table] = compare_studies([told("low", 20.0), told("higher", 30.0)]).tests
    [row] = table.rows
    assert row[1].startswith("+10.")
    assert row[-1] == ("worse" if metric.endswith("fpr95") else "better")
