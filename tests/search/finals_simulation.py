"""Whole studies drawn from a known truth, and what the rules of the finals do to them.

`python -m tests.search.finals_simulation` prints the tables. A setting's truth on the test sets
correlates with its truth on the validation sets; a run sees the latter plus its seed's noise.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from rwood.search.finals import gate, guard, race

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A kind of study; all in points of the objective."""

    setting_std: float
    base: float
    """Truth of the base run on validation, in setting stds above the mean setting."""
    trials: int = 24
    """The first is the base run."""
    seed_std: float = 1.6
    correlation: float = 0.85
    """Of a setting's truth on the validation sets and on the test sets."""
    alpha: float = 0.1
    candidates: int = 3
    race_seeds: int = 2
    confirm_seeds: int = 5


@dataclass(frozen=True)
class Outcome:
    """Means over studies; a base run that stays gains 0 and is not worse."""

    promoted: float
    no_better: float
    """Promoted, yet no better than the base run in truth on the validation sets."""
    gain: float
    """Over the base run, in truth on the test sets."""
    worse: float
    """Promoted, yet worse than the base run in truth on the test sets."""


CASES = tuple(Case(setting_std, base) for setting_std in (2.0, 0.5) for base in (1.0, 0.0))


def simulate(case: Case, studies: int, seed: int = 0) -> tuple[Outcome, Outcome]:
    """The outcomes of taking the search's best value, and of the finals."""
    generator = np.random.default_rng(seed)
    taken, proved = [], []
    for _ in range(studies):
        validation, test = _settings(case, generator)
        searched = validation + case.seed_std * generator.normal(size=case.trials)
        best = int(searched.argmax())
        finalist = _finalist(case, validation, searched, generator)
        differences = _differences(case, validation[finalist] - validation[0], generator)
        champion = finalist if gate(differences, case.alpha).passed else 0
        for champions, number in ((taken, best), (proved, champion)):
            champions.append((number > 0, validation[number] - validation[0], test[number]))
    return _outcome(taken), _outcome(proved)


def _settings(case: Case, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """True values of all settings on validation, and on the test above the base run's."""
    own = np.sqrt(1 - case.correlation**2)
    validation = case.setting_std * generator.normal(size=case.trials)
    test = case.correlation * validation + own * case.setting_std * generator.normal(
        size=case.trials
    )
    validation[0] = case.base * case.setting_std
    test[0] = case.correlation * validation[0]
    return validation, test - test[0]


def _finalist(
    case: Case, validation: Floats, searched: Floats, generator: np.random.Generator
) -> int:
    candidates = 1 + np.argsort(-searched[1:])[: case.candidates]
    noise = case.seed_std * generator.normal(size=(case.candidates, case.race_seeds))
    raced = validation[candidates, None] + noise
    return race(dict(zip(candidates.tolist(), raced.tolist(), strict=True)))


def _differences(case: Case, truth: float, generator: np.random.Generator) -> list[float]:
    noise = generator.normal(size=(2, case.confirm_seeds))
    return (truth + case.seed_std * (noise[0] - noise[1])).tolist()  # type: ignore[no-any-return]


def _outcome(champions: list[tuple[bool, float, float]]) -> Outcome:
    promoted, validation, test = (np.array(column) for column in zip(*champions, strict=True))
    return Outcome(
        promoted=float(promoted.mean()),
        no_better=float((promoted & (validation <= 0)).mean()),
        gain=float(np.where(promoted, test, 0).mean()),
        worse=float((promoted & (test < 0)).mean()),
    )


SHAPES: dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "normal": lambda g, size: g.normal(size=size),
    "Student t, 3 degrees": lambda g, size: g.standard_t(3, size=size) / np.sqrt(3),
    "Student t, 2 degrees": lambda g, size: g.standard_t(2, size=size),
    "Cauchy": lambda g, size: g.standard_cauchy(size=size),
    "one run in ten 5 x wider": lambda g, size: (
        g.normal(size=size) * np.where(g.random(size) < 0.1, 5, 1)
    ),
    "uniform": lambda g, size: (g.random(size) - 0.5) * np.sqrt(12),
}
"""Noise of one run."""


def gate_rules(
    shape: str, effect: float, seeds: int, studies: int, alpha: float = 0.1, collapse: float = 0.0
) -> tuple[float, float]:
    """Shares of studies that the t-test (the gate) and the exact sign-flip test promote.

    Args:
        shape: of a run's noise.
        effect: true mean difference, in seed stds of the normal shape.
        seeds: pairs.
        studies: draws.
        alpha: level.
        collapse: share of the finalist's runs that end 6 seed stds lower, the mean kept.
    """
    generator = np.random.default_rng(0)
    draw, size = SHAPES[shape], (studies, seeds)
    drops = 6 * (collapse - (generator.random(size) < collapse))
    differences = effect + drops + draw(generator, size) - draw(generator, size)
    signs = np.array(list(product((1, -1), repeat=seeds)))
    flipped = differences @ signs.T
    shares = (flipped >= differences.sum(axis=1, keepdims=True) - 1e-9).mean(axis=1)
    passed = [gate(row, alpha).passed for row in differences.tolist()]
    return float(np.mean(passed)), float((shares <= alpha).mean())


