"""Which validation sets rank settings as the test sets do, over all settings that were rerun."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from statistics import fmean
from typing import Any

import numpy as np

from rwood.config.base import digest
from rwood.config.benchmark import BenchmarkConfig, families_of
from rwood.config.run import what_trains
from rwood.config.search import apply
from rwood.config.study import FAMILIES, ID_ACCURACY
from rwood.evaluation.families import families_auroc, family_values
from rwood.report.inputs import ReportInputs
from rwood.report.table import Table, signed
from rwood.report.tables import seed_values
from rwood.results import EpochReport, RunResult

LEAST_SETTINGS = 8
"""Fewer settings have no rank correlation worth a table."""
_RESAMPLES = 2000
_MEANS = {"val/auroc": "all sets", FAMILIES: "all families", ID_ACCURACY: "ID accuracy"}
_PARTS = ("near", "far")

Array = Any
"""numpy's, of any shape."""


@dataclass(frozen=True)
class RerunSetting:
    """One setting: means over the seeds of its reruns, in percent."""

    reruns: Mapping[str, float]
    """What validation said of the encoders that were tested."""
    search: Mapping[str, float]
    """What validation said of the setting's complete trial; empty where it has none."""
    test: Mapping[str, float]
    """`near` and `far` AUROC."""


def rerun_settings(inputs: ReportInputs) -> list[RerunSetting]:
    """Every setting that was rerun: champion, base run, trials; each once."""
    benchmark, searched = inputs.config.benchmark, {}
    for trial in inputs.study.trials:
        if trial.state == "complete":
            run = apply(inputs.config.run, trial.params).model_dump(mode="json")
            searched[_key(run)] = _measures(trial.history, benchmark)
    groups: dict[str, dict[int, RunResult]] = {}
    for rerun in inputs.study.runs:
        groups.setdefault(_key(rerun.run), {})[rerun.seed] = rerun
    settings = []
    for key, by_seed in groups.items():
        rows = [_measures(run.history, benchmark) for run in by_seed.values()]
        reruns = {name: fmean(row[name] for row in rows) for name in rows[0]}
        runs = list(by_seed.values())
        test = {part: fmean(seed_values(runs, f"{part}ood")) for part in _PARTS}
        settings.append(RerunSetting(reruns, searched.get(key, {}), test))
    return settings


def ranking_table(settings: Sequence[RerunSetting]) -> Table | None:
    """Spearman's correlation of each validation measure with near and far AUROC of the reruns.

    Measured on the reruns, validation and test see the same encoders, so that their seeds agree
    too; measured in the search they are other trainings, as they are for whoever selects.
    """
    if len(settings) < LEAST_SETTINGS:
        return None
    names = dict.fromkeys(name for s in settings for name in (*s.reruns, *s.search))
    rows = tuple(_row(settings, name) for name in names)
    sources = ("reruns", "search", "its first")
    columns = ("validation", *(f"{source}, {part}" for source in sources for part in _PARTS))
    complete = sum(bool(s.search) for s in settings)
    caption = (
        f"Spearman's rank correlation with the mean test AUROC of {len(settings)} settings, and "
        f"its 95 % bootstrap interval over settings. Reruns: validation of the encoders that were "
        f"tested, mean over seeds. Search: validation of the {complete} complete trials; its "
        "first: the test AUROC of the trial that is best by it."
    )
    return Table(columns, rows, caption)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Spearman's correlation of paired values, and a 95 % bootstrap interval over the pairs.

    Percentiles of 2000 resamples, always the same ones; resamples of equal values do not count.
    """
    pairs_2N = np.array([first, second], dtype=float)
    count = pairs_2N.shape[1]
    drawn_BN = np.random.default_rng(0).integers(count, size=(_RESAMPLES, count))
    low, high = np.nanpercentile(_spearman(*pairs_2N[:, drawn_BN]), [2.5, 97.5])
    return float(_spearman(*pairs_2N)), float(low), float(high)


def _spearman(first: Array, second: Array) -> Array:
    """Along the last axis; NaN where all values are equal."""
    from scipy.stats import rankdata

    ranks = [rankdata(values, axis=-1) for values in (first, second)]
    a, b = (rank - rank.mean(-1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore"):
        return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


def _row(settings: Sequence[RerunSetting], name: str) -> tuple[str, ...]:
    cells, first = [name], settings[0]
    for source in ("reruns", "search"):
        known = [(getattr(s, source)[name], s) for s in settings if name in getattr(s, source)]
        for part in _PARTS:
            cells.append(_cell([value for value, _ in known], [s.test[part] for _, s in known]))
        if known:
            first = max(known, key=itemgetter(0))[1]
    return (*cells, *(f"{first.test[part]:.2f}" for part in _PARTS))


def _cell(values: Sequence[float], tested: Sequence[float]) -> str:
    if len(values) < LEAST_SETTINGS or 1 in (len(set(values)), len(set(tested))):
        return "/"
    correlation, low, high = rank_correlation(values, tested)
    return f"{signed(correlation)}\n{signed(low)} to {signed(high)}"


def _measures(history: Sequence[EpochReport], benchmark: BenchmarkConfig) -> dict[str, float]:
    """AUROC of each set, of each family of several, their means, and ID accuracy, in percent."""
    metrics = history[-1].metrics if history else {}
    by_set: dict[str, float] = {}
    families: dict[str, float] = {}
    for family, sets in families_of(benchmark).items():
        known = tuple(name for name in sets if f"val/{name}/auroc" in metrics)
        by_set |= {name: metrics[f"val/{name}/auroc"] for name in known}
        if len(known) > 1:
            families |= {family: families_auroc(family_values(metrics, {family: known}))}
    return by_set | families | {_MEANS[key]: metrics[key] for key in _MEANS if key in metrics}


def _key(run: Mapping[str, object]) -> str:
    """Names a setting: a run without its seed."""
    return digest({**what_trains(run), "seed": None})
