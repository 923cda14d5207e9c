"""The loss of a run: CIDER's prototypes, the order of rows over workers, refusals."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from rwood.config.study import run_digest
from rwood.data import image_sets, loaders
from rwood.data.sharding import edges, shares
from rwood.training import checkpoint
from rwood.training.begin import begin, start_loss
from rwood.training.loss import _one_workers_order
from rwood.training.train import train
from rwood.training.worker import LocalWorker
from tests.ranks import join, start_ranks
from tests.tiny import tiny
from tests.training.a_step import task_of

CPU = torch.device("cpu")


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [7, 8])
def test_rows_of_all_workers_are_put_back_in_one_workers_order(world: int, count: int) -> None:
    rows = [
        next(shares(count, count, seed=0, epoch=0, rank=rank, world_size=world)).views_2n
        for rank in range(world)
    ]
    firsts = edges(count, world)
    assert [len(r) for r in rows] == [2 * (b - a) for a, b in pairwise(firsts)]
    order = _one_workers_order(firsts, CPU)
    assert torch.equal(torch.cat(rows)[order], torch.arange(2 * count))


def test_batches_know_the_rows_of_their_largest_class(tmp_path: Path) -> None:
    study = tiny(tmp_path, run__batch_size=50)
    digits = image_sets.open_set("digits/train", study.benchmark, tmp_path)
    where = {"epoch": 0, "rank": 0, "world_size": 1, "device": CPU}
    batches = list(loaders.training_batches(digits, study.run, study.benchmark, **where))
    assert len(batches) > 10
    for batch in batches:
        assert batch.largest_class == int(torch.bincount(batch.labels).max())


def test_prototypes_start_at_the_mean_projection_of_their_class(tmp_path: Path) -> None:
    study = tiny(tmp_path, run__loss={"name": "cider"}, search=None)
    task = task_of(study, LocalWorker(tmp_path, CPU), tmp_path)
    state = begin(task, "float32")
    start_loss(task, state)
    digits, encoder = task.train_set, state.encoder
    assert encoder.training
    pixels = torch.from_numpy(digits.images_NHWC[:]).permute(0, 3, 1, 2) / 255
    images = (pixels - study.benchmark.mean[0]) / study.benchmark.std[0]
    encoder.eval()
    with torch.no_grad():
        projections = encoder.project(images).double()
    for label, prototype in enumerate(state.loss.prototypes_CD):
        mean = projections[torch.from_numpy(digits.labels_N == label)].mean(0)
        torch.testing.assert_close(prototype.double(), mean / mean.norm(), rtol=0, atol=1e-6)


def started(folder: Path, rank: int = 0, world: int = 1) -> tuple[torch.Tensor, int]:
    """The prototypes that a rank starts with, and how many images it embedded."""
    study = tiny(folder, run__loss={"name": "cider"}, search=None)
    task = task_of(study, LocalWorker(folder, CPU, rank=rank, world_size=world), folder)
    state, embedded = begin(task, "float32"), []
    state.encoder.backbone.register_forward_hook(
        lambda _, inputs, __: embedded.append(len(inputs[0]))
    )
    start_loss(task, state)
    return state.loss.prototypes_CD, sum(embedded)


def start_on_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    (mine := folder / str(rank)).mkdir()
    dist.init_process_group("gloo", f"file://{folder}/store", None, 2, rank)
    torch.save(started(mine, rank, 2), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_workers_share_the_images_that_prototypes_start_from(tmp_path: Path) -> None:
    join(start_ranks(start_on_rank, tmp_path, count=2))
    (first, some), (second, others) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert (some, others) == (512, 759 - 512)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, started(tmp_path)[0], rtol=0, atol=1e-6)


def test_prototypes_are_kept_in_checkpoints_and_move(tmp_path: Path) -> None:
    study = tiny(tmp_path, run__loss={"name": "cider"}, run__epochs=2, search=None)
    train(study.run, study.benchmark, LocalWorker(tmp_path / "run", CPU), data_root=tmp_path)
    digest = run_digest(study.run, study.benchmark)
    first, last = (
        torch.load(tmp_path / "run" / f"epoch-000{epoch}.pt", weights_only=True)["loss"][
            "prototypes_CD"
        ]
        for epoch in (1, 2)
    )
    assert last.shape == (7, 16)
    torch.testing.assert_close(last.norm(dim=1), torch.ones(7))
    assert (F.cosine_similarity(first, last) < 0.9999).any()
    state = checkpoint.load_latest(tmp_path / "run", digest, print)
    assert state is not None
    assert torch.equal(state["loss"]["prototypes_CD"], last)
