"""Figures of the search: panels of trials, learning curves, importance."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rwood.report import figures
from rwood.report.hyperparameters import hyperparameters, metric_title
from rwood.report.inputs import ReportInputs
from rwood.report.panels import LOOKS, Panel

LETTERS = 24
"""Letters that fit beside a slice, as a line of its y label, and below it: ticks, else slanted."""


def draw_panels(panels: Sequence[Panel], path: Path) -> Path:
    """Panels in rows of three; if all have the same y axis, it is shared."""
    rows, columns = figures.grid_of(len(panels))
    shared = len({panel.y for panel in panels}) == 1
    height = 0.5 + 2.35 * rows if len(panels) > 1 else 3.7
    figure, axes = figures.canvas(height, rows, columns, sharey=shared)
    for place, (axis, panel) in enumerate(zip(axes.flat, panels, strict=False)):
        show_panel(axis, panel)
        if shared and place % columns:
            axis.set_ylabel("")
        if columns > 1 and sum(len(text) for _, text in panel.ticks) > LETTERS:
            axis.tick_params(axis="x", rotation=20)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    figures.legend(figure, *axes.flat, ncols=5)
    return figures.write(figure, path)


def show_panel(axis: Any, panel: Panel) -> None:
    """A panel on an axis; the legend is the caller's."""
    if panel.base is not None:
        axis.axvline(panel.base, label="base run", color=figures.INK, linestyle=":", linewidth=1.3)
    if panel.best:
        axis.step(*zip(*panel.best, strict=True), where="post", label="best so far",
                  color=figures.VERMILLION, linewidth=1.8, zorder=2)  # fmt: skip
    for points in panel.points:
        look = LOOKS[points.name]
        axis.scatter(points.x, points.y, s=look.size**2, marker=look.marker, facecolor=look.face,
                     edgecolor=look.edge, linewidths=1.2, zorder=3, label=points.name)  # fmt: skip
        if any(points.y_std):
            colour = look.edge if look.face == "none" else look.face
            axis.errorbar(points.x, points.y, points.y_std, points.x_std, fmt="none",
                          ecolor=colour, linewidth=1, alpha=0.4)  # fmt: skip
    lines = [part for line in panel.y.split("\n") for part in textwrap.wrap(line, LETTERS)]
    figures.dress(axis, panel.x, "\n".join(lines))
    if panel.ticks:
        axis.set_xticks(*zip(*panel.ticks, strict=True))
    axis.set_xlim(panel.limits)
    axis.set_ylim(panel.y_limits)


def draw_curves(inputs: ReportInputs, path: Path) -> Path:
    """The objective after every validated epoch of every trial."""
    figure, axes = figures.canvas(3.7)
    axis, objective = axes[0, 0], inputs.objective
    looks = {
        "complete": {"color": figures.BLUE, "linewidth": 1.1, "alpha": 0.65},
        "pruned": {"color": figures.GREY, "linewidth": 1.0, "alpha": 0.7, "linestyle": "--"},
        "failed": {"color": figures.INK, "linewidth": 1.0, "linestyle": ":"},
        "running": {"color": figures.BLUE, "linewidth": 1.1, "linestyle": "-."},
        "champion": {"color": figures.VERMILLION, "linewidth": 2.2, "zorder": 4},
    }
    for trial in inputs.trials:
        points = [(e.epoch, e.metrics[objective]) for e in trial.history if objective in e.metrics]
        if not points:
            continue
        name = "champion" if trial.number == inputs.study.champion else trial.state
        cut = {"marker": "v", "markevery": [-1], "markerfacecolor": "none"}
        axis.plot(*zip(*points, strict=True), label=name, **looks[name],
                  **(cut if name == "pruned" else {}))  # fmt: skip
    figures.dress(axis, "epoch", metric_title(objective))
    figures.integer_ticks(axis)
    figures.legend(figure, axis, ncols=5)
    return figures.write(figure, path)


def draw_importance(inputs: ReportInputs, path: Path) -> Path:
    """Share of the objective's variance that each setting explains (fANOVA)."""
    names = {parameter.key: parameter.name for parameter in hyperparameters(inputs.config)}
    shares = sorted(inputs.importance.items(), key=lambda item: item[1])
    figure, axes = figures.canvas(0.9 + 0.36 * len(shares))
    axis = axes[0, 0]
    bars = axis.barh([names.get(k, k) for k, _ in shares], [100 * v for _, v in shares],
                     color=figures.BLUE, height=0.62)  # fmt: skip
    axis.bar_label(bars, fmt="%.0f %%", padding=4, fontsize=9, color=figures.INK)
    figures.dress(axis, f"share of the variance of {metric_title(inputs.objective)[:-4]} (%)", "")
    axis.grid(False, axis="y")
    axis.margins(x=0.1)
    return figures.write(figure, path)
