"""Held-out classes: which fold a seed leaves out, what names it, and what cannot be."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from rwood.config.benchmark import BenchmarkConfig, ClassesSet
from rwood.config.folds import folds
from rwood.config.held_out import fold_of, without_held_out
from rwood.config.load import load_benchmark, load_study
from rwood.config.study import objectives, run_digest
from rwood.cost import estimate
from rwood.data.known import check_known
from rwood.errors import SpecError
from rwood.tracked.inputs import benchmark_inputs, search_inputs
from tests.conftest import STUDIES
from tests.tiny import tiny

DIGITS = STUDIES / "benchmarks" / "digits.yaml"


def digits(folder: Path, **changes: Any) -> BenchmarkConfig:
    """The digits benchmark with settings replaced, from a file."""
    path = folder / "digits.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(DIGITS.read_text()) | changes))
    return load_benchmark(path)


def held_out(folder: Path, share: float = 0.2, **others: Any) -> BenchmarkConfig:
    return digits(folder, validation={"unseen": {"held_out": share}} | others)


@pytest.mark.parametrize(
    ("classes", "share", "sizes"),
    [
        (7, 0.2, [2, 2, 1, 1, 1]),
        (10, 0.2, [2, 2, 2, 2, 2]),
        (4, 0.5, [2, 2]),
        (3, 0.33, [1, 1, 1]),
        (100, 0.2, [20] * 5),
        (1000, 0.1, [100] * 10),
    ],
)
def test_folds_cover_every_class_exactly_once(classes: int, share: float, sizes: list[int]) -> None:
    every = folds(classes, share)
    assert [len(fold) for fold in every] == sizes
    assert sorted(label for fold in every for label in fold) == list(range(classes))
    assert every == folds(classes, share)


def test_the_order_of_classes_is_shuffled_and_never_changes() -> None:
    assert folds(7, 0.2) == ((3, 4), (2, 6), (0,), (5,), (1,))


def test_consecutive_seeds_hold_out_all_classes(tmp_path: Path) -> None:
    benchmark = held_out(tmp_path)
    left_out = []
    for seed in range(5):
        fold = fold_of(benchmark, seed)
        train = fold.id.train
        assert isinstance(train, ClassesSet)
        assert (train.of, train.among) == ("digits/train", 7)
        assert fold.classes == len(train.classes)
        assert list(train.classes) == sorted(train.classes)
        for part in (fold.id.val, fold.id.test):
            assert isinstance(part, ClassesSet)
            assert part.classes == train.classes
        left_out += sorted(set(range(7)) - set(train.classes))
        assert fold == fold_of(benchmark, seed + 5), "five folds"
        assert fold_of(fold, seed) is fold
    assert sorted(left_out) == list(range(7))


def test_a_fold_is_another_training_and_other_benchmarks_keep_their_digest(tmp_path: Path) -> None:
    study = load_study(STUDIES / "digits-margins.yaml")
    assert run_digest(study.run, study.benchmark) == "654b9ec808711804"
    assert fold_of(study.benchmark, 3) is study.benchmark
    benchmark = held_out(tmp_path, digit7="digits/7")
    whole = without_held_out(benchmark)
    seen = [whole, *(fold_of(benchmark, seed) for seed in range(5))]
    assert len({run_digest(study.run, one) for one in seen}) == 6
    assert list(whole.validation) == ["digit7"]
    assert run_digest(study.run, whole) == run_digest(
        study.run, digits(tmp_path, validation={"digit7": "digits/7"})
    ), "a rerun does not depend on what trials hold out"


def test_a_benchmark_of_held_out_classes_alone_leaves_reruns_no_validation_set(
    tmp_path: Path,
) -> None:
    benchmark = held_out(tmp_path)
    assert without_held_out(benchmark).validation == {}
    assert "val/unseen/auroc" in objectives(benchmark)
    with pytest.raises(SpecError, match="validation"):
        digits(tmp_path, validation={})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"near": {"x": {"held_out": 0.2}}}, "near.x: held-out classes are ID images"),
        ({"far": {"x": {"held_out": 0.2}}}, "far.x: held-out classes are ID images"),
        ({"shifted": {"x": {"held_out": 0.2}}}, "shifted.x: held-out classes are ID images"),
        (
            {"id": {"train": {"held_out": 0.2}, "val": "digits/val", "test": "digits/test"}},
            "id.train: held-out classes are ID images, which select; they belong under validation",
        ),
        ({"validation": {"x": {"held_out": 0.6}}}, "validation.x.held_out: got 0.6"),
        ({"validation": {"x": {"held_out": 0}}}, "validation.x.held_out: got 0"),
        ({"validation": {"x": {"held_uot": 0.2}}}, "did you mean held_out"),
        (
            {"validation": {"x": {"held_out": 0.1}}},
            "validation.x.held_out: 0.1 of 7 classes is less than one class; the least share is "
            "0.143",
        ),
        (
            {"classes": 3, "validation": {"x": {"held_out": 0.5}}},
            "validation.x.held_out: 0.5 of 3 classes leaves fewer than two for training",
        ),
        (
            {"validation": {"x": {"held_out": 0.2}, "y": {"held_out": 0.5}}},
            "validation: x and y are held out; a trial leaves out one fold of classes",
        ),
        (
            {"validation": {"x": {"of": "digits/train", "classes": [1], "among": 7}}},
            "validation.x.among: unknown setting; allowed here: derived, folder, held_out",
        ),
    ],
)
def test_what_cannot_be_held_out_is_said_in_a_sentence(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SpecError) as caught:
        digits(tmp_path, **changes)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scorers_setting_needs_a_set_that_reruns_have_too(tmp_path: Path) -> None:
    scorer = {"name": "knn", "k": [5, 20]}
    alone = held_out(tmp_path).model_dump(mode="json")
    with pytest.raises(SpecError, match=r"run.scorer.k: reruns train on all classes"):
        tiny(tmp_path, benchmark=alone, run__scorer=scorer)
    both = held_out(tmp_path, mixed={"derived": "mixed"}).model_dump(mode="json")
    assert tiny(tmp_path, benchmark=both, run__scorer=scorer).run.scorer.k == (5, 20)


def test_a_held_out_set_is_checked_tracked_and_paid_for(tmp_path: Path) -> None:
    benchmark = held_out(tmp_path, digit7="digits/7")
    check_known(benchmark)
    seen = {i.role: i for i in search_inputs(benchmark, {"digits/train": 759})}
    assert seen.keys() == {"train", "val", "val/digit7", "val/unseen"}
    assert seen["val/unseen"].name == "20% of the classes of digits/train"
    assert seen["val/unseen"].images is None
    assert "val/unseen" not in {i.role for i in benchmark_inputs(benchmark, {})}
    config = tiny(tmp_path, benchmark=benchmark.model_dump(mode="json"))
    plain = tiny(tmp_path, benchmark=without_held_out(benchmark).model_dump(mode="json"))
    costs = [next(x for x in estimate(s) if x.startswith("cost:")) for s in (config, plain)]
    assert all("training images" in cost for cost in costs)
    assert costs[0] != costs[1], "a trial has fewer images to train on"
