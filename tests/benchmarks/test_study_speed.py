"""What a study costs beside its trainings: `pytest tests/benchmarks/test_study_speed.py -n 0 -s`.

On the digits. Wall times: they mean something on a quiet machine only. Two CPU
cores are used.
"""

import multiprocessing
import statistics
import time

import pytest
import torch

from rwood.config.load import load_study
from rwood.config.optuna_classes import SamplerConfig
from rwood.config.search import apply
from rwood.ray_backend.session import session
from rwood.search.read_trials import read_trials
from rwood.search.tuner import search
from rwood.selection import select_champion
from rwood.training.train import train
from rwood.training.worker import LocalWorker

OBJECTIVE = "val/auroc"


@pytest.fixture(scope="module", autouse=True)
def environment():
    """The workers of Ray and of the plain processes inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def digits(digits_file, *, trials, concurrent, run=None, **search_changes):
    study = load_study(digits_file)
    assert study.search is not None
    changes = {"sampler": SamplerConfig(name="random"), "pruner": None, "trials": trials}
    changes |= search_changes
    return study.model_copy(
        update={
            "run": apply(study.run, run or {}),
            "search": study.search.model_copy(update=changes),
            "cluster": study.cluster.model_copy(update={"max_concurrent": concurrent}),
        }
    )


def searched(study, folder):
    search(
        study, record_id="speed", folder=folder, data_root=folder,
        on_change=lambda trial: None, on_note=print,
    )  # fmt: skip
    trials = list(read_trials(study, folder).values())
    assert {trial.state for trial in trials} <= {"complete", "pruned"}
    return trials


def epoch_seconds(trial):
    """A later epoch with validation, checkpoint and report."""
    times = [report.time for report in trial.history]
    return statistics.median(b - a for a, b in zip(times, times[1:], strict=False))


def row(name, *cells):
    print("\n| " + " | ".join([name, *cells]) + " |", flush=True)


def test_one_worker_trials_in_a_warm_study(tmp_path, digits_file):
    study = digits(digits_file, trials=10, concurrent=1, run={"epochs": 4, "model.width": 8})
    began = time.time()
    with session(None, log=tmp_path / "log", cpus=2):
        connected = time.time()
        trials = searched(study, tmp_path)
        ended = time.time()
    assert all(trial.state == "complete" for trial in trials)
    # From the last report of a trial to the first of the next, less the epoch in between.
    gaps = [
        after.history[0].time - before.history[-1].time - epoch_seconds(after)
        for before, after in zip(trials, trials[1:], strict=False)
    ]
    first = trials[0].history[0].time - epoch_seconds(trials[0]) - began
    row(
        "overhead of a one-worker trial, warm study",
        f"median {statistics.median(gaps):.3f} s ({min(gaps):.3f} to {max(gaps):.3f})",
        "target <= 0.15 s",
    )
    row(
        "time to first trial",
        f"{first:.1f} s, of it {connected - began:.1f} s to start Ray",
        f"whole search of 10 tiny trials {ended - began:.1f} s",
    )


def plainly(study, params, numbers, folder):
    torch.set_num_threads(study.cluster.cpus_per_worker)
    for number in numbers:
        run = apply(study.run, params[number])
        reports = []
        worker = LocalWorker(folder / f"{number:04d}", torch.device("cpu"), reports.append)
        train(run, study.benchmark, worker, data_root=folder)
        (worker.folder / "objective").write_text(repr(reports[-1].metrics[OBJECTIVE]))


def test_twelve_trials_with_and_without_ray(tmp_path, digits_file):
    study = digits(digits_file, trials=12, concurrent=2)
    start = time.monotonic()
    with session(None, log=tmp_path / "log", cpus=2):
        trials = searched(study, tmp_path / "ray")
    with_ray = time.monotonic() - start
    params = [trial.params for trial in trials]
    plain = tmp_path / "plain"
    context = multiprocessing.get_context("spawn")
    start = time.monotonic()
    processes = [
        context.Process(target=plainly, args=(study, params, range(i, 12, 2), plain))
        for i in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    without = time.monotonic() - start
    for trial in trials:
        alone = float((plain / f"{trial.number:04d}" / "objective").read_text())
        assert trial.objective == pytest.approx(alone, abs=1e-9)
    row(
        "12 digits trials, search alone",
        f"with Ray {with_ray:.1f} s",
        f"two plain processes {without:.1f} s",
        f"{with_ray / without:.2f}x",
        "target <= 2x",
    )


def test_throughput_of_two_trials_at_once(tmp_path, digits_file):
    rates, objectives = [], []
    with session(None, log=tmp_path / "log", cpus=2):
        for concurrent in (1, 2):
            study = digits(digits_file, trials=8, concurrent=concurrent, run={"epochs": 8})
            trials = searched(study, tmp_path / str(concurrent))
            # Between the ends of trials, so that neither the start nor the tail counts.
            ends = sorted(trial.finished for trial in trials)
            rates.append((len(ends) - 1 - concurrent) / (ends[-1] - ends[concurrent]))
            objectives.append([trial.objective for trial in trials])
    assert objectives[0] == pytest.approx(objectives[1], abs=1e-9)
    row(
        "throughput, 1 -> 2 concurrent trials",
        f"{rates[0]:.2f} and {rates[1]:.2f} trials a second",
        f"{rates[1] / rates[0]:.2f}x",
        "target >= 1.8x",
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pruning_saves_epochs_and_keeps_the_choice(tmp_path, digits_file, seed):
    """The digits study's own run and rule, random proposals, with and without the rule."""
    rule = load_study(digits_file).search.pruner
    found = {}
    with session(None, log=tmp_path / "log", cpus=2):
        for name, stopping in (("full", None), ("pruned", rule)):
            study = digits(digits_file, trials=27, concurrent=2, pruner=stopping, seed=seed)
            found[name] = searched(study, tmp_path / name)
    full, early = found["full"], found["pruned"]
    assert [t.params for t in full] == [t.params for t in early]
    spent = [sum(len(trial.history) for trial in trials) for trials in (full, early)]
    assert spent[1] < spent[0] == 27 * study.run.epochs
    best, chosen = (select_champion(trials, [OBJECTIVE]) for trials in (full, early))
    # What stopping kept, it trained as the full search did.
    assert chosen.objective == pytest.approx(full[chosen.number].objective, abs=1e-9)
    spread = seed_std(study, best.params, tmp_path)
    row(
        f"early stopping, 27 digits trials, search seed {seed}",
        f"{spent[1]} of {spent[0]} epochs: {spent[0] / spent[1]:.2f}x saved",
        f"chosen {chosen.objective:.3f}, best {best.objective:.3f} (val AUROC, %): "
        f"{(best.objective - chosen.objective) / spread:.2f} seed std apart",
        f"seed std {spread:.3f}",
        "target >= 3x, within one seed std",
    )


def seed_std(study, params, folder):
    """Of the objective over five seeds that the search has not picked its best by."""
    torch.set_num_threads(1)
    values = []
    for seed in range(1, 6):
        reports = []
        worker = LocalWorker(folder / f"seed{seed}", torch.device("cpu"), reports.append)
        run = apply(study.run, params | {"seed": seed})
        train(run, study.benchmark, worker, data_root=folder)
        values.append(reports[-1].metrics[OBJECTIVE])
    return statistics.stdev(values)
