"""OpenOOD's checkpoints, both ways: plain state dicts with or without a DDP prefix.

The networks here carry OpenOOD's keys; what differs is what wraps the keys (`module.`), what
accompanies them, and that classifiers keep their backbone without a `backbone.` before its keys.
"""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rwood.errors import DataError
from rwood.model.backbone import OtherBackbone
from rwood.model.encoder import Encoder
from rwood.storage import written
from rwood.text import first_line


def load_openood_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict that OpenOOD, torchvision or rwood saved; tensors only, no code is run.

    Returns:
        Key of an encoder -> tensor on the CPU: without a `module.` prefix; a classifier's backbone
        below `backbone.` beside `fc.*`; a backbone alone, or a head's checkpoint, without `fc.*`.

    Raises:
        DataError: no such file, or not a state dict.
    """
    try:
        with path.open("rb") as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path}: no such checkpoint", file=str(path)) from None
    except pickle.UnpicklingError:  # whose message advises to run what is in the file
        raise DataError(
            f"{path} is not a checkpoint of tensors: it holds other objects, whose code would run",
            file=str(path),
        ) from None
    except Exception as error:  # Bytes that are no pickle make torch raise anything.
        reason = f"{path} is not a checkpoint of tensors ({first_line(error)})"
        raise DataError(reason, file=str(path)) from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise DataError(f"{path} is not a plain state dict (key -> tensor)", file=str(path))
    bare = {key.removeprefix("module."): value for key, value in state.items()}
    if "fc.weight" in bare and not any(key.startswith(("backbone.", "head.")) for key in bare):
        return {k if k.startswith("fc.") else f"backbone.{k}": v for k, v in bare.items()}
    return {k: v for k, v in bare.items() if not k.startswith(("fc.", "backbone.fc."))}


def openood_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An encoder's state dict under OpenOOD's keys: a classifier has no `backbone.`."""
    classifier = "fc.weight" in state
    return {key.removeprefix("backbone.") if classifier else key: v for key, v in state.items()}


def load_into(encoder: Encoder, state: Mapping[str, Tensor]) -> None:
    """Fill an encoder with a whole state dict.

    Raises:
        DataError: names the first key that is missing, unknown or of another shape.
    """
    _check(encoder, state)
    encoder.load_state_dict(state)


def load_backbone_weights(encoder: Encoder, path: Path) -> None:
    """Fill the backbone from a classifier's or an encoder's state dict; the head stays fresh.

    Raises:
        DataError: unreadable, or names the first key that does not fit.
    """
    state, backbone = load_openood_state(path), encoder.backbone
    network = backbone.network if isinstance(backbone, OtherBackbone) else nn.Module()
    own = network.state_dict().keys()  # as it was saved where rwood did not wrap it
    if any(key.startswith("backbone.") for key in state):
        state = {
            k.removeprefix("backbone."): v
            for k, v in state.items()
            if k.startswith("backbone.") or k in own
        }
    module = network if own & state.keys() else backbone
    _check(module, state)
    module.load_state_dict(state)


def save_openood_state(encoder: Encoder, path: Path) -> None:
    """Write a checkpoint that OpenOOD's evaluation reads: a plain state dict, all or nothing."""
    state = {k: v.detach().cpu().contiguous() for k, v in encoder.state_dict().items()}
    write_tensors(path, openood_state(state))


def write_tensors(path: Path, state: Mapping[str, Any]) -> None:
    """`torch.save` so that readers see the old file or the new one, never half of one."""
    buffer = io.BytesIO()  # torch says of a full disk something else than that it is full.
    torch.save(state, buffer)
    with written(path) as file:
        file.write(buffer.getbuffer())


def _check(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    wanted = module.state_dict()
    for key, value in wanted.items():
        if key not in state:
            raise DataError(f"the checkpoint lacks {key} {tuple(value.shape)}", key=key)
        if state[key].shape != value.shape:
            raise DataError(
                f"the checkpoint's {key} has shape {tuple(state[key].shape)}, the network's "
                f"{tuple(value.shape)}",
                key=key,
            )
    for key, value in state.items():
        if key not in wanted:
            raise DataError(
                f"the checkpoint's {key} {tuple(value.shape)} has no place in the network", key=key
            )
