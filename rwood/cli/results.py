"""`rwood results`: what a study found, as tables for scripts; whoever works on it goes on."""

import json
from typing import Annotated, Literal, get_args

import typer

from rwood.cli.options import RESULTS, AsJson, File, Results, StorageUrl
from rwood.config.load import load_study
from rwood.errors import SpecError

TableName = Literal["trials", "epochs", "reruns", "scores"]
"""The frames of the Python API."""


def results(
    file: File,
    table: Annotated[
        TableName | None, typer.Option(help="One table; default: trials and reruns.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, of one table.")] = False,
    results: Results = RESULTS,
    storage: StorageUrl = None,
    as_json: AsJson = False,
) -> None:
    """Print verdict, champion, trials and reruns of a study, as text, CSV or JSON."""
    from rwood.study.frames import read_results

    if csv and as_json:
        raise SpecError("rwood results takes --csv or --json, not both")
    if csv and table is None:
        names = ", ".join(get_args(TableName))
        raise SpecError(f"--csv prints one table: name it by --table, one of {names}")
    study = load_study(file)
    outcome = read_results(study, folder=results / study.name, storage=storage)
    head = {
        "study": study.name,
        "verdict": outcome.verdict,
        "champion": outcome.champion,
        "detector": str(outcome.detector),
    }
    tables = [table] if table else ["trials", "reruns"]
    frames = {name: getattr(outcome, name) for name in tables}
    # A named index is columns here.
    frames = {k: f if f.index.names == [None] else f.reset_index() for k, f in frames.items()}
    if csv:
        typer.echo(next(iter(frames.values())).to_csv(index=False), nl=False)
    elif as_json:
        rows = {  # NaN is null
            name: json.loads(frame.to_json(orient="records", double_precision=15))
            for name, frame in frames.items()
        }
        typer.echo(json.dumps(head | rows, indent=1))
    else:
        for key, value in head.items():
            typer.echo(f"{key}: {value}")
        for name, frame in frames.items():
            text = frame.dropna(axis=1, how="all").to_string(index=False, na_rep="")
            typer.echo(f"\n{name}\n{text}")
