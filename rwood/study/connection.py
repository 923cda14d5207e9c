"""The Ray that a study's trainings run on: connected at the first need, for all stages."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rwood.config.study import StudyConfig
from rwood.data.sample import check_files
from rwood.data.shared_images import shared_images
from rwood.paths import StudyPaths
from rwood.ray_backend.compat import dashboard_url
from rwood.ray_backend.nodes import check_machine, check_nodes
from rwood.ray_backend.pool import TrainingPool
from rwood.ray_backend.session import session
from rwood.storage import grown
from rwood.study.context import Context


@dataclass
class Connection:
    """A connection to Ray and a pool of processes on it that train one job after another."""

    study: StudyConfig
    context: Context
    folder: Path
    """Of the study's results."""
    tell: Callable[[str], None]
    """Called with what happens."""
    warn: Callable[[str], None]
    """Called with what the user may want to mend."""

    def __post_init__(self) -> None:
        """Connect nothing yet."""
        self._paths, self._open, self._connected = StudyPaths(self.folder), ExitStack(), False
        self.pool = TrainingPool(self.study.cluster, self._paths.ray.resolve())

    def connect(self) -> None:
        """Connect once, and check that the machines can do what the study asks of them.

        Raises:
            DataError: an image set is missing, short or corrupt.
            StudyError: Ray does not answer, or lacks CPUs, GPUs or the results folder.
        """
        if self._connected:
            return
        context = self.context
        log = self._open.enter_context(grown(self._paths.log))
        if context.address is None:
            self.tell("opening the image sets, starting Ray")
            check_files(self.study, context.data_root)
            for sentence in shared_images(self.study.benchmark, context.data_root):
                self.warn(f"warning: {sentence}")
        else:
            self.tell(f"connecting to Ray at {context.address}")
        self._open.enter_context(session(context.address, log=log, dashboard=context.dashboard))
        if context.dashboard:
            self.tell(f"Ray's dashboard: {dashboard_url() or 'there is none'}")
        self._open.callback(self.pool.close)
        self._connected = True
        if context.address is None:
            check_machine(self.study.cluster)
        else:
            check_nodes(self.study, self.folder, context.data_root)

    def close(self) -> None:
        """End the pool's processes and leave Ray, if ever connected."""
        self._open.close()
