"""Simulated search problems: what a setting is worth, how its training goes, how long it takes.

Designed by its own statistics, before any method ran on it (a steeper draft was seen in one timing
run of six searches), and not changed since; in the likeness of what the digits
study showed (30 random settings, 3 seeds each): finals between about 75 and 96 points of AUROC, one
random setting in ten within 3 points of the best, a deviation of .8 between seeds. Five
hyperparameters with the ranges of `studies/digits.yaml`; the best lies inside the space, in a
valley that is not parallel to the axes; every second world has another basin, 1.5 points lower. How
fast a setting learns depends on where it lies and not on its worth alone, and towards one side
learning starts late. So curves cross: over random settings the order after 11, 33 and 99 epochs has
rank correlations of about .2 to .5, .87 and 1 with the last one; in the best third .1 to .2 and .5.

A world is drawn from its number, and the seed of a search is the number of its world, so that
findings do not rest on one landscape. Everything is a pure function of (world, setting, trial
number): two methods that propose the same setting as the same trial see the same curve.

U is the number of hyperparameters, E the number of epochs, K of basins, N of points.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

EPOCHS = 100
SPACE: dict[str, tuple[float, float, bool]] = {
    "loss.temperature": (0.02, 0.5, True),
    "loss.within_scale": (0.5, 10.0, False),
    "loss.within_shift": (-1.0, 5.0, False),
    "loss.between_scale": (0.5, 10.0, False),
    "loss.between_shift": (-1.0, 8.0, False),
}
"""Lowest value, highest value, whether the logarithm is searched, by dotted key."""
CHANCE, TOP = 50.0, 96.0
SPREAD = 26.0
"""Points between the best setting and a hopeless one."""
SEED_DEVIATION = 0.8
"""Standard deviation between trainings of a setting after many epochs, in points."""
STRAGGLERS = 0.03
STRAGGLER_SLOWNESS = 20.0
SPEEDS = ("equal", "slow", "stragglers")

Params = dict[str, float]


@dataclass(frozen=True)
class Landscape:
    """The constants of a world, drawn from its number."""

    centres_KU: np.ndarray
    """Where the basins have their best point, in the unit cube; the first is the best."""
    depths_K: np.ndarray
    """Points by which a basin's best stays below TOP."""
    metric_UU: np.ndarray
    """Positive definite: how fast the worth falls, with interactions of hyperparameters."""
    speed_U: np.ndarray
    """Which way learning gets slower."""
    late_U: np.ndarray
    """Which way learning starts later."""


@cache
def landscape(number: int) -> Landscape:
    """The world of a number; odd ones have a second basin."""
    draw = np.random.default_rng([2024, number])
    size = len(SPACE)
    centres_KU = draw.uniform(0.25, 0.75, (1 + number % 2, size))
    rotation_UU, _ = np.linalg.qr(draw.normal(size=(size, size)))
    # Half of the way between the axes and a random rotation: interactions, but main effects too.
    mixed_UU, _ = np.linalg.qr(np.eye(size) + 0.5 * rotation_UU)
    sharpness_U = draw.permutation(np.geomspace(0.1, 2.5, size))
    return Landscape(
        centres_KU=centres_KU,
        depths_K=np.array([0.0, 1.5])[: len(centres_KU)],
        metric_UU=mixed_UU @ np.diag(sharpness_U) @ mixed_UU.T,
        speed_U=draw.normal(size=size),
        late_U=draw.normal(size=size),
    )


def unit(params: Params) -> np.ndarray:
    """(U,) where a setting lies in the unit cube, logarithms where the space has them."""
    where = []
    for key, (low, high, log) in SPACE.items():
        ends = np.log([low, high]) if log else np.array([low, high])
        value = np.log(params[key]) if log else params[key]
        where.append((value - ends[0]) / (ends[1] - ends[0]))
    return np.array(where)


def mean_curve(world: Landscape, unit_NU: np.ndarray) -> np.ndarray:
    """(N, E) AUROC after each epoch, without noise; the last column is the true value."""
    away_NKU = unit_NU[:, None, :] - world.centres_KU
    squared_NK = np.einsum("nku,uv,nkv->nk", away_NKU, world.metric_UU, away_NKU)
    worth_N = (TOP - world.depths_K - SPREAD * squared_NK / (1 + squared_NK)).max(axis=1)
    middle_NU = unit_NU - 0.5
    slowness_N = 1 / (1 + np.exp(-4 * middle_NU @ world.speed_U / np.linalg.norm(world.speed_U)))
    towards_late_N = middle_NU @ world.late_U / np.linalg.norm(world.late_U)
    lateness_N = 1 / (1 + np.exp(-12 * (towards_late_N - 0.25)))
    scale_N1 = (4 * 5**slowness_N)[:, None]  # 4 to 20 epochs until two thirds are learned
    power_N1 = (0.8 + 1.2 * lateness_N)[:, None]  # above 1: flat at first, then steep
    learned_NE = 1 - np.exp(-((np.arange(1, EPOCHS + 1) / scale_N1) ** power_N1))
    curves_NE: np.ndarray = CHANCE + (worth_N[:, None] - CHANCE) * learned_NE
    return curves_NE


def true_value(world: int, params: Params) -> float:
    """The expected AUROC of a setting after the last epoch."""
    return float(mean_curve(landscape(world), unit(params)[None])[0, -1])


@cache
def best_value(world: int) -> float:
    """The highest true value in the space: 20,000 random points, the best one refined."""
    draw = np.random.default_rng(0)
    shape = landscape(world)
    points_NU = draw.uniform(size=(20_000, len(SPACE)))
    best_U = points_NU[mean_curve(shape, points_NU)[:, -1].argmax()]
    for radius in np.geomspace(0.1, 1e-4, 40):
        near_NU = np.clip(best_U + radius * draw.normal(size=(400, len(SPACE))), 0, 1)
        near_NU[0] = best_U
        best_U = near_NU[mean_curve(shape, near_NU)[:, -1].argmax()]
    return float(mean_curve(shape, best_U[None])[0, -1])


def observed_curve(world: int, params: Params, trial: int) -> np.ndarray:
    """(E,) what a training reports after each epoch.

    Its deviation from the mean curve is .8 points in the end and three times that in the beginning;
    70 % of its variance stays with the training (its seed), 30 % is new in each epoch.
    """
    draw = np.random.default_rng([7, world, trial])
    stays, changes_E = draw.normal(), draw.normal(size=EPOCHS)
    deviation_E = SEED_DEVIATION * (1 + 2 * np.exp(-np.arange(1, EPOCHS + 1) / 12))
    noise_E = deviation_E * (np.sqrt(0.7) * stays + np.sqrt(0.3) * changes_E)
    curve_E: np.ndarray = mean_curve(landscape(world), unit(params)[None])[0] + noise_E
    return curve_E


def epoch_times(speeds: str, world: int, trial: int, worker: int) -> np.ndarray:
    """(E,) how long the epochs of a trial take on a worker; 1 is an ordinary epoch.

    `equal`: all workers alike. `slow`: every second worker is three times slower. `stragglers`: 3 %
    of the trials are twenty times slower from some epoch on. In all of them trials differ by up to
    5 %, as they do for many reasons, so that no two end at the same moment.
    """
    draw = np.random.default_rng([11, world, trial])
    times_E = np.full(EPOCHS, draw.uniform(0.95, 1.05))
    straggles, since = draw.random() < STRAGGLERS, draw.integers(EPOCHS)
    if speeds == "slow" and worker % 2:
        times_E *= 3
    if speeds == "stragglers" and straggles:
        times_E[since:] *= STRAGGLER_SLOWNESS
    return times_E
