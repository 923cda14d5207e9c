import pytest
import torch
from torch import Tensor

from rwood.config.backbones import ModelConfig
from rwood.model.encoder import build_encoder, freeze

SMALL = ModelConfig(backbone="small_cnn", width=8, projection_dim=6)


@pytest.mark.parametrize("backbone", ["small_cnn", "resnet18_32x32", "resnet18_224x224"])
@pytest.mark.parametrize("count", [1, 3])
def test_rows_have_unit_length_whatever_the_batch(backbone: str, count: int) -> None:
    config = ModelConfig(backbone=backbone, width=4, projection_dim=6)
    encoder = build_encoder(config, channels=3, seed=0).eval()
    size = {"small_cnn": 8, "resnet18_32x32": 32, "resnet18_224x224": 64}[backbone]
    images = torch.rand(count, 3, size, size)
    for rows, width in ((encoder.embed(images), encoder.dim), (encoder(images), 6)):
        assert rows.shape == (count, width)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(count))


def test_embedding_is_the_backbones_output_without_the_head() -> None:
    encoder = build_encoder(SMALL, channels=1, seed=0).eval()
    images = torch.rand(2, 1, 8, 8)
    features = encoder.backbone(images)
    torch.testing.assert_close(encoder.embed(images), features / features.norm(dim=1, keepdim=True))
    hidden = torch.relu(features @ encoder.head[0].weight.T + encoder.head[0].bias)
    projected = hidden @ encoder.head[2].weight.T + encoder.head[2].bias
    torch.testing.assert_close(
        encoder.project(images), projected / projected.norm(dim=1, keepdim=True)
    )


def test_a_classifier_projects_to_its_logits() -> None:
    encoder = build_encoder(SMALL, channels=1, seed=0, classes=5).eval()
    assert build_encoder(SMALL, channels=1, seed=0).classifier is None
    images = torch.rand(3, 1, 8, 8)
    features = encoder.features(images)
    assert encoder.classifier is not None
    weight, bias = encoder.classifier
    torch.testing.assert_close(encoder(images), features @ weight.T + bias)
    assert torch.equal(encoder.embed(images), torch.nn.functional.normalize(features, dim=1))
    wide = ModelConfig(backbone="resnet18_32x32")
    whole = build_encoder(wide, channels=3, seed=0, classes=10)
    assert sum(p.numel() for p in whole.parameters()) == 11_173_962


def test_head_and_normalisation_stay_float32_under_autocast() -> None:
    encoder = build_encoder(SMALL, channels=1, seed=0)
    images = torch.rand(4, 1, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        projections, embeddings = encoder(images), encoder.embed(images)
    for rows in (projections, embeddings):
        assert rows.dtype == torch.float32
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(4), atol=1e-6, rtol=0)


def weights(seed: int) -> list[Tensor]:
    encoder = build_encoder(SMALL, channels=1, seed=seed)
    return [p.detach() for p in encoder.parameters()]


def test_weights_depend_on_the_seed_alone_and_leave_the_global_state() -> None:
    torch.manual_seed(1)
    first = weights(5)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again = weights(5)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], weights(6)[0])


def test_layer4_freezes_all_but_the_last_stage_and_the_head() -> None:
    config = ModelConfig(backbone="resnet18_32x32", trainable="layer4")
    encoder = build_encoder(config, channels=3, seed=0)
    freeze(encoder, config)
    trained = [p for p in encoder.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == 8_722_048
    named = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] + "." + name.split(".")[1] for name in named} == {
        "backbone.layer4",
        "head.0",
        "head.2",
    }
    assert all(module.training for module in encoder.modules())


def test_all_parameters_are_trained_by_default() -> None:
    encoder = build_encoder(SMALL, channels=1, seed=0)
    freeze(encoder, SMALL)
    assert all(p.requires_grad for p in encoder.parameters())
