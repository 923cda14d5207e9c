"""Which files make an image set: read from a list in OpenOOD's form, or from plain folders."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rwood.errors import DataError
from rwood.text import count_of

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
)
SUBSET_SEED = 0
"""Of the draw that makes a subset."""


@dataclass(frozen=True, eq=False)
class Listing:
    """The files of an image set, in its order."""

    name: str
    """The set's name, list or folder, as messages and packs call it."""
    root: Path
    """Folder that the paths start from."""
    paths: Sequence[str]
    """N relative paths."""
    labels_N: np.ndarray
    """int64: 0..classes-1, or -1 where OOD."""
    digest: str
    """Names paths and labels by content."""
    remedy: str
    """What to run when a file is missing."""

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)

    def path(self, row: int) -> Path:
        """Where an image lies."""
        return self.root / self.paths[row]

    def parts(self, height: int) -> list[tuple[int, "Listing"]]:
        """Parts of `height` consecutive files, the last of what is left, with their first row."""
        cuts = [(start, slice(start, start + height)) for start in range(0, len(self), height)]
        return [
            (start, replace(self, paths=self.paths[rows], labels_N=self.labels_N[rows]))
            for start, rows in cuts
        ]

    def take(self, rows_n: np.ndarray, labels_n: np.ndarray) -> "Listing":
        """Some files, under other labels."""
        paths = [self.paths[row] for row in rows_n]
        digest = digest_of([self.digest, *paths], labels_n)
        return replace(self, paths=paths, labels_N=labels_n, digest=digest)

    def sizes(self) -> list[int]:
        """Bytes of every file.

        Raises:
            DataError: a file cannot be found.
        """
        try:
            return [self.path(row).stat().st_size for row in range(len(self))]
        except OSError as error:
            path = error.filename
            reason = f"{path} cannot be read ({error.strerror}): {self.remedy}"
            raise DataError(reason, file=path) from error

    def with_sizes(self) -> "Listing":
        """The same files, with their sizes in the digest: one's own images change.

        Raises:
            DataError: a file cannot be found.
        """
        return replace(
            self, digest=digest_of([self.digest, *map(str, self.sizes())], self.labels_N)
        )

    def subset(self, count: int) -> "Listing":
        """`count` files drawn by `even_rows`, in the order of the set.

        Raises:
            DataError: the set has fewer.
        """
        rows = even_rows(self.labels_N, count, self.name)
        return replace(self.take(rows, self.labels_N[rows]), name=f"{self.name}:{count}")


