"""What `rwood check` says a study costs."""

import math
from typing import Any

import pytest

from rwood.config.backbones import ModelConfig, dim_of
from rwood.config.benchmark import BenchmarkConfig
from rwood.config.load import load_study
from rwood.config.study import StudyConfig
from rwood.cost import NETWORKS, data_sentence, estimate, expected_epochs, memory_sentence
from rwood.model.encoder import build_encoder, freeze
from tests.conftest import STUDIES


def study(name: str, **changes: Any) -> StudyConfig:
    """A shipped study with dotted settings replaced (dots written as `__`)."""
    plain = load_study(STUDIES / f"{name}.yaml").model_dump()
    for key, value in changes.items():
        *parents, leaf = key.split("__")
        node = plain
        for part in parents:
            node = node[part]
        node[leaf] = value
    return StudyConfig.model_validate(plain)


def lines(config: StudyConfig, speed: float | None = 1000.0) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in estimate(config, speed))


def test_imagenet_data_memory_and_hours() -> None:
    told = lines(study("imagenet1k"))
    train, others = 1_281_167, 5_000 + 45_000 + 1_763 + 49_000 + 5_879 + 10_000 + 5_160 + 15_869
    others += 10_000 + 10_000 + 30_000
    assert f"{train + others:,} images" in told["data"]
    gigabytes = (others * (224 * 224 * 3 + 8) + 11 * 4096) / 1e9
    assert f"{gigabytes:,.1f} GB of packs" in told["data"]
    assert "decoded when read: id.train (192.9 GB decoded)" in told["data"]
    epochs = 12 * (3 + (9 - 3) / 3 + (30 - 9) / 9) + 6 * 30
    trained = train * epochs
    assert f"about {trained:,.0f} training images" in told["cost"]
    validations = math.ceil((epochs - 180) / 3) + 6 * 10
    scored = validations * (train + 5_000 + 1_763) + 6 * (train + others - 1_763)
    assert f"and {scored:,} to score" in told["cost"]
    hours = (trained + 0.4 * scored) / 1000 / 3600
    assert f"about {hours:,.1f} GPU hours at 1,000 images/s a worker" in told["time"]
    assert f"{hours / 2:,.1f} by the clock on 2 workers" in told["time"]


def test_seeds_and_objectives_cost() -> None:
    told = lines(study("digits-front", finals=None))
    assert told["search"].startswith("16 trials of 3 seeds, about 299 of 960 epochs")
    assert told["search"].endswith("objectives val/mixed/auroc, val/jigsaw/auroc, val/nearest_mean")
    epochs = 16 * 3 * (3 + (9 - 3) / 3 + (20 - 9) / 9) + 6 * 20
    assert f"about {759 * epochs:,.0f} training images" in told["cost"]
    scored = math.ceil(epochs) * (759 + 5 * 253) + 6 * (759 + 253 + 252 + 174 + 180 + 300 + 252)
    assert f"and {scored:,} to score" in told["cost"], "derived sets have as many images as id.val"
    one = study("digits-front", search__objective="val/auroc", search__seeds=())
    assert lines(one)["search"].startswith("16 trials, about 100 of 320 epochs")
    assert expected_epochs(one) < 20


def test_a_searched_number_of_epochs_is_said_not_to_be_counted() -> None:
    space = {"epochs": {"low": 10, "high": 100}}
    told = lines(study("digits-margins", search__space=space, search__pruner=None))
    assert told["epochs"] == "searched; all below counts the base run's 20"
    assert told["search"].startswith("24 trials, about 480 of 480 epochs")
    assert "epochs" not in lines(study("digits-margins"))


def test_memory_follows_batch_workers_width_and_what_learns() -> None:
    def told(**changes: Any) -> tuple[float, ...]:
        words = memory_sentence(study("imagenet1k", **changes)).split()
        return tuple(float(a.replace(",", "")) for a, b in zip(words, words[1:], strict=False)
                     if b == "GB")  # fmt: skip

    train, score = told()
    assert 5 < train < 15, "only the last stage keeps what its backward pass needs"
    assert score == pytest.approx(1_281_167 * 2048 * 4 / 1e9 + 0.3, abs=0.1)
    twice = told(rerun__scorers=("rmds",))[1]
    assert twice == pytest.approx(2 * score - 0.3, abs=0.2), "rows with and without their length"
    whole = told(run__model__trainable="all")[0]
    assert whole > 4 * train
    assert told(run__model__trainable="all", cluster__workers=4)[0] < 0.6 * whole
    assert told(run__model__trainable="all", run__precision="float32")[0] > 1.8 * whole
    assert told(run__model__trainable="all", run__model__width=16)[0] < 0.3 * whole


@pytest.mark.parametrize("name", NETWORKS)
def test_the_table_of_networks_is_true(name: str) -> None:
    row = NETWORKS[name]
    config = ModelConfig(backbone=name, width=row.width, trainable="layer4")  # type: ignore[arg-type]
    encoder = build_encoder(config, channels=1 if name == "small_cnn" else 3, seed=0)
    assert encoder.dim == dim_of(config)
    total = sum(p.numel() for p in encoder.parameters())
    assert total == pytest.approx(row.parameters, rel=0.05)
    freeze(encoder, config)
    learns = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    assert learns == pytest.approx(row.last_stage, rel=0.05)


def test_subsets_count_their_images() -> None:
    small = study("cifar10-jpeg")
    told = lines(small)
    assert told["data"].startswith("12,000 images; 37.0 MB of packs")
    assert "unknown" not in told["data"]
    epochs = expected_epochs(small) * 4 + 2 * 3
    assert f"about {5000 * epochs:,.0f} training images" in told["cost"]


def test_embedded_sets_need_no_pack() -> None:
    told = lines(study("digits-margins"), None)
    assert told["data"] == "2,649 images"
    assert "time" not in told


def test_sets_of_unknown_size_are_said_to_be_unknown() -> None:
    told = lines(study("imagenet200"))
    assert "and 1 set of unknown size" in told["data"]
    assert "epochs of id.train; how many images it has, nobody says" in told["cost"]
    assert "time" not in told
    plain = study("digits-margins").benchmark.model_dump()
    plain["near"] = {"mine": {"folder": "mine"}, "some": {"of": {"folder": "mine"}, "images": 9}}
    words = data_sentence(BenchmarkConfig.model_validate(plain))
    assert words.startswith(f"{2649 - 174 - 180 + 9:,} images, and 1 set of unknown size")


def test_a_study_without_a_search_and_a_shared_gpu() -> None:
    told = lines(study("cifar10-paper"))
    assert "search" not in told
    assert told["benchmark"] == "3 reruns of 100 epochs"
    shared = lines(study("cifar10", cluster__gpus_per_worker=0.5, cluster__max_concurrent=2))
    whole = lines(study("cifar10"))
    hours = [float(t["time"].split()[1].replace(",", "")) for t in (shared, whole)]
    assert hours[0] == pytest.approx(hours[1] / 2, rel=0.02)
