"""Trials on disk as a search leaves them, made from results."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from rwood.config.study import StudyConfig
from rwood.paths import StudyPaths
from rwood.results import StudyResult, TrialResult, load
from rwood.search.generations import open_generation
from rwood.search.journal import open_storage
from rwood.search.read_trials import ERROR, read_trials, save_history
from rwood.search.space import distributions

STATES = {
    "running": TrialState.RUNNING,
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def store_trials(
    study: StudyConfig, folder: Path, trials: Sequence[TrialResult], record_id: str = "toy"
) -> None:
    """Write trials 0, 1, ... into Optuna's journal of a study and their epochs beside it."""
    assert study.search is not None
    space = distributions(study.run, study.search)
    with open_storage(folder, None) as store:
        optuna_study = open_generation(study, store, record_id)
        for trial in trials:
            ended = datetime.fromtimestamp(trial.finished) if trial.finished else None
            optuna_study.add_trial(
                FrozenTrial(
                    number=trial.number,
                    trial_id=-1,
                    state=STATES[trial.state],
                    value=None,
                    values=_values(trial),
                    datetime_start=datetime.fromtimestamp(trial.started),
                    datetime_complete=ended,
                    params=trial.params,
                    distributions={key: space[key] for key in trial.params},
                    user_attrs={ERROR: trial.error} if trial.error else {},
                    system_attrs={},
                    intermediate_values={},
                )
            )
            if trial.state != "running":
                save_history(StudyPaths(folder).trial(trial.number).folder, trial.history)


def _values(trial: TrialResult) -> list[float] | None:
    if trial.objective is None:
        return None
    return list(trial.objectives.values()) or [trial.objective]


def trials_in(folder: Path) -> dict[int, TrialResult]:
    """Every trial of a results folder, whose record knows the study."""
    record = load(StudyResult, StudyPaths(folder).record)
    return read_trials(StudyConfig.model_validate_json(json.dumps(record.config)), folder)
