"""The compose file and the Dockerfile, as far as they can be tried without a container engine."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
from pydantic_settings import BaseSettings

from app.database.embedded import EmbeddedPostgres
from app.settings import ServerSettings, Settings
from tests.services.test_cli import konstruct
from tests.support.patience import PATIENCE_SECONDS
from tests.support.server import running_server

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = import_module("yaml").safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
SECRETS = {name: f"secret{number}" for number, name in enumerate(EXAMPLE)}
VARIABLE = re.compile(r"\$\{(\w+)(:\?[^}]*)?\}")


def environment_of(service: str) -> dict[str, str]:
    """Return a service's environment with the values of an .env file in it."""
    given: Mapping[str, str] = SERVICES[service].get("environment", {})
    return {name: VARIABLE.sub(lambda found: SECRETS[found[1]], value) for name, value in given.items()}


def setting_names() -> set[str]:
    """Return the variables that the settings are read from."""
    names = set()
    for part in Settings.model_fields.values():
        group = part.annotation
        assert isinstance(group, type)
        assert issubclass(group, BaseSettings)
        prefix = group.model_config["env_prefix"]
        names |= {
            str(field.validation_alias or f"{prefix}{name}".upper()) for name, field in group.model_fields.items()
        }
    return names


def test_every_variable_is_known() -> None:
    """What the file takes from .env is in the example and can't be left empty; what it sets is a setting."""
    text = (ROOT / "compose.yaml").read_text()
    used = {found[1]: found[2] for found in VARIABLE.finditer(text)}
    assert used.keys() == SECRETS.keys()
    assert all(used.values()), "a variable without :? would be empty when it is not set"
    assert not any(EXAMPLE.values()), "a password that everybody knows"
    for service in ("migrate", "server", "admin"):
        assert set(SERVICES[service]["environment"]) <= setting_names()


def test_the_server_has_the_weak_role_only() -> None:
    """The owner's URL is with the jobs, not with the server; that alone can be reached, from this machine only."""
    server = environment_of("server")
    assert server["KONSTRUCT_DATABASE_URL"].startswith("postgresql://konstruct_app:")
    assert "KONSTRUCT_OWNER_DATABASE_URL" not in server
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "server": ["127.0.0.1:8000:8000"]
    }


def test_containers_are_confined_and_stopped_gently() -> None:
    """None can write outside its volume and its memory, gain rights, or is killed while it still may work."""
    for name, service in SERVICES.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "/tmp" in service["tmpfs"], name  # noqa: S108 - within the container
    assert SERVICES["database"]["user"] == "postgres"
    grace = SERVICES["server"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > ServerSettings.model_fields["shutdown_seconds"].default


def test_the_roles_are_made_right_and_the_server_starts(tmp_path: Path) -> None:
    """The database's set-up script, the migration and the server work with exactly the file's environment."""
    # Not below pytest's folder, which another run of it shuts to the server's user.
    folder = tempfile.TemporaryDirectory(prefix="konstruct-test-")
    postgres = EmbeddedPostgres(Path(folder.name))
    postgres.start()
    try:
        superuser = postgres.superuser_url.get_secret_value().rsplit("/", 1)[0] + "/postgres"
        script = ROOT / SERVICES["database"]["volumes"][1].split(":")[0]
        done = subprocess.run(
            [postgres.program("psql"), "--no-psqlrc", "--quiet", "--file", script, superuser],
            env=environment_of("database"), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")

        def here(service: str) -> dict[str, str]:
            return {
                name: value.replace("@database:5432/", f"@127.0.0.1:{postgres.port}/")
                for name, value in environment_of(service).items()
            }

        assert konstruct("migrate", environment=here("migrate")).returncode == 0
        made = konstruct("tenants", "create", "--name", "Acme", environment=here("admin"))
        assert made.stdout.startswith("Made the tenant Acme")
        with running_server(here("server"), tmp_path) as server:
            ready = httpx.get(f"{server.base_url}/readyz", timeout=PATIENCE_SECONDS)
            assert (ready.status_code, ready.json()) == (200, {"status": "ready", "problems": []})
    finally:
        postgres.stop()
        folder.cleanup()


def test_the_dockerfile_passes_its_linter() -> None:
    """Hadolint, with the shell linter inside it, has nothing to say."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_image_is_made_with_care() -> None:
    """Pinned bases, hashes, an unprivileged user, nothing for development, and signals that reach the server."""
    text = (ROOT / "Dockerfile").read_text()
    for base in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert re.fullmatch(r"\w+:\d[\w.]*-slim", base), base
    assert "--require-hashes -r requirements.lock" in text
    assert "requirements-dev" not in text
    # Whatever else pip installs is the wheel that was made here, by a build back end that is pinned as well.
    assert "--require-hashes -r requirements-build.lock" in text
    for install in re.findall(r"pip install (.+?)(?: &&|$)", text, re.MULTILINE):
        assert install.startswith(("--require-hashes -r ", "--no-deps --no-index ")), install
    assert "pip wheel --no-deps --no-build-isolation " in text
    last = text[text.rindex("FROM ") :]
    assert re.search(r"^USER 10001$", last, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["konstruct"\]$', last, re.MULTILINE)
    assert "/healthz" in last
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for name in copied.split():
            assert (ROOT / name).exists(), name
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", ".konstruct", ".env"} <= set(ignored)
