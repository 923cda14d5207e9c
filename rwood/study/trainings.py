"""Several trainings of a study, each with a result on disk when it is done."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from rwood.config.study import StudyConfig
from rwood.errors import StudyError
from rwood.ray_backend.job import Job
from rwood.ray_backend.pool import TrainingPool
from rwood.results import EpochReport


def run_trainings(
    study: StudyConfig,
    jobs: Sequence[Job],
    is_done: Callable[[Job], bool],
    *,
    pool: TrainingPool,
    on_report: Callable[[Job, EpochReport], None],
    on_note: Callable[[str], None],
) -> None:
    """Run the jobs that are not done, `cluster.max_concurrent` at a time.

    Args:
        study: whose trainings.
        jobs: each with a folder of its own.
        is_done: True if the result of a job is on disk.
        pool: what trains them.
        on_report: called for each epoch, from several threads.
        on_note: called with what a worker has to say, likewise.

    Raises:
        RunError: a training failed; the others are finished first.
        StudyError: a training left no result that can be seen here.
    """
    cancelled = threading.Event()

    def one(job: Job) -> None:
        name = f"{study.name}-{job.folder.name}"
        pool.fit(
            job,
            name=name,
            on_report=lambda report: on_report(job, report),
            on_note=on_note,
            cancelled=cancelled.is_set,
        )
        if not is_done(job):
            raise StudyError(
                f"{name} ended without a result in {job.folder}: can every node see the results "
                "folder?"
            )

    with ThreadPoolExecutor(study.cluster.max_concurrent) as threads:
        futures = [threads.submit(one, job) for job in jobs if not is_done(job)]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        except KeyboardInterrupt:
            cancelled.set()
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    for future in futures:
        future.result()
