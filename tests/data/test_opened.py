"""Images of a fold: labels renumbered, the left-out classes unseen, from every kind of ID set."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rwood.config.backbones import ModelConfig
from rwood.config.benchmark import BenchmarkConfig, ClassesSet, DerivedSet, HeldOutSet
from rwood.config.held_out import fold_of
from rwood.config.load import load_benchmark, set_values
from rwood.config.run import RunConfig
from rwood.config.search import Choices
from rwood.data import image_sets, loaders, pixel_cache
from rwood.data.decode import FileImages
from rwood.data.loaders import embedding_batches, training_batches
from rwood.data.opened import ImageSet
from rwood.data.rows import RowImages
from rwood.data.sample import check_sets
from rwood.data.verify import verify
from rwood.errors import DataError, SpecError
from rwood.ray_backend.nodes import problem_here
from rwood.ray_backend.versions import versions
from tests.conftest import STUDIES
from tests.tiny import tiny

CPU = torch.device("cpu")
KINDS = ("ant", "bee", "cat", "dog", "elk")
RUN = RunConfig(model=ModelConfig(backbone="small_cnn"), epochs=1, batch_size=7)


def with_held_out(benchmark: BenchmarkConfig, share: float = 0.2, **more: Any) -> BenchmarkConfig:
    sets = {"unseen": HeldOutSet(held_out=share), "mixed": DerivedSet(derived="mixed")}
    return benchmark.model_copy(update={"validation": sets} | more)


@pytest.fixture(scope="module")
def digits() -> BenchmarkConfig:
    return with_held_out(load_benchmark(STUDIES / "benchmarks" / "digits.yaml"))


def opened_parts(fold: BenchmarkConfig, root: Path) -> dict[str, ImageSet]:
    refs = {"train": fold.id.train, "val": fold.id.val} | fold.validation
    return {name: image_sets.open_set(ref, fold, root) for name, ref in refs.items()}


@pytest.mark.parametrize("seed", range(5))
def test_a_fold_of_embedded_images(digits: BenchmarkConfig, tmp_path: Path, seed: int) -> None:
    fold = fold_of(digits, seed)
    assert isinstance(fold.id.train, ClassesSet)
    kept = fold.id.train.classes
    left_out = sorted(set(range(7)) - set(kept))
    sets = opened_parts(fold, tmp_path)
    for part in ("train", "val"):
        whole = image_sets.open_set(f"digits/{part}", digits, tmp_path)
        rows = np.flatnonzero(np.isin(whole.labels_N, kept))
        assert np.array_equal(sets[part].images_NHWC[:], whole.images_NHWC[rows])
        assert np.array_equal(np.array(kept)[sets[part].labels_N], whole.labels_N[rows])
        assert sorted(set(sets[part].labels_N.tolist())) == list(range(fold.classes))
    whole = image_sets.open_set("digits/train", digits, tmp_path)
    label_of = {
        image.tobytes(): int(label)
        for image, label in zip(whole.images_NHWC[:], whole.labels_N, strict=True)
    }
    shown = [label_of[image.tobytes()] for image in sets["unseen"].images_NHWC[:]]
    counts = np.bincount(shown, minlength=7)
    assert sorted(set(shown)) == left_out
    assert counts[left_out].max() - counts[left_out].min() <= 1
    available = int(np.isin(whole.labels_N, left_out).sum())
    assert len(shown) == min(available, len(sets["val"].labels_N))
    assert set(sets["unseen"].labels_N.tolist()) == {-1}
    assert len(sets["mixed"].labels_N) == len(sets["val"].labels_N)
    assert len({one.digest for one in sets.values()} | {whole.digest}) == 5


def test_a_benchmark_that_is_no_fold_has_no_held_out_images(
    digits: BenchmarkConfig, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match="classes are held out of a trial only"):
        image_sets.open_set(digits.validation["unseen"], digits, tmp_path)


def five(root: Path, draw: Any, train: int, size: tuple[int, int]) -> BenchmarkConfig:
    """Plain folders of five classes."""
    for part, count in (("train", train), ("val", 3), ("test", 2), ("other", 2)):
        for name in KINDS:
            for i in range(count):
                draw(root / "own" / part / name / f"{part}-{name}-{i}.png", *size)
    return with_held_out(
        BenchmarkConfig.model_validate(
            {
                "name": "five",
                "classes": 5,
                "image_size": 16,
                "mean": (0.5,) * 3,
                "std": (0.25,) * 3,
                "id": {part: {"folder": f"own/{part}"} for part in ("train", "val", "test")},
                "validation": {"unseen": {"held_out": 0.2}},
                "near": {"other": {"folder": "own/other"}},
                "far": {"distant": {"folder": "own/other"}},
                "shifted": {"fog": {"folder": "own/test"}},
            }
        )
    )


def as_lists(benchmark: BenchmarkConfig, root: Path) -> dict[str, Any]:
    parts = {}
    for part in ("train", "val", "test"):
        lines = [
            f"{path.relative_to(root / 'own')} {KINDS.index(path.parent.name)}"
            for path in sorted((root / "own" / part).rglob("*.png"))
        ]
        (root / f"{part}.txt").write_text("\n".join(lines))
        parts[part] = {"list": f"{part}.txt", "images": "own"}
    return parts


@pytest.mark.parametrize("kind", ["folder", "list", "subset"])
@pytest.mark.parametrize("size", [(16, 16), (20, 18)], ids=["whole", "cut"])
def test_a_fold_of_files(
    tmp_path: Path, draw: Any, kind: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = five(tmp_path, draw, 6, size)
    if kind == "list":
        parts = benchmark.id.model_validate(as_lists(benchmark, tmp_path))
        benchmark = benchmark.model_copy(update={"id": parts})
    if kind == "subset":
        train = {"of": {"folder": "own/train"}, "images": 20}
        parts = benchmark.id.model_validate(benchmark.id.model_dump() | {"train": train})
        benchmark = benchmark.model_copy(update={"id": parts})
    whole = image_sets.open_set(benchmark.id.train, benchmark, tmp_path)
    for seed in range(5):
        fold = fold_of(benchmark, seed)
        sets = opened_parts(fold, tmp_path)
        assert isinstance(fold.id.train, ClassesSet)
        kept = fold.id.train.classes
        rows = np.flatnonzero(np.isin(whole.labels_N, kept))
        train = sets["train"]
        assert np.array_equal(train.images_NHWC[:], whole.images_NHWC[rows])
        assert np.array_equal(np.array(kept)[train.labels_N], whole.labels_N[rows])
        each = 4 if kind == "subset" else 6
        assert len(train.labels_N) == 4 * each
        assert len(sets["val"].labels_N) == 12
        assert len(sets["unseen"].labels_N) == each
        assert isinstance(train.images_NHWC, RowImages)
        if size == (20, 18):  # views are cut from the files
            assert train.files is not None
            shown = {Path(path).parent.name for path in train.files.paths}
            assert shown == {KINDS[label] for label in kept}
            named = [kept.index(KINDS.index(Path(p).parent.name)) for p in train.files.paths]
            assert named == train.labels_N.tolist()
        batches = list(
            training_batches(train, RUN, fold, epoch=0, rank=0, world_size=1, device=CPU)
        )
        assert sum(batch.count for batch in batches) == len(train.labels_N)
        assert max(int(batch.labels.max()) for batch in batches) == 3
    stems = {path.name.split(".")[0] for path in (tmp_path / "packs").glob("*.pack")}
    assert len(stems) == 2, "folds share the packs of train and val"


def test_views_of_a_fold_are_those_of_its_images(tmp_path: Path, draw: Any) -> None:
    """The whole set's pixels are held once; rows lead to the fold's images."""
    benchmark = five(tmp_path, draw, 6, (16, 16))
    fold = fold_of(benchmark, 1)
    train = image_sets.open_set(fold.id.train, fold, tmp_path)
    copy = ImageSet("copy", train.images_NHWC[:], train.labels_N, "copy")
    share: dict[str, Any] = {"epoch": 0, "rank": 0, "world_size": 1, "device": CPU}
    for one, other in zip(
        training_batches(train, RUN, fold, **share),
        training_batches(copy, RUN, fold, **share),
        strict=True,
    ):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert one.largest_class == other.largest_class
    another = fold_of(benchmark, 2)
    both = [
        loaders.resident(image_sets.open_set(f.id.train, f, tmp_path), CPU).images_MCHW
        for f in (fold, another)
    ]
    assert both[0] is both[1]


def test_a_fold_of_a_set_too_large_for_a_pack(
    tmp_path: Path, draw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_sets, "PACK_LIMIT", 1000)
    benchmark = five(tmp_path, draw, 4, (20, 18))
    fold = fold_of(benchmark, 0)
    sets = opened_parts(fold, tmp_path)
    assert isinstance(sets["train"].images_NHWC, FileImages)
    whole = image_sets.open_set(benchmark.id.train, benchmark, tmp_path)
    assert isinstance(fold.id.train, ClassesSet)
    rows = np.flatnonzero(np.isin(whole.labels_N, fold.id.train.classes))
    decoded = whole.images_NHWC[:]
    assert np.array_equal(sets["train"].images_NHWC[:], decoded[rows])
    scored = torch.cat(list(embedding_batches(sets["unseen"], fold, device=CPU, batch=3)))
    assert len(scored) == 4
    others = np.setdiff1d(np.arange(len(decoded)), rows)
    assert {i.tobytes() for i in sets["unseen"].images_NHWC[:]} == {
        i.tobytes() for i in decoded[others]
    }
    assert not list(tmp_path.glob("packs/*.pack"))


def test_classes_without_an_image_are_named(tmp_path: Path, draw: Any) -> None:
    benchmark = five(tmp_path, draw, 2, (16, 16))
    parts = benchmark.id.model_validate(as_lists(benchmark, tmp_path))
    listed = benchmark.model_copy(update={"id": parts})
    fold = next(f for f in (fold_of(listed, s) for s in range(5)) if 2 not in f.id.train.classes)  # type: ignore[union-attr]
    for part, kept in (("val", "2"), ("train", "0134")):
        lines = (tmp_path / f"{part}.txt").read_text().splitlines()
        (tmp_path / f"{part}.txt").write_text("\n".join(x for x in lines if x[-1] in kept))
    with pytest.raises(DataError, match=r"val.txt, 4 of 5 classes: val.txt has no image of these"):
        image_sets.open_set(fold.id.val, fold, tmp_path)
    for path in (tmp_path / "own" / "train" / KINDS[2]).iterdir():
        path.unlink()
    for config, name in ((fold, "train.txt has no image of class 2"),
                         (benchmark, f"own/train has no image of class {KINDS[2]}")):  # fmt: skip
        with pytest.raises(DataError, match=name):
            image_sets.open_set(config.id.train, config, tmp_path)
    with pytest.raises(DataError, match=rf"^id\.train: .* no image of class {KINDS[2]}: add some"):
        check_sets(benchmark, tmp_path)


def test_verify_and_nodes_pass_over_held_out_classes(tmp_path: Path, draw: Any) -> None:
    benchmark = five(tmp_path, draw, 2, (16, 16))
    found = verify(benchmark, tmp_path)
    assert found.sound
    assert "validation.unseen" not in {report.key for report in found.sets}
    probe = tmp_path / "probe"
    probe.write_text("here")
    study = tiny(tmp_path).model_copy(update={"benchmark": benchmark})
    assert problem_here(probe, "here", study, tmp_path, versions()) is None
    study = set_values(study, ["model.weights=nope.pt"])
    said = problem_here(probe, "here", study, tmp_path, versions())
    assert said == f"lacks data: run.model.weights: {tmp_path / 'nope.pt'}: no such file"
    space = {"model.weights": Choices(choices=("probe", "gone.pt"))}
    search = study.the_search.model_copy(update={"space": space})
    said = problem_here(
        probe, "here", study.model_copy(update={"search": search}), tmp_path, versions()
    )
    assert said == (f"lacks data: search.space.model.weights: {tmp_path / 'gone.pt'}: no such file")
    assert pixel_cache.packs_of("own/train", tmp_path) == []
    assert Image.open(next((tmp_path / "own" / "train").rglob("*.png"))).size == (16, 16)