def even_rows(labels_N: np.ndarray, count: int, name: str) -> np.ndarray:
    """`count` rows of the labels of a whole set, ascending: always the same ones, spread evenly.

    Every label gives as many as any other, or one more, or all it has if that is less. The rows of
    a label are cut into as many stretches as it gives, and one is drawn from each: lists are sorted
    by what they show, so that an OOD set, which has one label, keeps its mixture too.

    Raises:
        DataError: the set, called `name`, has fewer rows.
    """
    if count > len(labels_N):
        raise DataError(
            f"{name} has {count_of(len(labels_N), 'image')}, a subset of {count:,} was asked for"
        )
    generator = np.random.default_rng(SUBSET_SEED)
    rows_by_label = [np.flatnonzero(labels_N == label) for label in np.unique(labels_N)]
    rows_by_label.sort(key=len)
    drawn, left = [], count
    for done, rows in enumerate(rows_by_label):
        share = min(len(rows), left // (len(rows_by_label) - done))
        edges = np.arange(share + 1) * len(rows) // max(share, 1)
        drawn.append(rows[generator.integers(edges[:-1], edges[1:])])
        left -= share
    return np.sort(np.concatenate(drawn))


def list_lines(text: str) -> list[str]:
    """Lines of a list without line ends, trailing blanks and empty lines."""
    return [line for raw in text.split("\n") if (line := raw.rstrip())]


def read_text(path: Path, remedy: str) -> str:
    """A list's text.

    Raises:
        DataError: it is missing or no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # Windows begins a text with a mark
    except FileNotFoundError:
        raise DataError(f"{path} is missing: {remedy}", file=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a list ({error})", file=str(path)) from error


def parse_list(
    lines: Sequence[str], path: Path, *, images: Path, classes: int | None, name: str, remedy: str
) -> Listing:
    """Files and labels of a list: `<relative path> <label>` a line, split at the last blank.

    Args:
        lines: of `list_lines`.
        path: of the list, for messages.
        images: folder that the paths start from.
        classes: ID labels must lie in 0..classes-1; None: an OOD set, whose labels all become -1.
        name: of the set.
        remedy: what to run when an image is missing.

    Raises:
        DataError: a path that leaves the folder, or a label that is none.
    """

    def wrong(row: int, reason: str) -> DataError:
        return DataError(f"{path}, line {row + 1}: {reason}", file=str(path))

    paths, labels = [], np.full(len(lines), -1, dtype=np.int64)
    for row, line in enumerate(lines):
        relative, _, label = line.rpartition(" ")
        relative = relative.rstrip()
        try:
            value = int(label)
        except ValueError:
            raise wrong(row, f"{label!r} is not a label; a line reads `<path> <number>`") from None
        if not is_below(relative):
            raise wrong(row, f"{relative} leads out of the image folder")
        if classes is not None and not 0 <= value < classes:
            raise wrong(row, f"label {value} is outside 0..{classes - 1}")
        labels[row] = -1 if classes is None else value
        paths.append(relative)
    if not paths:
        raise DataError(f"{path} lists no image", file=str(path))
    return Listing(name, images, paths, labels, digest_of(lines, labels), remedy)


def read_folder(folder: Path, *, name: str, class_names: Sequence[str] | None) -> Listing:
    """Files of plain folders, sorted: `<folder>/<class>/<file>`, deeper levels included.

    Files and folders that a leading dot hides are passed over.

    `class_names` are the folders of the ID classes in the order of their labels; None: an OOD set,
    whose images may lie in the folder itself too. File sizes are part of the digest: one's own
    images change more often than a benchmark's.

    Raises:
        DataError: no such folder, no image in it, or a class that the ID train set lacks.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: put images there as <class>/<file>", file=name)
    paths = images_below(folder)
    labels = np.full(len(paths), -1, dtype=np.int64)
    if class_names is not None:
        rank = {class_name: i for i, class_name in enumerate(class_names)}
        for row, path in enumerate(paths):
            first, _, rest = path.partition("/")
            if not rest:
                raise DataError(f"{folder / path} lies in no class folder", file=name)
            if first not in rank:
                raise DataError(f"{folder / first} is no class of the ID train set", file=name)
            labels[row] = rank[first]
    files = Listing(name, folder, paths, labels, "", "replace it or take it away")
    lines = [f"{path} {size}" for path, size in zip(paths, files.sizes(), strict=True)]
    return replace(files, digest=digest_of(lines, labels))


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without those that a leading dot hides.

    Raises:
        DataError: no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: put images there as <class>/<file>")
    names = (entry.name for entry in os.scandir(folder) if entry.is_dir())
    return sorted(name for name in names if not name.startswith("."))


def class_folders(folder: Path, classes: int) -> list[str]:
    """Class names of a plain folder, sorted: the rank is the label.

    Raises:
        DataError: no such folder, or not so many classes.
    """
    names = subfolders(folder)
    if len(names) != classes:
        raise DataError(
            f"{folder} has {count_of(len(names), 'class folder')}, the benchmark says {classes}",
            file=str(folder),
        )
    return names


def check_classes(train: Listing, class_names: Sequence[str]) -> None:
    """Refuse an ID train set without an image of each class: the class would have no mean.

    Raises:
        DataError: names the class.
    """
    counts_C = np.bincount(train.labels_N, minlength=len(class_names))
    if not counts_C.all():
        name = class_names[int(counts_C.argmin())]
        raise DataError(
            f"{train.name} has no image of class {name}: add some, or take the class out of the "
            "benchmark",
            file=train.name,
        )


def is_below(relative: str) -> bool:
    """Whether a path from a list or an archive stays below the folder that it starts from."""
    unsafe = relative.startswith("/") or ".." in relative.split("/") or not relative.strip("./")
    return not (unsafe or "\0" in relative)


def digest_of(lines: Sequence[str], labels_N: np.ndarray) -> str:
    """16 hex digits of the SHA-256 of lines and labels."""
    text = hashlib.sha256("\n".join(lines).encode(errors="surrogateescape"))
    text.update(labels_N.tobytes())
    return text.hexdigest()[:16]


def images_below(folder: Path) -> list[str]:
    """Relative path of every image, sorted; a link's file may be missing.

    What a leading dot hides, or lies in a folder that one hides, is passed over.

    Raises:
        DataError: no image in it, a folder cannot be read, or a link to a folder that it lies in.
    """
    paths: list[str] = []
    try:
        for top, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
            below = Path(top).relative_to(folder)
            if any(os.path.samefile(top, folder / above) for above in below.parents):
                raise DataError(f"{top} is a link to a folder that it lies in: take the link away")
            folders[:] = [name for name in folders if not name.startswith(".")]
            prefix = f"{below}/" if below.parts else ""
            for name in names:
                if name.startswith("."):  # thumbnails, copies of a notebook, ...
                    continue
                if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                    paths.append(prefix + name)
                elif os.path.islink(link := os.path.join(top, name)):
                    with suppress(FileNotFoundError):
                        os.stat(link)  # a forbidden folder's is among the files
    except OSError as error:
        raise DataError(
            f"{error.filename} cannot be read ({error.strerror}): replace it or take it away"
        ) from error
    if not paths:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"{folder} holds no image ({suffixes})", file=str(folder))
    return sorted(paths)


def _raise(error: OSError) -> None:
    raise error
