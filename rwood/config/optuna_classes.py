"""Which of Optuna's samplers and pruners a study names, and what rwood adds to them."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from rwood.config.base import Config


def named_alone(value: Any) -> Any:
    """A class that is named alone, without arguments."""
    return {"name": value} if isinstance(value, str) else value


SHORT_FORMS = {
    "tpe": "TPESampler",
    "random": "RandomSampler",
    "grid": "GridSampler",
    "asha": "SuccessiveHalvingPruner",
}
"""Short form -> the class that it stands for, with rwood's own defaults."""


class OptunaClass(Config):
    """A class of Optuna by its name, or by a short form; all other keys are its arguments."""

    model_config = ConfigDict(**{**Config.model_config, "extra": "allow"})

    name: str = Field(min_length=1)
    """E.g. `TPESampler`, with Optuna's own defaults, or a short form, with those of rwood."""

    @property
    def is_short(self) -> bool:
        """True for a short form alone, which cannot be wrong."""
        return self.name in SHORT_FORMS and not self.arguments

    @property
    def arguments(self) -> dict[str, Any]:
        """What the class is made with, beside rwood's own keys."""
        return dict(self.model_extra or {})


class SamplerConfig(OptunaClass):
    """Which of Optuna's samplers proposes: `tpe`, `random`, `grid`, or any class."""


class PrunerConfig(OptunaClass):
    """Which of Optuna's pruners stops weak trials: `asha`, or any class.

    A pruner sees an objective at the epochs that were validated after the warm-up of the learning
    rate, and is not asked when hardly a tenth of the epochs is left: such a trial completes.
    """

    metric: str | None = None
    """The objective it sees, one number; default: the first."""
    smooth: Annotated[int, Field(ge=1)] | None = None
    """It sees the mean of so many validations, the last ones; default: 5 of `asha`, else 1."""

    @property
    def smoothed_over(self) -> int:
        """Validations whose mean the pruner sees."""
        return self.smooth or (5 if self.name == "asha" else 1)

    def first_rung(self, warmup: int, epochs: int) -> int:
        """Least resource of successive halving, unless it is named: after the warm-up.

        Of `asha` a third of the budget: before that, curves cross too often (see
        `tests/benchmarks/search_quality.py`).
        """
        return max(warmup + 1, -(-epochs // 3)) if self.name == "asha" else warmup + 1

    def rungs(self, warmup: int, epochs: int) -> list[int]:
        """Epochs at which successive halving compares trials; none for another pruner."""
        if self.name not in HALVING:
            return []
        rungs, epoch = [], self._least(warmup, epochs)
        while epoch <= last_judged(epochs):
            rungs.append(epoch)
            epoch *= self.reduction
        return rungs

    @property
    def reduction(self) -> int:
        """One in so many trials passes a rung of successive halving."""
        return int(self.arguments.get("reduction_factor", 3 if self.name == "asha" else 4))

    def _least(self, warmup: int, epochs: int) -> int:
        named = self.arguments.get("min_resource")
        first = named if isinstance(named, int) else self.first_rung(warmup, epochs)
        return int(first * self.reduction ** self.arguments.get("min_early_stopping_rate", 0))


HALVING = ("asha", "SuccessiveHalvingPruner")
"""Names of the pruner whose rungs are known beforehand."""


def last_judged(epochs: int) -> int:
    """Last epoch at which a pruner is asked: a trial with less than a tenth left completes."""
    return epochs - 1 - epochs // 10
