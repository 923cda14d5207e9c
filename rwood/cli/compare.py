"""`rwood compare`: studies side by side, from MLflow."""

import json
from pathlib import Path
from typing import Annotated

import typer

from rwood.cli.options import RESULTS, AsJson, TrackingUri
from rwood.errors import SpecError
from rwood.results import write_atomically


def compare(
    context: typer.Context,
    study: Annotated[
        list[str], typer.Argument(help="Names; of a single study, the settings that it reran.")
    ],
    tracking_uri: TrackingUri = None,
    results: Annotated[
        Path | None, typer.Option(help="Folder whose MLflow store to read, if no server is named.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table as CSV.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw near and far metrics as a PNG.")] = None,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Set studies side by side, from MLflow: settings that differ, results, tests, cost."""
    from rwood.report.compare import as_plain, compare_studies, draw_comparison
    from rwood.tracking.summary import read_settings, read_summary

    if len(set(study)) < len(study):
        raise SpecError("rwood compare: a study is named twice")
    uri = _store(context, tracking_uri, results)
    if len(study) == 1:
        summaries = read_settings(uri, study[0])
    else:
        summaries = [read_summary(uri, name) for name in study]
    compared = compare_studies(summaries)
    for note in dict.fromkeys(s.note for s in summaries if s.note):
        typer.echo(f"note: {note}", err=True)
    if as_json:
        typer.echo(json.dumps(as_plain(summaries), indent=1))
    elif markdown:
        typer.echo(compared.markdown(), nl=False)
    else:
        for table in (compared.results, compared.settings, *compared.tests):
            if table.rows:
                typer.echo("\n".join(filter(None, (table.text(), table.caption, "\n"))), nl=False)
    if csv is not None:
        write_atomically(csv, compared.csv())
        typer.echo(f"wrote {csv}", err=True)
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
        typer.echo(f"wrote {draw_comparison(summaries, plot)}", err=True)


def _store(context: typer.Context, tracking_uri: str | None, results: Path | None) -> str:
    """Where to read: flags win over the environment, one flag excludes the other."""
    from rwood.tracking.client import local_uri

    source = context.get_parameter_source("tracking_uri")
    by_flag = source is not None and source.name == "COMMANDLINE"
    if by_flag and results is not None:
        raise SpecError("rwood compare takes --tracking-uri or --results, not both")
    if tracking_uri is not None and (by_flag or results is None):
        return tracking_uri
    return local_uri(results or RESULTS)
