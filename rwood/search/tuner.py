"""The search of a study on Ray Tune."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.execution import class_cache

from rwood.config.search import apply
from rwood.config.study import StudyConfig
from rwood.errors import StorageError, StudyError
from rwood.ray_backend.group_trial import GroupTrial
from rwood.ray_backend.job import Job, work
from rwood.ray_backend.messages import FAILURE, STORAGE
from rwood.ray_backend.through_client import tune_here
from rwood.ray_backend.worker import TuneWorker
from rwood.results import TrialResult
from rwood.search.early_stopping import Halt, Halving
from rwood.search.ledger import Ledger
from rwood.search.proposals import OPTUNA_FILE, Proposals
from rwood.storage import grown
from rwood.text import count_of


def search(
    study: StudyConfig,
    *,
    folder: Path,
    data_root: Path,
    listener: Callable[[TrialResult], None],
    on_note: Callable[[str], None],
) -> list[TrialResult]:
    """Run what is left of a search and return its trials, by number.

    Needs a connected Ray. Killed at any moment and called again, it ends with the same trials.

    Args:
        study: a study with a search.
        folder: its results folder, visible from every node.
        data_root: where image sets lie, on every node.
        listener: told of every trial that changed, in this process.
        on_note: told of what a worker has to say, a sentence.

    Raises:
        StudyError: `cluster.max_failures` trials failed.
        StorageError: the results cannot be written.
    """
    ledger = Ledger(study, folder, listener)
    with grown(folder / OPTUNA_FILE) as journal:
        proposals = Proposals(ledger, journal)
        if not is_searched(study, ledger.trials):
            _tune(study, ledger, proposals, folder.resolve(), data_root.resolve(), on_note)
        proposals.finish()
    if ledger.halted:
        raise ledger.halted
    if proposals.exhausted and not is_searched(study, ledger.trials):
        failed = [t for t in ledger.trials.values() if t.state == "failed"]
        raise StudyError(
            f"{count_of(len(failed), 'trial')} failed (cluster.max_failures is "
            f"{study.cluster.max_failures}; raise it to go on); the last one: {failed[-1].error}"
        )
    return [ledger.trials[number] for number in sorted(ledger.trials)]


def is_searched(study: StudyConfig, trials: dict[int, TrialResult]) -> bool:
    """Whether nothing is left to search."""
    assert study.search is not None
    closed = sum(t.state != "running" for t in trials.values())
    return closed >= study.search.trials


def _tune(
    study: StudyConfig,
    ledger: Ledger,
    proposals: Proposals,
    folder: Path,
    data_root: Path,
    on_note: Callable[[str], None],
) -> None:
    # Tune would copy the object store's keys into its actors' environments, which Ray logs in
    # clear; every node has its own, and a private Ray inherits them.
    class_cache.ENV_VARS_TO_PROPAGATE -= {
        name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")
    }
    with tune_here():
        tuner = tune.Tuner(
            _trainable(study, folder, data_root),
            tune_config=tune.TuneConfig(
                search_alg=proposals,
                scheduler=Halving(ledger, on_note),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder / "ray"),
                # A trial's durable state is its own folder; Tune's checkpoints are not used.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=study.cluster.retries),
                stop=Halt(ledger),
                verbose=0,
            ),
        )
        tuner.fit()


def _trainable(study: StudyConfig, folder: Path, data_root: Path) -> Any:
    cluster = study.cluster
    fixed: dict[str, Any] = {"study": study, "folder": folder, "data_root": data_root}
    if cluster.workers > 1:
        # The inner run holds the CPUs; the outer actor only listens. Of CPUs it takes nothing, or
        # two workers would wait for ever on two cores; Tune wants it to take something.
        listener = tune.PlacementGroupFactory([{"memory": 1}])
        return tune.with_resources(tune.with_parameters(GroupTrial, **fixed), listener)
    resources: dict[str, float] = {"cpu": cluster.cpus_per_worker}
    if cluster.gpus_per_worker:
        resources["gpu"] = cluster.gpus_per_worker
    return tune.with_resources(partial(_trial, **fixed), resources)


def _trial(config: dict[str, Any], *, study: StudyConfig, folder: Path, data_root: Path) -> None:
    """A one-worker trial; runs in a Tune actor, which the next trial reuses."""
    job = Job(
        run=apply(study.run, config["params"]),
        benchmark=study.benchmark,
        data_root=data_root,
        folder=config["folder"],
        threads=study.cluster.cpus_per_worker,
        seeds=study.search.seeds if study.search else (),
    )
    try:
        work(job, TuneWorker(job.folder))
    except StorageError as error:
        tune.report({STORAGE: str(error)})
    except Exception as error:
        # The training's own failure: recorded, not repeated, and the actor lives on.
        tune.report({FAILURE: f"{type(error).__name__}: {error}"})
