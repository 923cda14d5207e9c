"""What is looked at of a study's files before it begins: all are listed, a sample is decoded."""

from pathlib import Path

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.search import values_of
from rwood.config.study import StudyConfig
from rwood.data import decode
from rwood.data.image_sets import files_of, has_files, references
from rwood.errors import DataError

SAMPLED = 100
"""Files of a set that are decoded."""


def check_sets(benchmark: BenchmarkConfig, data_root: Path) -> None:
    """Refuse a set that could not be opened later, before anything is trained; scores nothing.

    Every set is listed, and of its files up to `SAMPLED`, evenly spread, are decoded.

    Raises:
        DataError: names the set's key; a folder or list is missing, or a file is no image.
    """
    for key, ref in references(benchmark):
        if not has_files(ref):
            continue
        try:
            files = files_of(ref, benchmark, data_root)
            for row in sampled_rows(len(files)):
                decode.load(files.path(row), files.remedy)
        except DataError as error:
            raise DataError(f"{key}: {error}", **{**error.details, "key": key}) from error


def check_files(study: StudyConfig, data_root: Path) -> None:
    """Refuse a study whose image sets (see `check_sets`) or weights to start from are missing.

    Raises:
        DataError: names the setting's key.
    """
    check_sets(study.benchmark, data_root)
    several = values_of(study.search.space, "model.weights") if study.search else ()
    for name in several or (study.run.model.weights,):
        if name is not None and not (path := data_root / str(name)).is_file():
            key = "search.space.model.weights" if several else "run.model.weights"
            raise DataError(f"{key}: {path}: no such file", file=name)


def sampled_rows(total: int, most: int = SAMPLED) -> range:
    """At most so many rows of a set, evenly spread."""
    return range(0, total, max(1, -(-total // most)))
