"""Generated 32x32 colour images in plain folders, and a benchmark over them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rwood.config.benchmark import BenchmarkConfig

BENCHMARK = """
name: shapes
classes: 3
image_size: 32
mean: [0.5, 0.5, 0.5]
std: [0.25, 0.25, 0.25]
id: {train: {folder: train}, val: {folder: val}, test: {folder: test}}
validation: {noise: {folder: noise}}
near: {mixed: {folder: mixed}}
far: {flat: {folder: flat}, grain: {folder: grain}}
shifted: {dark: {folder: dark}}
"""


def _colours(rng: np.random.Generator, kind: int, light: float = 1.0) -> Image.Image:
    """A coarse pattern whose hue tells its class, with noise on top."""
    coarse = rng.integers(0, 120, (4, 4, 3))
    coarse[..., kind] += 100
    image = Image.fromarray((light * coarse).astype(np.uint8)).resize((32, 32))
    noise = rng.normal(0, 12, (32, 32, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def _grain(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with `shapes.yaml`."""
    root, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(5)

    def write(folder: str, count: int, make: Callable[[int], Image.Image]) -> None:
        (root / folder).mkdir(parents=True)
        for i in range(count):
            make(i).save(root / folder / f"{i:03d}.png")

    for part, count, light in (("train", 60, 1.0), ("val", 12, 1.0), ("test", 15, 1.0),
                               ("dark", 10, 0.5)):  # fmt: skip
        for kind in range(3):
            write(f"{part}/c{kind}", count, lambda i, k=kind, s=light: _colours(rng, k, s))  # type: ignore[misc]
    write("noise", 20, lambda i: _grain(rng).resize((16, 16)))
    write("mixed", 25, lambda i: Image.blend(_colours(rng, 0), _colours(rng, 1 + i % 2), 0.5))
    write("flat", 20, lambda i: Image.new("RGB", (32, 32), tuple(rng.integers(0, 256, 3))))
    write("grain", 30, lambda i: _grain(rng))
    (root / "shapes.yaml").write_text(BENCHMARK)
    return root


@pytest.fixture(scope="session")
def shapes_config(shapes: Path) -> BenchmarkConfig:
    from rwood.config.load import load_benchmark

    return load_benchmark(shapes / "shapes.yaml")
