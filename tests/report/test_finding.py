from dataclasses import replace

from a_study import BASE, make_run, make_study

from rwood.report.finding import finding
from rwood.report.inputs import ReportInputs
from rwood.results import RunResult


def with_runs(inputs: ReportInputs, *runs: RunResult) -> ReportInputs:
    return replace(inputs, study=inputs.study.model_copy(update={"runs": runs}))


def test_difference_within_noise(inputs: ReportInputs) -> None:
    text = finding(inputs)
    assert text.startswith("With temperature 0.")
    assert f"the champion (trial {inputs.study.champion})" in text
    assert "near-OOD AUROC of 92.00 ± 0.41 % against 91.00 ± 0.41 % for the base run" in text
    assert "mean ± std over 3 seeds" in text
    assert text.endswith(
        "a paired difference of +1.00 ± 0.41 points, within the noise between seeds "
        "(p = 0.074, two-sided paired t-test)."
    )


def test_clear_gain_and_clear_loss(inputs: ReportInputs) -> None:
    good = [make_run("champion", s, 2 + 0.1 * s) for s in (1, 2, 3)]
    poor = [make_run("champion", s, -2 + 0.1 * s) for s in (1, 2, 3)]
    base = [make_run("base", s, 0.0) for s in (1, 2, 3)]
    assert "+2.20 ± 0.08 points, a gain beyond the noise" in finding(
        with_runs(inputs, *good, *base)
    )
    assert "−1.80 ± 0.08 points, a loss beyond the noise" in finding(
        with_runs(inputs, *poor, *base)
    )


def test_one_seed_claims_nothing(inputs: ReportInputs) -> None:
    text = finding(with_runs(inputs, make_run("champion", 1, 1.0), make_run("base", 1, 0.0)))
    assert "AUROC of 91.50 % against 90.50 % for the base run (one seed)" in text
    assert text.endswith("+1.00 points on one seed, whose uncertainty is unknown.")


def test_seeds_that_do_not_match(inputs: ReportInputs) -> None:
    text = finding(with_runs(inputs, make_run("champion", 1, 1.0), make_run("base", 2, 0.0)))
    assert text.endswith("+1.00 points, untested since no seed matches.")


def test_champion_alone(inputs: ReportInputs) -> None:
    text = finding(with_runs(inputs, *inputs.study.of("champion")))
    assert "far-OOD AUROC of 98.75 ± 0.41 %" in text
    assert text.endswith("the base run was not rerun to compare with.")


def test_base_settings_won(inputs: ReportInputs) -> None:
    study = inputs.study.model_copy(update={"champion": 0, "champion_params": BASE})
    assert finding(replace(inputs, study=study)).startswith("No trial beat the base run's own")


def test_before_the_benchmark(inputs: ReportInputs) -> None:
    text = finding(with_runs(inputs))
    assert text.startswith(f"6 of 12 trials completed so far; the champion is trial {2} with ")
    assert "nothing is known about the test OOD sets" in text


def test_before_anything(inputs: ReportInputs) -> None:
    empty = make_study(inputs.config, trials=(), champion=None, champion_params={}, runs=())
    assert finding(replace(inputs, study=empty)) == "Nothing has been run yet."
    failed = tuple(t for t in inputs.study.trials if t.state != "complete")
    study = empty.model_copy(update={"trials": failed})
    assert finding(replace(inputs, study=study)) == "No trial of 6 has completed yet."


def test_without_a_search(inputs: ReportInputs) -> None:
    config = inputs.config.model_copy(update={"search": None})
    runs = tuple(inputs.study.of("base"))
    study = make_study(
        config, objective=None, trials=(), champion=None, champion_params={}, runs=runs
    )
    assert finding(replace(inputs, config=config, study=study)) == (
        "The base run reaches a near-OOD AUROC of 91.00 ± 0.41 % and a far-OOD AUROC of "
        "97.75 ± 0.41 % (mean ± std over 3 seeds); nothing was searched."
    )
