"""Any checkpoint on a benchmark: ours, or the ones that OpenOOD releases."""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from rwood.config.backbones import ModelConfig
from rwood.config.benchmark import BenchmarkConfig
from rwood.config.scorers import CLASSIFIER_SCORERS, ScorerConfig
from rwood.errors import DataError
from rwood.evaluation.benchmark import run_benchmark
from rwood.model.checkpoint_keys import load_into, load_openood_state, save_openood_state
from rwood.model.encoder import Encoder, build_encoder
from rwood.model.infer import infer_model
from rwood.model.precision import precision_on, set_up
from rwood.results import RunResult
from rwood.text import count_of


def open_checkpoint(path: Path) -> tuple[ModelConfig, Encoder]:
    """The encoder in a file: a plain state dict, with or without a data-parallel prefix.

    Raises:
        DataError: unreadable, or names the first key and shape that do not fit.
    """
    state = load_openood_state(path)
    try:
        config, channels, classes = infer_model(state)
        encoder = build_encoder(config, channels=channels, seed=0, classes=classes)
        load_into(encoder, state)
    except DataError as error:
        raise DataError(f"{path}: {error}", file=str(path), **error.details) from error
    return config, encoder


def evaluate_checkpoints(
    paths: Sequence[Path],
    benchmark: BenchmarkConfig,
    scorers: Sequence[ScorerConfig],
    *,
    data_root: Path,
    device: torch.device,
    fsood: bool = False,
) -> list[RunResult]:
    """Score checkpoints, one result a file; all scorers share one embedding pass.

    The files are runs of one experiment (seeds): their mean and std make the table. The first
    scorer leads. `fsood` adds the full-spectrum protocol.

    Raises:
        DataError: a checkpoint does not fit, or an image set is missing or corrupt.
        SpecError: a scorer cannot be fitted on ID train.
    """
    set_up(device)
    results = []
    for index, path in enumerate(paths):
        started = time.monotonic()
        config, encoder = open_checkpoint(path)
        _check_fit(path, encoder, benchmark, scorers)
        precision_on("float32", device, benchmark.channels).place(encoder)
        outcome = run_benchmark(
            encoder, benchmark, scorers, data_root=data_root, device=device, fsood=fsood
        )
        results.append(
            RunResult(
                label="checkpoint",
                seed=index,
                digest=hashlib.sha256(path.read_bytes()).hexdigest()[:16],
                run={"checkpoint": str(path), "model": config.model_dump(mode="json")},
                history=(),
                tables=outcome.tables,
                id_metrics=outcome.id_metrics,
                seconds=time.monotonic() - started,
            )
        )
    return results


def export_checkpoint(source: Path, target: Path) -> None:
    """Write a checkpoint as the reference reads it: a plain state dict under OpenOOD's keys.

    Raises:
        DataError: the source is not an encoder.
    """
    _, encoder = open_checkpoint(source)
    save_openood_state(encoder, target)


def _check_fit(
    path: Path, encoder: Encoder, benchmark: BenchmarkConfig, scorers: Sequence[ScorerConfig]
) -> None:
    channels, name = next(encoder.parameters()).shape[1], benchmark.name
    classes = benchmark.classes if encoder.classifier is None else len(encoder.classifier[1])
    of_logits = [scorer.name for scorer in scorers if scorer.name in CLASSIFIER_SCORERS]
    reason = ""
    if channels != benchmark.channels:
        images = f"images of {count_of(channels, 'channel')}"
        reason = f"takes {images}, benchmark {name} has {benchmark.channels}"
    elif encoder.classifier is None and of_logits:
        reason = f"has no fc.weight: {of_logits[0]} scores the logits of a classifier"
    elif classes != benchmark.classes:
        known = count_of(classes, "class", "classes")
        reason = f"knows {known}, benchmark {name} has {benchmark.classes}"
    if reason:
        raise DataError(f"{path} {reason}", file=str(path))
