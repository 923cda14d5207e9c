import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_recipes import GOLDEN

from rwood.method.losses import reweightood_loss
from rwood.method.schedule import learning_rate

PRESETS = {
    "cifar": {"lr": 0.1, "epochs": 100},
    "imagenet200": {"lr": 0.1, "epochs": 90},
    "imagenet1k": {"lr": 0.001, "epochs": 30},
    "step_decay": {"lr": 0.1, "epochs": 100, "decay": "step"},
    "cider_lr0.5": {"lr": 0.5, "epochs": 100},
}
CIFAR = {"steps_per_epoch": 98, **PRESETS["cifar"]}


def rates(epochs, **settings):
    return [
        learning_rate(epoch=epoch, step=step, epochs=epochs, **settings)
        for epoch in range(epochs)
        for step in range(settings["steps_per_epoch"])
    ]


@pytest.mark.parametrize("preset", PRESETS)
def test_reference_agrees_with_the_authors_code(preset):
    points = [point for point in GOLDEN["lr"]["points"] if point["preset"] == preset]
    assert len(points) > 10
    for point in points:
        rate = learning_rate(
            epoch=point["epoch_1based"] - 1,
            step=point["step_1based"] - 1,
            steps_per_epoch=point["T"],
            warmup="reference",
            **PRESETS[preset],
        )
        # Where the ramp crosses zero the digits cancel.
        assert rate == pytest.approx(point["lr"], rel=1e-12, abs=1e-16), point


def test_reference_climbs_from_below_zero_for_eleven_epochs():
    first = [learning_rate(epoch=0, step=step, warmup="reference", **CIFAR) for step in range(98)]
    assert sum(rate < 0 for rate in first) == 87
    assert learning_rate(epoch=10, step=97, warmup="reference", **CIFAR) == pytest.approx(
        learning_rate(epoch=10, step=0, warmup="none", **CIFAR)
    )


def test_fixed_ramps_to_the_cosine_and_joins_it():
    ramp = [learning_rate(epoch=e, step=s, **CIFAR) for e in range(10) for s in range(98)]
    goal = learning_rate(epoch=10, step=0, warmup="none", **CIFAR)
    assert ramp[-1] == pytest.approx(goal, rel=1e-14)
    assert ramp[0] == pytest.approx(0.001 + (goal - 0.001) / 980, rel=1e-12)
    steps = np.diff(ramp)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-9)
    for epoch in (10, 57, 99):
        assert learning_rate(epoch=epoch, step=3, **CIFAR) == learning_rate(
            epoch=epoch, step=3, warmup="none", **CIFAR
        )


@pytest.mark.parametrize("epochs", [1, 2, 3, 9, 20, 40])
@pytest.mark.parametrize("lr", [0.5, 0.0001])
@pytest.mark.parametrize("decay", ["cosine", "step"])
def test_fixed_is_positive_and_comes_near_lr_however_short_the_training(epochs, lr, decay):
    series = rates(epochs, steps_per_epoch=4, lr=lr, decay=decay)
    assert min(series) > 0
    assert lr / 2 <= max(series) <= lr


def test_none_is_the_decay_alone():
    start = learning_rate(epoch=0, step=0, warmup="none", **CIFAR)
    end = learning_rate(epoch=99, step=97, warmup="none", **CIFAR)
    assert start == 0.1
    assert 0.0001 < end < 0.00013
    milestones = [
        learning_rate(epoch=epoch, step=0, warmup="none", decay="step", milestones=(2, 3), **CIFAR)
        for epoch in range(5)
    ]
    assert milestones == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.001])


def test_reference_without_warmup_epochs_is_the_decay_alone():
    assert learning_rate(epoch=0, step=0, warmup="reference", warmup_epochs=0, **CIFAR) == 0.1


@pytest.mark.parametrize(
    "bad", [{"step": 98}, {"step": -1}, {"epoch": -1}, {"warmup": "slow"}, {"decay": "linear"}]
)
def test_what_is_no_step_is_refused(bad):
    with pytest.raises(ValueError, match="step|unknown"):
        learning_rate(**{"epoch": 0, "step": 0, **CIFAR, **bad})


def test_a_training_agrees_with_the_authors_trainer():
    """Loss, schedule and optimiser together: three epochs of a linear net."""
    rng = np.random.default_rng(5)
    weight = torch.from_numpy(rng.standard_normal((8, 6)) * 0.5).requires_grad_()
    batches = [
        [torch.from_numpy(rng.standard_normal((16, 6))) for _ in range(2)]
        + [torch.from_numpy(rng.integers(0, 4, 16))]
        for _ in range(3)
    ]
    optimiser = torch.optim.SGD([weight], lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
    for expected in GOLDEN["trainer_steps"]["results"]:
        average = 0.0
        for step, (one, two, labels) in enumerate(batches):
            rate = learning_rate(
                epoch=expected["epoch"] - 1,
                step=step,
                steps_per_epoch=3,
                epochs=100,
                lr=0.1,
                warmup="reference",
            )
            optimiser.param_groups[0]["lr"] = rate
            optimiser.zero_grad()
            loss = reweightood_loss(
                F.normalize(torch.cat([one, two]) @ weight.T, dim=1),
                labels.repeat(2),
                temperature=0.1,
                within_scale=2.0,
                within_shift=1.0,
                between_scale=5.0,
                between_shift=4.0,
            )
            loss.backward()
            optimiser.step()
            average = 0.8 * average + 0.2 * loss.item()
        assert rate == pytest.approx(expected["lr_after"], rel=1e-12)
        assert average == pytest.approx(expected["ema_loss"], rel=1e-12)
        assert weight.sum().item() == pytest.approx(expected["w_sum"], rel=1e-11)
        assert weight.abs().sum().item() == pytest.approx(expected["w_abs_sum"], rel=1e-11)
        assert weight[0, 0].item() == pytest.approx(expected["w_00"], rel=1e-11)
