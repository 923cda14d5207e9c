"""Where a study runs, and who watches it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rwood.results import EpochReport, TrialResult


@dataclass(frozen=True)
class Context:
    """Where a study runs and what it leaves behind."""

    results: Path
    data_root: Path
    address: str | None = None
    """A running Ray cluster; None starts a private Ray."""
    tracking_uri: str | None = None
    """An MLflow server; None keeps a SQLite store in the results folder."""
    storage: str | None = None
    """URL of Optuna's storage; None keeps a journal in the results folder."""
    retry_failed: bool = False
    """Take failed trials up again."""
    dashboard: bool = False
    """Start the dashboard of a private Ray."""


class Screen(Protocol):
    """Whoever watches a study."""

    def stage(self, name: str, detail: str) -> None:
        """A stage begins."""

    def known(self, trials: Iterable[TrialResult]) -> None:
        """What earlier starts of the search did."""

    def trial(self, trial: TrialResult) -> None:
        """A trial changed."""

    def reruns(self, names: Iterable[str]) -> None:
        """The reruns that are left."""

    def epoch(self, name: str, report: EpochReport, epochs: int) -> None:
        """A rerun finished an epoch; called from several threads."""

    def done(self, name: str) -> None:
        """A rerun is measured and its result on disk; called from several threads."""

    def note(self, text: str) -> None:
        """Something to say in a line."""
