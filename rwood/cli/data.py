"""`rwood data`: list, fetch, pack and verify image sets."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import MofNCompleteColumn, Progress, TaskID
from rich.table import Column, Table

from rwood.cli.options import DATA, AsJson, DataRoot
from rwood.data.processes import processors
from rwood.text import count_of

app = typer.Typer(help="Image sets: list, fetch, pack, verify.", no_args_is_help=True)

Benchmark = Annotated[Path, typer.Argument(help="A benchmark file.", metavar="BENCHMARK")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes that decode; default: one a core.")
]


@app.command("list")
def list_(data_root: DataRoot = DATA, as_json: AsJson = False) -> None:
    """Show what is known, what is here, how many images, how large."""
    from rwood.data.inventory import inventory

    rows = list(inventory(data_root))
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=1))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140
    titles = ("image set", "images", "classes", "state", "files", "packs", "source")
    table = Table(*(Column(title, no_wrap=True) for title in titles), box=None, pad_edge=False)
    table.columns[1].justify = table.columns[2].justify = "right"
    for row in rows:
        table.add_row(
            row.name,
            "?" if row.images is None else f"{row.images:,}",
            str(row.classes) if row.classes else "OOD",
            row.state,
            "-" if row.file_bytes is None else decimal(row.file_bytes),
            decimal(row.pack_bytes) if row.pack_bytes else "-",
            row.source,
        )
    console.print(table)
    typer.echo(f"data root: {data_root}")


@app.command()
def fetch(
    name: Annotated[
        str | None, typer.Argument(help="A source; none: show the sources.", metavar="[NAME]")
    ] = None,
    data_root: DataRoot = DATA,
    source: Annotated[
        Path | None, typer.Option("--from", help="A local archive or folder.")
    ] = None,
) -> None:
    """Bring image files into the data root: by download, or from a local archive or folder."""
    from rwood.data import sources

    if name is None:
        for known, row in sources.SOURCES.items():
            how = "downloads" if row.downloads else "needs --from"
            typer.echo(f"{known:<14} {how:<13} {row.about}")
        return
    with _bar() as step:
        done = sources.fetch(name, data_root, source=source, progress=partial(step, name))
    typer.echo(done)


@app.command()
def pack(benchmark: Benchmark, data_root: DataRoot = DATA, workers: Workers = None) -> None:
    """Decode and resize every set of a benchmark once; interrupted, it goes on where it stopped."""
    from rwood.data import image_sets, pixel_cache
    from rwood.data.known import load_known

    config = load_known(benchmark)
    with _bar() as step:
        for key, ref in image_sets.references(config):
            if not image_sets.has_files(ref):
                continue
            pixel_cache.pack(
                image_sets.files_of(ref, config, data_root),
                image_sets.transform_of(ref, config),
                data_root,
                workers=workers or processors(),
                progress=partial(step, key),
            )
    typer.echo(f"{config.name}: packed")


@app.command()
def verify(
    benchmark: Benchmark,
    data_root: DataRoot = DATA,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Check that every file decodes, counts match, and no ID image is in an OOD set."""
    from rwood.data.known import load_known
    from rwood.data.verify import verify as verify_sets

    config = load_known(benchmark)
    with _bar() as step:
        checked = verify_sets(config, data_root, workers=workers or processors(), progress=step)
    if as_json:
        typer.echo(json.dumps(asdict(checked), indent=1))
    else:
        for report in checked.sets:
            mark = "ok" if not report.problems else "BAD"
            packed = ", packed" if report.packed else ""
            typer.echo(f"{mark:<4}{report.key:<24}{report.images:>8,} images{packed}")
            for problem in report.problems:
                typer.echo(f"    {problem}")
        others = (d for d in checked.duplicates if d not in checked.shared)
        for d in (*checked.shared, *others)[:20]:
            typer.echo(f"duplicate: {d.key} {d.image} = {d.id_key} {d.id_image}")
        duplicates, shared = len(checked.duplicates) - len(checked.shared), len(checked.shared)
        typer.echo(f"{count_of(duplicates, 'image')} of ID sets with the pixels of a train image")
        typer.echo(f"{count_of(shared, 'image')} of OOD sets with the pixels of an ID image")
    if not checked.sound:
        typer.echo(f"rwood: benchmark {config.name}: not sound, see above", err=True)
        raise typer.Exit(1)


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on a terminal, silence elsewhere; takes a task's name, what is done, total."""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def step(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name)
            bar.update(tasks[name], completed=done, total=total)

        yield step
