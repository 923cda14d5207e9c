"""A study as a comparison needs it, read from MLflow alone."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from rwood.errors import StudyError
from rwood.results import COMPARED, StudySummary
from rwood.text import did_you_mean, without_password
from rwood.tracking.client import KEY_TAG, all_runs, connect, local_file, reason, without_login
from rwood.tracking.server_run import current_params

_CHAMPION, _BASE = "champion", "base"


def read_summary(uri: str, experiment: str) -> StudySummary:
    """A study's champion, its reruns, and the cost of the whole study.

    Where a study was deleted and run again, the newest finished one counts, and the note says so.

    Raises:
        StudyError: no such study, nothing in it, or no answer from the server.
    """
    runs = _Runs(uri, experiment)
    reruns = [run for label in (_CHAMPION, _BASE, *runs.trial_labels) for run in runs.reruns(label)]
    return runs.summary(experiment, _CHAMPION, _cost(runs.searching + reruns))


def read_settings(uri: str, experiment: str) -> list[StudySummary]:
    """The settings that a study reran: its base run, its champion, then the trials it reran too.

    The champion's cost is that of search, finals and its own reruns; the others' that of theirs.

    Raises:
        StudyError: no such study, nothing in it, no rerun of the base, or no answer.
    """
    runs = _Runs(uri, experiment)
    if not runs.reruns(_BASE):
        raise StudyError(
            f"study {experiment} has no reruns of its base run to compare the champion with: name "
            "two studies, or set rerun.base and run it again"
        )
    runs.note += "; " * bool(runs.note) + "the champion's cost includes search and finals"
    return [
        runs.summary(
            f"{experiment} {label}",
            label,
            _cost(runs.reruns(label) + (runs.searching if label == _CHAMPION else [])),
        )
        for label in (_BASE, _CHAMPION, *runs.trial_labels)
    ]


class _Runs:
    """The runs of one study, sorted by what they are."""

    def __init__(self, uri: str, experiment: str) -> None:
        """Ask the server.

        Raises:
            StudyError: no such study, or nothing in it, or no answer.
        """
        studies = _studies(_fetch(uri, experiment))
        if not studies:
            raise StudyError(f"study {experiment} in MLflow has no run of rwood's yet")
        finished = {
            name: runs
            for name, runs in studies.items()
            if any(_kind(r) == "benchmark" and r.info.status == "FINISHED" for r in runs)
        }
        chosen = max((finished or studies).values(), key=_started)
        self.note = "" if finished else f"{experiment} is not finished"
        if len(studies) > 1:
            which = "newest finished one" if finished else "newest one, not finished yet"
            self.note = f"{experiment} was run {len(studies)} times; this is the {which}"
        self.parents = {_kind(r): r for r in chosen if _kind(r) in ("search", "benchmark")}
        self.trials = [r for r in chosen if _kind(r) == "trial"]
        self.searching = [*self.trials, *(r for r in chosen if _kind(r) == "finals-seed")]
        self._reruns = [r for r in chosen if _kind(r) == "rerun"]
        labels = {r.data.tags["rwood.label"] for r in self._reruns}
        self.trial_labels = sorted(labels - {_CHAMPION, _BASE})
        """`trial-0007`, ...: trials that were rerun beside champion and base run."""

    def trial(self, label: str) -> Any:
        """The trial whose setting has a label; None if there is none, as before selection."""
        if label == _CHAMPION:
            number = self._searched("rwood.champion")
        else:
            number = "0" if label == _BASE else str(int(label.removeprefix("trial-")))
        return next((t for t in self.trials if t.data.tags["rwood.trial"] == number), None)

    def reruns(self, label: str) -> list[Any]:
        """Reruns with a label; of an earlier champion of the same study, none."""
        chosen = [r for r in self._reruns if r.data.tags["rwood.label"] == label]
        if label == _BASE and not chosen:
            champion = self.trial(_CHAMPION)
            same = champion is None or champion.data.tags["rwood.trial"] == "0"
            return self.reruns(_CHAMPION) if same else []
        if label != _CHAMPION:
            return chosen
        wanted = self._searched("rwood.champion_run_id")
        return [r for r in chosen if r.data.tags.get("rwood.champion_run_id") == wanted]

    def _searched(self, tag: str) -> str | None:
        """A tag of the search; None without it."""
        search = self.parents.get("search")
        return None if search is None else search.data.tags.get(tag)

    def summary(self, name: str, label: str, cost: Mapping[str, float]) -> StudySummary:
        """What is known of the setting with a label."""
        trial = self.trial(label)
        return StudySummary(
            name=name,
            settings=self._settings(trial, self.reruns(label)),
            objective=trial.data.metrics.get("objective") if trial is not None else None,
            objective_name=self._searched("rwood.objective"),
            seeds={
                int(run.data.params["seed"]): {
                    k: v for k, v in run.data.metrics.items() if k in COMPARED
                }
                for run in self.reruns(label)
                if run.info.status == "FINISHED"
            },
            seconds=cost["seconds"],
            gpu_seconds=cost["gpu_seconds"],
            epochs=round(cost["epochs"]),
            note=self.note,
        )

    def _settings(self, trial: Any, reruns: Sequence[Any]) -> dict[str, object]:
        parent = self.parents.get("search") or self.parents.get("benchmark")
        params: dict[str, str] = {}
        if parent is not None:
            params |= current_params(parent)
            if "trials" in parent.data.metrics:
                params["search.trials"] = str(round(parent.data.metrics["trials"]))
        if reruns:  # Theirs are whole: another loss starts from its own defaults.
            params = {key: text for key, text in params.items() if key.startswith("search.")}
            params |= current_params(reruns[0])
        elif trial is not None:
            params |= current_params(trial)
        params.pop("seed", None)  # Of the base run; reruns have their own.
        return {key: _value(text) for key, text in sorted(params.items())}


def _fetch(uri: str, experiment: str) -> Sequence[Any]:
    store = local_file(uri)
    if store is not None and not store.exists():  # MLflow would make an empty one.
        raise StudyError(
            f"there is no MLflow store {store}: name the folder of a study that ran by --results, "
            "or a server by --tracking-uri"
        )
    uri = without_login(uri)
    shown = without_password(uri)
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DatabaseError

    try:
        client = connect(uri)
        study = client.get_experiment_by_name(experiment)
        if study is not None:
            return all_runs(client, study.experiment_id)
        names = [e.name for e in client.search_experiments() if e.name != "Default"]
    except MlflowException as error:
        raise StudyError(f"MLflow at {shown} does not answer: {reason(error, uri)}") from error
    except DatabaseError as error:
        raise StudyError(f"{shown} is no store of MLflow's: {error.orig}") from error
    hint = did_you_mean(experiment, names, "it holds no study", cutoff=0.0)
    raise StudyError(f"MLflow at {shown} knows no study {experiment}; {hint}", known=names)


def _studies(runs: Sequence[Any]) -> dict[str, list[Any]]:
    """Study id -> its runs."""
    studies: dict[str, list[Any]] = {}
    for run in runs:
        name, separator, _ = run.data.tags.get(KEY_TAG, "").partition("/")
        if separator:
            studies.setdefault(name, []).append(run)
    return studies


def _started(runs: Sequence[Any]) -> int:
    return max((r.info.start_time for r in runs if _kind(r) != "trial"), default=0)


def _kind(run: Any) -> str:
    return str(run.data.tags.get("rwood.kind"))


def _cost(runs: Sequence[Any]) -> dict[str, float]:
    unique = {run.info.run_id: run.data.metrics for run in runs}
    names = ("seconds", "gpu_seconds", "epochs")
    return {name: sum(row.get(name, 0.0) for row in unique.values()) for name in names}


def _value(text: str) -> object:
    """A parameter as the setting that it was."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
