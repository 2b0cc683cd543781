"""Rules of the code base that no linter knows."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Table

from app.database.tenant_owned import TenantOwned
from app.models import Base
from app.settings import Settings
from tests.support.content_networks import CONTENT_NETWORKS
from tests.support.database import connect

ROOT = Path(__file__).parents[2]
PRODUCT = ("app", "graphql_schema", "migrations")

# Who reads the environment, and why it is not a setting.
ENVIRONMENT_READERS = {
    "app/database/embedded.py": "hands PATH on to the programs of the embedded PostgreSQL",
    "tests/documents/machine.py": "hands the environment on to the documents' commands, without any of its variables",
    "tests/services/test_cli.py": "hands the environment on to the command line, without any of its variables",
    "tests/support/database.py": "hands the environment on to a server process, with the test's settings in it",
    "tests/support/npm.py": "hands the environment on to npm",
}

# Hosts of package registries (a lock file names no index) and places on one developer's machine. Written in two
# parts, so that this file does not find itself.
FORBIDDEN_TEXTS = tuple(
    "".join(parts)
    for parts in (
        ("pypi", ".org"),
        ("files.python", "hosted.org"),
        ("registry.npm", "js.org"),
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("/tmp/", "probe"),  # noqa: S108 - a text to look for
        ("/op", "t/"),
    )
)


def tenant_tables() -> list[Table]:
    """Return the table of every TenantOwned class."""
    mappers = (mapper for mapper in Base.registry.mappers if issubclass(mapper.class_, TenantOwned))
    return [table for mapper in mappers for table in mapper.tables if isinstance(table, Table)]


def python_files(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    """Return every Python file in the folders, by its path from the root, parsed."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(), str(path))


def imported_modules(tree: ast.Module) -> Iterator[str]:
    """Return the names of all modules that a file imports, at the top or elsewhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def used_names(tree: ast.Module) -> set[str]:
    """Return all names, attributes and imported names of a file."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.add(node.name)
    return found


def called_names(tree: ast.Module) -> set[str]:
    """Return the last part of the name of everything that a file calls."""
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls}


def repository_files() -> list[Path]:
    """Return the files that git tracks or would track."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def test_revisions_depend_on_nothing_that_changes() -> None:
    """A revision imports nothing from the product: it must do tomorrow what it did when it was released."""
    names = [path for path, _ in python_files("migrations/versions")]
    found = {
        path: sorted({name for name in imported_modules(tree) if name.split(".")[0] in {"app", "graphql_schema"}})
        for path, tree in python_files("migrations/versions")
    }
    assert len(names) >= 3
    assert found == {path: [] for path in names}


def test_policy_helpers_depend_on_nothing_that_changes() -> None:
    """What the revisions share is as independent as they are."""
    shared = {
        "migrations/tenant_policies.py": ["alembic", "migrations.roles"],
        "migrations/roles.py": ["alembic", "sqlalchemy"],
    }
    found = {path: sorted(imported_modules(tree)) for path, tree in python_files("migrations") if path in shared}
    assert found == shared


async def test_every_tenant_owned_class_is_locked(settings: Settings) -> None:
    """The table of each TenantOwned class has forced row level security with a policy that checks writes."""
    tables = {table.name for table in tenant_tables()}
    query = """
    SELECT c.relname::text AS name FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relrowsecurity AND c.relforcerowsecurity
      AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polcmd = '*' AND p.polwithcheck IS NOT NULL)
    """
    async with connect(settings.database.owner_database_url) as owner:
        locked = {row["name"] for row in await owner.fetch(query)}
    assert {"audit_events", "kb_documents", "kb_chunks", "api_keys"} <= tables
    assert tables - locked == set()


def test_every_class_with_a_tenant_is_tenant_owned() -> None:
    """A mapped table with a tenant_id carries the mixin, or else the tenant session would not add its predicate."""
    unmarked = [
        mapper.class_.__name__
        for mapper in Base.registry.mappers
        if "tenant_id" in mapper.columns and not issubclass(mapper.class_, TenantOwned)
    ]
    assert unmarked == []


def test_tenant_leads_every_key() -> None:
    """tenant_id comes first in the primary key and the unique constraints of tenant tables and is part of every key."""
    for table in tenant_tables():
        assert "tenant_id" in table.primary_key.columns, table.name
        for key in table.foreign_key_constraints:
            assert key.column_keys[0] == "tenant_id", (table.name, key.column_keys)


def test_only_settings_read_the_environment() -> None:
    """Nobody but app/settings.py looks at environment variables, except to hand them on to a subprocess."""
    readers = {
        path
        for path, tree in python_files(*PRODUCT, "tests")
        if used_names(tree) & {"environ", "environb", "getenv", "putenv"} and path != "app/settings.py"
    }
    assert readers - set(ENVIRONMENT_READERS) == set()


def test_only_the_database_package_opens_sessions() -> None:
    """Outside of app/database nobody makes an engine, a session or a session factory: tenant_session is the door."""
    makers = {"AsyncSession", "Session", "sessionmaker", "async_sessionmaker", "create_async_engine", "create_engine"}
    found = {
        path: sorted(called_names(tree) & makers)
        for path, tree in python_files(*PRODUCT)
        if not path.startswith("app/database/") and called_names(tree) & makers
    }
    assert found == {}


def test_only_the_database_package_takes_connections_of_the_pool() -> None:
    """Who passes the gate by starves where readers leave connections to each other; `connection()` waits in turn."""
    found = {
        path
        for path, tree in python_files(*PRODUCT)
        if not path.startswith(("app/database/", "migrations/")) and "engine" in used_names(tree)
    }
    # There the pool is watched.
    assert found == {"app/main.py", "app/observability/metrics.py"}


def test_nobody_sets_the_tenant_but_the_session_and_the_owners_tools() -> None:
    """The name of the setting and of the function that sets it appear in few places of the product."""
    found = {
        path
        for path, tree in python_files(*PRODUCT)
        if any(
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and ("app.current_tenant" in node.value or "set_tenant(" in node.value)
            and not node.value.lstrip().startswith(("Tenant sessions", "Open a transaction"))
            for node in ast.walk(tree)
        )
        or "set_tenant" in used_names(tree)
    }
    assert found <= {
        "app/auth/tenants.py",
        "app/database/session.py",
        "app/kb/reembed.py",
        "app/sample_data/demo.py",
        "migrations/versions/001_roles_and_tenants.py",
    }
    assert "app/database/session.py" in found


@pytest.mark.parametrize("host", CONTENT_NETWORKS)
def test_repository_names_no_content_network(host: str) -> None:
    """No file refers to a network that gives away scripts or fonts, by name or in a lock file."""
    found = [
        path.relative_to(ROOT).as_posix() for path in repository_files() if host.encode() in path.read_bytes().lower()
    ]
    assert found == []


@pytest.mark.parametrize("forbidden", FORBIDDEN_TEXTS)
def test_repository_names_no_registry_and_no_machine(forbidden: str) -> None:
    """No file mentions the host of a package registry or an absolute path of the machine that it was written on."""
    files = repository_files()
    found = [path.relative_to(ROOT).as_posix() for path in files if forbidden.encode() in path.read_bytes()]
    assert len(files) > 100
    assert found == []
