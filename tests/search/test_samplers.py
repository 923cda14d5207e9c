"""Every sampler and pruner by name: proposals through the real searcher, and wrong names."""

import random
import statistics
from pathlib import Path
from typing import Any

import pytest

from rwood.config.search import apply
from rwood.config.study import StudyConfig
from rwood.errors import SpecError
from rwood.search.check import check_search
from rwood.search.classes import class_names
from rwood.search.generations import latest
from rwood.search.journal import open_storage
from tests.search.a_search import Search, objective, outcome
from tests.tiny import tiny

OWN = {
    "reweightood": {"loss.temperature", "loss.between_shift"},
    "cider": {"loss.temperature", "loss.momentum"},
    "cross_entropy": {"loss.label_smoothing"},
}
"""What each loss of the mixed study has of its space."""


def killed(study: StudyConfig, folder: Path, seed: int) -> Search:
    """A search that was killed at random moments until it was done."""
    search, order = Search(study, folder, random.Random(seed)), random.Random(seed)
    while search.run(order.randint(1, 25)):
        pass
    return search


@pytest.fixture
def mixed(tmp_path: Path) -> StudyConfig:
    """A space over losses in which no setting belongs to all of them."""
    space = {
        "loss.label_smoothing": {"low": 0.0, "high": 0.3},
        "loss.momentum": {"low": 0.5, "high": 0.99},
        "loss.temperature": {"low": 0.05, "high": 0.5, "log": True},
        "loss.between_shift": {"low": 0.0, "high": 6.0},
        "loss.name": {"choices": list(OWN)},
        "optimizer.lr": {"low": 0.01, "high": 0.5, "log": True},
    }
    return tiny(
        tmp_path,
        run__epochs=9,
        search__space=space,
        search__trials=40,
        search__sampler={"name": "tpe", "n_startup_trials": 6},
        search__pruner={"name": "asha", "min_resource": 2, "reduction_factor": 3},
        cluster__max_concurrent=1,
    )


def test_a_trial_has_the_settings_of_its_loss_and_no_other(
    tmp_path: Path, mixed: StudyConfig
) -> None:
    search = Search(mixed, tmp_path / "s")
    search.run()
    trials = search.trials()
    assert {t.params["loss.name"] for t in trials.values()} == set(OWN)
    for trial in trials.values():
        own = OWN[str(trial.params["loss.name"])]
        assert trial.params.keys() == own | {"loss.name", "optimizer.lr"}
        assert apply(mixed.run, trial.params).loss.name == trial.params["loss.name"]
    first = trials[0].params
    assert first["loss.name"] == "reweightood"
    assert (first["loss.temperature"], first["loss.between_shift"]) == (0.1, 4.0)
    assert outcome(killed(mixed, tmp_path / "killed", 5).trials()) == outcome(trials)


def test_a_trial_that_a_kill_left_without_a_loss_in_a_database_is_drawn_whole(
    tmp_path: Path, mixed: StudyConfig
) -> None:
    search = Search(mixed, tmp_path / "s", url=f"sqlite:///{tmp_path}/optuna.db")
    search.run(3)
    with open_storage(search.folder, search.url) as store:
        main = latest(store.optuna, mixed.name)
        assert main is not None
        for _ in range(4):
            main.ask()
    search.run()
    trials = search.trials()
    assert len(trials) == 40
    for trial in trials.values():
        assert trial.params.keys() == OWN[str(trial.params["loss.name"])] | {
            "loss.name", "optimizer.lr",
        }  # fmt: skip


def test_a_trial_has_the_settings_of_its_scorer_and_no_other(tmp_path: Path) -> None:
    space = {
        "loss.temperature": {"low": 0.05, "high": 0.5, "log": True},
        "scorer.gamma": {"low": 0.05, "high": 0.5},
        "scorer.name": {"choices": ["mahalanobis", "head_gen"]},
    }
    study = tiny(tmp_path, search__space=space, search__trials=25, cluster__max_concurrent=1)
    search = Search(study, tmp_path / "s")
    search.run()
    trials = search.trials()
    assert {t.params["scorer.name"] for t in trials.values()} == {"mahalanobis", "head_gen"}
    for trial in trials.values():
        own = {"scorer.gamma"} if trial.params["scorer.name"] == "head_gen" else set()
        assert trial.params.keys() == own | {"scorer.name", "loss.temperature"}
    assert outcome(killed(study, tmp_path / "killed", 5).trials()) == outcome(trials)


def test_a_mixed_study_learns(tmp_path: Path, mixed: StudyConfig) -> None:
    search = Search(mixed, tmp_path / "s")
    search.run()
    trials = search.trials()
    late = [t.params for n, t in trials.items() if n >= 20 and "loss.temperature" in t.params]
    early = [t.params for n, t in trials.items() if 0 < n < 7 and "loss.temperature" in t.params]
    miss = [
        statistics.fmean(abs(float(p["loss.temperature"]) - 0.2) for p in some)
        for some in (early, late)
    ]
    assert miss[1] < miss[0]


def test_a_grid_is_every_combination_once_the_base_first(tmp_path: Path) -> None:
    space = {
        "loss.temperature": {"choices": [0.05, 0.1, 0.2]},
        "loss.between_shift": {"choices": [2.0, 4.0]},
    }
    study = tiny(
        tmp_path, search__sampler="grid", search__space=space, search__trials=6,
        cluster__max_concurrent=3,
    )  # fmt: skip
    search = killed(study, tmp_path / "s", 7)
    params = [trial.params for _, trial in sorted(search.trials().items())]
    assert params[0] == {"loss.temperature": 0.1, "loss.between_shift": 4.0}
    assert params[1:] == [
        {"loss.temperature": t, "loss.between_shift": b}
        for b in (2.0, 4.0)  # the first setting of the file
        for t in (0.05, 0.1, 0.2)
        if (t, b) != (0.1, 4.0)
    ]


