"""Steps replayed from a graph, with a graph that a CPU can capture and replay."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rwood.data.loaders import Batch
from rwood.model.precision import Precision
from rwood.training import compiled
from rwood.training import graph as graphs
from rwood.training import train as loop
from rwood.training.begin import Task, begin
from rwood.training.graph import CapturedStep, GraphedStep, TakeStep
from rwood.training.state import RunState
from rwood.training.train import take_step, train_epoch
from rwood.training.worker import LocalWorker
from tests.fake_cuda import GPU, fake_cuda
from tests.tiny import tiny
from tests.training.a_step import steps_of, task_of

CPU = torch.device("cpu")
EPOCHS = 4
STATELESS = ("reweightood", "supcon", "cross_entropy")


class Tape(TorchDispatchMode):
    """What a CUDA graph is, of CPU kernels: the same operations on the same places in memory.

    While it is captured, reading a value fails, as on a GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.played = 0
        self._operations: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if operation is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        made = operation(*args, **(kwargs or {}))
        given = {_place(leaf) for leaf in _tensors((args, kwargs))}
        fresh = [leaf for leaf in _tensors(made) if _place(leaf) not in given]
        self._operations.append((operation, args, kwargs or {}, fresh))
        return made

    def replay(self) -> None:
        self.played += 1
        with torch.no_grad():
            for operation, args, kwargs, fresh in self._operations:
                made = operation(*args, **kwargs)
                given = {_place(leaf) for leaf in _tensors((args, kwargs))}
                again = [leaf for leaf in _tensors(made) if _place(leaf) not in given]
                for place, value in zip(fresh, again, strict=True):
                    place.copy_(value)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@pytest.fixture(autouse=True)
