"""Trials as results: what Optuna's study and a trial's folder say of them."""

import json
from collections.abc import Sequence
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from rwood import results
from rwood.config.search import apply
from rwood.config.study import StudyConfig, run_digest
from rwood.errors import StudyError
from rwood.paths import RunPaths, StudyPaths
from rwood.results import EpochReport, TrialResult
from rwood.search.generations import OUTSIDE, latest, present_params
from rwood.search.journal import read_storage
from rwood.storage import content

ERROR, KIND = "error", "failure"
"""Attributes of a trial that failed: why, in a line, and whose fault it was."""
_STATES: dict[TrialState, results.TrialState] = {
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def read_trials(study: StudyConfig, folder: Path, url: str | None = None) -> dict[int, TrialResult]:
    """Every trial of a study so far, by number; whoever works on it is not disturbed.

    Those that run have no epochs here: they are in their checkpoints.

    Raises:
        StudyError: the storage does not answer or is damaged, or a record of epochs is.
    """
    with read_storage(folder, url) as storage:
        generation = latest(storage, study.name) if storage is not None else None
        if generation is None:
            return {}
        return {
            trial.number: result_of(
                trial, study, load_history(StudyPaths(folder).trial(trial.number).folder)
            )
            for trial in generation.get_trials(deepcopy=False)
        }


def result_of(
    trial: FrozenTrial, study: StudyConfig, history: Sequence[EpochReport]
) -> TrialResult:
    """One trial as a result, in the present space, which may be another than it was drawn from."""
    assert trial.datetime_start is not None
    was, present = trial.user_attrs.get(OUTSIDE), present_params(trial.params, study)
    state = TrialState[was["state"]] if was else trial.state
    values = was["values"] if was else trial.values
    last = history[-1].metrics if history else {}
    names = study.the_search.objectives
    complete = state == TrialState.COMPLETE and values is not None
    return TrialResult(
        number=trial.number,
        params=trial.params if present is None else present,
        state=_STATES[state],
        digest=run_digest(apply(study.run, trial.params), study.benchmark),
        started=trial.datetime_start.timestamp(),
        finished=trial.datetime_complete.timestamp() if trial.datetime_complete else None,
        history=tuple(history),
        objective=values[0] if complete else None,
        objectives=dict(zip(names, values, strict=True)) if complete else {},
        spread={n: last[f"{n}/std"] for n in names if complete and f"{n}/std" in last},
        error=trial.user_attrs.get(ERROR),
        failure=trial.user_attrs.get(KIND),
        outside=present is None,
    )


def save_history(folder: Path, history: Sequence[EpochReport]) -> None:
    """Keep the epochs of a trial that ends.

    Raises:
        StorageError: the folder cannot be written.
    """
    plain = [report.model_dump() for report in history]
    results.write_atomically(RunPaths(folder).epochs, json.dumps(plain, separators=(",", ":")))


def load_history(folder: Path) -> tuple[EpochReport, ...]:
    """Epochs of a trial that has ended; none where there is no record.

    Raises:
        StudyError: the record is damaged.
    """
    path = RunPaths(folder).epochs
    try:
        plain = json.loads(content(path))
        return tuple(EpochReport.model_validate(report) for report in plain)
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError) as error:
        raise StudyError(f"{path} is damaged: put back a copy", file=str(path)) from error


def metrics_at(trial: TrialResult, epoch: int, objective: str) -> dict[str, float] | None:
    """What the first validation from an epoch on reported; None if the trial did not get there."""
    for report in trial.history:
        if report.epoch >= epoch and objective in report.metrics:
            return report.metrics
    return None
