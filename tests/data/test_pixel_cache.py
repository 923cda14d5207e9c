"""Packs: right pixels, never half of one, resumed, written once."""

import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from rwood.data import decode, pixel_cache
from rwood.data.listing import Listing, read_folder
from rwood.data.transform import Transform
from rwood.errors import DataError

HOW = Transform(3, 20, 16)


@pytest.fixture
def files(tmp_path: Path, draw) -> Listing:
    for i in range(20):
        draw(tmp_path / "images" / f"{i:02d}.jpg", 30 - i, 25 + i)
    return read_folder(tmp_path / "images", name="my images", class_names=None)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four images a chunk."""
    monkeypatch.setattr(pixel_cache, "CHUNK_BYTES", 4 * 16 * 16 * 3)


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    rows = []
    original = decode.scored

    def counting(listing: Listing, row: int, how: Transform):
        rows.append(row)
        return original(listing, row, how)

    monkeypatch.setattr(decode, "scored", counting)
    return rows


def test_pixels_are_those_of_torchvisions_test_transform(files: Listing, tmp_path: Path) -> None:
    pack = pixel_cache.pack(files, HOW, tmp_path)
    theirs = transforms.Compose([transforms.Resize(20), transforms.CenterCrop(16)])
    for row, path in enumerate(files.paths):
        expected = theirs(Image.open(files.root / path).convert("RGB"))
        assert np.array_equal(pack.images_NHWC[row], np.asarray(expected))
    assert isinstance(pack.images_NHWC, np.memmap)
    assert not pack.images_NHWC.flags.writeable
    assert pack.labels_N.tolist() == [-1] * 20
    assert not pack.whole


def test_one_file_is_left_and_opened_again(
    files: Listing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pixel_cache.open_pack(files, HOW, tmp_path) is None
    first = pixel_cache.pack(files, HOW, tmp_path)
    path = pixel_cache.pack_path(files, HOW, tmp_path)
    left = {p.name for p in path.parent.iterdir()}
    assert left == {path.name, path.with_suffix(".lock").name}
    assert pixel_cache.packs_of("my images", tmp_path) == [path]
    assert path.stat().st_size == pixel_cache.pack_bytes(20, HOW)
    decoded = count_decoded(monkeypatch)
    again = pixel_cache.pack(files, HOW, tmp_path)
    assert decoded == []
    assert again.digest == first.digest
    assert np.array_equal(again.images_NHWC, first.images_NHWC)


def test_whole_images_and_grey_files(tmp_path: Path, draw) -> None:
    for i in range(3):
        draw(tmp_path / "images" / f"{i}.png", 16, 16, "L")
    files = read_folder(tmp_path / "images", name="grey", class_names=None)
    pack = pixel_cache.pack(files, Transform(3, 16, 16), tmp_path)
    assert pack.whole
    assert np.array_equal(pack.images_NHWC[..., 0], pack.images_NHWC[..., 2])
    assert not pixel_cache.pack(files, Transform(3, 18, 16), tmp_path).whole


def test_another_list_or_size_is_another_pack(files: Listing, tmp_path: Path) -> None:
    paths = {pixel_cache.pack_path(files, HOW, tmp_path)}
    paths.add(pixel_cache.pack_path(files, Transform(3, 16, 16), tmp_path))
    paths.add(pixel_cache.pack_path(files, Transform(1, 20, 16), tmp_path))
    (files.root / "00.jpg").unlink()
    fewer = read_folder(files.root, name="my images", class_names=None)
    paths.add(pixel_cache.pack_path(fewer, HOW, tmp_path))
    assert len(paths) == 4


def test_digest_follows_pixels_and_not_the_number_of_workers(
    files: Listing, tmp_path: Path, small_chunks: None
) -> None:
    alone = pixel_cache.pack(files, HOW, tmp_path / "a")
    together = pixel_cache.pack(files, HOW, tmp_path / "b", workers=2)
    assert alone.digest == together.digest
    assert np.array_equal(alone.images_NHWC, together.images_NHWC)
    Image.new("RGB", (30, 30)).save(files.root / "00.jpg")
    assert pixel_cache.pack(files, HOW, tmp_path / "c").digest != alone.digest


def test_interrupted_packing_goes_on_where_it_stopped(
    files: Listing, tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(BaseException):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 12:
            raise Interrupted

    with pytest.raises(Interrupted):
        pixel_cache.pack(files, HOW, tmp_path, progress=stop)
    assert pixel_cache.open_pack(files, HOW, tmp_path) is None, "a half-written pack was read"
    journal = pixel_cache.pack_path(files, HOW, tmp_path).with_suffix(".journal")
    with journal.open("a") as log:
        log.write("4 cut sho")  # a crash in the middle of a line
    decoded = count_decoded(monkeypatch)
    seen: list[tuple[int, int]] = []
    pack = pixel_cache.pack(files, HOW, tmp_path, progress=lambda *p: seen.append(p))
    assert len(decoded) == 8
    assert seen[0] == (12, 20)
    assert seen[-1] == (20, 20)
    assert pack.digest == pixel_cache.pack(files, HOW, tmp_path / "anew").digest


@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_file_names_itself(
    files: Listing, tmp_path: Path, small_chunks: None, workers: int
) -> None:
    path = files.root / "13.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"13.jpg is damaged \(.*runcated") as caught:
        pixel_cache.pack(files, HOW, tmp_path, workers=workers)
    assert caught.value.details["file"] == str(path)
    assert pixel_cache.open_pack(files, HOW, tmp_path) is None
    path.write_bytes(whole)
    pixel_cache.pack(files, HOW, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"hello", "is not an image"), (b"", "is not an image"), (None, "missing")],
)
def test_what_is_no_image_names_itself(
    files: Listing, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = files.root / "05.jpg"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=f"05.jpg {message}|05.jpg is {message}"):
        pixel_cache.pack(files, HOW, tmp_path)


def test_a_pack_that_was_cut_or_overwritten_is_never_read(files: Listing, tmp_path: Path) -> None:
    pixel_cache.pack(files, HOW, tmp_path)
    path = pixel_cache.pack_path(files, HOW, tmp_path)
    content = path.read_bytes()
    for broken in (
        content[:-1],
        b"\0" * len(content),
        content.replace(files.digest.encode(), b"0" * 16),
    ):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="is not a whole pack of my images: delete it"):
            pixel_cache.open_pack(files, HOW, tmp_path)


def test_processes_that_want_the_same_pack_write_it_once(
    files: Listing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = count_decoded(monkeypatch)
    threads = [
        threading.Thread(target=pixel_cache.pack, args=(files, HOW, tmp_path)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(decoded) == list(range(20))


def full(file: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_no_room_and_no_permission_are_said_in_a_sentence(
    files: Listing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written .*: packs need it"):
        pixel_cache.pack(files, HOW, tmp_path / "file")
    with monkeypatch.context() as patch:
        patch.setattr(pixel_cache.os, "fsync", full)
        with pytest.raises(DataError, match=r"cannot be written \(No space"):
            pixel_cache.pack(files, HOW, tmp_path)
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DataError, match="has 0.0 GB free, the pack needs"):
        pixel_cache.pack(files, HOW, tmp_path)
