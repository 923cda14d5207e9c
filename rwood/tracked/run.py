"""How a run should look in MLflow, and how runs are named there for ever."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rwood.results import EpochReport, StudyResult

Artifacts = tuple[tuple[Path, str | None], ...]


@dataclass(frozen=True)
class TrackedInput:
    """An image set that a run saw."""

    name: str
    digest: str
    """Of its name, list or folder; the pixels' own digest is in the packs."""
    role: str
    """`train`, `val`, `val/<set>`, `test`, `near/<set>`, `far/<set>` or `shifted/<set>`."""
    images: int | None = None
    """How many; None where nobody says."""


Inputs = tuple[TrackedInput, ...]


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
    inputs: Inputs = ()
    """Image sets, said when the run is made."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Tag -> key of another run; the tag gets that run's id as soon as the server has it."""
    experiment: Mapping[str, str] = field(default_factory=dict)
    """Tags that the whole experiment has once this run is sent."""


def search_key(record: StudyResult) -> str:
    """Key of the search."""
    return f"{record.id}/search"


def trial_key(record: StudyResult, number: int) -> str:
    """Key of a trial."""
    return f"{record.id}/search/{number}"


def benchmark_key(record: StudyResult) -> str:
    """Key of the benchmark."""
    return f"{record.id}/benchmark"


def setting_key(record: StudyResult, label: str) -> str:
    """Key of a setting over its seeds: of the base run, or of the trial that became champion."""
    trial = label == "champion" and record.champion is not None
    return f"{record.id}/benchmark/{f'trial-{record.champion:04d}' if trial else label}"


def rerun_key(record: StudyResult, label: str, digest: str) -> str:
    """Key of one seed of a rerun."""
    return f"{record.id}/benchmark/{label}-{digest}"
