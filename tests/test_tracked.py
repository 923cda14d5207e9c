"""What is stated of a study before anything is sent."""

import json
from statistics import fmean, pstdev

import pytest

from rwood.config.study import StudyConfig
from rwood.data.image_sets import NAMED
from rwood.report.champion import result_words
from rwood.results import EpochReport, StudyResult
from rwood.tracked.inputs import benchmark_inputs, search_inputs
from rwood.tracked.measures import held_seconds
from rwood.tracked.study import benchmark_run, rerun_run, search_run, setting_run, trial_run
from rwood.tracked.views import experiment_tags
from tests.report.a_study import make_config, make_study

COUNTS = {name: row.count for name, row in NAMED.items()}


@pytest.fixture(scope="module")
def study() -> tuple[StudyConfig, StudyResult]:
    config = make_config()
    return config, make_study(config)


def test_a_search_sees_no_test_set(study: tuple[StudyConfig, StudyResult]) -> None:
    config, _ = study
    seen = {i.role: i for i in search_inputs(config.benchmark, COUNTS)}
    assert seen.keys() == {"train", "val", "val/digit7", "val/flower"}
    assert (seen["train"].name, seen["train"].images) == ("digits/train", 759)
    roles = [i.role for i in benchmark_inputs(config.benchmark, COUNTS)]
    assert roles == [*seen, "test", "near/digit8", "near/digit9", "far/china", "far/permuted"]


def test_own_folders_are_named_by_folder(study: tuple[StudyConfig, StudyResult]) -> None:
    from rwood.config.benchmark import FolderSet

    config, _ = study
    own = config.benchmark.model_copy(update={"validation": {"mine": FolderSet(folder="cats")}})
    last = search_inputs(own, COUNTS)[-1]
    assert (last.name, last.role, last.images) == ("cats", "val/mine", None)
    assert last.digest not in {i.digest for i in search_inputs(config.benchmark, COUNTS)}


def test_time_in_which_the_study_stood_still_is_not_counted(
    study: tuple[StudyConfig, StudyResult],
) -> None:
    _, record = study
    times = [130, 140, 150, 150 + 8 * 3600, 160 + 8 * 3600]  # 30 s to start, a night in between
    history = tuple(
        EpochReport(epoch=n + 1, time=at, metrics={"train/loss": 1.0}) for n, at in enumerate(times)
    )
    changes = {"started": 100.0, "finished": times[-1] + 2.0, "history": history}
    trial = record.trials[0].model_copy(update=changes)
    assert trial_run(record, trial).metrics["seconds"] == pytest.approx(30 + 10 * 3 + 10 + 2)
    assert trial_run(record, trial).metrics["gpu_seconds"] == 0
    running = trial.model_copy(update={"state": "running", "objective": None, "finished": None})
    assert trial_run(record, running).metrics == {}


def test_descriptions_say_what_was_found(study: tuple[StudyConfig, StudyResult]) -> None:
    config, record = study
    note = search_run(config, record, state="complete").tags["mlflow.note.content"]
    best = next(t for t in record.trials if t.number == record.champion)
    assert note.startswith(config.question)
    assert f"**trial-{best.number:04d}**, val/auroc {best.objective:.2f} %" in note
    assert f"| loss.temperature | {best.params['loss.temperature']:.4g} |" in note
    assert benchmark_run(config, record, state="running").tags["mlflow.note.content"] == note


def test_a_trial_says_what_became_of_it(study: tuple[StudyConfig, StudyResult]) -> None:
    _, record = study

    def note(number: int) -> str:
        return trial_run(record, record.trials[number]).tags["mlflow.note.content"]

    best = record.trials[record.champion or 0]
    assert note(best.number) == (
        f"**The champion.** Complete after 20 epochs. val/auroc {best.objective:.2f} %"
    )
    assert note(3).startswith("Pruned after 2 epochs, which is no failure. val/auroc ")
    assert note(7) == "Failed after 1 epoch: loss is nan at step 14 <b>"
    running = record.trials[1].model_copy(update={"state": "running"})
    assert trial_run(record, running).tags["mlflow.note.content"] == "Running."


def test_settings_are_means_over_their_seeds(study: tuple[StudyConfig, StudyResult]) -> None:
    config, record = study
    champion = setting_run(config, record, "champion", config.run)
    base = setting_run(config, record, "base", config.run)
    assert champion.name == f"champion-trial-{record.champion:04d}"
    assert base.name == "base"
    assert setting_run(config, record, "trial-0007", config.run).name == "rerun-trial-0007"
    assert champion.key != base.key
    values = [run.tables["ood/mahalanobis"].rows()["nearood"].auroc for run in record.of("base")]
    assert base.metrics["seeds"] == 3
    assert base.metrics["near/auroc"] == pytest.approx(fmean(values))
    assert base.metrics["near/auroc/std"] == pytest.approx(pstdev(values))
    assert "seed" not in base.params


def test_the_results_are_the_descriptions_of_benchmark_and_experiment(
    study: tuple[StudyConfig, StudyResult],
) -> None:
    config, record = study
    words = result_words(config, record)
    assert words.startswith("Near AUROC 92.00 ± 0.41 against 91.00 ± 0.41 (p ")
    assert "So do this: " in words
    assert "| OOD set | FPR@95 ↓ champion | base | difference | AUROC ↑ champion |" in words
    rows = ("digit8", "digit9", "**nearood**", "china", "permuted", "**farood**")
    assert [f"\n| {row} |" in words for row in rows] == [True] * 6
    told = benchmark_run(config, record, state="complete", results=words)
    assert told.tags["mlflow.note.content"] == f"{config.question} {words}"
    assert told.experiment["mlflow.note.content"].startswith(f"{config.question} {words}")
    assert {name.partition("/")[0] for name in told.metrics} == {"base", "champion"}
    assert len(told.metrics) == 2 * 4 * 2, "all sets are in the runs of the settings"
    assert result_words(config, record.model_copy(update={"runs": ()})) == ""


