"""When each training was last heard of, and how long a silence is a stall."""

import statistics
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from rwood.text import duration

_LEAST_S = 600.0
_FACTOR = 10
"""A limit that nobody named: so many times the median between two reports, and at least that."""


@dataclass
class Progress:
    """When each training that runs was last heard of, by its number or name.

    One that waits for its resources is not among them. Where none has reported yet, nobody knows
    how long an epoch takes, and nothing is a stall unless the study names a limit.
    """

    limit_minutes: float | None = None
    """`cluster.stall_minutes`."""
    last: dict[Hashable, float] = field(default_factory=dict)
    """Training -> seconds of the monotonic clock."""
    gaps: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    """Seconds between the last reports of all trainings."""

    def start(self, name: Hashable, now: float) -> None:
        """A worker began with a training."""
        self.last[name] = now

    def report(self, name: Hashable, now: float) -> None:
        """A training reported."""
        if name in self.last:
            self.gaps.append(now - self.last[name])
        self.last[name] = now

    def end(self, name: Hashable) -> None:
        """A training's worker is gone, or has nothing more to report."""
        self.last.pop(name, None)

    def limit(self) -> float | None:
        """Seconds without a report that are a stall; None if not known yet."""
        if self.limit_minutes is not None:
            return 60 * self.limit_minutes
        return max(_LEAST_S, _FACTOR * statistics.median(self.gaps)) if self.gaps else None

    def stalled(self, now: float) -> list[Hashable]:
        """Trainings that were not heard of for too long."""
        limit = self.limit()
        if limit is None:
            return []
        return [name for name, heard in list(self.last.items()) if now - heard > limit]

    @property
    def silence(self) -> str:
        """What a stall is, for a sentence."""
        return f"no report for {duration(self.limit() or 0.0)}"
