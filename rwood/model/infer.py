"""Which network a checkpoint belongs to, from its keys and shapes."""

from collections.abc import Mapping

from torch import Tensor

from rwood.errors import DataError
from rwood.spec.run import ModelSpec


def infer_model(state: Mapping[str, Tensor]) -> tuple[ModelSpec, int]:
    """The network that a state dict was saved from, and the channels of its images.

    Args:
        state: keys of an encoder: `backbone.*`, `head.0.*`, `head.2.*`.

    Raises:
        DataError: no such network; classifiers have no head and cannot be scored this way.
    """
    head = state.get("head.2.weight")
    if head is None:
        raise DataError(
            "the checkpoint lacks head.2.weight: it is not an encoder with a projection head "
            "(ReweightOOD, CIDER or rwood)",
            key="head.2.weight",
        )
    stem = state.get("backbone.conv1.weight")
    if stem is None:
        first = next((v for k, v in state.items() if k.startswith("backbone.layer1")), head)
        spec = ModelSpec(backbone="small_cnn", width=first.shape[0], projection_dim=head.shape[0])
        return spec, first.shape[1]
    if "backbone.layer1.0.conv3.weight" in state:
        backbone = "resnet50"
    elif stem.shape[-1] == 7:
        backbone = "resnet18_224x224"
    else:
        backbone = "resnet18_32x32"
    spec = ModelSpec.model_validate(
        {"backbone": backbone, "width": stem.shape[0], "projection_dim": head.shape[0]}
    )
    return spec, stem.shape[1]
