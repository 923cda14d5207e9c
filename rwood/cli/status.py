"""`rwood status`: how far a study is, told from its results folder; nothing is locked or loaded."""

import json
import re
import socket
import time
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import typer
from rich.console import Console

from rwood.cli.options import RESULTS, AsJson, File, Results, StorageUrl
from rwood.config.base import digest
from rwood.config.load import load_study
from rwood.config.study import StudyConfig
from rwood.paths import StudyPaths
from rwood.progress.state import StudyState
from rwood.progress.status import Running, Status, read_live, running_lines
from rwood.results import StudyResult, TrialResult, load
from rwood.storage import is_remote
from rwood.study.lease import LEASE_S, last_holder
from rwood.study.measured import is_measured
from rwood.study.plans import (
    Plan,
    finals_folder,
    is_decided,
    known_plan,
    rerun_folder,
    rerun_plan,
    trials_to_run,
)
from rwood.study.record import read_record
from rwood.text import duration

_FRESH_S = 60.0
"""News that is older is said to be."""


def status(
    file: File, results: Results = RESULTS, storage: StorageUrl = None, as_json: AsJson = False
) -> None:
    """Tell how far a study is, from its results folder, wherever it runs."""
    study = load_study(file)
    status = read_status(study, results / study.name, storage)
    if as_json:
        typer.echo(json.dumps(asdict(status), indent=1))
        return
    console = Console(highlight=False)
    for line in describe(status, console.width, time.time()):
        console.print(line, markup=False, soft_wrap=True)
    if status.stage == "finished":
        from rwood.report.outcome import outcome

        record = load(StudyResult, StudyPaths(results / study.name).record)
        console.print(f"\n{outcome(study, record)}", markup=False, soft_wrap=True)


def read_status(study: StudyConfig, folder: Path, storage: str | None = None) -> Status:
    """How far a study is; reads only.

    Raises:
        StudyError: the record is another study's or version's, or the trials are elsewhere.
    """
    from rwood.search.read_trials import read_trials

    paths, record = StudyPaths(folder), read_record(study, folder, storage)
    if record is None:
        return Status(study.name, "not started", False, None)
    trials = list(read_trials(study, folder, storage).values()) if study.search else []
    decided = is_decided(study, record, trials)
    plan: Plan = []
    if decided:
        plan = rerun_plan(study, record.champion_params, trials)
    elif study.finals is not None and record.finals is not None:
        plan = known_plan(study, record.finals)
    folder_of = rerun_folder if decided else finals_folder
    trainings = {f"{label}-seed{run.seed}": folder_of(study, folder, label, run)
                 for label, run in plan}  # fmt: skip
    left = {n: path for n, path in trainings.items() if not (path / "result.json").exists()}
    state = StudyState(study, _stage(study, record, trials, len(left) if decided else None, paths))
    state.begin(trials)
    state.wait_for(left)
    state.epochs = {f"{label}-seed{run.seed}": run.epochs for label, run in plan}
    process, working = _leaser(folder) if is_remote(folder) else _process(paths.lock)
    names = {f"trial {n}": paths.trial(n).folder for n in sorted(state.live)}
    names |= {name: path for name, path in left.items() if _epoch(path)}
    status = replace(
        state.status(),
        working=working,
        process=process,
        verdict=record.finals.sentence if record.finals is not None and decided else "",
        reruns=len(trainings) - len(left),
        reruns_wanted=len(trainings),
        running=tuple(Running(n, _epoch(path), state.epochs_of(n)) for n, path in names.items()),
        images_per_s=None,
        gpu_memory_gb=None,
        at=None,
    )
    return _as_on_screen(status, paths.live)


def describe(status: Status, width: int, now: float | None = None) -> list[str]:
    """What people read.

    Only what the study found may need more than the width; `now` is for how old the news is.
    """
    head = f"study {status.study}: {status.stage}"
    if status.process and status.stage != "finished":
        words = {True: "at work: ", False: "nobody works on it; last: ", None: "opened last by "}
        head += f" ({words[status.working]}{status.process})"
    lines = [head]
    if status.trials_wanted and status.trials:
        lines.append(f"trials: {status.trial_words()}")
    if status.best:
        lines.append(f"{status.best_title()}: {status.best_words()}")
    if status.verdict:
        lines.append(f"finals: {status.verdict}")
    if status.reruns_wanted and status.stage != "search":
        what = "finals" if status.stage == "finals" else "reruns"
        lines.append(f"{what}: {status.reruns}/{status.reruns_wanted} trainings done")
    lines += [f"  {line}" for line in running_lines(status.running, width - 2)]
    if status.speed_words():
        lines.append(status.speed_words())
    if now is not None and status.at is not None and now - status.at > _FRESH_S:
        lines.append(f"last heard of {duration(now - status.at)} ago")
    return lines


def _stage(
    study: StudyConfig,
    record: StudyResult,
    trials: list[TrialResult],
    left: int | None,
    paths: StudyPaths,
) -> str:
    """The stage that is not done; `left` are the reruns that are, None before they are known."""
    if study.search is not None and trials_to_run(study, trials):
        return "search"
    if left is None:
        return "select" if study.finals is None else "finals"
    if left or not record.runs or not all(is_measured(run, study) for run in record.runs):
        return "benchmark"
    there = paths.report.exists() and paths.detector.exists()
    return "finished" if record.finished == digest(study) and there else "report"


def _process(lock: Path) -> tuple[str | None, bool | None]:
    """Who opened the study last, and whether it still does; the lock is not touched."""
    if not lock.is_file():  # There are leases where results were copied from an object store.
        return None, False
    text = lock.read_text(encoding="utf-8").strip()
    match = re.fullmatch(r"process (\d+) on (.+)", text)
    if match is None:
        return text or None, None
    if match[2] != socket.gethostname():
        return text, None
    try:
        began = psutil.Process(int(match[1])).create_time()
    except psutil.NoSuchProcess:
        return text, False
    return text, began <= lock.stat().st_mtime + 1  # else the number was given to another process


def _leaser(folder: Path) -> tuple[str | None, bool | None]:
    """The same on an object store, which has a lease for a lock."""
    holder = last_holder(folder)
    if holder is None:
        return None, False
    fresh = time.time() - holder.renewed < LEASE_S  # by two clocks: a hint, not a lock
    return holder.process, fresh and not holder.is_gone


def _epoch(folder: Path) -> int:
    """Epochs whose checkpoint is there; of several seeds, those that all have."""
    seeds = list(folder.glob("seed-*"))
    if seeds:
        return min(map(_epoch, seeds))
    matches = (re.fullmatch(r"epoch-(\d+)\.pt", path.name) for path in folder.glob("epoch-*.pt"))
    return max((int(match[1]) for match in matches if match), default=0)


def _as_on_screen(status: Status, path: Path) -> Status:
    """With what only the process that works on the study knows, where it left word."""
    live = read_live(path)
    if status.working is False or live is None or live.stage != status.stage:
        return status
    return replace(
        status,
        running=live.running,
        images_per_s=live.images_per_s,
        gpu_memory_gb=live.gpu_memory_gb,
        seconds_left=live.seconds_left,
        at=live.at,
    )
