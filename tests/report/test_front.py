"""Several objectives and several seeds in the report and in MLflow."""

from dataclasses import replace
from pathlib import Path

import pytest
from a_study import SPACE, make_config, make_study
from test_figures import check

from rwood.config.scorers import ScorerConfig
from rwood.report.content import build_document
from rwood.report.figures_search import draw_panels
from rwood.report.front import front_panels, front_table
from rwood.report.inputs import ReportInputs
from rwood.report.page import render_report
from rwood.report.panels import history_panel, slice_panels
from rwood.report.tables import scorer_sentence
from rwood.report.trials import saving, trial_table
from rwood.results import FinalsResult, TrialResult
from rwood.selection import pareto_front, select_champion
from rwood.tracked.study import search_run, trial_run

NAMES = ("val/auroc", "val/digit7/fpr95", "val/nearest_mean")


def several(trial: TrialResult) -> TrialResult:
    """The trial with two more objectives, of three seeds."""
    history = tuple(
        report.model_copy(
            update={
                "metrics": report.metrics
                | {
                    "val/digit7/fpr95": 60.0 - 2 * trial.number,
                    "val/nearest_mean": 90.0 + trial.number % 5,
                }
                | {f"{name}/std": 0.5 for name in NAMES}
            }
        )
        for report in trial.history
    )  # fmt: skip
    if trial.state != "complete":
        return trial.model_copy(update={"history": history})
    last = history[-1].metrics
    return trial.model_copy(
        update={
            "history": history,
            "objectives": {name: last[name] for name in NAMES},
            "spread": dict.fromkeys(NAMES, 0.5),
        }
    )


@pytest.fixture(params=[2, 3])
def front(inputs: ReportInputs, request: pytest.FixtureRequest) -> ReportInputs:
    names = NAMES[: request.param]
    space = {key: {"low": low, "high": high} for key, (low, high) in SPACE.items()}
    asked = {"trials": 12, "objective": list(names), "seeds": [0, 10, 20], "space": space}
    config = make_config(search=asked)
    trials = tuple(
        several(t).model_copy(
            update={"objectives": {n: several(t).objectives[n] for n in names}}
            if t.state == "complete"
            else {}
        )
        for t in inputs.study.trials
    )
    best = select_champion(trials, names)
    study = make_study(
        config, objectives=names, trials=trials, champion=best.number, champion_params=best.params,
        front=tuple(t.number for t in pareto_front(trials, names)),
    )  # fmt: skip
    return replace(inputs, config=config, study=study)


def test_the_front_is_drawn_and_listed(front: ReportInputs, tmp_path: Path) -> None:
    check(draw_panels(front_panels(front), tmp_path / "front.png"))
    table = front_table(front)
    numbers = [row[0].removesuffix(" ★") for row in table.rows]
    listed = [int(n) for n in numbers if int(n) in front.study.front]
    assert sorted(listed) == list(front.study.front)
    assert table.rows[0][0] == f"{front.study.champion} ★"
    distance = table.columns.index("distance")
    shown = [row[distance] for row in table.rows if row[distance] != "dominated"]
    assert [float(x) for x in shown] == sorted(map(float, shown))
    assert table.rows[0][1].endswith("± 0.50")
    assert table.columns[2] == "validation FPR@95 on digit7 (%)"


def test_the_report_shows_the_front_and_the_spread(front: ReportInputs, tmp_path: Path) -> None:
    assert tmp_path / "figures" / "front.png" in render_report(front, tmp_path)
    assert "nearest to the ideal point" in (tmp_path / "report.md").read_text()
    check(draw_panels([history_panel(front)], tmp_path / "history.png"))
    check(draw_panels(slice_panels(front), tmp_path / "slices.png"))
    titles = trial_table(front).columns
    assert titles[2] == "validation AUROC (%)"
    assert titles[3] == "validation FPR@95 on digit7 (%)"
    assert all("± 0.50" in row[3] or row[1] == "failed" for row in trial_table(front).rows)
    one = make_study(make_config())
    assert saving(front.study, front.config).epochs_run == 3 * saving(one, front.config).epochs_run


def test_the_star_is_not_called_the_nearest_where_the_finals_chose(front: ReportInputs) -> None:
    assert "champion: the trial of the front nearest" in front_table(front).caption
    finals = FinalsResult(candidates={}, promoted=False, sentence="The base run stays.")
    study = front.study.model_copy(update={"finals": finals, "champion": 0})
    caption = front_table(replace(front, study=study)).caption
    assert "champion: what the finals chose" in caption


@pytest.mark.usefixtures("unpainted")
def test_one_objective_has_no_front(inputs: ReportInputs, tmp_path: Path) -> None:
    document = build_document(inputs, tmp_path / "figures")
    assert "front.png" not in {picture.path.name for picture in document.pictures}


def test_mlflow_tells_of_front_and_spread(front: ReportInputs) -> None:
    study, names = front.study, front.study.objectives
    best = next(t for t in study.trials if t.number == study.champion)
    told = trial_run(study, best)
    assert told.metrics["objective"] == best.objective
    assert told.metrics["objective/std"] == 0.5
    assert {told.metrics[f"objective/{name}"] for name in names} == set(best.objectives.values())
    assert told.metrics[f"objective/{names[1]}/std"] == 0.5
    assert told.metrics["epochs"] == 3 * 20
    assert told.tags["rwood.on_front"] == "true"
    stopped = next(t for t in study.trials if t.state == "pruned")
    assert trial_run(study, stopped).tags["rwood.on_front"] == "false"
    whole = search_run(front.config, study, state="complete")
    assert whole.tags["rwood.objectives"] == ", ".join(names)
    assert f"{len(study.front)} trials on the Pareto front" in whole.tags["mlflow.note.content"]
    beaten = next(t.number for t in study.trials if t.objective and t.number not in study.front)
    proved = study.model_copy(update={"champion": beaten})  # by the finals
    note = search_run(front.config, proved, state="complete").tags["mlflow.note.content"]
    assert f"trial-{beaten:04d}" in note
    assert "front" not in note


def test_chosen_scorer_settings_are_told(inputs: ReportInputs) -> None:
    assert scorer_sentence(inputs) == ""
    plain = inputs.config.model_dump(mode="json")
    plain["run"]["scorer"] = {"name": "knn", "k": [5, 50], "shrinkage": [0.0, 0.1]}
    config = make_config(run=plain["run"])
    used = [(ScorerConfig(name="knn", k=k), ScorerConfig(shrinkage=0.1)) for k in (5, 50, 5)]
    runs = tuple(
        run.model_copy(update={"scorers": used[place % 3]})
        for place, run in enumerate(inputs.study.runs)
    )
    told = replace(inputs, config=config, study=inputs.study.model_copy(update={"runs": runs}))
    assert scorer_sentence(told) == (
        "Chosen on the validation sets (seeds 1, 2, 3): k of knn: 5, 50, 5; "
        "shrinkage of mahalanobis: 0.1, 0.1, 0.1."
    )
