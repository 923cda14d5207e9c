"""What the driver of a large study costs: `python -m tests.benchmarks.scale [--trials N ...]`.

Trainings are simulated, the driver is not: a real study folder, searcher, scheduler, Optuna's
journal, screen, and a real MLflow store. With `--controller loop` a plain loop stands for Tune and
holds `--concurrent` trials open; with `tune` Ray Tune itself runs them, in actors that report at
once, on a private Ray that believes in a CPU for each. Every size runs in a process of its own.
Milliseconds are CPU time, which other programs on the machine change little, per trial, or per
state of a run that is sent to MLflow; of those sent after the search they are wall time.
"""

import argparse
import json
import math
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.clock import Clock
from tests.tiny import tiny

EPOCHS = 9
MEMORY = "memory, MiB"
COST = ", ms"
"""Ends the name of a cost a trial: where that does not rise with the size, the cost is linear."""


def value(params: dict[str, Any], epoch: int) -> float:
    """A smooth objective in two hyperparameters."""
    tau, shift = params["loss.temperature"], params["loss.between_shift"]
    return 90 - 40 * abs(tau - 0.2) - abs(shift - 2) + math.log(epoch)


def report(params: dict[str, Any], epoch: int) -> str:
    """An epoch as a worker sends it: ten metrics, like a study with three validation sets."""
    sets = ("", "tin/", "texture/")
    metrics = {f"val/{s}{name}": value(params, epoch) for s in sets for name in ("auroc", "fpr95")}
    metrics |= {"train/loss": 1 / epoch, "train/lr": 0.1, "sys/images_per_s": 1000.0,
                "sys/train_seconds": 1.0}  # fmt: skip
    return json.dumps({"epoch": epoch, "time": time.time(), "metrics": metrics})


class Plain:
    """What early stopping reads of a Tune trial."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Keep the trial's settings."""
        self.config = config


def loop(study: Any, trials: Any, *_: Any) -> None:
    """Tune's part, played by a loop: open trials up to the limit, one epoch of a random one."""
    from rwood.ray_backend.messages import REPORT
    from rwood.ray_backend.stalls import Progress
    from rwood.search.scheduler import PruningScheduler
    from rwood.search.searcher import OptunaSearcher

    cluster = study.cluster
    searcher = OptunaSearcher(trials, cluster.max_concurrent, cluster.max_failures)
    scheduler, order = PruningScheduler(trials, Progress(), print), random.Random(0)
    names: list[str] = []
    live: dict[str, tuple[dict[str, Any], int]] = {}
    count = 0
    while True:
        while isinstance(config := searcher.suggest(f"t{count}"), dict):
            live[f"t{count}"] = (config, 0)
            names.append(f"t{count}")
            count += 1
        if not live:
            return
        at = order.randrange(len(names))
        name = names[at]
        config, epoch = live[name]
        live[name] = (config, epoch + 1)
        result = {REPORT: report(config["params"], epoch + 1)}
        decision = scheduler.on_trial_result(None, Plain(config), result)
        if decision == "STOP" or epoch + 1 == EPOCHS:
            searcher.on_trial_complete(name, result)
            del live[name]
            names[at] = names[-1]
            names.pop()


def instant(study: Any, folder: Path, data_root: Path) -> Any:
    """A Tune trainable that reports every epoch at once."""
    from ray import tune

    epochs, told = EPOCHS, report

    def train(config: dict[str, Any]) -> None:
        for epoch in range(1, epochs + 1):
            tune.report({"report": told(config["params"], epoch)})

    return tune.with_resources(train, {"cpu": 1})


