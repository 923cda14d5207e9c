"""The sets that a search may see: what a trial is measured and a scorer's setting chosen on."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rwood.config.benchmark import METRICS, BenchmarkConfig, families_of
from rwood.config.scorers import ScorerConfig
from rwood.config.study import FAMILIES
from rwood.data import image_sets
from rwood.data.opened import ImageSet
from rwood.evaluation.accuracy import accuracies
from rwood.evaluation.embed import ALONE, Embedded, EmbeddingPass, embed, labels_of
from rwood.evaluation.families import families_auroc, family_values
from rwood.evaluation.scorer import sees_raw
from rwood.evaluation.scorer_selection import EmbeddedSets, choose
from rwood.method.geometry import class_dispersion, enclosing_radii, score_overlap
from rwood.method.metrics import ood_metrics
from rwood.model.encoder import Encoder

RADIUS_TOLERANCE = 0.01
"""Relative error allowed in the radius of a class's minimum enclosing sphere."""


@dataclass(frozen=True)
class ValidationSets:
    """What a trial may see: ID train and val, validation OOD sets."""

    train: ImageSet
    val: ImageSet
    ood: Mapping[str, ImageSet]


def open_validation(benchmark: BenchmarkConfig, data_root: Path) -> ValidationSets:
    """Open the sets that a search may see, and no other.

    Raises:
        DataError: a set is missing or corrupt.
    """
    return ValidationSets(
        train=image_sets.open_set(benchmark.id.train, benchmark, data_root),
        val=image_sets.open_set(benchmark.id.val, benchmark, data_root),
        ood={
            name: image_sets.open_set(ref, benchmark, data_root)
            for name, ref in benchmark.validation.items()
        },
    )


def validate(
    encoder: Encoder,
    sets: ValidationSets,
    benchmark: BenchmarkConfig,
    scorer: ScorerConfig,
    device: torch.device,
    *,
    how: EmbeddingPass = ALONE,
) -> dict[str, float]:
    """Metrics of the validation sets: `val/<set>/<metric>`, their means `val/<metric>`.

    `val/families` is the AUROC over families of sets (see `families_auroc`). `val/nearest_mean` is
    the accuracy, in percent, of the nearest class mean on ID val, and `val/classifier` that of a
    classifier's logits. The paper's geometry: `id/mes_radius` and `id/dispersion` (degrees) of ID
    val where it shows every class, `val/overlap`, the mean share of mass that ID and OOD scores
    have in common. Without any OOD set, ID metrics only.

    A scorer of several settings is fitted with each on the same embeddings of the whole ID train
    set; all metrics are those of the best one, which `scorer/k` or `scorer/shrinkage` tells. Where
    ranks share the embedding (`how`), those other than 0 measure nothing.
    """
    embedded = embed_sets(encoder, sets, [scorer], benchmark, device, how)
    if how.rank != 0:
        return {}
    fitted = choose(scorer, embedded)
    id_scores = fitted.score(embedded.val)
    chosen = fitted.scorer.chosen.items() if len(scorer.candidates()) > 1 else ()
    metrics = {f"scorer/{name}": value for name, value in chosen}
    overlaps = []
    for name, ood in embedded.ood.items():
        ood_scores = fitted.score(ood)
        overlaps.append(score_overlap(id_scores, ood_scores))
        measured = ood_metrics(id_scores, ood_scores)._asdict()
        metrics |= {f"val/{name}/{metric}": value for metric, value in measured.items()}
    if sets.ood:
        for metric in METRICS:
            metrics[f"val/{metric}"] = statistics.fmean(
                metrics[f"val/{name}/{metric}"] for name in sets.ood
            )
    val_labels_N = labels_of(sets.val, device)
    percent = accuracies(embedded, embedded.val, val_labels_N)
    metrics |= {f"val/{name}": value for name, value in percent.items()}
    if sets.ood:
        metrics["val/overlap"] = statistics.fmean(overlaps)
        metrics[FAMILIES] = families_auroc(family_values(metrics, families_of(benchmark)))
    return metrics | _geometry(embedded.val.unit_ND, val_labels_N, benchmark.classes)


def settle(
    encoder: Encoder,
    benchmark: BenchmarkConfig,
    scorers: Sequence[ScorerConfig],
    *,
    data_root: Path,
    device: torch.device,
) -> tuple[ScorerConfig, ...]:
    """Scorers with the settings that separate the validation sets best; opens no test set.

    Where nothing is left to choose, nothing is opened.

    Raises:
        DataError: a set is missing or corrupt.
    """
    if all(len(config.candidates()) == 1 for config in scorers):
        return tuple(config.candidates()[0] for config in scorers)
    sets = open_validation(benchmark, data_root)
    embedded = embed_sets(encoder, sets, scorers, benchmark, device)
    return tuple(choose(config, embedded).scorer for config in scorers)


def embed_sets(
    encoder: Encoder,
    sets: ValidationSets,
    scorers: Sequence[ScorerConfig],
    benchmark: BenchmarkConfig,
    device: torch.device,
    how: EmbeddingPass = ALONE,
) -> EmbeddedSets:
    """What scorers learn from and are chosen on, each set embedded once for all of them."""

    def rows(image_set: ImageSet, raw: bool) -> Embedded:
        return embed(encoder, image_set, benchmark, device, raw=raw, how=how)

    raw = sees_raw(scorers)
    return EmbeddedSets(
        train=rows(sets.train, raw),
        labels_N=labels_of(sets.train, device),
        classes=benchmark.classes,
        classifier=encoder.classifier,
        # A classifier's accuracy needs its logits.
        val=rows(sets.val, raw or encoder.classifier is not None),
        ood={name: rows(image_set, raw) for name, image_set in sets.ood.items()},
    )


def _geometry(embeddings_ND: Tensor, labels_N: Tensor, classes: int) -> dict[str, float]:
    """Nothing where a class has no image: a sphere around nothing has no radius."""
    if int(torch.bincount(labels_N, minlength=classes).min()) == 0:
        return {}
    radii_C = enclosing_radii(embeddings_ND, labels_N, classes=classes, tolerance=RADIUS_TOLERANCE)
    return {
        "id/mes_radius": float(radii_C.mean()),
        "id/dispersion": class_dispersion(embeddings_ND, labels_N, classes=classes),
    }
