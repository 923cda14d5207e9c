"""Studies side by side: settings that differ, results, paired tests, cost."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rwood.config.benchmark import Metric
from rwood.config.study import is_minimized
from rwood.report.hyperparameters import metric_title
from rwood.report.paired import TEST, PairedDifference, paired_difference
from rwood.report.table import Table, plain_number
from rwood.report.tables import axis_title, cell, gain_cells
from rwood.results import COMPARED, StudySummary
from rwood.text import count_of, duration

_ABSENT = "/"


@dataclass(frozen=True)
class Comparison:
    """Studies side by side; the first is the one that the others are tested against."""

    settings: Table
    """Settings that differ; a column a study."""
    results: Table
    """Objective, metrics over seeds, cost; a column a study."""
    tests: tuple[Table, ...] = field(default=())
    """Each later study minus the first, seed by seed; none where no seed matches."""

    def markdown(self) -> str:
        """All tables under headings."""
        parts = ["## Results", self.results.markdown(), "## Settings that differ"]
        parts.append(self.settings.markdown() if self.settings.rows else "None.")
        if self.tests:
            parts.append("## Paired differences")
            parts += [table.markdown() for table in self.tests]
        return "\n\n".join(parts) + "\n"

    def csv(self) -> str:
        """Results, then settings: a row a figure, a column a study."""
        return Table(self.results.columns, self.results.rows + self.settings.rows).csv()


def compare_studies(summaries: Sequence[StudySummary]) -> Comparison:
    """Set studies beside each other.

    Raises:
        ValueError: fewer than two studies.
    """
    if len(summaries) < 2:
        raise ValueError(f"a comparison needs two studies, got {len(summaries)}")
    first, *others = summaries
    names = tuple(summary.name for summary in summaries)
    seeds = (f"{s.name} {', '.join(map(str, sorted(s.seeds))) or 'none'}" for s in summaries)
    tests = (_test_table(other, first) for other in others)
    return Comparison(
        settings=Table(("setting", *names), _differing(summaries)),
        results=Table(
            ("", *names),
            _result_rows(summaries),
            f"Mean ± population std over seeds ({'; '.join(seeds)}).",
        ),
        tests=tuple(table for table in tests if table.rows),
    )


def _differing(summaries: Sequence[StudySummary]) -> tuple[tuple[str, ...], ...]:
    keys = dict.fromkeys(key for summary in summaries for key in summary.settings)
    rows = []
    for key in keys:
        shown = [plain_number(s.settings[key]) if key in s.settings else _ABSENT for s in summaries]
        exact = [repr(s.settings[key]) if key in s.settings else None for s in summaries]
        if len(set(exact)) > 1:
            if len(set(shown)) == 1:
                shown = [text or _ABSENT for text in exact]
            rows.append((key, *shown))
    return tuple(rows)


def _result_rows(summaries: Sequence[StudySummary]) -> tuple[tuple[str, ...], ...]:
    values = (_ABSENT if s.objective is None else f"{s.objective:.2f}" for s in summaries)
    rows = [
        ("objective", *(s.objective_name or _ABSENT for s in summaries)),
        ("its value on validation sets", *values),
    ]
    for metric in COMPARED:
        cells = [cell(list(s.by_seed(metric).values())) for s in summaries]
        if any(text != _ABSENT for text in cells):
            arrow = "↓" if is_minimized(metric) else "↑"
            rows.append((f"{metric_title(metric)} {arrow}", *cells))
    rows.append(("training time", *(duration(s.seconds) for s in summaries)))
    if any(s.gpu_seconds for s in summaries):
        rows.append(("GPU time", *(duration(s.gpu_seconds) for s in summaries)))
    return (*rows, ("epochs", *(str(s.epochs) for s in summaries)))


def _differences(study: StudySummary, first: StudySummary) -> dict[str, PairedDifference]:
    """Metric -> the study minus the first one, where both have a seed."""
    paired = {m: paired_difference(study.by_seed(m), first.by_seed(m)) for m in COMPARED}
    return {metric: difference for metric, difference in paired.items() if difference is not None}


def _test_table(study: StudySummary, first: StudySummary) -> Table:
    differences = _differences(study, first)
    seeds = max((len(difference.seeds) for difference in differences.values()), default=0)
    rows = [(metric_title(name), *gain_cells(d, name)) for name, d in differences.items()]
    caption = (
        f"{study.name} minus {first.name}, in percentage points, over "
        f"{count_of(seeds, 'matching seed')}; {TEST}, {count_of(len(rows), 'test')}, no correction "
        "for their number."
    )
    return Table(("metric", "difference", "95 % interval", "p", "reading"), tuple(rows), caption)


def as_plain(summaries: Sequence[StudySummary]) -> dict[str, object]:
    """The same comparison as plain JSON, numbers not rounded."""
    first, *others = summaries
    tests = [
        {"study": study.name, "minus": first.name, "metric": name, "test": TEST}
        | asdict(difference)
        for study in others
        for name, difference in _differences(study, first).items()
    ]
    return {"studies": [asdict(summary) for summary in summaries], "tests": tests}


def draw_comparison(summaries: Sequence[StudySummary], path: Path) -> Path:
    """Near and far FPR@95 and AUROC of every study: mean ± std and each seed, as a PNG."""
    from rwood.report.figures import BLUE, VERMILLION, canvas, dress, legend, show_means, write

    figure, axes = canvas(1.3 + 0.45 * len(summaries), 1, 2, sharey=True)
    metrics: tuple[Metric, ...] = ("fpr95", "auroc")
    looks = (("near", "o", VERMILLION, -0.15), ("far", "s", BLUE, 0.15))
    for axis, metric in zip(axes[0], metrics, strict=True):
        for part, marker, colour, shift in looks:
            seeds = {at + shift: list(summary.by_seed(f"{part}/{metric}").values())
                     for at, summary in enumerate(summaries)}  # fmt: skip
            measured = {height: values for height, values in seeds.items() if values}
            if measured:
                label = f"{part}-OOD: mean ± std (dots: seeds)"
                show_means(axis, measured, (marker, colour, colour), label)
        dress(axis, axis_title(metric), "")
        axis.set_yticks(range(len(summaries)), [summary.name for summary in summaries])
        axis.margins(x=0.08)
    axes[0, 0].set_ylim(len(summaries) - 0.5, -0.5)
    legend(figure, axes[0, 0], ncols=2)
    return write(figure, path)
