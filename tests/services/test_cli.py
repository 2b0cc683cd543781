"""The command line by what its users see: output and exit codes.

Most commands run within this process, since starting one takes seconds; those that serve, and one of each other
kind, run in processes of their own.
"""

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

import httpx
import pytest

from app.cli import main
from app.database.embedded import EmbeddedPostgres
from app.settings import EmbeddingsProvider, EmbeddingsSettings, Settings
from tests.support.database import connect, fresh_database, server_environment
from tests.support.patience import PATIENCE_SECONDS

NOTHING_SET = {name: value for name, value in os.environ.items() if not name.startswith("KONSTRUCT_")}


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def konstruct(*arguments: str, environment: Mapping[str, str] = NOTHING_SET) -> Done:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "app.cli", *arguments]
    done = subprocess.run(
        command, env={**environment, "NO_COLOR": "1"}, capture_output=True, text=True, timeout=60, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def command(*arguments: str, environment: Mapping[str, str] = NOTHING_SET) -> Done:
    """Run a command within this process."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        patch.object(sys, "argv", ["konstruct", *arguments]),
        patch.dict(os.environ, environment, clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    assert isinstance(code, int)
    return Done(code, out.getvalue(), err.getvalue())


def answer(*arguments: str, environment: Mapping[str, str]) -> Any:
    """Run a command with --json that must succeed; return what it printed, one line of JSON."""
    done = command(*arguments, "--json", environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def assert_failed(done: Done, pattern: str) -> None:
    """Check for exit code 1, no output, and one line of explanation."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert re.search(pattern, line), line


@pytest.fixture(scope="module")
def environment(settings: Settings) -> dict[str, str]:
    """The environment for the run's database."""
    return server_environment(settings)


def test_help_names_every_command() -> None:
    """--help explains each command and needs no settings."""
    done = command("--help")
    assert (done.returncode, done.stderr) == (0, "")
    shown = set(re.findall(r"^[│|]?\s*(\w+)\s{2,}", done.stdout, re.MULTILINE))
    assert {"dev", "serve", "migrate", "maintain", "tenants", "keys"} <= shown


@pytest.mark.parametrize("name", ["dev", "serve", "migrate", "maintain", "tenants create", "keys create"])
def test_each_command_has_help(name: str) -> None:
    """Each command's --help succeeds without settings."""
    done = command(*name.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"konstruct {name} [OPTIONS]" in done.stdout


NOBODY = "0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f"
WRONG_USAGE = [
    ["frobnicate"],
    ["serve", "--port", "70000"],
    ["serve", "--workers", "0"],
    ["tenants", "create"],
    ["keys", "create", "--tenant", "not-a-uuid", "--name", "n", "--scope", "AUDIT_READ"],
    ["keys", "create", "--tenant", NOBODY, "--name", "n", "--scope", "EVERYTHING"],
    ["keys", "create", "--tenant", NOBODY, "--name", "n"],
    ["keys", "create", "--tenant", NOBODY, "--name", "n", "--scope", "AUDIT_READ", "--expires", "soon"],
    ["keys", "revoke", "1"],
]


@pytest.mark.parametrize("arguments", WRONG_USAGE, ids=" ".join)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    """A command line that can't be understood is refused with its reason before anything is done."""
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("run", "name", "variable"),
    [
        (konstruct, "serve", "KONSTRUCT_DATABASE_URL"),
        (command, "migrate", "KONSTRUCT_OWNER_DATABASE_URL"),
        (command, "maintain", "KONSTRUCT_OWNER_DATABASE_URL"),
        (command, "tenants list", "KONSTRUCT_OWNER_DATABASE_URL"),
        (command, "keys list", "KONSTRUCT_OWNER_DATABASE_URL"),
    ],
)
def test_missing_setting_is_one_line_that_names_it(run: Callable[..., Done], name: str, variable: str) -> None:
    """Without its database URL a command ends with 1 and says which variable to set and how."""
    done = run(*name.split())
    assert_failed(done, rf"^konstruct: {variable} is not set; expected postgresql://user:password@host:5432/database$")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KONSTRUCT_OWNER_DATABASE_URL", "mysql://user:hunter2@host/db"),
        ("KONSTRUCT_OWNER_DATABASE_URL", "postgresql://user:hunter2@host:port/db"),
        ("KONSTRUCT_DATABASE_POOL_SIZE", "hunter2"),
        ("KONSTRUCT_EMBEDDINGS", "hunter2"),
        ("KONSTRUCT_EMBEDDINGS_MODEL", "hunter2"),
        ("KONSTRUCT_LIMITS_PAGE_SIZE", "0"),
    ],
)
def test_bad_setting_is_one_line_that_names_it(environment: dict[str, str], variable: str, value: str) -> None:
    """A setting that can't be used is named, and its value, which may be a secret, is not repeated."""
    done = command("tenants", "list", environment=environment | {variable: value})
    assert_failed(done, rf"^konstruct: {variable}\b")
    assert "hunter2" not in done.stderr


