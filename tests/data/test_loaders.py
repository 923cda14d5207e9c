from pathlib import Path

import numpy as np
import pytest
import torch

from rwood.config.backbones import ModelConfig
from rwood.config.benchmark import BenchmarkConfig
from rwood.config.load import load_benchmark
from rwood.config.run import RunConfig, ViewsConfig
from rwood.data import image_sets, loaders
from rwood.data.loaders import Batch, embedding_batches, training_batches
from rwood.data.opened import ImageSet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config() -> BenchmarkConfig:
    return load_benchmark(Path(__file__).parents[2] / "studies" / "benchmarks" / "digits.yaml")


@pytest.fixture(scope="module")
def digits(config: BenchmarkConfig) -> ImageSet:
    return image_sets.open_set("digits/val", config, Path("nowhere"))


def run_config(seed: int = 0, batch_size: int = 100) -> RunConfig:
    return RunConfig(
        model=ModelConfig(backbone="small_cnn"), epochs=2, seed=seed, batch_size=batch_size
    )


def epoch_of(
    digits: ImageSet, config: BenchmarkConfig, run: RunConfig, epoch: int = 0, **workers: int
) -> list[Batch]:
    share = {"rank": 0, "world_size": 1} | workers
    return list(training_batches(digits, run, config, epoch=epoch, device=CPU, **share))


def test_an_epoch_shows_every_image_once_in_two_views(
    digits: ImageSet, config: BenchmarkConfig
) -> None:
    still = run_config().model_copy(
        update={"views": ViewsConfig(crop_scale=(1.0, 1.0), crop_ratio=(1, 1), flip=0, jitter=0)}
    )
    batches = epoch_of(digits, config, still)
    assert [b.count for b in batches] == [100, 100, 53]
    seen = []
    for batch in batches:
        n = batch.count
        assert batch.images.shape == (2 * n, 1, 8, 8)
        assert batch.images.dtype == torch.float32
        assert torch.equal(batch.labels[:n], batch.labels[n:])
        torch.testing.assert_close(batch.images[:n], batch.images[n:])
        seen += [row.numpy().round(3).tobytes() for row in batch.images[:n]]
    images = torch.cat(list(embedding_batches(digits, config, device=CPU, batch=64)))
    assert sorted(seen) == sorted(row.numpy().round(3).tobytes() for row in images)


def test_labels_belong_to_their_images(digits: ImageSet, config: BenchmarkConfig) -> None:
    still = run_config().model_copy(
        update={"views": ViewsConfig(crop_scale=(1.0, 1.0), crop_ratio=(1, 1), flip=0, jitter=0)}
    )
    images = torch.cat(list(embedding_batches(digits, config, device=CPU, batch=64)))
    for batch in epoch_of(digits, config, still):
        nearest = torch.cdist(batch.images.flatten(1), images.flatten(1)).argmin(1)
        assert torch.equal(batch.labels, torch.from_numpy(digits.labels_N)[nearest])


@pytest.mark.parametrize("world_size", [2, 3, 64])
def test_the_union_over_workers_is_one_workers_batch(
    digits: ImageSet, config: BenchmarkConfig, world_size: int
) -> None:
    run = run_config(batch_size=50)
    alone = epoch_of(digits, config, run, epoch=1)
    shares = [
        epoch_of(digits, config, run, epoch=1, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for step, whole in enumerate(alone):
        parts = [share[step] for share in shares]
        sizes = [len(p.labels) // 2 for p in parts]
        assert max(sizes) - min(sizes) <= 1
        assert all(p.count == whole.count for p in parts)
        for view in (0, 1):
            images = [
                p.images[view * n : (view + 1) * n] for p, n in zip(parts, sizes, strict=True)
            ]
            labels = [
                p.labels[view * n : (view + 1) * n] for p, n in zip(parts, sizes, strict=True)
            ]
            rows = slice(view * whole.count, (view + 1) * whole.count)
            torch.testing.assert_close(torch.cat(images), whole.images[rows], atol=1e-6, rtol=0)
            assert torch.equal(torch.cat(labels), whole.labels[rows])


def test_order_and_views_are_keyed_by_seed_and_epoch(
    digits: ImageSet, config: BenchmarkConfig
) -> None:
    first = epoch_of(digits, config, run_config())[0]
    torch.manual_seed(99)
    again = epoch_of(digits, config, run_config())[0]
    assert torch.equal(first.images, again.images)
    for other in (
        epoch_of(digits, config, run_config(), epoch=1)[0],
        epoch_of(digits, config, run_config(seed=1))[0],
    ):
        assert not torch.equal(first.labels, other.labels)


def test_a_resident_set_is_put_on_the_device_once(digits: ImageSet) -> None:
    held = loaders.resident(digits, CPU)
    same = ImageSet("other name", digits.images_NHWC, digits.labels_N, digits.digest)
    assert loaders.resident(same, CPU).images_MCHW is held.images_MCHW
    assert held.images_MCHW.dtype == torch.uint8


def test_scored_images_come_in_order(digits: ImageSet, config: BenchmarkConfig) -> None:
    batches = list(embedding_batches(digits, config, device=CPU, batch=100))
    assert [len(b) for b in batches] == [100, 100, 53]
    expected = (digits.images_NHWC.transpose(0, 3, 1, 2) / 255 - 0.305) / 0.376
    assert np.abs(torch.cat(batches).numpy() - expected).max() < 1e-6
