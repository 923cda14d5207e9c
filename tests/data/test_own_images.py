"""`rwood init`: one's own folders become a benchmark and a study that load as they are."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rwood.cli import app
from rwood.config.benchmark import BenchmarkConfig, FolderSet
from rwood.config.load import load_study
from rwood.data import image_sets, own_images
from rwood.data.own_images import key_of, measure, own_splits
from rwood.data.sample import check_sets
from rwood.errors import DataError, RwoodError, SpecError
from tests.data.conftest import Draw


@pytest.fixture
def classes(tmp_path: Path, draw: Draw) -> Path:
    """Two class folders without parts; names with blanks, as people have them."""
    for name in ("grey cat", "dog"):
        for i in range(10):
            draw(tmp_path / "pets" / name / f"img {i}.png", 20, 24)
    return tmp_path / "pets"


def init(*words: object) -> str:
    done = CliRunner().invoke(app, ["init", *map(str, words)])
    if done.exception is not None:
        raise done.exception
    return done.output


def test_class_folders_are_split_once_and_for_all(classes: Path) -> None:
    parts = own_splits(classes)
    assert {name: np.bincount(p.labels_N).tolist() for name, p in parts.items()} == {
        "train": [6, 6], "val": [2, 2], "test": [2, 2],
    }  # fmt: skip
    paths = [path for part in parts.values() for path in part.paths]
    assert len(set(paths)) == 20
    assert parts["val"].paths == own_splits(classes)["val"].paths


def test_given_parts_stay_and_the_missing_one_is_drawn_from_train(
    animals: BenchmarkConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"  # with folders of OOD images beside the parts
    assert {name: len(part) for name, part in own_splits(folder).items()} == {
        "train": 24, "val": 6, "test": 8,
    }  # fmt: skip
    shutil.rmtree(folder / "val")
    parts = own_splits(folder)
    assert {name: len(part) for name, part in parts.items()} == {"train": 20, "val": 4, "test": 8}
    assert all(path.startswith("train/") for path in parts["val"].paths)


@pytest.mark.parametrize(("train", "test"), [("Train", "TEST"), ("training", "testing")])
def test_parts_of_any_spelling_are_no_classes(
    tmp_path: Path, draw: Draw, train: str, test: str
) -> None:
    for part in (train, test):
        for name in ("cat", "dog"):
            for i in range(3):
                draw(tmp_path / part / name / f"{i}.png", 12, 10)
    parts = own_splits(tmp_path)
    assert {part: len(files) for part, files in parts.items()} == {"train": 4, "val": 2, "test": 6}
    assert parts["test"].paths[0] == f"{test}/cat/0.png"
    (tmp_path / test).rename(tmp_path / "ship")
    assert len(own_splits(tmp_path)["train"]) == 8, "ships and trains are classes"


def test_sizes_colours_and_statistics_are_measured(tmp_path: Path, draw: Draw) -> None:
    for name in ("a", "b"):
        for i in range(4):
            draw(tmp_path / "grey" / name / f"{i}.png", 12, 10, "L")
    facts = measure(own_splits(tmp_path / "grey")["train"], None)
    assert (facts.images, facts.classes, facts.channels, facts.image_size) == (4, 2, 1, 10)
    assert 0.2 < facts.mean[0] < 0.8
    assert 0.05 < facts.std[0] < 0.5
    assert key_of(Path("My Photos (2)")) == "my_photos_2"


def test_of_many_images_a_sample_is_measured(
    classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    monkeypatch.setattr(own_images, "SAMPLED", 7)
    monkeypatch.setattr(own_images, "_is_grey", lambda image: not rows.append(image.height))
    assert measure(own_splits(classes)["train"], None).images == 12
    assert rows == [24] * 6


def test_what_init_writes_opens_as_it_is(
    classes: Path, tmp_path: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("birds", "walls"):
        for i in range(3):
            draw(tmp_path / name / f"{name}{i}.jpg", 30, 30)
    said = init("pets", "--near", "birds", "--far", "walls", "--data-root", ".")
    assert "pets-study: 2 classes (train 12, val 4, test 4), colour, 20 x 20 pixels" in said
    study = load_study(tmp_path / "pets-study" / "study.yaml")
    assert study.benchmark.near == {"birds": FolderSet(folder="birds")}
    check_sets(study.benchmark, tmp_path)
    train = image_sets.open_set(study.benchmark.id.train, study.benchmark, tmp_path)
    assert train.images_NHWC.shape == (12, 20, 20, 3)
    with pytest.raises(SpecError, match="pets-study is there already: choose another --to"):
        init("pets", "--near", "birds", "--far", "walls")


@pytest.mark.parametrize("parts", [(), ("train",), ("train", "val", "test")])
def test_odd_names_of_folders_and_files_are_opened_too(
    tmp_path: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch, parts: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("pets", "birds", "walls"):
        for part in parts or ("",):
            (tmp_path / folder / part / ".ipynb_checkpoints").mkdir(parents=True)
            for name in ("ratio 1:2", "back\\slash"):
                for file in ("1.png", "a\u2028b.png", "a\x85b.png", "a:\\b.png"):
                    draw(tmp_path / folder / part / name / file, 16, 16)
    assert "2 classes" in init("pets", "--near", "birds", "--far", "walls", "--data-root", ".")
    benchmark = load_study(tmp_path / "pets-study" / "study.yaml").benchmark
    check_sets(benchmark, tmp_path)
    assert len(image_sets.files_of(benchmark.id.train, benchmark, tmp_path)) >= 4


def test_folders_that_cannot_make_a_study_cost_a_sentence(
    classes: Path, tmp_path: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "birds" / "b.png", 8, 8)
    ood = ("--near", "birds", "--far", "birds")
    cases: list[tuple[tuple[object, ...], type[RwoodError], str]] = [
        (("pets", "--near", "birds"), SpecError, "needs OOD images of two kinds: --near FOLDER"),
        (("birds", *ood), DataError, "birds has 0 class folders"),
        (
            ("pets", "--near", "pets", "--far", "birds"),
            DataError,
            "pets holds images of the ID set",
        ),
        (("pets", "--near", "birds", "--far", "pets/dog"), DataError, "pets/dog holds images of"),
        (("nowhere", *ood), DataError, "nowhere is no folder"),
        (("pets", *ood, "--far", "birds"), DataError, "two folders would be called birds"),
        (("pets", *ood), DataError, "birds is both a near and a far set"),
    ]
    for words, kind, sentence in cases:
        with pytest.raises(kind, match=sentence):
            init(*words)
        assert not (tmp_path / "pets-study").exists()
    for i in range(9):
        (classes / "dog" / f"img {i}.png").unlink()
    with pytest.raises(DataError, match="class dog has 1 image, and val, test and train need one"):
        own_splits(classes)


def test_a_name_that_no_list_can_hold_is_said(classes: Path, tmp_path: Path, draw: Draw) -> None:
    for name in ("birds", "walls"):
        draw(tmp_path / name / "1.png", 8, 8)
    near, far = tmp_path / "birds", tmp_path / "walls"
    (classes / "dog" / "img 3.png").rename(classes / "dog" / "two\nlines.png")
    with pytest.raises(DataError, match=r"dog/two\\nlines.png' has no place in a list of files"):
        init(classes, "--near", near, "--far", far, "--to", tmp_path / "study")


def test_a_class_without_an_image_is_said(animals: BenchmarkConfig, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    for name in ("near", "far", "seen"):
        shutil.rmtree(folder / name)
    (folder / "train" / "zebra").mkdir()
    with pytest.raises(DataError, match="has no image of class zebra: add some"):
        own_splits(folder)
