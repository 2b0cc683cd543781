"""`konstruct serve` for production and `konstruct dev` for a first look."""

import asyncio
import fcntl
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer
import uvicorn

from app.cli.output import console, print_json
from app.cli.signals import end_well_on_signals
from app.database.database import Database
from app.database.embedded import EmbeddedPostgres
from app.database.migrate import migrate_to_head
from app.database.readiness import check_before_start
from app.main import create_app
from app.observability.logging import configure_logging
from app.sample_data.demo import Demo, prepare_demo
from app.settings import DatabaseSettings, LogFormat, ServerSettings, Settings, SettingsError
from app.web.graphiql.routes import HOW_TO_BUILD, is_built
from app.web.protocol import JoiningProtocol
from app.web.workers import SharedPort, run_workers, take_port

# One of several worker processes that does not answer for so long is killed, with the requests that it has, and
# replaced. A busy machine may well stall for some seconds; but a stop waits for the answer too, before the time for
# requests in flight, and is itself given 20 seconds by compose.yaml.
_WORKER_SILENCE_SECONDS = 8


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(help="Server processes; one a core is a good start.", min=1)] = 1,
) -> None:
    """Run the production server. It refuses to start on a database where tenants would not be safe.

    Settings come from the environment (KONSTRUCT_DATABASE_URL at least); the README lists them.

    konstruct serve --host 0.0.0.0 --workers 2
    """
    end_well_on_signals()
    settings = Settings.from_environment()
    configure_logging(settings.server.log_format, settings.server.log_level)
    asyncio.run(_check(settings))
    app = "app.main:app_from_environment"
    options: dict[str, Any] = {
        "factory": True,
        "host": host,
        "port": port,
        "http": JoiningProtocol,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": settings.server.shutdown_seconds,
        "ws_max_size": settings.limits.request_bytes,
    }
    if workers == 1:
        uvicorn.run(app, **options)
    else:
        options |= {"workers": workers, "timeout_worker_healthcheck": _WORKER_SILENCE_SECONDS}
        run_workers(uvicorn.Config(app, **options), _take_port(host, port))


def _take_port(host: str, port: int) -> SharedPort:
    try:
        return take_port(host, port)
    except OSError as error:
        raise SettingsError(
            f"can't listen on {host}, port {port}: {error.strerror}; choose another one with --port"
        ) from None


async def _check(settings: Settings) -> None:
    database = Database(settings.database)
    try:
        await check_before_start(database)
    finally:
        await database.close()


def dev(
    port: Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.", min=0, max=65535)] = 8000,
    data_dir: Annotated[Path, typer.Option(help="Where the database and the demo key are kept.")] = Path(".konstruct"),
    sample_data: Annotated[
        bool,
        typer.Option("--sample-data/--no-sample-data", help="Fill a new demo tenant with two weeks of life."),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line when ready.")] = False,
) -> None:
    """Run everything on this machine: an embedded PostgreSQL, a demo tenant with sample data, and the server.

    The data stays in the data folder; run the command again to go on with it.

    konstruct dev --port 8001 --data-dir ./demo
    """
    end_well_on_signals()
    folder = data_dir.resolve()
    with _listening(port) as listener, _only_one(folder):
        postgres = EmbeddedPostgres(folder)
        _say(as_json, "Starting PostgreSQL ...")
        postgres.start()
        try:
            settings = Settings.from_environment().model_copy(
                update={
                    "database": DatabaseSettings(
                        database_url=postgres.runtime_url,
                        owner_database_url=postgres.owner_url,
                        sealer_database_url=postgres.sealer_url,
                    ),
                    "server": ServerSettings(
                        graphiql=True, audit_retrievals=True, log_format=LogFormat.CONSOLE, log_level="WARNING"
                    ),
                }
            )
            configure_logging(settings.server.log_format, settings.server.log_level)
            demo = asyncio.run(_prepare(postgres, settings, folder, sample_data, as_json))
            _run_dev_server(settings, listener, lambda: _announce(listener, postgres, demo, as_json))
        finally:
            postgres.stop()


async def _prepare(
    postgres: EmbeddedPostgres, settings: Settings, folder: Path, sample_data: bool, as_json: bool
) -> Demo:
    await postgres.ensure_roles_and_database()
    await migrate_to_head(settings)
    return await prepare_demo(
        settings, folder / "demo.json", with_sample_data=sample_data, say=lambda text: _say(as_json, text)
    )


def _run_dev_server(settings: Settings, listener: socket.socket, announce: Callable[[], None]) -> None:
    config = uvicorn.Config(
        create_app(settings),
        http=JoiningProtocol,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.server.shutdown_seconds,
        ws_max_size=settings.limits.request_bytes,
    )
    _AnnouncingServer(config, announce).run(sockets=[listener])


class _AnnouncingServer(uvicorn.Server):
    """Says where it is once it answers."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then announce."""
        await super().startup(sockets)
        if self.started:
            self._announce()


def _announce(listener: socket.socket, postgres: EmbeddedPostgres, demo: Demo, as_json: bool) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    if as_json:
        print_json(
            {
                "url": f"{url}/graphql",
                "graphiql_url": f"{url}/graphiql",
                "tenant_id": demo.tenant_id,
                "api_key": demo.api_key,
                "database_url": postgres.runtime_url.get_secret_value(),
                "owner_database_url": postgres.owner_url.get_secret_value(),
                "sealer_database_url": postgres.sealer_url.get_secret_value(),
                "pid": os.getpid(),
            }
        )
        return
    print(
        f"""
Konstruct is running.

  GraphiQL  {url}/graphiql{_graphiql_hint()}
  API       {url}/graphql
  API key   {demo.api_key}

Try it:

  curl -s {url}/graphql \\
    -H 'Authorization: Bearer {demo.api_key}' \\
    -H 'Content-Type: application/json' \\
    -d '{{"query": "{{ auditEvents(first: 3) {{ nodes {{ createdAt actionType actionName status }} }} }}"}}'

A key for an agent of your own (any UUID of yours names the agent):

  export KONSTRUCT_OWNER_DATABASE_URL={postgres.owner_url.get_secret_value()}
  export KONSTRUCT_DATABASE_URL={postgres.runtime_url.get_secret_value()}
  export TENANT={demo.tenant_id}
  {Path(sys.executable).with_name("konstruct")} keys create --tenant $TENANT --name my-agent --agent {uuid4()} \\
    --scope AUDIT_WRITE --scope AUDIT_READ --scope KB_READ --scope KB_WRITE

Stop it with Ctrl+C; the data stays.
""",
        flush=True,
    )


def _graphiql_hint() -> str:
    return " (paste the API key there)" if is_built() else f" (not built yet: {HOW_TO_BUILD})"


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """Hold the port from the start, so that a taken one is known before anything else is done."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        raise SettingsError(f"port {port} is in use; choose another one with --port") from None
    with listener:
        yield listener


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Keep a second `konstruct dev` off the same data."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"another `konstruct dev` uses {folder}; stop it, or choose another folder with --data-dir"
            ) from None
        yield


def _say(as_json: bool, text: str) -> None:
    if not as_json:
        console.print(text, style="dim")
