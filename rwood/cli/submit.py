"""`rwood submit`: a study as a job on a Ray cluster."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rwood import load_study
from rwood.cli.options import AsJson
from rwood.errors import SpecError
from rwood.ray_backend.submit import JobServer, Submission
from rwood.storage import place

OnCluster = "as the cluster's nodes see it"


def submit(
    file: Annotated[
        Path,
        typer.Argument(
            help="A study file; with --status or --stop its name will do.", metavar="FILE"
        ),
    ],
    address: Annotated[
        str,
        typer.Option(
            help="The head node's dashboard, e.g. http://head:8265.",
            envvar="RAY_API_SERVER_ADDRESS",
            show_envvar=True,
        ),
    ],
    results: Annotated[
        Path | None,
        typer.Option(
            help=f"Folder for results, {OnCluster}, or s3://..., gs://...",
            parser=place,
            metavar="FOLDER",
        ),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help=f"Image sets, {OnCluster}; default: its RWOOD_DATA.")
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="An MLflow server; default: its MLFLOW_TRACKING_URI.")
    ] = None,
    code: Annotated[
        bool, typer.Option("--code", help="Send this rwood along, in place of the cluster's.")
    ] = False,
    requirements: Annotated[
        Path | None,
        typer.Option(help="Packages for this job, as pip's requirements; each node installs them."),
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not follow the job.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Tell of the study's last job.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the study's job.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the study as a job on a Ray cluster; follow it, ask after it, stop it."""
    if status and stop:
        raise SpecError("rwood submit takes --status or --stop, not both")
    if status or stop:
        name, server = _named(file), JobServer(address)
        _tell(server.stop(name) if stop else server.latest(name), as_json)
        return
    study = load_study(file)
    if results is None:
        raise SpecError(f"rwood submit needs --results: the results folder {OnCluster}")
    if requirements is not None and not requirements.is_file():
        raise SpecError(f"--requirements {requirements}: there is no such file")
    server = JobServer(address)
    made = server.submit(
        study,
        results=results,
        data_root=data_root,
        tracking_uri=tracking_uri,
        code=code,
        requirements=requirements,
    )
    if no_wait:
        _tell(made, as_json)
        return
    typer.echo(f"{made.id} at {server.address}", err=True)
    ended = _follow(server, made.id, file, as_json)
    _tell(ended, as_json)
    raise typer.Exit(ended.exit_code if ended.exit_code is not None else 1)


def _named(file: Path) -> str:
    """The name of a study: a file's, or the word itself where it is no path."""
    is_path = file.name != str(file) or file.suffix or file.is_file()
    return load_study(file).name if is_path else str(file)


def _follow(server: JobServer, id: str, file: Path, quiet: bool) -> Submission:
    try:
        return server.follow(id, lambda text: typer.echo(text, nl=False, err=quiet))
    except KeyboardInterrupt:
        typer.echo(
            f"rwood: the job goes on; ask with rwood submit {file} --status, end it with --stop",
            err=True,
        )
        raise typer.Exit(130) from None


def _tell(job: Submission, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(job), indent=1))
        return
    line = f"{job.id}: {job.state.lower()}"
    for word, at in (("started", job.started), ("ended", job.ended)):
        if at is not None:
            line += f", {word} {time.strftime('%F %T', time.localtime(at))}"
    if job.exit_code:
        line += f", exit code {job.exit_code}"
    typer.echo(line)
