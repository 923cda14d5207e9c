"""Parameters, tags and notes: what people read of a study in MLflow."""

from rwood.config.search import Choices, settings
from rwood.config.study import StudyConfig
from rwood.results import StudyResult, TrialResult
from rwood.text import count_of, short


def search_params(study: StudyConfig) -> dict[str, object]:
    """How the search searched; the number of trials may grow and is a metric."""
    if study.search is None:
        return {}
    params = settings(study.search, "search.")
    del params["search.space"], params["search.trials"]
    for key, domain in study.search.space.items():
        if isinstance(domain, Choices):
            params[f"search.space.{key}"] = ", ".join(map(str, domain.choices))
        else:
            log = ", log" if domain.log else ""
            params[f"search.space.{key}"] = f"{domain.low} to {domain.high}{log}"
    return params


def said(study: StudyConfig, record: StudyResult) -> dict[str, str]:
    """The question as a tag; with the champion as the run's description."""
    return {"rwood.question": study.question, "mlflow.note.content": _note(study, record)}


def trial_note(record: StudyResult, trial: TrialResult) -> str:
    """What became of a trial, in a line: its page opens with it.

    E.g. `Pruned after 8 epochs, which is no failure. val/auroc 98.65 %, val/fpr95 5.12 %`.
    """
    if trial.state == "running":  # a line that changed every epoch would be sent every epoch
        return "Running."
    epochs = count_of(max((report.epoch for report in trial.history), default=0), "epoch")
    parts = {
        "complete": [f"Complete after {epochs}."],
        "pruned": [f"Pruned after {epochs}, which is no failure."],
        "failed": [f"Failed after {epochs}: {trial.error or 'no reason was recorded'}"],
    }[trial.state]
    if trial.number == record.champion:
        parts.insert(0, "**The champion.**")
    last = trial.history[-1].metrics if trial.history else {}
    measured = {**last, **trial.objectives}
    names = dict.fromkeys((*(record.objectives or (record.objective or "",)), "val/fpr95"))
    values = ", ".join(f"{name} {measured[name]:.2f} %" for name in names if name in measured)
    return " ".join([*parts, values] if values else parts)


def _note(study: StudyConfig, record: StudyResult) -> str:
    """What MLflow shows under a run's name, in Markdown."""
    lines = [study.question]
    if record.champion is not None:
        best = next(t for t in record.trials if t.number == record.champion)
        reached = f", {_reached(record, best)}" if best.objective is not None else ""
        lines.append(f"Champion: **trial-{best.number:04d}**{reached}")
    if record.champion_params:
        rows = [f"| {key} | {short(value)} |" for key, value in record.champion_params.items()]
        lines.append("\n".join(["| setting | champion |", "| :-- | --: |", *rows]))
    return "\n\n".join(lines)


def _reached(record: StudyResult, best: TrialResult) -> str:
    values = best.objectives if len(best.objectives) > 1 else {record.objective: best.objective}
    text = ", ".join(f"{name} {value:.2f} %" for name, value in values.items())
    front = count_of(len(record.front), "trial")
    among = len(values) > 1 and best.number in record.front  # or the finals chose another
    return text + (f", of {front} on the Pareto front" if among else "")
