"""What a report tells its reader to do is no bolder than what was shown."""

from dataclasses import replace

import pytest
from a_study import make_config, make_run, make_study

from rwood.report.advice import advice
from rwood.report.inputs import ReportInputs
from rwood.results import FinalsResult

PROMOTED = FinalsResult(candidates={}, promoted=True, sentence="Trial 2 is promoted.")


def measured(inputs: ReportInputs, *gains: float, **changes: object) -> ReportInputs:
    """The study with these gains of the champion, a seed each."""
    runs = [make_run("champion", seed, gain) for seed, gain in enumerate(gains, 1)]
    runs += [make_run("base", seed, 0.0) for seed, _ in enumerate(gains, 1)]
    return replace(inputs, study=inputs.study.model_copy(update={"runs": tuple(runs), **changes}))


@pytest.mark.parametrize(
    ("gains", "finals", "words"),
    [
        ((1.0, 1.1, 0.9), PROMOTED, "and the test sets agree on near and far OOD."),
        ((1.0, -1.1, 0.2), PROMOTED, "and the test sets neither confirm nor contradict it."),
        ((-1.0, -1.1, -0.9), PROMOTED, "do not switch yet. On near and far OOD the champion"),
        ((1.0, 1.1, 0.9), None, "use detector/; the test sets agree on near and far OOD."),
        ((1.0, -1.1, 0.2), None, "keep the base run's settings for now;"),
        (
            (1.0, 1.1, 0.9),
            PROMOTED.model_copy(update={"promoted": False}),
            "keep the base run's settings, which detector/ was trained with;",
        ),
    ],
)
def test_advice(
    inputs: ReportInputs, gains: tuple[float, ...], finals: FinalsResult | None, words: str
) -> None:
    told = advice(measured(inputs, *gains, finals=finals))
    assert told.startswith("So do this: ")
    assert words in told


def test_the_base_runs_own_settings_are_kept(inputs: ReportInputs) -> None:
    base = inputs.study.trials[0].params
    assert "keep the base run's settings" in advice(
        measured(inputs, 1.0, 1.1, champion_params=base)
    )


def test_no_advice_without_a_result() -> None:
    config = make_config()
    assert advice(ReportInputs(make_study(config, runs=()), config, {}, {})) == ""
    assert advice(ReportInputs(make_study(config), make_config(search=None), {}, {})) == ""
