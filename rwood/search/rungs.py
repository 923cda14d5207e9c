"""ASHA's stopping rule (Li et al., MLSys 2020), in an order that timing cannot change."""

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field

from rwood.config.search import SearchConfig
from rwood.config.study import is_minimized


@dataclass
class Rung:
    """An epoch at which trials are compared, one by one in the order of their numbers.

    Differs from Ray's AsyncHyperBandScheduler, where a trial is compared with whoever reported
    before it: here with every trial of a lower number, however late that one reports.
    """

    epoch: int
    reduction: int
    """eta: one in eta trials passes."""
    objectives: tuple[str, ...]
    next: int = 0
    """Number of the trial to be judged next; those below have been."""
    weak: set[int] = field(default_factory=set)
    """Numbers of those that did not pass."""
    _costs: list[list[float]] = field(default_factory=list)
    """What trials reached here, less being better, in ascending order."""

    def judge(self, metrics: Mapping[str, float]) -> bool:
        """Whether the next trial is weak.

        By one objective: worse than the best 1/eta of those before it. By several, which order
        trials only in part: more than 1/eta of them dominate it (ranked by the number of dominating
        trials as Fonseca and Fleming, ICGA 1993), so that one which none dominates goes on.
        """
        cost = [metrics[name] * (1 if is_minimized(name) else -1) for name in self.objectives]
        weak = self._is_weak(cost)
        if weak:
            self.weak.add(self.next)
        bisect.insort(self._costs, cost)
        self.next += 1
        return weak

    def skip(self) -> None:
        """The next trial ended before it came here."""
        self.next += 1

    def _is_weak(self, cost: list[float]) -> bool:
        if not self._costs:
            return False
        if len(cost) == 1:
            return cost[0] > self._cutoff()
        before = self._costs[: bisect.bisect_left(self._costs, cost)]  # none other dominates it
        above = sum(all(a <= b for a, b in zip(other, cost, strict=True)) for other in before)
        return above > len(self._costs) / self.reduction

    def _cutoff(self) -> float:
        """The quantile 1/eta, linear between neighbours."""
        place, share = divmod((len(self._costs) - 1) / self.reduction, 1)
        low = self._costs[int(place)][0]
        high = self._costs[min(int(place) + 1, len(self._costs) - 1)][0]
        return low + share * (high - low)


def build_rungs(search: SearchConfig, epochs: int) -> list[Rung]:
    """Rungs at grace, grace x eta, ... below the full budget; none without early stopping.

    Args:
        search: objectives, grace and eta.
        epochs: the full budget.
    """
    rule, rungs = search.early_stopping, []
    epoch = rule.grace_epochs if rule else epochs
    while rule and epoch < epochs:
        rungs.append(Rung(epoch, rule.reduction, search.objectives))
        epoch *= rule.reduction
    return rungs
