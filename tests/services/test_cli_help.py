"""The command line teaches itself: examples in each help, the version, and what is wrong with an installation."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from app.cli.root import app
from app.database.embedded import EmbeddedPostgres
from app.settings import Settings
from tests.support.database import connect, fresh_database, server_environment

ROOT = typer.main.get_command(app)


def commands(group: Any = ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, by what is typed for it."""
    if hasattr(group, "commands"):
        for name, command in group.commands.items():
            yield from commands(command, (*path, name))
    else:
        yield " ".join(path), group


COMMANDS = dict(commands())


def konstruct(*arguments: str, settings: Settings | None = None) -> tuple[int, str]:
    """Run a command; return its exit code and all it said."""
    environment = {"PATH": "", "COLUMNS": "200"} if settings is None else server_environment(settings, COLUMNS="200")
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches_by_an_example_that_can_be_typed(name: str) -> None:
    """Each command's help ends with a command line of its own, which its parser takes as it stands."""
    text = COMMANDS[name].help or ""
    example = " ".join(text.strip().rpartition("\n\n")[2].split())
    words = shlex.split(example)
    path = name.split()
    assert words[: len(path) + 1] == ["konstruct", *path], f"`konstruct {name} --help` ends with no example"
    arguments = words[len(path) + 1 :]
    folders = [word for word in arguments if word.startswith("./")]
    if name == "kb ingest":
        arguments = ["." if word in folders else word for word in arguments]
    COMMANDS[name].make_context(name, arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_each_option_does(name: str) -> None:
    """The first line of the help is a sentence, and every option has a text."""
    assert re.match(r"[A-Z].*\.", (COMMANDS[name].help or "").split("\n\n")[0], re.DOTALL)
    for parameter in COMMANDS[name].params:
        assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_what_is_listed_is_a_table_or_json() -> None:
    """Each command that lists or reports something has --json."""
    silent = {"serve", "seal", "keys revoke", "kb drop-profile", "export"}
    for name in COMMANDS.keys() - silent:
        assert "--json" in [option for parameter in COMMANDS[name].params for option in parameter.opts], name


def test_version() -> None:
    """`--version` says which one is installed."""
    assert konstruct("--version") == (0, f"konstruct {version('konstruct')}\n")


def test_completion_can_be_shown() -> None:
    """Shells get a script that completes the commands."""
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run(
            [Path(sys.executable).with_name("konstruct")],
            env={"PATH": "", "_KONSTRUCT_COMPLETE": f"source_{shell}"}, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert "_KONSTRUCT_COMPLETE" in done.stdout, shell


async def test_doctor_finds_what_the_server_would(postgres: EmbeddedPostgres) -> None:
    """A sound installation is ok throughout; what is wrong is named with its way out, and the exit code says so."""
    settings = await fresh_database(postgres)
    code, output = konstruct("doctor", "--json", settings=settings)
    findings = {finding["check"]: finding["state"] for finding in json.loads(output)}
    # The tests' own server does without fsync.
    assert (code, findings) == (0, {"fsync": "warning", "owner": "ok", "sealer": "not set"})
    async with connect(settings.database.owner_database_url) as owner:
        await owner.execute("ALTER TABLE kb_documents DISABLE ROW LEVEL SECURITY")
        code, output = konstruct("doctor", settings=settings)
        assert code == 1
        assert re.search(r"row_level_security\s+│ stops the server\s+│ row level security is off", output), output
        await owner.execute("ALTER TABLE kb_documents ENABLE ROW LEVEL SECURITY")
    swapped = settings.database.model_copy(
        update={
            "owner_database_url": settings.database.database_url,
            "sealer_database_url": settings.database.owner_database_url,
        }
    )
    _, output = konstruct("doctor", "--json", settings=settings.model_copy(update={"database": swapped}))
    findings = {finding["check"]: finding["reason"] for finding in json.loads(output)}
    assert findings["owner"].endswith("expected that of the owner of the tables")
    assert findings["sealer"].endswith("expected that of konstruct_sealer")
    code, output = konstruct("doctor")
    assert code == 1
    assert "KONSTRUCT_DATABASE_URL is not set" in output