def one(trials: int, asked: argparse.Namespace) -> None:
    """Run one study and print its costs."""
    warnings.simplefilter("ignore")
    import psutil
    from mlflow import MlflowClient
    from rich.console import Console

    from rwood.progress.display import Lines
    from rwood.search import journal, tuner
    from rwood.search.trials import Trials
    from rwood.study import connection, mlflow_updates, stages
    from rwood.study.stages import open_study
    from rwood.tracking import sender

    clock = Clock()
    clock.watch(Trials, "_propose", "ask")
    clock.watch(Trials, "report", "report")
    clock.watch(journal.Journal, "_write", "journal")
    clock.watch(mlflow_updates.MlflowUpdates, "trial", "MLflow state")
    clock.watch(Lines, "trial", "screen")
    clock.watch(sender.Sender, "send", "MLflow")
    for method in ("create_run", "log_batch", "log_inputs", "get_run", "update_run",
                   "set_terminated"):  # fmt: skip
        clock.watch(MlflowClient, method, "requests")
    if asked.controller == "loop":
        tuner._tune = loop
        connection.Connection.connect = lambda self: None
    else:
        tuner._trainable = instant
        connection.session = partial(connection.session, cpus=asked.concurrent)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        study = tiny(
            folder,
            name=f"scale-{trials}-{random.SystemRandom().randrange(10**9)}",
            run__epochs=EPOCHS,
            search__trials=trials,
            search__sampler=asked.sampler,
            run__schedule={"warmup": "none"},
            search__pruner={"name": "asha", "min_resource": 1, "reduction_factor": 3},
            cluster__max_concurrent=asked.concurrent,
        )
        place = stages.Context(folder / "results", folder, None, asked.tracking_uri)
        quiet = Lines(study, Console(file=(folder / "screen").open("w")))
        with open_study(study, place, quiet) as opened:
            opened._ray.connect()
            began, cpu = time.perf_counter(), time.process_time()
            opened.search()
            searched, cpu = time.perf_counter() - began, time.process_time() - cpu
            row = {"trials/s": trials / searched, "driver CPU, ms": 1000 * cpu / trials}
            row |= costs(clock, trials)
            sent, spent = clock.calls["MLflow"], clock.wall["MLflow"]
            opened._mlflow._tracker.flush(asked.drain)
            states = clock.calls["MLflow"]
            row["MLflow after the search, ms"] = clock.each("MLflow", sent, spent)
            row["MLflow CPU, ms"] = 1000 * clock.cpu["MLflow"] / states
            row["MLflow states/s"] = states / clock.wall["MLflow"]
            row["MLflow requests/s"] = clock.calls["requests"] / clock.wall["MLflow"]
            row["MLflow states in all"] = states
            row["MLflow runs unsent"] = opened._mlflow._tracker._pending.left()[0]
            row[MEMORY] = psutil.Process().memory_info().rss / 2**20
            row |= restart(study, folder / "results" / study.name)
            print("ROW" + json.dumps(row), flush=True)
            shutil.rmtree(scratch, ignore_errors=True)
            if asked.controller == "tune":
                import ray

                ray.shutdown()
            os._exit(0)  # Without what MLflow did not take in time.


def costs(clock: Clock, trials: int) -> dict[str, float]:
    """CPU milliseconds a trial of the driver's parts, each without the parts within it."""
    cpu = dict(clock.cpu)
    cpu["report"] -= cpu["MLflow state"] + cpu["screen"]  # It tells them of every change.
    names = ("ask", "report", "journal", "screen")
    writes = {"journal writes/s": clock.calls["journal"] / clock.wall["journal"]}
    return {name + COST: 1000 * cpu[name] / trials for name in names} | writes


def restart(study: Any, folder: Path) -> dict[str, float]:
    """Seconds of a restart, which reads everything back and is ready to propose."""
    from rwood.search.generations import open_generation, open_pruning_study
    from rwood.search.journal import open_storage
    from rwood.search.read_trials import read_trials
    from rwood.search.trials import Trials

    record = json.loads((folder / "study.json").read_text())["id"]
    began = time.perf_counter()
    known = read_trials(study, folder)
    with open_storage(folder, None) as store:
        main = open_generation(study, store, record)
        pruning = open_pruning_study(study, store, main)
        trials = Trials(study, folder, store, main, pruning, lambda trial: None)
    spent = time.perf_counter() - began
    assert not trials.are_left
    assert {trial.state for trial in known.values()} == {"complete", "pruned"}
    return {"restart, s": spent}


def growth(name: str, sizes: list[int], row: list[float]) -> str:
    """How a cost changes from each size to the next one."""
    steps = list(zip(sizes, row, sizes[1:], row[1:], strict=False))
    if name == MEMORY:
        return ", ".join(f"{1024 * (b - a) / (n - m):.0f} KiB a trial" for m, a, n, b in steps)
    return ", ".join(f"x {b / a:.2f}" for _, a, _, b in steps if a) if name.endswith(COST) else ""


def main() -> None:
    """Print the growth curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--concurrent", type=int, default=64)
    parser.add_argument("--sampler", choices=("random", "tpe"), default="random")
    parser.add_argument("--controller", choices=("loop", "tune"), default="loop")
    parser.add_argument("--tracking-uri", help="an MLflow server; else SQLite")
    parser.add_argument("--drain", type=float, default=3600, help="seconds that MLflow may take")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        one(asked.trials[0], asked)
        return
    rows = []
    for trials in asked.trials:
        words = [sys.executable, "-m", "tests.benchmarks.scale", "--one", "--trials", str(trials),
                 "--concurrent", str(asked.concurrent), "--sampler", asked.sampler, "--controller",
                 asked.controller, "--drain", str(asked.drain)]  # fmt: skip
        words += ["--tracking-uri", asked.tracking_uri] if asked.tracking_uri else []
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.partition("ROW")[2]))
        print(f"{trials} trials: {rows[-1]}", file=sys.stderr, flush=True)
    print(f"{asked.sampler}, {asked.concurrent} at a time, {EPOCHS} epochs, {asked.controller}")
    print("| | " + " | ".join(f"{n:,}" for n in asked.trials) + " | growth |")
    print("| -- |" + " --: |" * len(rows) + " -- |")
    for name in rows[0]:
        row = [row[name] for row in rows]
        cells = (f"{cell:,.0f}" if cell >= 100 else f"{cell:.3g}" for cell in row)
        print(f"| {name} | {' | '.join(cells)} | {growth(name, asked.trials, row)} |")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"(CPU in all {used.ru_utime + used.ru_stime:.0f} s)")


if __name__ == "__main__":
    main()
