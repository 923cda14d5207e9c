"""What a study ran with: packages, Python, git commit."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("rwood", "torch", "torchvision", "ray", "optuna", "mlflow", "numpy", "scikit-learn")


def versions() -> dict[str, str]:
    """Package versions by name, `python`, and `git_commit` where rwood runs from a checkout."""
    numbers = {name: metadata.version(name) for name in PACKAGES}
    numbers["python"] = platform.python_version()
    commit = _commit(Path(__file__).parent)
    return numbers | ({"git_commit": commit} if commit else {})


def _commit(folder: Path) -> str | None:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        )
        state = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() + ("-dirty" if state.stdout.strip() else "")
