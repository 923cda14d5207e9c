"""`rwood results`: what a study found, as tables for scripts; whoever works on it goes on."""

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rwood.cli.options import RESULTS, AsJson, File, Results, StorageUrl
from rwood.errors import SpecError

if TYPE_CHECKING:
    import pandas as pd

    from rwood.study.frames import StudyResults

app = typer.Typer()


class TableName(StrEnum):
    """The frames of the Python API."""

    TRIALS = "trials"
    EPOCHS = "epochs"
    RERUNS = "reruns"
    SCORES = "scores"


@app.command()
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
    from rwood.config.load import load_study
    from rwood.study.frames import read_results

    if csv and as_json:
        raise SpecError("rwood results takes --csv or --json, not both")
    if csv and table is None:
        names = ", ".join(TableName)
        raise SpecError(f"--csv prints one table: name it by --table, one of {names}")
    study = load_study(file)
    found = read_results(study, folder=results / study.name, storage=storage)
    tables = [table] if table else [TableName.TRIALS, TableName.RERUNS]
    frames = {name.value: _with_index(getattr(found, name)) for name in tables}
    if csv:
        typer.echo(next(iter(frames.values())).to_csv(index=False), nl=False)
    elif as_json:
        typer.echo(json.dumps(_head(found) | {k: _rows(f) for k, f in frames.items()}, indent=1))
    else:
        for key, value in _head(found).items():
            typer.echo(f"{key}: {value}")
        for name, frame in frames.items():
            text = frame.dropna(axis=1, how="all").to_string(index=False, na_rep="")
            typer.echo(f"\n{name}\n{text}")


def _head(found: "StudyResults") -> dict[str, Any]:
    """What stands once a study."""
    return {
        "study": found.study.name,
        "verdict": found.verdict,
        "champion": found.champion,
        "detector": str(found.detector),
    }


def _with_index(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The index as columns, if it has a name."""
    return frame if frame.index.names == [None] else frame.reset_index()


def _rows(frame: "pd.DataFrame") -> Any:
    """Rows as plain JSON; NaN is null."""
    return json.loads(frame.to_json(orient="records", double_precision=15))
