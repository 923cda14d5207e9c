"""Batch norm over 2 and 3 workers equals one worker's, in float64."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from rwood.config.backbones import ModelConfig
from rwood.errors import SpecError
from rwood.model.batch_norm import GlobalBatchNorm2d, convert_global_batch_norm
from rwood.model.encoder import build_encoder
from tests.ranks import join, start_ranks

TOLERANCE = 1e-12
WORKERS = 3
SHARES = {"even": (4, 4, 4), "uneven": (1, 2, 9), "empty": (5, 0, 7), "two": (9, 3)}
"""Rows of each worker; `two` runs on the first two."""


def network() -> nn.Sequential:
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4)
    ).double()
    for module in net:
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return net


def step(net: nn.Module, images: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Forward and backward of one batch: output, input gradient, weight gradients, buffers."""
    images = images.clone().requires_grad_(True)
    output = net(images)
    (output * target).sum().backward()
    assert images.grad is not None
    found = {"output": output.detach(), "input": images.grad}
    found |= {f"grad {k}": p.grad for k, p in net.named_parameters() if p.grad is not None}
    return found | {f"buffer {k}": b.clone() for k, b in net.named_buffers()}


def data() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    images = torch.randn(12, 2, 7, 6, dtype=torch.float64, generator=g) * 3 + 100
    return images, torch.randn(12, 4, 3, 2, dtype=torch.float64, generator=g)


def compare(rank: int, shares: tuple[int, ...], group: dist.ProcessGroup) -> dict[str, float]:
    """Largest differences, on this worker, between global batch norm and one worker's."""
    images, target = data()
    expected = step(network(), images, target)
    net = network()
    convert_global_batch_norm(net, group)
    start = sum(shares[:rank])
    rows = slice(start, start + shares[rank])
    found = step(net, images[rows], target[rows])
    differences = {}
    for key, value in found.items():
        wanted = expected[key]
        if key.startswith("grad "):
            dist.all_reduce(value, group=group)
        elif key in ("output", "input"):
            wanted = wanted[rows]
        scale = max(1.0, float(wanted.abs().max())) if wanted.numel() else 1.0
        differences[key] = float((value - wanted).abs().max()) / scale if value.numel() else 0.0
    return differences


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORKERS)
    groups = {n: dist.new_group(list(range(n))) for n in (1, 2, 3)}
    results: dict[str, object] = {}
    for name, shares in SHARES.items():
        if rank < len(shares):
            results[name] = compare(rank, shares, groups[len(shares)])
    if rank == 0:
        alone = network()
        convert_global_batch_norm(alone, groups[1])
        results["alone"] = [type(m).__name__ for m in alone]
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    folder = tmp_path_factory.mktemp("batch_norm")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    join(start_ranks(worker, str(folder), count=WORKERS))
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(WORKERS)]


@pytest.mark.parametrize("name", SHARES)
def test_workers_together_equal_one_worker(results: list[dict[str, object]], name: str) -> None:
    for rank in range(len(SHARES[name])):
        differences = results[rank][name]
        assert isinstance(differences, dict)
        assert len(differences) == 2 + 8 + 6
        assert max(differences.values()) < TOLERANCE, differences


def test_one_worker_keeps_its_own_batch_norm(results: list[dict[str, object]]) -> None:
    assert results[0]["alone"] == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d"]


def test_converting_without_workers_changes_nothing() -> None:
    net = network()
    convert_global_batch_norm(net)
    assert type(net[1]) is nn.BatchNorm2d


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm1d(4),
        nn.BatchNorm3d(4),
        nn.SyncBatchNorm(4),
        nn.BatchNorm2d(4, momentum=None),  # whose statistics would stay as they began
        nn.BatchNorm2d(4, affine=False),
    ],
)
def test_a_batch_norm_that_cannot_cover_workers_is_refused(
    monkeypatch: pytest.MonkeyPatch, layer: nn.Module
) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda group: 2)
    with pytest.raises(SpecError, match=f"{type(layer).__name__} is no plain nn.BatchNorm2d"):
        convert_global_batch_norm(nn.Sequential(layer))


def test_state_dict_and_evaluation_are_those_of_plain_batch_norm() -> None:
    encoder = build_encoder(ModelConfig(backbone="small_cnn", width=4), channels=1, seed=0)
    plain = next(m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d))
    converted = GlobalBatchNorm2d(plain, None)
    assert converted.state_dict().keys() == plain.state_dict().keys()
    assert converted.weight is plain.weight
    images = torch.rand(2, 4, 5, 5)
    assert torch.equal(converted.eval()(images), plain.eval()(images))
