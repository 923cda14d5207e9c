"""What a study found, in one sentence with its uncertainty."""

from statistics import fmean

from rwood.report.hyperparameters import hyperparameters, metric_title
from rwood.report.inputs import ReportInputs
from rwood.report.paired import TEST, PairedDifference, p_value
from rwood.report.table import plain_number, signed
from rwood.report.tables import gain, mean_cell, seed_values
from rwood.results import RunResult
from rwood.text import count_of


def finding(inputs: ReportInputs) -> str:
    """The answer to the study's question, no bolder than the seeds allow."""
    study = inputs.study
    if not inputs.runs:
        return _unfinished(inputs)
    near, far = mean_cell(inputs.runs, "nearood"), mean_cell(inputs.runs, "farood")
    reach = f"a near-OOD AUROC of {near} % and a far-OOD AUROC of {far} % ({_seeds(inputs.runs)})"
    if inputs.config.search is None:
        return f"The base run reaches {reach}; nothing was searched."
    if study.finals is not None and study.finals.promoted is False:
        return f"{study.finals.sentence} It reaches {reach}."
    if study.champion_params and inputs.champion_is_base:
        return (
            "No trial beat the base run's own settings on the validation sets, so they are the "
            f"champion: they reach {reach}."
        )
    champion = f"With {_settings(inputs)}, the champion"
    champion += "" if study.champion is None else f" (trial {study.champion})"
    if not inputs.base_runs:
        return f"{champion} reaches {reach}; the base run was not rerun to compare with."
    base = mean_cell(inputs.base_runs, "nearood")
    return (
        f"{champion} reaches a near-OOD AUROC of {near} % against {base} % for the base run "
        f"({_seeds(inputs.runs)}): {_verdict(inputs)}."
    )


def _unfinished(inputs: ReportInputs) -> str:
    study = inputs.study
    done = [t for t in study.trials if t.state == "complete" and t.objective is not None]
    if not study.trials:
        return "Nothing has been run yet."
    if study.objective is None or not done:
        return f"No trial of {len(study.trials)} has completed yet."
    chosen = [t for t in done if t.number == study.champion]
    best = f"; the champion is trial {chosen[0].number} with " if chosen else ""
    best += f"{metric_title(study.objective)} {chosen[0].objective:.2f}" if chosen else ""
    return (
        f"{len(done)} of {count_of(len(study.trials), 'trial')} completed so far{best}. The "
        "benchmark has not been run, so nothing is known about the test OOD sets."
    )


def _settings(inputs: ReportInputs) -> str:
    params = inputs.study.champion_params
    words = [
        f"{parameter.word} {plain_number(params[parameter.key])}"
        for parameter in hyperparameters(inputs.config)
        if parameter.key in params
    ]
    return ", ".join(words) if words else "its settings"


def _seeds(runs: list[RunResult]) -> str:
    return "one seed" if len(runs) == 1 else f"mean ± std over {len(runs)} seeds"


def _verdict(inputs: ReportInputs) -> str:
    difference = gain(inputs.runs, inputs.base_runs, "nearood", "auroc")
    if difference is None:
        ours, base = (fmean(seed_values(r, "nearood")) for r in (inputs.runs, inputs.base_runs))
        return f"{signed(ours - base)} points, untested since no seed matches"
    if difference.p is None and len(difference.seeds) > 1:
        return f"{signed(difference.mean)} points on every seed, which cannot be tested"
    if difference.p is None:
        return f"{signed(difference.mean)} points on one seed, whose uncertainty is unknown"
    return (
        f"a paired difference of {signed(difference.mean)} ± {difference.std:.2f} points, "
        f"{_reading(difference)} (p {_equals(difference.p)}, {TEST})"
    )


def _reading(difference: PairedDifference) -> str:
    if not difference.beyond_chance:
        return "within the noise between seeds"
    return f"a {'gain' if difference.mean > 0 else 'loss'} beyond the noise between seeds"


def _equals(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"
