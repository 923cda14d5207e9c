"""Quality of a search at equal wall-clock: `python -m tests.benchmarks.search_quality`.

Trainings are simulated (`search_world.py`), samplers and schedulers are real (`search_methods.py`).
W workers train one trial each; after every epoch the method hears the value, in the order of
arrival, and says stop or go on; a free worker asks for the next trial. Every method gets the same
wall-clock: 3,200 epochs over W workers, and at least the time of three full trainings: 1,600, 400
and 300 epochs for W = 2, 8 and 32, which starts about 70 trials with 2 or 8 workers and 250 with
32. Regret is the best true value of the world minus that of the setting that the method chooses.

Ratio: mean regret over the first method's. Difference: to the first method's, world by world.
Discarded: trained for 99 or 100 epochs, yet not counted as complete. Busy: share of the workers'
time that is spent in epochs. The mean of 16 worlds moves by a third with the sampler's seed alone:
read the standard errors, and take 64 or more seeds before you believe in a tenth.
"""

import argparse
import heapq
import math
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np

from tests.benchmarks.search_methods import METHODS, Method
from tests.benchmarks.search_world import (
    EPOCHS,
    SPEEDS,
    best_value,
    epoch_times,
    observed_curve,
    true_value,
)

FULL = 99
"""Epochs after which a training is as good as done: the last rung."""


@dataclass(frozen=True)
class Cell:
    """One column of the comparison."""

    workers: int
    speeds: str

    @property
    def wall_clock(self) -> float:
        """How long a search lasts, in epochs of an ordinary worker."""
        return max(3200 / self.workers, 3.0 * EPOCHS)


@dataclass(frozen=True)
class Outcome:
    """What a search came to."""

    regret: float
    started: int
    complete: int
    discarded: int
    busy: float


@dataclass
class _Running:
    """A trial on a worker."""

    worker: int
    values: np.ndarray
    ends: np.ndarray
    """When each epoch ends."""
    epoch: int = 0


def play(method: Method, cell: Cell, seed: int) -> Outcome:
    """Search the world of a seed until the wall-clock is over, epoch end by epoch end."""
    free, running, trained = list(range(cell.workers)), {}, {}
    arrivals: list[tuple[float, int]] = []  # when, whose next epoch ends
    now = busy = 0.0
    while True:
        while free and (proposal := method.propose()) is not None:
            trial, params = proposal
            worker = free.pop(0)
            times = epoch_times(cell.speeds, seed, trial, worker)
            values = observed_curve(seed, params, trial)
            running[trial] = _Running(worker, values, now + np.cumsum(times))
            busy -= now
            heapq.heappush(arrivals, (running[trial].ends[0], trial))
        if not arrivals or arrivals[0][0] > cell.wall_clock:
            break
        now, trial = heapq.heappop(arrivals)
        state = running[trial]
        state.epoch += 1
        trained[trial] = state.epoch
        stop = method.report(trial, state.epoch, float(state.values[state.epoch - 1]))
        if stop or state.epoch == EPOCHS:
            if not stop:
                method.complete(trial)
            busy += now
            free.append(running.pop(trial).worker)
        else:
            heapq.heappush(arrivals, (state.ends[state.epoch], trial))
    busy += cell.wall_clock * len(running)
    complete = method.completed()
    full = {trial for trial, epochs in trained.items() if epochs >= FULL}
    return Outcome(
        regret=best_value(seed) - true_value(seed, method.best()),
        started=len(trained.keys() | running.keys()),
        complete=len(complete),
        discarded=len(full - complete - running.keys()),
        busy=busy / (cell.workers * cell.wall_clock),
    )


def one(job: tuple[Callable[[int], Method], Cell, int]) -> Outcome:
    """One search, in a process of the pool."""
    build, cell, seed = job
    return play(build(seed), cell, seed)


def row(cell: Cell, outcomes: dict[str, list[Outcome]]) -> str:
    """Lines of the table: the methods of a cell, the first of them as the reference."""
    reference = [outcome.regret for outcome in next(iter(outcomes.values()))]
    lines = []
    for name, each in outcomes.items():
        regrets = [outcome.regret for outcome in each]
        differences = [ours - theirs for ours, theirs in zip(regrets, reference, strict=True)]
        lines.append(
            f"| {cell.workers} | {cell.speeds} | {name} | {mean_and_error(regrets)} "
            f"| {statistics.fmean(regrets) / statistics.fmean(reference):.2f} "
            f"| {mean_and_error(differences)} | {statistics.fmean(o.started for o in each):.0f} "
            f"| {statistics.fmean(o.complete for o in each):.1f} "
            f"| {sum(o.discarded for o in each)} "
            f"| {100 * statistics.fmean(o.busy for o in each):.1f} |"
        )
    return "\n".join(lines)


def mean_and_error(values: list[float]) -> str:
    """A mean with its standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.2f} ± {error:.2f}"


def main() -> None:
    """Print a table, means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--speeds", nargs="+", default=list(SPEEDS), choices=SPEEDS)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--first-seed", type=int, default=0)
    asked = parser.parse_args()
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    print("| W | speeds | method | regret, points | ratio | difference | started | complete "
          "| discarded, sum | busy, % |\n| --: | --- | --- |" + " --: |" * 7)  # fmt: skip
    with ProcessPoolExecutor(2) as pool:
        for workers, speeds in product(asked.workers, asked.speeds):
            cell = Cell(workers, speeds)
            jobs = [(METHODS[m], cell, seed) for m in asked.methods for seed in seeds]
            results = list(pool.map(one, jobs))
            outcomes = {
                name: results[i * asked.seeds : (i + 1) * asked.seeds]
                for i, name in enumerate(asked.methods)
            }
            print(row(cell, outcomes), flush=True)


if __name__ == "__main__":
    main()
