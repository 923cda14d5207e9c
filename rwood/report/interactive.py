"""Plotly counterparts of the search's figures, as JSON for the page to draw."""

import math
from typing import Any

from rwood.config.search import Choices, Range
from rwood.config.study import is_minimized
from rwood.report.figures import BLUE, GREY, INK, VERMILLION
from rwood.report.figures_search import best_so_far, objective_limits, objective_of, valued
from rwood.report.hyperparameters import (
    NONE_AT,
    Hyperparameter,
    hyperparameters,
    last_metrics,
    metric_title,
)
from rwood.report.inputs import ReportInputs
from rwood.report.table import plain_number
from rwood.report.trials import epochs_run
from rwood.results import TrialResult
from rwood.text import count_of

_LOOKS = {
    "complete": {"symbol": "circle", "color": BLUE, "size": 9},
    "pruned": {"symbol": "triangle-down-open", "color": GREY, "size": 10},
    "running": {"symbol": "square-open", "color": BLUE, "size": 9},
}
_STAR = {"symbol": "star", "color": VERMILLION, "size": 15}
_NAMES = {"complete": "complete", "pruned": "pruned (last value)", "running": "running"}


def plot_history(inputs: ReportInputs) -> str:
    """Objective of every trial; settings appear where the pointer rests."""
    from plotly import graph_objects as go

    figure = go.Figure()
    best = best_so_far(inputs.study.trials, objective_of(inputs))
    figure.add_scatter(
        x=[n for n, _ in best], y=[v for _, v in best], mode="lines", name="best so far",
        line={"shape": "hv", "color": VERMILLION}, hoverinfo="skip",
    )  # fmt: skip
    for state in _LOOKS:
        _add_trials(figure, inputs, state, [float(t.number) for t, _ in valued(inputs, state)])
    failed = [t.number for t in inputs.study.trials if t.state == "failed"]
    if failed:
        limits = objective_limits(inputs)
        low = limits[0] if limits else min(v for state in _LOOKS for _, v in valued(inputs, state))
        figure.add_scatter(
            x=failed, y=[low] * len(failed), mode="markers", name="failed", hoverinfo="x+name",
            marker={"symbol": "x-thin-open", "color": INK, "size": 9, "line": {"width": 2}},
        )  # fmt: skip
    _dress(figure, 400)
    step = max(1, round(len(inputs.study.trials) / 8))
    figure.update_xaxes(title="trial number", tick0=0, dtick=step)
    figure.update_yaxes(title=metric_title(objective_of(inputs)), range=objective_limits(inputs))
    return str(figure.to_json())


