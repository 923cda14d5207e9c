"""Held-out classes as a validation set: the benchmark that a trial sees, and the one of a rerun."""

from rwood.config.benchmark import (
    BenchmarkConfig,
    ClassesSet,
    DerivedSet,
    HeldOutSet,
    IDSets,
    ImageSetRef,
)
from rwood.config.folds import folds


def fold_of(benchmark: BenchmarkConfig, seed: int) -> BenchmarkConfig:
    """The benchmark as a training with this seed sees it: without the classes of its fold.

    All ID sets are restricted to the other classes, numbered 0, 1, ... in their order; what
    `id.train` lacks is then the held-out set. The fold is `seed` modulo the number of folds, so
    that consecutive seeds cover all classes.

    Returns:
        The benchmark itself, if it has no held-out set or is a fold already.

    Example:
        Of 7 classes and `{held_out: 0.2}`, which makes 5 folds, seeds 0, 5 and 10 leave the same
        two classes out, seeds 4 and 9 another one.
    """
    shares = [ref.held_out for ref in benchmark.validation.values() if isinstance(ref, HeldOutSet)]
    if not shares or isinstance(benchmark.id.train, ClassesSet):
        return benchmark
    every = folds(benchmark.classes, shares[0])
    left_out = every[seed % len(every)]
    kept = tuple(label for label in range(benchmark.classes) if label not in left_out)

    def restricted(ref: ImageSetRef) -> ClassesSet:
        assert not isinstance(ref, ClassesSet | DerivedSet | HeldOutSet)
        return ClassesSet(of=ref, classes=kept, among=benchmark.classes)

    return benchmark.model_copy(
        update={
            "classes": len(kept),
            "id": IDSets(**{part: restricted(ref) for part, ref in benchmark.id}),
            "shifted": {name: restricted(ref) for name, ref in benchmark.shifted.items()},
        }
    )


def without_held_out(benchmark: BenchmarkConfig) -> BenchmarkConfig:
    """The benchmark of a training that sees all classes, and so has no held-out set.

    Where that was the only validation set none is left: such a run reports ID metrics only.
    """
    sets = {n: ref for n, ref in benchmark.validation.items() if not isinstance(ref, HeldOutSet)}
    return benchmark.model_copy(update={"validation": sets})
