"""The search and its cost as tables: trials, settings, epochs saved, seconds, versions."""

from dataclasses import dataclass

from rwood.config.study import StudyConfig
from rwood.report.hyperparameters import hyperparameters, last_metrics, metric_title
from rwood.report.inputs import ReportInputs
from rwood.report.table import Table, plain_number, with_std
from rwood.results import StudyResult, TrialResult
from rwood.text import count_of, duration


@dataclass(frozen=True)
class Saving:
    """What early stopping spared, over the trials that ended complete or pruned."""

    pruned: int
    """Trials pruned."""
    epochs_run: int
    epochs_full: int
    """Epochs had every one of these trials run to its end."""

    @property
    def share(self) -> float:
        """Share of the epochs spared, in percent."""
        return 100 * (1 - self.epochs_run / self.epochs_full) if self.epochs_full else 0.0


def epochs_run(trial: TrialResult) -> int:
    """Epochs that the trial reported; those repeated after a crash count once."""
    return max((report.epoch for report in trial.history), default=0)


def saving(study: StudyResult, config: StudyConfig) -> Saving:
    """Epochs run and epochs that a search without early stopping would have run, of all seeds."""
    each = study.trainings_per_trial
    ended = [t for t in study.trials if t.state in ("complete", "pruned")]
    return Saving(
        pruned=sum(t.state == "pruned" for t in ended),
        epochs_run=each * sum(epochs_run(t) for t in ended),
        epochs_full=each * sum(int(t.params.get("epochs", config.run.epochs)) for t in ended),
    )


def knob_table(inputs: ReportInputs) -> Table:
    """The searched settings: what was allowed, the base run's value, the champion's."""
    chosen = inputs.study.champion_params
    rows = tuple(
        (
            parameter.name,
            parameter.range,
            plain_number(parameter.base),
            plain_number(chosen.get(parameter.key) if chosen else parameter.base),
        )
        for parameter in hyperparameters(inputs.config)
    )
    return Table(("setting", "searched", "base run", "champion"), rows)


def trial_table(inputs: ReportInputs) -> Table:
    """Every trial: state, objective, epochs and settings."""
    study, parameters = inputs.study, hyperparameters(inputs.config)
    names = study.objectives or (study.objective or "objective",)
    titles = [metric_title(name) if "/" in name else name for name in names]
    columns = ("trial", "state", *titles, "epochs", *(parameter.name for parameter in parameters))
    rows = []
    for trial in study.trials:
        last = [last_metrics(trial, name) for name in names]
        number = f"{trial.number} ★" if trial.number == study.champion else str(trial.number)
        shown = ("" if pair is None else with_std(*pair) for pair in last)
        settings = (plain_number(parameter.of(trial)) for parameter in parameters)
        state = f"{trial.state}, outside" if trial.outside else trial.state
        rows.append((number, state, *shown, str(epochs_run(trial)), *settings))
    caption = "★ champion. The objective of a trial that did not complete is its last value."
    if any(trial.outside for trial in study.trials):
        caption += " Outside: of the ranges as they are now; such a trial counts for nothing."
    return Table(columns, tuple(rows), caption)


def failures(study: StudyResult) -> list[str]:
    """One line for each failed trial: which and why."""
    return [
        f"Trial {t.number} failed: {t.error or 'no reason was recorded'}"
        for t in study.trials
        if t.state == "failed"
    ]


def cost_table(study: StudyResult) -> Table:
    """Wall time of each stage, epochs of the trials and time of the reruns."""
    rows = [(f"{stage} (wall time)", duration(s)) for stage, s in study.wall_seconds.items()]
    if study.trials:
        epochs = study.trainings_per_trial * sum(epochs_run(trial) for trial in study.trials)
        trials = count_of(len(study.trials), "trial")
        rows.append(("epochs of all trials", f"{epochs:,} in {trials}"))
    counted: set[str] = set()
    for label in dict.fromkeys(run.label for run in study.runs):
        runs = [run for run in study.of(label) if run.digest not in counted]
        if not runs:  # The base run is the champion, and ran once.
            continue
        counted |= {run.digest for run in runs}
        epochs = sum(max((e.epoch for e in run.history), default=0) for run in runs)
        each = duration(sum(run.seconds for run in runs) / len(runs))
        cost = f"{len(runs)} × {each}, {count_of(epochs, 'epoch')} in all"
        rows.append((f"reruns of the {label}", cost))
    return Table(("what", "cost"), tuple(rows))


def versions_table(study: StudyResult) -> Table:
    """What ran: packages, Python, commit, device."""
    return Table(("part", "version"), tuple(study.versions.items()))
