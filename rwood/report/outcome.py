"""What a finished study found, for a terminal: the sentence and four rows of figures."""

from rwood.config.benchmark import Metric
from rwood.config.study import StudyConfig
from rwood.report.advice import advice
from rwood.report.cautions import cautions
from rwood.report.finding import finding
from rwood.report.inputs import ReportInputs
from rwood.report.paired import p_value
from rwood.report.table import Table, signed
from rwood.report.tables import gain, mean_cell
from rwood.results import StudyResult

_ROWS: tuple[tuple[str, str, Metric], ...] = (
    ("near AUROC", "nearood", "auroc"),
    ("near FPR@95", "nearood", "fpr95"),
    ("far AUROC", "farood", "auroc"),
    ("far FPR@95", "farood", "fpr95"),
)


def outcome(study: StudyConfig, record: StudyResult) -> str:
    """The finding, what to do, champion beside base run, cautions; empty before the benchmark."""
    inputs = ReportInputs(record, study, {}, {})
    if not inputs.runs:
        return ""
    parts = [finding(inputs), advice(inputs), outcome_table(inputs).text(), *cautions(inputs)]
    return "\n\n".join(filter(None, parts))


def outcome_table(inputs: ReportInputs) -> Table:
    """Near and far means over the seeds; the base run and the difference where both were rerun."""
    runs, base = inputs.runs, inputs.base_runs if inputs.study.champion_params else []
    columns = ("%", "champion", "base run", "difference", "p") if base else ("%", "base run")
    if inputs.study.champion_params and not base:
        columns = ("%", "champion")
    rows = tuple(
        (title, mean_cell(runs, row, metric), *(_beside(inputs, row, metric) if base else ()))
        for title, row, metric in _ROWS
    )
    return Table(columns, rows)


def _beside(inputs: ReportInputs, row: str, metric: Metric) -> tuple[str, str, str]:
    difference = gain(inputs.runs, inputs.base_runs, row, metric)
    mean = mean_cell(inputs.base_runs, row, metric)
    return (
        (mean, "/", "/")
        if difference is None
        else (mean, signed(difference.mean), p_value(difference.p))
    )
