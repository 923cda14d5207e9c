"""The number of workers is not a hyperparameter: 1 to 4 of them compute the very same step.

In float64, on the whole path of a step: encoder, batch norm over the global batch, the loss of the
global batch, data-parallel gradients; with shares of unequal size.
"""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from rwood.data.loaders import Batch
from rwood.method.losses import Cider
from rwood.model.encoder import build_encoder
from rwood.training.begin import wrap
from rwood.training.loss import build_loss, gradient_share, loss_of
from rwood.training.worker import LocalWorker, of_rank_0
from tests.ranks import join, start_ranks
from tests.tiny import tiny
from tests.training.test_fake_cuda import two_ranks

WORLDS = (1, 2, 3, 4)
IMAGES = 13
LOSSES = ("reweightood", "supcon", "cider", "palm", "cross_entropy")
TOLERANCE = 1e-12


def share(rank: int, world: int) -> Batch:
    """This worker's rows of one global batch: its first views, then their second views."""
    generator = torch.Generator().manual_seed(5)
    draw = {"generator": generator, "dtype": torch.float64}
    labels = torch.randint(0, 4, (IMAGES,), generator=generator)
    classes = torch.randn(4, 1, 8, 8, **draw)
    first, second = (classes[labels] + 0.5 * torch.randn(IMAGES, 1, 8, 8, **draw) for _ in range(2))
    largest = 2 * int(torch.bincount(labels).max())
    own = slice(rank * IMAGES // world, (rank + 1) * IMAGES // world)
    return Batch(torch.cat([first[own], second[own]]), labels[own].repeat(2), IMAGES, largest)


def step(folder: Path, loss: str, rank: int, world: int) -> dict[str, Tensor]:
    """Loss, parameter gradients and running statistics after one step."""
    run = tiny(folder, run__loss={"name": loss}, search=None).run
    classes = 4 if run.is_classifier else None
    encoder = build_encoder(run.model, channels=1, seed=0, classes=classes).double().train()
    worker = LocalWorker(folder, torch.device("cpu"), rank=rank, world_size=world)
    network = wrap(encoder, worker, False)
    batch = share(rank, world)
    module = build_loss(run, 4, worker.device).double()
    if isinstance(module, Cider):
        module.start(torch.eye(4, 16, dtype=torch.float64) + 0.1)
    value = loss_of(module, run, network(batch.images), batch, worker)
    (value * gradient_share(module, run, worker)).backward()
    found = {"loss": value.detach(), **module.state_dict()}
    found |= {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
    return found | {name: b for name, b in encoder.named_buffers() if b.is_floating_point()}


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    mine = folder / str(rank)
    mine.mkdir()
    found = {}
    for world in WORLDS:
        if rank < world:
            dist.init_process_group("gloo", f"file://{folder}/store{world}", None, world, rank)
            worker = LocalWorker(mine, torch.device("cpu"), rank=rank, world_size=world)
            assert of_rank_0(f"of rank {rank}", worker) == "of rank 0"
            found[world] = {loss: step(mine, loss, rank, world) for loss in LOSSES}
            dist.destroy_process_group()
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[dict[int, Any]]:
    folder = tmp_path_factory.mktemp("workers")
    join(start_ranks(work, folder, count=max(WORLDS)))
    return [torch.load(folder / f"{rank}.pt") for rank in range(max(WORLDS))]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("world", WORLDS[1:])
def test_every_worker_has_the_step_of_one(
    steps: list[dict[int, Any]], world: int, loss: str
) -> None:
    expected = steps[0][1][loss]
    assert expected["loss"] > 1
    for rank in range(world):
        found = steps[rank][world][loss]
        assert found.keys() == expected.keys()
        for name, value in found.items():
            scale = max(1.0, float(expected[name].abs().max()))
            gap = float((value - expected[name]).abs().max()) / scale
            assert gap < TOLERANCE, f"{name} of rank {rank}"


def test_wrapping_sends_no_buffers_and_warns_of_nothing(tmp_path: Path) -> None:
    study = tiny(tmp_path, search=None)
    encoder = build_encoder(study.run.model, channels=1, seed=0)
    worker = LocalWorker(tmp_path, torch.device("cpu"), world_size=2)
    with two_ranks(), warnings.catch_warnings():
        warnings.simplefilter("error")
        network = wrap(encoder, worker, False)
    assert isinstance(network, DistributedDataParallel)
    assert not network.will_sync_module_buffers()
