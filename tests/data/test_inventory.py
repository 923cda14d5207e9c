from pathlib import Path

import pytest

from rwood.data import openood
from rwood.data.image_sets import NAMED
from rwood.data.inventory import Row, inventory

NAME = "cifar10/val_tin"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lines = [f"tin/val/images/val_{i}.JPEG -1" for i in range(4)]
    row = openood.OpenOODList(NAME, "tin", 4, 0, openood.checksum(lines), None)
    monkeypatch.setitem(openood.table(), NAME, row)
    row.list_path(tmp_path).parent.mkdir(parents=True)
    row.list_path(tmp_path).write_text("\n".join(lines))
    return tmp_path


def row_of(root: Path) -> Row:
    return next(row for row in inventory(root) if row.name == NAME)


def test_what_is_here_and_how_large(root: Path) -> None:
    assert row_of(root) == Row(NAME, "tin", 0, 4, "no images", None, 0)
    folder = root / "images_classic" / "tin" / "val" / "images"
    folder.mkdir(parents=True)
    (folder / "val_0.JPEG").write_bytes(b"x" * 100)
    assert row_of(root).state == "partly"
    for i in range(4):
        (folder / f"val_{i}.JPEG").write_bytes(b"x" * 100 * (i + 1))
    (root / "packs").mkdir()
    (root / "packs" / "cifar10-val_tin.32x32x3.0123456789ab.pack").write_bytes(b"x" * 7)
    assert row_of(root) == Row(NAME, "tin", 0, 4, "here", 1000, 7)


def test_a_wrong_list_is_called_wrong(root: Path) -> None:
    openood.table()[NAME].list_path(root).write_text("tin/val/images/val_9.JPEG -1")
    assert row_of(root).state == "wrong list"


def test_every_named_set_has_a_row(tmp_path: Path) -> None:
    rows = {row.name: row for row in inventory(tmp_path)}
    made = {f"{{derived: {kind}}}" for kind in ("permuted", "blobs", "jigsaw", "mixed")}
    assert rows.keys() == NAMED.keys() | made
    assert rows["{derived: jigsaw}"].state == "derived"
    assert rows["digits/9"].images == 180
    assert rows["imagenet/train_imagenet"].state == "no list"
