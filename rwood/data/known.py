"""Whether the image sets that a benchmark names can be had; opens no data."""

from collections.abc import Iterator
from pathlib import Path

from rwood.config.benchmark import BenchmarkConfig, ImageSetRef, SubsetSet, whole_set
from rwood.config.load import load_benchmark
from rwood.config.study import StudyConfig
from rwood.data.image_sets import NAMED, check_name, references
from rwood.errors import SpecError
from rwood.text import count_of


def check_known(benchmark: BenchmarkConfig) -> None:
    """Refuse a benchmark that names an unknown set, an ID set of other classes, a wrong subset.

    Raises:
        SpecError: which name, and the nearest right one. Opens no data.
    """
    for key, ref in references(benchmark):
        where, whole = f"benchmark {benchmark.name}: {key}: ", whole_set(ref)
        if isinstance(whole, str):
            check_name(whole, where)
        for got, reason in _problems(key, ref, benchmark.classes):
            raise SpecError(f"{where}{reason}", key=key, got=got)


def load_known(file: Path) -> BenchmarkConfig:
    """Read a benchmark file, and refuse it likewise."""
    config = load_benchmark(file)
    check_known(config)
    return config


def check_study(study: StudyConfig) -> None:
    """The same for a study, and a batch of more images than ID train has.

    Raises:
        SpecError: likewise.
    """
    check_known(study.benchmark)
    train = study.benchmark.id.train
    images = train.images if isinstance(train, SubsetSet) else None
    images = NAMED[train].count if isinstance(train, str) else images
    if images is not None and study.run.batch_size > images:
        raise SpecError(
            f"run.batch_size: {study.run.batch_size:,} is more than the {images:,} images of "
            "id.train",
            key="run.batch_size",
            got=study.run.batch_size,
        )


def _problems(key: str, ref: ImageSetRef, classes: int) -> Iterator[tuple[str | int, str]]:
    """What cannot be of a set whose name is known, and why."""
    whole = whole_set(ref)
    row = NAMED[whole] if isinstance(whole, str) else None
    if row and key.startswith(("id.", "shifted.")) and row.classes != classes:
        known = count_of(row.classes, "ID class", "ID classes")
        yield str(whole), f"{whole} has {known}, the benchmark says {classes}"
    if isinstance(ref, SubsetSet):
        if row and row.count is not None and ref.images > row.count:
            yield ref.images, f"{whole} has {count_of(row.count, 'image')}, not {ref.images:,}"
        if key == "id.train" and ref.images < classes:
            images = count_of(ref.images, "image")
            yield ref.images, f"{images} cannot show all {classes} classes"
