"""Records -> how they should look in MLflow. Pure: `tracking` sends what is stated here."""

from rwood.tracked.finals import finals_run, finals_seed_run, finals_setting_run
from rwood.tracked.inputs import benchmark_inputs, search_inputs
from rwood.tracked.run import (
    Artifacts,
    Inputs,
    TrackedInput,
    TrackedRun,
    benchmark_key,
    rerun_key,
    search_key,
    trial_key,
)
from rwood.tracked.study import benchmark_run, rerun_run, search_run, setting_run, trial_run
from rwood.tracked.views import experiment_tags

__all__ = [
    "Artifacts",
    "Inputs",
    "TrackedInput",
    "TrackedRun",
    "benchmark_inputs",
    "benchmark_key",
    "benchmark_run",
    "experiment_tags",
    "finals_run",
    "finals_seed_run",
    "finals_setting_run",
    "rerun_key",
    "rerun_run",
    "search_inputs",
    "search_key",
    "search_run",
    "setting_run",
    "trial_key",
    "trial_run",
]
