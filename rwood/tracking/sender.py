"""Sends runs over one client; knows what the server has."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rwood.tracked.run import TrackedInput, TrackedRun
from rwood.tracking.artifacts import ARTIFACTS_TAG, upload
from rwood.tracking.client import KEY_TAG, all_runs, connect, open_experiment, tag_experiment
from rwood.tracking.server_run import STATUS, Row, ServerRun, batches, changed_params, listed

_PARENT_TAG = "mlflow.parentRunId"


class Sender:
    """Makes runs on a server look as stated.

    Args:
        uri: tracking server or store.
        experiment: made if it is not there.
        artifacts: folder for the artifacts of a new experiment; None: the server's choice.
        tags: of the experiment; `{experiment}` in a text stands for its id.
    """

    def __init__(
        self, uri: str, experiment: str, artifacts: Path | None, tags: Mapping[str, str]
    ) -> None:
        """Ask the server what it has."""
        self._client = connect(uri)
        self._experiment = open_experiment(self._client, experiment, artifacts, tags)
        self._unlinked: dict[str, set[tuple[str, str]]] = {}
        self._server: dict[str, ServerRun] = {}
        self.ask_all_again()

    def send(self, run: TrackedRun) -> str:
        """Make the server's run look like this one; its id on the server."""
        server = self._server.get(run.key) or self._create(run)
        for tag, key in _links(run).items():
            if key not in self._server:
                self._unlinked.setdefault(key, set()).add((run.key, tag))
        try:
            self._log_inputs(run, server)
            self._log(run, server)
            if run.experiment:
                experiment = self._client.get_experiment(self._experiment)
                tag_experiment(self._client, experiment, run.experiment)
            self._log_artifacts(run, server)
        finally:  # What cannot be sent leaves no finished run RUNNING.
            self._set_status(run, server)
        return server.run_id

    def ask_all_again(self) -> None:
        """Ask the server what it has of every run; for use after an outage."""
        runs = all_runs(self._client, self._experiment)
        keyed = {run.data.tags.get(KEY_TAG): listed(run) for run in runs}
        self._server = {key: run for key, run in keyed.items() if key is not None}

    def ask_again(self, key: str) -> None:
        """Ask the server what it has of one run; for use after a failure.

        Raises:
            Exception: no answer, or none that helps: then no run is to blame.
        """
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment(self._experiment)
        if experiment.lifecycle_stage != "active":
            raise MlflowException(f"the experiment {experiment.name} was deleted")
        server = self._server.pop(key, None)
        if server is None:
            return
        try:
            run = self._client.get_run(server.run_id)
        except MlflowException as error:
            if error.get_http_status_code() != 404:
                raise
            return
        if run.info.lifecycle_stage == "active":  # A deleted one is made anew.
            self._server[key] = listed(run)

    def _create(self, run: TrackedRun) -> ServerRun:
        tags = {KEY_TAG: run.key, "mlflow.runName": run.name, "mlflow.source.name": "rwood"}
        tags |= self._link_tags(run)
        started = int((run.started or time.time()) * 1000)
        created = self._client.create_run(
            self._experiment, start_time=started, tags=tags, run_name=run.name
        )
        server = ServerRun(str(created.info.run_id), tags)
        self._server[run.key] = server
        self._link(run.key)
        return server

    def _link_tags(self, run: TrackedRun) -> dict[str, str]:
        """Links whose run is on the server."""
        known = self._server
        return {tag: known[key].run_id for tag, key in _links(run).items() if key in known}

    def _link(self, key: str) -> None:
        """Set the tags that waited for a run."""
        for source, tag in self._unlinked.pop(key, ()):
            if source in self._server:
                self._request(self._server[source], tags={tag: self._server[key].run_id})

    def _log_inputs(self, run: TrackedRun, server: ServerRun) -> None:
        missing = [i for i in run.inputs if (i.name, i.digest) not in server.inputs]
        if missing:
            self._client.log_inputs(server.run_id, datasets=[_dataset(i) for i in missing])
            server.inputs |= {(i.name, i.digest) for i in missing}

    def _log(self, run: TrackedRun, server: ServerRun) -> None:
        """Parameters, tags, epochs and final metrics: what the server lacks of them."""
        current = {k: str(v)[:6000] for k, v in run.params.items()}
        params = {k: v for k, v in current.items() if k not in server.params}
        changed = changed_params(current, server.params, server.tags)
        wanted = {**run.tags, **self._link_tags(run), **changed}
        tags = {k: v for k, v in wanted.items() if server.tags.get(k) != v}
        # Of two values of one time MLflow takes the greater to be the last.
        at, now = run.finished or time.time(), time.time()
        final = [
            (n, v, now if n in server.metrics else at, 0)
            for n, v in run.metrics.items()
            if server.metrics.get(n) != v
        ]
        fresh = [report for report in run.history if report.epoch > server.step]
        for rows, epoch in batches(fresh, final):
            self._request(server, rows, params, tags)
            server.step = epoch or server.step
            params, tags = {}, {}

    def _request(
        self,
        server: ServerRun,
        rows: Sequence[Row] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log in one request (MLflow's client splits what is too long for one)."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(n, v, int(at * 1000), step) for n, v, at, step in rows]
        pairs = [Param(k, v) for k, v in (params or {}).items()]
        marks = [RunTag(k, v) for k, v in (tags or {}).items()]
        if not metrics and not pairs and not marks:
            return
        self._client.log_batch(server.run_id, metrics, pairs, marks, synchronous=True)
        server.metrics |= {name: value for name, value, *_ in rows}
        server.params |= params or {}
        server.tags |= tags or {}

    def _log_artifacts(self, run: TrackedRun, server: ServerRun) -> None:
        before = server.tags.get(ARTIFACTS_TAG, "{}")
        uploaded: dict[str, str] = json.loads(before)
        try:
            upload(self._client, run, server.run_id, uploaded)
        finally:
            if json.loads(before) != uploaded:
                self._request(server, tags={ARTIFACTS_TAG: json.dumps(uploaded)})

    def _set_status(self, run: TrackedRun, server: ServerRun) -> None:
        status = STATUS[run.state]
        if status == server.status:
            return
        if status in ("RUNNING", "SCHEDULED"):
            self._client.update_run(server.run_id, status=status)
        else:
            end = int(run.finished * 1000) if run.finished else None
            self._client.set_terminated(server.run_id, status, end)
        server.status = status


def _links(run: TrackedRun) -> dict[str, str]:
    """Tag -> key of the run whose id it gets; the parent is one of them."""
    return {**({} if run.parent is None else {_PARENT_TAG: run.parent}), **run.links}


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