def test_unreachable_database_is_one_line(environment: dict[str, str]) -> None:
    """A database that is not there is reported in one line, without the password."""
    url = "postgresql://konstruct_owner:hunter2@127.0.0.1:1/none"
    for done in (
        command("tenants", "list", environment=environment | {"KONSTRUCT_OWNER_DATABASE_URL": url}),
        konstruct("serve", environment=environment | {"KONSTRUCT_DATABASE_URL": url}),
    ):
        assert_failed(done, "^konstruct: .*127.0.0.1")
        assert "hunter2" not in done.stderr


def test_refused_password_is_one_line(settings: Settings, environment: dict[str, str]) -> None:
    """A wrong password is reported in one line, without the password."""
    assert settings.database.owner_database_url is not None
    url = re.sub(r":[^:@]+@", ":hunter2@", settings.database.owner_database_url.get_secret_value())
    done = command("tenants", "list", environment=environment | {"KONSTRUCT_OWNER_DATABASE_URL": url})
    assert_failed(done, "^konstruct: .*password authentication failed")
    assert "hunter2" not in done.stderr


def test_tenant_and_key_from_creation_to_revocation(environment: dict[str, str]) -> None:
    """A tenant and its key are made, listed without the secret, and revoked."""
    name = f"Acme \U0001f680 {uuid4()}"
    tenant = answer("tenants", "create", "--name", name, environment=environment)
    assert tenant == {"tenant_id": str(UUID(tenant["tenant_id"])), "name": name}
    listed = answer("tenants", "list", environment=environment)
    assert [row["name"] for row in listed if row["id"] == tenant["tenant_id"]] == [name]

    agent = str(uuid4())
    options = ("--tenant", tenant["tenant_id"], "--name", "bot", "--agent", agent, "--expires", "90d")
    scopes = ("--scope", "KB_READ", "--scope", "AUDIT_WRITE")
    key = answer("keys", "create", *options, *scopes, environment=environment)
    assert re.fullmatch(r"kst_[A-Za-z0-9_-]{43}", key["api_key"])
    assert (key["tenant_id"], key["name"], key["scopes"]) == (tenant["tenant_id"], "bot", ["AUDIT_WRITE", "KB_READ"])

    (row,) = answer("keys", "list", "--tenant", tenant["tenant_id"], environment=environment)
    assert (row["id"], row["agent_id"], row["key_prefix"]) == (key["key_id"], agent, key["api_key"][:10])
    assert key["api_key"] not in json.dumps(row)
    assert row["revoked_at"] is None
    lifetime = datetime.fromisoformat(row["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89, hours=23) < lifetime < timedelta(days=90, minutes=1)

    for _ in range(2):
        assert command("keys", "revoke", key["key_id"], environment=environment).returncode == 0
    (revoked,) = answer("keys", "list", "--tenant", tenant["tenant_id"], environment=environment)
    assert abs(datetime.fromisoformat(revoked["revoked_at"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_lists_for_people_never_show_a_secret(environment: dict[str, str]) -> None:
    """Without --json, the key alone is on a line of its own at creation, and lists show its prefix only."""
    tenant = answer("tenants", "create", "--name", "Table", environment=environment)["tenant_id"]
    made = command(
        "keys", "create", "--tenant", tenant, "--name", "people", "--scope", "AUDIT_READ", environment=environment
    )
    secret = made.stdout.splitlines()[-1]
    assert re.fullmatch(r"kst_[A-Za-z0-9_-]{43}", secret)
    shown = command("keys", "list", "--tenant", tenant, environment=environment)
    assert shown.returncode == 0
    assert "people" in shown.stdout
    assert secret not in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["keys", "create", "--tenant", "0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f", "--name", "n", "--scope", "KB_READ"],
         "^konstruct: there is no tenant 0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f; `konstruct tenants list` shows them$"),
        (["keys", "revoke", "0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f"],
         "^konstruct: there is no key 0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f; `konstruct keys list` shows them$"),
        (["tenants", "create", "--name", " "], "^konstruct: name: must not be empty$"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_with_the_remedy(environment: dict[str, str], arguments: list[str], pattern: str) -> None:
    """What does not exist, or can't be, is exit code 1 and one line that says what to do."""
    assert_failed(command(*arguments, environment=environment), pattern)


async def is_isolated(settings: Settings, table: str) -> bool:
    """Whether a table has row level security."""
    async with connect(settings.database.owner_database_url) as owner:
        found: bool = await owner.fetchval("SELECT relrowsecurity FROM pg_class WHERE relname = $1", table)
    return found


def test_migrate_and_maintain_say_what_they_did(postgres: EmbeddedPostgres) -> None:
    """Migrate reports the revisions and is harmless again; maintain makes the months that are missing, once."""
    embeddings = EmbeddingsSettings(provider=EmbeddingsProvider.NONE, dimensions=8)
    settings = asyncio.run(fresh_database(postgres, migrated=False, embeddings=embeddings))
    environment = server_environment(settings)
    refused = konstruct("serve", environment=environment)
    first = answer("migrate", environment=environment)
    again = answer("migrate", environment=environment)
    assert_failed(
        refused, "^konstruct: the database is at revision none, this server needs .*; run `konstruct migrate`$"
    )
    assert first["before"] is None
    assert again == {"before": first["after"], "after": first["after"]}
    assert f"needs {first['after']};" in refused.stderr

    nothing = answer("maintain", environment=environment)
    longer = answer("maintain", environment=environment | {"KONSTRUCT_PARTITIONS_AHEAD": "14"})
    after = answer("maintain", environment=environment | {"KONSTRUCT_PARTITIONS_AHEAD": "14"})
    month = datetime.now(UTC).replace(day=1)
    expected = []
    for ahead in (13, 14):
        index = month.month - 1 + ahead
        expected.append(f"audit_events_{month.year + index // 12}_{index % 12 + 1:02}")
    assert nothing == {"partitions_created": [], "months_in_default_partition": []}
    assert longer["partitions_created"] == expected
    assert after["partitions_created"] == []
    assert asyncio.run(is_isolated(settings, expected[0])) is True


@contextmanager
def dev(folder: Path, log: Path) -> Iterator[tuple[dict[str, Any], subprocess.Popen[bytes]]]:
    """Run `konstruct dev` until the block ends; yield its JSON line."""
    start = [sys.executable, "-m", "app.cli", "dev", "--json", "--port", "0", "--no-sample-data"]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*start, "--data-dir", str(folder)], env=NOTHING_SET, stdout=subprocess.PIPE, stderr=errors
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, log.read_text()
        yield json.loads(line), process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def ask(running: dict[str, Any], query: str) -> Any:
    """Send a query with the demo key."""
    response = httpx.post(
        running["url"], json={"query": query}, headers={"Authorization": f"Bearer {running['api_key']}"}, timeout=30
    )
    body = response.json()
    assert "errors" not in body, body
    return body["data"]


def postmaster(folder: Path) -> int:
    """Return the process id of the data folder's PostgreSQL."""
    return int((folder / "postgres" / "postmaster.pid").read_text().split()[0])


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends(pid: int) -> bool:
    """Whether a process that has been stopped is gone after a moment: its pid file goes before it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_alive(pid)


def test_dev_runs_keeps_its_data_and_stops_its_database(tmp_path: Path) -> None:
    """Dev answers with the key it prints, keeps data for the next start, and stops its PostgreSQL on SIGTERM."""
    folder = tmp_path / "data"
    with dev(folder, tmp_path / "first.log") as (first, process):
        assert set(first) == {
            "url", "graphiql_url", "tenant_id", "api_key", "database_url", "owner_database_url", "sealer_database_url",
            "pid",
        }  # fmt: skip
        assert first["pid"] == process.pid
        assert ask(first, "{ auditEvents { nodes { id } } kbDocuments { nodes { id } } }") == {
            "auditEvents": {"nodes": []},
            "kbDocuments": {"nodes": []},
        }
        made = ask(first, 'mutation { logToolCall(input: {toolName: "kept"}) { event { id } } }')
        assert httpx.get(first["graphiql_url"], timeout=PATIENCE_SECONDS).status_code == 200
        second_one = command("dev", "--port", "0", "--no-sample-data", "--data-dir", str(folder))
        assert_failed(second_one, "^konstruct: another `konstruct dev` uses .*; stop it, or choose another folder")
        taken = command("dev", "--port", first["url"].split(":")[2].split("/")[0], "--data-dir", str(tmp_path / "b"))
        assert_failed(taken, r"^konstruct: port \d+ is in use; choose another one with --port$")
        pid = postmaster(folder)
        assert is_alive(pid)
    assert process.returncode == 0
    assert ends(pid)
    with dev(folder, tmp_path / "second.log") as (second, process):
        events = ask(second, "{ viewer { tenantId } auditEvents { nodes { id actionName } } }")
        pid = postmaster(folder)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0
    assert ends(pid)
    assert (second["tenant_id"], second["api_key"]) == (first["tenant_id"], first["api_key"])
    assert events["viewer"]["tenantId"] == first["tenant_id"]
    assert events["auditEvents"]["nodes"] == [{"id": made["logToolCall"]["event"]["id"], "actionName": "kept"}]
    for secret in ("demo.json", "postgres-secrets.json"):
        assert (folder / secret).stat().st_mode & 0o077 == 0
