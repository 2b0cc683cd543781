"""What the server sends for /graphiql: a page under a strict policy, from no other host, behind any prefix."""

import gzip
import re
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from app.web.graphiql.routes import graphiql_routes
from tests.support.database import wait_until
from tests.support.patience import PATIENCE_SECONDS
from tests.support.server import LiveServer

SCRIPT = b"export const answer = 42;\n" * 100
PAGE = b'<!doctype html><script type="module" src="./graphiql/index-abc.js"></script>'

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "connect-src": "'self'",
    "worker-src": "'self'",
    "font-src": "'self'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data:",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
}


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A folder with a page in it."""
    (tmp_path / "graphiql").mkdir()
    (tmp_path / "index.html").write_bytes(PAGE)
    (tmp_path / "graphiql" / "index-abc.js").write_bytes(SCRIPT)
    (tmp_path / "graphiql" / "index-abc.js.gz").write_bytes(gzip.compress(SCRIPT))
    (tmp_path / "graphiql" / "font-abc.woff2").write_bytes(b"wOF2")
    (tmp_path / "secret.js").write_bytes(b"outside")
    return tmp_path


def client(folder: Path, *, root_path: str = "", mounted_at: str = "") -> httpx.AsyncClient:
    """A browser's view of the routes: as they are, with a root path, or mounted below a prefix."""
    app = Starlette(routes=graphiql_routes(folder))
    if mounted_at:
        app = Starlette(routes=[Mount(mounted_at, app=app)])
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, root_path=root_path), base_url="http://konstruct.test", follow_redirects=True
    )


def policy_of(response: httpx.Response) -> dict[str, str]:
    """Return the answer's Content-Security-Policy by directive."""
    directives = response.headers["content-security-policy"].split(";")
    return dict(directive.strip().split(" ", 1) for directive in directives)


async def test_page_and_its_parts_carry_the_policy(built: Path) -> None:
    """The page, its scripts, redirects and refusals allow this server only, and are never taken for another type."""
    async with client(built) as http:
        for path in ("/graphiql", "/graphiql/", "/graphiql/index-abc.js", "/graphiql/nothing.js"):
            response = await http.get(path)
            assert policy_of(response) == POLICY
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["referrer-policy"] == "no-referrer"


async def test_page_is_not_kept_and_its_parts_are_kept_for_good(built: Path) -> None:
    """The page is fetched each time; what it names has names that change with the content."""
    async with client(built) as http:
        page = await http.get("/graphiql")
        script = await http.get("/graphiql/index-abc.js")
        font = await http.get("/graphiql/font-abc.woff2")
        missing = await http.get("/graphiql/index-old.js")
    assert (page.status_code, page.content, page.headers["cache-control"]) == (200, PAGE, "no-store")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for asset, media_type in ((script, "text/javascript; charset=utf-8"), (font, "font/woff2")):
        assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert asset.headers["content-type"] == media_type
    assert (missing.status_code, missing.headers["cache-control"]) == (404, "no-store")


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br", "gzip"),
        ("br;q=1, GZIP;q=0.5", "gzip"),
        ("*", "gzip"),
        ("gzip;q=0", None),
        ("gzip; q=0.0, br", None),
        ("identity", None),
        ("", None),
    ],
)
async def test_parts_come_compressed_to_those_who_take_it(built: Path, accepted: str, encoding: str | None) -> None:
    """Who takes gzip gets it; either way it is the same script, and caches know what it depends on."""
    async with client(built) as http:
        response = await http.get("/graphiql/index-abc.js", headers={"accept-encoding": accepted})
    assert response.headers.get("content-encoding") == encoding
    assert response.headers["vary"] == "Accept-Encoding"
    assert response.content == SCRIPT


@pytest.mark.parametrize(
    "path",
    [
        "/graphiql/..%2fsecret.js",
        "/graphiql/%2e%2e%2fsecret.js",
        "/graphiql/../secret.js",
        "/graphiql/..",
        "/graphiql/index-abc.js.gz",
        "/graphiql/index-abc.js%00",
        "/graphiql/%00.js",
        "/graphiql/" + "a" * 5000 + ".js",
        "/graphiql/graphiql/index-abc.js",
        "/graphiql/index.html",
    ],
)
async def test_nothing_else_is_served(built: Path, path: str) -> None:
    """A path can't lead out of the folder of built files, and a strange one is no error of the server."""
    async with client(built) as http:
        response = await http.send(
            http.build_request("GET", httpx.URL("http://konstruct.test", raw_path=path.encode()))
        )
    assert response.status_code == 404
    assert b"outside" not in response.content


@pytest.mark.parametrize("prefix", ["", "/tools/konstruct"])
async def test_page_works_behind_a_prefix(built: Path, prefix: str) -> None:
    """With a prefix that a proxy strips, passes on as root path, or that is mounted, the page finds its parts."""
    ways = {
        "passed": (client(built, root_path=prefix), prefix),
        "mounted": (client(built, mounted_at=prefix), prefix),
        # The proxy asks without the prefix; the browser resolves what it gets with it.
        "stripped": (client(built), ""),
    }
    for name, (http, sent) in ways.items():
        async with http:
            for path in ("/graphiql", "/graphiql/"):
                page = await http.get(sent + path)
                assert (page.status_code, page.content) == (200, PAGE), name
                [source] = re.findall(r'src="([^"]+)"', page.text)
                seen = httpx.URL(f"http://browser.test{prefix}/graphiql").join(source).path
                assert seen == f"{prefix}/graphiql/index-abc.js"
                script = await http.get(sent + seen.removeprefix(prefix))
                assert script.content == SCRIPT, name


async def test_page_that_is_not_built_says_how_to_build_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a build the page and the log name the command; with one, the page comes without a restart."""
    async with client(tmp_path) as http:
        before = await http.get("/graphiql")
        (tmp_path / "index.html").write_bytes(PAGE)
        after = await http.get("/graphiql")
    said = capsys.readouterr()
    assert before.status_code == 200
    assert "<code>make graphiql</code>" in before.text
    assert "src=" not in before.text
    assert policy_of(before) == POLICY
    assert "graphiql_not_built" in said.out + said.err
    assert "make graphiql" in said.out + said.err
    assert after.content == PAGE


async def test_parts_are_logged_as_the_page(server: LiveServer) -> None:
    """Whatever is asked for below the page is one route of the log and the metrics, not one each."""
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        for number, name in enumerate(("a.js", "b.js", "")):
            await http.get(f"{server.base_url}/graphiql/{name}", headers={"x-request-id": f"part-{number}"})
    routes: dict[str, str] = {}

    async def are_logged() -> bool:
        routes.update(
            (line["request_id"], line["route"]) for line in server.log_lines() if line.get("event") == "request"
        )
        return routes.keys() >= {f"part-{number}" for number in range(3)}

    # An answer is sent before its line is written.
    assert await wait_until(are_logged, seconds=PATIENCE_SECONDS)
    assert [routes[f"part-{number}"] for number in range(3)] == ["/graphiql"] * 3
