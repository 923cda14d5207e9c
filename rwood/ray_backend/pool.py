"""Trainings beside each other: each of one worker on a process that the next training reuses."""

import contextlib
import queue
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from rwood.config.study import ClusterConfig
from rwood.errors import RunError, StorageError
from rwood.ray_backend import launch
from rwood.ray_backend.failures import cause_of_death, one_line
from rwood.ray_backend.job import Job, attempt
from rwood.ray_backend.messages import FAILURE, KIND, NOTE, REPORT, STARTED, STORAGE
from rwood.ray_backend.stalls import Progress
from rwood.ray_backend.worker import SoloWorker
from rwood.results import EpochReport
from rwood.text import count_of

_POLL_S = 0.2
_ENDED = "ended"
"""Key of the last message of a training, however it ended."""
_Messages = Generator[dict[str, Any], None, None]
_Asked = Callable[[], bool]


class TrainingPool:
    """Trains jobs, several at a time, from as many threads.

    Ray Train puts up four processes for every run. A worker alone has nobody to be put together
    with, so its process is kept, with torch loaded, for the training after it. Trainings of several
    workers are runs of Ray Train.
    """

    def __init__(self, cluster: ClusterConfig, storage: Path) -> None:
        """Start nothing yet."""
        self._cluster, self._storage = cluster, storage
        self._idle: list[Any] = []
        self._progress = Progress(cluster.stall_minutes)

    def fit(
        self,
        job: Job,
        *,
        name: str,
        on_report: Callable[[EpochReport], None],
        on_note: Callable[[str], None],
        cancelled: _Asked = lambda: False,
    ) -> None:
        """Train a job and return when it is done.

        A worker that dies, or reports nothing for too long, is replaced, and the training goes on
        from its last checkpoint.

        Args:
            job: what to train.
            name: stable name of the training.
            on_report: called here, in order, for each epoch.
            on_note: called here with what a worker has to say, a sentence.
            cancelled: asked several times a second; True ends the training.

        Raises:
            RunError: the training failed, or its workers died more often than `cluster.retries`.
            StorageError: a worker could not write its results.
        """
        if self._cluster.workers > 1:
            messages = launch.messages(
                job, self._cluster, name=name, storage=self._storage, cancelled=cancelled
            )
        else:
            messages = self._from_one_worker(job, name, cancelled)
        with contextlib.closing(messages):
            for message in messages:
                if REPORT in message:
                    report = EpochReport.model_validate_json(message[REPORT])
                    if report.epoch == job.run.epochs:
                        self._progress.end(name)  # A benchmark may follow, which takes its time.
                    on_report(report)
                if NOTE in message:
                    on_note(message[NOTE])
                if STORAGE in message:
                    raise StorageError(message[STORAGE])
                if FAILURE in message:
                    sentence = f"{name}: {message[FAILURE]}"
                    raise RunError(sentence, name=name, kind=message[KIND])

    def close(self) -> None:
        """End the processes that are kept."""
        while self._idle:
            _end(self._idle.pop())

    def _from_one_worker(self, job: Job, name: str, cancelled: _Asked) -> _Messages:
        """What a worker says, and those that take its place when it is lost."""
        for left in reversed(range(self._cluster.retries + 1)):
            try:
                yield from self._attempt(job, name, cancelled)
                return
            except _Lost as lost:
                if left == 0:
                    tries = count_of(self._cluster.retries + 1, "attempt")
                    raise RunError(
                        f"{name}: {lost}; given up after {tries}", name=name, kind="environment"
                    ) from lost
                yield {NOTE: f"{name}: {lost}; it goes on from its checkpoint"}

    def _attempt(self, job: Job, name: str, cancelled: _Asked) -> _Messages:
        """What one worker says, which is kept for the next training if it ends well."""
        actor, reusable = self._take(), False
        try:
            yield from self._messages(actor, job, name, cancelled)
            reusable = not cancelled()
        except RayTaskError as error:
            raise _Lost(one_line(error.cause)) from error
        except RayActorError as error:
            raise _Lost(cause_of_death(str(error))) from error
        finally:
            self._progress.end(name)
            if reusable:
                self._idle.append(actor)
            else:
                _end(actor)

    def _messages(self, actor: Any, job: Job, name: str, cancelled: _Asked) -> _Messages:
        """What the worker says, until it is done.

        Raises:
            RayTaskError: the training ended badly by what surrounds it.
            RayActorError: the worker died.
        """
        done = actor.train.remote(job)
        while not cancelled():
            batch = actor.messages.remote()
            while not ray.wait([batch], timeout=_POLL_S)[0]:
                if cancelled():
                    return
                if name in self._progress.stalled(time.monotonic()):
                    raise _Lost(self._progress.silence)
            for message in ray.get(batch):
                if STARTED in message:
                    self._progress.start(name, time.monotonic())
                if REPORT in message:
                    self._progress.report(name, time.monotonic())
                if _ENDED in message:
                    ray.get(done)
                    return
                yield message

    def _take(self) -> Any:
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return _Actor.options(
            num_cpus=self._cluster.cpus_per_worker, num_gpus=self._cluster.gpus_per_worker
        ).remote()


class _Lost(Exception):
    """A worker is gone, or is given up; its training may go on in another."""


class TrainingWorker:
    """A process that trains one job after another; one thread trains, another hands out."""

    def __init__(self) -> None:
        """Have nothing to say."""
        self._outbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def train(self, job: Job) -> None:
        """Do a job; what its setting does to it is said, what its surroundings do is raised."""
        try:
            attempt(job, SoloWorker(job.folder, self._outbox.put), self._outbox.put)
        finally:
            self._outbox.put({_ENDED: True})

    def messages(self) -> list[dict[str, Any]]:
        """What was said since the last time; waits for something."""
        waiting = self._outbox.qsize()  # Nobody else takes any.
        return [self._outbox.get() for _ in range(max(1, waiting))]


_Actor = ray.remote(max_concurrency=2)(TrainingWorker)


def _end(actor: Any) -> None:
    with contextlib.suppress(Exception):
        ray.kill(actor)
