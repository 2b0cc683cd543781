"""GraphiQL, built from what is committed and driven in a real browser that can reach nothing but this machine."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zipfile import ZipFile

import pytest
from playwright.async_api import Browser, Locator, expect

from app.auth.principal import Scope
from app.database.embedded import EmbeddedPostgres
from app.sample_data.demo import Demo, prepare_demo
from app.settings import Settings
from tests.support.browser import OFFLINE, Tab, chromium
from tests.support.content_networks import CONTENT_NETWORKS
from tests.support.database import fresh_database, new_tenant
from tests.support.npm import npm
from tests.support.patience import PATIENCE_SECONDS
from tests.support.server import GraphQLClient, LiveServer, live_server
from tests.support.trail import LOG_EVENTS

ROOT = Path(__file__).parents[2]
MADE = shutil.ignore_patterns("node_modules", "static", "__pycache__")
PACKAGED = ("app", "graphql_schema", "migrations")
DESCRIPTIONS = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore", "requirements-dev.lock")

Theme = Literal["light", "dark"]

TITLES = ["LogACall", "LastFailures", "CostByModel", "OneRunAsATree", "IngestADocument", "LiveTail"]


ADDRESS = re.compile(rb"""(?:src|href|url|import|from)\s*[=(]?\s*["'(]\s*(?:https?:)?//[^"')]*""")


@pytest.fixture(scope="module")
def code() -> Iterator[Path]:
    """What is committed, in a folder of its own, without anything built."""
    with tempfile.TemporaryDirectory(prefix="konstruct-graphiql-") as name:
        folder = Path(name)
        for package in PACKAGED:
            shutil.copytree(ROOT / package, folder / package, ignore=MADE)
        for file in DESCRIPTIONS:
            shutil.copy(ROOT / file, folder)
        yield folder


@pytest.fixture(scope="module")
def built(code: Path) -> Path:
    """The same with GraphiQL in it, built as `make graphiql` does, and its types checked."""
    page = code / "app" / "web" / "graphiql" / "page"
    npm("ci", "--no-audit", "--no-fund", folder=page)
    npm("run", "check", folder=page)
    done = subprocess.run(
        [sys.executable, "-m", "app.web.graphiql.build"], cwd=code, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Built GraphiQL in" in done.stdout
    return code


@pytest.fixture(scope="module")
async def sealed(postgres: EmbeddedPostgres) -> Settings:
    """Settings for a database whose log is sealed, with GraphiQL on."""
    return await fresh_database(postgres, sealed=True)


@pytest.fixture(scope="module")
async def demo(sealed: Settings, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The tenant that `konstruct dev` makes, with its two weeks of life."""
    file = tmp_path_factory.mktemp("demo") / "demo.json"
    return await prepare_demo(sealed, file, with_sample_data=True, say=lambda _text: None)


@pytest.fixture(scope="module")
def server(sealed: Settings, built: Path, demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of that code."""
    with live_server(sealed, tmp_path_factory.mktemp("server"), code=built) as running:
        yield running


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser that reaches this machine only."""
    async with chromium(OFFLINE) as browser:
        yield browser


@dataclass
class Visit(Tab):
    """GraphiQL in a tab, and what the tab did."""

    async def connect(self, key: str) -> None:
        """Fill in the connect box."""
        await self.page.get_by_label("API key").fill(key)
        await self.page.get_by_role("button", name="Connect", exact=True).click()

    async def expect_connected(self) -> None:
        """Wait until GraphiQL is there and knows the schema."""
        await expect(self.page.get_by_label("Operation Editor").locator(".view-line").first).to_be_visible()
        await expect(self.page.locator(".graphiql-sidebar .graphiql-spinner")).to_have_count(0)

    async def value(self, editor: str) -> str:
        """Return what stands in one of Monaco's editors: operation.graphql, variables.json or response.json."""
        text: str = await self.page.evaluate(
            "name => __MONACO.editor.getModels().find(model => model.uri.path.endsWith(name)).getValue()", editor
        )
        return text

    async def settle(self) -> None:
        """Wait until GraphiQL has read what was typed, which it does a tenth of a second later."""
        await self.page.evaluate("() => new Promise(resolve => setTimeout(resolve, 300))")

    async def write(self, editor: str, text: str) -> None:
        """Replace what stands in one of Monaco's editors."""
        await self.page.evaluate(
            "([name, text]) => __MONACO.editor.getModels().find(model => model.uri.path.endsWith(name)).setValue(text)",
            [editor, text],
        )
        await self.settle()

    @property
    def tabs(self) -> Locator:
        """The titles of the tabs."""
        return self.page.locator(".graphiql-tab-button")

    async def open_tab(self, title: str) -> None:
        """Choose one of the tabs."""
        await self.page.get_by_role("tab", name=title).click()
        await expect(self.page.get_by_role("tab", name=title)).to_have_attribute("aria-selected", "true")
        await self.settle()

    @property
    def run_button(self) -> Locator:
        """The button that runs the tab's operation, or stops its subscription."""
        return self.page.locator(".graphiql-execute-button")

    async def result(self, field: str, *, containing: str = "") -> Any:
        """Wait for an answer that holds the field and a text; return the field's value."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                text = await self.value("response.json")
                if f'"{field}"' in text and containing in text:
                    body = json.loads(text)
                    assert "errors" not in body, text
                    return body["data"][field]
                await asyncio.sleep(0.05)

    async def run(self, field: str, operation: str | None = None, *, containing: str = "") -> Any:
        """Run the tab's operation, or the one of this name; return a root field's value."""
        await self.settle()
        await self.run_button.click()
        if operation is not None:
            await self.page.get_by_role("menuitem", name=operation).click()
        return await self.result(field, containing=containing)

    async def kept(self) -> str:
        """Return all that outlives the tab, and what can be seen of it from outside."""
        # GraphiQL writes half a second after the last change, by a timer that runs before this one.
        text: str = await self.page.evaluate(
            "() => new Promise(resolve => setTimeout(resolve, 1000)).then(() =>"
            " JSON.stringify([localStorage, document.cookie, location.href, document.title, history.state]))"
        )
        return text


@asynccontextmanager
async def visit(browser: Browser, url: str, color_scheme: Theme = "light") -> AsyncIterator[Visit]:
    """Open GraphiQL in a tab without a past."""
    context = await browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme=color_scheme)
    visiting = Visit(await context.new_page())
    await visiting.page.goto(f"{url}/graphiql")
    yield visiting
    await context.close()


async def test_every_ready_tab_works_offline(server: LiveServer, demo: Demo, browser: Browser) -> None:
    """With nothing but the server in reach each ready tab shows its results; the key stays in the tab's session."""
    api = GraphQLClient(server.graphql_url, demo.api_key)
    async with visit(browser, server.base_url) as visiting:
        page = visiting.page
        await visiting.connect(demo.api_key)
        await visiting.expect_connected()
        connection = page.get_by_label("Connection")
        await expect(connection.locator("dt")).to_have_text(["Tenant", "Key", "Agent", "Scopes"])
        await expect(connection.locator("dd")).to_have_text(
            ["Larkspur (demo)", "demo", "any", "AUDIT_READAUDIT_WRITEKB_READKB_WRITE"]
        )
        await expect(visiting.tabs).to_have_text(TITLES)

        logged = await visiting.run("logLlmCall")
        again = await visiting.run("logLlmCall", containing="DUPLICATE")
        assert (logged["outcome"], again["outcome"]) == ("RECORDED", "DUPLICATE")
        assert again["event"]["id"] == logged["event"]["id"]

        await visiting.open_tab("LastFailures")
        failures = await visiting.run("auditEvents")
        assert len(failures["nodes"]) == 10
        assert {event["status"] for event in failures["nodes"]} <= {"FAILED", "DENIED"}

        await visiting.open_tab("CostByModel")
        costs = await visiting.run("auditStats")
        assert {group["key"][0]["value"] for group in costs} == {
            "claude-sonnet-4-5", "claude-haiku-4-5", "gpt-4o-mini",
        }  # fmt: skip

        await visiting.open_tab("OneRunAsATree")
        steps = (await visiting.run("auditEvents"))["nodes"]
        ids = {step["id"] for step in steps}
        assert len(steps) >= 3
        assert [step["parentEvent"] for step in steps[:1]] == [None]
        assert all(step["parentEvent"]["id"] in ids for step in steps[1:])

        await visiting.open_tab("IngestADocument")
        ingested = await visiting.run("ingestKbDocument", "IngestADocument")
        assert (ingested["outcome"], ingested["document"]["chunkCount"]) == ("CREATED", 1)
        found = await visiting.run("kbSearch", "SearchForIt")
        assert "Opening hours" in [hit["chunk"]["document"]["title"] for hit in found["hits"]]

        await visiting.open_tab("LiveTail")
        await visiting.run("auditEventLogged")
        event = {"toolCall": {"toolName": "send_email", "inputSummary": "Hello while you watch"}}
        await api.data(LOG_EVENTS, {"input": {"events": [event]}})
        seen = await visiting.result("auditEventLogged", containing="Hello while you watch")
        assert (seen["actionType"], seen["actionName"]) == ("TOOL_INVOCATION", "send_email")
        await visiting.run_button.click()

        assert demo.api_key not in await visiting.kept()
        assert demo.api_key in await page.evaluate("JSON.stringify(sessionStorage)")
        assert visiting.hosts == {"127.0.0.1"}
        assert visiting.errors == []
    await api.http.aclose()


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
async def test_editor_knows_the_schema(
    server: LiveServer, demo: Demo, browser: Browser, color_scheme: Theme, tmp_path: Path
) -> None:
    """The editor offers fields, the docs describe them, and the explorer and the ready queries open, in both themes."""
    async with visit(browser, server.base_url, color_scheme) as visiting:
        page = visiting.page
        await page.screenshot(path=tmp_path / f"connect-{color_scheme}.png")
        await visiting.connect(demo.api_key)
        await visiting.expect_connected()

        await page.get_by_role("button", name="Show Ready queries").click()
        await page.get_by_label("Ready queries").get_by_role("button", name="Cost by model this week").click()
        await expect(visiting.tabs).to_have_count(7)
        assert json.loads(await visiting.value("variables.json")).keys() == {"since"}
        assert len(await visiting.run("auditStats")) == 3
        await page.screenshot(path=tmp_path / f"ready-{color_scheme}.png")

        await page.get_by_role("button", name="Show GraphiQL Explorer").click()
        await expect(page.locator(".docExplorerWrap")).to_contain_text("auditTimeSeries")
        for title in TITLES:
            await visiting.tabs.get_by_text(title, exact=True).first.click()
            await expect(page.locator(".docExplorerWrap input").first).to_have_value(title)

        await page.get_by_role("button", name="Show Documentation Explorer").click()
        docs = page.locator(".graphiql-doc-explorer")
        await docs.get_by_role("link", name="Query", exact=True).click()
        await expect(docs).to_contain_text("Who am I? A good first query")

        await visiting.write("operation.graphql", "{ viewer {  } }")
        await page.evaluate(
            "() => { const editor = __MONACO.editor.getEditors()[0];"
            " editor.setPosition({lineNumber: 1, column: 12}); editor.focus(); }"
        )
        await page.keyboard.press("Control+Space")
        offered = page.locator(".suggest-widget .monaco-list-row")
        await expect(offered.filter(has_text="tenantName")).to_be_visible()
        await page.screenshot(path=tmp_path / f"schema-{color_scheme}.png")
        assert visiting.hosts == {"127.0.0.1"}
        assert visiting.errors == []


async def test_key_is_kept_nowhere_but_in_the_session(server: LiveServer, demo: Demo, browser: Browser) -> None:
    """Wherever the key is typed, nothing that outlives the tab holds it; a reload goes on, disconnecting forgets."""
    async with visit(browser, server.base_url) as visiting:
        page = visiting.page
        await visiting.connect(f" Bearer {demo.api_key}\n")
        await visiting.expect_connected()
        headers = json.dumps({"Authorization": f"Bearer {demo.api_key}", "X-Trace-Id": "typed"})
        await page.get_by_role("button", name="Headers").click()
        await visiting.write("request-headers.json", headers)
        await visiting.write("variables.json", json.dumps({"key": demo.api_key}))
        await visiting.write("operation.graphql", f"# {demo.api_key}\n{{ viewer {{ subject }} }}")
        assert await visiting.run("viewer") == {"subject": "demo"}
        kept = await visiting.kept()
        assert "viewer { subject }" in kept
        assert demo.api_key not in kept
        assert "typed" not in kept

        titles = await visiting.tabs.all_inner_texts()
        await page.reload()
        await visiting.expect_connected()
        await expect(visiting.tabs).to_have_text(titles)
        assert demo.api_key not in await visiting.value("operation.graphql")

        await page.get_by_role("button", name="Disconnect").click()
        await expect(page.get_by_label("API key")).to_have_value("")
        assert await page.evaluate("JSON.stringify(sessionStorage)") == "{}"
        assert demo.api_key not in await visiting.kept()
        assert demo.api_key not in await page.content()
        await page.reload()
        await expect(page.get_by_label("API key")).to_be_visible()
        assert visiting.errors == []


async def test_tabs_of_a_tenant_are_its_own(server: LiveServer, sealed: Settings, demo: Demo, browser: Browser) -> None:
    """A key that is bound to an agent says so and logs as that agent; another tenant's tabs are not shown to it."""
    tenant = await new_tenant(sealed, "Acme")
    agent = "0193a5c0-7e11-7c3a-9d52-5b1f0e6a2c77"
    key, _ = await tenant.new_key([Scope.AUDIT_WRITE], name="bound", agent_id=agent)
    async with visit(browser, server.base_url) as visiting:
        page = visiting.page
        await visiting.connect(demo.api_key)
        await visiting.expect_connected()
        await visiting.write("operation.graphql", "query OfTheDemo { viewer { subject } }")
        await visiting.run("viewer")
        await visiting.kept()
        await page.get_by_role("button", name="Disconnect").click()

        await visiting.connect(key)
        await visiting.expect_connected()
        await expect(page.get_by_label("Connection").locator("dd")).to_have_text(
            ["Acme", "bound", agent, "AUDIT_WRITE"]
        )
        await expect(visiting.tabs.first).to_have_text("LogACall")
        assert (await visiting.run("logLlmCall"))["outcome"] == "RECORDED"
        assert visiting.errors == []


async def test_wrong_key_is_told_in_words(server: LiveServer, demo: Demo, browser: Browser) -> None:
    """A key that is not the server's is refused in words and forgotten; without one there is the schema only."""
    async with visit(browser, server.base_url) as visiting:
        page = visiting.page
        alert = page.get_by_role("alert")
        await visiting.connect(demo.api_key[:-4] + "abcd")
        await expect(alert).to_have_text("The server refused this key: the API key is unknown, revoked or expired.")
        await visiting.connect("kst_ключ")
        await expect(alert).to_contain_text("This is no API key")
        assert await page.evaluate("JSON.stringify(sessionStorage)") == "{}"
        # The browser itself notes the refusal, once; the second key was never sent.
        assert len(visiting.errors) == 1
        assert "401" in visiting.errors[0]

        await page.get_by_role("button", name="Only look at the schema").click()
        await visiting.expect_connected()
        await expect(page.get_by_label("Connection")).to_contain_text("Not connected")
        await visiting.open_tab("LiveTail")
        await visiting.run_button.click()
        await expect(page.get_by_label("Result Window")).to_contain_text("refuses subscriptions")
        assert json.loads(await visiting.value("response.json")) == {
            "errors": [{"message": "The server refuses subscriptions without a key that is valid, neither revoked nor"
            " expired."}]
        }  # fmt: skip


async def test_key_outlives_a_restart_of_the_server(server: LiveServer, demo: Demo, browser: Browser) -> None:
    """A reload while nothing answers says so; another one, once the server is back, goes on with the key."""
    async with visit(browser, server.base_url) as visiting:
        page = visiting.page
        await visiting.connect(demo.api_key)
        await visiting.expect_connected()
        await page.route("**/graphql", lambda route: route.abort())
        await page.reload()
        await expect(page.get_by_role("alert")).to_contain_text("Is the server running?")
        await page.unroute("**/graphql")
        await page.reload()
        await visiting.expect_connected()


async def test_page_works_behind_a_proxy_that_strips_a_prefix(server: LiveServer, demo: Demo, browser: Browser) -> None:
    """Below a prefix that the server does not know of the page, its workers, queries and subscriptions all work."""
    async with prefix_proxy(server, "/tools/konstruct") as url, visit(browser, url) as visiting:
        await visiting.connect(demo.api_key)
        await visiting.expect_connected()
        await visiting.open_tab("CostByModel")
        assert len(await visiting.run("auditStats")) == 3
        await visiting.open_tab("LiveTail")
        assert await visiting.run("auditEventLogged")
        assert visiting.hosts == {"127.0.0.1"}
        assert visiting.errors == []


@asynccontextmanager
async def prefix_proxy(server: LiveServer, prefix: str) -> AsyncIterator[str]:
    """Pass on what is asked below the prefix, without it; everything else is closed on. Yield the prefixed address."""
    host, _, port = server.base_url.removeprefix("http://").partition(":")
    request_line = re.compile(rf"(GET|POST) {prefix}/".encode())

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_request: bool) -> None:
        while chunk := await reader.read(65536):
            if is_request and chunk.startswith((b"GET ", b"POST ")):
                if request_line.match(chunk) is None:
                    break
                chunk = request_line.sub(rb"\1 /", chunk, count=1)
            writer.write(chunk)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        pumps = (pump(reader, back, is_request=True), pump(there, writer, is_request=False))
        await asyncio.gather(*pumps, return_exceptions=True)

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}{prefix}"
    finally:
        proxy.close()


def test_built_files_refer_to_no_other_host(built: Path) -> None:
    """What the browser gets names no network of other people's scripts and loads nothing by an absolute address."""
    files = [path for path in (built / "app/web/graphiql/static").rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        content = path.read_bytes().lower()
        assert [host for host in CONTENT_NETWORKS if host.encode() in content] == [], path.name
        assert ADDRESS.findall(content) == [], path.name


def test_wheel_holds_what_was_built(built: Path, tmp_path: Path) -> None:
    """A wheel holds the page and its parts, and not what they are built from."""
    names = wheel(built, tmp_path)
    static = {path.relative_to(built).as_posix() for path in (built / "app/web/graphiql/static").rglob("*.*")}
    assert static <= names
    assert not [name for name in names if "/page/" in name or "node_modules" in name]


def test_wheel_is_built_without_the_page(code: Path, tmp_path: Path) -> None:
    """Without a built page there is a wheel all the same."""
    bare = tmp_path / "bare"
    shutil.copytree(code, bare, ignore=MADE)
    names = wheel(bare, tmp_path)
    assert "app/web/graphiql/routes.py" in names
    assert not [name for name in names if "/static/" in name]


def wheel(folder: Path, target: Path) -> set[str]:
    """Build the wheel; return the names of its files."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(target), str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [file] = target.glob("*.whl")
    with ZipFile(file) as archive:
        return set(archive.namelist())
