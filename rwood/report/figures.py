"""What every static figure shares: size, colours (Okabe-Ito, safe for colour-blind eyes), dress."""

from pathlib import Path
from typing import Any

from rwood.storage import written

DPI = 150
WIDTH = 7.2
"""Inches; 1,080 pixels."""
INK, GREY, PALE = "#222222", "#6e6e6e", "#b8b8b8"
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, INDIGO = "#E69F00", "#56B4E9", "#332288"
NEAR_COLOURS = (VERMILLION, ORANGE, PURPLE)
FAR_COLOURS = (BLUE, GREEN, SKY, INDIGO, INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def canvas(height: float, rows: int = 1, columns: int = 1, **grid: Any) -> tuple[Any, Any]:
    """A figure of the report's width and its axes as a (rows, columns) array.

    The figure is a plain object: pyplot and its global state are not touched.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained", facecolor="white")
    return figure, figure.subplots(rows, columns, squeeze=False, **grid)


def dress(axis: Any, x: str, y: str, title: str = "") -> None:
    """Name the axes with their units, drop the box, add a light grid."""
    axis.set_xlabel(x, color=INK, fontsize=10)
    axis.set_ylabel(y, color=INK, fontsize=10)
    axis.set_title(title, color=INK, fontsize=10.5)
    axis.tick_params(labelsize=9, color=GREY, labelcolor=INK)
    axis.grid(True, color="#e6e6e6", linewidth=0.7)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(GREY)


def key(axis: Any, **where: Any) -> None:
    """A legend without a frame, if anything is labelled."""
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        axis.legend(handles, labels, fontsize=9, frameon=False, **where)


def log_ticks(axis: Any) -> None:
    """A logarithmic x axis whose ticks are plain numbers: 0.05, 1, 200."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_xscale("log")
    low, high = axis.get_xlim()
    steps = (1.0,) if high / low > 300 else (1.0, 2.0, 5.0) if high / low < 50 else (1.0, 3.0)
    axis.xaxis.set_major_locator(LogLocator(subs=steps))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def write(figure: Any, path: Path) -> Path:
    """Write the figure as PNG and say where."""
    with written(path) as file:
        figure.savefig(file, format="png")
    return path


def set_colour(part: str, index: int) -> str:
    """Warm for near sets, cool for far ones."""
    colours = NEAR_COLOURS if part == "near" else FAR_COLOURS
    return colours[index % len(colours)]
