"""OpenOOD v1.5's image lists: how long each is, its checksum, and where its images lie.

Counts and checksums come from the lists themselves (PROTOCOL section 5); `lists.json` is the
table. A list is accepted in OpenOOD's order, or sorted, as `rwood data fetch` rebuilds it.
"""

import functools
import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from rwood.data import listing
from rwood.data.listing import Listing
from rwood.errors import DataError
from rwood.text import count_of

LISTS = "benchmark_imglist"
CLASSIC, LARGE = "images_classic", "images_largescale"
LARGE_TREES = frozenset(
    "imagenet_1k ssb_hard ninco inaturalist openimage_o imagenet_v2 imagenet_c imagenet_r".split()
)
JPEG = "cifar10-jpeg"
V1_0_COUNTS = {"cifar10/test_tin": 8793, "cifar100/test_tin": 7498}
"""Lists of OpenOOD v1.0 that circulate under the names of v1.5."""


@dataclass(frozen=True)
class OpenOODList:
    """One row of the table."""

    name: str
    """`<id set>/<list>`: the list's path without `.txt`."""
    tree: str
    """Folder of the images, and what `rwood data fetch` calls it."""
    count: int | None
    """Lines; None where it is not known."""
    classes: int
    """ID classes; 0 for an OOD list."""
    md5: str | None
    """Of the lines with LF ends; None where it is not known."""
    md5_sorted: str | None
    """Of the same lines sorted."""

    def list_path(self, data_root: Path) -> Path:
        """Where the list lies."""
        if self.tree == JPEG:
            stem = self.name.removeprefix(f"{JPEG}/")
            return data_root / JPEG / LISTS / "cifar10" / f"{stem}.txt"
        return data_root / LISTS / f"{self.name}.txt"

    def images(self, data_root: Path) -> Path:
        """Folder that the list's paths start from."""
        if self.tree == JPEG:
            return data_root / JPEG / CLASSIC
        return data_root / (LARGE if self.tree in LARGE_TREES else CLASSIC)


@functools.cache
def table() -> dict[str, OpenOODList]:
    """Every list by name."""
    return {name: OpenOODList(name=name, **row) for name, row in resource("lists.json").items()}


def resource(name: str) -> dict[str, Any]:
    """A JSON file that comes with this package."""
    text = resources.files("rwood.data").joinpath(name).read_text(encoding="utf-8")
    plain: dict[str, Any] = json.loads(text)
    return plain


def read(name: str, data_root: Path, *, ood: bool) -> Listing:
    """Files and labels of a named list, after its checksum was verified.

    `ood` says whether the set counts as OOD, whatever its labels say.

    Raises:
        DataError: the list is missing, is of OpenOOD v1.0, or differs from v1.5's.
    """
    row = table()[name]
    path = row.list_path(data_root)
    source = JPEG if row.tree == JPEG else "imglists"
    remedy = f"run `rwood data fetch {source} --from ARCHIVE`"
    lines = listing.list_lines(listing.read_text(path, remedy))
    _verify(row, lines, path, remedy)
    return listing.parse_list(
        lines,
        path,
        images=row.images(data_root),
        classes=None if ood else row.classes or None,
        name=name,
        remedy=f"run `rwood data fetch {row.tree}`",
    )


def checksum(lines: list[str]) -> str:
    """MD5 of lines with LF ends, as the published checksums are."""
    return hashlib.md5("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def _verify(row: OpenOODList, lines: list[str], path: Path, remedy: str) -> None:
    if row.count is not None and len(lines) != row.count:
        length = count_of(len(lines), "line")
        difference = f"{path} has {length}, OpenOOD v1.5's has {row.count:,}: {remedy}"
        if len(lines) == V1_0_COUNTS.get(row.name):
            difference = (
                f"{path} is the list of OpenOOD v1.0 ({length}); v1.5 has {row.count:,}: {remedy} "
                "with the lists of v1.5"
            )
        raise DataError(difference, file=str(path))
    if row.md5 is not None and checksum(lines) not in (row.md5, row.md5_sorted):
        raise DataError(
            f"{path} differs from OpenOOD v1.5's list (MD5 {checksum(lines)}, not {row.md5}): "
            f"{remedy}, or name your own list in the benchmark file",
            file=str(path),
        )
