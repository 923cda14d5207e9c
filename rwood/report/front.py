"""Several objectives: the Pareto front as a table and as figures."""

from itertools import combinations
from pathlib import Path
from typing import Any

from rwood.config.study import is_minimized
from rwood.report.figures import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    VERMILLION,
    canvas,
    dress,
    grid_of,
    legend,
    write,
)
from rwood.report.hyperparameters import hyperparameters, metric_title
from rwood.report.inputs import ReportInputs
from rwood.report.table import Table, plain_number
from rwood.results import TrialResult
from rwood.selection import distances, pareto_front, values_of


def front_table(inputs: ReportInputs) -> Table:
    """Trials that no other dominates, nearest to the ideal point first, and the base run's."""
    names, found = inputs.study.objectives, hyperparameters(inputs.config)
    front = pareto_front(inputs.study.trials, names)
    distance = distances(front, names)
    rows = []
    for trial in sorted(front, key=lambda t: (distance[t.number], t.number)):
        rows.append(_row(inputs, trial, f"{distance[trial.number]:.2f}"))
    base = [t for t in inputs.study.trials if t.number == 0 and t.state == "complete"]
    if base and base[0].number not in distance:
        rows.append(_row(inputs, base[0], "dominated"))
    columns = (
        "trial",
        *map(metric_title, names),
        "distance",
        *(parameter.name for parameter in found),
    )
    caption = (
        "★ champion: the trial of the front nearest to the ideal point, which has the front's best "
        "value of every objective. Distance after each objective is scaled to the front's range. "
        "Trial 0 has the base run's settings."
    )
    return Table(columns, tuple(rows), caption)


def _row(inputs: ReportInputs, trial: TrialResult, distance: str) -> tuple[str, ...]:
    star = " ★" if trial.number == inputs.study.champion else ""
    values = values_of(trial, inputs.study.objectives)
    shown = (with_spread(value, trial.spread.get(name)) for name, value in values.items())
    settings = (plain_number(parameter.of(trial)) for parameter in hyperparameters(inputs.config))
    return (f"{trial.number}{star}", *shown, distance, *settings)


def with_spread(value: float, std: float | None) -> str:
    """A value, and its population std over the seeds of a trial if it has several."""
    return f"{value:.2f}" if std is None else f"{value:.2f} ± {std:.2f}"


def draw_front(inputs: ReportInputs, path: Path) -> Path:
    """Complete trials by every two objectives; the front, the champion and the base run stand out.

    Seen by two of three objectives a trial of the front may seem dominated: the third one saves it.
    """
    names = inputs.study.objectives
    pairs = list(combinations(range(len(names)), 2))
    rows, columns = grid_of(len(pairs))
    figure, axes = canvas(0.6 + (3.4 if columns == 1 else 2.5) * rows, rows, columns)
    for place, axis in enumerate(axes.flat):
        if place < len(pairs):
            x, y = (names[i] for i in pairs[place])
            _draw_pair(axis, inputs, x, y)
            wrap = columns > 1
            dress(axis, _title(x, wrap), _title(y, wrap))
        else:
            axis.set_visible(False)
    legend(figure, axes.flat[0], ncols=5)
    return write(figure, path)


def _title(name: str, wrap: bool) -> str:
    title = metric_title(name)
    if not wrap:
        return title
    better = "less" if is_minimized(name) else "more"
    return title.removeprefix("validation ").replace(" (%)", f" (%)\n{better} is better")


def _draw_pair(axis: Any, inputs: ReportInputs, x: str, y: str) -> None:
    names = inputs.study.objectives
    complete = [t for t in inputs.study.trials if t.state == "complete"]
    front = {t.number for t in pareto_front(complete, names)}
    groups: list[tuple[str, list[TrialResult], dict[str, Any]]] = [
        ("complete", [t for t in complete if t.number not in front],
         {"marker": "o", "facecolor": "none", "edgecolor": GREY, "s": 30, "ecolor": GREY}),
        ("Pareto front", [t for t in complete if t.number in front],
         {"marker": "o", "color": BLUE, "s": 40, "ecolor": BLUE}),
        ("base run", [t for t in complete if t.number == 0],
         {"marker": "s", "facecolor": "none", "edgecolor": INK, "s": 95}),
        ("champion", [t for t in complete if t.number == inputs.study.champion],
         {"marker": "*", "color": VERMILLION, "s": 190, "edgecolor": "white"}),
    ]  # fmt: skip
    for label, trials, look in groups:
        if not trials:
            continue
        points = [values_of(t, names) for t in trials]
        across, up = [p[x] for p in points], [p[y] for p in points]
        colour = look.pop("ecolor", None)
        if colour and all(t.spread for t in trials):
            errors = {"xerr": [t.spread[x] for t in trials], "yerr": [t.spread[y] for t in trials]}
            axis.errorbar(across, up, fmt="none", ecolor=colour, alpha=0.35, linewidth=1, **errors)
        axis.scatter(across, up, label=label, zorder=3, linewidths=1.2, **look)
    best = [min if is_minimized(name) else max for name in (x, y)]
    points = [values_of(t, names) for t in complete if t.number in front]
    ideal = [pick(p[name] for p in points) for pick, name in zip(best, (x, y), strict=True)]
    look = {"marker": "P", "color": ORANGE, "s": 45, "label": "ideal point", "zorder": 2}
    axis.scatter(ideal[:1], ideal[1:], **look)
    near = [values_of(t, names) for t in complete if t.number in front or t.number == 0]
    axis.set_xlim(*_around([p[x] for p in near]))
    axis.set_ylim(*_around([p[y] for p in near]))


def _around(values: list[float]) -> tuple[float, float]:
    """Limits of an axis around some values, so that a hopeless trial does not press them flat."""
    low, high = min(values), max(values)
    room = 0.35 * (high - low) or 0.5
    return low - room, high + room
