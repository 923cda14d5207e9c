"""The Ray that a study's trainings run on: connected at the first need, for all stages."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rwood.config.study import StudyConfig
from rwood.data.image_sets import check_sets
from rwood.data.shared_images import shared_images
from rwood.paths import StudyPaths
from rwood.ray_backend.compat import dashboard_url
from rwood.ray_backend.nodes import check_machine, check_nodes
from rwood.ray_backend.pool import TrainingPool
from rwood.ray_backend.session import session
from rwood.storage import grown
from rwood.study.context import Context


class Connection:
    """A connection to Ray and a pool of processes on it that train one job after another."""

    def __init__(
        self,
        study: StudyConfig,
        context: Context,
        folder: Path,
        tell: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        """Connect nothing yet.

        Args:
            study: whose trainings.
            context: where Ray and the data are.
            folder: of the study's results.
            tell: called with what happens.
            warn: called with what the user may want to mend.
        """
        self._study, self._context, self._folder = study, context, folder
        self._tell, self._warn = tell, warn
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
        context = self._context
        log = self._open.enter_context(grown(self._paths.log))
        if context.address is None:
            self._tell("opening the image sets, starting Ray")
            check_sets(self._study.benchmark, context.data_root)
            for sentence in shared_images(self._study.benchmark, context.data_root):
                self._warn(f"warning: {sentence}")
        else:
            self._tell(f"connecting to Ray at {context.address}")
        self._open.enter_context(session(context.address, log=log, dashboard=context.dashboard))
        if context.dashboard:
            self._tell(f"Ray's dashboard: {dashboard_url() or 'there is none'}")
        self._open.callback(self.pool.close)
        self._connected = True
        if context.address is None:
            check_machine(self._study.cluster)
        else:
            check_nodes(self._study.benchmark, self._folder, context.data_root)

    def close(self) -> None:
        """End the pool's processes and leave Ray, if ever connected."""
        self._open.close()
