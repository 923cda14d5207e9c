"""Runs as a search leaves them, and a tracker on a store."""

from pathlib import Path
from typing import Any

from rwood.results import EpochReport
from rwood.tracked.run import TrackedInput, TrackedRun
from rwood.tracking.tracker import Tracker

SEARCH = TrackedRun(key="id/search", name="search", params={"epochs": 6}, state="running")
INPUTS = tuple(TrackedInput(f"set{n}", f"{n:04d}", f"val/{n}", 100) for n in range(3))


def a_trial(number: int, *, epochs: int = 6, state: str = "complete", **changes: Any) -> TrackedRun:
    """A trial of ten metrics an epoch."""
    began = 1000.0 + number
    history = tuple(
        EpochReport(
            epoch=epoch,
            time=began + epoch,
            metrics={f"val/set{n}/auroc": 80.0 + n + epoch / 8 for n in range(10)},
        )
        for epoch in range(1, epochs + 1)
    )
    fields: dict[str, Any] = {
        "parent": SEARCH.key,
        "params": {"loss.temperature": 0.1 + number},
        "tags": {"rwood.kind": "trial"},
        "metrics": {"objective": 90.0 + number, "seconds": 9.0} if state == "complete" else {},
        "finished": began + 10 if state == "complete" else None,
        "inputs": INPUTS,
        "links": {"rwood.search_run_id": SEARCH.key},
    }
    return TrackedRun(key=f"id/search/{number}", name=f"trial-{number:04d}", state=state,
                      started=began, history=history, **{**fields, **changes})  # fmt: skip


def a_tracker(uri: str, *runs: TrackedRun) -> Tracker:
    """A tracker with runs stated."""
    folder = Path(uri.removeprefix("sqlite:///")).parent
    tracker = Tracker(uri, "toy", folder / "mlartifacts")
    for run in runs:
        tracker.update(run)
    return tracker
