"""The drawing of the rooms as a table: a room may import those below it, never the reverse."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "rwood"
LAYERS = [
    {"errors", "text"},
    {"config", "storage", "paths"},
    {"results"},
    {"selection"},
    {"data", "model", "method"},
    {"evaluation"},
    {"training", "tracking", "tracked", "report", "detector"},
    {"ray_backend"},
    {"search"},
    {"study"},
    {"cli", "progress", "cost", "__main__"},
]
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
FREE_WITHIN = {
    ("tracking", "tracked"),
    ("cli", "progress"),
    ("cli", "cost"),
    ("progress", "cost"),
    ("__main__", "cli"),
}
ONLY_IN = {
    "ray": {"search", "ray_backend"},
    "optuna": {"search"},
    "mlflow": {"tracking", "detector"},
    "typer": {"cli"},
    "rich": {"cli", "progress", "cost"},
}
NO_TORCH = {"cli", "config", "results", "storage", "selection", "report", "tracking", "tracked",
            "errors", "progress", "cost", "text", "paths"}  # fmt: skip


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    assert room in RANK, f"{room} has no place in the drawing"
    for name in imports(path):
        package, _, rest = name.partition(".")
        if package == "rwood":
            other = rest.split(".")[0]
            if other not in RANK or other == room or (room, other) in FREE_WITHIN:
                continue
            assert RANK[other] < RANK[room], f"{room} imports {other}"
            if room == "method":
                pytest.fail("method imports nothing of rwood")
        if package in ONLY_IN:
            assert room in ONLY_IN[package], f"{package} imported in {room}"
        if package in ("torch", "torchvision"):
            assert room not in NO_TORCH, f"torch imported in {room}"


def test_the_command_line_imports_nothing_heavy() -> None:
    code = (
        "import sys, rwood.cli, rwood.cost, rwood.data.image_sets, rwood.report;"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'matplotlib', 'sklearn'};"
        "heavy &= sys.modules.keys();"
        "print(sorted(heavy)); sys.exit(bool(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_training_needs_neither_ray_nor_optuna_nor_mlflow() -> None:
    """A GPU machine may have torch and little else; `tests/benchmarks/gpu.py` runs there."""
    absent = "ray optuna mlflow scipy sklearn pandas typer rich psutil upath matplotlib".split()
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}));"
        "import rwood.training.seeds, rwood.evaluation.benchmark, rwood.config.load"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
