"""One training on Ray Train: its reports as they come, and nothing left behind when stopped."""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rwood.config.study import ClusterConfig
from rwood.errors import RunError, RwoodError, StorageError
from rwood.ray_backend import compat
from rwood.ray_backend.failures import kind_of, one_line
from rwood.ray_backend.job import Job, work
from rwood.ray_backend.messages import (
    CONTROLLER,
    FAILURE,
    KIND,
    NOTE,
    REPORT,
    STARTED,
    STORAGE,
    Handle,
    NoDatasets,
    Relay,
)
from rwood.ray_backend.session import WATCHER
from rwood.ray_backend.worker import TrainWorker
from rwood.results import EpochReport
from rwood.text import count_of

_POLL_S = 0.2


def fit(
    job: Job,
    cluster: ClusterConfig,
    *,
    name: str,
    storage: Path,
    on_report: Callable[[EpochReport], None],
    on_note: Callable[[str], None],
    on_start: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Train a job on a group of workers and return when it is done.

    A worker that dies is replaced and the group goes on from the last checkpoint. Whatever ends
    this call early (an exception in `on_report`, `cancelled`) takes the group down.

    Args:
        job: what to train.
        cluster: workers, resources, retries.
        name: stable name of the run on Ray.
        storage: folder for Ray Train's own state, visible from every node.
        on_report: called here, in order, for each epoch.
        on_note: called here with what a worker has to say, a sentence.
        on_start: called here when the workers begin, for the first time or again.
        cancelled: asked several times a second; True ends the training.

    Raises:
        RunError: the training failed, or its workers died more often than `cluster.retries`.
        StorageError: a worker could not write its results.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    trainer = _trainer(job, cluster, name, storage, queue)
    outcome: list[BaseException] = []
    thread = threading.Thread(target=_run, args=(trainer, outcome), daemon=True, name=name)
    controller: Any = None
    failure: RwoodError | None = None
    thread.start()
    try:
        while not cancelled():
            alive = thread.is_alive()
            try:
                item = queue.get(timeout=_POLL_S)
            except Empty:
                if not alive:
                    break
                continue
            if STARTED in item:
                on_start()
            if REPORT in item:
                on_report(EpochReport.model_validate_json(item[REPORT]))
            if NOTE in item:
                on_note(item[NOTE])
            controller = item.get(CONTROLLER, controller)
            failure = _failure(item, name)
            if failure is not None:
                break
    finally:
        if thread.is_alive():
            _abort(controller, queue)
            thread.join(timeout=10)
        queue.shutdown(force=True)
    if failure is not None:
        raise failure
    if outcome:
        raise RunError(
            f"{name}: {_ended(outcome[0], cluster.retries)}", name=name, kind="environment"
        ) from outcome[0]


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
    """Runs on every rank."""
    job: Job = config["job"]
    worker = TrainWorker(job.folder, config["queue"])
    if worker.rank == 0:
        config["queue"].put({STARTED: True})
    try:
        work(job, worker)
    except StorageError as error:
        config["queue"].put({STORAGE: str(error)})
    except Exception as error:
        # What the setting itself does would only repeat itself. Else a peer may have died first, or
        # the machine is at fault: the group falls and is put up again.
        own = isinstance(error, RwoodError | torch.OutOfMemoryError | MemoryError)
        if kind_of(error) == "environment" or (worker.world_size > 1 and not own):
            raise
        config["queue"].put({FAILURE: one_line(error), KIND: kind_of(error)})


def _failure(item: dict[str, Any], name: str) -> RwoodError | None:
    """What a rank said of its end, if it did."""
    if STORAGE in item:
        return StorageError(item[STORAGE])
    return RunError(item[FAILURE], name=name, kind=item[KIND]) if FAILURE in item else None


def _ended(error: BaseException, retries: int) -> str:
    """Why Ray Train gave up, in a line: the code's own error, or that workers died."""
    own = compat.own_errors(error)
    if own:
        return one_line(own[0])
    lines = str(error).strip().splitlines()
    why = lines[0] if lines else type(error).__name__
    return f"its workers died more than {count_of(retries, 'time')}: {why}"


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
