"""Whether the image sets that a benchmark names can be had; opens no data."""

from pathlib import Path

from rwood.config.benchmark import BenchmarkConfig, SubsetSet, whole_set
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
        where = f"benchmark {benchmark.name}: {key}: "
        whole = whole_set(ref)
        if isinstance(whole, str):
            check_name(whole, where)
            classes = NAMED[whole].classes
            if key.startswith(("id.", "shifted.")) and classes != benchmark.classes:
                raise SpecError(
                    f"{where}{whole} has {count_of(classes, 'ID class', 'ID classes')}, the "
                    f"benchmark says {benchmark.classes}",
                    key=key,
                    got=whole,
                )
        if isinstance(ref, SubsetSet):
            _check_subset(ref, key, where, benchmark.classes)


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


def _check_subset(ref: SubsetSet, key: str, where: str, classes: int) -> None:
    known = NAMED[ref.of].count if isinstance(ref.of, str) else None
    if known is not None and ref.images > known:
        raise SpecError(
            f"{where}{ref.of} has {count_of(known, 'image')}, not {ref.images:,}",
            key=key,
            got=ref.images,
        )
    if key == "id.train" and ref.images < classes:
        raise SpecError(
            f"{where}{count_of(ref.images, 'image')} cannot show all {classes} classes",
            key=key,
            got=ref.images,
        )
