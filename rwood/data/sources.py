"""Where image files come from: a download, an archive or a folder, brought into OpenOOD's layout.

Below the data root: `benchmark_imglist/<id set>/*.txt`, `images_classic/<tree>/` and
`images_largescale/<tree>/`. A source is one tree, the lists, or a whole archive of its own.
"""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rwood.data import archives, openood
from rwood.data.openood import CLASSIC, JPEG, LARGE, LISTS
from rwood.data.processes import Progress, silent
from rwood.errors import DataError, SpecError
from rwood.text import count_of, did_you_mean


@dataclass(frozen=True)
class Source:
    """A row of the table."""

    folder: str
    """What it fills, below the data root."""
    about: str
    """What it is and, if it cannot be downloaded, where to get it."""
    downloads: bool = False
    """Whether `rwood data fetch` can download it."""


SOURCES: dict[str, Source] = {
    "imglists": Source(LISTS, "OpenOOD v1.5's image lists (benchmark_imglist)"),
    JPEG: Source(JPEG, "CIFAR-10 as JPEG with near and far sets, one archive"),
    "cifar10": Source(f"{CLASSIC}/cifar10", "CIFAR-10, by torchvision", downloads=True),
    "cifar100": Source(f"{CLASSIC}/cifar100", "CIFAR-100, by torchvision", downloads=True),
    "tin": Source(f"{CLASSIC}/tin", "Tiny-ImageNet, from Stanford", downloads=True),
    "mnist": Source(f"{CLASSIC}/mnist", "MNIST, by torchvision", downloads=True),
    "svhn": Source(f"{CLASSIC}/svhn", "SVHN test set, by torchvision", downloads=True),
    "texture": Source(f"{CLASSIC}/texture", "DTD, by torchvision", downloads=True),
    "places365": Source(
        f"{CLASSIC}/places365", "Places365 validation images of 256 px, by torchvision", True
    ),
    "cifar10c": Source(f"{CLASSIC}/cifar10c", "CIFAR-10-C as OpenOOD samples it"),
    "imagenet_1k": Source(f"{LARGE}/imagenet_1k", "ILSVRC 2012 train and val (image-net.org)"),
    "ssb_hard": Source(f"{LARGE}/ssb_hard", "SSB-hard, from OpenOOD"),
    "ninco": Source(f"{LARGE}/ninco", "NINCO, from OpenOOD"),
    "inaturalist": Source(f"{LARGE}/inaturalist", "iNaturalist's OOD selection, from OpenOOD"),
    "openimage_o": Source(f"{LARGE}/openimage_o", "OpenImage-O, from OpenOOD"),
    "imagenet_v2": Source(f"{LARGE}/imagenet_v2", "ImageNet-V2, from OpenOOD"),
    "imagenet_c": Source(f"{LARGE}/imagenet_c", "ImageNet-C as OpenOOD samples it"),
    "imagenet_r": Source(f"{LARGE}/imagenet_r", "ImageNet-R, from OpenOOD"),
}
LAYOUT = (LISTS, CLASSIC, LARGE)
RAW_NAMES = frozenset(
    "cifar-10-batches-py cifar-100-python MNIST test_32x32.mat dtd val_256 "
    "tiny-imagenet-200".split()
)
"""Files or folders that torchvision, or the publisher's archive, leaves behind."""


def fetch(
    name: str, data_root: Path, *, source: Path | None = None, progress: Progress = silent
) -> str:
    """Bring a source into the data root; what is already there is kept.

    Without `source`, an archive or a folder of this machine, it is downloaded. An archive is
    unpacked; a folder is linked, not copied, or, if it holds torchvision's raw files, turned into
    OpenOOD's tree. The lists of a tree that was downloaded are rebuilt where they are missing.

    Returns:
        What was done, in a sentence.

    Raises:
        DataError: nothing to download, or the archive or folder is not what it should be.
        SpecError: no source has this name.
    """
    if name not in SOURCES:
        hint = did_you_mean(name, SOURCES, f"known: {', '.join(SOURCES)}", cutoff=0.4)
        raise SpecError(f"{name} is not a source of images; {hint}", got=name)
    row = SOURCES[name]
    if source is None and not row.downloads:
        raise DataError(
            f"{name} ({row.about}) cannot be downloaded: give an archive or a folder, "
            f"`rwood data fetch {name} --from PATH`"
        )
    try:
        if source is None:
            return _prepare(name, data_root, data_root / "downloads" / name, True, progress)
        if source.is_dir():
            return _from_folder(name, data_root, source, progress)
        return _from_archive(name, data_root, source, progress)
    except OSError as error:
        raise DataError(
            f"{error.filename or data_root} cannot be read or written ({error.strerror}): choose "
            "another copy or another data root"
        ) from error


def _prepare(name: str, data_root: Path, raw: Path, download: bool, progress: Progress) -> str:
    from rwood.data import prepare  # torchvision, which takes a second to import

    count = prepare.tree(name, raw, data_root / SOURCES[name].folder, download, progress)
    lists = prepare.missing_lists(name, data_root)
    words = f"{name}: {count_of(count, 'image')} in {data_root / SOURCES[name].folder}"
    return words + (f", lists rebuilt: {', '.join(lists)}" if lists else "")


def _from_archive(name: str, data_root: Path, archive: Path, progress: Progress) -> str:
    if not archives.is_archive(archive):
        raise DataError(f"{archive} is neither a folder nor a .tar, .tar.gz, .tgz or .zip file")
    folder = data_root / JPEG if name == JPEG else data_root
    count = archives.unpack(archive, folder, lambda member: _place(name, member), progress)
    if count == 0:
        raise DataError(f"{archive} holds nothing of {name}", file=str(archive))
    return f"{name}: {count_of(count, 'file')} in {data_root / SOURCES[name].folder}"


def _place(name: str, member: str) -> str | None:
    """Where a member of an archive belongs, below the data root.

    From the first folder of OpenOOD's layout on if there is one; else from the tree's own name on;
    else the archive's top folder stands for the tree (Tiny-ImageNet's is `tiny-imagenet-200`).
    """
    parts = PurePosixPath(member).parts
    for i, part in enumerate(parts):
        if part in LAYOUT:
            return "/".join(parts[i:])
    if name in ("imglists", JPEG):
        id_sets = {row.split("/")[0] for row in openood.table()}
        if len(parts) >= 2 and parts[-2] in id_sets and member.endswith(".txt"):
            return f"{LISTS}/{parts[-2]}/{parts[-1]}"
        return None
    folder = PurePosixPath(SOURCES[name].folder)
    if name in parts[:-1]:
        return str(folder.joinpath(*parts[parts.index(name) + 1 :]))
    return str(folder.joinpath(*parts[1:])) if len(parts) > 1 else None


def _from_folder(name: str, data_root: Path, folder: Path, progress: Progress) -> str:
    has_layout = any((folder / part).is_dir() for part in LAYOUT)
    has_raw = any((folder / part).exists() for part in RAW_NAMES)
    if has_raw and not has_layout and SOURCES[name].downloads:
        return _prepare(name, data_root, folder, False, progress)
    target = data_root / SOURCES[name].folder
    source = folder / SOURCES[name].folder if has_layout and name != JPEG else folder
    if not source.is_dir():
        raise DataError(f"{folder} holds nothing of {name}: {source} is missing")
    _link(source.resolve(), target)
    return f"{name}: linked {target} to {source}"


def _link(source: Path, target: Path) -> None:
    if target.resolve() == source:
        return
    if target.exists() or target.is_symlink():
        raise DataError(f"{target} is there already: move it away to link {source} in its place")
    target.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(source, target, target_is_directory=True)
