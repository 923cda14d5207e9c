"""Networks against the reference's numbers (`golden.json`) and torchvision's ResNet-50."""

import ast
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from rwood.config.backbones import ModelConfig
from rwood.model.encoder import Encoder, build_encoder, freeze

GOLDEN = json.loads((Path(__file__).parents[1] / "golden.json").read_text())["networks"]["nets"]


def fill(module: nn.Module, prefix: str = "") -> None:
    """Fill every tensor of a network from the name of its key."""
    for key, value in module.state_dict().items():
        g = np.random.default_rng(zlib.crc32((prefix + key).encode()))
        shape = tuple(value.shape)
        if key.endswith("num_batches_tracked"):
            new = np.zeros(shape)
        elif key.endswith("running_var"):
            new = 0.5 + g.random(shape)
        elif key.endswith("running_mean"):
            new = 0.1 * g.standard_normal(shape)
        elif value.ndim >= 2:
            new = g.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif key.endswith("weight"):
            new = 1 + 0.1 * g.standard_normal(shape)
        else:
            new = 0.1 * g.standard_normal(shape)
        value.copy_(torch.as_tensor(new))


def reference_encoder(name: str) -> Encoder:
    encoder = build_encoder(ModelConfig(backbone=name), channels=3, seed=0).double().eval()
    fill(encoder)
    return encoder


def residual_keys(name: str, convolutions: int, depths: tuple[int, ...], short: str) -> list[str]:
    """Keys of an OpenOOD checkpoint, in its order."""
    bn = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    keys = ["backbone.conv1.weight"] + [f"backbone.bn1.{k}" for k in bn]
    for stage, depth in enumerate(depths, 1):
        for block in range(depth):
            at = f"backbone.layer{stage}.{block}"
            for i in range(1, convolutions + 1):
                keys += [f"{at}.conv{i}.weight"] + [f"{at}.bn{i}.{k}" for k in bn]
            if block == 0 and (stage > 1 or name == "resnet50"):
                keys += [f"{at}.{short}.0.weight"] + [f"{at}.{short}.1.{k}" for k in bn]
    return keys + ["head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"]


@pytest.mark.parametrize("name", GOLDEN)
def test_forward_equals_the_reference(name: str) -> None:
    golden = GOLDEN[name]
    encoder = reference_encoder(name)
    shape = ast.literal_eval(golden["input"].partition("standard_normal")[2])
    x = torch.from_numpy(np.random.default_rng(40).standard_normal(shape))
    with torch.inference_mode():
        outputs = {
            "backbone": encoder.backbone(x),
            "intermediate": encoder.embed(x),
            "forward": encoder.project(x),
        }
    for what, output in outputs.items():
        assert output.dtype == torch.float64
        assert float(output.sum()) == pytest.approx(golden[f"{what}_sum"], rel=1e-9, abs=1e-9)
        assert output[0, :4].tolist() == pytest.approx(golden[f"{what}_row0_first4"], rel=1e-9)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18_32x32", residual_keys("resnet18_32x32", 2, (2, 2, 2, 2), "shortcut")),
        ("resnet18_224x224", residual_keys("resnet18_224x224", 2, (2, 2, 2, 2), "downsample")),
        ("resnet50", residual_keys("resnet50", 3, (3, 4, 6, 3), "downsample")),
    ],
)
def test_keys_are_openoods_in_openoods_order(name: str, expected: list[str]) -> None:
    encoder = build_encoder(ModelConfig(backbone=name, width=8), channels=3, seed=0)
    assert list(encoder.state_dict()) == expected
    assert len(expected) == (322 if name == "resnet50" else 124)


@pytest.mark.parametrize("name", GOLDEN)
def test_keys_shapes_and_counts_of_the_18_layer_networks(name: str) -> None:
    encoder = reference_encoder(name)
    golden = GOLDEN[name]
    assert sum(p.numel() for p in encoder.parameters()) == golden["params_cidernet"]
    assert sum(p.numel() for p in encoder.head.parameters()) == golden["params_head"]
    keys = [f"{key} {list(value.shape)}" for key, value in encoder.state_dict().items()]
    assert len(keys) == golden["n_state_dict_keys"]
    assert zlib.crc32("\n".join(keys).encode()) == golden["state_dict_keys_crc32"]
    config = ModelConfig(backbone=name, trainable="layer4")
    freeze(encoder, config)
    trained = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    assert trained == golden["trainable_when_only_layer4_and_head"]


def test_resnet50_is_torchvisions_network_with_a_head() -> None:
    config = ModelConfig(backbone="resnet50")
    encoder = build_encoder(config, channels=3, seed=0).double().eval()
    assert sum(p.numel() for p in encoder.parameters()) == 27_966_656
    shapes = {k: tuple(v.shape) for k, v in encoder.state_dict().items()}
    assert shapes["head.0.weight"] == (2048, 2048)
    assert shapes["head.2.weight"] == (128, 2048)
    fill(encoder)
    theirs = torchvision.models.resnet50()
    theirs.fc = nn.Identity()
    theirs = theirs.double().eval()
    theirs.load_state_dict(encoder.backbone.state_dict())
    x = torch.from_numpy(np.random.default_rng(40).standard_normal((2, 3, 96, 96)))
    with torch.inference_mode():
        ours, expected = encoder.backbone(x), theirs(x)
    assert ours.shape == (2, 2048)
    assert float((ours - expected).abs().max() / expected.abs().max()) < 1e-12


def test_shapes_of_the_stem_and_shortcuts() -> None:
    small = build_encoder(ModelConfig(backbone="resnet18_32x32"), channels=3, seed=0).state_dict()
    assert small["backbone.conv1.weight"].shape == (64, 3, 3, 3)
    assert small["backbone.layer3.0.shortcut.0.weight"].shape == (256, 128, 1, 1)
    large = build_encoder(ModelConfig(backbone="resnet18_224x224"), channels=3, seed=0).state_dict()
    assert large["backbone.conv1.weight"].shape == (64, 3, 7, 7)
    assert large["backbone.layer3.0.downsample.0.weight"].shape == (256, 128, 1, 1)


def test_small_cnn_halves_the_image_twice() -> None:
    encoder = build_encoder(ModelConfig(backbone="small_cnn", width=16), channels=1, seed=0)
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.out_channels, c.stride) for c in convolutions] == [
        (16, (1, 1)),
        (16, (2, 2)),
        (32, (1, 1)),
        (32, (2, 2)),
    ]
    assert encoder.dim == 32
    assert encoder.backbone(torch.zeros(2, 1, 8, 8)).shape == (2, 32)


@pytest.mark.parametrize("name", ["resnet18_224x224", "resnet50"])
def test_fresh_weights_follow_torchvisions_law(name: str) -> None:
    backbone = build_encoder(ModelConfig(backbone=name), channels=3, seed=0).backbone
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert float(module.weight.detach().std()) == pytest.approx(
                (2 / fan_out) ** 0.5, rel=0.05
            )
