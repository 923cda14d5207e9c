"""Several objectives: the Pareto front as a table and as figures."""

from collections.abc import Sequence
from itertools import combinations

from rwood.config.study import is_minimized
from rwood.report.hyperparameters import hyperparameters, metric_title
from rwood.report.inputs import ReportInputs
from rwood.report.panels import Panel, Points, trial_text
from rwood.report.table import Table, plain_number, with_std
from rwood.results import TrialResult
from rwood.selection import distances, pareto_front, values_of


def front_table(inputs: ReportInputs) -> Table:
    """Trials that no other dominates, nearest to the ideal point first, and the base run's."""
    names = inputs.study.objectives
    front = pareto_front(inputs.study.trials, names)
    distance = distances(front, names)
    rows = []
    for trial in sorted(front, key=lambda t: (distance[t.number], t.number)):
        rows.append(_row(inputs, trial, f"{distance[trial.number]:.2f}"))
    base = [t for t in inputs.study.trials if t.number == 0 and t.state == "complete"]
    if base and base[0].number not in distance:
        rows.append(_row(inputs, base[0], "dominated"))
    settings = (parameter.name for parameter in hyperparameters(inputs.config))
    columns = ("trial", *map(metric_title, names), "distance", *settings)
    star = "the trial of the front nearest to the ideal point"
    if inputs.study.finals is not None:
        star = "what the finals chose, which compare the first objective"
    caption = (
        f"★ champion: {star}. The ideal point has the front's best value of every objective. "
        "Distance after each objective is scaled to the front's range. Trial 0 has the base run's "
        "settings."
    )
    return Table(columns, tuple(rows), caption)


def _row(inputs: ReportInputs, trial: TrialResult, distance: str) -> tuple[str, ...]:
    star = " ★" if trial.number == inputs.study.champion else ""
    values = values_of(trial, inputs.study.objectives)
    shown = (with_std(value, trial.spread.get(name)) for name, value in values.items())
    settings = (plain_number(parameter.of(trial)) for parameter in hyperparameters(inputs.config))
    return (f"{trial.number}{star}", *shown, distance, *settings)


def front_panels(inputs: ReportInputs) -> list[Panel]:
    """Complete trials by every two objectives; the front, the champion and the base run stand out.

    Seen by two of three objectives a trial of the front may seem dominated: the third one saves it.
    """
    return [_pair(inputs, x, y) for x, y in combinations(inputs.study.objectives, 2)]


def _pair(inputs: ReportInputs, x: str, y: str) -> Panel:
    study = inputs.study
    complete = [trial for trial in inputs.trials if trial.state == "complete"]
    front = {trial.number for trial in pareto_front(complete, study.objectives)}
    groups = {
        "dominated": [t for t in complete if t.number not in front],
        "Pareto front": [t for t in complete if t.number in front],
        "base run": [t for t in complete if t.number == 0],
        "champion": [t for t in complete if t.number == study.champion],
    }
    points = [_points(inputs, name, trials, x, y) for name, trials in groups.items() if trials]
    ideal, ends = [], []
    for name in (x, y):
        values = [_value(inputs, trial, name) for trial in groups["Pareto front"]]
        ideal.append(min(values) if is_minimized(name) else max(values))
        ends.append(_around(values + [_value(inputs, t, name) for t in groups["base run"]]))
    points.append(Points("ideal point", ideal[:1], ideal[1:], [0.0], [0.0], ["ideal point"]))
    wrap = len(study.objectives) > 2
    return Panel(_title(x, wrap), _title(y, wrap), points, y_limits=ends[1], limits=ends[0])


def _points(
    inputs: ReportInputs, name: str, trials: Sequence[TrialResult], x: str, y: str
) -> Points:
    ring = name == "base run"  # around the point of a trial that has its bars
    spreads = [{} if ring else trial.spread for trial in trials]
    return Points(
        name,
        x=[_value(inputs, trial, x) for trial in trials],
        y=[_value(inputs, trial, y) for trial in trials],
        x_std=[spread.get(x, 0.0) for spread in spreads],
        y_std=[spread.get(y, 0.0) for spread in spreads],
        texts=[trial_text(inputs, trial) for trial in trials],
    )


def _value(inputs: ReportInputs, trial: TrialResult, name: str) -> float:
    return values_of(trial, inputs.study.objectives)[name]


def _title(name: str, wrap: bool) -> str:
    title = metric_title(name)
    if not wrap:
        return title
    better = "less" if is_minimized(name) else "more"
    return title.removeprefix("validation ").replace(" (%)", f" (%)\n{better} is better")


def _around(values: list[float]) -> tuple[float, float]:
    """Limits of an axis around some values, so that a hopeless trial does not press them flat."""
    low, high = min(values), max(values)
    room = 0.35 * (high - low) or 0.5
    return low - room, high + room