@dataclass(frozen=True)
class GuardOutcome(Outcome):
    """An `Outcome` of gate and guard, the gain being the mean over the OOD families."""

    lost: float
    """Promoted, yet some family lost more than delta in truth on the validation sets."""
    lost_badly: float
    """... more than four times delta."""


GUARD_ALPHAS = (None, 0.1, 0.25, 0.5, 0.75, 0.9)
FAMILIES = ("near", "far", "held-out classes", "ID accuracy")
DELTA = 0.5


def simulate_guards(
    case: Case, studies: int, shared: float = 0.5, seed: int = 0
) -> dict[float | None, GuardOutcome]:
    """Guard alpha (None: no guard) -> outcome, for the same finalists and the same seeds.

    The objective is the mean of the three OOD families, in points.

    Args:
        case: its stds are those of each family.
        studies: draws.
        shared: correlation of two families, of settings and of seeds alike.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    champions: dict[float | None, list[tuple[bool, float, float]]] = {a: [] for a in GUARD_ALPHAS}
    losses: dict[float | None, list[float]] = {a: [] for a in GUARD_ALPHAS}
    for validation, test, differences in _family_studies(case, studies, shared, generator):
        better = gate(differences[:, :3].mean(axis=1).tolist(), case.alpha).passed
        points = dict(zip(FAMILIES, differences.T.tolist(), strict=True))
        for alpha in GUARD_ALPHAS:
            guarded = {} if alpha is None else guard(points, alpha, DELTA)
            promoted = better and all(bound.passed for bound in guarded.values())
            champions[alpha].append((promoted, validation[:3].mean(), test[:3].mean()))
            losses[alpha].append(-validation.min() if promoted else 0.0)
    return {
        alpha: GuardOutcome(
            **vars(_outcome(champions[alpha])),
            lost=float((np.array(losses[alpha]) > DELTA).mean()),
            lost_badly=float((np.array(losses[alpha]) > 4 * DELTA).mean()),
        )
        for alpha in GUARD_ALPHAS
    }


def _family_studies(
    case: Case, studies: int, shared: float, generator: np.random.Generator
) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Per study the finalist over the base run: truths (family,) and differences (seed, family)."""

    def draw(*size: int) -> Floats:
        common = generator.normal(size=(*size, 1))
        own = generator.normal(size=(*size, len(FAMILIES)))
        return np.sqrt(shared) * common + np.sqrt(1 - shared) * own

    for _ in range(studies):
        validation = case.setting_std * draw(case.trials)
        validation[0] = case.base * case.setting_std
        own = np.sqrt(1 - case.correlation**2) * case.setting_std
        test = case.correlation * validation + own * draw(case.trials)
        test[0] = case.correlation * validation[0]
        searched = (validation + case.seed_std * draw(case.trials))[:, :3].mean(axis=1)
        candidates = 1 + np.argsort(-searched[1:])[: case.candidates]
        raced = validation[candidates, None] + case.seed_std * draw(len(candidates), 2)
        objectives = raced[..., :3].mean(axis=2).tolist()
        finalist = race(dict(zip(candidates.tolist(), objectives, strict=True)))
        truth = validation[finalist] - validation[0]
        noise = draw(case.confirm_seeds) - draw(case.confirm_seeds)
        yield truth, test[finalist] - test[0], truth + case.seed_std * noise


def print_tables(studies: int = 20_000) -> None:
    """All tables, as Markdown."""
    print("| settings std | base at | rule | promoted | no better | test gain | test worse |")
    print("|---" * 7 + "|")
    for case in (*CASES, Case(0.0, 0.0), Case(0.0, 0.0, trials=240)):
        for rule, o in zip(("argmax", "finals"), simulate(case, studies), strict=True):
            name = f"{case.setting_std:g} ({case.trials} trials) | {case.base:+g} std | {rule}"
            print(f"| {name} | {o.promoted:.1%} | {o.no_better:.1%} | {o.gain:+.2f} "
                  f"| {o.worse:.1%} |")  # fmt: skip
    print("\n| seeds | noise of a run | t, no effect | flips | t, one seed std | flips |")
    print("|---" * 6 + "|")
    for seeds, (shape, collapse) in product((3, 5), [(s, 0.0) for s in SHAPES] + [("normal", 0.1)]):
        rates = [r for e in (0, 1) for r in gate_rules(shape, e, seeds, studies, collapse=collapse)]
        name = f"{shape}{', the finalist collapses in one of ten' if collapse else ''}"
        print(f"| {seeds} | {name} | " + " | ".join(f"{rate:.3f}" for rate in rates) + " |")
    print("\n| settings std | seed std | base at | guard alpha | promoted | no better | test gain "
          "| test worse | a family lost .5 | lost 2 |")  # fmt: skip
    print("|---" * 10 + "|")
    for case, seed_std in product(CASES, (0.8, 1.6)):
        found = simulate_guards(replace(case, seed_std=seed_std), studies // 2)
        for alpha, g in found.items():
            print(f"| {case.setting_std:g} | {seed_std:g} | {case.base:+g} std | {alpha or 'none'} "
                  f"| {g.promoted:.1%} | {g.no_better:.1%} | {g.gain:+.2f} | {g.worse:.1%} "
                  f"| {g.lost:.1%} | {g.lost_badly:.1%} |")  # fmt: skip


if __name__ == "__main__":
    print_tables()
