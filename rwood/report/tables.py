"""The benchmark's tables: OpenOOD's CSV, champion beside base beside published."""

from collections.abc import Sequence

from rwood.config.benchmark import METRICS, MINIMIZED, Metric
from rwood.config.study import is_minimized
from rwood.report.hyperparameters import CSV_TITLES
from rwood.report.inputs import ReportInputs
from rwood.report.paired import TEST, PairedDifference, p_value, paired_difference
from rwood.report.published import published
from rwood.report.table import Table, signed, with_std
from rwood.results import RunResult, mean_and_std

ACCURACIES = {"linear_probe": "LINEAR_PROBE", "nearest_mean": "NEAREST_MEAN", "classifier": "ACC"}
"""OpenOOD's ACC is a classifier's; it means nothing for a contrastive network."""
MEANS = frozenset({"nearood", "farood"})


def own_key(run: RunResult) -> str:
    """`<protocol>/<scorer>` of the run's own scorer, whose table comes first."""
    return next(iter(run.tables))


def key_words(key: str) -> str:
    """A table's key in words: which scores, and what counts as ID."""
    protocol, _, scorer = key.partition("/")
    full = ", full-spectrum (shifted ID sets count as ID)" if protocol == "fsood" else ""
    return f"{scorer} scores{full}"


def row_values(runs: Sequence[RunResult], key: str) -> dict[str, dict[Metric, dict[int, float]]]:
    """OOD set (near sets, `nearood`, far sets, `farood`) -> metric -> seed -> percent."""
    tables = {run.seed: run.tables[key].rows() for run in runs if key in run.tables}
    names = next(iter(tables.values()), {})
    return {
        name: {
            metric: {seed: float(getattr(rows[name], metric)) for seed, rows in tables.items()}
            for metric in METRICS
        }
        for name in names
    }


def seed_values(
    runs: Sequence[RunResult], row: str, metric: Metric = "auroc", key: str | None = None
) -> list[float]:
    """A metric on one row of the benchmark, a value a seed, in percent.

    By the runs' own scorer unless a key, `<protocol>/<scorer>`, says otherwise.
    """
    return list(row_values(runs, key or own_key(runs[0]))[row][metric].values())


def scorer_sentence(inputs: ReportInputs) -> str:
    """Which settings the validation sets chose for scorers that had several; empty if none had."""
    config = inputs.config.run.scorer
    parts = []
    for scorers in zip(*(run.scorers for run in inputs.runs), strict=False):
        name = scorers[0].name
        for setting, values in config.named(name).several.items():
            if len(values) > 1 and setting in scorers[0].chosen:
                chosen = ", ".join(f"{s.chosen[setting]:g}" for s in scorers)
                parts.append(f"{setting} of {name}: {chosen}")
    seeds = ", ".join(str(run.seed) for run in inputs.runs)
    return f"Chosen on the validation sets (seeds {seeds}): {'; '.join(parts)}." if parts else ""


def cell(values: Sequence[float]) -> str:
    """Mean ± population std over runs, a plain number for one run, `/` for none."""
    if not values:
        return "/"
    mean, std = mean_and_std(values)
    return with_std(mean, std if len(values) > 1 else None)


def mean_cell(runs: Sequence[RunResult], row: str, metric: Metric = "auroc") -> str:
    """The runs' mean ± std of a metric on one row of the benchmark, see `seed_values`."""
    return cell(seed_values(runs, row, metric))


def benchmark_csv(runs: Sequence[RunResult], key: str) -> str:
    """OpenOOD's CSV of runs of one label; two accuracies of the embedding stand beside ACC.

    The near and far rows are the mean and std of the runs' means, as OpenOOD computes them.
    """
    logits = any("classifier" in run.id_metrics for run in runs)
    measured = [name for name in ACCURACIES if logits or name != "classifier"]
    accuracies = tuple(
        cell([run.id_metrics[name] for run in runs if name in run.id_metrics]) for name in measured
    )
    rows = tuple(
        (name, *(cell(list(by_metric[metric].values())) for metric in METRICS), *accuracies)
        for name, by_metric in row_values(runs, key).items()
    )
    titles = (ACCURACIES[name] for name in measured)
    return Table(("", *CSV_TITLES.values(), *titles), rows).csv()


def benchmark_files(inputs: ReportInputs) -> dict[str, str]:
    """File name -> CSV: `benchmark.csv` is the champion's, one more a label, protocol, scorer."""
    out: dict[str, str] = {}
    for runs in inputs.groups.values() if inputs.runs else ():
        label, first = runs[0].label, own_key(runs[0])
        for key in runs[0].tables:
            if key != first:
                name = f"benchmark_{label}_{key.replace('/', '_')}.csv"
            else:
                name = "benchmark.csv" if label == inputs.label else f"benchmark_{label}.csv"
            out[name] = benchmark_csv(runs, key)
    return out


