"""No file that somebody else made can run code: guards over every line of the package."""

import ast
from pathlib import Path

import pytest
import torch

from rwood.errors import DataError
from rwood.model.checkpoint_keys import load_openood_state

FILES = sorted((Path(__file__).parents[1] / "rwood").rglob("*.py"))
CODE_FROM_FILES = {"pickle.load", "pickle.loads", "cloudpickle.load", "cloudpickle.loads",
                   "joblib.load", "marshal.load", "marshal.loads", "shelve.open", "dill.load",
                   "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load",
                   "pandas.read_pickle", "pd.read_pickle"}  # fmt: skip
BUILTINS = {"eval", "exec"}


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), node) for node in found]


def said(call: ast.Call, name: str) -> object:
    """The literal given for a keyword."""
    values = [k.value for k in call.keywords if k.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_nothing_unpickles_or_evaluates_a_file(path: Path) -> None:
    for name, call in calls(path):
        assert name not in CODE_FROM_FILES | BUILTINS, f"{path}:{call.lineno}: {name}"
        if name == "torch.load":
            assert said(call, "weights_only") is True, f"{path}:{call.lineno}"
        if name in ("np.load", "numpy.load"):
            assert said(call, "allow_pickle") is False, f"{path}:{call.lineno}"
        assert said(call, "shell") is not True, f"{path}:{call.lineno}: a shell"


def test_a_checkpoint_that_carries_code_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"conv1.weight": Bomb()}, tmp_path / "foreign.ckpt")
    with pytest.raises(DataError, match="is not a checkpoint of tensors: it holds other objects"):
        load_openood_state(tmp_path / "foreign.ckpt")
    assert not (tmp_path / "ran").exists()
