"""Options that several verbs share. The environment is read here and nowhere else; flags win."""

from pathlib import Path
from typing import Annotated

import typer

from rwood.storage import place

File = Annotated[Path, typer.Argument(help="A study file.", metavar="FILE")]
Results = Annotated[
    Path,
    typer.Option(
        help="Folder for results, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX.",
        parser=place,
        metavar="FOLDER",
    ),
]
DataRoot = Annotated[
    Path, typer.Option(help="Folder with image sets.", envvar="RWOOD_DATA", show_envvar=True)
]
Address = Annotated[
    str | None,
    typer.Option(
        help="A running Ray cluster (auto, host:port, ray://...); default: this machine.",
        envvar="RAY_ADDRESS",
        show_envvar=True,
    ),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        help="An MLflow server; default: a SQLite store in the results folder.",
        envvar="MLFLOW_TRACKING_URI",
        show_envvar=True,
    ),
]
StorageUrl = Annotated[
    str | None,
    typer.Option(
        help="Optuna's storage, e.g. postgresql://...; default: a journal in the results folder.",
        envvar="RWOOD_STORAGE",
        show_envvar=True,
    ),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Take trials that failed up again.")
]
Dashboard = Annotated[
    bool, typer.Option("--dashboard", help="Show Ray's dashboard of this machine's own Ray.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="A setting of the base run, e.g. loss.temperature=0.2."
    ),
]
Trials = Annotated[int | None, typer.Option(min=1, help="In place of the file's search.trials.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

RESULTS, DATA = Path("results"), Path("data")
