"""What is known, what is here, how many images, how large: the table behind `rwood data list`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rwood.config.benchmark import DERIVED
from rwood.data import openood, pixel_cache
from rwood.data.image_sets import NAMED
from rwood.data.listing import Listing
from rwood.data.sample import sampled_rows
from rwood.errors import DataError

SAMPLES = 50
"""Files looked for, evenly spaced in a list, to tell whether a set is here."""

State = Literal["embedded", "derived", "here", "partly", "no images", "no list", "wrong list"]


@dataclass(frozen=True)
class Row:
    """One named image set."""

    name: str
    source: str
    """What `rwood data fetch` calls its images."""
    classes: int
    """ID classes; 0 for an OOD set."""
    images: int | None
    """Images it has; None where nobody says and no list is here."""
    state: State
    file_bytes: int | None
    """Size of its files, estimated from a sample; None where none is here."""
    pack_bytes: int
    """Size of its packs."""


def inventory(data_root: Path) -> Iterator[Row]:
    """Every named set, and every way to derive one; opens no image.

    Looks at lists and at a sample of files.
    """
    for name, row in NAMED.items():
        if name.startswith("digits/"):
            yield Row(name, "scikit-learn", row.classes, row.count, "embedded", None, 0)
        else:
            yield _listed(name, data_root)
    for kind in DERIVED:
        yield Row(f"{{derived: {kind}}}", "a benchmark's id.val", 0, None, "derived", None, 0)


def _listed(name: str, data_root: Path) -> Row:
    row = openood.table()[name]
    packed = sum(path.stat().st_size for path in pixel_cache.packs_of(name, data_root))
    images, size = row.count, None
    state: State
    try:
        files = openood.read(name, data_root, ood=row.classes == 0)
    except DataError:
        state = "wrong list" if row.list_path(data_root).exists() else "no list"
    else:
        images = len(files)
        state, size = _sampled(files)
    return Row(name, row.tree, row.classes, images, state, size, packed)


def _sampled(files: Listing) -> tuple[State, int | None]:
    rows = sampled_rows(len(files), SAMPLES)
    sizes = [path.stat().st_size for row in rows if (path := files.path(row)).exists()]
    if not sizes:
        return "no images", None
    mean = sum(sizes) / len(sizes)
    return ("here" if len(sizes) == len(rows) else "partly"), round(mean * len(files))
