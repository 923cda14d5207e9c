"""The pruner of a search: any of Optuna's, which judges trials after the warm-up."""

from collections.abc import Sequence
from typing import Any

from optuna.pruners import BasePruner, NopPruner

from rwood.config.optuna_classes import last_judged
from rwood.config.run import RunConfig
from rwood.config.search import SearchConfig
from rwood.errors import SpecError
from rwood.results import EpochReport
from rwood.search.classes import make


def build_pruner(run: RunConfig, search: SearchConfig) -> BasePruner:
    """The pruner that a search names; one that never prunes if it names none.

    Its steps are epochs. A first rung that is not named comes right after the warm-up.

    Raises:
        SpecError: no such pruner or argument, or its first rung is inside the warm-up.
    """
    if search.pruner is None:
        return NopPruner()
    first = search.pruner.arguments.get("min_resource")
    if isinstance(first, int) and first <= run.warmup_ends:
        raise SpecError(
            f"search.pruner.min_resource: epoch {first} is inside the warm-up of the learning rate "
            f"(to epoch {run.warmup_ends}, see schedule), where no trial is judged; take "
            f"{run.warmup_ends + 1} or more",
            key="search.pruner.min_resource",
            got=first,
        )
    least = search.pruner.first_rung(run.warmup_ends, run.epochs)
    defaults: dict[str, Any] = {"min_resource": least, "max_resource": run.epochs}
    if search.pruner.name == "asha":
        defaults["reduction_factor"] = search.pruner.reduction
    made: BasePruner = make("pruner", search.pruner, defaults)
    return made


def pruner_value(
    history: Sequence[EpochReport], run: RunConfig, search: SearchConfig
) -> float | None:
    """What a pruner sees of a trial's last epoch; None if it sees nothing of it.

    The mean of the last `pruner.smooth` validations after the warm-up; `history` ends with the
    epoch that is judged.
    """
    metric = search.pruning_metric
    if metric not in history[-1].metrics or history[-1].epoch <= run.warmup_ends:
        return None
    count = search.pruner.smoothed_over if search.pruner is not None else 1
    values = [
        report.metrics[metric]
        for report in history
        if report.epoch > run.warmup_ends and metric in report.metrics
    ]
    last = values[-count:]
    return sum(last) / len(last)


def is_judged(epoch: int, run: RunConfig) -> bool:
    """True if the pruner is asked after this epoch."""
    return run.warmup_ends < epoch <= last_judged(run.epochs)
