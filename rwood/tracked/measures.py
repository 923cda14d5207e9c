"""Final metrics of a run: what was measured, and what it cost."""

import itertools
import statistics
from collections.abc import Mapping, Sequence

from rwood.config.benchmark import METRICS
from rwood.config.study import ClusterConfig
from rwood.results import (
    BenchmarkTable,
    EpochReport,
    RunResult,
    SetMetrics,
    StudyResult,
    TrialResult,
    mean_and_std,
    mean_of,
)

MEANS = tuple(f"{part}/{metric}" for part in ("near", "far") for metric in METRICS[:2])
"""FPR@95 and AUROC over the near and over the far sets."""
_TIMES, _LEAST_S, _LEAST_FIRST_S = 10, 60.0, 600.0
"""An epoch that took this many times the median, and this long, spans a stop of the study; the
first one waits for data and the compiler."""
_TRAINED = "sys/train_seconds"


def flat(result: RunResult) -> dict[str, float]:
    """`near/<set>/<metric>`, `near/<metric>`, likewise far; `id/<accuracy>`; `scorer/...`.

    The first table (the run's own scorer, OOD protocol) has these names; others are prefixed by
    `<protocol>/<scorer>/`.
    """
    metrics = {f"id/{name}": value for name, value in result.id_metrics.items()}
    for scorer in result.scorers:
        metrics |= {f"scorer/{scorer.name}/{key}": v for key, v in scorer.chosen.items()}
    for index, (name, table) in enumerate(result.tables.items()):
        prefix = "" if index == 0 else f"{name}/"
        metrics |= {prefix + key: value for key, value in _flat_table(table).items()}
    return metrics


def over_seeds(each: Sequence[Mapping[str, float]], prefix: str = "") -> dict[str, float]:
    """Mean of every metric that all seeds have, and its population std as `<metric>/std`."""
    metrics: dict[str, float] = {}
    for name in each[0] if each else ():
        if all(name in row for row in each):
            mean, std = mean_and_std([row[name] for row in each])
            metrics |= {f"{prefix}{name}": mean, f"{prefix}{name}/std": std}
    return metrics


def _flat_table(table: BenchmarkTable) -> dict[str, float]:
    flat: dict[str, float] = {}
    for part, sets in (("near", table.near), ("far", table.far)):
        rows: dict[str, SetMetrics] = {f"{part}/{name}": row for name, row in sets.items()}
        rows[part] = mean_of(sets.values())
        for prefix, row in rows.items():
            flat |= {f"{prefix}/{metric}": getattr(row, metric) for metric in METRICS}
    return flat


def cost(record: StudyResult, history: Sequence[EpochReport], seconds: float) -> dict[str, float]:
    """What a training cost; GPUs count as long as they were held."""
    config = ClusterConfig.model_validate(record.config.get("cluster", {}))
    gpus = config.workers * config.gpus_per_worker
    return {"epochs": float(len(history)), "seconds": seconds, "gpu_seconds": seconds * gpus}


def held_seconds(trial: TrialResult) -> float:
    """Seconds that a trial held its workers: less the time in which the study was not running."""
    ends = [trial.started, *(report.time for report in trial.history)]
    if trial.finished is not None:
        ends.append(max(trial.finished, ends[-1]))
    gaps = [end - begin for begin, end in itertools.pairwise(ends)]
    first = without_stops(gaps, trial.history, _LEAST_FIRST_S)[:1]
    return sum(first + without_stops(gaps, trial.history)[1:])


def without_stops(
    gaps: Sequence[float], history: Sequence[EpochReport], least_s: float = _LEAST_S
) -> list[float]:
    """Seconds between reports; one that spans a stop of the study counts as the median one.

    So does one in which a clock was set back, or after which a node with another clock went on.
    Beside a few gaps, of which one may be a stop, the median takes what the first epoch trained.
    """
    trained = [report.metrics[_TRAINED] for report in history[:1] if _TRAINED in report.metrics]
    usual = statistics.median_low([gap for gap in gaps if gap >= 0] + trained or [0.0])
    limit = max(_TIMES * usual, least_s)
    return [gap if 0 <= gap <= limit else usual for gap in gaps]
