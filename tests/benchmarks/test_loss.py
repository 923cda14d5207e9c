"""Loss and gradient of one batch: ours against the boolean-mask form of the authors' code."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from pairs import compare, peak_bytes

from rwood.method.losses import cider_loss, reweightood_loss, supcon_loss

NUMBERS = {
    "temperature": 0.1,
    "within_scale": 2.0,
    "within_shift": 1.0,
    "between_scale": 5.0,
    "between_shift": 4.0,
}


def batch(views):
    generator = torch.Generator().manual_seed(0)
    projections = F.normalize(torch.randn(views, 128, generator=generator), dim=1)
    return projections.requires_grad_(), torch.randint(0, 10, (views,), generator=generator)


def boolean_mask_loss(projections, labels):
    unit = F.normalize(projections, dim=1)
    cosines = unit @ unit.T
    upper = torch.triu(torch.ones_like(cosines, dtype=torch.bool), diagonal=1)
    same = labels[:, None] == labels[None]
    positives, negatives = cosines[same & upper], cosines[~same & upper]
    within = torch.sigmoid(-(2.0 * positives.detach() - 1.0))
    between = torch.sigmoid(5.0 * negatives.detach() - 4.0)
    pull = torch.logsumexp(-within * positives / 0.1, 0)
    return F.elu(pull + torch.logsumexp(between * negatives / 0.1, 0))


def step(loss, projections):
    return torch.autograd.grad(loss(), projections)[0]


@pytest.mark.parametrize(
    ("views", "target"), [(256, "none"), (1024, ">= 2"), (2048, "none"), (4096, ">= 3")]
)
def test_loss_and_gradient(views, target):
    projections, labels = batch(views)
    sides = (
        lambda: step(lambda: boolean_mask_loss(projections, labels), projections),
        lambda: step(lambda: reweightood_loss(projections, labels, **NUMBERS), projections),
    )
    compare(f"loss, {views} views", *sides, target=target, pairs=9)
    reference, ours = (side() for side in sides)
    assert (ours - reference).norm() < 2e-6 * reference.norm()
    torch.testing.assert_close(
        reweightood_loss(projections, labels, **NUMBERS),
        boolean_mask_loss(projections, labels),
        rtol=1e-6,
        atol=0,
    )


@pytest.mark.parametrize("views", [1024, 4096, 16384])
def test_memory(views):
    projections, labels = batch(views)
    ours = peak_bytes(
        lambda: step(lambda: reweightood_loss(projections, labels, **NUMBERS), projections)
    )
    row = f"\n| loss memory, {views} views | rwood {ours / 2**20:.1f} MiB |"
    # At 16,384 views the reference would need more than 4 GB.
    if views <= 4096:
        reference = peak_bytes(
            lambda: step(lambda: boolean_mask_loss(projections, labels), projections)
        )
        row += (
            f" reference {reference / 2**20:.1f} MiB | {ours / reference:.3f} | target <= 0.333 |"
        )
    print(row)
    gradient = step(lambda: reweightood_loss(projections, labels, **NUMBERS), projections)
    # The rows are unit vectors: normalising removes any gradient along them.
    assert (gradient * projections).sum(1).abs().max() < 1e-6


def rank_bytes(rank, world, views, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    projections, labels = batch(views)
    own = slice(rank * views // world, (rank + 1) * views // world)
    mine = projections.detach()[own].requires_grad_()
    counts = [views // world] * world

    def loss():
        return reweightood_loss(
            mine, labels[own], **NUMBERS, group=dist.group.WORLD, rows_per_rank=counts
        )

    peak = peak_bytes(lambda: step(loss, mine))
    torch.save(peak, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [1, 2, 4])
def test_memory_of_a_rank_falls_with_their_number(tmp_path, world):
    """The loss of one global batch of 4,096 views, its rows shared by the ranks."""
    mp.spawn(rank_bytes, args=(world, 4096, tmp_path), nprocs=world)
    peaks = [torch.load(tmp_path / f"{rank}.pt") / 2**20 for rank in range(world)]
    print(f"\n| loss memory, 4,096 views, {world} ranks | {max(peaks):.1f} MiB a rank |")


def test_cider_costs_little_beside_supcon():
    projections, labels = batch(1024)
    prototypes = F.normalize(
        torch.randn(10, 128, generator=torch.Generator().manual_seed(1)), dim=1
    )
    numbers = {"temperature": 0.1, "momentum": 0.95, "compactness_weight": 2.0}
    compare(
        "SupCon (as reference) and CIDER, 1024 views",
        lambda: step(
            lambda: supcon_loss(projections, labels, temperature=0.1, base_temperature=0.07),
            projections,
        ),
        lambda: step(
            lambda: cider_loss(projections, labels, prototypes, **numbers)[0], projections
        ),
        target=">= 0.83",
    )
    loss, moved = cider_loss(projections, labels, prototypes, **numbers)
    wide, wide_moved = cider_loss(projections.double(), labels, prototypes.double(), **numbers)
    assert loss.item() == pytest.approx(wide.item(), rel=1e-5)
    torch.testing.assert_close(moved.double(), wide_moved, rtol=0, atol=1e-6)
