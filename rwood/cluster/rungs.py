"""ASHA's stopping rule (Li et al., MLSys 2020), in an order that timing cannot change."""

import bisect
from dataclasses import dataclass, field

import numpy as np

from rwood.spec.search import EarlyStopping


@dataclass
class Rung:
    """An epoch at which trials are compared, one by one in the order of their numbers.

    Differs from Ray's AsyncHyperBandScheduler, where a trial is compared with whoever reported
    before it: here with every trial of a lower number, however late that one reports.
    """

    epoch: int
    reduction: int
    """eta: one in eta trials passes."""
    minimized: bool
    """Less is better."""
    next: int = 0
    """Number of the trial to be judged next; those below have been."""
    weak: set[int] = field(default_factory=set)
    """Numbers of those that did not pass."""
    _values: list[float] = field(default_factory=list)
    """What they reached here, in ascending order."""

    def judge(self, value: float) -> bool:
        """Whether the next trial is weak: worse than the best 1/eta of those before it."""
        sign = -1.0 if self.minimized else 1.0
        weak = False
        if self._values:
            cutoff = np.percentile(self._values, (1 - 1 / self.reduction) * 100)
            weak = bool(sign * value < cutoff)
        bisect.insort(self._values, sign * value)
        if weak:
            self.weak.add(self.next)
        self.next += 1
        return weak

    def skip(self) -> None:
        """The next trial ended before it came here."""
        self.next += 1


def build_rungs(rule: EarlyStopping | None, epochs: int, *, minimized: bool) -> list[Rung]:
    """Rungs at grace, grace x eta, ... below the full budget; none without a rule.

    Args:
        rule: grace and eta.
        epochs: the full budget.
        minimized: less is better.
    """
    rungs: list[Rung] = []
    epoch = rule.grace_epochs if rule else epochs
    while rule and epoch < epochs:
        rungs.append(Rung(epoch, rule.reduction, minimized))
        epoch *= rule.reduction
    return rungs
