"""Whose fault a failure is, and what is said of a dead worker."""

import pytest
import torch

from rwood.errors import DataError, NonFiniteLossError, StudyError
from rwood.ray_backend.failures import cause_of_death, kind_of, one_line

LOST = (
    "The actor died because its worker process has died. Worker exit type: SYSTEM_ERROR Worker "
    "exit detail: Worker unexpectedly exits with a connection error code 2. End of file. There are "
    "some potential root causes. (1) The process is killed by SIGKILL by OOM killer due to high "
    "memory usage. (2) ray stop --force is called."
)
MEMORY = (
    "Task was killed due to the node running low on memory. Memory on the node (IP: 10.0.0.1) was "
    "95.2 GB / 96.0 GB"
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NonFiniteLossError("the loss became nan"), "setting"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "setting"),
        (MemoryError(), "setting"),
        (ValueError("boom"), "setting"),
        (StudyError("no"), "setting"),
        (RuntimeError("shapes do not match"), "setting"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "environment"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "environment"),
        (RuntimeError("NCCL error in: ncclCommAbort"), "environment"),
        (DataError("x.png is not an image"), "environment"),
        (OSError(5, "Input/output error"), "environment"),
    ],
)
def test_what_a_setting_does_is_apart_from_what_a_machine_does(
    error: BaseException, kind: str
) -> None:
    assert kind_of(error) == kind


def test_the_cause_of_death_is_one_sentence() -> None:
    assert "SIGKILL" in cause_of_death(LOST)
    assert "ran out of memory" in cause_of_death(MEMORY)
    assert cause_of_death("Task failed: node died unexpectedly") == "its node died"
    assert cause_of_death("The actor's node was preempted.") == "its node was preempted"
    assert cause_of_death(None) == "its worker died, and Ray does not say why"
    assert "\n" not in cause_of_death("one\ntwo")


def test_what_a_trainings_own_code_raised_is_told_as_it_is() -> None:
    text = (
        "ray::ImplicitFunc.train() (pid=7, ip=127.0.0.1)\n  File train.py, line 3, in step\n"
        "RuntimeError: CUDA error: device-side assert triggered\nCUDA kernel errors might be"
    )
    assert cause_of_death(text) == "RuntimeError: CUDA error: device-side assert triggered"
    assert one_line(ValueError()) == "ValueError"
