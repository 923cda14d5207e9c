"""What the server holds of a run, as far as it is known here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rwood.results import EpochReport

Row = tuple[str, float, float, int]
"""Metric, value, Unix seconds, step."""
STATUS = {
    "running": "RUNNING",
    "complete": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
    "interrupted": "SCHEDULED",
}
"""State of a run -> its status in MLflow."""
CHANGED = "rwood.now."
"""Begins the tag of a parameter that changed: MLflow keeps the first value of a parameter."""
_GONE = "no longer set"
"""The tag's text where the run has no such parameter any more."""
_BATCH = 800
"""Metrics of epochs in a request, which takes 1000 entries with parameters and tags (100 each)."""


@dataclass
class ServerRun:
    """What the server holds of a run: what it listed, and what it acknowledged since."""

    run_id: str
    tags: dict[str, str]
    status: str = "RUNNING"
    params: dict[str, str] = field(default_factory=dict)
    inputs: set[tuple[str, str]] = field(default_factory=set)
    """Name and digest of each."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The last value of each."""
    step: int = 0
    """Of the last epoch."""


def listed(run: Any) -> ServerRun:
    """What MLflow's listing says of a run."""
    inputs = {(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs}
    return ServerRun(
        run_id=str(run.info.run_id),
        tags=dict(run.data.tags),
        status=str(run.info.status),
        params=dict(run.data.params),
        inputs=inputs,
        metrics=dict(run.data.metrics),
        step=max((metric.step for metric in run.data.to_proto().metrics), default=0),
    )


def changed_params(
    params: Mapping[str, str], first: Mapping[str, str], tags: Mapping[str, str]
) -> dict[str, str]:
    """Tags that say how a run's parameters are now, where that is or was not their first value."""
    now = {**dict.fromkeys(first, _GONE), **params}
    return {
        CHANGED + key: text[:5000]
        for key, text in now.items()
        if CHANGED + key in tags or first.get(key, text) != text
    }


def current_params(run: Any) -> dict[str, str]:
    """Parameters of a run that MLflow listed, as they are now."""
    tags = {k.removeprefix(CHANGED): v for k, v in run.data.tags.items() if k.startswith(CHANGED)}
    return {key: text for key, text in (run.data.params | tags).items() if text != _GONE}


def _key(metric: str) -> str:
    """MLflow's page for system metrics shows those that begin with `system/`."""
    return metric.replace("sys/", "system/", 1) if metric.startswith("sys/") else metric


def batches(
    history: Sequence[EpochReport], final: Sequence[Row]
) -> Iterator[tuple[list[Row], int]]:
    """Rows for a request each, with the last epoch in it (0: none); at least one.

    An epoch is on the server with all its metrics or none. Final metrics come with the last
    epochs, where MLflow's client splits what is too much.
    """
    size = max(1, _BATCH // max([1, *(len(report.metrics) for report in history)]))
    for start in range(0, len(history) or 1, size):
        reports = history[start : start + size]
        rows = [(_key(n), v, r.time, r.epoch) for r in reports for n, v in r.metrics.items()]
        is_last = start + size >= len(history)
        yield [*rows, *(final if is_last else ())], reports[-1].epoch if reports else 0
