"""Small trees of generated images, and a benchmark over them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rwood.config.benchmark import BenchmarkConfig, FolderSet, IDSets

Draw = Callable[[Path, int, int], None]


@pytest.fixture
def draw() -> Draw:
    """Writes one image of a width and a height whose pixels follow from its path."""

    def write(path: Path, width: int, height: int, mode: str = "RGB") -> None:
        rng = np.random.default_rng(list(path.name.encode()))
        coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        path.parent.mkdir(parents=True, exist_ok=True)
        image.convert(mode).save(path)

    return write


@pytest.fixture
def animals(tmp_path: Path, draw: Draw) -> BenchmarkConfig:
    """Plain folders: two classes of 20x16 images, OOD images of other sizes."""
    for part, count in (("train", 12), ("val", 3), ("test", 4)):
        for name in ("cat", "dog"):
            for i in range(count):
                draw(tmp_path / "mine" / part / name / f"{part}{i}.png", 20, 16)
    for name in ("near", "far", "seen"):
        for i in range(5):
            draw(tmp_path / "mine" / name / f"{name}{i}.jpg", 16 + 7 * i, 40 - 3 * i)
    return BenchmarkConfig(
        name="animals",
        classes=2,
        image_size=16,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        id=IDSets(
            train=FolderSet(folder="mine/train"),
            val=FolderSet(folder="mine/val"),
            test=FolderSet(folder="mine/test"),
        ),
        validation={"seen": FolderSet(folder="mine/seen")},
        near={"near": FolderSet(folder="mine/near")},
        far={"far": FolderSet(folder="mine/far")},
    )