def a_loss_scale_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that grows, and is too large now and then."""
    monkeypatch.setattr(
        Precision,
        "scaler",
        lambda self: torch.amp.GradScaler(self.device.type, init_scale=2.0**127, growth_interval=2),
    )


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> list[Tape]:
    """Every graph that is captured from now on."""
    made: list[Tape] = []

    def captured(step: Callable[[], Tensor]) -> tuple[Tape, Tensor]:
        tape = Tape()
        try:
            with tape:
                loss = step()
        except RuntimeError:
            raise RuntimeError("operation failed due to a previous error during capture")  # noqa: B904
        made.append(tape)
        return tape, loss

    monkeypatch.setattr(graphs, "captured", captured)
    return made


def begun(folder: Path, loss: str, device: torch.device) -> tuple[Task, RunState]:
    """A run whose own steps are plain ones, on a GPU too."""
    study = tiny(
        folder, run__loss={"name": loss}, run__epochs=EPOCHS, run__compile=False, search=None
    )
    task = task_of(study, LocalWorker(folder, device), folder)
    return task, begin(task, "float32")


def train(
    folder: Path,
    loss: str,
    how: Callable[[TakeStep, RunState], TakeStep] = lambda plain, state: plain,
    device: torch.device = CPU,
) -> RunState:
    """Some epochs of three batches, the last of which is smaller."""
    task, state = begun(folder, loss, device)
    step_with = how(steps_of(task, state), state)
    losses: list[float] = []
    for epoch in range(EPOCHS):
        train_epoch(task, state, step_with, epoch, keep=lambda: None)
        losses += state.losses
        state.losses = []
    state.losses = losses
    return state


@pytest.mark.parametrize("loss", STATELESS)
def test_replayed_steps_are_the_steps(tmp_path: Path, tapes: list[Tape], loss: str) -> None:
    notes: list[str] = []
    plain = train(tmp_path, loss)
    replayed = train(tmp_path, loss, lambda step, state: GraphedStep(step, state, notes.append))
    assert notes == []
    # Two batch sizes; of the smaller there is one an epoch.
    assert [tape.played for tape in tapes] == [2 * EPOCHS - 2, EPOCHS - 2]
    torch.testing.assert_close(replayed.losses, plain.losses, rtol=1e-5, atol=0)
    for one, other in zip(
        replayed.encoder.state_dict().values(), plain.encoder.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert replayed.scaler.state_dict() == plain.scaler.state_dict()
    assert all(isinstance(group["lr"], float) for group in replayed.optimizer.param_groups)


@pytest.mark.parametrize("where", ["before the weights change", "after"])
def test_a_step_that_waits_is_taken_plainly(tmp_path: Path, tapes: list[Tape], where: str) -> None:
    """The same numbers as without a graph, to the last bit, and one note that says why."""
    plain = train(tmp_path, "reweightood")
    notes: list[str] = []

    def waiting(step: TakeStep, state: RunState) -> TakeStep:
        weight = next(state.encoder.parameters())
        if where == "after":
            state.optimizer.register_step_post_hook(lambda *_: weight.sum().item())
        else:
            state.encoder.register_forward_hook(lambda *_: weight.sum().item() and None)
        return GraphedStep(step, state, notes.append)

    tried = train(tmp_path, "reweightood", waiting)
    assert notes == [
        "compile: this run's steps cannot be replayed from a CUDA graph (operation not permitted "
        "when stream is capturing); they run kernel by kernel"
    ]
    assert tapes == []
    assert tried.losses == plain.losses
    assert all(map(torch.equal, tried.encoder.parameters(), plain.encoder.parameters()))
    assert tried.scaler.state_dict() == plain.scaler.state_dict()


def test_a_step_that_is_not_the_same_again_is_taken_plainly(
    tmp_path: Path, tapes: list[Tape], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something that a graph does not hold decides what the step does."""
    real, calls = loop.loss_of, []

    def changes(*args: Any) -> Tensor:
        calls.append(1)
        return real(*args) * len(calls)

    monkeypatch.setattr(loop, "loss_of", changes)
    notes: list[str] = []
    train(tmp_path, "reweightood", lambda step, state: GraphedStep(step, state, notes.append))
    assert len(notes) == 1
    assert "a replay changed the weights otherwise" in notes[0]
    assert [tape.played for tape in tapes] == [1]


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("loss", STATELESS)
def test_what_is_captured_stays_on_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str, precision: str
) -> None:
    """With the learning rate on the device, nothing of a step is on the host."""
    study = tiny(tmp_path, run__loss={"name": loss}, run__precision=precision, search=None)
    worker = LocalWorker(tmp_path, GPU)
    monkeypatch.setattr(graphs, "captured", lambda step: (None, step()))
    with fake_cuda():
        task = task_of(study, worker, tmp_path)
        state = begin(task, None)
        plain = partial(take_step, task, state, state.encoder)
        images = torch.zeros(64, 1, 8, 8, device=GPU)
        labels = torch.zeros(64, dtype=torch.int64, device=GPU)
        batch = Batch(images, labels, 32, 8)
        plain(batch, 0.1)
        CapturedStep(plain, batch)
        assert all(group["lr"].device == GPU for group in state.optimizer.param_groups)
        assert all(p.grad is not None and p.grad.device == GPU for p in state.encoder.parameters())


@pytest.mark.parametrize("loss", ["reweightood", "palm"])
def test_who_replays(tmp_path: Path, loss: str) -> None:
    """A compiled run alone on a GPU, unless its loss carries something from step to step."""
    study = tiny(tmp_path, run__loss={"name": loss}, search=None)
    with fake_cuda():
        worker = LocalWorker(tmp_path, GPU)
        task = task_of(study, worker, tmp_path)
        state = begin(task, None)
        state.compiled = True
        step = steps_of(task, state)
        assert isinstance(step, GraphedStep) == (loss == "reweightood")
        state.compiled = False
        assert not isinstance(steps_of(task, state), GraphedStep)


def test_replayed_steps_are_compared_with_plain_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the test below too, which runs on a GPU only."""
    monkeypatch.setattr(compiled, "_why_not", lambda kind: None)
    with fake_cuda():
        assert not isinstance(steps_of(*begun(tmp_path, "reweightood", GPU)), GraphedStep)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("loss", STATELESS)
def test_replayed_steps_of_a_gpu_are_the_steps(tmp_path: Path, loss: str) -> None:
    notes: list[str] = []
    plain = train(tmp_path, loss, device=GPU)
    replayed = train(
        tmp_path, loss, lambda step, state: GraphedStep(step, state, notes.append), device=GPU
    )
    assert notes == []
    torch.testing.assert_close(replayed.losses, plain.losses, rtol=1e-3, atol=0)
