import shutil
from pathlib import Path

import numpy as np
import pytest

from rwood.config.benchmark import BenchmarkConfig
from rwood.config.load import load_benchmark
from rwood.data import image_sets
from rwood.data.sample import check_sets
from rwood.errors import DataError

BENCHMARKS = Path(__file__).parents[2] / "studies" / "benchmarks"


@pytest.fixture(scope="module")
def digits() -> BenchmarkConfig:
    return load_benchmark(BENCHMARKS / "digits.yaml")


@pytest.mark.parametrize("name", [n for n in image_sets.NAMED if n.startswith("digits/")])
def test_embedded_set_is_what_its_row_says(name: str, digits: BenchmarkConfig) -> None:
    row = image_sets.NAMED[name]
    opened = image_sets.open_set(name, digits, Path("nowhere"))
    assert opened.images_NHWC.shape == (row.count, 8, 8, 1)
    assert opened.images_NHWC.dtype == np.uint8
    assert opened.labels_N.dtype == np.int64
    expected = range(row.classes) if row.classes else [-1]
    assert sorted(set(opened.labels_N.tolist())) == list(expected)
    assert opened.images_NHWC.std(axis=(1, 2, 3)).min() > 0, "a flat image"


def test_embedded_set_is_read_once(digits: BenchmarkConfig) -> None:
    first = image_sets.open_set("digits/val", digits, Path("nowhere"))
    assert image_sets.open_set("digits/val", digits, Path("elsewhere")) is first
    with pytest.raises(ValueError, match="read-only"):
        first.images_NHWC[0] = 0


def test_id_parts_are_disjoint_and_stratified(digits: BenchmarkConfig) -> None:
    opened = {
        part: image_sets.open_set(f"digits/{part}", digits, Path("nowhere"))
        for part in ("train", "val", "test")
    }
    total = sum(np.bincount(s.labels_N) for s in opened.values())
    assert total.tolist() == [178, 182, 177, 183, 181, 182, 181]  # scikit-learn's digits 0-6
    for part, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        assert np.abs(np.bincount(opened[part].labels_N) - share * total).max() <= 1
    seen = [{image.tobytes() for image in s.images_NHWC} for s in opened.values()]
    assert len(set.union(*seen)) == sum(len(images) for images in seen)


def test_pixel_statistics_of_the_benchmark_file(digits: BenchmarkConfig) -> None:
    train = image_sets.open_set("digits/train", digits, Path("nowhere")).images_NHWC / 255
    assert train.mean() == pytest.approx(digits.mean[0], abs=0.01)
    assert train.std() == pytest.approx(digits.std[0], abs=0.01)


def test_permuted_images_keep_their_pixels_each_in_an_own_order(digits: BenchmarkConfig) -> None:
    test = image_sets.open_set("digits/test", digits, Path("nowhere")).images_NHWC
    permuted = image_sets.open_set("digits/permuted", digits, Path("nowhere")).images_NHWC
    flat, mixed = test.reshape(len(test), -1), permuted.reshape(len(test), -1)
    assert np.array_equal(np.sort(flat, axis=1), np.sort(mixed, axis=1))
    assert (flat != mixed).any(axis=1).all()
    zero_pixels = {tuple(np.flatnonzero(row == 0)) for row in mixed}
    assert len(zero_pixels) == len(mixed)


def test_resize_and_channels_of_the_benchmark_apply_to_embedded_sets(
    digits: BenchmarkConfig,
) -> None:
    plain = digits.model_dump()
    plain |= {"channels": 3, "image_size": 12, "resize": 16, "mean": (0.3,) * 3, "std": (0.4,) * 3}
    opened = image_sets.open_set("digits/8", BenchmarkConfig(**plain), Path("nowhere"))
    assert opened.images_NHWC.shape == (174, 12, 12, 3)
    assert np.array_equal(opened.images_NHWC[..., 0], opened.images_NHWC[..., 2])


@pytest.mark.parametrize("name", ["near", "far", "seen", "test/cat"])
def test_a_damaged_image_of_any_set_is_found_before_anything_is_trained(
    animals: BenchmarkConfig, tmp_path: Path, name: str
) -> None:
    check_sets(animals, tmp_path)
    next((tmp_path / "mine" / name).iterdir()).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"^(near|far|validation|id)\.\w+: .* is not an image"):
        check_sets(animals, tmp_path)


def test_a_missing_set_is_found_before_anything_is_trained(
    animals: BenchmarkConfig, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "mine" / "far")
    with pytest.raises(DataError, match=r"^far\.far: .*mine/far is no folder"):
        check_sets(animals, tmp_path)
