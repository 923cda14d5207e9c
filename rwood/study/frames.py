"""What a study found, as pandas frames."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rwood.config.study import StudyConfig
from rwood.errors import StudyError
from rwood.paths import StudyPaths
from rwood.report.inputs import load_arrays
from rwood.results import EpochReport, RunResult, StudyResult, TrialResult
from rwood.search.read_trials import read_trials
from rwood.study.plans import label_of
from rwood.study.record import read_record
from rwood.tracked.measures import flat


@dataclass(frozen=True)
class StudyResults:
    """A study so far; each frame is read when it is asked for."""

    study: StudyConfig
    record: StudyResult
    """All but the epochs of trials."""
    folder: Path
    """The study's results folder."""
    all_trials: tuple[TrialResult, ...]
    """Of the search, by number, with their epochs."""

    @property
    def verdict(self) -> str:
        """What the finals say, in a sentence; empty before them or without any."""
        return self.record.finals.sentence if self.record.finals else ""

    @property
    def champion(self) -> dict[str, Any]:
        """Settings of the champion that the search chose; empty: the base run's."""
        return dict(self.record.champion_params)

    @property
    def detector(self) -> Path:
        """Folder of the champion's detector; see `rwood.load_detector`."""
        return StudyPaths(self.folder).detector

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a trial, by number: `state`, `epochs`, objectives, settings, `error`.

        `epochs` are those that it ran. Objectives are NaN unless the trial is complete; a setting
        that a trial's loss does not have is NaN.
        """
        rows: list[dict[str, Any]] = [
            {"number": trial.number, "state": trial.state, "epochs": len(trial.history)}
            | dict.fromkeys(self.record.objectives, np.nan)
            | trial.objectives
            | {key: value for key, value in trial.params.items() if key != "epochs"}
            | {"error": trial.error}
            for trial in self.all_trials
        ]
        space = self.study.search.space if self.study.search else ()
        settings = [key for key in space if key != "epochs"]
        columns = ["state", "epochs", *self.record.objectives, *settings, "error"]
        return _frame(rows, ["number"], columns)

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """One row an epoch of a trial or rerun: every metric, e.g. `train/loss`, `val/auroc`.

        The index is `training` (`trial-0003`, `champion-seed1`, `base-seed1`) and `epoch`, from 1.
        """
        rows = [row for t in self.all_trials for row in _epochs(label_of(t.number), t.history)]
        rows += [row for run in self.record.runs for row in _epochs(_name(run), run.history)]
        return _frame(rows, ["training", "epoch"])

    @cached_property
    def reruns(self) -> pd.DataFrame:
        """One row a rerun, by `label` and `seed`: test metrics in percent.

        Labels are `champion`, `base` and those of `rerun.trials`, e.g. `trial-0007`.

        `near/auroc` and its like are of the run's own scorer under the OOD protocol, those of
        others begin with `<protocol>/<scorer>/`; `id/...` are accuracies; `seconds` of the rerun.
        """
        rows = [
            {"label": run.label, "seed": run.seed, "seconds": run.seconds} | flat(run)
            for run in self.record.runs
        ]
        return _frame(rows, ["label", "seed"])

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row a test image of a rerun: `label`, `seed`, `part`, `set`, `score`.

        `part` is `id`, `near` or `far`; the score is that of the run's own scorer, **higher = more
        OOD**. Where the champion is the base run, its scores stand once, as the champion's.

        Raises:
            StudyError: the scores of a rerun cannot be read.
        """
        frames, runs = [], dict[str, RunResult]()
        for run in self.record.runs:
            runs.setdefault(run.digest, run)
        for run in runs.values():
            scores = StudyPaths(self.folder).rerun(run.label, run.seed, run.digest).scores
            for name, values in load_arrays(scores).items():
                part, _, subset = name.partition("/")
                frames.append(
                    pd.DataFrame({"label": run.label, "seed": run.seed,
                                  "part": part, "set": subset, "score": values})
                )  # fmt: skip
        columns = ["label", "seed", "part", "set", "score"]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def read_results(study: StudyConfig, *, folder: Path, storage: str | None = None) -> StudyResults:
    """What a study found so far; whoever works on it is not disturbed.

    Raises:
        StudyError: another study or none was started there, or its trials are in another storage.
    """
    record = read_record(study, folder, storage)
    if record is None:
        raise StudyError(f"{folder} holds no results: run study {study.name} first")
    trials = tuple(read_trials(study, folder, storage).values()) if study.search else ()
    return StudyResults(study, record, folder, trials)


def _frame(
    rows: list[dict[str, Any]], index: list[str], columns: Iterable[str] = ()
) -> pd.DataFrame:
    """Rows under their index; without any, the columns that are known beforehand."""
    return pd.DataFrame(rows, columns=None if rows else [*index, *columns]).set_index(index)


def _epochs(training: str, history: Iterable[EpochReport]) -> list[dict[str, Any]]:
    return [{"training": training, "epoch": r.epoch} | r.metrics for r in history]


def _name(run: RunResult) -> str:
    return f"{run.label}-seed{run.seed}"
