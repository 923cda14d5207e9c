"""Every figure is drawn, of a sane size, and shows what it should."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from a_study import make_config, make_study
from PIL import Image

from rwood.config.search import Choices, Range
from rwood.report import figures_overview as overview
from rwood.report import figures_parallel as parallel
from rwood.report import figures_scores as scores
from rwood.report import figures_search as search
from rwood.report import interactive, panels
from rwood.report.finals import search_sentences
from rwood.report.hyperparameters import last_metrics
from rwood.report.inputs import EmbeddingPicture, ReportInputs, ScoreSamples
from rwood.report.outliers import inner_limits


def draw_history(inputs: ReportInputs, path: Path) -> Path:
    return search.draw_panels([panels.history_panel(inputs)], path)


def draw_slices(inputs: ReportInputs, path: Path) -> Path:
    return search.draw_panels(panels.slice_panels(inputs), path)


SEARCH = (
    draw_history,
    search.draw_curves,
    search.draw_importance,
    draw_slices,
    parallel.draw_parallel,
)


def check(path: Path, least_height: int = 200) -> None:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width == 1080
        assert least_height <= image.height <= 2500
        assert round(image.info["dpi"][0]) == 150
        grey = np.asarray(image.convert("L"))
    assert (grey < 250).mean() > 0.005, "nothing is drawn"
    edges = (grey[:2], grey[-2:], grey[:, :2], grey[:, -2:])
    assert all((edge == 255).all() for edge in edges), "something is cut off at an edge"


@pytest.mark.parametrize("draw", SEARCH)
def test_search_figures(
    draw: Callable[[ReportInputs, Path], Path], inputs: ReportInputs, tmp_path: Path
) -> None:
    path = draw(inputs, tmp_path / "deep" / "figure.png")
    assert path == tmp_path / "deep" / "figure.png"
    check(path)


@pytest.mark.parametrize("draw", SEARCH)
def test_choices_and_a_minimised_objective(
    draw: Callable[[ReportInputs, Path], Path], inputs: ReportInputs, tmp_path: Path
) -> None:
    space = {"scorer.name": {"choices": ["knn", "cosine"]}, "batch_size": {"low": 64, "high": 128}}
    config = make_config(search={"trials": 3, "objective": "val/fpr95", "space": space})
    names = ("knn", "cosine", "knn")
    trials = tuple(
        trial.model_copy(
            update={
                "params": {"scorer.name": name, "batch_size": 64 + 8 * trial.number},
                "objective": 30.0 - trial.number,
            }
        )
        for trial, name in zip(inputs.study.trials[:3], names, strict=True)
    )
    study = make_study(config, objective="val/fpr95", trials=trials, champion=2, champion_params={})
    importance = {"scorer.name": 0.7, "batch_size": 0.3}
    check(
        draw(
            replace(inputs, config=config, study=study, importance=importance), tmp_path / "f.png"
        ),
        least_height=150,
    )


def test_best_so_far(inputs: ReportInputs) -> None:
    best = panels.best_so_far(inputs.study.trials, "val/auroc")
    assert [number for number, _ in best] == list(range(12))
    values = [value for _, value in best]
    assert values == sorted(values)
    assert values[-1] == max(t.objective for t in inputs.study.trials if t.objective is not None)
    assert values[3] == values[2], "a stopped trial changes nothing"
    falling = [value for _, value in panels.best_so_far(inputs.study.trials, "val/fpr95")]
    assert falling == sorted(falling, reverse=True)


def test_both_forms_show_the_same_trials(inputs: ReportInputs) -> None:
    panel = panels.history_panel(inputs)
    shown = {points.name: points for points in panel.points}
    assert list(shown) == ["complete", "pruned (last value)", "champion", "failed"]
    assert sorted(x for points in panel.points for x in points.x) == list(range(12))
    assert shown["champion"].x == [inputs.study.champion]
    assert shown["failed"].y[0] < min(y for p in panel.points if p.name != "failed" for y in p.y)
    assert shown["failed"].texts[0].startswith("trial 7, failed after ")
    plot = json.loads(interactive.plot_panels([panel]))
    assert {t["name"]: t["x"] for t in plot["data"][1:]} == {k: p.x for k, p in shown.items()}
    slices = panels.slice_panels(inputs)
    assert [sum(len(p.x) for p in one.points) for one in slices] == [12] * len(slices)
    in_legend = [t["name"] for t in json.loads(interactive.plot_panels(slices))["data"]
                 if t["showlegend"]]  # fmt: skip
    assert in_legend == list(shown), "each once"


def test_trials_outside_of_the_present_space_are_in_no_figure(
    inputs: ReportInputs, tmp_path: Path
) -> None:
    """The best and the failed one had a shift below 0; its range is now logarithmic."""
    space = {"loss.between_shift": {"low": 0.5, "high": 8.0, "log": True}}
    config = make_config(search={"trials": 12, "objective": "val/auroc", "space": space})
    gone = {"outside": True, "params": {"loss.between_shift": -0.5}}
    trials = [
        t.model_copy(update=gone if t.number in (2, 7) else {"params": {"loss.between_shift": 1.0}})
        for t in inputs.study.trials
    ]
    study = make_study(config, trials=trials, champion=2, champion_params=gone["params"])
    changed = replace(inputs, config=config, study=study)
    assert search_sentences(changed) != []
    for panel in [panels.history_panel(changed), *panels.slice_panels(changed)]:
        assert [points.name for points in panel.points] == ["complete", "pruned (last value)"]
    inside = [t.objective for t in trials if t.objective is not None and not t.outside]
    assert panels.history_panel(changed).best[-1][1] == max(inside)
    check(parallel.draw_parallel(changed, tmp_path / "parallel.png"))


def test_a_single_setting(inputs: ReportInputs, tmp_path: Path) -> None:
    config = make_config()
    assert config.search is not None
    space = {"loss.temperature": config.search.space["loss.temperature"]}
    one = config.search.model_copy(update={"space": space})
    narrow = replace(inputs, config=config.model_copy(update={"search": one}))
    check(draw_slices(narrow, tmp_path / "one.png"))
    check(parallel.draw_parallel(narrow, tmp_path / "parallel.png"))


LOSSES = {
    "loss.name": Choices(choices=("reweightood", "supcon", "cider", "cross_entropy")),
    "loss.temperature": Range(low=0.02, high=0.5, log=True),
    "loss.momentum": Range(low=0.5, high=0.99),
    "loss.compactness_weight": Range(low=0.5, high=4.0),
    "loss.label_smoothing": Range(low=0.0, high=0.3),
    "scorer.name": Choices(choices=("mahalanobis", "mahalanobis_raw", "cosine")),
    "loss.within_scale": Range(low=0.5, high=10.0),
    "loss.between_shift": Range(low=-1.0, high=8.0),
}


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 8])
def test_no_text_lies_on_another(
    inputs: ReportInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    config = make_config()
    assert config.search is not None
    space = dict(list(LOSSES.items())[:count])
    config = config.model_copy(update={"search": config.search.model_copy(update={"space": space})})
    trials = tuple(
        trial.model_copy(
            update={
                "params": {
                    key: domain.choices[trial.number % len(domain.choices)]
                    if isinstance(domain, Choices)
                    else domain.high
                    for key, domain in space.items()
                    if trial.number % 2 or key != "loss.momentum"
                }
            }
        )
        for trial in inputs.study.trials
    )
    figures: list[Any] = []

    def write(figure: Any, path: Path) -> Path:
        figures.append(figure)
        return real(figure, path)

    real = parallel.write
    monkeypatch.setattr(parallel, "write", write)
    study = make_study(config, trials=trials)
    check(parallel.draw_parallel(replace(inputs, config=config, study=study), tmp_path / "p.png"))
    axis = figures[0].axes[0]
    texts = list(axis.texts)
    if not any(label.get_rotation() for label in axis.get_xticklabels()):
        texts += axis.get_xticklabels()
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    for (one, box), (other, beside) in combinations(boxes, 2):
        assert not box.overlaps(beside), f"{one!r} lies on {other!r}"


def test_gaps_are_equal_where_they_may_be() -> None:
    assert parallel.spread([5.0, 5.0, 5.0], 60.0) == [20.0, 20.0, 20.0]
    assert parallel.spread([5.0, 40.0, 5.0], 60.0) == [10.0, 40.0, 10.0]
    assert parallel.spread([30.0, 14.0, 5.0], 60.0) == [30.0, 15.0, 15.0]
    assert parallel.spread([50.0, 40.0], 60.0) == [50.0, 40.0], "no room: as they are"


def test_benchmark(inputs: ReportInputs, tmp_path: Path) -> None:
    check(scores.draw_benchmark(inputs, tmp_path / "both.png"))
    runs = (inputs.study.of("champion")[0],)
    alone = replace(inputs, study=inputs.study.model_copy(update={"runs": runs}))
    check(scores.draw_benchmark(alone, tmp_path / "one.png"))


def test_overview(inputs: ReportInputs, tmp_path: Path) -> None:
    check(overview.draw_overview(inputs, tmp_path / "overview.png"))


def test_one_outlier_does_not_squash_the_others(inputs: ReportInputs) -> None:
    assert panels.objective_limits(inputs) is None
    assert panels.outside_sentence(inputs) == ""
    trials = tuple(
        t.model_copy(update={"objective": 3.0, "history": ()}) if t.number == 1 else t
        for t in inputs.study.trials
    )
    study = inputs.study.model_copy(update={"trials": trials})
    low, high = panels.objective_limits(replace(inputs, study=study)) or (0.0, 0.0)
    last = [last_metrics(t, "val/auroc") for t in trials if t.number != 1]
    others = [pair[0] for pair in last if pair is not None]
    assert 3.0 < low < min(others)
    assert high > max(others)
    told = panels.outside_sentence(replace(inputs, study=study))
    assert told == " Outside the picture: trial 1 (3.00)."


def test_the_better_end_of_an_axis_is_never_cut() -> None:
    values = [50.0, 51, 51, 52, 52, 53, 54, 99]
    assert inner_limits(values, minimized=False) is None
    assert inner_limits(values, minimized=True) is not None
    assert inner_limits([1.0, 99], minimized=True) is None
    assert inner_limits([5.0] * 9 + [99], minimized=True) is None, "no spread to measure by"


def test_scores(inputs: ReportInputs, tmp_path: Path) -> None:
    samples = inputs.scores["champion"]
    check(scores.draw_histograms(samples, tmp_path / "h.png"))
    check(scores.draw_roc(samples, tmp_path / "r.png"))


@pytest.mark.parametrize("count", [1, 4, 5])
def test_many_sets_negative_and_equal_scores(count: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    far = {f"far{i}": rng.normal(i, 1, 50) for i in range(count)}
    samples = ScoreSamples(id=rng.normal(-1, 1, 40), near={"same": np.zeros(30)}, far=far)
    check(scores.draw_histograms(samples, tmp_path / "h.png"))
    check(scores.draw_roc(samples, tmp_path / "r.png"))
    flat = ScoreSamples(id=np.zeros(5), near={"same": np.zeros(3)}, far={"b": np.zeros(3)})
    check(scores.draw_histograms(flat, tmp_path / "flat.png"))


def test_roc_by_hand() -> None:
    samples = ScoreSamples(id=np.array([1.0, 2.0, 3.0, 4.0]), near={}, far={})
    fpr, tpr, area = scores.roc_points(samples, np.array([2.5, 5.0]))
    # Pairs in which the OOD score is the higher one: 2 + 4 of 8.
    assert area == pytest.approx(75.0)
    assert (fpr[-1], tpr[-1]) == (100.0, 100.0)


def test_embedding(inputs: ReportInputs, tmp_path: Path) -> None:
    assert inputs.embedding is not None
    check(scores.draw_embedding(inputs.embedding, tmp_path / "e.png"))
    points = np.random.default_rng(0).normal(size=(60, 2))
    groups = tuple(["ID"] * 40 + ["near: a_long_set_name"] * 10 + ["far: b"] * 10)
    many = EmbeddingPicture(points, groups, tuple(range(40)) + (-1,) * 20, "PCA")
    check(scores.draw_embedding(many, tmp_path / "many.png"))


def test_geometry(inputs: ReportInputs, tmp_path: Path) -> None:
    curves = scores.geometry_curves(inputs.runs, "id/dispersion")
    assert list(curves) == list(range(1, 21))
    assert len(curves[1]) == 3
    check(scores.draw_geometry(inputs, tmp_path / "g.png"))
    assert scores.geometry_curves(inputs.runs, "id/nothing") == {}
