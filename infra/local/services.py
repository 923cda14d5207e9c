"""The services of a local cluster: how each is started, and how one sees that it is up."""

import json
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "RWOOD_LOCAL_SERVICE"
"""Environment variable that every process of a service inherits: `<folder>#<service>`."""
FIRST, SECOND = 1, 2
"""Waves of a start: the second needs what the first brought up."""
HOST = "127.0.0.1"
"""Where everything listens."""
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Keeps Ray's servers, and those who ask them, on the loopback."""
PATIENCE_S = 180
"""A service that is not up by then is not coming; a busy laptop takes a minute."""


class ServiceError(Exception):
    """A service cannot run here; the message says what to do."""


@dataclass(frozen=True)
class Place:
    """Where a cluster keeps its data, secrets, ports and logs."""

    folder: Path
    admin: str = "admin"

    def make(self) -> None:
        """Make the folder and its secrets; PostgreSQL's user may pass through, nobody may list."""
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        if self.folder.stat().st_uid != os.getuid():
            raise ServiceError(f"{self.folder} belongs to somebody else; choose another --folder")
        for name in ("secrets", "logs", "artifacts"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)
        for name in ("ray_token", "mlflow_password", "mlflow_key", "postgres_password"):
            if not self.secret(name).exists():
                given = os.environ.get("MLFLOW_AUTH_ADMIN_PASSWORD")
                made = given if given and name == "mlflow_password" else secrets.token_hex(32)
                write_private(self.secret(name), made)

    def secret(self, name: str) -> Path:
        """A file that only its owner can read."""
        return self.folder / "secrets" / name

    def log(self, name: str) -> Path:
        """What a service says."""
        return self.folder / "logs" / f"{name}.log"

    def mark(self, name: str) -> str:
        """Tells the processes of a service from all others."""
        return f"{self.folder}#{name}"

    @property
    def state(self) -> Path:
        """Service -> its first process."""
        return self.folder / "state.json"

    def port(self, name: str) -> int:
        """Where a service listens."""
        ports: dict[str, int] = json.loads((self.folder / "ports.json").read_text())
        return ports[name]

    def choose_ports(self) -> None:
        """The ports of the last start, where nobody took them meanwhile."""
        file = self.folder / "ports.json"
        last: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
        names = ("postgres", "mlflow", "ray", "dashboard", "client")
        ports = {name: free_port(last.get(name)) for name in names}
        file.write_text(json.dumps(ports, indent=1))

    @property
    def ray_address(self) -> str:
        """Where Ray's head listens."""
        return f"{HOST}:{self.port('ray')}"

    @property
    def mlflow_uri(self) -> str:
        """Where MLflow listens."""
        return f"http://{HOST}:{self.port('mlflow')}"

    def database(self, name: str) -> str:
        """A database's address, with its password."""
        password = self.secret("postgres_password").read_text()
        at = f"{HOST}:{self.port('postgres')}"
        return f"postgresql+psycopg2://rwood:{password}@{at}/{name}"


