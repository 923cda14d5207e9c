"""Do ID and OOD sets share images? A look at samples, in seconds; `data/verify` looks at all."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from rwood.config.benchmark import BenchmarkConfig, DerivedSet, ImageSetRef, whole_set
from rwood.data import image_sets, sample
from rwood.data.listing import Listing

LISTED = 200_000
"""Files of an ID set whose sizes are asked for; a larger set is compared by its name alone."""
OOD_PARTS = ("validation.", "near.", "far.")
Sizes = dict[int, list[tuple[str, Path]]]


def shared_images(benchmark: BenchmarkConfig, data_root: Path) -> Iterator[str]:
    """A sentence for each OOD set that is an ID set too, or has files of one, byte by byte.

    Of each OOD set up to `sample.SAMPLED` files are compared; nothing is decoded.

    Raises:
        DataError: a list or folder cannot be read.
    """
    parts = dict(image_sets.references(benchmark))
    id_parts = {key: ref for key, ref in parts.items() if key.startswith("id.")}
    sizes = _sizes(id_parts, benchmark, data_root)
    for key, ref in parts.items():
        if not key.startswith(OOD_PARTS) or isinstance(ref, DerivedSet):
            continue
        same = [k for k, other in id_parts.items() if whole_set(other) == whole_set(ref)]
        if same:
            yield f"{key} is made of the same set as {same[0]}: its images count as ID and as OOD"
        elif image_sets.has_files(ref):
            files = image_sets.files_of(ref, benchmark, data_root)
            yield from _sentence(key, files, sizes)


def _sizes(id_parts: dict[str, ImageSetRef], benchmark: BenchmarkConfig, data_root: Path) -> Sizes:
    """Bytes of a file -> the ID images of that size, with the key of their set."""
    sizes: Sizes = defaultdict(list)
    for key, ref in id_parts.items():
        if not image_sets.has_files(ref):
            continue
        files = image_sets.files_of(ref, benchmark, data_root)
        for row in range(len(files) if len(files) <= LISTED else 0):
            path = files.path(row)
            if path.is_file():
                sizes[path.stat().st_size].append((key, path))
    return sizes


def _sentence(key: str, files: Listing, sizes: Sizes) -> Iterator[str]:
    rows = sample.sampled_rows(len(files))
    twins = [(row, twin) for row in rows if (twin := _twin(files.path(row), sizes))]
    if twins:
        row, (id_key, path) = twins[0]
        yield (
            f"{len(twins)} of {len(rows)} images looked at in {key} are images of {id_key} too, "
            f"e.g. {files.path(row)} = {path}: they count as ID and as OOD (rwood data verify "
            "names them all)"
        )


def _twin(path: Path, sizes: Sizes) -> tuple[str, Path] | None:
    """An ID image with the same bytes."""
    content = path.read_bytes()
    return next((t for t in sizes.get(len(content), []) if t[1].read_bytes() == content), None)
