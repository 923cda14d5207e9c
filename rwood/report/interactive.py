"""Figures of the search as plotly draws them, as JSON for the page.

`optuna.visualization` shows complete trials alone, without champion, base run or std, and the
settings of a trial are not where the pointer rests; so panels are drawn here.
"""

from collections.abc import Sequence
from typing import Any

from rwood.config.study import is_minimized
from rwood.report.figures import INK, VERMILLION, grid_of
from rwood.report.hyperparameters import Hyperparameter, hyperparameters, metric_title
from rwood.report.inputs import ReportInputs
from rwood.report.panels import LOOKS, Look, Panel, valued
from rwood.report.trials import epochs_run
from rwood.results import TrialResult

_PIXELS = 1.45
"""Of a figure on the page, for each point of a printed one."""


def plot_panels(panels: Sequence[Panel]) -> str:
    """Panels in rows of three; the legend acts on all, zoom too if they have the same y axis."""
    from plotly.subplots import make_subplots

    rows, columns = grid_of(len(panels))
    shared = len({panel.y for panel in panels}) == 1
    figure = make_subplots(rows, columns, shared_yaxes="all" if shared else False,
                           horizontal_spacing=0.05 if shared else 0.12,
                           vertical_spacing=0.36 / rows)  # fmt: skip
    named: set[str] = set()
    for place, panel in enumerate(panels):
        where = {"row": place // columns + 1, "col": place % columns + 1}
        _add_panel(figure, panel, named, where)
        title = panel.y.replace("\n", "<br>") if where["col"] == 1 or not shared else None
        figure.update_yaxes(title=title, range=panel.y_limits, **where)
    _dress(figure, 160 + 240 * rows)
    return str(figure.to_json())


def _add_panel(figure: Any, panel: Panel, named: set[str], where: dict[str, int]) -> None:
    """Draw a panel; what stands in the legend already is in `named`."""
    if panel.best:
        x, y = zip(*panel.best, strict=True)
        line = {"shape": "hv", "color": VERMILLION}
        figure.add_scatter(x=x, y=y, mode="lines", name="best so far", line=line, hoverinfo="skip",
                           **where)  # fmt: skip
    for points in panel.points:
        figure.add_scatter(
            x=points.x, y=points.y, error_x=_bars(points.x_std), error_y=_bars(points.y_std),
            mode="markers", marker=_marker(LOOKS[points.name]), text=points.texts, hoverinfo="text",
            name=points.name, legendgroup=points.name, showlegend=points.name not in named, **where,
        )  # fmt: skip
        named.add(points.name)
    if panel.base is not None:
        figure.add_vline(panel.base, line={"color": INK, "dash": "dot", "width": 1.3}, **where)
    figure.update_xaxes(title=panel.x.replace("\n", "<br>"), range=panel.limits, **where)
    if panel.ticks:
        at, texts = zip(*panel.ticks, strict=True)
        figure.update_xaxes(tickvals=at, ticktext=texts, **where)


def _bars(std: Sequence[float]) -> dict[str, Any]:
    return {"array": std, "thickness": 1, "width": 0} if any(std) else {}


def _marker(look: Look) -> dict[str, Any]:
    hollow = look.face == "none"
    return {
        "symbol": f"{look.symbol}-open" if hollow else look.symbol,
        "color": look.edge if hollow else look.face,
        "size": _PIXELS * look.size,
        "line": {"color": look.edge, "width": 1},
        "opacity": 1.0,
    }


def plot_parallel(inputs: ReportInputs) -> str:
    """Parallel coordinates; dragging along an axis keeps the trials within."""
    from plotly import graph_objects as go

    pairs = valued(inputs, "pruned") + valued(inputs, "complete")
    trials, values = [trial for trial, _ in pairs], [value for _, value in pairs]
    dimensions = [_dimension(parameter, trials) for parameter in hyperparameters(inputs.config)]
    epochs = [epochs_run(trial) for trial in trials]
    if len(set(epochs)) > 1:
        dimensions.append({"label": "epochs run", "values": epochs})
    objective = metric_title(inputs.objective).replace("validation ", "")
    dimensions.append({"label": objective, "values": values})
    lighter_first = not is_minimized(inputs.objective)
    line = {"color": values, "colorscale": "Viridis", "reversescale": lighter_first}
    hidden = {"color": "rgba(0,0,0,0)"}
    fonts = {"labelfont": {"size": 13}, "tickfont": {"size": 12}, "rangefont": hidden}
    figure = go.Figure(go.Parcoords(dimensions=dimensions, line=line, **fonts))
    _dress(figure, 420)
    figure.update_layout(margin={"l": 60, "r": 75, "t": 80, "b": 30})
    return str(figure.to_json())


def _dimension(parameter: Hyperparameter, trials: Sequence[TrialResult]) -> dict[str, Any]:
    """A setting's axis, from the low end of its range (0) to the high end (1)."""
    at, texts = zip(*parameter.ticks(5, trials), strict=True)
    return {
        "label": f"{parameter.word}, log" if parameter.log else parameter.word,
        "values": [parameter.share(parameter.of(trial)) for trial in trials],
        "range": [min(0.0, at[0]), 1.0],
        "tickvals": at,
        "ticktext": texts,
    }


def _dress(figure: Any, height: int) -> None:
    figure.update_layout(
        template="plotly_white",
        height=height,
        font={"size": 13, "color": INK, "family": "system-ui, sans-serif"},
        margin={"l": 60, "r": 20, "t": 60, "b": 60},
        legend={"orientation": "h", "y": 1.03, "yanchor": "bottom", "x": 0, "xanchor": "left"},
    )
