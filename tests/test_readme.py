"""The front door tells the truth: commands, verbs, tree."""

import re
from pathlib import Path

from typer.testing import CliRunner

from rwood.cli import app

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
    tree = README.split("## The tree")[1].split("```")[1]
    named = set(re.findall(r"^  ([a-z_]+(?:/|\.py))", tree, re.M))
    named |= set(re.findall(r"; ([a-z_]+\.py):", tree))
    there = {p.name + ("/" if p.is_dir() else "") for p in (ROOT / "rwood").iterdir()}
    there -= {"__main__.py", "__pycache__/", "py.typed"}
    assert named == there


def test_the_top_level_is_fixed() -> None:
    there = {p.name for p in ROOT.iterdir() if not p.name.startswith(".")}
    there -= {"results", "data", "build", "dist"} | {n for n in there if n.endswith(".egg-info")}
    assert there == {"rwood", "studies", "infra", "tests", "pyproject.toml", "README.md", "LICENSE"}
