"""Who sees which images when: an epoch's seeded order, cut into batches and workers' shares."""

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Share:
    """What one worker takes of one step."""

    rows_n: Tensor
    """(n,) int64 rows of the image set."""
    views_2n: Tensor
    """(2n,) int64 rows of the step's view parameters: first views, then second views."""
    batch_B: Tensor
    """(B,) int64 rows of the image set in the global batch."""
    epoch: int
    """0-based."""
    step: int
    """0-based, in the epoch."""

    @property
    def count(self) -> int:
        """B, images of the global batch."""
        return len(self.batch_B)


def shares(
    total: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    rank: int,
    world_size: int,
    first_step: int = 0,
) -> Iterator[Share]:
    """One worker's shares of an epoch (0-based), whose order follows from it and the run's seed.

    Steps before `first_step` are left out.
    """
    order_N = _order(total, seed, epoch)
    starts = range(first_step * batch_size, total, batch_size)
    for step, start in enumerate(starts, first_step):
        batch_B = order_N[start : start + batch_size]
        count = len(batch_B)
        first, end = edges(count, world_size)[rank : rank + 2]
        mine = torch.arange(first, end)
        yield Share(batch_B[mine], torch.cat([mine, count + mine]), batch_B, epoch, step)


def edges(count: int, world_size: int) -> list[int]:
    """First image of every worker's share of a global batch, and the end."""
    return [rank * count // world_size for rank in range(world_size + 1)]


@functools.lru_cache(maxsize=2)
def _order(total: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(total, generator=generator_of(f"order {seed} {epoch}"))


def generator_of(key: str) -> torch.Generator:
    """A CPU generator seeded by a text, so that what is drawn depends on nothing else."""
    digest = hashlib.sha256(key.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
