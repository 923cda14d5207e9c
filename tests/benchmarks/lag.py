"""How busy workers are that wait for the ledger's order: `python -m tests.benchmarks.lag`.

Trainings are simulated in a time of their own: 20 epochs, speeds from .8 to 1.25, values that tell
more of a trial the longer it runs. Who may start, who is stopped and what counts is said by a real
ledger, with eta = 3 and rungs after 2, 6 and 18 epochs. A worker is busy while it trains; what it
trains while its trial's verdict is out, and is then stopped, is busy but does not count. Time ends
when the last trial starts.
"""

import argparse
import heapq
import random
import statistics
import tempfile
from pathlib import Path

from rwood.config.study import StudyConfig
from rwood.results import EpochReport
from rwood.search.ledger import LAG, Ledger
from tests.tiny import tiny

EPOCHS = 20
TURNS = 25
"""Trials a worker, on average."""


def play(study: StudyConfig, lag: int, folder: Path, seed: int) -> tuple[float, float]:
    """One search; the shares of the workers' time that are busy, and that count."""
    chance = random.Random(seed)
    assert study.search is not None
    trials = study.search.trials
    merit = [chance.random() for _ in range(trials)]
    slowness = [chance.uniform(0.8, 1.25) for _ in range(trials)]
    ledger = Ledger(study, folder, lambda trial: None)
    ledger.lag = lag * ledger.workers
    now, idle = 0.0, ledger.workers
    reports: list[tuple[float, int, int]] = []  # when, whose, after how many epochs
    past: list[tuple[float, int, int]] = []
    while True:
        while idle and ledger.may_propose(len(ledger.trials)):
            number, idle = len(ledger.trials), idle - 1
            ledger.open(number, {})
            heapq.heappush(reports, (now + slowness[number], number, 1))
            if len(ledger.trials) == trials:
                return shares(ledger, slowness, [*past, *reports], now)
        past.append(heapq.heappop(reports))
        now, number, epoch = past[-1]
        value = merit[number] + chance.gauss(0, 0.1 * (1 - epoch / EPOCHS))
        ledger.add(number, EpochReport(epoch=epoch, time=now, metrics={"val/auroc": value}))
        if ledger.trials[number].state == "stopped" or epoch == EPOCHS:
            idle += 1
        else:
            heapq.heappush(reports, (now + slowness[number], number, epoch + 1))


def shares(
    ledger: Ledger, slowness: list[float], reports: list[tuple[float, int, int]], end: float
) -> tuple[float, float]:
    """Of all workers' time up to an end, what the epochs fill, and those that count."""
    busy = counted = 0.0
    for at, number, epoch in reports:
        spent = min(at, end) - min(at - slowness[number], end)
        trial = ledger.trials[number]
        busy += spent
        counted += spent * (trial.state != "stopped" or epoch <= len(trial.history))
    return busy / (ledger.workers * end), counted / (ledger.workers * end)


def main() -> None:
    """Print a table, means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4, 8, 16, 64])
    parser.add_argument("--lags", type=int, nargs="+", default=[1, 2, LAG, 8])
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    print("busy (of it counted), % of the workers' time, by the lag in trials a worker")
    print("| workers | " + " | ".join(map(str, asked.lags)) + " |")
    print("| --: |" + " --: |" * len(asked.lags))
    for workers in asked.workers:
        cells = []
        for lag in asked.lags:
            found = []
            for seed in range(asked.seeds):
                with tempfile.TemporaryDirectory() as scratch:
                    study = tiny(
                        Path(scratch),
                        run__epochs=EPOCHS,
                        search__trials=TURNS * workers,
                        search__early_stopping={"grace_epochs": 2, "reduction": 3},
                        cluster__max_concurrent=workers,
                    )
                    found.append(play(study, lag, Path(scratch) / "results", seed))
            busy, counted = (statistics.fmean(share) for share in zip(*found, strict=True))
            cells.append(f"{100 * busy:.0f} ({100 * counted:.0f})")
        print(f"| {workers} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
