"""Ways to search, behind one interface: Tune's own and rwood's.

Each is the real thing, driven event by event; only the trainings are simulated.
"""

import json
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Protocol

import optuna
from optuna.distributions import FloatDistribution
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from rwood.config.load import load_study
from rwood.config.study import StudyConfig
from rwood.ray_backend.messages import REPORT
from rwood.ray_backend.stalls import Progress
from rwood.results import EpochReport, TrialResult
from rwood.search.generations import open_generation
from rwood.search.journal import open_storage
from rwood.search.scheduler import PruningScheduler
from rwood.search.searcher import OptunaSearcher
from rwood.search.trials import Trials
from rwood.selection import select_champion
from tests.benchmarks.search_world import EPOCHS, SPACE, Params
from tests.conftest import STUDIES

GRACE, REDUCTION = 11, 3
BASE = {
    "loss.temperature": 0.1,
    "loss.within_scale": 2.0,
    "loss.within_shift": 1.0,
    "loss.between_scale": 5.0,
    "loss.between_shift": 4.0,
}
"""The authors' settings, which rwood tries first: the baseline gets them too."""
DISTRIBUTIONS = {
    key: FloatDistribution(low, high, log=log) for key, (low, high, log) in SPACE.items()
}

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Method(Protocol):
    """A sampler and a scheduler, as the event loop drives them."""

    def propose(self) -> tuple[int, Params] | None:
        """The next trial's number and setting for a free worker; None if it has to wait."""

    def report(self, trial: int, epoch: int, value: float) -> bool:
        """Take a trial's value after an epoch, in the order of arrival; True if it has to stop."""

    def complete(self, trial: int) -> None:
        """Take note that a trial trained all epochs."""

    def completed(self) -> set[int]:
        """The trials that count as trained to the end."""

    def best(self) -> Params:
        """The setting to be chosen if the search ended now."""


class Tune:
    """`OptunaSearch` with `ASHAScheduler`, called as Tune's controller calls them.

    Args:
        seed: of the sampler.
    """

    def __init__(self, seed: int) -> None:
        self._search = OptunaSearch(
            DISTRIBUTIONS, metric="auroc", mode="max", seed=seed, points_to_evaluate=[BASE]
        )
        self._scheduler = ASHAScheduler(
            time_attr="training_iteration", metric="auroc", mode="max",
            max_t=EPOCHS, grace_period=GRACE, reduction_factor=REDUCTION,
        )  # fmt: skip
        self._trials: list[Any] = []
        self._last: dict[int, tuple[int, float]] = {}

    def propose(self) -> tuple[int, Params] | None:
        number = len(self._trials)
        config = self._search.suggest(str(number))
        assert config is not None
        self._trials.append(SimpleNamespace(trial_id=str(number), config=config))
        self._scheduler.on_trial_add(None, self._trials[-1])
        return number, config

    def report(self, trial: int, epoch: int, value: float) -> bool:
        result = {"training_iteration": epoch, "auroc": value}
        self._last[trial] = (epoch, value)
        if (
            self._scheduler.on_trial_result(None, self._trials[trial], result)
            == TrialScheduler.STOP
        ):
            self._scheduler.on_trial_complete(None, self._trials[trial], result)
            self._search.on_trial_complete(str(trial), result)
            return True
        self._search.on_trial_result(str(trial), result)
        return False

    def complete(self, trial: int) -> None:
        """Nothing: at its last epoch the scheduler itself has ended the trial."""

    def completed(self) -> set[int]:
        return {trial for trial, (epoch, _) in self._last.items() if epoch == EPOCHS}

    def best(self) -> Params:
        """The highest last value of all trials: `ResultGrid.get_best_result`'s default."""
        best = max(self._last, key=lambda trial: self._last[trial][1])
        config: Params = self._trials[best].config
        return config


class Rwood:
    """rwood's searcher and scheduler over Optuna's journal, called as Tune's controller calls them.

    Args:
        seed: of the sampler.
        pruner: `search.pruner` of the study; the short form `asha` if None.
        sampler: `search.sampler` of the study; the short form `tpe` if None.
    """

    def __init__(
        self, seed: int, pruner: dict[str, Any] | None = None, sampler: dict[str, Any] | None = None
    ) -> None:
        self._opened = ExitStack()
        folder = Path(self._opened.enter_context(TemporaryDirectory()))
        self._study = _study(seed, pruner or {"name": "asha"}, sampler or {"name": "tpe"})
        store = self._opened.enter_context(open_storage(folder, None))
        main = open_generation(self._study, store, "benchmark")
        self._results: dict[int, TrialResult] = {}
        trials = Trials(self._study, folder, store, main, main, self._keep)
        self._searcher = OptunaSearcher(trials, max_concurrent=10**6, max_failures=1)
        self._scheduler = PruningScheduler(trials, Progress(), print)
        self._configs: dict[int, Any] = {}

    def propose(self) -> tuple[int, Params] | None:
        config = self._searcher.suggest(f"t{len(self._configs)}")
        assert isinstance(config, dict)
        self._configs[config["number"]] = SimpleNamespace(config=config)
        return config["number"], config["params"]

    def report(self, trial: int, epoch: int, value: float) -> bool:
        metrics = {"val/auroc": value}
        report = EpochReport(epoch=epoch, time=0.0, metrics=metrics).model_dump_json()
        config = self._configs[trial]
        stop = self._scheduler.on_trial_result(None, config, {REPORT: report})
        if stop == TrialScheduler.STOP or epoch == EPOCHS:
            self._searcher.on_trial_complete(f"t{trial}")
        return bool(stop == TrialScheduler.STOP)

    def complete(self, trial: int) -> None:
        """Nothing: the scheduler has recorded the last epoch."""

    def completed(self) -> set[int]:
        return {n for n, trial in self._results.items() if trial.state == "complete"}

    def best(self) -> Params:
        """The best complete trial, as `rwood select` chooses it; before one, the last proposal."""
        if not self.completed():
            params: Params = self._configs[max(self._configs)].config["params"]
            return params
        return dict(select_champion(self._results.values(), ["val/auroc"]).params)

    def _keep(self, trial: TrialResult) -> None:
        self._results[trial.number] = trial.model_copy(update={"history": ()})


def _study(seed: int, pruner: dict[str, Any], sampler: dict[str, Any]) -> StudyConfig:
    """The study of a world: its space, 100 epochs, a warm-up of 10, trials without end."""
    plain = load_study(STUDIES / "digits.yaml").model_dump(mode="json")
    plain["run"] |= {"epochs": EPOCHS, "schedule": {"warmup_epochs": 10}}
    plain["search"] = {
        "trials": 10**6,
        "objective": "val/auroc",
        "space": {k: {"low": a, "high": b, "log": log} for k, (a, b, log) in SPACE.items()},
        "seed": seed,
        "pruner": pruner,
        "sampler": sampler,
    }
    return StudyConfig.model_validate_json(json.dumps(plain))


METHODS: dict[str, Any] = {"tune": Tune, "rwood": Rwood}
"""By name, each built from a seed."""
