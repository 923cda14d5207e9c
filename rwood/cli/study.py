"""Verbs that take a study file: run, its four stages, check, train."""

import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rwood.cli.options import (
    DATA,
    RESULTS,
    Address,
    AsJson,
    Dashboard,
    DataRoot,
    File,
    Results,
    RetryFailed,
    Set,
    StorageUrl,
    TrackingUri,
    Trials,
)
from rwood.config.load import load_study, naming, set_values
from rwood.config.study import StudyConfig
from rwood.paths import StudyPaths
from rwood.results import EpochReport, StudyResult, load
from rwood.study.context import Context
from rwood.study.record import is_finished

STAGES = {
    "run": "Search, select, rerun, report; run again, it resumes what is unfinished.",
    "search": "Run the trials that are left.",
    "select": "Choose the best complete trial, on validation sets only.",
    "finals": "Race the best trials on fresh seeds, and prove the winner against the base run.",
    "benchmark": "Rerun the champion, and the base run beside it, over seeds on the test sets.",
    "report": "Write tables, figures and the page from what is on disk.",
}
"""Verbs that open a study and run a stage of it, or all; each is a method of the opened study."""


def stage_verb(verb: str) -> Callable[..., None]:
    """The command of a stage."""

    def command(
        file: File,
        results: Results = RESULTS,
        data_root: DataRoot = DATA,
        address: Address = None,
        tracking_uri: TrackingUri = None,
        storage: StorageUrl = None,
        retry_failed: RetryFailed = False,
        dashboard: Dashboard = False,
        set_: Set = None,
        trials: Trials = None,
        as_json: AsJson = False,
    ) -> None:
        study = _load(file, set_, trials)
        folder = results / study.name
        if verb == "run" and not retry_failed and is_finished(study, folder):
            page = StudyPaths(folder).report
            done = f"study {study.name} is finished, nothing is left to do: {page}"
            typer.echo(f"{_outcome(study, folder)}\n\n{done}", err=as_json)
        else:
            context = Context(
                results, data_root, address, tracking_uri, storage, retry_failed, dashboard
            )
            _work(study, verb, context, as_json)
        if as_json:
            typer.echo(StudyPaths(folder).record.read_text(encoding="utf-8"))

    return command


def check(
    file: File,
    images_per_s: Annotated[
        float | None, typer.Option(min=0.001, help="Speed of a worker, to print hours.")
    ] = None,
    data: Annotated[
        bool, typer.Option("--data", help="List every image set, and decode a sample of each.")
    ] = False,
    data_root: DataRoot = DATA,
    set_: Set = None,
    trials: Trials = None,
    as_json: AsJson = False,
) -> None:
    """Validate a study; print it resolved, as a study file, with its cost as comments."""
    from rwood.cost import estimate

    study = _load(file, set_, trials)
    if data:
        from rwood.data.sample import check_files

        check_files(study, data_root)
    plain = study.model_dump(mode="json")
    if as_json:
        cost = dict(line.split(": ", 1) for line in estimate(study, images_per_s))
        typer.echo(json.dumps({"study": plain, "cost": cost}, indent=1))
        return
    import yaml

    typer.echo(yaml.safe_dump(plain, sort_keys=False))
    for line in estimate(study, images_per_s):
        typer.echo(f"# {line}")


def train(
    file: File,
    set_: Set = None,
    results: Results = RESULTS,
    data_root: DataRoot = DATA,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Train the base run alone, on this machine or the cluster."""
    study = set_values(_load(file), set_ or ())
    from rwood.study.train_alone import train_alone

    console = Console(highlight=False, stderr=as_json)
    epochs = study.run.epochs

    def say(report: EpochReport) -> None:
        shown = {k: v for k, v in report.metrics.items() if k in ("val/auroc", "val/fpr95")}
        values = "".join(f"  {name} {value:.2f}" for name, value in shown.items())
        loss = report.metrics["train/loss"]
        console.print(f"epoch {report.epoch}/{epochs}  loss {loss:.4f}{values}", soft_wrap=True)

    report, folder = train_alone(
        study,
        results=results,
        data_root=data_root,
        address=address,
        on_report=say,
        on_note=lambda text: console.print(text, soft_wrap=True),
    )
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), "metrics": report.metrics}))
    else:
        console.print(f"weights: {folder}", soft_wrap=True)


def _load(
    file: Path, assignments: Sequence[str] | None = None, trials: int | None = None
) -> StudyConfig:
    from rwood.data.known import check_study

    study = load_study(file, assignments or (), trials)
    check_study(study)
    if study.search is not None and not study.search.is_short:
        from rwood.search.check import check_search

        with naming(file):
            check_search(study.run, study.search)
    return study


def _work(study: StudyConfig, verb: str, context: Context, quiet: bool) -> None:
    """Open the study, run one stage or all, say where the log is."""
    from rwood.progress.display import screen
    from rwood.study.stages import open_study

    console = Console(highlight=False, stderr=quiet)
    folder = context.results / study.name
    code = 130

    def terminate(number: int, frame: object) -> None:
        """The same as Ctrl-C but for the exit code; once is enough, saving takes a moment."""
        nonlocal code
        code = 143
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    try:
        view = screen(study, console, folder)
        with view, open_study(study, context, view) as opened:
            getattr(opened, verb)()
    except KeyboardInterrupt:
        typer.echo(
            "rwood: interrupted; what ran is saved, the same command goes on from here", err=True
        )
        raise typer.Exit(code) from None
    if verb in ("run", "benchmark", "report"):
        console.print(f"\n{_outcome(study, folder)}\n", markup=False, soft_wrap=True)
    console.print(f"log: {StudyPaths(folder).log}", soft_wrap=True)


def _outcome(study: StudyConfig, folder: Path) -> str:
    from rwood.report.outcome import outcome

    return outcome(study, load(StudyResult, StudyPaths(folder).record))
