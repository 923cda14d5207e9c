"""`rwood detect` as a user meets it: a table, CSV or JSON, and an exit code that tells."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from rwood.__main__ import main
from rwood.cli import app
from rwood.detector.model import load_detector
from rwood.errors import SpecError

Raw = Callable[[str], np.ndarray]


def rwood(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def images(tmp_path: Path, raw_images: Raw) -> Path:
    """An image in many guises, and files that are none."""
    folder = tmp_path / "images"
    folder.mkdir()
    grey = raw_images("id/test")[0]
    colour = np.repeat(grey[..., None], 3, axis=2)
    opaque = np.concatenate([colour, np.full((8, 8, 1), 255, np.uint8)], axis=2)
    Image.fromarray(grey).save(folder / "a-grey.png")
    Image.fromarray(colour).save(folder / "b-colour.bmp")
    Image.fromarray(opaque).save(folder / "c-alpha.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "d-16-bit.png")
    Image.fromarray(grey).convert("P").save(folder / "e-palette.gif")
    Image.fromarray(grey).resize((4000, 4000)).save(folder / "f-huge.png")
    Image.new("L", (1, 1), 200).save(folder / "g-one-pixel.png")
    (folder / "h-cut.png").write_bytes((folder / "a-grey.png").read_bytes()[:60])
    (folder / "i-text.jpg").write_text("no image")
    return folder


def test_every_file_gets_a_line(folder: Path, images: Path, raw_images: Raw) -> None:
    done = rwood("detect", folder, images)
    assert done.exit_code == 1
    head, titles, *lines = done.stdout.splitlines()
    assert head.startswith(f"threshold {load_detector(folder).metadata.threshold:.4g}: ")
    assert titles.split() == ["verdict", "score", "nearest", "class", "image"]
    scored = [line.split() for line in lines[:7]]
    expected = load_detector(folder).predict(raw_images("id/test")[0])
    for word, score, nearest, path in scored[:5]:
        assert word == ("OOD" if expected.ood[0] else "ID")
        assert float(score) == pytest.approx(expected.score[0], rel=1e-3)
        assert nearest == str(expected.nearest_class[0])
        assert Path(path).parent == images
    assert [line.split()[0] for line in lines[7:]] == ["unreadable"] * 2
    assert "h-cut.png is damaged" in lines[7]
    assert "i-text.jpg is not an image" in lines[8]
    assert "2 of 9 images could not be read" in done.stderr


def test_csv_and_json_say_the_same(folder: Path, images: Path) -> None:
    table = rwood("detect", folder, images, "--csv")
    plain = rwood("detect", folder, images, "--json")
    assert (table.exit_code, plain.exit_code) == (1, 1)
    rows, told = list(csv.DictReader(io.StringIO(table.stdout))), json.loads(plain.stdout)
    assert [row["path"] for row in rows] == [row["path"] for row in told]
    assert [row["score"] for row in rows] == [str(t["score"] or "") for t in told]
    assert [bool(row["error"]) for row in rows] == [False] * 7 + [True] * 2
    fine = rwood("detect", folder, images / "a-grey.png", "--json")
    assert fine.exit_code == 0
    assert json.loads(fine.stdout)[0]["error"] is None


@pytest.mark.parametrize("words", [[], ["--csv"], ["--json"]])
def test_a_name_that_is_no_utf_8_is_scored_and_printed(
    folder: Path, tmp_path: Path, raw_images: Raw, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    images, printed = tmp_path / "images", io.BytesIO()
    images.mkdir()
    Image.fromarray(raw_images("id/test")[0]).save(images / os.fsdecode(b"caf\xe9.png"))
    monkeypatch.setattr(sys, "argv", ["rwood", "detect", str(folder), str(images), *words])
    with redirect_stdout(io.TextIOWrapper(printed, "utf-8")) as out, pytest.raises(SystemExit) as e:
        main()
    out.flush()
    assert e.value.code == 0
    assert (rb"caf\udce9.png" if words == ["--json"] else b"caf\xe9.png") in printed.getvalue()


def test_a_false_alarm_rate_moves_the_threshold(folder: Path, images: Path) -> None:
    done = rwood("detect", folder, images / "a-grey.png", "--false-alarms", "0.3")
    threshold = load_detector(folder).with_false_alarms(0.3).metadata.threshold
    assert done.stdout.startswith(f"threshold {threshold:.4g}: ")
    assert "as 30 % of the ID validation images are" in done.stdout


def test_one_form_at_a_time(folder: Path, images: Path) -> None:
    assert isinstance(rwood("detect", folder, images, "--json", "--csv").exception, SpecError)
