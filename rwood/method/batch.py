"""The rows of a batch: unit length, cut into strips, alone or spread over a process group.

Legend of shape suffixes: n rows of this rank, N rows of all ranks, D dims.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

# Entries of a strip of the similarity matrix on an accelerator, where few and large kernels win.
_STRIP_ENTRIES = 2**24


def unit_rows(projections_nD: Tensor, labels_n: Tensor) -> Tensor:
    """Rows of length one in at least float32, with gradient through the normalisation.

    Args:
        projections_nD: (n, D) rows of any length; a zero row stays zero.
        labels_n: (n,) classes, for a check of the shapes only.

    Returns:
        (n, D) unit rows; half precision becomes float32, autocast is ignored.

    Raises:
        ValueError: the shapes of rows and labels do not fit.
    """
    if projections_nD.ndim != 2 or labels_n.shape != projections_nD.shape[:1]:
        raise ValueError(
            "projections must be (rows, dims) and labels (rows,), "
            f"got {tuple(projections_nD.shape)} and {tuple(labels_n.shape)}"
        )
    with torch.autocast(projections_nD.device.type, enabled=False):
        wide_nD = projections_nD.to(torch.promote_types(projections_nD.dtype, torch.float32))
        return F.normalize(wide_nD, dim=1)


def scalar_like(tensor: Tensor, number: float | Tensor) -> Tensor:
    """The number as a 0-d tensor beside another tensor, without a copy from host memory.

    Args:
        tensor: decides device and dtype.
        number: a float or a 0-d tensor; its gradient is cut.

    Returns:
        0-d tensor.
    """
    if isinstance(number, Tensor):
        return number.detach().to(tensor.device, tensor.dtype, non_blocking=True)
    return tensor.new_full((), number)


def count_rows(
    local: Tensor, known: Sequence[int] | None, group: dist.ProcessGroup | None
) -> list[int]:
    """Number of rows on every rank, in rank order.

    Args:
        local: (n, ...) rows of this rank.
        known: the counts, if the caller knows them. Otherwise they are exchanged, which costs a
            small collective and, on an accelerator, a host synchronisation.
        group: the ranks that share the batch; None means this process alone.

    Returns:
        One count a rank; their sum is N.

    Raises:
        ValueError: the known counts do not fit this rank's rows.
    """
    rows = local.shape[0]
    if group is None:
        return [rows]
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    if known is not None:
        if len(known) != ranks or known[rank] != rows:
            raise ValueError(f"rank {rank} of {ranks} has {rows} rows, not as in {list(known)}")
        return list(known)
    mine = torch.tensor([rows], device=local.device)
    counts = [torch.zeros_like(mine) for _ in range(ranks)]
    dist.all_gather(counts, mine, group=group)
    return [int(count) for count in torch.cat(counts).tolist()]


def gather_rows(local: Tensor, counts: Sequence[int], group: dist.ProcessGroup | None) -> Tensor:
    """Rows of all ranks stacked in rank order; the copies carry no gradient.

    Ranks may hold different numbers of rows, none included: rows are padded to the largest count
    for the collective, since not every backend gathers uneven tensors.

    Args:
        local: (n, ...) rows of this rank.
        counts: rows on every rank, in rank order.
        group: the ranks that share the batch; None means this process alone.

    Returns:
        (N, ...) rows.
    """
    if group is None:
        return local.detach()
    padded = local.new_zeros(max(counts), *local.shape[1:])
    padded[: local.shape[0]] = local.detach()
    received = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(received, padded, group=group)
    return torch.cat([rows[:count] for rows, count in zip(received, counts, strict=True)])


def rows_with_own_gradient(
    local: Tensor, counts: Sequence[int], group: dist.ProcessGroup | None
) -> Tensor:
    """Rows of all ranks stacked in rank order, of which this rank's carry their gradient.

    Args:
        local: (n, ...) rows of this rank, with gradient.
        counts: rows on every rank, in rank order.
        group: the ranks that share the batch; None means this process alone.

    Returns:
        (N, ...) rows; `local` itself without a group.
    """
    if group is None:
        return local
    gathered = gather_rows(local, counts, group)
    first = first_row(counts, group)
    return torch.cat([gathered[:first], local, gathered[first + local.shape[0] :]])


def first_row(counts: Sequence[int], group: dist.ProcessGroup | None) -> int:
    """Index of this rank's first row among the N.

    Args:
        counts: rows on every rank, in rank order.
        group: the ranks that share the batch; None means this process alone.

    Returns:
        The sum of the counts of the lower ranks.
    """
    return 0 if group is None else sum(counts[: dist.get_rank(group)])


def sum_over_ranks(value: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Sum of a tensor over the ranks, in place; the tensor itself without a group.

    Args:
        value: any shape, the same on every rank; overwritten.
        group: the ranks to sum over; None means this process alone.

    Returns:
        The summed tensor.
    """
    if group is not None:
        dist.all_reduce(value, group=group)
    return value


def row_strips(rows: int, columns: int, device: torch.device) -> Iterator[slice]:
    """Row ranges that cut a rows x columns matrix into strips of bounded size.

    Args:
        rows: rows to cover, possibly none.
        columns: width of the widest strip.
        device: decides how many entries a strip may hold.

    Yields:
        Consecutive slices that cover ``range(rows)``.
    """
    # On a CPU low strips stay in the second-level cache; they grow a little with the width, because
    # a strip also touches every row of the gradient.
    on_cpu = device.type == "cpu"
    height = (
        min(max(columns // 16, 96), 256) if on_cpu else max(64, _STRIP_ENTRIES // max(columns, 1))
    )
    for start in range(0, rows, height):
        yield slice(start, min(start + height, rows))
