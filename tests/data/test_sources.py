"""Fetching: archives that stay inside, folders that are linked, torchvision's sets as trees."""

import errno
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
import torchvision
from PIL import Image

from rwood.data import archives, openood, prepare, sources
from rwood.errors import DataError, SpecError


def tar_of(path: Path, members: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return path


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("name", "member", "target"),
    [
        ("tin", "images_classic/tin/val/images/a.JPEG", "images_classic/tin/val/images/a.JPEG"),
        ("tin", "./data/images_classic/tin/a.JPEG", "images_classic/tin/a.JPEG"),
        ("tin", "tin/val/images/a.JPEG", "images_classic/tin/val/images/a.JPEG"),
        ("tin", "tiny-imagenet-200/val/images/a.JPEG", "images_classic/tin/val/images/a.JPEG"),
        ("ninco", "ninco/frog/a.jpeg", "images_largescale/ninco/frog/a.jpeg"),
        ("imglists", "benchmark_imglist/cifar10/a.txt", "benchmark_imglist/cifar10/a.txt"),
        ("imglists", "cifar10/a.txt", "benchmark_imglist/cifar10/a.txt"),
        ("imglists", "README.md", None),
        ("cifar10-jpeg", "images_classic/tin/a.JPEG", "cifar10-jpeg/images_classic/tin/a.JPEG"),
        ("cifar10-jpeg", "benchmark_imglist/cifar10/a.txt",
         "cifar10-jpeg/benchmark_imglist/cifar10/a.txt"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["tar.gz", "tar", "zip"])
def test_members_of_an_archive_find_their_place(
    tmp_path: Path, name: str, member: str, target: str | None, form: str
) -> None:
    path, root = tmp_path / f"some.{form}", tmp_path / "root"
    members = {member: b"content"}
    zip_of(path, members) if form == "zip" else tar_of(
        path, members, "w:" if form == "tar" else "w:gz"
    )
    if target is None:
        with pytest.raises(DataError, match=f"holds nothing of {name}"):
            sources.fetch(name, root, source=path)
        return
    seen: list[tuple[int, int]] = []
    said = sources.fetch(name, root, source=path, progress=lambda *p: seen.append(p))
    assert tree(root) == {target: b"content"}
    assert said.startswith(f"{name}: 1 file in")
    assert seen[-1][0] == seen[-1][1] > 0


@pytest.mark.parametrize(
    "name",
    ["../evil.txt", "/evil.txt", "tin/../../../evil.txt", "a/..\\..\\e", "C:/evil.txt", "a\\e"],
)
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    for path in (
        tar_of(tmp_path / "some.tar.gz", {name: b"x"}),
        zip_of(tmp_path / "some.zip", {name: b"x"}),
    ):
        with pytest.raises(DataError, match="leads out of the folder; the archive is refused"):
            sources.fetch("tin", tmp_path / "root", source=path)
    assert not (tmp_path / "evil.txt").exists()
    assert not tree(tmp_path / "root")


def test_links_in_an_archive_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "some.tar", "w") as tar:
        info = tarfile.TarInfo("tin/link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as bundle:
        link = zipfile.ZipInfo("tin/link")
        link.external_attr = 0o120777 << 16
        bundle.writestr(link, "/etc/passwd")
    for form in ("tar", "zip"):
        with pytest.raises(DataError, match="tin/link is a link"):
            sources.fetch("tin", tmp_path / "root", source=tmp_path / f"some.{form}")


def test_damaged_missing_and_unknown_archives(tmp_path: Path) -> None:
    good = tar_of(tmp_path / "good.tar.gz", {"tin/a": os.urandom(200_000)})
    (tmp_path / "cut.tar.gz").write_bytes(good.read_bytes()[:100_000])
    with pytest.raises(DataError, match="cut.tar.gz cannot be unpacked"):
        sources.fetch("tin", tmp_path / "root", source=tmp_path / "cut.tar.gz")
    assert not tree(tmp_path / "root"), "half a file was left"
    (tmp_path / "no.zip").write_bytes(b"text")
    with pytest.raises(DataError, match="no.zip cannot be unpacked"):
        sources.fetch("tin", tmp_path / "root", source=tmp_path / "no.zip")
    locked = bytearray(zip_of(tmp_path / "locked.zip", {"tin/a": b"x"}).read_bytes())
    locked[6] |= 1
    locked[locked.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    with pytest.raises(DataError, match="locked.zip cannot be unpacked .*password required"):
        sources.fetch("tin", tmp_path / "root", source=tmp_path / "locked.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bundle:
        for i in range(3):
            bundle.writestr(f"tin/{i}.png", bytes(40_000_000))
    with pytest.raises(DataError, match="bomb.zip expands to more than 20 times its size"):
        sources.fetch("tin", tmp_path / "root", source=tmp_path / "bomb.zip")
    with pytest.raises(DataError, match="none.zip is missing"):
        sources.fetch("tin", tmp_path / "root", source=tmp_path / "none.zip")
    with pytest.raises(DataError, match="neither a folder nor"):
        sources.fetch("tin", tmp_path / "root", source=tmp_path / "x.rar")


def test_unpacking_again_keeps_what_is_there(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "some.tar", {"tin/a": b"one", "tin/b": b"two"}, "w:")
    sources.fetch("tin", tmp_path / "root", source=path)
    kept = tmp_path / "root" / "images_classic" / "tin" / "a"
    os.utime(kept, (1, 1))
    (kept.parent / "b").unlink()
    sources.fetch("tin", tmp_path / "root", source=path)
    assert kept.stat().st_mtime == 1
    assert (kept.parent / "b").read_bytes() == b"two"


def test_a_folder_is_linked(tmp_path: Path) -> None:
    (tmp_path / "ilsvrc" / "train").mkdir(parents=True)
    root = tmp_path / "root"
    said = sources.fetch("imagenet_1k", root, source=tmp_path / "ilsvrc")
    target = root / "images_largescale" / "imagenet_1k"
    assert target.is_symlink()
    assert target.resolve() == tmp_path / "ilsvrc"
    assert "linked" in said
    sources.fetch("imagenet_1k", root, source=tmp_path / "ilsvrc")
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="is there already: move it away"):
        sources.fetch("imagenet_1k", root, source=tmp_path / "other")


def test_a_tree_is_linked_out_of_openoods_folders(tmp_path: Path) -> None:
    (tmp_path / "openood" / "images_classic" / "tin").mkdir(parents=True)
    (tmp_path / "openood" / "benchmark_imglist").mkdir()
    for name, where in (("tin", "images_classic/tin"), ("imglists", "benchmark_imglist")):
        sources.fetch(name, tmp_path / "root", source=tmp_path / "openood")
        assert (tmp_path / "root" / where).resolve() == tmp_path / "openood" / where
    with pytest.raises(DataError, match="holds nothing of mnist"):
        sources.fetch("mnist", tmp_path / "root", source=tmp_path / "openood")
    sources.fetch("cifar10-jpeg", tmp_path / "root", source=tmp_path / "openood")
    assert (tmp_path / "root" / "cifar10-jpeg").resolve() == tmp_path / "openood"


def test_what_cannot_be_fetched_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cifar is not a source of images; did you mean cifar10"):
        sources.fetch("cifar", tmp_path)
    with pytest.raises(DataError, match="cannot be downloaded: give an archive or a folder"):
        sources.fetch("ninco", tmp_path)


def test_every_tree_of_the_lists_has_a_source() -> None:
    assert {row.tree for row in openood.table().values()} <= set(sources.SOURCES)
    for name, row in sources.SOURCES.items():
        assert row.downloads == (name in prepare._MAKERS)


class FakeSet:
    """Stands for torchvision's CIFAR, MNIST or SVHN: pairs of image and label."""

    classes = ("apple", "train", "zebra")

    def __init__(self, root: Path, *, train: bool = False, split: str = "", download: bool) -> None:
        if not download and not (Path(root) / "MNIST").exists():
            raise RuntimeError("Dataset not found.")
        self.labels = [2, 0, 1, 1, 0, 1] if train else [1, 0, 2]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        if i >= len(self):
            raise IndexError
        return Image.new("RGB", (4, 4), (10 * self.labels[i], i, 0)), self.labels[i]


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CIFAR100", "MNIST", "SVHN"):
        monkeypatch.setattr(torchvision.datasets, name, FakeSet)
    monkeypatch.setattr(prepare, "missing_lists", lambda name, root: ["some/list"])


def test_downloads_become_openoods_trees(tmp_path: Path, fakes: None) -> None:
    seen: list[tuple[int, int]] = []
    said = sources.fetch("cifar100", tmp_path, progress=lambda *p: seen.append(p))
    folder = tmp_path / "images_classic" / "cifar100"
    assert set(tree(folder)) == {
        "train/zebra/0001.png", "train/apple/0001.png", "train/train/0001.png",
        "train/train/0002.png", "train/apple/0002.png", "train/train/0003.png",
        "test/train/0001.png", "test/apple/0001.png", "test/zebra/0001.png",
    }  # fmt: skip
    assert Image.open(folder / "train/train/0002.png").getpixel((0, 0)) == (10, 3, 0)
    assert seen == [(i, 9) for i in range(1, 10)]
    assert "9 images" in said
    assert "lists rebuilt: some/list" in said
    sources.fetch("mnist", tmp_path)
    assert "test/0_1.jpg" in tree(tmp_path / "images_classic" / "mnist")
    sources.fetch("svhn", tmp_path)
    assert set(tree(tmp_path / "images_classic" / "svhn")) == {
        "test/000001_1.jpg",
        "test/000002_0.jpg",
        "test/000003_2.jpg",
    }


def test_raw_files_in_a_folder_need_no_download(tmp_path: Path, fakes: None) -> None:
    (tmp_path / "raw" / "MNIST").mkdir(parents=True)
    sources.fetch("mnist", tmp_path / "root", source=tmp_path / "raw")
    assert len(tree(tmp_path / "root" / "images_classic" / "mnist")) == 9


def test_a_full_disk_says_where_it_was_full(
    tmp_path: Path, fakes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(archives, "write_whole", full)
    with pytest.raises(DataError, match=r"or written \(No space left on device\): choose"):
        sources.fetch("svhn", tmp_path)


def test_a_failed_download_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", offline)
    with pytest.raises(DataError, match=r"cannot be downloaded \(no route.*--from PATH"):
        sources.fetch("cifar10", tmp_path)


def test_places_and_textures_keep_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "downloads" / "places365"
    (raw / "val_256").mkdir(parents=True)
    file = raw / "val_256" / "Places365_val_00000001.jpg"
    file.write_bytes(b"jpeg")

    class Places:
        classes = ("/f/field/cultivated", "/a/attic")
        imgs = ((str(file), 0),)

        def __init__(self, root: Path, split: str, small: bool, download: bool) -> None:
            assert (split, small, download) == ("val", True, False)

    monkeypatch.setattr(torchvision.datasets, "Places365", Places)
    monkeypatch.setattr(prepare, "missing_lists", lambda name, root: [])
    sources.fetch("places365", tmp_path)
    assert tree(tmp_path / "images_classic" / "places365") == {
        "field-cultivated/Places365_val_00000001.jpg": b"jpeg"
    }
    file.unlink()
    with pytest.raises(DataError, match=r"0001.jpg cannot be read or written \(No such file"):
        sources.fetch("places365", tmp_path / "other", source=raw)


def listed(root: Path, name: str) -> list[str]:
    text = (root / "benchmark_imglist" / f"{name}.txt").read_text()
    return [line.split(" ")[0] for line in text.splitlines() if line]


@pytest.mark.shared_data
def test_rebuilt_lists_are_openoods(shared_data: Path, tmp_path: Path) -> None:
    """From the names of all files of a tree, as a download leaves them."""
    archive = shared_data / "openood-v1.5-imglists.tar.gz"
    if not archive.exists():
        pytest.skip(f"{archive} is not there")
    sources.fetch("imglists", tmp_path, source=archive)
    places = {Path(p).name: p for p in listed(tmp_path, "cifar10/test_places365")}
    places |= {Path(p).name: p for p in listed(tmp_path, "cifar100/test_places365")}
    numbered = [f"Places365_val_{i:08d}.jpg" for i in range(1, 36501)]
    trees = {
        "cifar10": listed(tmp_path, "cifar100/test_cifar10")
        + listed(tmp_path, "cifar10/train_cifar10"),
        "cifar100": listed(tmp_path, "cifar100/val_cifar100")
        + listed(tmp_path, "cifar100/test_cifar100")
        + listed(tmp_path, "cifar100/train_cifar100"),
        "tin": [f"tin/val/images/val_{i}.JPEG" for i in range(10_000)],
        "places365": [places.get(n, f"places365/left_out/{n}") for n in numbered],
        "mnist": listed(tmp_path, "cifar10/test_mnist"),
        "svhn": listed(tmp_path, "cifar10/test_svhn"),
        "texture": listed(tmp_path, "cifar10/test_texture"),
    }
    proved = 0
    for name, row in openood.table().items():
        if name.startswith(("cifar10/", "cifar100/")) and row.tree in trees:
            lines = prepare.rebuilt(name, sorted(trees[row.tree]))
            assert openood.checksum(lines) == row.md5_sorted, name
            proved += 1
    assert proved == 20


def test_an_incomplete_tree_rebuilds_no_list(tmp_path: Path) -> None:
    file = tmp_path / "images_classic" / "svhn" / "test" / "000001_5.jpg"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    with pytest.raises(DataError, match=r"does not hold what .*test_svhn lists \(1 of 26,032"):
        prepare.missing_lists("svhn", tmp_path)
    assert not (tmp_path / "benchmark_imglist").exists()
