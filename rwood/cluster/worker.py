"""The Worker of the training loop on Ray: inside a Tune trial, or a rank of a Ray Train group."""

from dataclasses import dataclass, field
from pathlib import Path

import ray.train
import ray.train.torch
import torch
from ray import tune

from rwood.cluster.relay import REPORT
from rwood.results import EpochReport
from rwood.training.worker import best_device


@dataclass(frozen=True)
class TuneWorker:
    """The only process of a one-worker trial: a Tune actor."""

    folder: Path
    device: torch.device = field(default_factory=best_device)
    rank: int = 0
    world_size: int = 1

    def report(self, report: EpochReport) -> None:
        """Report to Tune; does not return if the scheduler stops the trial."""
        tune.report({REPORT: report.model_dump_json()})


@dataclass(frozen=True)
class TrainWorker:
    """A rank of a Ray Train worker group."""

    folder: Path

    @property
    def rank(self) -> int:
        """0..world_size-1."""
        return int(ray.train.get_context().get_world_rank())

    @property
    def world_size(self) -> int:
        """Processes in the group."""
        return int(ray.train.get_context().get_world_size())

    @property
    def device(self) -> torch.device:
        """The rank's GPU, or the CPU."""
        device: torch.device = ray.train.torch.get_device()
        return device

    def report(self, report: EpochReport) -> None:
        """Report to Ray Train; a barrier over the ranks."""
        ray.train.report({REPORT: report.model_dump_json()})
