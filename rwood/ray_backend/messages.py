"""What Ray Train's controller needs of rwood; it imports no torch, so that a run starts sooner."""

from typing import Any

import ray
from ray.train.v2.api.callback import UserCallback
from ray.util.queue import Queue

from rwood.ray_backend.compat import ControllerCallback, WorkerGroupCallback

REPORT, NOTE, STARTED = "report", "note", "started"
"""Keys of what goes up: an epoch's report as JSON, a sentence for whoever watches, a beginning."""
FAILURE, KIND = "failure", "kind"
"""Keys of why a training failed, in a line, and of whose fault that was (`FailureKind`)."""
STORAGE = "storage"
"""Key of why results cannot be written, in a line: no training's fault."""
CONTROLLER = "controller"
"""Key of the controller's handle."""


class Relay(UserCallback):  # type: ignore[misc]
    """Passes reports on; runs in the controller's process."""

    def __init__(self, queue: Queue) -> None:
        """Keep where to pass them."""
        self.queue = queue

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        """Rank 0's report stands for all: every rank reports the same epoch."""
        self.queue.put(metrics[0])


class Handle(ControllerCallback):  # type: ignore[misc]
    """Sends up the controller's own handle, by which its group can be taken down.

    `test_launch` counts what is left after a stop.
    """

    def __init__(self, queue: Queue) -> None:
        """Keep where to send it."""
        self.queue = queue

    def after_controller_start(self, train_run_context: Any) -> None:
        """Called once, in the controller's process."""
        self.queue.put({CONTROLLER: ray.get_runtime_context().current_actor})


class NoDatasets(WorkerGroupCallback):  # type: ignore[misc]
    """Says that a run uses no Ray Data, whose two actors would cost more than a short run."""

    def before_init_train_context(self, workers: list[Any]) -> dict[str, list[None]]:
        """No provider of dataset shards for any worker."""
        return {"dataset_shard_provider": [None] * len(workers)}
