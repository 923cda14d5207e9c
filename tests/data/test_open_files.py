"""`open_set` on files: roles, labels, packs on demand, sets too large for a pack."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rwood.config.benchmark import BenchmarkConfig, FolderSet, ListSet
from rwood.data import decode, image_sets, openood, pixel_cache
from rwood.data.decode import FileImages
from rwood.errors import DataError


@pytest.fixture(autouse=True)
def forget() -> Callable[[], None]:
    """Opened sets are kept for the life of a process; a test is another life, or several."""

    def clear() -> None:
        image_sets._files.cache_clear()
        image_sets._from_files.cache_clear()

    clear()
    return clear


def changed(benchmark: BenchmarkConfig, **changes: object) -> BenchmarkConfig:
    return BenchmarkConfig(**(benchmark.model_dump() | changes))


def test_labels_count_for_id_sets_only(animals: BenchmarkConfig, tmp_path: Path) -> None:
    train = image_sets.open_set(animals.id.train, animals, tmp_path)
    assert train.labels_N.tolist() == [0] * 12 + [1] * 12
    assert train.images_NHWC.shape == (24, 16, 16, 3)
    near = image_sets.open_set(animals.near["near"], animals, tmp_path)
    assert near.labels_N.tolist() == [-1] * 5
    as_ood = changed(animals, near={"cats": {"folder": "mine/extra"}})
    (tmp_path / "mine" / "extra").symlink_to(tmp_path / "mine" / "test")
    opened = image_sets.open_set(as_ood.near["cats"], as_ood, tmp_path)
    assert opened.labels_N.tolist() == [-1] * 8


def test_shifted_sets_carry_the_labels_of_the_train_folders(
    animals: BenchmarkConfig, tmp_path: Path, draw
) -> None:
    draw(tmp_path / "mine" / "fog" / "dog" / "a.png", 16, 16)
    fog = changed(animals, shifted={"fog": {"folder": "mine/fog"}})
    opened = image_sets.open_set(fog.shifted["fog"], fog, tmp_path)
    assert opened.labels_N.tolist() == [1], "dog is class 1 though it stands alone here"


def test_a_set_is_packed_at_first_use_and_opened_once(
    animals: BenchmarkConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = image_sets.open_set(animals.near["near"], animals, tmp_path)
    assert isinstance(first.images_NHWC, np.memmap)
    assert image_sets.open_set(animals.near["near"], animals, tmp_path) is first
    image_sets._from_files.cache_clear()
    monkeypatch.setattr(decode, "scored", None)
    again = image_sets.open_set(animals.near["near"], animals, tmp_path)
    assert again.digest == first.digest


def test_files_are_kept_where_the_pack_lacks_pixels(
    animals: BenchmarkConfig, tmp_path: Path
) -> None:
    cut = image_sets.open_set(animals.id.train, animals, tmp_path)
    assert cut.files is not None
    assert cut.files.paths[0] == "cat/train0.png"
    for path in (tmp_path / "mine" / "val").rglob("*.png"):
        Image.new("RGB", (16, 16)).save(path)
    whole = image_sets.open_set(animals.id.val, animals, tmp_path)
    assert whole.files is None


def test_a_set_too_large_for_a_pack_is_decoded_when_read(
    animals: BenchmarkConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = image_sets.open_set(animals.id.train, animals, tmp_path)
    assert isinstance(packed.images_NHWC, np.memmap)
    pixel_cache.pack_path(packed.files, image_sets.transform_of("", animals), tmp_path).unlink()
    image_sets._from_files.cache_clear()
    monkeypatch.setattr(image_sets, "PACK_LIMIT", 1000)
    opened = image_sets.open_set(animals.id.train, animals, tmp_path)
    assert isinstance(opened.images_NHWC, FileImages)
    assert not list((tmp_path / "packs").glob("*train*.pack"))
    assert opened.images_NHWC.shape == packed.images_NHWC.shape
    assert len(opened.images_NHWC) == 24
    for rows in (slice(0, 10), slice(20, 30), slice(24, 30), slice(None)):
        assert np.array_equal(opened.images_NHWC[rows], packed.images_NHWC[rows])
    assert opened.files is not None


def test_own_list_of_images(animals: BenchmarkConfig, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("train/dog/train1.png 1\r\ntrain/cat/train0.png 0\r\n")
    ref = ListSet(list="mine.txt", images="mine")
    listed = changed(animals, id=animals.id.model_dump() | {"val": ref.model_dump()})
    assert image_sets.open_set(ref, listed, tmp_path).labels_N.tolist() == [1, 0]
    (tmp_path / "far.txt").write_text("train/cat/train0.png 0\n")
    ref = ListSet(list="far.txt", images="mine")
    listed = changed(animals, far={"far": ref.model_dump()})
    assert image_sets.open_set(ref, listed, tmp_path).labels_N.tolist() == [-1]
    ref = ListSet(list="none.txt", images="mine")
    with pytest.raises(DataError, match="none.txt is missing: the benchmark file names it"):
        image_sets.open_set(ref, animals, tmp_path)


def test_a_listed_image_that_changes_is_packed_anew(
    animals: BenchmarkConfig, tmp_path: Path, forget: Callable[[], None]
) -> None:
    (tmp_path / "near.txt").write_text("near0.jpg -1\nnear1.jpg -1\n")
    ref = ListSet(list="near.txt", images="mine/near")
    listed = changed(animals, near={"near": ref.model_dump()})
    before = image_sets.open_set(ref, listed, tmp_path)
    Image.new("RGB", (16, 16)).save(tmp_path / "mine" / "near" / "near0.jpg")
    forget()
    after = image_sets.open_set(ref, listed, tmp_path)
    assert after.digest != before.digest
    assert after.images_NHWC[0].max() == 0
    (tmp_path / "mine" / "near" / "near1.jpg").unlink()
    forget()
    with pytest.raises(DataError, match=r"near1.jpg cannot be read .*: the list .*near.txt names"):
        image_sets.open_set(ref, listed, tmp_path)


def test_absolute_folders_and_wrong_class_counts(animals: BenchmarkConfig, tmp_path: Path) -> None:
    ref = FolderSet(folder=str(tmp_path / "mine" / "near"))
    config = changed(animals, near={"near": ref.model_dump()})
    assert len(image_sets.open_set(ref, config, tmp_path / "elsewhere").labels_N) == 5
    three = changed(animals, classes=3)
    with pytest.raises(DataError, match="train has 2 class folders, the benchmark says 3"):
        image_sets.open_set(three.id.train, three, tmp_path)


def test_named_list_without_images_says_what_to_fetch(
    animals: BenchmarkConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "cifar10/val_tin"
    line = "tin/val/images/val_2.JPEG -1"
    row = openood.OpenOODList(name, "tin", 1, 0, openood.checksum([line]), None)
    monkeypatch.setitem(openood.table(), name, row)
    row.list_path(tmp_path).parent.mkdir(parents=True)
    row.list_path(tmp_path).write_text(line)
    with pytest.raises(DataError, match=r"val_2.JPEG is missing: run `rwood data fetch tin`"):
        image_sets.open_set(name, animals, tmp_path)


def test_imagenet_c_is_not_resized() -> None:
    plain = {"image_size": 224, "resize": 256, "channels": 3}
    config = BenchmarkConfig(
        name="x",
        classes=2,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        id={"train": "a", "val": "b", "test": "c"},
        validation={"v": "v"},
        near={"n": "n"},
        far={"f": "f"},
        **plain,
    )
    assert image_sets.transform_of("imagenet/test_imagenet_c", config).resize == 224
    assert image_sets.transform_of("imagenet/test_imagenet_v2", config).resize == 256
