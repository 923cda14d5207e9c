from pathlib import Path

import pytest

from rwood.data.listing import (
    Listing,
    class_folders,
    is_below,
    list_lines,
    parse_list,
    read_folder,
    read_text,
)
from rwood.errors import DataError


def parse(text: str, classes: int | None = 10) -> Listing:
    return parse_list(
        list_lines(text),
        Path("some.txt"),
        images=Path("images"),
        classes=classes,
        name="some",
        remedy="mend it",
    )


@pytest.mark.parametrize("text", ["a/1.png 3\nb/2.png 0\n", "a/1.png 3\r\nb/2.png 0\r\n\r\n"])
def test_line_ends_and_blanks_do_not_matter(text: str) -> None:
    plain, blanks = parse(text), parse(text.replace("3", "3  ").replace("0", "0\t"))
    assert plain.paths == blanks.paths == ["a/1.png", "b/2.png"]
    assert plain.labels_N.tolist() == [3, 0]
    assert plain.digest == blanks.digest
    assert plain.path(1) == Path("images/b/2.png")


def test_the_mark_that_windows_begins_a_text_with_is_no_part_of_a_path(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a/1.png 3\n", encoding="utf-8-sig")
    assert list_lines(read_text(tmp_path / "list.txt", "mend it")) == ["a/1.png 3"]


def test_label_follows_the_last_blank_so_that_names_may_hold_blanks() -> None:
    for path in ("a/1.png", "a b/c d.png"):
        listing = parse(f"{path}  7\n")
        assert (listing.paths, listing.labels_N.tolist()) == ([path], [7])


def test_labels_of_an_ood_set_all_become_minus_one() -> None:
    assert parse("a.png 4\nb.png -1\n", classes=None).labels_N.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.png {'x': 1}", "line 2: '1}' is not a label"),
        ("a.png", "line 2: 'a.png' is not a label"),
        ("a.png 10", "line 2: label 10 is outside 0..9"),
        ("a.png -1", "line 2: label -1 is outside 0..9"),
        ("../a.png 1", r"line 2: \.\./a.png leads out"),
        ("/etc/a.png 1", "line 2: /etc/a.png leads out"),
        ("x/../../a.png 1", "leads out"),
    ],
)
def test_a_bad_line_is_named(line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse(f"fine.png 0\n{line}\n")


@pytest.mark.parametrize("path", ["..", "", "/x", "a/../b", "\0"])
def test_paths_that_may_leave_a_folder(path: str) -> None:
    assert not is_below(path)
    assert is_below("a/..b/c..png")


def test_empty_and_missing_lists(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lists no image"):
        parse("\n \n")
    with pytest.raises(DataError, match="none.txt is missing: fetch it"):
        read_text(tmp_path / "none.txt", "fetch it")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="binary.txt cannot be read as a list"):
        read_text(tmp_path / "binary.txt", "fetch it")


def plain_folders(root: Path) -> None:
    for path in ("dog/b.PNG", "dog/deep/a.jpg", "cat/c.jpeg", "cat/notes.txt"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")


def test_folders_are_classes_in_alphabetical_order(tmp_path: Path) -> None:
    plain_folders(tmp_path)
    names = class_folders(tmp_path, 2)
    assert names == ["cat", "dog"]
    found = read_folder(tmp_path, name="mine", class_names=names)
    assert found.paths == ["cat/c.jpeg", "dog/b.PNG", "dog/deep/a.jpg"]
    assert found.labels_N.tolist() == [0, 1, 1]
    assert read_folder(tmp_path, name="mine", class_names=None).labels_N.tolist() == [-1] * 3


def test_digest_of_a_folder_follows_names_and_sizes(tmp_path: Path) -> None:
    plain_folders(tmp_path)
    before = read_folder(tmp_path, name="mine", class_names=None).digest
    assert read_folder(tmp_path, name="mine", class_names=None).digest == before
    (tmp_path / "cat" / "c.jpeg").write_bytes(b"xx")
    assert read_folder(tmp_path, name="mine", class_names=None).digest != before


def test_what_a_leading_dot_hides_is_no_image(tmp_path: Path) -> None:
    plain_folders(tmp_path)
    before = read_folder(tmp_path, name="mine", class_names=["cat", "dog"])
    for path in ("._c.png", ".cache/a.png", "cat/._c.jpeg", "dog/.ipynb_checkpoints/b.PNG"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    after = read_folder(tmp_path, name="mine", class_names=["cat", "dog"])
    assert (after.paths, after.digest) == (before.paths, before.digest)


def test_folder_errors_name_the_folder(tmp_path: Path) -> None:
    plain_folders(tmp_path)
    with pytest.raises(DataError, match="dog is no class of the ID train set"):
        read_folder(tmp_path, name="mine", class_names=["cat", "cow"])
    with pytest.raises(DataError, match="has 2 class folders, the benchmark says 3"):
        class_folders(tmp_path, 3)
    with pytest.raises(DataError, match="nowhere is no folder"):
        read_folder(tmp_path / "nowhere", name="mine", class_names=None)
    (tmp_path / "loose.png").write_bytes(b"x")
    with pytest.raises(DataError, match="loose.png lies in no class folder"):
        read_folder(tmp_path, name="mine", class_names=["cat", "dog"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no image"):
        read_folder(tmp_path / "empty", name="mine", class_names=None)


def test_links_that_lead_in_circles_or_nowhere_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.png").write_bytes(b"")
    (folder / "a" / "again").symlink_to(folder)
    with pytest.raises(DataError, match="again is a link to a folder that it lies in: take the"):
        read_folder(folder, name="images", class_names=None)
    (folder / "a" / "again").unlink()
    (folder / "self.png").symlink_to("self.png")
    with pytest.raises(DataError, match=r"self.png cannot be read \(Too many levels"):
        read_folder(folder, name="images", class_names=None)
    (folder / "self.png").unlink()
    (folder / "more").symlink_to("more")  # a folder's, for all that is known
    with pytest.raises(DataError, match=r"more cannot be read \(Too many levels"):
        read_folder(folder, name="images", class_names=None)
