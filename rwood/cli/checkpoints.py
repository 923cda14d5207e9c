"""Verbs that take trained networks: evaluate."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from rwood.cli.options import DATA, AsJson, DataRoot
from rwood.config.scorers import SCORERS, ScorerConfig, load_scorer, scorer_kind
from rwood.config.sentences import spec_error
from rwood.errors import SpecError
from rwood.report.tables import benchmark_csv, own_table
from rwood.results import write_atomically


def evaluate(
    checkpoint: Annotated[
        list[Path], typer.Argument(help="One file, or several runs for mean and std.")
    ],
    benchmark: Annotated[Path | None, typer.Option(help="A benchmark file.")] = None,
    scorer: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(SCORERS)} or one of yours.")
    ] = None,
    k: Annotated[int, typer.Option(min=1, help="Neighbour counted by knn.")] = 50,
    protocol: Annotated[
        Literal["ood", "fsood"], typer.Option(help="ood, or fsood for both.")
    ] = "ood",
    export: Annotated[
        Path | None, typer.Option(help="Write the checkpoint as OpenOOD reads it.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Folder for tables in OpenOOD's form.")] = None,
    data_root: DataRoot = DATA,
    as_json: AsJson = False,
) -> None:
    """Score any checkpoint: ours, or OpenOOD's released best.ckpt."""
    if benchmark is None and export is None:
        raise SpecError("rwood evaluate needs --benchmark FILE to score, or --export FILE to write")
    if export is not None:
        _export(checkpoint, export)
    if benchmark is None:
        return
    from rwood.data.known import load_known

    config = load_known(benchmark)
    configs = _scorers(scorer or ["mahalanobis"], k)
    if protocol == "fsood" and not config.shifted:
        raise SpecError(f"--protocol fsood: benchmark {config.name} has no covariate-shifted set")
    from rwood.evaluation.checkpoints import evaluate_checkpoints
    from rwood.training.worker import best_device

    runs = evaluate_checkpoints(
        checkpoint,
        config,
        configs,
        data_root=data_root,
        device=best_device(),
        fsood=protocol == "fsood",
    )
    if as_json:
        typer.echo(json.dumps([run.model_dump(mode="json") for run in runs], indent=1))
    else:
        for key in runs[0].tables:
            typer.echo(own_table(runs, key, config.published, "The checkpoint").markdown() + "\n")
        for name in runs[0].id_metrics:
            values = ", ".join(f"{run.id_metrics[name]:.2f}" for run in runs)
            name = name.replace("_", " ")
            typer.echo(f"{name} accuracy on the ID test set, in percent: {values}")
    if csv is not None:
        for key in runs[0].tables:
            write_atomically(csv / f"{key.replace('/', '_')}.csv", benchmark_csv(runs, key))


def _export(checkpoints: list[Path], target: Path) -> None:
    if len(checkpoints) != 1:
        raise SpecError(f"--export takes one checkpoint, got {len(checkpoints)}")
    from rwood.evaluation.checkpoints import export_checkpoint

    export_checkpoint(checkpoints[0], target)
    typer.echo(f"wrote {target}", err=True)


def _scorers(names: list[str], k: int) -> list[ScorerConfig]:
    try:
        for name in names:
            scorer_kind(name)
        return [load_scorer({"name": name, "k": k}) for name in names]
    except ValidationError as error:
        raise spec_error(error, ScorerConfig, prefix="--scorer: ") from error
    except ValueError as error:
        raise SpecError(f"--scorer: {error}") from error
