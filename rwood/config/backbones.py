"""Which network a run trains: our backbones, timm's, and those of other people by name."""

import importlib
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny

from rwood.config.registry import PartConfig, find, read, settings_of
from rwood.text import nearest

GIVEN = frozenset({"channels", "timm_name"})
"""Parameters of a backbone that rwood fills in: channels of the images, 1 or 3."""
BACKBONES = {"small_cnn": 2, "resnet18_32x32": 8, "resnet18_224x224": 8, "resnet50": 32}
"""Our backbones -> length of an embedding, in widths."""
TIMM = "timm:"
"""What the name of a backbone of timm begins with."""
TIMM_PART = "rwood.model.timm_backbone:timm_backbone"


class ModelConfig(PartConfig):
    """The encoder: a backbone whose output is scored and a head that only the loss sees."""

    backbone: str
    """One of ours, of an entry point `rwood.backbones`, `package.module:Name`, or `timm:NAME`.

    `small_cnn` is for 8x8 digits; the others of ours carry OpenOOD's names.
    """
    width: int = Field(default=64, ge=4, le=256)
    """Channels of the first stage; 64 is the published ResNet."""
    projection_dim: int = Field(default=128, ge=2)
    """Length of the projection seen by the loss; a classifier has logits instead."""
    weights: str | None = None
    """File with backbone weights to start from (a plain state_dict), below the data root."""
    trainable: Literal["all", "layer4"] = "all"
    """`layer4`: only the last stage and the head are trained."""

    def __reduce__(self) -> tuple[Any, ...]:
        """By name and values: other people's settings are made when they are read."""
        return (load_model, (self.model_dump(mode="json"),))


def dim_of(model: ModelConfig) -> int | None:
    """Length of an embedding; None if only the network itself can tell."""
    factor = BACKBONES.get(model.backbone)
    return None if factor is None else model.width * factor


@lru_cache
def model_kind(backbone: str) -> type[ModelConfig]:
    """The settings of an encoder with some backbone.

    Raises:
        ValueError: there is no backbone of this name, or it cannot be imported.
    """
    if not backbone or backbone in BACKBONES:  # without a name the model says that it is missing
        return ModelConfig
    name = backbone
    if backbone.startswith(TIMM):
        _check_timm(backbone.removeprefix(TIMM))
        name = TIMM_PART
    found = find("backbones", name, (*BACKBONES, f"{TIMM}NAME"))
    return settings_of(found, backbone, ModelConfig, GIVEN, key="backbone")


def _check_timm(name: str) -> None:
    """Refuse a name that timm does not have."""
    try:
        names = importlib.import_module("timm").list_models()
    except ImportError as error:
        raise ValueError(
            f"backbone {TIMM}{name} needs timm ({error}): pip install 'rwood[timm]'"
        ) from error
    if name not in names:
        near = nearest(name, names, cutoff=0.6)
        hint = f"; did you mean {TIMM}{near}?" if near else ""
        raise ValueError(f"timm has no network called {name}{hint}")


def load_model(plain: Any) -> Any:
    """The settings of an encoder from plain ones; see `registry.read`."""
    return read(plain, model_kind, "", key="backbone")


AnyModel = Annotated[SerializeAsAny[ModelConfig], BeforeValidator(load_model)]
"""An encoder in a run or a detector."""
