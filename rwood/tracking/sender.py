"""Sends runs over one client; knows what the server has."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rwood.results import EpochReport
from rwood.storage import local_copy
from rwood.tracked import TrackedInput, TrackedRun
from rwood.tracking.client import KEY_TAG, all_runs, connect

_ARTIFACTS_TAG = "rwood.artifacts"
"""JSON: artifact path -> digest of the file that was uploaded."""
_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Makes MLflow's UI open its pages for training, not those for language models."""
_BATCH = 900
"""Metrics a request; MLflow takes 1000."""
_STATUS = {
    "running": "RUNNING",
    "complete": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
    "interrupted": "SCHEDULED",
}


class Sender:
    """Makes runs on a server look as stated.

    Args:
        uri: tracking server or store.
        experiment: made if it is not there.
        artifacts: folder for the artifacts of a new experiment; None: the server's choice.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path | None) -> None:
        """Ask the server what it has."""
        self._client = connect(uri)
        found = self._client.get_experiment_by_name(experiment)
        if found is None:
            location = artifacts.resolve().as_uri() if artifacts else None
            self._experiment = self._client.create_experiment(experiment, location, _KIND)
        else:
            self._experiment = found.experiment_id
        self._ids: dict[str, str] = {}
        self._steps: dict[str, int] = {}
        self._sent: dict[str, TrackedRun] = {}
        self._seen: dict[tuple[str, Path], tuple[int, int]] = {}
        self._unlinked: dict[tuple[str, str], str] = {}
        for run in all_runs(self._client, self._experiment):
            key = run.data.tags.get(KEY_TAG)
            if key is not None:
                self._ids[key] = run.info.run_id

    def send(self, run: TrackedRun) -> str:
        """Make the server's run look like this one; its id on the server."""
        before, known = self._sent.get(run.key), self._ids.get(run.key)
        run_id = known or self._create(run)
        # The server is asked once, of a run that an earlier start made; of others we know.
        had = self._client.get_run(run_id) if known and before is None else None
        if before is None:
            self._log_settings(run_id, run, had)
        elif before.tags != run.tags:
            self._log(run_id, tags=run.tags)
        if before is None or before.links != run.links:
            self._unlinked |= {(run_id, tag): key for tag, key in run.links.items()}
        self._link()
        self._log_history(run_id, run)
        metrics = had.data.metrics if had else before.metrics if before else {}
        self._log_final(run_id, run, metrics)
        self._log_artifacts(run_id, run)
        status = had.info.status if had else _STATUS[before.state if before else "running"]
        self._set_status(run_id, run, status)
        self._sent[run.key] = run
        return run_id

    def _create(self, run: TrackedRun) -> str:
        tags = {KEY_TAG: run.key, "mlflow.runName": run.name, "mlflow.source.name": "rwood"}
        if run.parent is not None:
            tags["mlflow.parentRunId"] = self._ids[run.parent]
        started = int((run.started or time.time()) * 1000)
        created = self._client.create_run(
            self._experiment, start_time=started, tags=tags, run_name=run.name
        )
        self._ids[run.key] = str(created.info.run_id)
        self._steps[run.key] = 0
        return self._ids[run.key]

    def _log_settings(self, run_id: str, run: TrackedRun, had: Any) -> None:
        there = had.data.params if had else {}
        params = {k: str(v)[:6000] for k, v in run.params.items() if k not in there}
        there = had.data.tags if had else {}
        tags = {k: v for k, v in run.tags.items() if there.get(k) != v}
        self._log(run_id, params=params, tags=tags)
        inputs = had.inputs.dataset_inputs if had else ()
        known = {(i.dataset.name, i.dataset.digest) for i in inputs}
        missing = [i for i in run.inputs if (i.name, i.digest) not in known]
        if missing:
            self._client.log_inputs(run_id, datasets=[_dataset(i) for i in missing])

    def _link(self) -> None:
        """Set the tags whose run is on the server by now."""
        for (run_id, tag), key in list(self._unlinked.items()):
            if key in self._ids:
                self._log(run_id, tags={tag: self._ids[key]})
                del self._unlinked[run_id, tag]

    def _log_history(self, run_id: str, run: TrackedRun) -> None:
        if not run.history:
            return
        if run.key not in self._steps:
            name = next(iter(run.history[0].metrics))
            had = self._client.get_metric_history(run_id, name)
            self._steps[run.key] = max((metric.step for metric in had), default=0)
        fresh = [report for report in run.history if report.epoch > self._steps[run.key]]
        for reports in _batches(fresh):
            rows = [(n, v, r.time, r.epoch) for r in reports for n, v in r.metrics.items()]
            self._log(run_id, rows=rows)
            self._steps[run.key] = reports[-1].epoch

    def _log_final(self, run_id: str, run: TrackedRun, had: Mapping[str, float]) -> None:
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
        changed = []
        for path, folder in run.artifacts:
            stat = path.stat()
            mark = (stat.st_mtime_ns, stat.st_size)
            if self._seen.get((run.key, path)) != mark:
                changed.append((path, folder, mark))
        if not changed:
            return
        told = self._client.get_run(run_id).data.tags.get(_ARTIFACTS_TAG, "{}")
        uploaded: dict[str, str] = json.loads(told)
        for path, folder, mark in changed:
            name, content = f"{folder}/{path.name}" if folder else path.name, _digest(path)
            if uploaded.get(name) != content:
                with local_copy(path) as file:
                    self._client.log_artifact(run_id, str(file), folder)
                uploaded[name] = content
            self._seen[run.key, path] = mark
        if json.loads(told) != uploaded:
            self._log(run_id, tags={_ARTIFACTS_TAG: json.dumps(uploaded)})

    def _set_status(self, run_id: str, run: TrackedRun, had: str) -> None:
        status = _STATUS[run.state]
        if status == had:
            return
        if status in ("RUNNING", "SCHEDULED"):
            self._client.update_run(run_id, status=status)
        else:
            end = int(run.finished * 1000) if run.finished else None
            self._client.set_terminated(run_id, status, end)


def _dataset(given: TrackedInput) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    profile = {} if given.images is None else {"num_rows": given.images}
    dataset = Dataset(
        name=given.name,
        digest=given.digest,
        source_type="image set",
        source=json.dumps({"image set": given.name}),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset=dataset, tags=[InputTag("mlflow.data.context", given.role)])


def _batches(reports: Sequence[EpochReport]) -> Iterator[list[EpochReport]]:
    """Whole epochs that fit a request: an epoch is on the server with all its metrics or none."""
    batch: list[EpochReport] = []
    size = 0
    for report in reports:
        if batch and size + len(report.metrics) > _BATCH:
            yield batch
            batch, size = [], 0
        batch.append(report)
        size += len(report.metrics)
    if batch:
        yield batch


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
