"""`rwood detect`: a score and a verdict per image."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rwood.cli.options import AsJson
from rwood.storage import local_copy, place

app = typer.Typer()


@app.command()
def detect(
    detector: Annotated[
        Path,
        typer.Argument(
            help="A detector's folder, e.g. results/digits/detector, or s3://..., gs://...",
            parser=place,
            metavar="DETECTOR",
        ),
    ],
    images: Annotated[list[Path], typer.Argument(help="Image files or folders.")],
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score images; exit code 1 if one could not be read, the rest go on."""
    from rwood.detector import detect as verdicts_on
    from rwood.detector import find_images, load_detector, verdicts_csv
    from rwood.training.worker import best_device

    with local_copy(detector) as folder:
        loaded = load_detector(folder, device=best_device())
    verdicts = list(verdicts_on(loaded, find_images(images)))
    if as_json:
        rows = [asdict(v) | {"path": str(v.path)} for v in verdicts]
        typer.echo(json.dumps(rows, indent=1))
    elif csv:
        for line in verdicts_csv(verdicts):
            typer.echo(line)
    else:
        typer.echo(f"threshold {loaded.card.threshold:.4g}: a higher score is called OOD")
        for verdict in verdicts:
            if verdict.error is not None:
                typer.echo(f"{'unreadable':<12}{'':>12}  {verdict.path}: {verdict.error}")
            else:
                word = "OOD" if verdict.ood else "ID"
                near = f"nearest class {verdict.class_name}"
                typer.echo(f"{word:<12}{verdict.score:>12.4g}  {verdict.path}  ({near})")
    if any(verdict.error for verdict in verdicts):
        raise typer.Exit(1)
