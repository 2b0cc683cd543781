"""What the documents are run on: `konstruct dev` with its demo data, and an empty server as a managed service gives it.

The documents speak of `localhost:8000`, of a database server `db:5432` and of passwords `...`. What these are here is
declared in this file and nowhere else.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
from websockets.sync.client import connect as open_websocket
from websockets.typing import Subprotocol

from app.database.embedded import OWNER_ROLE, EmbeddedPostgres
from tests.documents.blocks import Block
from tests.support.server import free_port

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 120
BASH = shutil.which("bash") or "bash"

ADMINISTRATOR = "postgres"
# On a managed service the administrator is no superuser: it may make databases and roles, and that is all.
MANAGED_ADMINISTRATOR = "CREATE ROLE administrator LOGIN NOSUPERUSER NOBYPASSRLS NOREPLICATION CREATEDB CREATEROLE"


@dataclass
class Ran:
    """What a block did."""

    succeeded: bool
    output: str


@dataclass
class Machine:
    """Addresses, credentials and a folder for one document, whose blocks share one shell."""

    folder: Path
    postgres: EmbeddedPostgres
    database: str
    environment: dict[str, str]
    url: str = ""
    passwords: dict[str, str] = field(default_factory=dict)

    def in_place(self, text: str) -> str:
        """Return a block's text with the addresses and passwords of this machine."""
        server = f"127.0.0.1:{self.postgres.port}"
        text = re.sub(r"db:5432/konstruct\b", f"{server}/{self.database}", text).replace("db:5432", server)
        for role, password in self.passwords.items():
            text = text.replace(f"//{role}:...@", f"//{role}:{password}@")
            text = re.sub(rf"(ROLE {role} [A-Z ]*PASSWORD) '\.\.\.'", rf"\1 '{password}'", text)
        port = free_port()
        text = text.replace("--host 0.0.0.0 ", "").replace("--port 8000", f"--port {port}")
        return text.replace("localhost:8000", urlsplit(self.url).netloc)

    def database_url(self, role: str) -> str:
        """Return the address of the document's database for a role."""
        return self.postgres.url(role, self.passwords[role], self.database).get_secret_value()

    def run(self, block: Block) -> Ran:
        """Run a block by its language."""
        runner = {"sh": self._sh, "sql": self._sql, "python": self._python, "graphql": self._graphql}[block.language]
        return runner(block, self.in_place(block.text))

    def _sh(self, block: Block, text: str) -> Ran:
        if "serves" in block.said:
            return self._serve(text)
        # What a block exports is there in the next one, as in one terminal.
        return self._process([BASH, "-eu", "-c", f"{text}\nexport -p > .exported"])

    def _sql(self, block: Block, text: str) -> Ran:
        psql = [str(self.postgres.program("psql")), "--no-psqlrc", "--quiet", self.database_url(block.said["as"])]
        ran = self._process(psql, text)
        return Ran(ran.succeeded and "ERROR: " not in ran.output, ran.output)

    def _python(self, _block: Block, text: str) -> Ran:
        return self._process([sys.executable, "-"], text)

    def _process(self, command: list[str], text: str = "") -> Ran:
        done = subprocess.run(
            command, input=text, cwd=self.folder, env=self._exported(), text=True, timeout=PATIENCE_SECONDS,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        return Ran(done.returncode == 0, done.stdout)

    def _exported(self) -> dict[str, str]:
        file = self.folder / ".exported"
        if not file.exists():
            return self.environment
        printed = subprocess.run(
            [BASH, "-c", f". {file} && env -0"], env=self.environment, capture_output=True, text=True, check=True
        )
        return dict(line.split("=", 1) for line in printed.stdout.split("\0") if "=" in line)

    def _serve(self, text: str) -> Ran:
        """Start what serves for ever; it has done its work when it is ready for traffic."""
        match = re.search(r"--port (\d+)", text)
        assert match is not None, "a block that serves says --port 8000"
        log = self.folder / "served.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [BASH, "-eu", "-c", text], cwd=self.folder, env=self._exported(),
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            is_ready = _becomes_ready(process, f"http://127.0.0.1:{match[1]}/readyz")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(PATIENCE_SECONDS)
        return Ran(is_ready, log.read_text())

    def _graphql(self, block: Block, text: str) -> Ran:
        key = self._exported()[block.said.get("key", "KEY")]
        if text.lstrip().startswith("subscription"):
            answer = _first_event(self.url, key, text)
        else:
            answer = httpx.post(
                self.url, json={"query": text}, headers={"Authorization": f"Bearer {key}"}, timeout=60
            ).json()
        mistakes = [root for root in (answer.get("data") or {}).values() if isinstance(root, dict)]
        succeeded = "errors" not in answer and not any(root.get("userErrors") for root in mistakes)
        return Ran(succeeded, json.dumps(answer, ensure_ascii=False))


def _becomes_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    return False


def _first_event(url: str, key: str, document: str) -> dict[str, Any]:
    url, protocols = url.replace("http", "ws", 1), [Subprotocol("graphql-transport-ws")]
    with open_websocket(url, subprotocols=protocols, open_timeout=PATIENCE_SECONDS) as socket:
        socket.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {key}"}}))
        assert json.loads(socket.recv(PATIENCE_SECONDS)) == {"type": "connection_ack"}
        socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": document}}))
        answer: dict[str, Any] = json.loads(socket.recv(PATIENCE_SECONDS))["payload"]
    return answer


@contextmanager
def running_dev(folder: Path) -> Iterator[dict[str, str]]:
    """Run `konstruct dev` with its sample data until the block ends; yield what it says when it is ready."""
    command = [sys.executable, "-m", "app.cli", "dev", "--json", "--port", "0", "--data-dir", str(folder)]
    errors = folder.with_suffix(".log")
    with errors.open("w") as log:
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, errors.read_text()
        yield json.loads(line)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a terminal in which `konstruct` and PostgreSQL's programs are found."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KONSTRUCT_", "PG"))}
    programs = [str(Path(sys.executable).parent), str(EmbeddedPostgres(ROOT).program("")), kept["PATH"]]
    return {
        **kept,
        "PATH": os.pathsep.join(programs),
        "PYTHONPATH": str(ROOT),
        "NO_COLOR": "1",
        "COLUMNS": "120",
    } | more


def demo_passwords(folder: Path) -> Mapping[str, str]:
    """Return the passwords of the roles of `konstruct dev`."""
    secrets: dict[str, str] = json.loads((folder / "postgres-secrets.json").read_text())
    return {
        ADMINISTRATOR: secrets["superuser"],
        OWNER_ROLE: secrets["owner"],
        "konstruct_app": secrets["runtime"],
        "konstruct_sealer": secrets["sealer"],
        "konstruct_backup": "of-the-backup",
        "konstruct_replication": "of-the-replica",
    }


@contextmanager
def managed_server(folder: Path) -> Iterator[EmbeddedPostgres]:
    """Run an empty server whose administrator is no superuser."""
    server = EmbeddedPostgres(folder)
    server.start()
    try:
        asyncio.run(_make_administrator(server))
        yield server
    finally:
        server.stop()


async def _make_administrator(server: EmbeddedPostgres) -> None:
    # Services let their administrators create this extension, which PostgreSQL by itself leaves to superusers: here it
    # is in every new database from the start.
    url = server.superuser_url.get_secret_value().rsplit("/", 1)[0] + "/template1"
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE EXTENSION vector")
    await connection.execute(f"{MANAGED_ADMINISTRATOR} PASSWORD 'of-the-administrator'")
    await connection.close()
