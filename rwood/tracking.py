"""MLflow: experiment = study, run = trial or rerun. The only module that imports mlflow.

What is on disk is the truth and MLflow a copy: every call states how a record looks now, a thread
of its own sends what is missing, and saying the same again changes nothing. If the server is away,
the study goes on; what could not be sent goes with the next start.
"""

import logging
import os
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rwood.tracked import TrackedRun

_KEY = "rwood.key"
_RETRY_S = 2.0
_STATUS = {
    "running": "RUNNING",
    "complete": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
    "interrupted": "SCHEDULED",
}


def local_uri(results: Path) -> str:
    """The tracking store used when none is named: SQLite in the results folder."""
    return f"sqlite:///{(results / 'mlflow.db').resolve()}"


class Tracker:
    """Keeps one MLflow experiment equal to a study.

    Args:
        uri: tracking server or store.
        experiment: name of the study.
        artifacts: folder for artifacts where the store is a local file; None leaves the choice to
            the server.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path | None = None) -> None:
        """Start the sending thread; nothing is awaited here."""
        self.uri = uri
        self._experiment = experiment
        self._artifacts = artifacts
        self._wanted: dict[str, TrackedRun] = {}
        self._changed: dict[str, TrackedRun] = {}
        self._wake = threading.Condition()
        self._closing = False
        self._error: str | None = None
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def update(self, run: TrackedRun) -> None:
        """State how a run looks now; returns at once."""
        with self._wake:
            self._wanted[run.key] = run
            self._changed[run.key] = run
            self._wake.notify()

    def interrupt(self) -> None:
        """Mark what is still running as interrupted, to be continued by a later start."""
        for run in list(self._wanted.values()):
            if run.state == "running":
                self.update(replace(run, state="interrupted"))

    def close(self, timeout: float = 60.0) -> str | None:
        """Send the rest; a sentence if something could not be sent, else None."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout)
        if not self._changed:
            return None
        return (
            f"MLflow at {_without_password(self.uri)} did not take {len(self._changed)} run(s) "
            f"({self._error or 'too slow'}); nothing is lost: the next rwood run sends them"
        )

    def _work(self) -> None:
        sender: _Sender | None = None
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._changed or self._closing)
                batch = dict(self._changed)
                closing = self._closing
            if not batch and closing:
                return
            try:
                sender = sender or _Sender(self.uri, self._experiment, self._artifacts)
                for key, run in batch.items():
                    sender.send(run)
                    with self._wake:
                        if self._changed.get(key) is run:
                            del self._changed[key]
            except Exception as error:  # MLflow raises whatever its store or HTTP client raises.
                self._warn_once(error)
                sender = None  # The server may have more than was acknowledged: ask it again.
                if closing:
                    return
                time.sleep(_RETRY_S)

    def _warn_once(self, error: Exception) -> None:
        first = str(error).strip().splitlines()
        text = first[0] if first else type(error).__name__
        if self._error is None:
            logging.getLogger(__name__).warning("MLflow does not answer: %s", text, exc_info=error)
        self._error = text


class _Sender:
    """Sends runs over one client; knows what the server has."""

    def __init__(self, uri: str, experiment: str, artifacts: Path | None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
            from mlflow.tracking import MlflowClient
        self._client = MlflowClient(tracking_uri=uri)
        found = self._client.get_experiment_by_name(experiment)
        if found is None:
            location = artifacts.resolve().as_uri() if artifacts else None
            self._experiment = self._client.create_experiment(experiment, location)
        else:
            self._experiment = found.experiment_id
        self._ids: dict[str, str] = {}
        self._steps: dict[str, int] = {}
        self._sent: dict[str, TrackedRun] = {}
        self._files: dict[str, set[tuple[str, int, int]]] = {}
        for run in self._search_all():
            key = run.data.tags.get(_KEY)
            if key is not None:
                self._ids[key] = run.info.run_id

    def send(self, run: TrackedRun) -> None:
        """Make the server's run look like this one."""
        before = self._sent.get(run.key)
        run_id = self._ids.get(run.key) or self._create(run)
        if before is None:
            self._log_settings(run_id, run)
        elif before.tags != run.tags:
            self._log(run_id, tags=run.tags)
        self._log_history(run_id, run)
        if run.metrics and (before is None or before.metrics != run.metrics):
            self._log_final(run_id, run)
        self._log_artifacts(run_id, run)
        self._set_status(run_id, run, before)
        self._sent[run.key] = run

    def _create(self, run: TrackedRun) -> str:
        tags = {_KEY: run.key, "mlflow.runName": run.name, "mlflow.source.name": "rwood"}
        if run.parent is not None:
            tags["mlflow.parentRunId"] = self._ids[run.parent]
        started = int((run.started or time.time()) * 1000)
        created = self._client.create_run(
            self._experiment, start_time=started, tags=tags, run_name=run.name
        )
        self._ids[run.key] = str(created.info.run_id)
        self._steps[run.key] = 0
        return self._ids[run.key]

    def _log_settings(self, run_id: str, run: TrackedRun) -> None:
        known = self._client.get_run(run_id).data.params
        params = {k: str(v)[:6000] for k, v in run.params.items() if k not in known}
        self._log(run_id, params=params, tags=run.tags)

    def _log_history(self, run_id: str, run: TrackedRun) -> None:
        if not run.history:
            return
        if run.key not in self._steps:
            name = next(iter(run.history[0].metrics))
            had = self._client.get_metric_history(run_id, name)
            self._steps[run.key] = max((metric.step for metric in had), default=0)
        rows = [
            (name, value, report.time, report.epoch)
            for report in run.history
            if report.epoch > self._steps[run.key]
            for name, value in report.metrics.items()
        ]
        self._log(run_id, rows=rows)
        self._steps[run.key] = run.history[-1].epoch

    def _log_final(self, run_id: str, run: TrackedRun) -> None:
        had = self._client.get_run(run_id).data.metrics
        at = run.finished or time.time()
        rows = [(n, v, at, 0) for n, v in run.metrics.items() if had.get(n) != v]
        self._log(run_id, rows=rows)

    def _log(
        self,
        run_id: str,
        rows: list[tuple[str, float, float, int]] | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(n, v, int(at * 1000), step) for n, v, at, step in rows or ()]
        pairs = [Param(k, v) for k, v in (params or {}).items()]
        marks = [RunTag(k, v) for k, v in (tags or {}).items()]
        if pairs or marks:
            self._client.log_batch(run_id, params=pairs, tags=marks, synchronous=True)
        for start in range(0, len(metrics), 1000):
            self._client.log_batch(run_id, metrics=metrics[start : start + 1000], synchronous=True)

    def _log_artifacts(self, run_id: str, run: TrackedRun) -> None:
        done = self._files.setdefault(run.key, set())
        for path, folder in run.artifacts:
            stat = path.stat()
            mark = (str(path), stat.st_mtime_ns, stat.st_size)
            if mark not in done:
                self._client.log_artifact(run_id, str(path), folder)
                done.add(mark)

    def _set_status(self, run_id: str, run: TrackedRun, before: TrackedRun | None) -> None:
        if before is not None and before.state == run.state:
            return
        status = _STATUS[run.state]
        if status in ("RUNNING", "SCHEDULED"):
            self._client.update_run(run_id, status=status)
        elif self._client.get_run(run_id).info.status != status:
            end = int(run.finished * 1000) if run.finished else None
            self._client.set_terminated(run_id, status, end)

    def _search_all(self) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs([self._experiment], max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return found


def _without_password(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rsplit('@', 1)[-1]}"
