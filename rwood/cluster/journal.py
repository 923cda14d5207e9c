"""Finished trials as an Optuna study on disk, for optuna-dashboard and other tools."""

from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from rwood.storage import unwritable


class Journal:
    """A copy of what the ledger knows, never read by a search: if it is damaged, it is made anew.

    Args:
        path: the journal's file; nobody else writes it, its study's folder is locked.
        name: of the Optuna study.
        minimized: direction of the objective.
    """

    def __init__(self, path: Path, name: str, *, minimized: bool) -> None:
        """Open it; a lock that a killed process left does not delay the next one."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._path = path
        self._name = name
        self._direction = "minimize" if minimized else "maximize"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
        try:
            self._study = self._open()
        except (ValueError, KeyError):  # Half a line, from a full disk or a power cut.
            path.unlink()
            self._study = self._open()
        self._count = len(self._study.get_trials(deepcopy=False))

    def add(self, trial: FrozenTrial) -> None:
        """Append a finished trial, unless it is there.

        Raises:
            StorageError: the file cannot be written.
        """
        if trial.number < self._count:
            return
        try:
            self._study.add_trial(trial)
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._count += 1

    def _open(self) -> optuna.Study:
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(self._path))),
            study_name=self._name,
            direction=self._direction,
            load_if_exists=True,
        )
