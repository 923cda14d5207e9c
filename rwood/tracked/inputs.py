"""The image sets that runs see, as MLflow's dataset inputs."""

from collections.abc import Mapping

from rwood.config.base import digest
from rwood.config.benchmark import BenchmarkConfig, DerivedSet, HeldOutSet, ImageSetRef
from rwood.config.held_out import without_held_out
from rwood.tracked.run import Inputs, TrackedInput


def search_inputs(benchmark: BenchmarkConfig, counts: Mapping[str, int | None]) -> Inputs:
    """The image sets that a search may open; of held-out classes and derived sets, their source."""
    sets = {"train": benchmark.id.train, "val": benchmark.id.val}
    sets |= {f"val/{name}": ref for name, ref in benchmark.validation.items()}
    made = {role: ref for role, ref in sets.items() if isinstance(ref, DerivedSet | HeldOutSet)}
    named = _inputs({role: ref for role, ref in sets.items() if role not in made}, counts)
    train, val = named[:2]
    return named + tuple(
        TrackedInput(
            f"{ref.derived} of {val.name}",
            digest({"derived": ref.derived, "of": val.digest}),
            role,
            val.images,
        )
        if isinstance(ref, DerivedSet)
        else TrackedInput(
            f"{ref.held_out:.0%} of the classes of {train.name}",
            digest({"held_out": ref.held_out, "of": train.digest}),
            role,
            None,  # as many as the fold's classes have
        )
        for role, ref in made.items()
    )


def benchmark_inputs(benchmark: BenchmarkConfig, counts: Mapping[str, int | None]) -> Inputs:
    """The image sets that a rerun opens: those of a search, and the test sets."""
    sets: dict[str, ImageSetRef] = {"test": benchmark.id.test}
    for part in ("near", "far", "shifted"):
        sets |= {f"{part}/{name}": ref for name, ref in getattr(benchmark, part).items()}
    return search_inputs(without_held_out(benchmark), counts) + _inputs(sets, counts)


def _inputs(sets: Mapping[str, ImageSetRef], counts: Mapping[str, int | None]) -> Inputs:
    return tuple(_input(role, ref, counts) for role, ref in sets.items())


def _input(role: str, ref: ImageSetRef, counts: Mapping[str, int | None]) -> TrackedInput:
    if isinstance(ref, str):
        return TrackedInput(ref, digest({"set": ref}), role, counts.get(ref))
    plain = ref.model_dump(mode="json")
    name = plain.get("list") or plain.get("folder") or f"{plain['images']} of {plain['of']}"
    return TrackedInput(str(name), digest(plain), role, plain.get("images"))
