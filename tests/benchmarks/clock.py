"""Time spent in a few functions of a running program."""

import math
import time
from collections import defaultdict
from typing import Any


class Clock:
    """Seconds spent in a few functions and how often they were called, by name."""

    def __init__(self) -> None:
        """Nothing spent."""
        self.cpu: dict[str, float] = defaultdict(float)
        self.wall: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def watch(self, kind: type, method: str, name: str) -> None:
        """Time every call of a method."""
        real = getattr(kind, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began, cpu = time.perf_counter(), time.thread_time()
            try:
                return real(*args, **kwargs)
            finally:
                self.wall[name] += time.perf_counter() - began
                self.cpu[name] += time.thread_time() - cpu
                self.calls[name] += 1

        setattr(kind, method, timed)

    def each(self, name: str, calls: int, wall: float) -> float:
        """Wall milliseconds a call, of those after the first calls, which took some seconds."""
        fresh = self.calls[name] - calls
        return 1000 * (self.wall[name] - wall) / fresh if fresh else math.nan