@dataclass(frozen=True)
class Service:
    """One service: a command that stays, and a sign that it is up."""

    name: str
    command: Callable[[Place], list[str]]
    settings: Callable[[Place], dict[str, str]]
    ready: Callable[[Place], bool]
    wave: int
    end: signal.Signals = signal.SIGTERM
    user: str | None = None
    folder: str = "."
    """Working directory, in the cluster's folder."""

    def launch(self, place: Place) -> int:
        """Start it; its process id."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
        with place.log(self.name).open("ab") as log:
            process = subprocess.Popen(
                self.command(place),
                cwd=place.folder / self.folder,
                env=clean | self.settings(place) | {MARK: place.mark(self.name)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **_as_user(self.user),
            )
        return process.pid

    def wait(self, place: Place, process: psutil.Process) -> None:
        """Wait until it is up.

        Raises:
            ServiceError: it ended, or is not up after a long time.
        """
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                raise ServiceError(f"{self.name} ended at once; see {place.log(self.name)}")
            if self.ready(place):
                return
            time.sleep(0.2)
        raise ServiceError(f"{self.name} is not up after {PATIENCE_S} s; {place.log(self.name)}")


def services(place: Place, workers: int, cpus: int) -> dict[str, Service]:
    """All services by name, in the order in which they start."""
    postgres = Service("postgres", _postgres, lambda place: {}, _has_databases, FIRST,
                       signal.SIGINT, _postgres_user(), "postgres")  # fmt: skip
    head = Service("head", _head, _head_settings, lambda place: _has_node(place, "head"), FIRST)
    mlflow = Service("mlflow", _mlflow, _mlflow_settings, _mlflow_answers, SECOND)
    found = [postgres, head, mlflow]
    for number in range(1, workers + 1):
        found.append(_worker(number, cpus))
    return {service.name: service for service in found}


def prepare(place: Place) -> None:
    """Make what services need before their first start; nothing the second time."""
    data = place.folder / "postgres"
    if not (data / "PG_VERSION").exists():
        _make_database(place, data)
    config = place.folder / "secrets" / "basic_auth.ini"
    write_private(
        config,
        "[mlflow]\ndefault_permission = NO_PERMISSIONS\n"
        f"database_uri = {place.database('mlflow_auth')}\nadmin_username = {place.admin}\n"
        # Passwords are hashed so slowly that a study's requests would spend most time on it.
        "auth_cache_ttl_seconds = 60\n",
    )


def _make_database(place: Place, data: Path) -> None:
    """`initdb`, as PostgreSQL's own user where we are root: it refuses to run as root."""
    user = _postgres_user()
    for parent in data.parents:
        if user and not parent.stat().st_mode & 0o001:
            raise ServiceError(f"{user} cannot reach {parent}; choose another --folder")
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(mode=0o700)
    password = data.with_name("password")
    write_private(password, place.secret("postgres_password").read_text())
    try:
        if user:
            entry = pwd.getpwnam(user)
            for path in (data, password):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        subprocess.run(
            [_program("initdb"), "-D", str(data), "-U", "rwood", "--auth=scram-sha-256",
             f"--pwfile={password}", "--encoding=UTF8", "--no-locale"],
            check=True, capture_output=True, text=True, cwd=data, **_as_user(user),
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise ServiceError(f"initdb failed: {error.stderr.strip().splitlines()[-1]}") from error
    finally:
        password.unlink()


def _postgres(place: Place) -> list[str]:
    settings = {"listen_addresses": HOST, "port": place.port("postgres"),
                "unix_socket_directories": ""}  # fmt: skip
    flags = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    return [_program("postgres"), "-D", str(place.folder / "postgres"), *flags]


def _has_databases(place: Place) -> bool:
    """Whether PostgreSQL answers; makes the two databases if they are not there."""
    import psycopg2

    plain = place.database("postgres").replace("+psycopg2", "")
    try:
        connection = psycopg2.connect(plain)
    except psycopg2.OperationalError:
        return False
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT datname FROM pg_database")
            there = {row[0] for row in cursor.fetchall()}
            for name in {"mlflow", "mlflow_auth"} - there:
                cursor.execute(f"CREATE DATABASE {name}")
    finally:
        connection.close()
    return True


def _mlflow(place: Place) -> list[str]:
    return [
        sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--host", HOST,
        "--port", str(place.port("mlflow")), "--workers", "1", "--artifacts-destination",
        str(place.folder / "artifacts"),
    ]  # fmt: skip


def _mlflow_settings(place: Place) -> dict[str, str]:
    """Secrets go by the environment: a command line can be read by everybody."""
    return {
        "MLFLOW_BACKEND_STORE_URI": place.database("mlflow"),
        "MLFLOW_AUTH_CONFIG_PATH": str(place.folder / "secrets" / "basic_auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": place.secret("mlflow_password").read_text(),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": place.secret("mlflow_key").read_text(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def mlflow_login(place: Place) -> dict[str, str]:
    """What a client of MLflow needs in its environment."""
    return {
        "MLFLOW_TRACKING_URI": place.mlflow_uri,
        "MLFLOW_TRACKING_USERNAME": place.admin,
        "MLFLOW_TRACKING_PASSWORD": place.secret("mlflow_password").read_text(),
    }


def _mlflow_answers(place: Place) -> bool:
    try:
        with urllib.request.urlopen(f"{place.mlflow_uri}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _head(place: Place) -> list[str]:
    # No CPUs: trainings run on the workers, as on a real cluster.
    return [
        *_ray_start(place, "head", 0), "--head", "--port", str(place.port("ray")),
        "--dashboard-host", HOST, "--dashboard-port", str(place.port("dashboard")),
        "--ray-client-server-port", str(place.port("client")),
    ]  # fmt: skip


def _head_settings(place: Place) -> dict[str, str]:
    """A job that is sent to the head finds MLflow, and its login, there."""
    return _ray_settings(place) | mlflow_login(place)


def _worker(number: int, cpus: int) -> Service:
    name = f"worker-{number}"
    return Service(
        name,
        lambda place: [*_ray_start(place, name, cpus), "--address", place.ray_address],
        _ray_settings,
        lambda place: _has_node(place, name),
        SECOND,
    )


def _ray_start(place: Place, name: str, cpus: int) -> list[str]:
    # Ray listens on the loopback only if it is told that clusters are not supported here (see
    # `_ray_settings`), and then has no second node: of these two it is talked out.
    code = (
        "from ray._private import ray_constants, services; from ray.scripts.scripts import main; "
        "ray_constants.ENABLE_RAY_CLUSTER = True; services.resolve_ip_for_localhost = str; main()"
    )
    return [sys.executable, "-c", code, "start", "--block", "--node-name", name,
            "--node-ip-address", HOST, "--num-cpus", str(cpus), "--num-gpus", "0",
            "--object-store-memory", str(100 * 2**20), "--disable-usage-stats",
            # Nodes of one machine share its ports, and must not share files: each would clear
            # away what a job of another one works in.
            "--temp-dir", str(place.folder / name),
            "--dashboard-agent-listen-port", str(free_port()), "--min-worker-port", "0",
            "--max-worker-port", "0"]  # fmt: skip


def _ray_settings(place: Place) -> dict[str, str]:
    return LOOPBACK | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(place.secret("ray_token")),
        # A node whose process is gone is lost after 2.5 s, not 15.
        "RAY_health_check_period_ms": "500",
        # One that is asked to leave has 4 s, not 30, and Ray Train hears of it within 1 s, not 5.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "4",
        "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
    }


def _has_node(place: Place, name: str) -> bool:
    """Whether Ray counts a node of this name among the living; waits some seconds for it.

    Ray is asked by a process of its own, whose start costs more than all it asks.
    """
    code = (
        "import sys, time; from ray._raylet import GcsClient\n"
        "client = GcsClient(address=sys.argv[1])\n"
        "until = time.monotonic() + 10\n"
        "while time.monotonic() < until:\n"
        "    nodes = client.get_all_node_info(timeout=5).values()\n"
        "    if any(n.node_name == sys.argv[2] and n.state == 0 for n in nodes):\n"
        "        sys.exit(0)\n"
        "    time.sleep(0.2)\n"
        "sys.exit(1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, place.ray_address, name],
        env=os.environ | _ray_settings(place), capture_output=True,
    )  # fmt: skip
    return done.returncode == 0


def _program(name: str) -> str:
    """A program of PostgreSQL: Debian keeps them outside the path."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(debian[-1]) if debian else None)
    if found is None:
        raise ServiceError(f"there is no {name} here: install PostgreSQL (apt install postgresql)")
    return found


def _postgres_user() -> str | None:
    """Who runs PostgreSQL; None: we do."""
    if os.getuid() != 0:
        return None
    return next(n for n in ("postgres", "nobody") if n in {e.pw_name for e in pwd.getpwall()})


def _as_user(name: str | None) -> dict[str, object]:
    if name is None:
        return {}
    entry = pwd.getpwnam(name)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def free_port(wanted: int | None = None) -> int:
    """A port that nobody listens on: the wanted one if it is free.

    Below those that the system gives to outgoing connections, one of which might have it before a
    service that is started again.
    """
    for port in (wanted, *random.sample(range(20_000, 32_000), 100)):
        if port is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
                return port
            except OSError:
                continue
    raise ServiceError(f"no free port on {HOST}")
