"""Training views of JPEG files as large as ImageNet's: images a second and core, by several ways.

    python -m pytest tests/benchmarks/test_decode_speed.py -n 0 -s

Ours is Pillow's as the authors have it, to the bit; beside it torch's resize, with and without
torchvision's decoder; then ours in threads and in processes. Agreement is asserted (torch may round
a value to the next of its 256 levels), time is printed.
"""

import os
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from pairs import compare
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.nn import functional as F
from torchvision.io import ImageReadMode, decode_jpeg, read_file

from rwood.config.run import ViewsConfig
from rwood.data import listing, views
from rwood.data.crops import CROP_DRAWS, crop_boxes
from rwood.data.listing import Listing
from rwood.data.streaming import _cut

IMAGES, SIZE = 40, 224
DRAWS = views.draw_numbers(2 * IMAGES, seed=0, epoch=0, step=0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Listing:
    """Cuttings of 500 x 375 pixels of scikit-learn's two photographs, about 60 KB each."""
    root = tmp_path_factory.mktemp("jpeg")
    photos, rng = load_sample_images().images, np.random.default_rng(0)
    (root / "all").mkdir()
    for i in range(IMAGES):
        left, top = int(rng.integers(0, 140)), int(rng.integers(0, 52))
        cutting = Image.fromarray(photos[i % 2][top : top + 375, left : left + 500])
        cutting.save(root / "all" / f"{i:03d}.jpg", quality=92)
    return listing.read_folder(root / "all", name="all", class_names=None)


def boxes(row: int) -> list[list[int]]:
    draws = DRAWS[[row, IMAGES + row], :CROP_DRAWS]
    found: list[list[int]] = crop_boxes(ViewsConfig(), draws, 375, 500).tolist()
    return found


def ours(files: Listing, row: int) -> np.ndarray:
    made = np.empty((2, SIZE, SIZE, 3), np.uint8)
    _cut(files, row, ViewsConfig(), DRAWS[[row, IMAGES + row]], made[0], made[1])
    return made


def by_torch(files: Listing, row: int) -> np.ndarray:
    with Image.open(files.path(row)) as image:
        return resized(torch.from_numpy(np.array(image)).permute(2, 0, 1), row)


def by_torchvision(files: Listing, row: int) -> np.ndarray:
    return resized(decode_jpeg(read_file(str(files.path(row))), ImageReadMode.RGB), row)


def resized(pixels_CHW: torch.Tensor, row: int) -> np.ndarray:
    pixels = pixels_CHW[None]
    cut = [pixels[:, :, top : top + h, left : left + w] for top, left, h, w in boxes(row)]
    made = [F.interpolate(c, (SIZE, SIZE), mode="bilinear", antialias=True)[0] for c in cut]
    return torch.stack(made).permute(0, 2, 3, 1).numpy()


def test_views_of_a_file(files: Listing) -> None:
    for row in range(IMAGES):
        mine = ours(files, row).astype(int)
        for theirs in (by_torch(files, row), by_torchvision(files, row)):
            assert np.abs(mine - theirs).max() <= 1
    others = {"torch's resize": by_torch, "and torchvision's decoder": by_torchvision}
    for name, other in others.items():
        compare(
            f"two {SIZE}x{SIZE} views of {IMAGES} JPEG files, ours as reference; {name}",
            lambda: [ours(files, row) for row in range(IMAGES)],
            lambda other=other: [other(files, row) for row in range(IMAGES)],
            target="none",
            pairs=9,
        )


def test_threads_and_processes(files: Listing) -> None:
    """Wall time, in turn, on as many cores as there are: for a quiet machine."""
    cores = os.cpu_count() or 1
    context = get_context("spawn")
    with (
        ThreadPoolExecutor(cores) as threads,
        ProcessPoolExecutor(cores, context, initializer=_one_thread) as processes,
    ):
        pools: dict[str, Executor] = {"threads": threads, "processes": processes}
        rates: dict[str, list[float]] = {name: [] for name in pools}
        for _ in range(6):
            for name, pool in pools.items():
                start = time.perf_counter()
                assert sum(pool.map(_many, [files] * 2 * cores)) == 2 * cores * IMAGES
                rates[name].append(2 * cores * IMAGES / (time.perf_counter() - start))
    for name, found in rates.items():
        print(f"\n| {cores} {name} | {sorted(found[1:])[2]:.0f} images/s |")


def _one_thread() -> None:
    torch.set_num_threads(1)


def _many(files: Listing) -> int:
    return len([ours(files, row) for row in range(IMAGES)])
