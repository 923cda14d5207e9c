"""One version of each thing, in every file that names one."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FILES = sorted(p for p in (ROOT / "infra").rglob("*") if p.is_file() and "local" not in p.parts)
TEXT = {path.name: path.read_text(encoding="utf-8") for path in FILES}
PINNED = dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", TEXT["constraints.txt"], re.M))


def test_pins_are_what_the_package_allows() -> None:
    extras = [r for rows in PROJECT["optional-dependencies"].values() for r in rows]
    allowed = {r.name: r for r in map(Requirement, [*PROJECT["dependencies"], *extras])}
    for name in ("ray", "mlflow", "torch", "torchvision", "optuna", "numpy", "s3fs",
                 "universal-pathlib"):  # fmt: skip
        assert Version(PINNED[name]) in allowed[name].specifier, name


def test_files_name_the_pinned_versions() -> None:
    found = {
        "rwood": r"rwood:(\d[\w.]*)",
        "mlflow": r"rwood-mlflow:(\d[\w.]*)",
        "ray": r"rayVersion: \"(.+)\"",
    }
    wanted = {**PINNED, "rwood": PROJECT["version"]}
    for name, pattern in found.items():
        named = {v for text in TEXT.values() for v in re.findall(pattern, text)}
        assert named == {wanted[name]}, name
    assert version("rwood") == PROJECT["version"]


def test_one_python_that_the_package_runs_on() -> None:
    text = TEXT["Dockerfile"]
    named = set(re.findall(r"--python (\d\.\d+)|^FROM python:(\d\.\d+)", text, re.M))
    pythons = {a or b for a, b in named}
    assert len(pythons) == 1
    assert Version(pythons.pop()) in SpecifierSet(PROJECT["requires-python"])


def test_no_image_is_whatever_is_newest() -> None:
    images = [i for text in TEXT.values() for i in re.findall(r"^\s*(?:image:|FROM) (\S+)", text,
                                                              re.M)]  # fmt: skip
    assert len(images) > 6
    assert all(re.search(r":[\w.-]*\d", image) for image in images), images
