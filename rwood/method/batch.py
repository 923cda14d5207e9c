"""The rows of a batch: unit length, cut into strips, on one rank or spread over several.

Legend of shape suffixes: n rows of this rank, N rows of all ranks, D dims.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

# Entries of a strip of the similarity matrix on an accelerator, where few and large kernels win.
_STRIP_ENTRIES = 2**24
FAR = 1e30
"""Minus this is below every logit of a real pair, yet finite, so that no difference is NaN."""
NEGLIGIBLE = 60.0
"""exp(-60) = 9e-27 is nothing beside a term 1; smaller terms would be slow denormal numbers."""


class Ranks:
    """The ranks that share a batch, and the rows that each of them holds.

    Collective: every rank calls the same methods in the same order.

    Attributes:
        group: the ranks; None: this process alone holds the whole batch.
        counts: rows on every rank, in rank order; their sum is N.
        first: index of this rank's first row among the N.
    """

    def __init__(
        self, local: Tensor, per_rank: Sequence[int] | None, group: dist.ProcessGroup | None
    ) -> None:
        """Exchange the row counts, unless they are known.

        Args:
            local: (n, ...) rows of this rank.
            per_rank: the counts, if the caller knows them. Otherwise they are exchanged, which
                costs a small collective and, on an accelerator, a host synchronisation.
            group: the ranks that share the batch; None means this process alone.

        Raises:
            ValueError: the known counts do not fit this rank's rows.
        """
        rank, rows, self.group = 0, local.shape[0], group
        if group is None:
            self.counts = [rows]
        else:
            rank, ranks = dist.get_rank(group), dist.get_world_size(group)
            self.counts = list(per_rank) if per_rank is not None else self._exchanged(local, ranks)
            if len(self.counts) != ranks or self.counts[rank] != rows:
                raise ValueError(f"rank {rank} of {ranks} has {rows} rows, not as in {self.counts}")
        self.first = sum(self.counts[:rank])

    def _exchanged(self, local: Tensor, ranks: int) -> list[int]:
        mine = torch.tensor([local.shape[0]], device=local.device)
        counts = [torch.zeros_like(mine) for _ in range(ranks)]
        dist.all_gather(counts, mine, group=self.group)
        return [int(count) for count in torch.cat(counts).tolist()]

    def gather(self, local: Tensor) -> Tensor:
        """(N, ...) rows of all ranks stacked in rank order; the copies carry no gradient.

        Ranks may hold different numbers of rows, none included: rows are padded to the largest
        count for the collective, since not every backend gathers uneven tensors.
        """
        if self.group is None:
            return local.detach()
        padded = local.new_zeros(max(self.counts), *local.shape[1:])
        padded[: local.shape[0]] = local.detach()
        received = [torch.empty_like(padded) for _ in self.counts]
        dist.all_gather(received, padded, group=self.group)
        return torch.cat([rows[:n] for rows, n in zip(received, self.counts, strict=True)])

    def gather_with_gradient(self, local: Tensor) -> Tensor:
        """(N, ...) rows of all ranks, of which this rank's carry their gradient."""
        if self.group is None:
            return local
        gathered = self.gather(local)
        after = self.first + local.shape[0]
        return torch.cat([gathered[: self.first], local, gathered[after:]])

    def sum(self, value: Tensor) -> Tensor:
        """Sum of a tensor of any shape over the ranks, in place."""
        if self.group is not None:
            dist.all_reduce(value, group=self.group)
        return value

    def mean(self, local_sum: Tensor) -> Tensor:
        """Mean over the N rows of what each rank summed over its own; 0 without a row.

        The value is that of all ranks, the gradient that of this rank's rows.
        """
        local = local_sum / self.total
        return local + (self.sum(local.detach().clone()) - local.detach())

    @property
    def total(self) -> int:
        """N, but 1 without a row: what a sum over rows is divided by."""
        return max(sum(self.counts), 1)


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, unit_nD: Tensor, loss: Tensor, gradient_nD: Tensor) -> Tensor:
        ctx.save_for_backward(gradient_nD)
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient_nD,) = ctx.saved_tensors
        return upstream[0] * gradient_nD, None, None


def with_gradient(unit_nD: Tensor, loss: Tensor, gradient_nD: Tensor) -> Tensor:
    """The loss, whose backward pass only scales a gradient that was computed along with it."""
    attached: Tensor = _WithGradient.apply(unit_nD, loss, gradient_nD)
    return attached


def wide_rows(outputs_nD: Tensor, labels_n: Tensor) -> Tensor:
    """Projections or logits in at least float32. The labels check the shapes only.

    Raises:
        ValueError: the shapes of rows and labels do not fit.
    """
    if outputs_nD.ndim != 2 or labels_n.shape != outputs_nD.shape[:1]:
        raise ValueError(
            "projections must be (rows, dims), logits (rows, classes) and labels (rows,), "
            f"got {tuple(outputs_nD.shape)} and {tuple(labels_n.shape)}"
        )
    return outputs_nD.to(torch.promote_types(outputs_nD.dtype, torch.float32))


def unit_rows(projections_nD: Tensor, labels_n: Tensor) -> Tensor:
    """Rows of length one in at least float32, with gradient through the normalisation.

    Autocast is ignored; a zero row stays zero.

    Raises:
        ValueError: see `wide_rows`.
    """
    with torch.autocast(projections_nD.device.type, enabled=False):
        return F.normalize(wide_rows(projections_nD, labels_n), dim=1)


def scalar_like(tensor: Tensor, number: float | Tensor) -> Tensor:
    """A float or 0-d tensor as a 0-d tensor of another tensor's device and dtype.

    Without a copy from host memory; a gradient is cut.
    """
    if isinstance(number, Tensor):
        return number.detach().to(tensor.device, tensor.dtype, non_blocking=True)
    return tensor.new_full((), number)


def row_strips(rows: int, columns: int, device: torch.device) -> Iterator[slice]:
    """Consecutive slices that cut a rows x columns matrix into strips of bounded size.

    The device decides how many entries a strip may hold.
    """
    # On a CPU low strips stay in the second-level cache; they grow a little with the width, because
    # a strip also touches every row of the gradient.
    on_cpu = device.type == "cpu"
    height = (
        min(max(columns // 16, 96), 256) if on_cpu else max(64, _STRIP_ENTRIES // max(columns, 1))
    )
    for start in range(0, rows, height):
        yield slice(start, min(start + height, rows))
