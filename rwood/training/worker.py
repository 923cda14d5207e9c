"""What the training loop knows of its surroundings: five members, with or without Ray."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from rwood.results import EpochReport


class Worker(Protocol):
    """One of the processes that train a run together."""

    @property
    def rank(self) -> int:
        """0..world_size-1; rank 0 validates and writes."""

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


@dataclass(frozen=True)
class LocalWorker:
    """The only process of a run, without Ray."""

    folder: Path
    device: torch.device = field(default_factory=lambda: best_device())
    on_report: Callable[[EpochReport], None] = lambda report: None
    rank: int = 0
    world_size: int = 1

    def report(self, report: EpochReport) -> None:
        """Hand the report to `on_report`."""
        self.on_report(report)


def best_device() -> torch.device:
    """The first GPU this process may use, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
