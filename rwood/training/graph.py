"""Steps that a GPU replays from a CUDA graph: one launch instead of hundreds.

A graph repeats kernels on fixed places in memory. So a batch and its learning rate are copied to
where the graph reads them, and what else a step changes (weights, momenta, statistics, the loss
scale) is changed in place.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from rwood.data.loaders import Batch
from rwood.text import first_line
from rwood.training.state import RunState

STEPS_BEFORE = 2
"""Plain steps with a batch size before one is captured: cuDNN has chosen, the compiler is done."""
CLOSE = 0.05
"""Largest relative difference between what a replayed and a plain step do to the same weights:
sums in another order, in half precision."""

Check = Callable[[list[float]], None]
"""Raises if a loss is not finite."""


class TakeStep(Protocol):
    """How a run takes a step."""

    def __call__(self, batch: Batch, rate: float | Tensor, check: Check | None = None) -> Tensor:
        """Change the weights by the gradient of one batch.

        Args:
            batch: this worker's share.
            rate: learning rate; while a step is captured, a scalar on the device.
            check: what the loss must pass before the weights change, where it can be asked for
                without waiting for a GPU.

        Returns:
            The loss: a scalar on the device, without gradient. A GPU was not waited for.
        """


class GraphedStep:
    """Takes the steps of a run, from a graph for each batch size once there is one.

    The first replay is compared with a plain step from the same weights. Where torch cannot capture
    the step, or the two differ, a note says so and every step is a plain one.
    """

    def __init__(self, plain: TakeStep, state: RunState, note: Callable[[str], None]) -> None:
        """Nothing is captured yet.

        Args:
            plain: takes a step kernel by kernel, and waits for nothing.
            state: what a step changes.
            note: says a sentence to whoever watches.
        """
        self._plain, self._state, self._note = plain, state, note
        self._graphs: dict[int, CapturedStep] = {}
        self._taken: dict[int, int] = {}
        self._gave_up = False

    def __call__(self, batch: Batch, rate: float | Tensor, check: Check | None = None) -> Tensor:
        """See `TakeStep`; nothing is checked, since that would wait."""
        views = len(batch.labels)
        if views in self._graphs:
            return self._graphs[views].replay(batch, rate)
        self._taken[views] = self._taken.get(views, 0) + 1
        if self._gave_up or self._taken[views] <= STEPS_BEFORE:
            return self._plain(batch, rate)
        return self._capture(batch, rate)

    def _capture(self, batch: Batch, rate: float | Tensor) -> Tensor:
        """Take a plain step, and keep a graph of it if that would have done the same."""
        before = _Snapshot(self._state)
        loss = self._plain(batch, rate)
        after = _Snapshot(self._state)
        try:
            graph = CapturedStep(self._plain, batch)
            before.restore()
            replayed = graph.replay(batch, rate)
            apart = after.distance(before)
            if not (apart <= CLOSE and torch.isclose(replayed, loss, rtol=CLOSE)):
                raise RuntimeError(f"a replay changed the weights otherwise, by {apart:.2g}")
            self._graphs[len(batch.labels)] = graph
        except RuntimeError as error:
            self._gave_up = True
            self._graphs.clear()
            after.forget_half_a_step()
            # The end of a capture that failed raises too, and knows less than what broke it.
            reason = first_line(error.__context__ or error)
            self._note(
                f"compile: this run's steps cannot be replayed from a CUDA graph ({reason}); they "
                "run kernel by kernel"
            )
        after.restore()
        for group in self._state.optimizer.param_groups:
            group["lr"] = rate  # a number again, for checkpoints
        return loss


class CapturedStep:
    """The graph of a step."""

    def __init__(self, plain: TakeStep, batch: Batch) -> None:
        """Capture a step with a batch of some size; nothing is computed.

        Raises:
            RuntimeError: torch cannot.
        """
        self._batch = batch._replace(images=batch.images.clone(), labels=batch.labels.clone())
        self._rate = torch.zeros((), device=batch.images.device)
        self._graph, self._loss = captured(lambda: plain(self._batch, self._rate))

    def replay(self, batch: Batch, rate: float | Tensor) -> Tensor:
        """Take the step with another batch of that size; its loss."""
        self._batch.images.copy_(batch.images)
        self._batch.labels.copy_(batch.labels)
        self._rate.fill_(rate)
        self._graph.replay()
        return self._loss.clone()


def captured(step: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """The CUDA graph of a step, and where its replays leave the loss.

    Raises:
        RuntimeError: torch cannot.
    """
    graph = torch.cuda.CUDAGraph()
    # Only this thread is watched: another may write a checkpoint meanwhile. The outer context
    # leads back from a capture that failed, after which torch stays on the inner one's stream.
    with (
        torch.cuda.stream(torch.cuda.current_stream()),
        torch.cuda.graph(graph, capture_error_mode="thread_local"),
    ):
        loss = step()
    return graph, loss


class _Snapshot:
    """Values of what a step changes."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._values = [place.clone() for place in _places(state)]
        self._scale = state.scaler.state_dict()

    def restore(self) -> None:
        """Go back to the values, in place."""
        with torch.no_grad():
            for place, value in zip(_places(self._state), self._values, strict=True):
                place.copy_(value)
        self._state.scaler.load_state_dict(self._scale)

    def forget_half_a_step(self) -> None:
        """Take a new loss scale, and from the optimiser what the old one left there."""
        self._state.scaler = self._state.precision.scaler()
        self._state.scaler.load_state_dict(self._scale)
        for name in ("grad_scale", "found_inf"):
            vars(self._state.optimizer).pop(name, None)

    def distance(self, start: "_Snapshot") -> float:
        """From the state's weights to these, as a share of the way from the start to these."""
        count = len(list(self._state.encoder.parameters()))
        here, there, begun = (
            torch.cat([value.double().flatten() for value in values[:count]])
            for values in (_places(self._state), self._values, start._values)
        )
        apart, moved = float((here - there).norm()), float((there - begun).norm())
        return apart / moved if moved else apart


def _places(state: RunState) -> list[Tensor]:
    """Weights, statistics of batch norm, what the loss learns, momenta."""
    momenta = [held.get("momentum_buffer") for held in state.optimizer.state.values()]
    modules = [*state.encoder.parameters(), *state.encoder.buffers(), *state.loss.parameters()]
    return [place.detach() for place in (*modules, *momenta) if place is not None]
