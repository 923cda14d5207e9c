"""The report's table: does validation rank settings as the test does?"""

from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
from scipy.stats import spearmanr

from rwood.config.search import apply
from rwood.report.inputs import ReportInputs
from rwood.report.ranking import rank_correlation, ranking_table, rerun_settings
from rwood.results import EpochReport, RunResult, TrialResult
from tests.report.a_study import make_config, make_run, make_study

AUROCS = {"digit7": 80.0, "flower": 95.0, "mixed": 70.0, "jigsaw": 98.0, "permuted": 99.0,
          "blobs": 97.0}  # fmt: skip


def said(quality: float) -> EpochReport:
    """digit7 follows the quality of a setting, all other sets are against it."""
    metrics = {
        f"val/{name}/auroc": at + (quality if name == "digit7" else -quality / 10)
        for name, at in AUROCS.items()
    }
    return EpochReport(epoch=1, time=1.0, metrics=metrics | {"val/nearest_mean": 90.0})


@pytest.fixture
def inputs() -> ReportInputs:
    """Ten trials of quality 0, 1, ..., rerun with seeds 1 and 2; the champion is trial 9."""
    config = make_config(
        benchmark=make_config().benchmark.model_dump(mode="json")
        | {"validation": {"digit7": "digits/7", "flower": "digits/flower"}
           | {kind: {"derived": kind} for kind in ("mixed", "jigsaw", "permuted", "blobs")}},
    )  # fmt: skip
    trials, runs = [], []
    for number in range(10):
        params = {"loss.temperature": 0.05 + 0.01 * number}
        trials.append(
            TrialResult(number=number, params=params, state="complete", digest=str(number),
                        started=0.0, history=(said(number),), objective=float(number))
        )  # fmt: skip
        label = "champion" if number == 9 else f"trial-{number:04d}"
        for seed in (1, 2):
            run = apply(config.run, params | {"seed": seed}).model_dump(mode="json")
            runs.append(
                make_run(label, seed, shift=0.1 * number + 0.02 * seed, run=run,
                         history=(said(number + 0.1 * seed),))
            )  # fmt: skip
    base = [run.model_copy(update={"label": "base"}) for run in runs if run.label == "trial-0000"]
    study = make_study(config, trials=tuple(trials), runs=(*runs, *base), champion=9)
    return ReportInputs(study, config, {}, {})


def test_every_setting_counts_once_with_the_mean_over_its_seeds(inputs: ReportInputs) -> None:
    settings = rerun_settings(inputs)
    assert len(settings) == 10
    assert settings[3].reruns["digit7"] == pytest.approx(83.15)
    assert settings[3].search["digit7"] == pytest.approx(83.0)
    runs = [run for run in inputs.study.runs if run.label == "trial-0003"]
    near = [run.tables["ood/mahalanobis"].rows()["nearood"].auroc for run in runs]
    assert settings[3].test["near"] == pytest.approx(fmean(near))


def test_the_table_says_which_set_ranks_as_the_test_does(inputs: ReportInputs) -> None:
    table = ranking_table(rerun_settings(inputs))
    assert table is not None
    assert table.columns[1:] == ("reruns, near", "reruns, far", "search, near",
                                 "search, far", "its first, near", "its first, far")  # fmt: skip
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["digit7"][:4] == ("+1.00\n+1.00 to +1.00",) * 4
    # Shifts of trial 9 over seeds 1 and 2: .92 and .94; near is 95 - 4.5, far 95 + 2.25 and that.
    assert rows["digit7"][4:] == ("91.43", "98.18")
    assert rows["mixed"][4] == "90.53", "trial 0 is best by it"
    assert {rows[name][0] for name in ("mixed", "far-like", "jigsaw")} == {"−1.00\n−1.00 to −1.00"}
    assert rows["ID accuracy"][:4] == ("/",) * 4, "equal values rank nothing"
    assert "10 settings" in table.caption


def test_test_sets_that_every_setting_solves_rank_nothing(inputs: ReportInputs) -> None:
    solved = [replace(s, test=s.test | {"far": 100.0}) for s in rerun_settings(inputs)]
    table = ranking_table(solved)
    assert table is not None
    assert {row[2] for row in table.rows} == {"/"}, "they said +nan"


def test_few_settings_have_no_table(inputs: ReportInputs) -> None:
    few: list[RunResult] = [run for run in inputs.study.runs if run.label in ("champion", "base")]
    study = inputs.study.model_copy(update={"runs": tuple(few)})
    assert ranking_table(rerun_settings(replace(inputs, study=study))) is None


def test_the_correlation_is_scipys_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(1)
    first = rng.normal(size=30).round(1)
    second = (first + rng.normal(size=30)).round(1)
    found, low, high = rank_correlation(first.tolist(), second.tolist())
    assert found == pytest.approx(spearmanr(first, second).statistic)
    assert low < found < high
    # Fisher's interval, arctanh(rho) ± 1.96 sqrt(1.06 / (n - 3)), is about as wide.
    half = 1.96 * (1.06 / 27) ** 0.5
    assert low == pytest.approx(np.tanh(np.arctanh(found) - half), abs=0.12)
    assert high == pytest.approx(np.tanh(np.arctanh(found) + half), abs=0.12)
