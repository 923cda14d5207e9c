"""Records -> how they should look in MLflow. Pure: `tracking` sends what is stated here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

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
from rwood.spec.benchmark import METRICS
from rwood.spec.run import RunSpec
from rwood.spec.search import settings
from rwood.spec.study import StudySpec

Artifacts = tuple[tuple[Path, str | None], ...]


@dataclass(frozen=True)
class TrackedRun:
    """How a run should look in MLflow."""

    key: str
    """Names the run within its experiment, for ever."""
    name: str
    parent: str | None = None
    """Key of the parent run."""
    state: str = "running"
    """A trial's state, or `interrupted`."""
    started: float | None = None
    """Unix seconds."""
    finished: float | None = None
    params: Mapping[str, object] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    history: tuple[EpochReport, ...] = ()
    """Per-epoch metrics; the step is the epoch."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Final metrics, logged once, at step 0."""
    artifacts: Artifacts = ()
    """Files, each with a folder in the run's artifacts."""


def search_run(
    study: StudySpec, record: StudyResult, *, state: str, artifacts: Artifacts = ()
) -> TrackedRun:
    """The search as a whole: parent of the trials."""
    complete = {t.number: t for t in record.trials if t.state == "complete"}
    metrics = {"trials": float(len(record.trials)), "trials_complete": float(len(complete))}
    tags = {"rwood.kind": "search", "rwood.question": study.question}
    if record.champion is not None:
        tags["rwood.champion"] = str(record.champion)
        metrics["objective"] = complete[record.champion].objective or 0.0
    return TrackedRun(
        key=f"{record.id}/search",
        name="search",
        state=state,
        params=_params(study, study.run),
        tags=_tags(record) | tags | {"rwood.digest": record.trial_digest},
        metrics=metrics if state == "complete" else {},
        artifacts=artifacts,
    )


def trial_run(record: StudyResult, trial: TrialResult) -> TrackedRun:
    """A trial: child of the search."""
    tags = {"rwood.kind": "trial", "rwood.trial": str(trial.number), "rwood.digest": trial.digest}
    if trial.number == record.champion:
        tags["rwood.is_champion"] = "true"
    if trial.state == "stopped":
        tags["rwood.stopped_early"] = "true"
    if trial.error:
        tags["rwood.error"] = trial.error[:4000]
    return TrackedRun(
        key=f"{record.id}/search/{trial.number}",
        name=f"trial-{trial.number:04d}",
        parent=f"{record.id}/search",
        state=trial.state,
        started=trial.started,
        finished=trial.finished,
        params=trial.params,
        tags=_tags(record) | tags,
        history=trial.history,
        metrics={} if trial.objective is None else {"objective": trial.objective},
    )


def benchmark_run(
    study: StudySpec, record: StudyResult, *, state: str, artifacts: Artifacts = ()
) -> TrackedRun:
    """The benchmark as a whole: parent of the reruns, with means and standard deviations."""
    metrics: dict[str, float] = {}
    for label in sorted({run.label for run in record.runs}):
        each = [_flat(run) for run in record.of(label)]
        for name in each[0]:
            mean, std = mean_and_std([row[name] for row in each])
            metrics |= {f"{label}/{name}": mean, f"{label}/{name}/std": std}
    return TrackedRun(
        key=f"{record.id}/benchmark",
        name="benchmark",
        state=state,
        params=_params(study, study.run)
        | {f"champion.{k}": v for k, v in record.champion_params.items()},
        tags=_tags(record) | {"rwood.kind": "benchmark", "rwood.question": study.question},
        metrics=metrics,
        artifacts=artifacts,
    )


def rerun_run(
    study: StudySpec,
    record: StudyResult,
    *,
    label: str,
    run: RunSpec,
    digest: str,
    history: tuple[EpochReport, ...],
    result: RunResult | None = None,
    artifacts: Artifacts = (),
) -> TrackedRun:
    """One seed of a rerun: child of the benchmark; complete once it has a result."""
    return TrackedRun(
        key=f"{record.id}/benchmark/{label}-{digest}",
        name=f"{label}-seed{run.seed}",
        parent=f"{record.id}/benchmark",
        state="running" if result is None else "complete",
        finished=history[-1].time if result and history else None,
        params=_params(study, run),
        tags=_tags(record) | {"rwood.kind": "rerun", "rwood.label": label, "rwood.digest": digest},
        history=history,
        metrics={} if result is None else _flat(result) | {"seconds": result.seconds},
        artifacts=artifacts,
    )


def _flat(result: RunResult) -> dict[str, float]:
    """`near/<set>/<metric>`, `near/<metric>`, likewise far; `id/<accuracy>`.

    The first table (the run's own scorer, OOD protocol) has these names; others are prefixed by
    `<protocol>/<scorer>/`.
    """
    metrics = {f"id/{name}": value for name, value in result.id_metrics.items()}
    for index, (name, table) in enumerate(result.tables.items()):
        prefix = "" if index == 0 else f"{name}/"
        metrics |= {prefix + key: value for key, value in _flat_table(table).items()}
    return metrics


def _flat_table(table: BenchmarkTable) -> dict[str, float]:
    flat: dict[str, float] = {}
    for part, sets in (("near", table.near), ("far", table.far)):
        rows: dict[str, SetMetrics] = {f"{part}/{name}": row for name, row in sets.items()}
        rows[part] = mean_of(sets.values())
        for prefix, row in rows.items():
            flat |= {f"{prefix}/{metric}": getattr(row, metric) for metric in METRICS}
    return flat


def _params(study: StudySpec, run: RunSpec) -> dict[str, object]:
    return settings(run) | {"benchmark": study.benchmark.name}


def _tags(record: StudyResult) -> dict[str, str]:
    return {f"rwood.{name}": version for name, version in record.versions.items()}