def own_table(runs: Sequence[RunResult], key: str, id_set: str | None, whose: str) -> Table:
    """Runs in the layout of the published tables, the published figure below each of ours.

    Nothing is published without an ID set. `whose` are the runs in words, e.g. `the champion`.
    """
    protocol = key.partition("/")[0]
    rows, noted = [], False
    for name, by_metric in row_values(runs, key).items():
        cells = []
        for metric, by_seed in by_metric.items():
            values = list(by_seed.values())
            known = published().get((id_set or "", protocol, name, metric))
            noted = noted or known is not None
            cells.append(cell(values))
            if known is not None:
                cells[-1] += f"\n{known}; {signed(mean_and_std(values)[0] - known.mean)}"
        rows.append((name, *cells))
    caption = (
        f"{whose.capitalize()}, {key_words(key)}: {_over(runs)}, in percent. FPR@95 "
        "counts OOD as positive (OpenOOD)."
    )
    if noted:
        caption += (
            " Beside each figure: the published one (ReweightOOD, Mahalanobis) and ours minus it."
        )
    return Table(("OOD set", *(_titled(m) for m in METRICS)), tuple(rows), caption, MEANS)


def accuracy_sentence(runs: Sequence[RunResult], whose: str) -> str:
    """Accuracies on the ID test set; empty where none was measured."""
    words = [
        f"{name.replace('_', ' ')} {cell([run.id_metrics[name] for run in runs])} %"
        for name in ACCURACIES
        if all(name in run.id_metrics for run in runs)
    ]
    return f"Accuracy of {whose}'s embedding on the ID test set: {', '.join(words)}." * bool(words)


def versus_table(
    champion: Sequence[RunResult],
    base: Sequence[RunResult],
    metrics: tuple[Metric, ...],
    key: str,
    base_key: str,
) -> Table:
    """Champion, base and the difference of their means, for some metrics, on every OOD set."""
    ours, theirs = row_values(champion, key), row_values(base, base_key)
    columns: list[str] = ["OOD set"]
    for metric in metrics:
        columns += [f"{_titled(metric)} champion", "base", "difference"]
    rows = []
    for name in [n for n in ours if n in theirs]:
        row = [name]
        for metric in metrics:
            a, b = list(ours[name][metric].values()), list(theirs[name][metric].values())
            row += [cell(a), cell(b), signed(mean_and_std(a)[0] - mean_and_std(b)[0])]
        rows.append(tuple(row))
    caption = f"Champion ({key}) and base run ({base_key}), in percent: {_over(champion)}"
    caption += "." if _over(champion) == _over(base) else f"; base: {_over(base)}."
    return Table(tuple(columns), tuple(rows), caption, MEANS)


def gain(
    champion: Sequence[RunResult], base: Sequence[RunResult], row: str, metric: Metric
) -> PairedDifference | None:
    """Champion minus base on one row of the benchmark, seed by seed, each with its own scorer."""
    if not champion or not base:
        return None
    ours, theirs = row_values(champion, own_key(champion[0])), row_values(base, own_key(base[0]))
    return paired_difference(ours[row][metric], theirs[row][metric])


def gain_table(champion: Sequence[RunResult], base: Sequence[RunResult]) -> Table | None:
    """What the search bought: paired differences on the near and far means; None unpaired."""
    rows, seeds = [], 0
    for name, title in (("nearood", "near"), ("farood", "far")):
        for metric in METRICS:
            difference = gain(champion, base, name, metric)
            if difference is None:
                return None
            seeds = len(difference.seeds)
            rows.append((f"{title} {_titled(metric)}", *gain_cells(difference, metric)))
    caption = (
        f"Champion minus base over the {seeds} seeds that both have, in percentage points: mean ± "
        f"population std of the differences. {TEST.capitalize()}; {len(rows)} tests, no "
        "correction for their number."
        if seeds > 1
        else "Champion minus base for one seed, in percentage points: too few for a test."
    )
    columns = ("metric", "difference", "95 % interval", "p", "reading")
    return Table(columns, tuple(rows), caption)


def gain_cells(difference: PairedDifference, metric: str) -> tuple[str, str, str, str]:
    """A paired difference as cells: difference, interval, p, reading."""
    if difference.interval is None:
        why = "one seed" if len(difference.seeds) == 1 else "cannot be tested"
        return signed(difference.mean), "n/a", "n/a", why
    low, high = difference.interval
    better = (difference.mean < 0) == is_minimized(metric)
    reading = ("better" if better else "worse") if difference.beyond_chance else "within noise"
    return (
        f"{signed(difference.mean)} ± {difference.std:.2f}",
        f"{signed(low)} to {signed(high)}",
        p_value(difference.p),
        reading,
    )


def _titled(metric: Metric) -> str:
    return f"{CSV_TITLES[metric]} {'↓' if metric in MINIMIZED else '↑'}"


def axis_title(metric: Metric) -> str:
    """A metric as an axis names it, and which end of it is better."""
    end = "lower" if metric in MINIMIZED else "higher"
    return f"{CSV_TITLES[metric]} (%), {end} is better"


def _over(runs: Sequence[RunResult]) -> str:
    if runs[0].label == "checkpoint":  # which does not say its seed
        several = f"mean ± population std over {len(runs)} checkpoints"
        return "one checkpoint" if len(runs) == 1 else several
    if len(runs) == 1:
        return f"one run (seed {runs[0].seed})"
    seeds = ", ".join(str(run.seed) for run in runs)
    return f"mean ± population std over {len(runs)} runs (seeds {seeds})"