def test_a_failed_trial_has_no_objective(study: tuple[StudyConfig, StudyResult]) -> None:
    _, record = study
    failed = next(t for t in record.trials if t.state == "failed")
    told = trial_run(record, failed)
    assert "objective" not in told.metrics
    assert told.tags["rwood.error"].startswith("loss is nan")


def test_the_base_does_not_point_at_the_champion(study: tuple[StudyConfig, StudyResult]) -> None:
    config, record = study
    for label, linked in (("champion", True), ("base", False)):
        told = rerun_run(config, record, label=label, run=config.run, digest="d", history=())
        assert ("rwood.champion_run_id" in told.links) == linked


def saved_views(config: StudyConfig) -> dict[str, dict[str, object]]:
    prefix = "mlflow.sharedViewState."
    tags = {k: v for k, v in experiment_tags(config).items() if k.startswith(prefix)}
    return {k.removeprefix(prefix): json.loads(json.loads(v)["state"]) for k, v in tags.items()}


def test_views_chart_what_the_study_measures(study: tuple[StudyConfig, StudyResult]) -> None:
    config, record = study
    views = saved_views(config)
    assert views.keys() == {"trials", "settings", "reruns"}
    assert config.search is not None
    charts = {str(c["type"]): c for c in views["trials"]["compareRunCharts"]}  # type: ignore[attr-defined]
    assert charts["PARALLEL"]["selectedParams"] == list(config.search.space)
    assert charts["PARALLEL"]["selectedMetrics"] == ["val/auroc"]
    curves = {c["metricKey"] for c in views["trials"]["compareRunCharts"] if c["type"] == "LINE"}  # type: ignore[attr-defined]
    assert curves >= {"val/auroc", "val/digit7/auroc", "val/flower/auroc", "train/loss"}
    said = rerun_run(config, record, label="champion", run=config.run, digest="d",
                     history=record.runs[0].history, result=record.runs[0])  # fmt: skip
    logged = said.metrics.keys() | said.history[0].metrics.keys()
    shown = [c["metricKey"] for c in views["reruns"]["compareRunCharts"]]  # type: ignore[attr-defined]
    assert set(shown) <= logged
    assert len({c["uuid"] for c in views["reruns"]["compareRunCharts"]}) == len(shown)  # type: ignore[attr-defined]
    alone = saved_views(make_config(search=None))
    assert alone.keys() == {"settings", "reruns"}


def test_views_fit_a_tag_of_mlflow() -> None:
    """Also those of the benchmark with most sets; MLflow takes 20,000 characters."""
    from rwood.config.load import load_study
    from tests.conftest import STUDIES

    for path in sorted(STUDIES.glob("*.yaml")):
        assert max(map(len, experiment_tags(load_study(path)).values())) < 15_000


def test_views_of_families_chart_the_aurocs_that_they_are_made_of() -> None:
    config = make_config()
    search = config.the_search.model_copy(update={"objective": "val/families"})
    views = saved_views(config.model_copy(update={"search": search}))
    lines = [c for c in views["trials"]["compareRunCharts"] if c["type"] == "LINE"]  # type: ignore[attr-defined]
    assert {"val/families", "val/digit7/auroc"} <= {c["metricKey"] for c in lines}
    assert "val/digit7/families" not in {c["metricKey"] for c in lines}


def test_a_trial_that_was_running_when_the_space_changed_is_interrupted_and_not_running() -> None:
    study = make_study(make_config())
    running = study.trials[4].model_copy(update={"state": "running", "history": ()})
    assert trial_run(study, running).state == "running"
    assert trial_run(study, running.model_copy(update={"outside": True})).state == "interrupted"


def test_a_clock_that_was_set_back_costs_no_time_and_gives_none() -> None:
    """Or a trial that goes on on another node, whose clock is an hour behind."""
    trial = make_study(make_config()).trials[0]
    seconds = held_seconds(trial)
    assert seconds > 0
    for epoch in (1, 10):
        late = tuple(
            report.model_copy(update={"time": report.time - (3600 if report.epoch >= epoch else 0)})
            for report in trial.history
        )
        moved = {"history": late, "finished": (trial.finished or 0) - 3600}
        assert held_seconds(trial.model_copy(update=moved)) == seconds


@pytest.mark.parametrize("day_before", [1, 2, "end"])
def test_a_day_in_which_a_study_was_stopped_costs_nothing(day_before: int | str) -> None:
    """Before a trial's first report, with only one before the stop, or none after it."""
    trial, times, at = make_study(make_config()).trials[0], {}, 0.0
    for moment, seconds in ((1, 400.0), (2, 300.0), ("end", 0.1)):
        at += seconds + (86400 if moment == day_before else 0)
        times[moment] = at
    history = tuple(
        EpochReport(epoch=n, time=times[n], metrics={"sys/train_seconds": 290.0}) for n in (1, 2)
    )
    changes = {"started": 0.0, "history": history, "finished": times["end"]}
    assert 580 < held_seconds(trial.model_copy(update=changes)) < 1100
