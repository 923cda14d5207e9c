"""What a study will cost, from its config and the table of image sets alone; nothing is opened."""

import math
from dataclasses import dataclass

from rich.filesize import decimal

from rwood.config.backbones import dim_of
from rwood.config.benchmark import (
    BenchmarkConfig,
    ClassesSet,
    DerivedSet,
    HeldOutSet,
    ImageSetRef,
    SubsetSet,
)
from rwood.config.held_out import fold_of, without_held_out
from rwood.config.optuna_classes import HALVING
from rwood.config.scorers import scorer_kind
from rwood.config.search import SearchConfig
from rwood.config.study import StudyConfig
from rwood.data import image_sets, pixel_cache
from rwood.data.image_sets import NAMED, references
from rwood.text import count_of


@dataclass(frozen=True)
class _Network:
    """An encoder of the width below, head included; per view where an image is meant."""

    width: int
    parameters: float
    last_stage: float
    """Those that learn under `trainable: layer4`."""
    kept: float
    """Values kept for the backward pass of a view, counted."""
    kept_last_stage: float
    """The same under `trainable: layer4`, and the largest three maps of the frozen stages."""


NETWORKS = {
    "small_cnn": _Network(16, 2.2e4, 1.5e4, 4.3e3, 4.1e3),
    "resnet18_32x32": _Network(64, 11.5e6, 8.7e6, 1.2e6, 0.3e6),
    "resnet18_224x224": _Network(64, 11.5e6, 8.7e6, 5.6e6, 2.7e6),
    "resnet50": _Network(64, 28.0e6, 19.4e6, 21.5e6, 3.8e6),
}
SCORED = {"all": 1 / 6, "layer4": 0.4}
"""Work on a scored image beside a training image: one pass of six (two views, there and twice the
work back), or of two and a half where most of the way back is left out; an estimate."""


def estimate(study: StudyConfig, images_per_s: float | None = None) -> list[str]:
    """Lines on trials, epochs, images, data, memory and, for a given speed, hours.

    Under successive halving a trial is expected to pass one rung in `reduction`.

    The speed is in training images (of two views) that one worker does in a second.
    """
    epochs, reruns, expected, finals = study.run.epochs, _reruns(study), 0.0, 0
    lines = []
    if study.search is not None:
        if "epochs" in study.search.space:
            lines.append(f"epochs: searched; all below counts the base run's {epochs}")
        expected = _trainings(study.search) * expected_epochs(study)
        lines.append(_search_line(study, study.search, expected))
        if study.finals is not None:
            finals = study.finals.trainings
            lines.append(
                f"finals: at most {count_of(finals, 'training')} of {count_of(epochs, 'epoch')}"
            )
    lines.append(f"benchmark: {count_of(reruns, 'rerun')} of {count_of(epochs, 'epoch')}")
    lines.append(f"data: {data_sentence(study.benchmark)}")
    lines.append(f"memory: {memory_sentence(study)}")
    images = _count(study.benchmark.id.train, study.benchmark)
    if images is None:
        total = count_of(round(expected + (finals + reruns) * epochs), "epoch")
        return [*lines, f"cost: about {total} of id.train; how many images it has, nobody says"]
    fold = fold_of(study.benchmark, study.run.seed)
    trials = expected + finals * epochs
    trained = (_count(fold.id.train, fold) or 0) * trials + images * reruns * epochs
    scored = _scored(study, trials)
    lines.append(
        f"cost: about {trained:,.0f} training images of two views each, and {scored:,.0f} to score"
    )
    if images_per_s is not None:
        work = trained + SCORED[study.run.model.trainable] * scored
        lines.append(f"time: {_time_sentence(study, work / images_per_s / 3600, images_per_s)}")
    return lines


def _trainings(search: SearchConfig) -> int:
    return search.trials * max(1, len(search.seeds))


def _search_line(study: StudyConfig, search: SearchConfig, expected: float) -> str:
    seeds = f" of {count_of(len(search.seeds), 'seed')}" if search.seeds else ""
    known = search.pruner is None or search.pruner.name in HALVING
    full = count_of(_trainings(search) * study.run.epochs, "epoch")
    return (
        f"search: {count_of(search.trials, 'trial')}{seeds}, "
        f"{'about' if known else 'at most'} {expected:,.0f} of {full}, "
        f"{study.cluster.max_concurrent} at a time; "
        f"objective{'s' * (len(search.objectives) > 1)} {', '.join(search.objectives)}"
    )


def expected_epochs(study: StudyConfig, reached: int = 0) -> float:
    """Epochs a trial is expected to run yet: one in `reduction` passes each rung.

    Under a pruner without rungs all of them: when it stops trials cannot be told beforehand.
    Counted from the epochs that it has done.
    """
    search, epochs = study.search, study.run.epochs
    if search is None or search.pruner is None:
        return float(max(0, epochs - reached))
    total, share, at = 0.0, 1.0, reached
    for rung in search.pruner.rungs(study.run.warmup_ends, epochs):
        if rung > reached:
            total += share * (rung - at)
            share, at = share / search.pruner.reduction, rung
    return total + share * max(0, epochs - at)


