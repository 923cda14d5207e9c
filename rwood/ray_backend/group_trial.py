"""A trial of several workers: a Tune actor that owns one Ray Train run and takes it down."""

import queue
import threading
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayError

from rwood.config.search import apply
from rwood.config.study import StudyConfig
from rwood.errors import RunError, StorageError
from rwood.paths import StudyPaths
from rwood.ray_backend.job import Job
from rwood.ray_backend.launch import fit
from rwood.ray_backend.messages import FAILURE, KIND, NOTE, REPORT, STARTED, STORAGE

_END: dict[str, Any] = {"done": True}


class GroupTrial(tune.Trainable):  # type: ignore[misc]
    """Passes the reports of a Ray Train run to Tune, an epoch a step.

    The run works in a thread of this actor. Whenever Tune ends the trial, it awaits `cleanup`,
    which returns once the run's workers are gone: a stopped trial frees them at once.
    """

    def setup(
        self,
        config: dict[str, Any],
        study: StudyConfig,
        folder: Path,
        data_root: Path,
    ) -> None:
        """Start the run of a trial."""
        self._study, self._folder, self._data_root = study, folder, data_root
        self._start(config)

    def step(self) -> dict[str, Any]:
        """The next epoch's report, a note, a failure, or the end.

        Raises:
            RayError: the cluster lost something that the run needs; Tune starts the trial again.
        """
        item = self._inbox.get()
        if isinstance(item, RayError):
            raise item
        return item

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
        inbox = self._inbox
        job = Job(
            run=apply(self._study.run, config["params"]),
            benchmark=self._study.benchmark,
            data_root=self._data_root,
            folder=StudyPaths(self._folder).trial(config["number"]).folder,
            threads=self._study.cluster.cpus_per_worker,
            deterministic=self._study.cluster.deterministic,
            seeds=self._study.search.seeds if self._study.search else (),
        )
        try:
            fit(
                job,
                self._study.cluster,
                name=f"{self._study.name}-{config['number']:04d}",
                storage=StudyPaths(self._folder).ray,
                on_report=lambda report: inbox.put({REPORT: report.model_dump_json()}),
                on_note=lambda text: inbox.put({NOTE: text}),
                on_start=lambda: inbox.put({STARTED: True}),
                cancelled=self._cancelled.is_set,
            )
        except RayError as error:
            inbox.put(error)
        except StorageError as error:
            inbox.put({STORAGE: str(error)})
        except Exception as error:  # Recorded by the driver as the trial's failure.
            kind = error.details.get("kind", "setting") if isinstance(error, RunError) else None
            inbox.put({FAILURE: str(error), KIND: kind or "environment"})
        inbox.put(_END)
