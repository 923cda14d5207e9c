"""A study as a Ray job: sent to a cluster's job server, followed, asked after, stopped.

The job is `rwood run` on the cluster's head node, with the cluster's rwood, image sets, Ray token
and MLflow login. Nothing secret is sent: a job's command and environment can be read by whoever
may list jobs. The submission id is `rwood-<study>-<n>`, so that a study is found by its name.
"""

import asyncio
import logging
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rwood.config.study import StudyConfig
from rwood.errors import RwoodError, StudyError
from rwood.ray_backend.job_folder import entrypoint, fill
from rwood.text import first_line, without_password

STOP_WAIT_S = 60
"""Time a stopped job gets to leave its records consistent."""
_POLL_S = 0.5


@dataclass(frozen=True)
class Submission:
    """A study's job, as the cluster tells."""

    id: str
    state: str
    """`PENDING`, `RUNNING`, `STOPPED`, `SUCCEEDED` or `FAILED`."""
    started: float | None = None
    """Unix seconds."""
    ended: float | None = None
    exit_code: int | None = None
    """Of `rwood run`, if it ended by itself."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("STOPPED", "SUCCEEDED", "FAILED")


class JobServer:
    """The job server of a running cluster.

    Ray finds the cluster's token where its other programs do: `RAY_AUTH_TOKEN`,
    `RAY_AUTH_TOKEN_PATH`, or the user's home.

    Args:
        address: of the head node's dashboard, `http://host:8265`.

    Raises:
        RwoodError: nobody answers there, or the token is refused.
    """

    def __init__(self, address: str) -> None:
        """Ask for the server's version."""
        self.address = without_password(address)
        if not address.startswith(("http://", "https://")):  # Ray would ask its own port for long.
            raise RwoodError(
                f"{self.address} is not the address of a Ray dashboard: give the head node's, "
                "e.g. --address http://head:8265"
            )
        from ray.dashboard.modules import dashboard_sdk
        from ray.dashboard.modules.job import sdk
        from ray.job_submission import JobSubmissionClient

        from rwood.ray_backend import compat

        for logger in (logging.getLogger("ray"), dashboard_sdk.logger, sdk.logger):
            logger.setLevel(logging.ERROR)
        compat.show_token()
        with self._answering():
            self._client = JobSubmissionClient(address)

    def submit(
        self,
        study: StudyConfig,
        *,
        results: Path,
        data_root: Path | None = None,
        tracking_uri: str | None = None,
        code: bool = False,
        requirements: Path | None = None,
    ) -> Submission:
        """Start a study's job, which goes on where an earlier one stopped.

        Args:
            study: resolved; sent as one file.
            results: as the cluster's nodes see it.
            data_root: the same; None leaves it to `RWOOD_DATA` there.
            tracking_uri: as the head node sees it; None leaves it to `MLFLOW_TRACKING_URI` there.
            code: send this rwood along, in place of the cluster's.
            requirements: a file for pip, which every node installs for this job alone.

        Raises:
            StudyError: a job of this study is alive, or a path or address cannot be sent.
        """
        extra = {} if requirements is None else {"pip": str(requirements)}
        command = entrypoint(results, data_root, tracking_uri)
        known = self._of(study.name)
        if known and not known[-1].is_over:
            raise StudyError(
                f"study {study.name} is already {known[-1].state.lower()} as {known[-1].id} at "
                f"{self.address}: ask with --status, end it with --stop"
            )
        number = _number(known[-1].id) + 1 if known else 1
        with tempfile.TemporaryDirectory(prefix="rwood-") as scratch:
            fill(Path(scratch), study, code=code)
            with self._answering():
                made = self._client.submit_job(
                    entrypoint=command,
                    submission_id=f"rwood-{study.name}-{number}",
                    metadata={"rwood_study": study.name},
                    runtime_env={
                        "working_dir": scratch,
                        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)},
                        **extra,
                    },
                )
        return Submission(made, "PENDING")

    def follow(self, id: str, say: Callable[[str], None]) -> Submission:
        """Pass on what a job prints until it is over.

        Args:
            id: of the submission.
            say: called with pieces of text, line ends included.
        """

        async def tail() -> None:
            async for text in self._client.tail_job_logs(id):
                say(text)

        with self._answering():
            asyncio.run(tail())
        return self._until_over(id)

    def latest(self, study: str) -> Submission:
        """The last job of a study.

        Raises:
            StudyError: there was none.
        """
        known = self._of(study)
        if not known:
            raise StudyError(f"{self.address} knows no job of study {study}: submit it first")
        return known[-1]

    def stop(self, study: str) -> Submission:
        """End the last job of a study and wait until it is gone; what ran is saved.

        Raises:
            StudyError: there was none, or it is over.
        """
        last = self.latest(study)
        if last.is_over:
            raise StudyError(f"{last.id} is over ({last.state.lower()}): nothing to stop")
        with self._answering():
            self._client.stop_job(last.id)
        return self._until_over(last.id)

    def _until_over(self, id: str) -> Submission:
        while True:
            with self._answering():
                job = _submission(self._client.get_job_info(id))
            if job.is_over:
                return job
            time.sleep(_POLL_S)

    def _of(self, study: str) -> list[Submission]:
        """A study's jobs, oldest first."""
        with self._answering():
            jobs = self._client.list_jobs()
        pattern = re.compile(rf"rwood-{re.escape(study)}-\d+")
        mine = [_submission(job) for job in jobs if pattern.fullmatch(job.submission_id or "")]
        return sorted(mine, key=lambda job: _number(job.id))

    @contextmanager
    def _answering(self) -> Any:
        """Turn what Ray raises into a sentence; none of it holds the token."""
        from aiohttp import ClientError
        from ray.exceptions import AuthenticationError, RayError
        from requests import RequestException

        try:
            yield
        except AuthenticationError as error:
            raise RwoodError(
                f"the cluster at {self.address} does not accept the token of this user: put the "
                "cluster's into RAY_AUTH_TOKEN, or its file into RAY_AUTH_TOKEN_PATH"
            ) from error
        except (ConnectionError, RequestException, ClientError, RayError) as error:
            raise RwoodError(
                f"no Ray dashboard answers at {self.address} ({type(error).__name__}): give the "
                "head node's, e.g. --address http://head:8265"
            ) from error
        except (RuntimeError, ValueError) as error:
            sentence = f"the cluster at {self.address} refuses: {first_line(error)}"
            raise RwoodError(sentence) from error


def _submission(job: Any) -> Submission:
    return Submission(
        id=str(job.submission_id),
        state=str(job.status.value),
        started=job.start_time / 1000 if job.start_time else None,
        ended=job.end_time / 1000 if job.end_time else None,
        exit_code=job.driver_exit_code,
    )


def _number(id: str) -> int:
    return int(id.rpartition("-")[2])
