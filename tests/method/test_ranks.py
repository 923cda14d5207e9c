"""The losses over 1 to 4 processes are the loss of the global batch.

Everything is checked by one set of processes a world size, since starting them is what costs.
"""

from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from rwood.method.losses import cider_loss, cross_entropy_loss, reweightood_loss, supcon_loss
from tests.ranks import join, start_ranks

# Rows of every rank, by world size: uneven, and with a rank that has none.
SPLITS = {
    "one rank": [17],
    "two ranks": [40, 130],
    "three ranks, one empty": [9, 0, 14],
    "four ranks": [5, 1, 8, 3],
}
KNOWN_COUNTS = {"two ranks", "four ranks"}


def reweightood(projections, labels, temperature, **where):
    return reweightood_loss(
        projections,
        labels,
        temperature=temperature,
        within_scale=2.0,
        within_shift=1.0,
        between_scale=5.0,
        between_shift=4.0,
        **where,
    )


def losses(projections, labels, prototypes, order, **where):
    """Every loss and, where it has them, what else it returns."""
    cider = {"momentum": 0.9, "compactness_weight": 2.0}
    one_class = torch.zeros_like(labels)
    value, moved = cider_loss(projections, labels, prototypes, temperature=0.1, **cider, **where)
    ordered = cider_loss(
        projections, labels, prototypes, temperature=0.1, order_N=order, **cider, **where
    )
    return {
        "reweightood": (reweightood(projections, labels, 0.1, **where),),
        "cold": (reweightood(projections, labels, 0.005, **where),),
        "degenerate": (reweightood(projections, one_class, 0.1, **where),),
        "supcon": (
            supcon_loss(projections, labels, temperature=0.1, base_temperature=0.07, **where),
        ),
        "cider": (value, moved),
        "cider in another order": ordered,
        "cross-entropy": (cross_entropy_loss(projections, labels, label_smoothing=0.1, **where),),
    }


def batch(rows):
    generator = torch.Generator().manual_seed(7)
    draw = {"generator": generator, "dtype": torch.float64}
    labels = torch.randint(0, 4, (rows,), generator=generator)
    # A class of its own: the only anchor without a positive.
    labels[-1] = 4
    return torch.randn(rows, 6, **draw), labels, F.normalize(torch.randn(5, 6, **draw), dim=1)


def differences(name, counts, rank, group):
    """Largest deviation of value, other results and this rank's gradient from one process."""
    rows, labels, prototypes = batch(sum(counts))
    whole = rows.clone().requires_grad_()
    first = sum(counts[:rank])
    own = slice(first, first + counts[rank])
    part = rows[own].clone().requires_grad_()
    where = {"group": group, "rows_per_rank": counts if name in KNOWN_COUNTS else None}
    found = {}
    wrong = where | {"rows_per_rank": [*counts[:-1], counts[-1] + 1]}
    if rank == len(counts) - 1:
        with pytest.raises(ValueError, match="rows, not as in"):
            reweightood(part, labels[own], 0.1, **wrong)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    shared = losses(part, labels[own], prototypes, order, **where)
    for loss, expected in losses(whole, labels, prototypes, order).items():
        gradient = torch.autograd.grad(expected[0], whole)[0][own]
        ours = torch.autograd.grad(shared[loss][0], part)[0]
        pairs = [*zip(shared[loss], expected, strict=True), (ours, gradient)]
        found[loss] = max((a - b).abs().max().item() if a.numel() else 0.0 for a, b in pairs)
    return found


def work(rank, folder):
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet"
    dist.init_process_group("gloo", meet, timedelta(seconds=120), 4, rank)
    results = {}
    for name, counts in SPLITS.items():
        # new_group is collective: every process takes part, members use it.
        group = dist.new_group(list(range(len(counts))))
        if rank < len(counts):
            results[name] = differences(name, counts, rank, group)
    torch.save(results, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_any_number_of_ranks_computes_the_loss_of_the_global_batch(tmp_path):
    join(start_ranks(work, tmp_path, count=4))
    results = {rank: torch.load(tmp_path / f"{rank}.pt") for rank in range(4)}
    checked = 0
    for rank, by_split in results.items():
        for name, found in by_split.items():
            for loss, difference in found.items():
                # The cold loss is around 300 and its gradient around 30.
                limit = 1e-11 if loss == "cold" else 1e-12
                assert difference < limit, f"{name}, rank {rank}, {loss}"
                checked += 1
    assert checked == 7 * (1 + 2 + 3 + 4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_losses_never_wait_for_the_device():
    rows, labels, prototypes = (x.cuda() for x in batch(100))
    rows = rows.float().requires_grad_()
    prototypes = prototypes.float()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss, _ = cider_loss(
            rows,
            labels,
            prototypes,
            temperature=0.1,
            momentum=0.9,
            compactness_weight=2.0,
            longest_class=100,
        )
        loss = loss + reweightood(rows, labels, 0.1)
        loss = loss + supcon_loss(rows, labels, temperature=0.1, base_temperature=0.07)
        loss = loss + cross_entropy_loss(rows, labels, label_smoothing=0.0)
        loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert rows.grad.isfinite().all()
