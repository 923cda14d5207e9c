"""The Ray that a study's trainings run on: connected at the first need, for all stages."""

from contextlib import ExitStack
from pathlib import Path

from rwood.config.study import StudyConfig
from rwood.data.image_sets import check_sets
from rwood.paths import StudyPaths
from rwood.ray_backend.nodes import check_machine, check_nodes
from rwood.ray_backend.pool import TrainingPool
from rwood.ray_backend.session import session
from rwood.storage import grown
from rwood.study.context import Context


class Connection:
    """A connection to Ray and a pool of processes on it that train one job after another."""

    def __init__(self, study: StudyConfig, context: Context, folder: Path) -> None:
        """Connect nothing yet."""
        self._study, self._context, self._folder = study, context, folder
        self._paths = StudyPaths(folder)
        self._open = ExitStack()
        self._connected = False
        self.pool = TrainingPool(study.cluster, self._paths.ray.resolve())

    def connect(self) -> None:
        """Connect once, and check that the machines can do what the study asks of them.

        Raises:
            DataError: an image set is missing, short or corrupt.
            StudyError: Ray does not answer, or lacks CPUs, GPUs or the results folder.
        """
        if self._connected:
            return
        address, data_root = self._context.address, self._context.data_root
        log = self._open.enter_context(grown(self._paths.log))
        if address is None:
            check_sets(self._study.benchmark, data_root)
        self._open.enter_context(session(address, log=log))
        self._open.callback(self.pool.close)
        self._connected = True
        if address is not None:
            check_nodes(self._study.benchmark, self._folder, data_root)
        else:
            check_machine(self._study.cluster)

    def close(self) -> None:
        """End the pool's processes and leave Ray, if ever connected."""
        self._open.close()
