"""The figure on top of a report: what the search saw, beside what the test sets say."""

from pathlib import Path

from rwood.report.figures import INK, canvas, dress, legend, write
from rwood.report.figures_scores import LOOKS, show_seeds
from rwood.report.figures_search import show_panel
from rwood.report.inputs import ReportInputs
from rwood.report.paired import p_value
from rwood.report.panels import history_panel
from rwood.report.table import signed
from rwood.report.tables import gain
from rwood.text import count_of

_ROWS = {"nearood": "near OOD", "farood": "far OOD"}


def draw_overview(inputs: ReportInputs, path: Path, *, stacked: bool = False) -> Path:
    """The search's history beside champion and base run on near and far OOD, seed by seed.

    Stacked, one is above the other, for narrow screens.
    """
    rows, columns = (2, 1) if stacked else (1, 2)
    ratios = {} if stacked else {"width_ratios": (1.25, 1)}
    figure, axes = canvas(3.5, rows, columns, **ratios)
    if stacked:
        figure.set_size_inches(4.2, 5.4)
    history, proof = axes.flat
    show_panel(history, history_panel(inputs))
    history.set_title("search: validation sets", fontsize=10.5, color=INK)
    seeds = count_of(len(inputs.runs), "fresh seed")
    for place, (label, runs) in enumerate(inputs.groups.items()):
        show_seeds(proof, runs, list(_ROWS), "auroc", (-0.14, 0.14)[place], LOOKS[place], label)
    dress(proof, "test AUROC (%)", "", f"proof: test sets, {seeds}")
    proof.set_yticks(range(len(_ROWS)), [_row_title(inputs, row) for row in _ROWS])
    proof.set_ylim(len(_ROWS) - 0.5, -0.5)
    # The star and the seeds' dots share the champion's colour.
    legend(figure, history, proof, loc="outside lower center", ncols=2 if stacked else 3,
           fontsize=7.8 if stacked else 9, columnspacing=1.0, handletextpad=0.6)  # fmt: skip
    return write(figure, path)


def _row_title(inputs: ReportInputs, row: str) -> str:
    """E.g. near OOD, +3.58, p 0.016."""
    difference = gain(inputs.runs, inputs.base_runs, row, "auroc")
    if difference is None:
        return _ROWS[row]
    p = "" if difference.p is None else f"\np {p_value(difference.p)}"
    return f"{_ROWS[row]}\n{signed(difference.mean)}{p}"
