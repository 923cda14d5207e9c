"""What the training loop knows of its surroundings: seven members, with or without Ray."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import torch
import torch.distributed as dist

from rwood.results import EpochReport

T = TypeVar("T")


class Worker(Protocol):
    """One of the processes that train a run together."""

    @property
    def rank(self) -> int:
        """0..world_size-1; rank 0 scores and writes."""

    @property
    def world_size(self) -> int:
        """How many processes share the batch."""

    @property
    def device(self) -> torch.device:
        """Where this process computes."""

    @property
    def folder(self) -> Path:
        """The run's own folder, the same for all ranks; checkpoints live here."""

    def report(self, report: EpochReport) -> None:
        """Send an epoch's metrics up; every rank calls it. May not return if the run is stopped."""

    def note(self, text: str) -> None:
        """Say a sentence to whoever watches; every rank calls it and one is heard."""

    def preemption_requested(self) -> bool:
        """Whether a rank's machine is about to be taken away; all ranks ask, and hear the same."""


@dataclass(frozen=True)
class LocalWorker:
    """The only process of a run, without Ray."""

    folder: Path
    device: torch.device = field(default_factory=lambda: best_device())
    on_report: Callable[[EpochReport], None] = lambda report: None
    rank: int = 0
    world_size: int = 1
    on_note: Callable[[str], None] = lambda text: warnings.warn(text, RuntimeWarning, stacklevel=3)

    def report(self, report: EpochReport) -> None:
        """Hand the report to `on_report`."""
        self.on_report(report)

    def note(self, text: str) -> None:
        """Hand the sentence to `on_note`."""
        self.on_note(text)

    def preemption_requested(self) -> bool:
        """Never: nobody says so."""
        return False


def of_rank_0(value: T, worker: Worker) -> T:
    """The value that rank 0 has, a plain one (collective)."""
    shared = [value]
    if worker.world_size > 1:
        dist.broadcast_object_list(shared, 0, device=worker.device)
    return shared[0]


def best_device() -> torch.device:
    """The first GPU this process may use, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
