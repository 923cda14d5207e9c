"""A trial of several workers: a Tune actor that owns one Ray Train run and takes it down."""

import queue
import threading
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayError

from rwood.config.study import StudyConfig
from rwood.paths import StudyPaths
from rwood.ray_backend.job import trial_job
from rwood.ray_backend.launch import messages
from rwood.ray_backend.messages import FAILURE, KIND

_END: dict[str, Any] = {"done": True}


class GroupTrial(tune.Trainable):  # type: ignore[misc]
    """Passes the reports of a Ray Train run to Tune, an epoch a step.

    The run works in a thread of this actor. Whenever Tune ends the trial, it awaits `cleanup`,
    which returns once the run's workers are gone: a stopped trial frees them at once.
    """

    def setup(
        self, config: dict[str, Any], study: StudyConfig, folder: Path, data_root: Path
    ) -> None:
        """Start the run of a trial."""
        self._study, self._folder, self._data_root = study, folder, data_root
        self._start(config)

    def step(self) -> dict[str, Any]:
        """The next epoch's report, a note, a failure, or the end.

        Raises:
            RayError: the cluster lost something that the run needs; Tune starts the trial again.
        """
        message = self._inbox.get()
        if isinstance(message, RayError):
            raise message
        return message

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another trial in this actor."""
        self.cleanup()
        self._start(new_config)
        return True

    def cleanup(self) -> None:
        """End the run and wait until its workers are gone."""
        self._cancelled.set()
        self._thread.join()

    def _start(self, config: dict[str, Any]) -> None:
        self._inbox: queue.Queue[dict[str, Any] | RayError] = queue.Queue()
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(config,), daemon=True)
        self._thread.start()

    def _run(self, config: dict[str, Any]) -> None:
        study, inbox = self._study, self._inbox
        job = trial_job(study, config, folder=self._folder, data_root=self._data_root)
        try:
            for message in messages(
                job,
                study.cluster,
                name=f"{study.name}-{config['number']:04d}",
                storage=StudyPaths(self._folder).ray,
                cancelled=self._cancelled.is_set,
            ):
                inbox.put(message)
        except RayError as error:
            inbox.put(error)
        except Exception as error:  # Recorded by the driver as the trial's failure.
            inbox.put({FAILURE: str(error), KIND: "environment"})
        inbox.put(_END)
