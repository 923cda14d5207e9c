"""The verbs. A body loads, calls one function, and prints; nothing heavy is imported up here."""

from typing import Annotated

import typer

from rwood import __version__
from rwood.cli import checkpoints, compare, data, detect, init, results, status, study, submit

app = typer.Typer(
    help="Which temperature and margins should ReweightOOD train with, and how good is it then?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"rwood {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options before a verb."""


app.command()(init.init)
for _verb, _help in study.STAGES.items():
    app.command(_verb, help=_help)(study.stage_verb(_verb))
for _command in (study.check, study.train, status.status, results.results, submit.submit,
                 checkpoints.evaluate, compare.compare, detect.detect):  # fmt: skip
    app.command()(_command)
app.add_typer(data.app, name="data")

__all__ = ["app"]
