"""What a training asks of a loss: a module made of its settings; rows and labels in, a scalar out.

Legend of shape suffixes: M rows (views) of this rank, N rows of all ranks, D dims, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Rows:
    """How the rows of a batch lie over the ranks.

    Attributes:
        group: ranks that share the batch; None: the rows given are the whole batch.
        per_rank: row counts in rank order; None without a group.
        order_N: (N,) rows of all ranks, numbered in rank order, in the order that one rank alone
            would have; None: as they come.
        largest_class: at least the largest number of rows of one class; None if unknown.
    """

    group: dist.ProcessGroup | None = None
    per_rank: Sequence[int] | None = None
    order_N: Tensor | None = None
    largest_class: int | None = None


WHOLE = Rows()
"""The rows given are the whole batch."""


class Loss(nn.Module):
    """A loss over the rows of all ranks.

    A subclass takes its settings as keywords; `classes` (number of ID classes) and `dims` (length
    of a row) are filled in if it asks for them. What it carries from step to step is a buffer, and
    so in every checkpoint. Parameters, if it has any, are trained with the network's.

    `forward(outputs_MD, labels_M, rows)` takes this rank's unit projections (or (M, C) logits), its
    (M,) integer classes and a `Rows`; it returns a scalar, the same on every rank, with this rank's
    rows' complete gradient: parameter gradients are summed over ranks.

    `start(means_CD)`, if there is one, is called before the first step with the mean projection of
    each class over the ID train set, in evaluation mode and without augmentation.

    Any other module whose `forward` takes rows and labels is a loss too, of each rank's own rows.
    """

    is_classifier = False
    """Whether it sees logits, and not unit projections."""
    formula: Callable[..., Tensor]
    """The loss as a function of rows, labels, `group`, `rows_per_rank` and the settings."""

    def __init__(self, **settings: Any) -> None:
        """Keep the settings for `forward`."""
        super().__init__()
        self.settings = settings

    def forward(self, outputs_MD: Tensor, labels_M: Tensor, rows: Rows = WHOLE) -> Tensor:
        """The `formula`."""
        return type(self).formula(
            outputs_MD, labels_M, group=rows.group, rows_per_rank=rows.per_rank, **self.settings
        )
