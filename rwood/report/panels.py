"""What figures of trials show, stated once: drawn by matplotlib and by plotly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rwood.config.study import is_minimized
from rwood.report.figures import BLUE, GREY, INK, ORANGE, VERMILLION
from rwood.report.hyperparameters import Hyperparameter, hyperparameters, last_metrics, metric_title
from rwood.report.inputs import ReportInputs
from rwood.report.outliers import inner_limits
from rwood.report.table import plain_number
from rwood.report.trials import epochs_run
from rwood.results import TrialResult
from rwood.text import count_of


@dataclass(frozen=True)
class Look:
    """How a point looks: matplotlib's marker, plotly's symbol."""

    marker: str
    symbol: str
    face: str
    edge: str
    size: float
    """Points across."""


_NAMES = {"complete": "complete", "pruned": "pruned (last value)", "running": "running"}
"""State of a trial that may have a value -> its name in a legend."""
LOOKS = {
    "complete": Look("o", "circle", BLUE, BLUE, 5.8),
    "pruned (last value)": Look("v", "triangle-down", "none", GREY, 5.8),
    "running": Look("s", "square", "none", BLUE, 5.5),
    "champion": Look("*", "star", VERMILLION, "white", 15.0),
    "failed": Look("X", "x", INK, INK, 5.8),
    "dominated": Look("o", "circle", "none", GREY, 5.5),
    "Pareto front": Look("o", "circle", BLUE, BLUE, 6.3),
    "base run": Look("s", "square", "none", INK, 9.7),
    "ideal point": Look("P", "cross", ORANGE, ORANGE, 6.7),
}


@dataclass(frozen=True)
class Points:
    """Trials that look alike."""

    name: str
    x: list[float]
    y: list[float]
    x_std: list[float]
    """Population std over the seeds of each trial, like `y_std`; 0 where it has one."""
    y_std: list[float]
    texts: list[str]
    """Lines on each trial, parted by `<br>`."""


@dataclass(frozen=True)
class Panel:
    """Trials against the objective, or by two of several objectives."""

    x: str
    """Title of the axis, like `y`."""
    y: str
    points: list[Points]
    y_limits: tuple[float, float] | None
    """None, also of `limits`: as the points lie."""
    limits: tuple[float, float] | None = None
    ticks: Sequence[tuple[float, str]] = ()
    """Places on the x axis and their texts."""
    best: Sequence[tuple[int, float]] = ()
    """(trial number, best objective so far), drawn as steps."""
    base: float | None = None
    """Where the base run is, drawn as a dotted line."""


def best_so_far(trials: Sequence[TrialResult], objective: str) -> list[tuple[int, float]]:
    """(trial number, best objective of the complete trials up to it), in order."""
    better = min if is_minimized(objective) else max
    best: list[tuple[int, float]] = []
    for trial in sorted(trials, key=lambda t: t.number):
        if trial.state == "complete" and trial.objective is not None:
            value = better(best[-1][1], trial.objective) if best else trial.objective
            best.append((trial.number, value))
        elif best:
            best.append((trial.number, best[-1][1]))
    return best


def valued(inputs: ReportInputs, *states: str) -> list[tuple[TrialResult, float]]:
    """Trials in some states that reported the objective, with its last value."""
    pairs = [(t, last_metrics(t, inputs.objective)) for t in inputs.trials if t.state in states]
    return [(trial, last[0]) for trial, last in pairs if last is not None]


def objective_limits(inputs: ReportInputs) -> tuple[float, float] | None:
    """Ends of the objective's axis where a few trials would squash it; None: no need of any."""
    values = [value for _, value in valued(inputs, *_NAMES)]
    return inner_limits(values, minimized=is_minimized(inputs.objective))


def outside_sentence(inputs: ReportInputs) -> str:
    """Which trials lie outside the objective's axis; empty if none does."""
    limits = objective_limits(inputs)
    if limits is None:
        return ""
    low, high = limits
    beyond = [(t.number, v) for t, v in valued(inputs, *_NAMES) if not low <= v <= high]
    named = ", ".join(f"trial {number} ({value:.2f})" for number, value in sorted(beyond)[:4])
    more = f" and {len(beyond) - 4} more" if len(beyond) > 4 else ""
    return f" Outside the picture: {named}{more}."


def history_panel(inputs: ReportInputs) -> Panel:
    """Objective of every trial, the best so far, and which trials were pruned or failed."""
    last = max(trial.number for trial in inputs.trials)
    steps = (step * 10**zeros for zeros in range(9) for step in (1, 2, 5))
    step = next(step for step in steps if last <= 9 * step)
    panel = _panel(inputs, "trial number", lambda trial: trial.number)
    return replace(
        panel,
        ticks=[(number, str(number)) for number in range(0, last + 1, step)],
        best=best_so_far(inputs.trials, inputs.objective),
    )


def slice_panels(inputs: ReportInputs) -> list[Panel]:
    """Each setting against the objective, and where the base run is."""
    return [_slice(inputs, parameter) for parameter in hyperparameters(inputs.config)]


def _slice(inputs: ReportInputs, parameter: Hyperparameter) -> Panel:
    title = f"{parameter.name}, log scale" if parameter.log else parameter.name
    ticks = parameter.ticks(5, [trial for trial, _ in valued(inputs, *_NAMES)])
    return replace(
        _panel(inputs, title, lambda trial: parameter.share(parameter.of(trial))),
        ticks=ticks,
        limits=(min(0.0, ticks[0][0]) - 0.06, 1.06),
        base=parameter.share(parameter.base) if parameter.base_among else None,
    )


def _panel(inputs: ReportInputs, title: str, x: Callable[[TrialResult], float]) -> Panel:
    """Every trial that has a value, by state and the champion apart; failed ones at the bottom."""
    values = [value for _, value in valued(inputs, *_NAMES)]
    limits = objective_limits(inputs)
    bottom = limits[0] if limits else min(values) - 0.06 * (max(values) - min(values))
    groups: dict[str, list[tuple[TrialResult, float]]] = {
        name: [] for name in (*_NAMES.values(), "champion")
    }
    groups["failed"] = [(t, bottom) for t in inputs.trials if t.state == "failed"]
    for trial, value in valued(inputs, *_NAMES):
        champion = trial.number == inputs.study.champion
        groups["champion" if champion else _NAMES[trial.state]].append((trial, value))
    points = [
        Points(
            name,
            x=[x(trial) for trial, _ in pairs],
            y=[value for _, value in pairs],
            x_std=[0.0] * len(pairs),
            y_std=[_std(inputs, trial) for trial, _ in pairs],
            texts=[trial_text(inputs, trial) for trial, _ in pairs],
        )
        for name, pairs in groups.items()
        if pairs
    ]
    return Panel(title, metric_title(inputs.objective), points, limits)


def _std(inputs: ReportInputs, trial: TrialResult) -> float:
    last = last_metrics(trial, inputs.objective) if trial.state != "failed" else None
    return last[1] or 0.0 if last else 0.0


def trial_text(inputs: ReportInputs, trial: TrialResult) -> str:
    """What a trial did, the objective that it reached, and its settings."""
    lines = [f"trial {trial.number}, {trial.state} after {count_of(epochs_run(trial), 'epoch')}"]
    last = last_metrics(trial, inputs.objective)
    if last is not None:
        lines.append(f"{metric_title(inputs.objective)}: {last[0]:.2f}")
    settings = [(p.name, p.of(trial)) for p in hyperparameters(inputs.config)]
    lines += [f"{name}: {plain_number(value)}" for name, value in settings if value is not None]
    return "<br>".join(lines)
