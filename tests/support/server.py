"""The real server in a process of its own, and a client that speaks to it over real HTTP."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from app.settings import Settings
from tests.support.database import server_environment
from tests.support.patience import PATIENCE_SECONDS

START_SECONDS = 120


@dataclass(slots=True)
class LiveServer:
    """A running `konstruct serve`."""

    process: subprocess.Popen[bytes]
    base_url: str
    log_file: Path

    @property
    def graphql_url(self) -> str:
        """Where queries go."""
        return f"{self.base_url}/graphql"

    @property
    def websocket_url(self) -> str:
        """Where WebSockets go."""
        return self.graphql_url.replace("http", "ws", 1)

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the structured log so far."""
        lines = self.log_file.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def stop(self, timeout: float = PATIENCE_SECONDS) -> int:
        """Ask the server to stop; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def live_server(
    settings: Settings, folder: Path, *arguments: str, code: Path | None = None, **environment: str
) -> Iterator[LiveServer]:
    """Run the server until the block ends, from the code in a folder. Extra environment overrides the settings."""
    with running_server(server_environment(settings, **environment), folder, *arguments, code=code) as server:
        yield server


@contextmanager
def running_server(
    environment: Mapping[str, str], folder: Path, *arguments: str, code: Path | None = None
) -> Iterator[LiveServer]:
    """Run the server in exactly this environment until the block ends."""
    for _ in range(3):
        server = _start(environment, folder, arguments, code)
        try:
            if _answers(server):
                yield server
                return
        finally:
            _end(server.process)
        # Another process may have taken the port before the server did.
        if "address already in use" not in server.log_file.read_text().lower():
            break
    raise AssertionError(f"the server did not start:\n{server.log_file.read_text()}")


def _start(environment: Mapping[str, str], folder: Path, arguments: tuple[str, ...], code: Path | None) -> LiveServer:
    port = free_port()
    log_file = folder / f"server-{port}.log"
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port), *arguments]
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, cwd=code, env=environment, stdout=log, stderr=subprocess.STDOUT)
    return LiveServer(process, f"http://127.0.0.1:{port}", log_file)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(server: LiveServer) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if httpx.get(f"{server.base_url}/healthz", timeout=1, verify=False).status_code == 200:
                return True
        except httpx.TransportError:
            time.sleep(0.05)
    return False


@dataclass(slots=True)
class Answer:
    """A GraphQL answer over HTTP."""

    status: int
    body: dict[str, Any]
    text: str
    headers: Mapping[str, str]

    @property
    def data(self) -> dict[str, Any]:
        """The data; fails the test when there are errors."""
        assert "errors" not in self.body, self.text
        return dict(self.body["data"])

    @property
    def codes(self) -> list[str]:
        """The codes of all errors."""
        return [error["extensions"]["code"] for error in self.body.get("errors", ())]


@dataclass(slots=True)
class GraphQLClient:
    """A client with one credential."""

    url: str
    api_key: str | None
    http: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(timeout=PATIENCE_SECONDS, verify=False))

    async def execute(self, query: str, variables: Mapping[str, Any] | None = None, **headers: str) -> Answer:
        """Send one operation."""
        return await self.post(json.dumps({"query": query, "variables": variables}), **headers)

    async def post(self, body: str | bytes, **headers: str) -> Answer:
        """Send a body as it is."""
        sent = {"content-type": "application/json"}
        if self.api_key is not None:
            sent["authorization"] = f"Bearer {self.api_key}"
        response = await self.http.post(self.url, content=body, headers=sent | headers)
        return Answer(response.status_code, strict_json(response.text), response.text, response.headers)

    async def data(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send one operation that must succeed; return its data."""
        return (await self.execute(query, variables)).data


def strict_json(text: str) -> Any:
    """Parse JSON and nothing beyond it."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON: {text}")

    return json.loads(text, parse_constant=refuse)
