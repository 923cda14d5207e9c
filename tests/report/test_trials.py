from dataclasses import replace
from pathlib import Path

from a_study import COMPLETE, EPOCHS, FAILED, STOPPED, make_study

from rwood.report.content import build_document
from rwood.report.inputs import ReportInputs
from rwood.report.trials import (
    Saving,
    cost_table,
    failures,
    knob_table,
    saving,
    trial_table,
    versions_table,
)


def test_saving_counts_complete_and_stopped_trials(inputs: ReportInputs) -> None:
    found = saving(inputs.study, inputs.config)
    assert found == Saving(pruned=5, epochs_run=6 * 20 + 2 + 6 + 2 + 6 + 2, epochs_full=11 * 20)
    assert round(found.share, 4) == round(100 * (1 - 138 / 220), 4)
    assert len(COMPLETE) + len(STOPPED) == 11


def test_saving_honours_a_searched_number_of_epochs(inputs: ReportInputs) -> None:
    trials = tuple(
        t.model_copy(update={"params": {**t.params, "epochs": 40}}) for t in inputs.study.trials
    )
    study = inputs.study.model_copy(update={"trials": trials})
    assert saving(study, inputs.config).epochs_full == 11 * 40


def test_the_page_states_the_epochs_of_all_trials_once(
    inputs: ReportInputs, tmp_path: Path
) -> None:
    trials = tuple(t for t in inputs.study.trials if t.state != "pruned")
    study = inputs.study.model_copy(update={"trials": trials})
    page = build_document(replace(inputs, study=study), tmp_path).markdown(tmp_path)
    assert "7 trials, none pruned." in page, "it said 120 epochs, without the failed trial's"
    assert "121 in 7 trials" in page


def test_no_trial_saves_nothing(inputs: ReportInputs) -> None:
    found = saving(make_study(inputs.config, trials=(), champion=None), inputs.config)
    assert found == Saving(0, 0, 0)
    assert found.share == 0.0


def test_a_trial_that_counts_for_nothing_is_told_from_the_others(inputs: ReportInputs) -> None:
    trials = tuple(t.model_copy(update={"outside": t.number == 2}) for t in inputs.study.trials)
    table = trial_table(replace(inputs, study=inputs.study.model_copy(update={"trials": trials})))
    assert [row[1] for row in table.rows[:4]] == ["complete", "complete", "complete, outside",
                                                 "pruned"]  # fmt: skip
    assert "counts for nothing" in table.caption
    assert "outside" not in trial_table(inputs).caption.lower()


def test_trial_table(inputs: ReportInputs) -> None:
    rows = trial_table(inputs).rows
    assert [row[0] for row in rows] == [
        f"{n} ★" if n == inputs.study.champion else str(n) for n in range(12)
    ]
    assert rows[0][1] == "complete"
    assert rows[0][3:] == (str(EPOCHS), "0.1", "2", "1", "5", "4")
    last = inputs.study.trials[3].history[-1].metrics["val/auroc"]
    assert rows[3][1:4] == ("pruned", f"{last:.2f}", "2")
    assert rows[FAILED][1:4] == ("failed", "", "1")


def test_failures_say_which_and_why(inputs: ReportInputs) -> None:
    assert failures(inputs.study) == ["Trial 7 failed: loss is nan at step 14 <b>"]


def test_knob_table_shows_base_and_champion(inputs: ReportInputs) -> None:
    rows = knob_table(inputs).rows
    chosen = inputs.study.champion_params["loss.temperature"]
    assert rows[0] == ("temperature (τ)", "0.02 to 0.5, log scale", "0.1", f"{chosen:.4g}")
    assert rows[2][1] == "−1 to 5"


def test_cost_table(inputs: ReportInputs) -> None:
    rows = dict(cost_table(inputs.study).rows)
    assert rows == {
        "search (wall time)": "1 min 38 s",
        "benchmark (wall time)": "1 min 05 s",
        "epochs of all trials": "139 in 12 trials",
        "reruns of the champion": "3 × 12 s, 60 epochs in all",
        "reruns of the base": "3 × 12 s, 60 epochs in all",
    }


def test_epochs_of_all_trials_are_those_of_all_their_seeds(inputs: ReportInputs) -> None:
    study = inputs.study.model_copy(update={"config": {"search": {"seeds": [1, 2, 3]}}})
    assert dict(cost_table(study).rows)["epochs of all trials"] == "417 in 12 trials"


def test_versions(inputs: ReportInputs) -> None:
    assert dict(versions_table(inputs.study).rows)["torch"] == "2.11"
    assert (
        versions_table(replace(inputs, study=make_study(inputs.config, versions={})).study).rows
        == ()
    )
