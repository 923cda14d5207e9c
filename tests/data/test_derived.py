"""Sets made of ID val: what they keep, what they break, and that they open nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rwood.config.benchmark import DERIVED, BenchmarkConfig, DerivedKind, DerivedSet, ImageSetRef
from rwood.config.load import load_benchmark
from rwood.data import derived, image_sets
from rwood.data.derived import DerivedImages
from rwood.errors import DataError, SpecError
from tests.conftest import STUDIES


def with_derived(benchmark: BenchmarkConfig) -> BenchmarkConfig:
    sets = {kind: DerivedSet(derived=kind) for kind in DERIVED}
    return benchmark.model_copy(update={"validation": sets})


@pytest.fixture(scope="module")
def digits() -> BenchmarkConfig:
    return with_derived(load_benchmark(STUDIES / "benchmarks" / "digits.yaml"))


def photographs(count: int, size: int, channels: int, seed: int = 0) -> np.ndarray:
    """Smooth gradients with noise: pictures in which neighbours are alike."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, size)
    base = ramp[:, None, None] * rng.random((count, 1, 1, channels)) + ramp[None, :, None] / 4
    return (base + rng.integers(0, 6, (count, size, size, channels))).astype(np.uint8)


def roughness(images_NHWC: np.ndarray) -> float:
    """Mean absolute difference of neighbouring pixels."""
    return float(np.abs(np.diff(images_NHWC.astype(int), axis=1)).mean())


def colours(image_HWC: np.ndarray) -> list[bytes]:
    return sorted(pixel.tobytes() for pixel in image_HWC.reshape(-1, image_HWC.shape[2]))


@pytest.mark.parametrize("size", [8, 32, 30, 224])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["permuted", "blobs", "jigsaw"])
def test_pixels_are_moved_and_none_is_changed(kind: DerivedKind, size: int, channels: int) -> None:
    images = photographs(3, size, channels)
    made = DerivedImages(kind, images, np.array([0, 1, 2]))
    assert made.shape == images.shape
    for image, other in zip(images, made[:], strict=True):
        assert colours(image) == colours(other)
        assert not np.array_equal(image, other)
        assert other.dtype == np.uint8


def test_blobs_are_smooth_and_permuted_pixels_are_not() -> None:
    images, labels = photographs(8, 32, 3), np.arange(8)
    rough = {kind: roughness(DerivedImages(kind, images, labels)[:]) for kind in DERIVED}
    assert roughness(images) < rough["blobs"] < 0.5 * rough["permuted"]
    assert rough["jigsaw"] < 0.5 * rough["permuted"]


def test_a_jigsaw_leaves_no_tile_in_place_and_loses_none() -> None:
    tiles = np.arange(16, dtype=np.uint8).repeat(2).reshape(4, 8).repeat(2, axis=0)[..., None]
    for row in range(50):
        made = derived.jigsaw(tiles, np.random.default_rng(row))
        assert not (made == tiles).any()
        assert sorted(made.ravel()) == sorted(tiles.ravel())
        assert all(len(np.unique(made[r : r + 2, c : c + 2])) == 1
                   for r in range(0, 8, 2) for c in range(0, 8, 2))  # fmt: skip


def test_mixed_images_are_means_of_two_classes() -> None:
    images, labels = photographs(40, 8, 1), np.arange(40) % 3
    partner = derived.other_class(labels)
    assert (labels[partner] != labels).all()
    made = DerivedImages("mixed", images, labels)[:]
    exact = (images.astype(float) + images[partner]) / 2
    assert np.abs(made - exact).max() <= 0.5
    with pytest.raises(DataError, match="one class only"):
        derived.derive("mixed", images, np.zeros(40, dtype=np.int64))


@pytest.mark.parametrize("kind", DERIVED)
def test_a_row_depends_on_its_own_number_only(
    kind: DerivedKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = photographs(11, 12, 3), np.arange(11) % 4
    whole = derived.derive(kind, images, labels)
    assert isinstance(whole, np.ndarray)
    monkeypatch.setattr(derived, "MEMORY_LIMIT", 100)
    lazy = derived.derive(kind, images, labels)
    assert isinstance(lazy, DerivedImages)
    assert len(lazy) == 11
    pieces = [lazy[start : start + 4] for start in range(0, 12, 4)]
    assert np.array_equal(np.concatenate(pieces), whole)
    assert lazy[20:24].shape == (0, 12, 12, 3)


def test_only_id_val_is_opened(
    digits: BenchmarkConfig, tmp_path: Path, opened: list[ImageSetRef]
) -> None:
    found = {k: image_sets.open_set(r, digits, tmp_path) for k, r in digits.validation.items()}
    assert {ref for ref in opened if isinstance(ref, str)} == {"digits/val"}
    val = image_sets.open_set("digits/val", digits, tmp_path)
    assert {len(s.labels_N) for s in found.values()} == {len(val.labels_N)}
    assert all((s.labels_N == -1).all() for s in found.values())
    assert len({s.digest for s in found.values()} | {val.digest}) == 5
    assert list(tmp_path.iterdir()) == []


def test_a_derived_set_selects_and_never_tests(digits: BenchmarkConfig) -> None:
    plain = digits.model_dump(mode="json")
    for part in ("near", "far", "shifted"):
        with pytest.raises(ValueError, match=rf"{part}.x: a derived set is made of id.val"):
            BenchmarkConfig.model_validate_json(_json(plain | {part: {"x": {"derived": "blobs"}}}))
    with pytest.raises(ValueError, match="id.[a-z]+: a derived set is made of id.val"):
        BenchmarkConfig.model_validate_json(
            _json(plain | {"id": plain["id"] | {"val": {"derived": "blobs"}}})
        )


def test_an_unknown_kind_is_named(tmp_path: Path) -> None:
    text = (STUDIES / "benchmarks" / "digits.yaml").read_text()
    path = tmp_path / "digits.yaml"
    path.write_text(text.replace("digit7: digits/7", "puzzle: {derived: jigsaws}"))
    with pytest.raises(SpecError) as caught:
        load_benchmark(path)
    assert "validation.puzzle.derived: got 'jigsaws'" in str(caught.value)
    assert "'permuted', 'blobs', 'jigsaw' or 'mixed'" in str(caught.value)


def _json(plain: dict[str, Any]) -> str:
    import json

    return json.dumps(plain)
