"""The stopping rule: where rungs lie, and whom they let pass."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from rwood.config.search import Range, SearchConfig
from rwood.search.rungs import Rung, build_rungs

ONE, TWO = ("val/auroc",), ("val/auroc", "val/fpr95")


def rung_epochs(epochs: int, rule: dict[str, int] | None) -> list[int]:
    search = SearchConfig.model_validate(
        {
            "trials": 1,
            "objective": "val/auroc",
            "space": {"loss.temperature": Range(low=0.1, high=1.0)},
            "early_stopping": rule,
        }
    )
    return [rung.epoch for rung in build_rungs(search, epochs)]


def is_weak(
    metrics: Mapping[str, float], peers: Sequence[Mapping[str, float]], objectives: tuple[str, ...]
) -> bool:
    rung = Rung(1, 3, objectives)
    for peer in peers:
        rung.judge(peer)
    verdict = rung.judge(metrics)
    assert (len(peers) in rung.weak) == verdict
    assert rung.next == len(peers) + 1
    return verdict


def test_rungs_lie_below_the_full_budget() -> None:
    assert rung_epochs(20, {"grace_epochs": 2, "reduction": 3}) == [2, 6, 18]
    assert rung_epochs(8, {"grace_epochs": 1, "reduction": 2}) == [1, 2, 4]
    assert rung_epochs(20, {"grace_epochs": 30, "reduction": 3}) == []
    assert rung_epochs(20, None) == []


@pytest.mark.parametrize(
    ("value", "objective", "weak"),
    [
        (5.9, "val/auroc", True),
        (6.1, "val/auroc", False),
        (2.9, "val/fpr95", False),
        (3.1, "val/fpr95", True),
    ],
)
def test_the_best_share_passes(value: float, objective: str, weak: bool) -> None:
    peers = [{objective: float(v)} for v in range(10)]
    assert is_weak({objective: value}, peers, (objective,)) == weak
    assert not is_weak({objective: value}, [], (objective,))


def test_the_cutoff_is_a_percentile() -> None:
    generator = np.random.default_rng(0)
    for count in (1, 2, 3, 10, 57):
        values = generator.normal(size=count)
        peers: list[dict[str, Any]] = [{"val/auroc": float(v)} for v in values]
        cutoff = np.percentile(values, (1 - 1 / 3) * 100)
        assert is_weak({"val/auroc": cutoff - 1e-9}, peers, ONE)
        assert not is_weak({"val/auroc": cutoff + 1e-9}, peers, ONE)


def test_of_several_objectives_the_front_is_spared() -> None:
    peers = [{"val/auroc": float(v), "val/fpr95": float(50 - v)} for v in range(9)]  # a chain
    extreme = {"val/auroc": -1.0, "val/fpr95": 0.0}  # worst in one, best in the other
    assert not is_weak(extreme, peers, TWO)
    third = {"val/auroc": 5.5, "val/fpr95": 44.5}  # below three of nine
    fourth = {"val/auroc": 4.5, "val/fpr95": 45.5}  # below four of nine
    assert not is_weak(third, peers, TWO)
    assert is_weak(fourth, peers, TWO)
    assert not is_weak(fourth, [], TWO)
    assert not is_weak(peers[0], peers[:1], TWO)  # its equal is not better
