"""Folders and object stores: files whole or not at all, copies for libraries, addresses refused."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from rwood import storage
from rwood.errors import SpecError, StorageError


@pytest.fixture(params=["folder", "object store"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Both kinds of place."""
    if request.param == "folder":
        return tmp_path / "results"
    found: Path = request.getfixturevalue("bucket")
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_or_not_at_all(root: Path) -> None:
    path = root / "study" / "record.json"
    with storage.written(path) as file:
        file.write(b"old")

    def crash() -> None:
        with storage.written(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        crash()
    assert path.read_bytes() == b"old"
    with storage.written(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [n for n in names(path.parent) if not n.endswith(".part")] == ["record.json"]


def test_a_store_that_is_gone_does_not_hide_why_a_log_ended(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(why: Exception | None) -> None:
        with storage.grown(bucket / "rwood.log") as log:
            log.write_text("a line")
            monkeypatch.setattr(type(bucket), "write_bytes", Mock(side_effect=OSError("gone")))
            if why is not None:
                raise why

    with pytest.raises(ValueError, match="the reason"):
        work(ValueError("the reason"))
    with pytest.raises(StorageError, match="rwood.log cannot be written: gone"):
        work(None)


def test_a_folder_is_replaced_as_a_whole(root: Path) -> None:
    folder = root / "detector"
    for content in ({"a": "1", "b": "2"}, {"b": "3", "deep/c": "4"}):
        with storage.replaced(folder) as made:
            for name, text in content.items():
                (made / name).parent.mkdir(exist_ok=True)
                (made / name).write_text(text)
    assert names(folder) == ["b", "deep"]
    if storage.is_remote(folder):  # as pyarrow marks a folder, for Ray
        import boto3

        bucket, _, key = str(folder).removeprefix("s3://").partition("/")
        boto3.client("s3").put_object(Bucket=bucket, Key=f"{key}/", Body=b"")
    with storage.local_copy(folder) as copy:
        assert isinstance(copy, Path)
        assert copy.name == "detector"
        texts = {p.name: p.read_text() for p in copy.rglob("*") if p.is_file()}
        assert texts == {"b": "3", "c": "4"}
    with pytest.raises(RuntimeError), storage.replaced(folder) as made:
        raise RuntimeError
    assert {"b", "deep"} <= set(names(folder))


def test_a_growing_file_is_put_back_however_the_block_ends(root: Path) -> None:
    path = root / "study" / "log"
    with storage.grown(path) as file:
        file.write_text("one\n")

    def crash() -> None:
        with storage.grown(path) as file, file.open("a") as log:
            log.write("two\n")
            log.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        crash()
    assert path.read_text() == "one\ntwo\n"


def test_a_probe_leaves_nothing(root: Path) -> None:
    with storage.probe(root) as (path, text):
        assert path.read_text() == text
    assert not path.exists()


def test_a_place_that_refuses_is_named(tmp_path: Path, object_store: dict[str, str]) -> None:
    (tmp_path / "file").write_text("")
    for folder, words in (
        (tmp_path / "file" / "results", "cannot be written"),
        (storage.place("s3://no-such-bucket/results"), "bucket does not exist"),
    ):
        with pytest.raises(StorageError, match=words) as caught, storage.probe(folder):
            pass
        assert str(caught.value).startswith(f"{folder} cannot be written")


def test_what_is_replaced_meanwhile_is_read_whole(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path asks for an object's size and then for that very version, which may be gone."""
    path = bucket / "lease"
    path.write_bytes(b"old")
    store = storage._filesystem(path)
    real = store.info

    def info(*args: Any, **how: Any) -> Any:
        found = real(*args, **how)
        store.pipe_file(storage._key(path), b"new one")
        return found

    monkeypatch.setattr(store, "info", info)
    with pytest.raises(OSError, match="no longer exists"):
        path.read_bytes()
    assert storage.content(path) == b"new one"
    with pytest.raises(FileNotFoundError):
        storage.content(bucket / "nothing")


def test_of_several_makers_of_an_object_one_succeeds(bucket: Path) -> None:
    assert storage.created(bucket / "lock", b"mine")
    assert not storage.created(bucket / "lock", b"yours")
    assert (bucket / "lock").read_bytes() == b"mine"


def test_addresses_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert storage.place("results") == Path("results")
    for text, words in (
        ("ftp://host/results", r"ftp:// is no place for results: allowed are a folder, s3://"),
        ("s3://key:secret@bucket/results", "credentials come from the environment"),
        ("s3:///results", "s3://BUCKET/PREFIX"),
    ):
        with pytest.raises(SpecError, match=words) as caught:
            storage.place(text)
        assert "secret" not in str(caught.value)
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    with pytest.raises(SpecError, match=r"gs:// needs gcsfs: pip install 'rwood\[gcs\]'"):
        storage.place("gs://bucket/results")
