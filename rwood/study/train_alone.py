"""The base run of a study alone, without a search."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch

from rwood.config.held_out import without_held_out
from rwood.config.study import ClusterConfig, StudyConfig, run_digest
from rwood.errors import StudyError
from rwood.paths import StudyPaths
from rwood.ray_backend.job import job_of, work
from rwood.ray_backend.nodes import check_machine, check_nodes
from rwood.ray_backend.pool import TrainingPool
from rwood.ray_backend.session import session
from rwood.results import EpochReport
from rwood.storage import grown
from rwood.study.plans import ALONE
from rwood.training.worker import LocalWorker


def train_alone(
    study: StudyConfig,
    *,
    results: Path,
    data_root: Path,
    address: str | None,
    on_report: Callable[[EpochReport], None],
    on_note: Callable[[str], None],
) -> tuple[EpochReport, Path]:
    """Train the base run on all classes; here if it has one worker and no cluster is named.

    Stopped and called again, it goes on from its last checkpoint.

    Returns:
        The last epoch's report, and the run's folder (`encoder.pt` are the weights).

    Raises:
        StudyError: the study asks for a GPU or for CPUs that there are not.
    """
    benchmark = without_held_out(study.benchmark)
    digest = run_digest(study.run, benchmark)
    paths = StudyPaths(results / study.name)
    place = paths.rerun(ALONE, study.run.seed, digest).folder
    job = job_of(study, study.run, place, data_root, benchmark=benchmark)
    folder = job.folder
    last: list[EpochReport] = []

    def keep(report: EpochReport) -> None:
        last.append(report)
        on_report(report)

    if address is None and study.cluster.workers == 1:
        threads, device = torch.get_num_threads(), _device(study.cluster)
        try:
            work(job, LocalWorker(folder, device, keep, on_note=on_note))
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(False)
    else:
        name = f"{study.name}-{folder.name}"
        with grown(paths.log) as log, session(address, log=log):
            if address is None:
                check_machine(study.cluster)
            else:
                check_nodes(study, folder, data_root)
            with closing(TrainingPool(study.cluster, StudyPaths(folder).ray)) as pool:
                pool.fit(job, name=name, on_report=keep, on_note=on_note)
    return last[-1], folder


def _device(cluster: ClusterConfig) -> torch.device:
    """A GPU exactly if the study asks for one, as on a cluster."""
    if not cluster.gpus_per_worker:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise StudyError(
            f"cluster.gpus_per_worker is {cluster.gpus_per_worker:g}, and torch finds no GPU here"
        )
    return torch.device("cuda", 0)
