"""Families of validation sets: what a guard must not let a search buy with another."""

from rwood.config.benchmark import BenchmarkConfig, DerivedSet, FolderSet, HeldOutSet, families_of
from rwood.config.load import load_benchmark
from tests.conftest import STUDIES


def digits() -> BenchmarkConfig:
    return load_benchmark(STUDIES / "benchmarks" / "digits.yaml")


def test_sets_made_alike_are_one_family_and_every_real_set_its_own() -> None:
    sets = {
        "jig": DerivedSet(derived="jigsaw"),
        "digit7": "digits/7",
        "blend": DerivedSet(derived="mixed"),
        "noise": DerivedSet(derived="blobs"),
        "unseen": HeldOutSet(held_out=0.2),
        "shuffled": DerivedSet(derived="permuted"),
        "mine": FolderSet(folder="cats"),
    }
    families = families_of(digits().model_copy(update={"validation": sets}))
    assert list(families.items()) == [
        ("far-like", ("jig", "noise", "shuffled")),
        ("digit7", ("digit7",)),
        ("near-like", ("blend",)),
        ("held-out", ("unseen",)),
        ("mine", ("mine",)),
    ]


def test_every_set_of_a_file_is_in_one_family() -> None:
    for path in (STUDIES / "benchmarks").glob("*.yaml"):
        benchmark = load_benchmark(path)
        grouped = [name for names in families_of(benchmark).values() for name in names]
        assert sorted(grouped) == sorted(benchmark.validation)
