"""Why a training ended badly: the setting's own fault, or that of its surroundings.

What a setting does (a loss that becomes NaN, a batch that does not fit the device) it does again:
it is recorded and not repeated. What its surroundings do (a killed process, a lost node, a GPU that
answers nothing any more, a missing file) may not happen again, in another process: the process is
not used for another training, and the training is continued from its checkpoint.
"""

import re

import torch
from ray.exceptions import RayError

from rwood.errors import DataError, RwoodError
from rwood.results import FailureKind
from rwood.text import first_line

_DEVICE = (
    "CUDA error",
    "cuDNN error",
    "CUDNN_STATUS",
    "CUBLAS_STATUS",
    "NCCL",
    "device-side assert",
)
"""What torch says when a GPU or its library is broken for the rest of the process."""


def kind_of(error: BaseException, *, alone: bool = True) -> FailureKind:
    """Whose fault an exception of a training is.

    Args:
        error: raised by one of its processes.
        alone: False for a rank of several: what nobody foresaw may be the death of another rank.
    """
    if isinstance(error, DataError | OSError | RayError):
        return "environment"
    if isinstance(error, RwoodError | torch.OutOfMemoryError | MemoryError):
        return "setting"
    broken = isinstance(error, RuntimeError) and any(mark in str(error) for mark in _DEVICE)
    return "environment" if broken or not alone else "setting"


def one_line(error: BaseException) -> str:
    """The first line of what an exception says; its type before it where it is not ours."""
    line, kind = first_line(error), type(error).__name__
    return line if isinstance(error, RwoodError) or line == kind else f"{kind}: {line}"


def cause_of_death(text: str | None) -> str:
    """Why a worker is gone, in a line.

    Args:
        text: what Ray says of it; None if it left nothing.
    """
    if not text:
        return "its worker died, and Ray does not say why"
    for marks, cause in _CAUSES:
        if any(mark in text for mark in marks):
            return cause
    raised = re.search(r"^[\w.]*(?:Error|Exception)\b: .+$", text, re.MULTILINE)
    return raised[0] if raised else f"its worker died: {' '.join(text.split())[:300]}"


_CAUSES = (
    (("preempted",), "its node was preempted"),
    (("low on memory", "OutOfMemoryError", "memory usage threshold"),
     "its worker was killed by Ray's memory monitor: the node ran out of memory"),
    (("node died", "node was terminated", "Node died", "node failure", "node is dead"),
     "its node died"),
    (("ray.kill", "intentional"), "its worker was ended by rwood or an administrator"),
    (("connection error code", "SIGKILL", "crashed unexpectedly"),
     "its worker process was killed or crashed (SIGKILL, the kernel's memory killer, or a "
     "segmentation fault)"),
)  # fmt: skip
