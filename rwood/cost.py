"""What a study will cost, from its spec and the table of image sets alone; nothing is opened."""

from collections.abc import Iterator

from rwood.data.image_sets import NAMED, references
from rwood.spec.benchmark import BenchmarkSpec, ImageSetRef
from rwood.spec.study import StudySpec

PARAMETERS = {
    "small_cnn": 6.5e4,
    "resnet18_32x32": 11.5e6,
    "resnet18_224x224": 11.5e6,
    "resnet50": 28.0e6,
}
"""Parameters of an encoder of published width (small_cnn: width 16), head included."""
ACTIVATIONS = {
    "small_cnn": 2.0e4,
    "resnet18_32x32": 1.3e6,
    "resnet18_224x224": 5.0e6,
    "resnet50": 22.0e6,
}
"""Values kept for the backward pass of a view, at published width; an estimate."""


def estimate(study: StudySpec, images_per_s: float | None = None) -> list[str]:
    """Lines on trials, epochs, images, data, memory and, for a given speed, hours.

    With early stopping a trial is expected to pass one rung in `reduction`.

    Args:
        study: a resolved study.
        images_per_s: training images (of two views) that one worker does in a second.
    """
    epochs = study.run.epochs
    reruns = len(study.rerun.seeds) * (2 if study.rerun.base and study.search else 1)
    lines = []
    expected = 0.0
    if study.search is not None:
        full = study.search.trials * epochs
        expected = study.search.trials * expected_epochs(study)
        lines.append(
            f"search: {study.search.trials} trials, about {expected:,.0f} of {full:,} epochs, "
            f"{study.cluster.max_concurrent} at a time; objective {study.search.objective}"
        )
    lines.append(f"benchmark: {reruns} reruns of {epochs} epochs")
    lines.append(f"data: {data_sentence(study.benchmark)}")
    lines.append(f"memory: {memory_sentence(study)}")
    images = _count(study.benchmark.id.train)
    if images is None:
        return lines
    total = images * (expected + reruns * epochs)
    lines.append(f"cost: about {total:,.0f} training images of two views each")
    if images_per_s is not None:
        hours = total / images_per_s / 3600
        device = "GPU" if study.cluster.gpus_per_worker else "worker"
        lines.append(f"time: about {hours:,.1f} {device} hours at {images_per_s:,.0f} images/s")
    return lines


def expected_epochs(study: StudySpec) -> float:
    """Epochs a trial is expected to run: one in `reduction` passes each rung."""
    search, epochs = study.search, study.run.epochs
    if search is None or search.early_stopping is None:
        return float(epochs)
    rule = search.early_stopping
    total, share, reached, rung = 0.0, 1.0, 0, rule.grace_epochs
    while rung < epochs:
        total += share * (rung - reached)
        share, reached, rung = share / rule.reduction, rung, rung * rule.reduction
    return total + share * (epochs - reached)


def data_sentence(benchmark: BenchmarkSpec) -> str:
    """Images of all sets, and their size decoded at the size that is scored."""
    counts = list(_counts(benchmark))
    known = sum(count for count in counts if count is not None)
    pixels = benchmark.image_size**2 * benchmark.channels
    unknown = sum(count is None for count in counts)
    rest = f", and {unknown} set(s) of unknown size" if unknown else ""
    return f"{known:,} images, {known * pixels / 1e9:,.2f} GB as uint8{rest}"


def memory_sentence(study: StudySpec) -> str:
    """Device memory of a worker: weights, gradients, momentum, and a batch's activations."""
    model, width = study.run.model, study.run.model.width
    scale = width / (16 if model.backbone == "small_cnn" else 64)
    weights = PARAMETERS[model.backbone] * scale**2 * 4 * 3
    half = study.run.precision in ("bfloat16", "float16", "auto")
    views = 2 * study.run.batch_size / study.cluster.workers
    kept = ACTIVATIONS[model.backbone] * scale * (2 if half else 4) * views
    return f"about {(weights + kept) / 1e9:,.1f} GB on the device of each worker"


def _counts(benchmark: BenchmarkSpec) -> Iterator[int | None]:
    for _, ref in references(benchmark):
        yield _count(ref)


def _count(ref: ImageSetRef) -> int | None:
    return NAMED[ref].count if isinstance(ref, str) else None
