"""`rwood init`: a benchmark and a study from one's own folders of images."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rwood.cli.options import DATA, DataRoot
from rwood.config.load import load_study
from rwood.errors import DataError, SpecError
from rwood.results import write_atomically


def init(
    folder: Annotated[
        Path,
        typer.Argument(
            help="ID images, a folder a class; or such below train (and val, test).",
            metavar="ID_FOLDER",
        ),
    ],
    near: Annotated[
        list[Path] | None, typer.Option(help="Folder of OOD images close to the ID images.")
    ] = None,
    far: Annotated[
        list[Path] | None, typer.Option(help="Folder of OOD images far from the ID images.")
    ] = None,
    val: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of OOD images to select by; not needed: ID val makes some."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Folder for the files; default: NAME-study.")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(min=4, help="Pixels of the encoder's input; default: theirs up to 32."),
    ] = None,
    data_root: DataRoot = DATA,
) -> None:
    """Write a benchmark and a study for folders of your own images; they run as they are."""
    from rwood.config.new_study import benchmark_text, study_text
    from rwood.data import own_images

    if not near or not far:
        raise SpecError(
            "rwood init needs OOD images of two kinds: --near FOLDER (close to the ID images, e.g. "
            "other species) and --far FOLDER (another world, e.g. textures)"
        )
    name = own_images.key_of(folder).replace("_", "-")
    target = to or Path(f"{name}-study")
    if target.exists() and any(target.iterdir()):
        raise SpecError(f"{target} is there already: choose another --to, or take it away")
    parts = own_images.own_splits(folder)
    facts = own_images.measure(parts["train"], image_size)
    for other in (*near, *far, *(val or ())):
        own_images.check_apart(other, folder, parts)
    ood = [_ood_sets(folders, data_root) for folders in (near, far, val or ())]
    if both := ood[0].keys() & ood[1].keys():
        raise DataError(f"{min(both)} is both a near and a far set: name one of two folders anew")
    places = own_images.given_parts(folder)
    if len(places) == len(parts):
        id_sets = {part: {"folder": _place(folder / places[part], data_root)} for part in parts}
    else:
        id_sets = {}
        for part, files in parts.items():
            file = target / f"{part}.txt"
            write_atomically(file, own_images.list_text(files))
            id_sets[part] = {"list": _place(file, data_root), "images": _place(folder, data_root)}
    write_atomically(target / "benchmark.yaml", benchmark_text(name, facts, id_sets, *ood))
    study = target / "study.yaml"
    command = f"rwood run {shlex.quote(str(study))}"
    if data_root != DATA:
        command += f" --data-root {shlex.quote(str(data_root))}"
    write_atomically(study, study_text(name, facts, command))
    load_study(study)
    counts = ", ".join(f"{part} {len(files):,}" for part, files in parts.items())
    kind = "grey" if facts.channels == 1 else "colour"
    typer.echo(
        f"{target}: {facts.classes} classes ({counts}), {kind}, {facts.image_size} x "
        f"{facts.image_size} pixels\nrun it: {command}"
    )


def _ood_sets(folders: Sequence[Path], data_root: Path) -> Mapping[str, Any]:
    """References to folders of OOD images, by a name each."""
    from rwood.data.listing import read_folder
    from rwood.data.own_images import key_of

    sets: dict[str, Any] = {}
    for folder in folders:
        read_folder(folder, name=str(folder), class_names=None)
        key = key_of(folder)
        if key in sets:
            raise DataError(f"two folders would be called {key}: rename {folder}")
        sets[key] = {"folder": _place(folder, data_root)}
    return sets


def _place(path: Path, data_root: Path) -> str:
    """A path as a benchmark writes it: from the data root if it is below, else absolute."""
    whole, root = path.resolve(), data_root.resolve()
    return str(whole.relative_to(root) if whole.is_relative_to(root) else whole)
