"""Every shipped study and benchmark loads, and opens as the house asks."""

import re
from pathlib import Path

import pytest

from rwood.config.branches import grid
from rwood.config.load import load_benchmark, load_study
from rwood.config.losses import ReweightOODLoss
from rwood.cost import estimate
from rwood.data.known import check_known
from tests.conftest import STUDIES

FILES = sorted(
    path
    for path in STUDIES.rglob("*.yaml")
    if not {"benchmarks", "results"} & set(path.relative_to(STUDIES).parts)
)
ABLATIONS = [path for path in FILES if path.parent.name == "ablations"]
KNOBS = [path for path in FILES if path.parent.name == "knobs"]
BENCHMARKS = sorted((STUDIES / "benchmarks").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_studies_load_and_say_what_they_cost(path: Path) -> None:
    study = load_study(path)
    check_known(study.benchmark)
    assert study.name == path.stem
    assert estimate(study)
    opening = path.read_text().split("\nname:")[0]
    for word in ("# Question:", "# Command:", "# Cost:", "# Expected:"):
        assert word in opening, f"{path.name} does not say {word}"
    assert f"studies/{path.relative_to(STUDIES)}" in opening
    said = re.search(r"(\d+) million", opening)
    counted = re.search(r"about ([\d,]+) training images", "\n".join(estimate(study)))
    if said and counted:  # the estimate counts epochs alone where nobody says how many images
        assert int(said[1]) == round(int(counted[1].replace(",", "")) / 1e6)


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda p: p.stem)
def test_benchmarks_load_and_keep_test_sets_apart(path: Path) -> None:
    benchmark = load_benchmark(path)
    check_known(benchmark)
    assert benchmark.name == path.stem
    seen = [benchmark.id.train, benchmark.id.val, *benchmark.validation.values()]
    tested = [benchmark.id.test, *benchmark.near.values(), *benchmark.far.values()]
    assert not {str(s) for s in seen} & {str(t) for t in tested}


def test_every_knob_of_the_loss_has_an_ablation() -> None:
    hyperparameters = set(ReweightOODLoss.model_fields) - {"name", "scope"}
    for id_set in ("digits", "cifar10"):
        asked = [load_study(p) for p in ABLATIONS if p.stem.startswith(f"{id_set}-")]
        assert {next(iter(s.search.space)) for s in asked if s.search} == {
            f"loss.{parameter}" for parameter in hyperparameters
        }


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda p: p.stem)
def test_ablations_change_one_knob_over_seeds(path: Path) -> None:
    study = load_study(path)
    assert study.search is not None
    assert study.search.is_grid
    (key,) = study.search.space
    assert study.search.trials == len(grid(study.run, study.search.space))
    assert study.run.loss == ReweightOODLoss()  # everything else as published
    assert len(study.search.seeds) >= 3
    assert not set(study.search.seeds) & set(study.rerun.seeds)
    assert key.split(".")[1].replace("_", "-") in path.stem


def test_the_study_over_all_knobs_searches_each_and_proves_what_it_finds() -> None:
    asked = {path.stem: load_study(path) for path in KNOBS}
    single = [study for study in asked.values() if study.search and study.search.is_grid]
    every = asked["cifar10-near"]
    assert every.search is not None
    assert every.search.objective == "val/families"
    assert every.finals is not None
    for study in single:
        assert study.search is not None
        assert study.search.space.keys() <= every.search.space.keys(), study.name
        assert study.search.trials == len(grid(study.run, study.search.space))
        assert study.run.loss == ReweightOODLoss()
        assert len(study.search.seeds) >= 3


def test_paper_studies_are_the_authors_recipe() -> None:
    for path in STUDIES.glob("*-paper.yaml"):
        run = load_study(path).run
        assert run.loss.model_dump(exclude={"name", "scope"}) == {
            "temperature": 0.1,
            "within_scale": 2.0,
            "within_shift": 1.0,
            "between_scale": 5.0,
            "between_shift": 4.0,
        }
        assert run.schedule.warmup == "reference"
        assert run.loss.scope == "local"
        assert run.checkpoint == "lowest_loss"
        assert run.precision == "float32"
        assert run.optimizer.nesterov
        assert (run.optimizer.momentum, run.optimizer.weight_decay) == (0.9, 1e-4)
