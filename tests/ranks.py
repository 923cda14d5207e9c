"""Workers without Ray: processes of one fork server, which imports torch once for all."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch.multiprocessing as mp


def start_ranks(work: Callable[..., None], *args: Any, count: int) -> "mp.ProcessContext":
    """Run `work(rank, *args)` in `count` processes; `join()` waits and raises what one raised."""
    multiprocessing.set_forkserver_preload(["rwood.training.train", "torch._dynamo"])
    return mp.start_processes(work, args, count, join=False, start_method="forkserver")


def join(ranks: "mp.ProcessContext") -> None:
    """Wait until all have ended."""
    while not ranks.join():
        pass
