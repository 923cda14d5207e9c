"""`rwood detect`: a score and a verdict per image."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rwood.cli.options import AsJson
from rwood.errors import SpecError
from rwood.storage import local_copy, place
from rwood.text import count_of

if TYPE_CHECKING:
    from rwood.detector.files import Verdict
    from rwood.detector.metadata import Metadata


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
    false_alarms: Annotated[
        float | None,
        typer.Option(
            metavar="RATE", help="Share of ID images that may be called OOD; default: 0.05."
        ),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run the packages that the detector names.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score images; exit code 1 if one could not be read, the rest go on."""
    from rwood.detector.files import detect as verdicts_on
    from rwood.detector.files import find_images, verdicts_csv
    from rwood.detector.model import load_detector
    from rwood.training.worker import best_device

    if csv and as_json:
        raise SpecError("rwood detect takes --csv or --json, not both")
    with local_copy(detector) as folder:
        loaded = load_detector(folder, device=best_device(), trust=trust)
    if false_alarms is not None:
        loaded = loaded.with_false_alarms(false_alarms)
    verdicts: list[Verdict] = []

    def counted() -> Iterator["Verdict"]:
        for verdict in verdicts_on(loaded, find_images(images)):
            verdicts.append(verdict)
            yield verdict

    if as_json:
        rows = [asdict(v) | {"path": str(v.path)} for v in counted()]
        typer.echo(json.dumps(rows, indent=1))
    else:
        for line in verdicts_csv(counted()) if csv else _table(counted(), loaded.metadata):
            typer.echo(line)
    unread = sum(verdict.error is not None for verdict in verdicts)
    if unread:
        count = f"{unread} of {count_of(len(verdicts), 'image')}"
        typer.echo(f"rwood: {count} could not be read", err=True)
        raise typer.Exit(1)


def _table(verdicts: Iterable["Verdict"], metadata: "Metadata") -> Iterator[str]:
    """A line an image as soon as it is scored, under a heading."""
    title = "nearest class"
    wide = max(len(title), *map(len, metadata.class_names))
    yield (
        f"threshold {metadata.threshold:.4g}: an image with a higher score is called OOD, as "
        f"{100 * (1 - metadata.accepted):.3g} % of the ID validation images are"
    )
    yield f"{'verdict':<10}  {'score':>9}  {title:<{wide}}  image"
    for verdict in verdicts:
        if verdict.score is None:
            yield f"{'unreadable':<10}  {'':>9}  {'':<{wide}}  {verdict.error}"
        else:
            word = "OOD" if verdict.ood else "ID"
            yield (
                f"{word:<10}  {verdict.score:>9.4g}  {verdict.class_name or '':<{wide}}  "
                f"{verdict.path}"
            )