def plot_slices(inputs: ReportInputs) -> str:
    """Each setting against the objective; zoom and legend act on all panels."""
    from plotly.subplots import make_subplots

    found = hyperparameters(inputs.config)
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    figure = make_subplots(rows, columns, shared_yaxes="all", horizontal_spacing=0.05,
                           vertical_spacing=0.36 / rows)  # fmt: skip
    for place, parameter in enumerate(found):
        where = {"row": place // columns + 1, "col": place % columns + 1}
        for state in _LOOKS:
            x = [parameter.number(parameter.of(t)) for t, _ in valued(inputs, state)]
            _add_trials(figure, inputs, state, x, first=place == 0, **where)
        if parameter.base_among:
            line = {"color": INK, "dash": "dot", "width": 1.3}
            figure.add_vline(parameter.number(parameter.base), line=line, **where)
        figure.update_xaxes(**_slice_axis(parameter), **where)
    for row in range(1, rows + 1):
        figure.update_yaxes(title=metric_title(objective_of(inputs)), row=row, col=1)
    figure.update_yaxes(range=objective_limits(inputs))
    _dress(figure, 120 + 240 * rows)
    return str(figure.to_json())


def _slice_axis(parameter: Hyperparameter) -> dict[str, Any]:
    if isinstance(parameter.domain, Choices):
        return {"title": parameter.name, **_choices(parameter.domain)}
    low, high = float(parameter.domain.low), float(parameter.domain.high)
    if parameter.log:
        steps = {"tickvals": [step for step, _ in _steps(parameter)],
                 "ticktext": [text for _, text in _steps(parameter)]}  # fmt: skip
        low, high = math.log10(low), math.log10(high)
        return {"title": f"{parameter.name}, log scale", "type": "log", **steps, **_room(low, high)}
    return {"title": parameter.name, **_room(low, high)}


def _room(low: float, high: float) -> dict[str, Any]:
    """The searched range, with a little room at both ends."""
    room = 0.05 * (high - low)
    return {"range": [low - room, high + room]} if room else {}


def _choices(domain: Choices) -> dict[str, Any]:
    names = [str(choice) for choice in domain.choices]
    return {"tickvals": list(range(len(names))), "ticktext": names}


def _steps(parameter: Hyperparameter) -> list[tuple[float, str]]:
    """Five values from low to high, even on its own scale, and how to print them."""
    assert isinstance(parameter.domain, Range)
    low, high = float(parameter.domain.low), float(parameter.domain.high)
    shares = [i / 4 for i in range(5)]
    if parameter.log:
        values = [low * (high / low) ** share for share in shares]
    else:
        values = [low + (high - low) * share for share in shares]
    return [(value, f"{value:.2g}") for value in values]


def plot_parallel(inputs: ReportInputs) -> str:
    """Parallel coordinates; dragging along an axis keeps the trials within."""
    from plotly import graph_objects as go

    pairs = valued(inputs, "pruned") + valued(inputs, "complete")
    values = [value for _, value in pairs]
    dimensions = [
        _dimension(parameter, [t for t, _ in pairs]) for parameter in hyperparameters(inputs.config)
    ]
    epochs = [epochs_run(t) for t, _ in pairs]
    if len(set(epochs)) > 1:
        dimensions.append({"label": "epochs run", "values": epochs})
    objective = metric_title(objective_of(inputs)).replace("validation ", "")
    dimensions.append({"label": objective, "values": values})
    scale = [[0.0, "#fde725"], [0.25, "#5ec962"], [0.5, "#21918c"], [0.75, "#3b528b"],
             [1.0, "#440154"]]  # fmt: skip
    line = {
        "color": values,
        "colorscale": scale,
        "reversescale": is_minimized(objective_of(inputs)),
    }
    hidden = {"color": "rgba(0,0,0,0)"}
    fonts = {"labelfont": {"size": 13}, "tickfont": {"size": 12}, "rangefont": hidden}
    figure = go.Figure(go.Parcoords(dimensions=dimensions, line=line, **fonts))
    _dress(figure, 420)
    figure.update_layout(margin={"l": 60, "r": 75, "t": 80, "b": 30})
    return str(figure.to_json())


def _dimension(parameter: Hyperparameter, trials: list[TrialResult]) -> dict[str, Any]:
    label = parameter.word
    numbers = [parameter.number(parameter.of(trial)) for trial in trials]
    if isinstance(parameter.domain, Choices):
        ends = [0, max(1, len(parameter.domain.choices) - 1)]
        axis = {"label": label, "values": numbers, "range": ends, **_choices(parameter.domain)}
        return _with_none(axis)
    scale = math.log10 if parameter.log else float
    ticks = [scale(value) for value, _ in _steps(parameter)]
    return _with_none(
        {
            "label": f"{label}, log" if parameter.log else label,
            "values": [scale(number) for number in numbers],
            "range": [ticks[0], ticks[-1]],
            "tickvals": ticks,
            "ticktext": [text for _, text in _steps(parameter)],
        }
    )


def _with_none(axis: dict[str, Any]) -> dict[str, Any]:
    """The axis with a place below its range for the trials that have no such setting."""
    if not any(math.isnan(value) for value in axis["values"]):
        return axis
    low, high = axis["range"]
    none = low + NONE_AT * (high - low)
    return axis | {
        "values": [none if math.isnan(value) else value for value in axis["values"]],
        "range": [none, high],
        "tickvals": [none, *axis["tickvals"]],
        "ticktext": ["none", *axis["ticktext"]],
    }


def _add_trials(
    figure: Any, inputs: ReportInputs, state: str, x: list[float], first: bool = True, **where: int
) -> None:
    pairs = valued(inputs, state)
    if not pairs:
        return
    best = inputs.study.champion
    bars = _bars(inputs, state)
    groups = (
        (_NAMES[state], _LOOKS[state], [t.number != best for t, _ in pairs]),
        ("champion", _STAR, [t.number == best for t, _ in pairs]),
    )
    for name, look, kept in groups:
        shown = [(at, *pair, bar) for at, pair, bar, keep in zip(x, pairs, bars, kept, strict=True)
                 if keep]  # fmt: skip
        if shown:
            figure.add_scatter(
                x=[at for at, *_ in shown], y=[value for _, _, value, _ in shown], mode="markers",
                marker={**look, "opacity": 1.0}, name=name, legendgroup=name, showlegend=first,
                hoverinfo="text",
                text=[_hover(inputs, trial, value) for _, trial, value, _ in shown],
                error_y=_error(shown), **where,
            )  # fmt: skip


def _bars(inputs: ReportInputs, state: str) -> list[float]:
    """One population std over the seeds of each trial; 0 where it has one."""
    last = [last_metrics(trial, objective_of(inputs)) for trial, _ in valued(inputs, state)]
    return [pair[1] or 0.0 if pair else 0.0 for pair in last]


def _error(shown: list[tuple[float, TrialResult, float, float]]) -> dict[str, Any]:
    bars = [bar for *_, bar in shown]
    return {"array": bars, "thickness": 1, "width": 0} if any(bars) else {}


def _hover(inputs: ReportInputs, trial: TrialResult, value: float) -> str:
    lines = [f"trial {trial.number}, {trial.state} after {count_of(epochs_run(trial), 'epoch')}"]
    lines.append(f"{metric_title(objective_of(inputs))}: {value:.2f}")
    own = [(parameter, parameter.of(trial)) for parameter in hyperparameters(inputs.config)]
    lines += [
        f"{parameter.name}: {plain_number(value)}" for parameter, value in own if value is not None
    ]
    return "<br>".join(lines)


def _dress(figure: Any, height: int) -> None:
    figure.update_layout(
        template="plotly_white",
        height=height,
        font={"size": 13, "color": INK, "family": "system-ui, sans-serif"},
        margin={"l": 60, "r": 20, "t": 60, "b": 60},
        legend={"orientation": "h", "y": 1.03, "yanchor": "bottom", "x": 0, "xanchor": "left"},
    )
