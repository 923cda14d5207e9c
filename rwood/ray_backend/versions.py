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
    """The whole hash, and `-dirty` after it if a tracked file is another."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
