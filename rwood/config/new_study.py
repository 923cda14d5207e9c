"""Facts about one's own images -> a whole benchmark and study, as the text of two YAML files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True)
class ImageFacts:
    """What a benchmark and a study need to know of the ID train images."""

    images: int
    classes: int
    channels: int
    """1 = grey, 3 = RGB."""
    side: int
    """Shorter side in pixels, the median."""
    image_size: int
    """Height and width of the encoder's input, in pixels."""
    mean: tuple[float, ...]
    """Of each channel, of values in [0, 1], after the resize and crop to `image_size`."""
    std: tuple[float, ...]
    """Likewise."""


def input_size(side: int) -> int:
    """Pixels to train on where nobody says: the images' own up to 32, which a CPU can train."""
    return max(4, min(side, 32))


def benchmark_text(
    name: str,
    facts: ImageFacts,
    id_sets: Mapping[str, Any],
    near: Mapping[str, Any],
    far: Mapping[str, Any],
    validation: Mapping[str, Any],
) -> str:
    """A benchmark file.

    Sets are references by name; three made of ID val images join the user's validation sets.
    """
    derived = {kind: {"derived": kind} for kind in ("mixed", "jigsaw", "blobs")}
    plain = {
        "name": name,
        "classes": facts.classes,
        "channels": facts.channels,
        "image_size": facts.image_size,
        "mean": list(facts.mean),
        "std": list(facts.std),
        "id": dict(id_sets),
        "validation": derived | dict(validation),
        "near": dict(near),
        "far": dict(far),
    }
    head = (
        f"# {facts.images:,} ID train images of {facts.classes} classes, shorter side mostly "
        f"{facts.side} pixels;\n# image_size is what the encoder sees, mean and std were measured "
        "on ID train.\n# The derived validation sets are made of ID val images: no OOD image "
        "selects.\n"
    )
    return head + _yaml(plain)


def study_text(name: str, facts: ImageFacts, command: str) -> str:
    """A study file, small enough for a first look on a CPU; its benchmark is `benchmark.yaml`."""
    head = (
        f"# Command:  {command}\n"
        "# A first look on a CPU: raise epochs, width, trials and seeds for a result to rely on.\n"
        "# Set views.flip to 0.0 where a mirrored image is no image of its class.\n"
    )
    return head + _yaml(_study(name, facts))


def _study(name: str, facts: ImageFacts) -> dict[str, Any]:
    small, grey = facts.image_size < 24, facts.channels == 1
    backbone = "resnet18_32x32" if facts.image_size < 128 else "resnet18_224x224"
    epochs = max(4, min(20 if small else 10, (30_000 if small else 8_000) // facts.images))
    run: dict[str, Any] = {
        "model": {"backbone": "small_cnn", "width": 32}
        if small
        else {"backbone": backbone, "width": 8},
        "schedule": {"warmup_epochs": 2},
        "views": {"crop_scale": [0.5, 1.0], "flip": 0.5}
        | ({"saturation": 0.0, "hue": 0.0, "grayscale": 0.0} if grey else {}),
        "scorer": {"name": "mahalanobis", "k": 10},
        "epochs": epochs,
        "batch_size": 2 ** max(4, min(8, (facts.images // 4).bit_length() - 1)),
        "validate_every": 2,
    }
    space = {
        "optimizer.lr": {"low": 0.02, "high": 0.2, "log": True},
        "loss.temperature": {"low": 0.05, "high": 0.3, "log": True},
        "scorer.name": {"choices": ["mahalanobis", "knn"]},
    }
    return {
        "name": name,
        "question": f"How well are images told from those of {name}, and with which settings?",
        "benchmark": "benchmark.yaml",
        "run": run,
        "search": {"trials": 10, "objective": "families", "space": space, "pruner": "asha"},
        "finals": {"candidates": 2, "race_seeds": 1, "confirm_seeds": 3},
        "rerun": {"seeds": [1, 2, 3]},
        "cluster": {"max_concurrent": 2},
    }


def _yaml(plain: dict[str, Any]) -> str:
    return str(yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=100))
