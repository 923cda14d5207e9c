"""Finished trials as an Optuna study on disk, for optuna-dashboard and other tools."""

import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from rwood.config.study import is_minimized
from rwood.results import TrialResult
from rwood.storage import unwritable


def finished(
    trial: TrialResult, objectives: Sequence[str], space: Mapping[str, BaseDistribution]
) -> FrozenTrial:
    """A trial that is over, as Optuna keeps it.

    Args:
        trial: not running.
        objectives: metrics that the study optimises.
        space: what each setting is drawn from.
    """
    assert trial.finished is not None
    curve: dict[int, float] = {}
    # Optuna keeps no values between of several objectives: a stopped trial is only "bad".
    for report in trial.history if len(objectives) == 1 else ():
        if objectives[0] in report.metrics:
            curve[report.epoch] = report.metrics[objectives[0]]
    state, values = TrialState.FAIL, None
    if trial.state == "complete":
        state, values = TrialState.COMPLETE, [trial.objectives[name] for name in objectives]
    elif trial.state == "stopped":
        state, values = TrialState.PRUNED, list(curve.values())[-1:] or None
    return FrozenTrial(
        number=trial.number,
        trial_id=trial.number,
        state=state,
        value=None,
        values=values,
        datetime_start=datetime.fromtimestamp(trial.started),
        datetime_complete=datetime.fromtimestamp(trial.finished),
        params=dict(trial.params),
        distributions={key: space[key] for key in trial.params},
        user_attrs={},
        system_attrs={},
        intermediate_values=curve,
    )


class Journal:
    """A copy of what the ledger knows, never read by a search: if it is damaged, it is made anew.

    Args:
        path: the journal's file; nobody else writes it, its study's folder is locked.
        name: of the Optuna study.
        objectives: metrics that the study optimises.
    """

    def __init__(self, path: Path, name: str, objectives: Sequence[str]) -> None:
        """Open it; a lock that a killed process left does not delay the next one."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._path = path
        self._name = name
        self._objectives = list(objectives)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
        try:
            self._study = self._open()
        except (ValueError, KeyError):  # Half a line, from a full disk or a power cut.
            path.unlink()
            self._study = self._open()
        self._count = len(self._study.get_trials(deepcopy=False))
        self._early: dict[int, FrozenTrial] = {}

    def add(self, trial: FrozenTrial) -> None:
        """Append a finished trial, once all before it are there, unless it is there.

        Raises:
            StorageError: the file cannot be written.
        """
        if trial.number >= self._count:
            self._early[trial.number] = trial
        while self._count in self._early:
            try:
                self._study.add_trial(self._early.pop(self._count))
            except OSError as error:
                raise unwritable(self._path, error) from error
            self._count += 1

    def _open(self) -> optuna.Study:
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(self._path))),
            study_name=self._name,
            directions=["minimize" if is_minimized(n) else "maximize" for n in self._objectives],
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls names of metrics experimental.
            study.set_metric_names(self._objectives)
        return study
