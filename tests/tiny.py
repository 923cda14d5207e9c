"""A study small enough for a test: real digits, real training, seconds."""

from pathlib import Path
from typing import Any

import yaml

from rwood.config.load import load_study
from rwood.config.study import StudyConfig

TINY: dict[str, Any] = {
    "name": "tiny",
    "question": "Does every part work?",
    "run": {
        "model": {"backbone": "small_cnn", "width": 8, "projection_dim": 16},
        "schedule": {"warmup_epochs": 1},
        "views": {
            "crop_scale": [0.6, 1.0],
            "flip": 0.0,
            "saturation": 0.0,
            "hue": 0.0,
            "grayscale": 0.0,
        },
        "epochs": 4,
        "batch_size": 256,
    },
    "search": {
        "trials": 6,
        "objective": "val/auroc",
        "space": {
            "loss.temperature": {"low": 0.05, "high": 0.5, "log": True},
            "loss.between_shift": {"low": 0.0, "high": 6.0},
        },
        "pruner": {"name": "asha", "min_resource": 2, "reduction_factor": 2},
    },
    "finals": None,
    "rerun": {"seeds": [1], "base": False},
    "cluster": {"max_concurrent": 1},
}


def write_tiny(folder: Path, **changes: Any) -> Path:
    """Write the tiny study with dotted settings replaced (dots written as `__`)."""
    data = yaml.safe_load(yaml.safe_dump(TINY))
    benchmark = Path(__file__).parents[1] / "studies" / "benchmarks" / "digits.yaml"
    data["benchmark"] = str(benchmark)
    for key, value in changes.items():
        *parents, leaf = key.split("__")
        node = data
        for part in parents:
            node = node.setdefault(part, {})
        node[leaf] = value
    if data["search"] and data["run"]["epochs"] == 1 and "search__pruner" not in changes:
        data["search"]["pruner"] = None  # which would never be asked
    path = folder / f"{data['name']}.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def tiny(folder: Path, **changes: Any) -> StudyConfig:
    """The tiny study, loaded."""
    return load_study(write_tiny(folder, **changes))
