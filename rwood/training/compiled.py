"""Whether a run's network and views are compiled, and what becomes of them where they cannot be."""

import functools
from collections.abc import Callable
from typing import Literal

import torch


def compiles(
    wish: bool | Literal["auto"], device: torch.device, note: Callable[[str], None]
) -> bool:
    """True if a run is to be compiled: it is asked for, and torch can compile for the device.

    `auto` asks for it on a GPU. Where torch cannot, a note says why. A network that the compiler
    does not understand runs as it is, and torch's log says why.
    """
    if wish is False or (wish == "auto" and device.type != "cuda"):
        return False
    reason = _why_not(device.type)
    if reason is not None:
        note(f"compile: torch cannot compile here ({reason}); network and views run uncompiled")
        return False
    import torch._dynamo  # a second of work, which nobody needs who does not compile
    import torch._functorch.config

    torch._dynamo.config.suppress_errors = True
    # With the forward pass, where an error is suppressed; else a step would end the run with it.
    torch._functorch.config.force_non_lazy_backward_lowering = True
    # Two batch shapes for each width, batch size or fold that a process meets; after 8 torch would
    # run what is new uncompiled, without a word.
    torch._dynamo.config.recompile_limit = 64
    return True


@functools.cache
def _why_not(kind: str) -> str | None:
    """What torch says when it compiles a line for a kind of device; None if it works."""
    try:
        torch.compile(lambda x: x.sin() + 1, dynamic=False)(torch.ones(64, device=kind))
    except Exception as error:  # of the compiler, of Triton, of a C++ compiler that is not there
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"{type(error).__name__}: {lines[0] if lines else 'no reason'}"
    return None
