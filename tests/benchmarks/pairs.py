"""Two ways to the same numbers, timed side by side.

CPU time of one thread, the two sides in turn: on a shared machine wall times move by factors, while
the ratio of such pairs stays within about a tenth. Nothing here is asserted; a row is printed.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def compare(
    name: str,
    reference: Callable[[], Any],
    ours: Callable[[], Any],
    *,
    target: str,
    pairs: int = 5,
    repeats: int = 1,
) -> float:
    """Median over pairs of reference time / our time; prints one row of the table.

    Args:
        name: what is measured.
        reference: the plain way.
        ours: the same through rwood.
        target: the ratio to reach, as text for the row.
        pairs: how many pairs, after one unmeasured call of each side.
        repeats: calls within one measurement, for short ones.

    Returns:
        The ratio.
    """
    torch.set_num_threads(1)
    sides = (reference, ours)
    for side in sides:
        side()
    times = [[_seconds(side, repeats) for side in sides] for _ in range(pairs)]
    ratios = [slow / fast for slow, fast in times]
    slow, fast = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(ratios)
    print(
        f"\n| {name} | reference {slow:.1f} ms | rwood {fast:.1f} ms | {ratio:.2f}x "
        f"({min(ratios):.2f} to {max(ratios):.2f}) | target {target} |"
    )
    return ratio


def peak_bytes(run: Callable[[], Any]) -> int:
    """Most bytes held at once beyond what was there, from every event of torch's CPU allocator."""
    run()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def _seconds(run: Callable[[], Any], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - start) / repeats
