"""Training views cut from files: torchvision's crops, one batch for any number of workers."""

from pathlib import Path

import pytest
import torch
import torchvision.transforms.functional as TF
from PIL import Image

from rwood.config.backbones import ModelConfig
from rwood.config.benchmark import BenchmarkConfig
from rwood.config.run import RunConfig, ViewsConfig
from rwood.data import image_sets, streaming, views
from rwood.data.crops import CROP_DRAWS, crop_boxes
from rwood.data.loaders import Batch, embedding_batches, training_batches
from rwood.data.sharding import shares
from rwood.errors import DataError
from tests.fake_cuda import GPU, fake_cuda

CPU = torch.device("cpu")
RUN = RunConfig(model=ModelConfig(backbone="resnet18_224x224"), epochs=2, seed=4, batch_size=10)
STILL = RUN.model_copy(update={"views": ViewsConfig(jitter=0.0, grayscale=0.0)})


@pytest.fixture(autouse=True)
def forget() -> None:
    image_sets._files.cache_clear()
    image_sets._from_files.cache_clear()


def epoch_of(
    config: BenchmarkConfig, root: Path, run: RunConfig = RUN, epoch: int = 0, **workers: int
) -> list[Batch]:
    opened = image_sets.open_set(config.id.train, config, root)
    assert opened.files is not None
    share = {"rank": 0, "world_size": 1} | workers
    return list(training_batches(opened, run, config, epoch=epoch, device=CPU, **share))


def test_crops_are_torchvisions_on_the_original_image(
    animals: BenchmarkConfig, tmp_path: Path
) -> None:
    opened = image_sets.open_set(animals.id.train, animals, tmp_path)
    files = opened.files
    assert files is not None
    order = torch.cat([s.rows_n for s in streaming_plan(24)])
    for step, batch in enumerate(epoch_of(animals, tmp_path, STILL)):
        draws = views.draw_numbers(2 * batch.count, seed=4, epoch=0, step=step)
        boxes = crop_boxes(STILL.views, draws[:, :CROP_DRAWS], 16, 20)
        flips = views.parameters(STILL.views, draws, boxes, 3).flip_N
        rows = order[10 * step : 10 * step + batch.count].repeat(2)
        for view, row in enumerate(rows.tolist()):
            top, left, height, width = boxes[view].tolist()
            image = Image.open(files.path(row)).convert("RGB")
            cut = TF.resized_crop(image, top, left, height, width, [16, 16])
            cut = TF.hflip(cut) if flips[view] else cut
            expected = TF.normalize(TF.to_tensor(cut), animals.mean, animals.std)
            assert (batch.images[view] - expected).abs().max() < 1e-5
            assert batch.labels[view] == files.labels_N[row]


def streaming_plan(total: int):
    return shares(total, 10, seed=4, epoch=0, rank=0, world_size=1)


@pytest.mark.parametrize("world_size", [2, 3, 12])
def test_the_union_over_workers_is_one_workers_batch(
    animals: BenchmarkConfig, tmp_path: Path, world_size: int
) -> None:
    alone = epoch_of(animals, tmp_path, epoch=1)
    parts_of = [
        epoch_of(animals, tmp_path, epoch=1, rank=r, world_size=world_size)
        for r in range(world_size)
    ]
    for step, whole in enumerate(alone):
        sizes = [len(share[step].labels) // 2 for share in parts_of]
        for view in (0, 1):
            parts = [
                s[step].images[view * n : (view + 1) * n]
                for s, n in zip(parts_of, sizes, strict=True)
            ]
            rows = slice(view * whole.count, (view + 1) * whole.count)
            torch.testing.assert_close(torch.cat(parts), whole.images[rows], atol=1e-6, rtol=0)


def test_numbers_do_not_depend_on_threads_or_on_memory(
    animals: BenchmarkConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = epoch_of(animals, tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again = epoch_of(animals, tmp_path)
    finally:
        torch.set_num_threads(threads)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)


def test_images_of_the_inputs_size_give_the_same_views_from_files_and_from_memory(
    animals: BenchmarkConfig, tmp_path: Path
) -> None:
    """Up to Pillow's rounding of crops to 8 bits: one level of 255."""
    for path in (tmp_path / "mine" / "train").rglob("*.png"):
        Image.open(path).resize((16, 16)).save(path)
    opened = image_sets.open_set(animals.id.train, animals, tmp_path)
    assert opened.files is None
    share = {"epoch": 0, "rank": 0, "world_size": 1, "device": CPU}
    memory = list(training_batches(opened, STILL, animals, **share))
    files = image_sets.files_of(animals.id.train, animals, tmp_path)
    made = list(streaming.from_files(files, streaming_plan(24), STILL, animals, CPU))
    for batch, (_, images, labels) in zip(memory, made, strict=True):
        assert torch.equal(batch.labels, labels)
        assert (batch.images - images).abs().max() < 1.01 / 255 / 0.25


def test_a_damaged_file_ends_the_epoch_by_name(animals: BenchmarkConfig, tmp_path: Path) -> None:
    image_sets.open_set(animals.id.train, animals, tmp_path)
    path = tmp_path / "mine" / "train" / "dog" / "train3.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"train3.png is damaged"):
        epoch_of(animals, tmp_path)


def test_a_loop_that_stops_early_leaves_no_threads(
    animals: BenchmarkConfig, tmp_path: Path
) -> None:
    import threading

    before = threading.active_count()
    opened = image_sets.open_set(animals.id.train, animals, tmp_path)
    for _ in training_batches(opened, RUN, animals, epoch=0, rank=0, world_size=1, device=CPU):
        break
    assert threading.active_count() == before


def test_imagenet_path_on_images_of_many_sizes(tmp_path: Path, draw, animals) -> None:
    """224 px from JPEGs of many sizes: two views to train, the centre to score."""
    for i in range(200):
        size = (150 + 13 * (i % 30), 150 + 17 * (i % 23))
        draw(tmp_path / "large" / f"n{i % 2}" / f"{i:03d}.jpeg", *size)
    plain = animals.model_dump() | {"image_size": 224, "resize": 256}
    plain["id"] = plain["id"] | {"train": {"folder": "large"}}
    config = BenchmarkConfig(**plain)
    run = RUN.model_copy(
        update={"batch_size": 80, "views": ViewsConfig(crop_scale=(0.4, 1.0), jitter=0)}
    )
    batches = epoch_of(config, tmp_path, run)
    assert [b.count for b in batches] == [80, 80, 40]
    assert batches[0].images.shape == (160, 3, 224, 224)
    assert batches[0].images.isfinite().all()
    opened = image_sets.open_set(config.id.train, config, tmp_path)
    scored = list(embedding_batches(opened, config, device=CPU, batch=90))
    assert [tuple(b.shape) for b in scored] == [(90, 3, 224, 224)] * 2 + [(20, 3, 224, 224)]


def test_views_are_made_on_the_device_without_a_wait(
    animals: BenchmarkConfig, tmp_path: Path
) -> None:
    opened = image_sets.open_set(animals.id.train, animals, tmp_path)
    with fake_cuda():
        made = training_batches(opened, RUN, animals, epoch=0, rank=0, world_size=1, device=GPU)
        for batch in made:
            assert batch.images.device == batch.labels.device == GPU
            assert batch.images.shape == (2 * batch.count, 3, 16, 16)