def data_sentence(benchmark: BenchmarkConfig) -> str:
    """Images of all sets, the size of their packs, and which sets are too large for one."""
    known, packed, unknown, streamed = 0, 0, 0, []
    for key, ref in references(benchmark):
        count = _count(ref, benchmark)
        if count is None:
            unknown += 1
            continue
        known += count
        size = pixel_cache.pack_bytes(count, image_sets.transform_of(ref, benchmark))
        if size > image_sets.PACK_LIMIT:
            streamed.append(f"{key} ({decimal(size)} decoded)")
        elif image_sets.has_files(ref):
            packed += size
    rest = f", and {count_of(unknown, 'set')} of unknown size" if unknown else ""
    parts = [count_of(known, "image") + rest]
    if packed:
        parts.append(f"{decimal(packed)} of packs below the data root")
    if streamed:
        parts.append(f"decoded when read: {', '.join(streamed)}")
    return "; ".join(parts)


def memory_sentence(study: StudyConfig) -> str:
    """Device memory of a worker: to train, and to score with the ID train set's embeddings."""
    model, benchmark = study.run.model, study.benchmark
    network, dim = NETWORKS.get(model.backbone), dim_of(model)
    if network is None or dim is None:
        return f"backbone {model.backbone} is not in the table, so only a run can tell"
    scale, frozen = model.width / network.width, model.trainable == "layer4"
    learns = network.last_stage if frozen else network.parameters
    weights = 4 * scale**2 * (network.parameters + 2 * learns)  # gradient and momentum
    weights *= max(1, len(study.search.seeds)) if study.search else 1  # side by side
    half = study.run.precision in ("bfloat16", "float16")
    half |= study.run.precision == "auto" and study.cluster.gpus_per_worker > 0
    views = 2 * math.ceil(study.run.batch_size / study.cluster.workers)
    kept = scale * (network.kept_last_stage if frozen else network.kept) * (2 if half else 4)
    pixels = 2 * 4 * benchmark.channels * benchmark.image_size**2  # before and after normalising
    sentence = f"about {decimal(round(weights + views * (kept + pixels)))} on each worker's device"
    images = _count(benchmark.id.train, benchmark)
    if images is None:
        return sentence
    raw = study.run.scorer.is_raw or any(scorer_kind(n)(name=n).is_raw for n in study.rerun.scorers)
    embeddings = 4 * images * dim * (2 if raw else 1)
    return f"{sentence} to train, {decimal(round(weights + embeddings))} on the first's to score"


def _time_sentence(study: StudyConfig, hours: float, images_per_s: float) -> str:
    """Hours of all workers, and by the clock if every worker of the study has its place."""
    cluster = study.cluster
    device, each = ("GPU", cluster.gpus_per_worker) if cluster.gpus_per_worker else ("worker", 1)
    workers = cluster.workers * cluster.max_concurrent
    clock = f", {_hours(hours / workers)} by the clock on {workers} workers" if workers > 1 else ""
    speed = f"{images_per_s:,.0f} images/s a worker"
    return f"about {_hours(hours * each)} {device} hours at {speed}{clock}"


def _hours(value: float) -> str:
    return f"{value:,.1f}" if value >= 1 else f"{value:.2f}"


def _reruns(study: StudyConfig) -> int:
    settings = 1 + (study.rerun.base and study.search is not None) + study.rerun.trials
    return len(study.rerun.seeds) * settings


def _scored(study: StudyConfig, expected: float) -> int:
    """Images embedded by all validations and by the benchmark of each rerun, as far as known."""
    reruns, every = _reruns(study), study.run.validate_every
    tested = ["id.", "near.", "far."] + ["shifted."] * study.rerun.fsood
    fold = fold_of(study.benchmark, study.run.seed)
    searched = math.ceil(expected / every) * _validated(fold)
    validated = math.ceil(study.run.epochs / every) * _validated(without_held_out(study.benchmark))
    return searched + reruns * (validated + _total(study.benchmark, *tested))


def _validated(benchmark: BenchmarkConfig) -> int:
    """Images that one validation embeds, as far as known."""
    held_out = [ref for ref in benchmark.validation.values() if isinstance(ref, HeldOutSet)]
    plain = _total(benchmark, "id.train", "id.val", "validation.")
    return plain + sum(_count(ref, benchmark) or 0 for ref in held_out)


def _total(benchmark: BenchmarkConfig, *prefixes: str) -> int:
    refs = [ref for key, ref in references(benchmark) if key.startswith(prefixes)]
    return sum(_count(ref, benchmark) or 0 for ref in refs)


def _count(ref: ImageSetRef, benchmark: BenchmarkConfig) -> int | None:
    """Images of a set; None where only its folder or list could tell."""
    if isinstance(ref, DerivedSet):
        return _count(benchmark.id.val, benchmark)
    if isinstance(ref, HeldOutSet):
        return _count_held_out(benchmark)
    if isinstance(ref, ClassesSet):
        whole = _count(ref.of, benchmark)
        return None if whole is None else round(whole * len(ref.classes) / ref.among)
    if isinstance(ref, SubsetSet):
        return ref.images
    return NAMED[ref].count if isinstance(ref, str) else None


def _count_held_out(fold: BenchmarkConfig) -> int | None:
    """Images of the classes that a fold leaves out, if all classes have as many."""
    train, val = fold.id.train, _count(fold.id.val, fold)
    assert isinstance(train, ClassesSet)
    whole, kept = _count(train.of, fold), _count(train, fold)
    return None if whole is None or kept is None or val is None else min(whole - kept, val)
