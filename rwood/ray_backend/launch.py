"""One training on Ray Train: its messages as they come, and nothing left behind when stopped."""

import contextlib
import os
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rwood.config.study import ClusterConfig
from rwood.ray_backend import compat
from rwood.ray_backend.failures import one_line
from rwood.ray_backend.job import Job, attempt
from rwood.ray_backend.messages import CONTROLLER, FAILURE, KIND, STORAGE, Handle, NoDatasets, Relay
from rwood.ray_backend.session import WATCHER
from rwood.ray_backend.worker import TrainWorker
from rwood.text import count_of, first_line

_POLL_S = 0.2


def messages(
    job: Job,
    cluster: ClusterConfig,
    *,
    name: str,
    storage: Path,
    cancelled: Callable[[], bool] = lambda: False,
) -> Generator[dict[str, Any], None, None]:
    """Train a job on a group of workers; what they say, in order, until it is done or has failed.

    A worker that dies is replaced and the group goes on from the last checkpoint. Whatever ends
    this early (`close`, `cancelled`) takes the group down; so does a message of a failure, which
    comes last.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    trainer = _trainer(job, cluster, name, storage, queue)
    outcome: list[BaseException] = []
    thread = threading.Thread(target=_run, args=(trainer, outcome), daemon=True, name=name)
    controller: Any = None
    failure: dict[str, Any] | None = None
    thread.start()
    try:
        while failure is None and not cancelled():
            alive = thread.is_alive()
            try:
                message = queue.get(timeout=_POLL_S)
            except Empty:
                if not alive:
                    break
                continue
            controller = message.get(CONTROLLER, controller)
            if STORAGE in message or FAILURE in message:
                failure = message
            else:
                yield message
    finally:
        if thread.is_alive():
            _abort(controller, queue)
            thread.join(timeout=10)
        queue.shutdown(force=True)
    if failure is not None:
        yield failure
    elif outcome:
        yield {FAILURE: _why(outcome[0], cluster.retries), KIND: "environment"}


def _trainer(
    job: Job, cluster: ClusterConfig, name: str, storage: Path, queue: Queue
) -> TorchTrainer:
    gpu = cluster.gpus_per_worker > 0
    resources: dict[str, float] = {"CPU": cluster.cpus_per_worker}
    if gpu:
        resources["GPU"] = cluster.gpus_per_worker
    return _Trainer(
        _loop,
        train_loop_config={"job": job, "queue": queue},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=cluster.workers, use_gpu=gpu, resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=str(storage),
            failure_config=ray.train.FailureConfig(max_failures=cluster.retries),
            callbacks=[Relay(queue), Handle(queue)],
        ),
    )


class _Trainer(TorchTrainer):  # type: ignore[misc]
    """A TorchTrainer without the actors that a run here has no use for."""

    def _create_default_callbacks(self) -> list[Any]:
        shown = os.environ.get(WATCHER) != "0"  # a private Ray has no dashboard
        kept = compat.needed_callbacks(super()._create_default_callbacks(), with_dashboard=shown)
        return [*kept, NoDatasets()]


def _loop(config: dict[str, Any]) -> None:
    """Runs on every rank; what it raises makes the group fall, which is then put up again."""
    job, queue = config["job"], config["queue"]
    attempt(job, TrainWorker(job.folder, queue), queue.put)


def _why(error: BaseException, retries: int) -> str:
    """Why Ray Train gave up, in a line: the code's own error, or that workers died."""
    raised = compat.own_errors(error)
    if raised:
        return one_line(raised[0])
    return f"its workers died more than {count_of(retries, 'time')}: {first_line(error)}"


def _run(trainer: TorchTrainer, outcome: list[BaseException]) -> None:
    try:
        trainer.fit()
    except BaseException as error:
        outcome.append(error)


def _abort(controller: Any, queue: Queue) -> None:
    """Take down the controller, its workers and their placement group, now."""
    while controller is None:
        try:
            controller = queue.get(timeout=10).get(CONTROLLER)
        except Empty:
            return
    with contextlib.suppress(ray.exceptions.RayError):
        ray.get(controller.abort.remote(), timeout=10)
