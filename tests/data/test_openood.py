"""The table of lists against the measured counts, and lists of other versions."""

import json
import tarfile
from pathlib import Path

import pytest

from rwood.config.load import load_benchmark
from rwood.data import image_sets, openood
from rwood.data.known import check_known
from rwood.errors import DataError

TESTS = Path(__file__).parents[1]
GOLDEN = json.loads((TESTS / "golden.json").read_text())["imglists"]
BENCHMARKS = TESTS.parent / "studies" / "benchmarks"
SMALL = "cifar100/val_tin"


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One list whose row was made for it."""
    lines = [f"tin/val/images/val_{i}.JPEG -1" for i in (7, 3, 5)]
    row = openood.OpenOODList(
        SMALL, "tin", 3, 0, openood.checksum(lines), openood.checksum(sorted(lines))
    )
    monkeypatch.setitem(openood.table(), SMALL, row)
    path = row.list_path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return tmp_path


def test_table_has_every_measured_list() -> None:
    table = openood.table()
    for file, golden in GOLDEN.items():
        row = table[file.removesuffix(".txt")]
        assert (row.count, row.md5) == (golden["n"], golden["md5_lf"])
        assert golden["first_line"].startswith(f"{row.tree}/")
        if golden["first_line"].endswith(" -1"):
            assert row.classes == 0
        elif "imagenet_r" not in file:
            assert row.classes == golden["n_labels"]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenet200", "imagenet1k"])
def test_benchmark_files_have_the_sets_of_openood(name: str) -> None:
    benchmark = load_benchmark(BENCHMARKS / f"{name}.yaml")
    check_known(benchmark)
    assert benchmark.published == name
    folder = "imagenet" if name == "imagenet1k" else name
    used = {ref for _, ref in image_sets.references(benchmark)}
    assert used == {row for row in openood.table() if row.startswith(f"{folder}/")}


def test_lists_are_read_in_their_order_with_any_line_ends(data_root: Path) -> None:
    path = data_root / "benchmark_imglist" / f"{SMALL}.txt"
    plain = openood.read(SMALL, data_root, ood=True)
    path.write_bytes(path.read_bytes().replace(b"\n", b"  \r\n") + b"\r\n")
    assert openood.read(SMALL, data_root, ood=True).digest == plain.digest
    assert plain.paths[0] == "tin/val/images/val_7.JPEG"
    assert plain.root == data_root / "images_classic"


def test_sorted_list_is_accepted_and_any_other_refused(data_root: Path) -> None:
    path = data_root / "benchmark_imglist" / f"{SMALL}.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(sorted(lines)))
    openood.read(SMALL, data_root, ood=True)
    path.write_text("\n".join(lines).replace("val_3", "val_4"))
    with pytest.raises(DataError, match=r"val_tin.txt differs from OpenOOD v1.5's list \(MD5"):
        openood.read(SMALL, data_root, ood=True)
    path.write_text("\n".join(lines[:2]))
    with pytest.raises(DataError, match="has 2 lines, OpenOOD v1.5's has 3: run `rwood data fetch"):
        openood.read(SMALL, data_root, ood=True)


def test_a_list_of_openood_1_0_is_called_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "benchmark_imglist" / "cifar10" / "test_tin.txt"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"tin/val/images/val_{i}.JPEG -1\n" for i in range(8793)))
    with pytest.raises(DataError, match=r"list of OpenOOD v1.0 \(8,793 lines\); v1.5 has 7,793"):
        openood.read("cifar10/test_tin", tmp_path, ood=True)


def test_missing_list_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="val_tin.txt is missing: run `rwood data fetch imglists"):
        openood.read("cifar10/val_tin", tmp_path, ood=True)
    with pytest.raises(DataError, match="missing: run `rwood data fetch cifar10-jpeg"):
        openood.read("cifar10-jpeg/val_tin", tmp_path, ood=True)


@pytest.mark.shared_data
def test_openoods_own_lists_are_accepted(shared_data: Path, tmp_path: Path) -> None:
    archive = shared_data / "openood-v1.5-imglists.tar.gz"
    if not archive.exists():
        pytest.skip(f"{archive} is not there")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    for name, row in openood.table().items():
        if row.md5 is None or row.tree == openood.JPEG:
            continue
        found = openood.read(name, tmp_path, ood=row.classes == 0)
        assert len(found) == row.count
        assert (found.labels_N.max() >= 0) == (row.classes > 0)
        swapped = row.list_path(tmp_path)
        swapped.write_text("\n".join(sorted(swapped.read_text().splitlines())))
        openood.read(name, tmp_path, ood=row.classes == 0)
