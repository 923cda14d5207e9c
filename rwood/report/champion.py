"""What came out, in the words of a model registry and of an experiment's description."""

import yaml

from rwood.config.benchmark import Metric
from rwood.config.run import RunConfig
from rwood.config.study import StudyConfig
from rwood.report.advice import advice
from rwood.report.finding import finding
from rwood.report.inputs import ReportInputs
from rwood.report.outcome import outcome_table
from rwood.report.table import in_markdown
from rwood.report.tables import mean_cell, own_key, own_table, versus_table
from rwood.results import StudyResult

LIMIT = 5000
"""Characters that a model registry keeps of a description."""


def champion_words(study: StudyConfig, record: StudyResult, run: RunConfig) -> str:
    """Question, chosen settings, what was reached beside what was published, and the whole run."""
    runs = tuple(record.of("champion"))
    table = own_table(runs, own_key(runs[0]), study.benchmark.published, "The champion")
    parts = [study.question]
    if record.champion_params:
        parts.append(f"Chosen:\n\n{_fenced(dict(record.champion_params))}")
    parts += [table.markdown(), f"The run:\n\n{_fenced({'run': run.model_dump(mode='json')})}"]
    while len("\n\n".join(parts)) > LIMIT and len(parts) > 1:
        parts.pop()
    return "\n\n".join(parts)


def result_words(study: StudyConfig, record: StudyResult) -> str:
    """Headline, finding, what to do, FPR@95 and AUROC per set of champion and base, in Markdown.

    Empty before the benchmark.
    """
    inputs = ReportInputs(record, study, {}, {})
    runs, base = inputs.runs, inputs.base_runs
    if not runs:
        return ""
    key = own_key(runs[0])
    table = (
        versus_table(runs, base, ("fpr95", "auroc"), key, own_key(base[0]))
        if base
        else own_table(runs, key, None, inputs.whose)
    )
    sentences = (f"{_headline(inputs)}.", finding(inputs), advice(inputs))
    words = [*map(in_markdown, sentences), table.markdown()]
    return "\n\n".join(filter(None, words))


def _headline(inputs: ReportInputs) -> str:
    """E.g. Near AUROC 98.71 ± 0.37 against 98.29 ± 0.85 (p 0.169), far AUROC ..."""
    rows = [row for row in outcome_table(inputs).rows if "AUROC" in row[0]]
    text = ", ".join(
        f"{row[0]} {row[1]}" + (f" against {row[2]} (p {row[4]})" if len(row) > 2 else "")
        for row in rows
    )
    return text[:1].upper() + text[1:]


def champion_tags(record: StudyResult) -> dict[str, str]:
    """Near and far AUROC and FPR@95 of the champion, to be read in a list of versions."""
    runs = record.of("champion")
    metrics: tuple[Metric, ...] = ("auroc", "fpr95")
    return {
        f"{part}/{metric}": mean_cell(runs, f"{part}ood", metric)
        for part in ("near", "far")
        for metric in metrics
    }


def _fenced(plain: dict[str, object]) -> str:
    return f"```yaml\n{yaml.safe_dump(plain, sort_keys=False)}```"
