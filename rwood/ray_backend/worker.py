"""The Worker of the training loop on Ray: an actor alone, or a rank of a Ray Train group."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.util.queue import Queue

from rwood.ray_backend import compat
from rwood.ray_backend.messages import NOTE, REPORT
from rwood.results import EpochReport


def own_device() -> torch.device:
    """The GPU that Ray gave this process; the CPU where it gave none.

    Ray does not hide the GPUs of a machine from a process that asked for none.
    """
    given = ray.get_runtime_context().get_accelerator_ids().get("GPU")
    return torch.device("cuda", 0) if given else torch.device("cpu")


@dataclass(frozen=True)
class SoloWorker:
    """The only process of a training: an actor of Tune's or of a pool."""

    folder: Path
    send: Callable[[dict[str, Any]], None]
    """Takes messages to the driver; does not return if the training is stopped."""
    device: torch.device = field(default_factory=own_device)
    rank: int = 0
    world_size: int = 1

    def report(self, report: EpochReport) -> None:
        """Send the epoch up."""
        self.send({REPORT: report.model_dump_json()})

    def note(self, text: str) -> None:
        """Send the sentence up."""
        self.send({NOTE: text})

    def preemption_requested(self) -> bool:
        """Whether Ray is draining this node: it was sent SIGTERM, or is about to be reclaimed."""
        return _is_draining(int(time.monotonic()))


@dataclass(frozen=True)
class TrainWorker:
    """A rank of a Ray Train worker group."""

    folder: Path
    queue: Queue
    """To the driver."""
    rank: int = field(default_factory=lambda: ray.train.get_context().get_world_rank())
    world_size: int = field(default_factory=lambda: ray.train.get_context().get_world_size())
    device: torch.device = field(default_factory=ray.train.torch.get_device)

    def report(self, report: EpochReport) -> None:
        """Report to Ray Train; a barrier over the ranks."""
        ray.train.report({REPORT: report.model_dump_json()})

    def note(self, text: str) -> None:
        """Send rank 0's sentence up."""
        if self.rank == 0:
            self.queue.put({NOTE: text})

    def preemption_requested(self) -> bool:
        """Whether Ray is draining the node of some rank; a barrier over the ranks."""
        return ray.train.get_preemption_info() is not None


@functools.lru_cache(maxsize=1)
def _is_draining(second: int) -> bool:
    """True if Ray is draining this node, asked once a second; False if it does not answer."""
    try:
        draining = compat.draining_nodes()
    except Exception:  # Whatever Ray's client raises: no training ends for an unanswered question.
        return False
    return ray.get_runtime_context().get_node_id() in draining