@pytest.mark.parametrize(
    "sampler",
    [
        {"name": "TPESampler", "multivariate": True, "n_startup_trials": 3},
        {"name": "GPSampler", "n_startup_trials": 3},
        "CmaEsSampler",
        "QMCSampler",
        "RandomSampler",
        {"name": "NSGAIISampler", "population_size": 4},
        {"name": "NSGAIIISampler", "population_size": 4},
    ],
)
def test_a_sampler_from_yaml_runs_and_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, sampler: Any
) -> None:
    study = tiny(tmp_path, search__trials=9, search__sampler=sampler, cluster__max_concurrent=1)
    check_search(study.run, study.search)
    calm = Search(study, tmp_path / "calm")
    calm.run()
    trials = calm.trials()
    assert len({str(trial.params) for trial in trials.values()}) == 9
    assert outcome(killed(study, tmp_path / "killed", 1).trials()) == outcome(trials)


@pytest.mark.parametrize(
    "pruner",
    [
        "asha",
        {"name": "HyperbandPruner", "reduction_factor": 2},
        {"name": "MedianPruner", "n_startup_trials": 2},
        {"name": "PercentilePruner", "percentile": 25.0, "n_startup_trials": 2},
        {"name": "PatientPruner", "patience": 1, "wrapped_pruner": {"name": "MedianPruner"}},
        {"name": "WilcoxonPruner", "p_threshold": 0.3, "n_startup_steps": 2},
        "NopPruner",
        None,
    ],
)
def test_a_pruner_from_yaml_runs(tmp_path: Path, pruner: Any) -> None:
    study = tiny(
        tmp_path, run__epochs=9, search__trials=12, search__pruner=pruner,
        cluster__max_concurrent=1,
    )  # fmt: skip
    check_search(study.run, study.search)
    calm = Search(study, tmp_path / "calm")
    calm.run()
    states = {trial.state for trial in calm.trials().values()}
    if pruner in (None, "NopPruner"):
        assert states == {"complete"}
    assert "complete" in states
    assert outcome(killed(study, tmp_path / "killed", 1).trials()) == outcome(calm.trials())


def test_tpe_beats_random(tmp_path: Path) -> None:
    """Its second half is nearer to the best, on average over five searches."""

    def gap(sampler: str) -> float:
        best = objective({"loss.temperature": 0.2, "loss.between_shift": 0.0}, 4)
        gaps = []
        for seed in range(5):
            study = tiny(tmp_path, search__trials=40, search__sampler=sampler,
                         search__pruner=None, search__seed=seed)  # fmt: skip
            search = Search(study, tmp_path / f"{sampler}-{seed}")
            search.run()
            gaps += [best - objective(t.params, 4) for n, t in search.trials().items() if n >= 20]
        return statistics.fmean(gaps)

    assert gap("tpe") < 0.7 * gap("random")


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        ({"sampler": "TPESampelr"}, "Optuna has no sampler TPESampelr; did you mean TPESampler?"),
        ({"sampler": "tep"}, "Optuna has no sampler tep; did you mean tpe?"),
        ({"sampler": "zzz"}, "there are tpe, random, grid, "),
        ({"sampler": {"name": "GPSampler", "n_startup_trails": 3}},
         "search.sampler.n_startup_trails: GPSampler has no such argument; did you mean "
         "n_startup_trials?"),
        ({"sampler": {"name": "random", "seed": 5}},
         "search.sampler.seed: the search is seeded by search.seed alone, trial by trial"),
        ({"sampler": {"name": "CmaEsSampler", "independent_sampler": {"name": "tpe", "seed": 5}}},
         "search.sampler.seed: the search is seeded by search.seed alone"),
        ({"sampler": "BruteForceSampler"}, "Optuna has no sampler BruteForceSampler"),
        ({"sampler": "AutoSampler"}, "AutoSampler comes from OptunaHub: pip install optunahub"),
        ({"sampler": "MedianPruner"}, "Optuna has no sampler MedianPruner"),
        ({"pruner": "Hyperband"}, "Optuna has no pruner Hyperband; did you mean HyperbandPruner?"),
        ({"pruner": {"name": "asha", "min_resource": 1}},
         "search.pruner.min_resource: epoch 1 is inside the warm-up of the learning rate (to epoch "
         "1, see schedule), where no trial is judged; take 2 or more"),
        ({"pruner": {"name": "asha", "reduction_factor": 1}}, "SuccessiveHalvingPruner: "),
        ({"pruner": {"name": "PercentilePruner"}}, "PercentilePruner: "),
        ({"pruner": {"name": "PatientPruner", "patience": 1, "wrapped_pruner": {"name": "Median"}}},
         "Optuna has no pruner Median; did you mean MedianPruner?"),
    ],
)  # fmt: skip
def test_wrong_names_and_arguments_cost_one_sentence(
    tmp_path: Path, search: dict[str, Any], sentence: str
) -> None:
    study = tiny(tmp_path, **{f"search__{key}": value for key, value in search.items()})
    assert study.search is not None
    with pytest.raises(SpecError) as error:
        check_search(study.run, study.search)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_every_name_that_is_offered_is_optunas() -> None:
    names = class_names("pruner")
    assert {"asha", "SuccessiveHalvingPruner", "HyperbandPruner", "NopPruner"} <= set(names)
    assert "BasePruner" not in names
    assert {"tpe", "GPSampler", "AutoSampler"} <= set(class_names("sampler"))
