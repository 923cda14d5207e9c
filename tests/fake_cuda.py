"""CUDA tensors on a machine without CUDA: they have a device, a shape and no values.

What the code does on a GPU is run, but for the kernels: an operation on tensors of two devices
fails, and so does whatever needs a value on the host, which on a GPU would wait for the device.
Private names of torch are used here alone; where they are gone, the tests skip and say so.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

GPU = torch.device("cuda", 0)


class HostWait(Exception):
    """A tensor of the device was wanted on the host."""


@contextmanager
def fake_cuda() -> Iterator[None]:
    """CPU tensors stay what they are; whatever is put on a CUDA device is fake."""
    if torch.__version__ < (2, 14):
        pytest.skip(f"fake CUDA tensors of torch {torch.__version__} ask for a driver")
    try:
        from torch._subclasses.fake_tensor import FakeTensorMode

        torch._C._ensureCUDADeviceGuardSet()
    except (ImportError, AttributeError) as error:
        pytest.skip(f"this torch has no fake tensors as they were in 2.14: {error}")
    change = torch.__future__.set_overwrite_module_params_on_conversion
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    with ExitStack() as patches:
        for name, stand_in in {
            "torch.cuda.is_available": lambda: True,
            "torch.cuda._lazy_init": lambda: None,
            "torch.cuda.mem_get_info": lambda *_: (80 * 2**30, 80 * 2**30),
            "torch.cuda.reset_peak_memory_stats": lambda *_: None,
            "torch.Tensor.pin_memory": lambda tensor: tensor,
            "torch.Tensor.backward": _backward,
        }.items():
            patches.enter_context(patch(name, stand_in))
        patches.callback(change, before)
        change(True)
        with _on_device(FakeTensorMode(allow_non_fake_inputs=True)):
            yield


def _on_device(fake: Any) -> Any:
    """A mode that sends to fake kernels what concerns a CUDA device, and leaves the rest alone."""
    from torch._subclasses.fake_tensor import FakeTensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves, tree_map

    def as_fake(leaf: Any) -> Any:
        real = isinstance(leaf, Tensor) and not isinstance(leaf, FakeTensor)
        return fake.from_tensor(leaf) if real else leaf

    class OnDevice(TorchDispatchMode):
        def __torch_dispatch__(
            self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = {key: v for key, v in (kwargs or {}).items() if key != "pin_memory"}
            there = any(isinstance(leaf, FakeTensor) for leaf in tree_leaves((args, kwargs)))
            asked = kwargs.get("device")
            asked = None if asked is None else torch.device(asked).type
            if not there and asked != "cuda":
                return operation(*args, **kwargs)
            if there and asked == "cpu":
                raise HostWait(f"{operation} brings a tensor to the host")
            if "_fused_sgd_" in str(operation):
                return None  # It changes its arguments, and has no stand-in without values.
            args, kwargs = tree_map(as_fake, (args, kwargs))
            with fake:
                return operation(*args, **kwargs)

    return OnDevice()


def _backward(self: Tensor) -> None:
    """The backward pass, node by node: torch's engine asks for a CUDA context."""
    waiting: dict[Any, list[Tensor | None]] = {self.grad_fn: [torch.ones_like(self)]}
    with torch.no_grad():
        for node in _in_order(self.grad_fn):
            given = waiting.pop(node, None)
            if given is None:
                continue
            if hasattr(node, "variable"):
                held = node.variable.grad
                node.variable.grad = given[0] if held is None else held + given[0]
                continue
            made = (node if callable(node) else node.apply)(*given)
            made = made if isinstance(made, tuple) else (made,)
            for (following, index), gradient in zip(node.next_functions, made, strict=False):
                if following is not None and gradient is not None:
                    _hand_on(waiting, following, index, gradient)


def _hand_on(waiting: dict[Any, Any], node: Any, index: int, gradient: Tensor) -> None:
    """Add a gradient to those that wait for a node, in the shape and dtype of its output."""
    wanted = node._input_metadata[index]
    if gradient.shape != wanted.shape:
        gradient = gradient.sum_to_size(wanted.shape)
    slots = waiting.setdefault(node, [])
    slots += [None] * (index + 1 - len(slots))
    gradient = gradient.to(wanted.dtype)
    slots[index] = gradient if slots[index] is None else slots[index] + gradient


def _in_order(last: Any) -> list[Any]:
    """Nodes of a graph, each before those that it hands its gradients to."""
    order: list[Any] = []
    seen = set()
    stack = [(last, False)]
    while stack:
        node, left = stack.pop()
        if left:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(following, False) for following, _ in node.next_functions if following]
    return order[::-1]
