"""Ray Tune's searcher over Optuna's study: it hands out what `Trials` proposes."""

from typing import Any

from ray.tune.search import Searcher

from rwood.errors import StorageError
from rwood.search.trials import Trials


class Unsaved:
    """Pickled as nothing: what Tune keeps of its own parts is not used, Optuna's study is."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing."""
        return {}


class OptunaSearcher(Unsaved, Searcher):  # type: ignore[misc]
    """Asks Optuna for the next trial; interrupted trials come first.

    What was proposed and how it ended is in Optuna's study, not here.
    """

    def __init__(self, trials: Trials, max_concurrent: int, max_failures: int) -> None:
        """Keep them."""
        super().__init__()
        self._trials = trials
        self._max_concurrent, self._max_failures = max_concurrent, max_failures
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial; None while as many run as may; finished when none is left."""
        gave_up = self._trials.failures >= self._max_failures
        if gave_up or self._trials.halted is not None:
            return str(self.FINISHED)
        if len(self._numbers) >= self._max_concurrent:
            return None
        try:
            number = self._trials.next()
        except StorageError as error:
            self._trials.halt(error)
            number = None
        if number is None:
            return str(self.FINISHED)
        self._numbers[trial_id] = number
        return {"number": number, "params": self._trials.params(number)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Make room for another trial; if this one has no end on record, it failed."""
        number = self._numbers.pop(trial_id)
        self._trials.fail(number, "its worker ended without a result", "environment")

    def save(self, checkpoint_path: str) -> None:
        """Nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""
