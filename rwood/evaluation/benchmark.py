"""The near and far test sets, once: no search sees them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.scorers import ScorerConfig
from rwood.data import image_sets
from rwood.data.opened import ImageSet
from rwood.evaluation.accuracy import accuracies, linear_probe_accuracy
from rwood.evaluation.embed import EmbeddedID, embed, labels_of
from rwood.evaluation.scorer import fit, sees_raw
from rwood.method.metrics import ood_metrics
from rwood.model.encoder import Encoder
from rwood.results import BenchmarkTable, SetMetrics

PICTURE_ROWS = 500
"""Embeddings kept of each set for the report's picture."""


@dataclass(frozen=True)
class BenchmarkOutcome:
    """One encoder on the test sets."""

    tables: dict[str, BenchmarkTable]
    """`<protocol>/<scorer>` -> metrics."""
    id_metrics: dict[str, float]
    """`linear_probe`, `nearest_mean` and, of a classifier, `classifier` accuracy on the ID test
    set, in percent."""
    scores: dict[str, np.ndarray]
    """`id/test`, `id/val`, `near/<set>`, `far/<set>` -> scores of the first scorer."""
    embeddings: dict[str, np.ndarray]
    """The same names -> the first embeddings of each set; `id/test_labels`."""


def run_benchmark(
    encoder: Encoder,
    benchmark: BenchmarkConfig,
    scorers: Sequence[ScorerConfig],
    *,
    data_root: Path,
    device: torch.device,
    fsood: bool = False,
) -> BenchmarkOutcome:
    """Score the ID test set against every near and far set. Only this opens test sets.

    Each set is embedded once for all scorers, whose settings must be settled; the scores of the
    first are kept for the report. Under `fsood`, the full-spectrum protocol too: the shifted sets'
    scores are pooled with the ID test set's, as OpenOOD does.

    Raises:
        DataError: a set is missing or corrupt.
        SpecError: a scorer cannot be fitted on ID train.
    """
    train_set = image_sets.open_set(benchmark.id.train, benchmark, data_root)
    raw = sees_raw(scorers)
    train = embed(encoder, train_set, benchmark, device, raw=raw)
    parts = _open_parts(benchmark, data_root, fsood)
    raw = raw or encoder.classifier is not None  # a classifier's accuracy needs its logits
    embedded = {n: embed(encoder, part, benchmark, device, raw=raw) for n, part in parts.items()}
    known = EmbeddedID(
        train=train,
        labels_N=labels_of(train_set, device),
        classes=benchmark.classes,
        classifier=encoder.classifier,
        val=embedded["id/val"],
    )
    tables: dict[str, BenchmarkTable] = {}
    kept: dict[str, np.ndarray] = {}
    for config in scorers:
        fitted = fit(config, known)
        scores = {name: fitted.score(rows) for name, rows in embedded.items()}
        kept = kept or {name: s.cpu().numpy() for name, s in scores.items()}
        tables[f"ood/{config.name}"] = _table(scores, scores["id/test"])
        if fsood:
            shifted = [s for name, s in scores.items() if name.startswith("shifted/")]
            tables[f"fsood/{config.name}"] = _table(
                scores, torch.cat([scores["id/test"], *shifted])
            )
    queries, labels_Q = embedded["id/test"], labels_of(parts["id/test"], device)
    probe = linear_probe_accuracy(
        train.unit_ND, known.labels_N, queries.unit_ND, labels_Q, benchmark.classes
    )
    return BenchmarkOutcome(
        tables=tables,
        id_metrics={"linear_probe": probe} | accuracies(known, queries, labels_Q),
        scores=kept,
        embeddings={n: e.unit_ND[:PICTURE_ROWS].float().cpu().numpy() for n, e in embedded.items()}
        | {"id/test_labels": parts["id/test"].labels_N[:PICTURE_ROWS]},
    )


def _open_parts(benchmark: BenchmarkConfig, data_root: Path, fsood: bool) -> dict[str, ImageSet]:
    """`id/test`, `id/val`, `near/<set>`, `far/<set>` and, under `fsood`, `shifted/<set>`."""
    refs = {"id/test": benchmark.id.test, "id/val": benchmark.id.val}
    for part in ("near", "far", "shifted") if fsood else ("near", "far"):
        refs |= {f"{part}/{name}": ref for name, ref in getattr(benchmark, part).items()}
    return {key: image_sets.open_set(ref, benchmark, data_root) for key, ref in refs.items()}


def _table(scores: Mapping[str, Tensor], id_scores: Tensor) -> BenchmarkTable:
    parts: dict[str, dict[str, SetMetrics]] = {"near": {}, "far": {}}
    for name, ood in scores.items():
        part, _, ood_set = name.partition("/")
        if part in parts:
            parts[part][ood_set] = SetMetrics(**ood_metrics(id_scores, ood)._asdict())
    return BenchmarkTable(**parts)
