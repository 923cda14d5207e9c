"""The search of a study on Ray Tune."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune

from rwood.config.study import StudyConfig
from rwood.errors import StudyError
from rwood.paths import StudyPaths
from rwood.ray_backend import compat
from rwood.ray_backend.group_trial import GroupTrial
from rwood.ray_backend.job import attempt, trial_job
from rwood.ray_backend.session import SETTINGS
from rwood.ray_backend.stalls import Progress
from rwood.ray_backend.worker import SoloWorker
from rwood.results import TrialResult
from rwood.search.generations import open_generation, open_pruning_study
from rwood.search.journal import open_storage
from rwood.search.scheduler import Halt, PruningScheduler
from rwood.search.searcher import OptunaSearcher
from rwood.search.stalls import StallWatch
from rwood.search.trials import Trials
from rwood.text import count_of


def search(
    study: StudyConfig,
    *,
    record_id: str,
    folder: Path,
    data_root: Path,
    on_change: Callable[[TrialResult], None],
    on_note: Callable[[str], None],
    storage: str | None = None,
    retry_failed: bool = False,
) -> None:
    """Run what is left of a search.

    Needs a connected Ray. Killed at any moment and called again, it goes on from what was decided.

    Args:
        study: a study with a search.
        record_id: of the study's record.
        folder: its results folder, visible from every node.
        data_root: where image sets lie, on every node.
        on_change: told of every trial that changed, in this process.
        on_note: told of what a worker has to say, a sentence.
        storage: URL of Optuna's storage; None: a journal in the folder.
        retry_failed: take failed trials up again.

    Raises:
        StudyError: `cluster.max_failures` trials failed.
        StorageError: the results cannot be written.
    """
    with open_storage(folder, storage) as store:
        main = open_generation(study, store, record_id, retry_failed=retry_failed)
        pruning = open_pruning_study(study, store, main)
        trials = Trials(study, folder, store, main, pruning, on_change)
        if trials.are_left:
            _tune(study, trials, folder.resolve(), data_root.resolve(), on_note)
            trials.discard_checkpoints()
    if trials.halted is not None:
        raise trials.halted
    if trials.failures >= study.cluster.max_failures and trials.are_left:
        raise StudyError(
            f"{count_of(trials.failures, 'trial')} failed (cluster.max_failures is "
            f"{study.cluster.max_failures}), the last one: {trials.last_error}; run again to go "
            "on, with --retry-failed to take failed trials up again"
        )


def _tune(
    study: StudyConfig,
    trials: Trials,
    folder: Path,
    data_root: Path,
    on_note: Callable[[str], None],
) -> None:
    cluster = study.cluster
    compat.choose_variables_of_actors(SETTINGS)
    # All that may run at a time are asked for at once, so that an autoscaler sees all demand.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(cluster.max_concurrent)
    progress = Progress(cluster.stall_minutes)
    with compat.tune_here():
        tuner = tune.Tuner(
            _trainable(study, folder, data_root),
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearcher(trials, cluster.max_concurrent, cluster.max_failures),
                scheduler=PruningScheduler(trials, progress, on_note),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(StudyPaths(folder).ray),
                # A trial's durable state is its own folder; Tune's checkpoints are not used.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=cluster.retries),
                stop=Halt(trials),
                callbacks=[StallWatch(trials, progress, on_note)],
                verbose=0,
            ),
        )
        tuner.fit()


def _trainable(study: StudyConfig, folder: Path, data_root: Path) -> Any:
    cluster = study.cluster
    if cluster.workers > 1:
        # The inner run holds the CPUs; the outer actor only listens. Of CPUs it takes nothing, or
        # two workers would wait for ever on two cores; Tune wants it to take something.
        listener = tune.PlacementGroupFactory([{"memory": 1}])
        group = tune.with_parameters(GroupTrial, study=study, folder=folder, data_root=data_root)
        return tune.with_resources(group, listener)
    resources: dict[str, float] = {"cpu": cluster.cpus_per_worker}
    if cluster.gpus_per_worker:
        resources["gpu"] = cluster.gpus_per_worker
    one = partial(_trial, study=study, folder=folder, data_root=data_root)
    return tune.with_resources(one, resources)


def _trial(config: dict[str, Any], *, study: StudyConfig, folder: Path, data_root: Path) -> None:
    """A one-worker trial; runs in a Tune actor, which the next trial reuses."""
    job = trial_job(study, config, folder=folder, data_root=data_root)
    # What is raised makes Tune end this actor, and continue the trial in another.
    attempt(job, SoloWorker(job.folder, tune.report), tune.report)
