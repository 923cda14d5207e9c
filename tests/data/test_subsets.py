"""A subset of an image set: even, repeatable, and nothing else of the set is opened."""

from pathlib import Path

import numpy as np
import pytest

from rwood.config.benchmark import BenchmarkConfig, FolderSet, ListSet, SubsetSet, whole_set
from rwood.config.load import load_benchmark
from rwood.data import decode, image_sets, listing, processes
from rwood.data.known import check_known
from rwood.data.verify import verify
from rwood.errors import DataError, SpecError
from tests.conftest import STUDIES


def subset(of: object, images: int) -> SubsetSet:
    return SubsetSet.model_validate({"of": of, "images": images})


def with_train(benchmark: BenchmarkConfig, train: object, **changes: object) -> BenchmarkConfig:
    parts = benchmark.id.model_dump() | {"train": train}
    return BenchmarkConfig(**(benchmark.model_dump() | {"id": parts} | changes))


@pytest.mark.parametrize("count", [1, 2, 7, 20, 23, 100, 160])
def test_every_class_gives_as_many_as_any_other(count: int) -> None:
    labels_N = np.random.default_rng(1).permutation(np.repeat(np.arange(7), [40] * 5 + [30] * 2))
    rows = listing.even_rows(labels_N, count, "x")
    assert len(rows) == count
    assert (np.diff(rows) > 0).all()
    shares = np.bincount(labels_N[rows], minlength=7)
    assert shares.max() - shares.min() <= 1


def test_a_small_class_gives_what_it_has() -> None:
    labels_N = np.repeat([0, 1, 2], [3, 50, 50])
    shares = np.bincount(labels_N[listing.even_rows(labels_N, 43, "x")])
    assert shares.tolist() == [3, 20, 20]
    assert listing.even_rows(labels_N, 103, "x").tolist() == list(range(103))


