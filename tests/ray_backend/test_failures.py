"""Whose fault a failure is, and what is said of a dead worker."""

import pytest
import torch
from ray.exceptions import ActorDiedError, NodeDiedError, RayTaskError

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
    def died(text: str) -> ActorDiedError:
        error = ActorDiedError()
        error.args = (text,)
        error.error_msg = text
        return error

    assert "SIGKILL" in cause_of_death(died(LOST))
    assert "ran out of memory" in cause_of_death(died(MEMORY))
    assert cause_of_death(NodeDiedError("Task failed: node died")) == "its node died"
    assert cause_of_death(None) == "its worker died, and Ray does not say why"
    assert "\n" not in cause_of_death(died("one\ntwo"))
    preempted = ActorDiedError()
    preempted._preempted = True
    assert cause_of_death(preempted) == "its node was preempted"


def test_what_a_trainings_own_code_raised_is_told_as_it_is() -> None:
    cause = RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be")
    error = RayTaskError("train", "Traceback ...", cause)
    assert cause_of_death(error) == "RuntimeError: CUDA error: device-side assert triggered"
    assert one_line(ValueError()) == "ValueError"
