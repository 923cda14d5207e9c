"""A Ray cluster, and MLflow on PostgreSQL, on this machine only: a real one but for its size.

    eval "$(python infra/local/cluster.py start)"     # a head, two workers, MLflow, PostgreSQL
    rwood run studies/digits.yaml                     # finds them by the environment
    python infra/local/cluster.py stop

Everything listens on loopback, on free ports, and asks for a secret: Ray for its token, MLflow for
a user and password, PostgreSQL for its own. Secrets are made at the first start, in files that only
their owner can read. Single services can be stopped and started by name, to see what a study does
without them: `stop mlflow`, `start mlflow`. Data outlive `stop`. Needs no network, and Linux.
"""

import argparse
import fcntl
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from services import (
    FIRST,
    HOST,
    LOOPBACK,
    MARK,
    SECOND,
    Place,
    Service,
    ServiceError,
    mlflow_login,
    prepare,
    services,
)

GRACE_S = 20
"""A service that was asked to end has this long before it is killed."""
ATTEMPTS = 3
"""Starts of a service: Ray gives a node 30 s to come up, which a busy machine may miss."""


class Cluster:
    """The services of one folder; the processes that are up are noted in its `state.json`.

    Args:
        folder: data, secrets, logs and state.
        workers: Ray's worker nodes.
        cpus: CPUs that each worker node offers.
    """

    def __init__(self, folder: Path, workers: int = 2, cpus: int = 2) -> None:
        """Make the folder; start nothing."""
        self.place = Place(folder.absolute())
        self.place.make()
        self._services = services(self.place, workers, cpus)

    @property
    def names(self) -> list[str]:
        """Services, in the order in which they start."""
        return list(self._services)

    def start(self, *names: str) -> None:
        """Start services, all by default; those that are up are left alone.

        Raises:
            ServiceError: a service did not come up, or what it needs is not installed.
        """
        with self._alone():
            if not any(map(self.pid, self.names)):
                self.place.choose_ports()
            prepare(self.place)
            asked = [self._services[n] for n in names or self.names if self.pid(n) is None]
            for wave in (FIRST, SECOND):  # Side by side: each takes seconds to come up.
                self._start([service for service in asked if service.wave == wave])

    def stop(self, *names: str) -> None:
        """Stop services, all by default, the last first."""
        with self._alone():
            for name in reversed(names or self.names):
                self._end(self.processes(name), self._services[name].end)
                self._note(name, None)

    def kill(self, name: str) -> None:
        """Take a service away as a power cut would."""
        self._end(self.processes(name), signal.SIGKILL)

    def pid(self, name: str) -> int | None:
        """The service's first process, if it is up."""
        noted = self._state().get(name)
        if noted is None:
            return None
        try:
            process = psutil.Process(noted["pid"])
            up = process.create_time() == noted["created"]
            up = up and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            up = False
        return noted["pid"] if up else None

    def processes(self, name: str) -> list[psutil.Process]:
        """Every process of a service, told by the mark that it inherited; the first one first."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.place.mark(name):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        first = self.pid(name)
        return sorted(found, key=lambda p: (p.pid != first, p.pid))

    def environment(self) -> dict[str, str]:
        """What a driver's environment needs."""
        place = self.place
        ray = {
            "RAY_ADDRESS": place.ray_address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(place.secret("ray_token")),
            "RAY_API_SERVER_ADDRESS": f"http://{HOST}:{place.port('dashboard')}",
        }
        return LOOPBACK | ray | mlflow_login(place)

    def _start(self, wave: list[Service]) -> None:
        launched = {service.name: self._launch(service) for service in wave}
        for service in wave:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    service.wait(self.place, launched[service.name])
                    break
                except ServiceError:
                    self._end(self.processes(service.name), signal.SIGKILL)
                    if attempt == ATTEMPTS:
                        raise
                    launched[service.name] = self._launch(service)

    def _launch(self, service: Service) -> psutil.Process:
        print(f"starting {service.name}", file=sys.stderr, flush=True)
        self._end(self.processes(service.name), signal.SIGKILL)  # Orphans of a crash.
        process = psutil.Process(service.launch(self.place))
        self._note(service.name, {"pid": process.pid, "created": process.create_time()})
        return process

    def _end(self, processes: list[psutil.Process], how: signal.Signals) -> None:
        """Signal the first process, wait, and kill what is left of the service."""
        for process in processes if how == signal.SIGKILL else processes[:1]:
            _signal(process, how)
        _, left = psutil.wait_procs(processes, timeout=GRACE_S)
        for process in left:
            _signal(process, signal.SIGKILL)
        psutil.wait_procs(left, timeout=GRACE_S)

    def _state(self) -> dict[str, dict[str, float]]:
        file = self.place.state
        return json.loads(file.read_text()) if file.exists() else {}

    def _note(self, name: str, process: dict[str, float] | None) -> None:
        state = self._state()
        state.pop(name, None)
        if process is not None:
            state[name] = process
        part = self.place.state.with_suffix(".part")
        part.write_text(json.dumps(state, indent=1))
        part.replace(self.place.state)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One start or stop at a time."""
        with (self.place.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _signal(process: psutil.Process, how: signal.Signals) -> None:
    try:
        process.send_signal(how)
    except psutil.NoSuchProcess:
        pass


def main() -> None:
    """`start`, `stop`, `status`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("start", "stop", "status"))
    parser.add_argument(
        "service", nargs="*", help="postgres, mlflow, head, worker-1, ...; all by default"
    )
    parser.add_argument("--folder", type=Path, default=Path(f"/tmp/rwood-local-{os.getuid()}"))
    parser.add_argument("--workers", type=int, default=2, help="Ray's worker nodes (2)")
    parser.add_argument("--cpus", type=int, default=2, help="CPUs of a worker node (2)")
    asked = parser.parse_args()
    try:
        cluster = Cluster(asked.folder, asked.workers, asked.cpus)
        unknown = sorted(set(asked.service) - set(cluster.names))
        if unknown:
            raise ServiceError(f"no service {unknown[0]}; there are {', '.join(cluster.names)}")
        if asked.verb == "start":
            cluster.start(*asked.service)
            _print_exports(cluster)
        elif asked.verb == "stop":
            cluster.stop(*asked.service)
        else:
            for name in cluster.names:
                pid = cluster.pid(name)
                print(f"{name:<14} {f'up, process {pid}' if pid else 'down'}")
    except ServiceError as error:
        sys.exit(f"cluster: {error}")


def _print_exports(cluster: Cluster) -> None:
    """For a shell, which reads the password from its file."""
    file = shlex.quote(str(cluster.place.secret("mlflow_password")))
    secret = "MLFLOW_TRACKING_PASSWORD"
    for key, value in cluster.environment().items():
        print(f"export {key}=" + (f'"$(cat {file})"' if key == secret else shlex.quote(value)))


if __name__ == "__main__":
    main()