def test_an_ood_set_is_drawn_from_end_to_end() -> None:
    rows = listing.even_rows(np.full(1000, -1), 100, "x")
    assert (rows // 10).tolist() == list(range(100)), "one of each ten"
    assert len(set((rows % 10).tolist())) > 5, "and not the same one"
    assert rows.tolist() == listing.even_rows(np.full(1000, -1), 100, "x").tolist()


def test_more_images_than_there_are(animals: BenchmarkConfig, tmp_path: Path) -> None:
    ref = subset({"folder": "mine/near"}, 6)
    config = BenchmarkConfig(**(animals.model_dump() | {"near": {"near": ref.model_dump()}}))
    with pytest.raises(DataError, match="mine/near has 5 images, a subset of 6 was asked for"):
        image_sets.open_set(ref, config, tmp_path)


def test_only_the_drawn_files_are_decoded(
    animals: BenchmarkConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_train(animals, {"of": {"folder": "mine/train"}, "images": 6})
    files = image_sets.files_of(config.id.train, config, tmp_path)
    for path in (tmp_path / "mine" / "train").rglob("*.png"):
        if str(path.relative_to(tmp_path / "mine" / "train")) not in files.paths:
            path.write_bytes(b"no image")
    image_sets._files.cache_clear()  # sizes changed
    monkeypatch.setattr(processes, "processors", lambda: 1)
    opened = image_sets.open_set(config.id.train, config, tmp_path)
    assert opened.name == "mine/train:6"
    assert np.bincount(opened.labels_N).tolist() == [3, 3]
    assert opened.files is not None
    for row, path in enumerate(opened.files.paths):
        how = image_sets.transform_of(config.id.train, config)
        assert np.array_equal(opened.images_NHWC[row], decode.scored(opened.files, row, how)[0]), (
            path
        )
    assert [p.name.split(".")[0] for p in (tmp_path / "packs").glob("*.pack")] == ["mine-train-6"]


def test_other_folders_take_their_labels_from_the_whole_train_folder(
    animals: BenchmarkConfig, tmp_path: Path, draw
) -> None:
    draw(tmp_path / "mine" / "fog" / "dog" / "a.png", 16, 16)
    config = with_train(
        animals,
        {"of": {"folder": "mine/train"}, "images": 4},
        shifted={"fog": {"folder": "mine/fog"}},
    )
    assert image_sets.open_set(config.shifted["fog"], config, tmp_path).labels_N.tolist() == [1]


def test_a_subset_of_an_own_list(animals: BenchmarkConfig, tmp_path: Path) -> None:
    names = [
        f"train/{name}/train{i}.png {k}" for k, name in enumerate(("cat", "dog")) for i in range(12)
    ]
    (tmp_path / "mine.txt").write_text("\n".join(names))
    config = with_train(animals, {"of": {"list": "mine.txt", "images": "mine"}, "images": 5})
    opened = image_sets.open_set(config.id.train, config, tmp_path)
    assert sorted(np.bincount(opened.labels_N).tolist()) == [2, 3]
    assert whole_set(config.id.train) == ListSet(list="mine.txt", images="mine")


def test_a_subset_of_an_embedded_set() -> None:
    digits = load_benchmark(STUDIES / "benchmarks" / "digits.yaml")
    config = with_train(digits, {"of": "digits/train", "images": 70})
    check_known(config)
    whole = image_sets.open_set("digits/train", config, Path("nowhere"))
    opened = image_sets.open_set(config.id.train, config, Path("nowhere"))
    assert np.bincount(opened.labels_N).tolist() == [10] * 7
    assert opened.digest != whole.digest
    rows = listing.even_rows(whole.labels_N, 70, "")
    assert np.array_equal(opened.images_NHWC, whole.images_NHWC[rows])
    with pytest.raises(SpecError, match="id.train: digits/train has 759 images, not 760"):
        check_known(with_train(digits, {"of": "digits/train", "images": 760}))
    with pytest.raises(SpecError, match="id.train: 6 images cannot show all 7 classes"):
        check_known(with_train(digits, {"of": "digits/train", "images": 6}))
    with pytest.raises(SpecError, match="digits/trein is not a known image set; did you mean"):
        check_known(with_train(digits, {"of": "digits/trein", "images": 70}))


def test_verify_reads_subsets(animals: BenchmarkConfig, tmp_path: Path) -> None:
    config = with_train(animals, {"of": {"folder": "mine/train"}, "images": 6})
    found = verify(config, tmp_path)
    assert found.sound
    assert [(s.name, s.images) for s in found.sets][:2] == [("mine/train:6", 6), ("mine/val", 6)]


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("{of: digits/8}", ["near.digit8.images", "missing"]),
        ("{of: digits/8, images: 0}", ["near.digit8.images", "got 0"]),
        ("{of: digits/8, image: 3}", ["near.digit8.image", "did you mean images"]),
        ("{of: {foldr: x}, images: 3}", ["near.digit8.of.foldr", "did you mean folder"]),
        ("{of: {of: digits/8, images: 5}, images: 3}", ["near.digit8.of"]),
    ],
)
def test_a_wrong_subset_is_named(tmp_path: Path, ref: str, words: list[str]) -> None:
    text = (STUDIES / "benchmarks" / "digits.yaml").read_text()
    path = tmp_path / "digits.yaml"
    lines = [f"  digit8: {ref}" if "digit8:" in line else line for line in text.splitlines()]
    path.write_text("\n".join(lines))
    with pytest.raises(SpecError) as caught:
        load_benchmark(path)
    for word in words:
        assert word in str(caught.value)


def test_names_of_references() -> None:
    assert image_sets.name_of("digits/8") == "digits/8"
    assert image_sets.name_of(subset("digits/8", 3)) == "digits/8:3"
    assert image_sets.name_of(subset(FolderSet(folder="a/b"), 3)) == "a/b:3"
    assert not image_sets.has_files(subset("digits/8", 3))
    assert image_sets.has_files(subset(FolderSet(folder="digits/8"), 3))


def test_a_subset_of_a_list_needs_no_other_file_of_it(
    animals: BenchmarkConfig, tmp_path: Path
) -> None:
    lines = [f"{p.relative_to(tmp_path / 'mine').as_posix()} -1"
             for p in sorted((tmp_path / "mine" / "near").iterdir())]  # fmt: skip
    (tmp_path / "near.txt").write_text("\n".join(["near/gone.jpg -1", *lines]))
    drawn = set(listing.even_rows(np.full(6, -1), 3, "x").tolist())
    assert 0 not in drawn
    ref = subset({"list": "near.txt", "images": "mine"}, 3)
    config = BenchmarkConfig(**(animals.model_dump() | {"near": {"near": ref.model_dump()}}))
    assert len(image_sets.files_of(ref, config, tmp_path)) == 3


def test_a_subset_of_id_train_has_every_class(animals: BenchmarkConfig, tmp_path: Path) -> None:
    config = with_train(animals, {"of": {"folder": "mine/train"}, "images": 1})
    with pytest.raises(DataError, match="mine/train.* has no image of class"):
        image_sets.files_of(config.id.train, config, tmp_path)
