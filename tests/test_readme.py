"""The front door tells the truth: commands, output, verbs, tree, pictures, study."""

import re
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from typer.testing import CliRunner

from rwood.cli import app
from rwood.config.load import load_study
from rwood.report.outcome import outcome
from rwood.results import StudyResult, load
from tests.readme_pictures import FOLDER, draw

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_ci_runs_the_two_commands() -> None:
    first, second = re.findall(r"^pip install .+$", README, re.M)
    assert first == "pip install -e . && rwood run studies/digits.yaml"
    assert second == "pip install -e '.[dev]' && pytest"
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "pip install --quiet -e '.[dev]'" in ci
    assert "rwood run studies/digits.yaml" in ci
    assert re.search(r"^pytest$", ci, re.M)


def test_every_verb_named_exists_and_every_verb_is_named() -> None:
    listed = CliRunner().invoke(app, ["--help"]).output
    verbs = set(re.findall(r"^│ ([a-z]+) ", listed, re.M))
    named = set()
    for words in re.findall(r"^rwood ([a-z|]+)", README, re.M):
        named |= set(words.split("|"))
    assert verbs == named


def test_the_tree_is_the_tree() -> None:
    tree = (ROOT / "rwood" / "README.md").read_text(encoding="utf-8").split("```")[1]
    named = set(re.findall(r"^  ([a-z_]+(?:/|\.py))", tree, re.M))
    named |= set(re.findall(r"; ([a-z_]+\.py):", tree))
    there = {p.name + ("/" if p.is_dir() else "") for p in (ROOT / "rwood").iterdir()}
    there -= {"__main__.py", "__pycache__/", "py.typed", "README.md"}
    assert named == there


def test_the_top_level_is_fixed() -> None:
    there = {p.name for p in ROOT.iterdir() if not p.name.startswith(".")}
    there -= {"results", "data", "build", "dist"} | {n for n in there if n.endswith(".egg-info")}
    assert there == {"rwood", "studies", "infra", "tests", "pyproject.toml", "README.md", "LICENSE"}


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 130


def test_the_output_is_what_the_recorded_run_printed() -> None:
    record = load(StudyResult, ROOT / "studies/evidence/results/digits/study.json")
    text = outcome(load_study(ROOT / "studies/digits.yaml"), record)
    assert " ".join(text.split()) in " ".join(README.split())


def test_the_study_of_own_images_is_a_study(tmp_path: Path) -> None:
    text = README.split("## Your own images")[1].split("```yaml")[1].split("```")[0]
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    study = load_study(tmp_path / "mine.yaml")
    assert study.name == yaml.safe_load(text)["name"]
    assert study.search is not None
    assert study.finals is not None


def test_every_link_leads_somewhere_and_every_picture_is_small() -> None:
    for page in (ROOT / "README.md", ROOT / "studies/README.md", ROOT / "rwood/README.md"):
        text = page.read_text(encoding="utf-8")
        places = re.findall(r"\]\((?!http)([^)#]+)\)", text)
        places += re.findall(r'(?:src|srcset)="([^"]+)"', text)
        for place in places:
            assert (page.parent / place).exists(), f"{page.name}: {place}"
            if place.endswith(".png"):
                assert (page.parent / place).stat().st_size < 150_000
                with Image.open(page.parent / place) as image:
                    assert image.width >= 600


def test_every_study_file_that_is_named_exists() -> None:
    text = (ROOT / "studies/README.md").read_text(encoding="utf-8")
    for name in re.findall(r"`([a-z0-9/-]+\.(?:yaml|ipynb))`", text):
        assert (ROOT / "studies" / name).exists(), name


def test_the_pictures_are_those_of_the_committed_records(tmp_path: Path) -> None:
    """Drawn anew they look the same, whatever fonts and versions do to single pixels."""
    drawn = {path.name for path in draw(tmp_path)}
    assert drawn == {path.name for path in FOLDER.glob("*.png")} - {"mlflow.png"}
    for name in drawn:
        fresh, kept = (_blurred(folder / name) for folder in (tmp_path, FOLDER))
        assert np.abs(fresh - kept).mean() < 6, f"{name}: run python -m tests.readme_pictures"


def _blurred(path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((90, 60)), dtype=np.float64)
