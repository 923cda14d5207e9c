"""Axes that a few far worse trials would squash."""

import statistics
from collections.abc import Sequence

_FENCE = 3.0
"""Spreads of the middle half beyond which a value is far out (Tukey, 1977)."""
_LEAST = 8
"""Values from which a middle half means something."""


def inner_limits(values: Sequence[float], *, minimized: bool) -> tuple[float, float] | None:
    """Ends of an axis without the values that are far out on the worse side; None if none is.

    The best values always stay. E.g. 97, 98, 98, 98, 99, 99, 99, 40, higher being better: 40 lies
    more than three spreads of the middle half below it, and the axis begins just below 97.
    """
    if len(values) < _LEAST:
        return None
    first, _, third = statistics.quantiles(values, n=4)
    reach = _FENCE * (third - first)
    inner = [v for v in values if (v <= third + reach if minimized else v >= first - reach)]
    if reach == 0 or len(inner) == len(values):
        return None
    room = 0.06 * (max(inner) - min(inner))
    return min(inner) - room, max(inner) + room
