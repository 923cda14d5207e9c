"""The verbs. A body loads, calls one function, and prints; nothing heavy is imported up here."""

import typer

from rwood.cli import checkpoints, compare, data, detect, status, study, submit

app = typer.Typer(
    help="Which temperature and margins should ReweightOOD train with, and how good is it then?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(study.app)
app.add_typer(status.app)
app.add_typer(submit.app)
app.add_typer(checkpoints.app)
app.add_typer(compare.app)
app.add_typer(detect.app)
app.add_typer(data.app, name="data")

__all__ = ["app"]
