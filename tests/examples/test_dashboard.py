"""The example dashboard, built from what is committed and driven in a real browser against a real server."""

import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, WebSocketRoute, expect

from app.auth.tenants import revoke_api_key
from app.database.embedded import EmbeddedPostgres
from app.database.owner import owner_transaction
from app.settings import ServerSettings, Settings
from tests.support.browser import Tab, chromium
from tests.support.database import TestTenant, fresh_database, new_tenant
from tests.support.npm import npm
from tests.support.server import GraphQLClient, LiveServer, live_server
from tests.support.trail import LOG_EVENTS

ROOT = Path(__file__).parents[2]
MADE = shutil.ignore_patterns("node_modules", "dist", "gql")
# Events are sealed about a second after they were recorded; numbers are renewed every three.
# Whether a chart shows anything in the colour of its series, which neither its axes nor its grid have.
IS_DRAWN = """(canvas, name) => {
    const probe = document.createElement("canvas").getContext("2d");
    probe.fillStyle = getComputedStyle(canvas).getPropertyValue(name);
    probe.fillRect(0, 0, 1, 1);
    const [red, green, blue] = probe.getImageData(0, 0, 1, 1).data;
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    for (let at = 0; at < pixels.length; at += 4) {
        if (pixels[at] === red && pixels[at + 1] === green && pixels[at + 2] === blue) return true;
    }
    return false;
}"""


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_arguments: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """Where the built page is served: its origin."""
    with tempfile.TemporaryDirectory(prefix="konstruct-dashboard-") as name:
        folder = Path(name) / "examples" / "dashboard"
        shutil.copytree(ROOT / "examples" / "dashboard", folder, ignore=MADE)
        shutil.copytree(ROOT / "graphql_schema", Path(name) / "graphql_schema")
        npm("ci", folder=folder)
        for script in ("codegen", "check", "build"):
            npm("run", script, folder=folder)
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder / "dist")) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()
            thread.join()


@dataclass
class Konstruct:
    """The server, a tenant, and its agents' way in."""

    server: LiveServer
    tenant: TestTenant
    api: GraphQLClient

    async def log(self, *events: dict[str, Any]) -> None:
        """Record events as an agent does."""
        answer = await self.api.data(LOG_EVENTS, {"input": {"events": events}})
        assert answer["logEvents"]["rejectedCount"] == 0

    async def log_tool_call(self, summary: str, **values: Any) -> None:
        """Record one invocation of a tool."""
        await self.log({"toolCall": {"toolName": "send_email", "inputSummary": summary} | values})


@pytest.fixture(scope="module")
async def sealed(postgres: EmbeddedPostgres) -> Settings:
    """Settings for a database whose log is sealed, and without GraphiQL, as in production."""
    return await fresh_database(postgres, sealed=True, server=ServerSettings(graphiql=False))


@pytest.fixture(scope="module")
def server(sealed: Settings, dashboard: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that lets the page in."""
    with live_server(sealed, tmp_path_factory.mktemp("server"), KONSTRUCT_CORS_ORIGINS=dashboard) as running:
        yield running


@pytest.fixture
async def konstruct(server: LiveServer, sealed: Settings) -> AsyncIterator[Konstruct]:
    """The server with a tenant of the test's own."""
    tenant = await new_tenant(sealed, "Acme")
    api = GraphQLClient(server.graphql_url, tenant.api_key)
    yield Konstruct(server, tenant, api)
    await api.http.aclose()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium, without a window."""
    async with chromium() as browser:
        yield browser


@dataclass
class Visit(Tab):
    """The dashboard in a tab, and what the tab did."""

    async def connect(self, url: str, api_key: str) -> None:
        """Fill in the connect box."""
        await self.page.get_by_label("API URL").fill(url)
        await self.page.get_by_label("API key").fill(api_key)
        await self.page.get_by_role("button", name="Connect").click()

    async def expect_events(self, count: int) -> None:
        """Wait for the headline and the list to count so many events."""
        total = self.page.get_by_label("Totals").locator("div", has=self.page.get_by_text("Events")).locator("dd")
        await expect(total).to_have_text(str(count))
        await expect(self.page.get_by_label("Events", exact=True)).to_contain_text(f"{count} event")

    async def listed(self) -> list[str | None]:
        """Return the ids of the page of events."""
        rows = await self.page.locator("tr.event").all()
        return [await row.get_attribute("data-id") for row in rows]

    @property
    def tail(self) -> Any:
        """The rows of the live tail, the newest first."""
        return self.page.get_by_label("Live tail").locator("li")

    async def expect_live(self) -> None:
        """Wait until the tail follows."""
        await expect(self.page.get_by_role("status")).to_have_text("Live")


@asynccontextmanager
async def visit(browser: Browser, origin: str) -> AsyncIterator[Visit]:
    """Open the dashboard in a tab without a past."""
    context = await browser.new_context(viewport={"width": 1440, "height": 1200})
    visiting = Visit(await context.new_page())
    await visiting.page.goto(origin)
    yield visiting
    await context.close()


def sample_events() -> list[dict[str, Any]]:
    """Twenty calls of two models and fifteen invocations of two tools, three of which failed."""
    calls = [
        {
            "llmCall": {
                "model": model,
                "costUsd": "0.25",
                "latencyMs": 400 + 10 * number,
                "inputSummary": f"call {number}",
            }
        }
        for number, model in enumerate(["model-a"] * 14 + ["model-b"] * 6)
    ]
    tools = [
        {
            "toolCall": {
                "toolName": name,
                "latencyMs": 20 + number,
                "status": "FAILED" if name == "lookup_invoice" and number < 3 else "SUCCEEDED",
                "inputSummary": f"lookup {number}",
            }
        }
        for number, name in enumerate(["lookup_invoice"] * 10 + ["kb_search"] * 5)
    ]
    return calls + tools


async def test_dashboard_shows_the_trail_and_follows_it(konstruct: Konstruct, dashboard: str, browser: Browser) -> None:
    """Numbers, charts, pages, facets and the live tail show the trail; the key stays in the tab."""
    await konstruct.log(*sample_events())
    async with visit(browser, dashboard) as visiting:
        page = visiting.page
        await visiting.connect(konstruct.server.graphql_url, konstruct.tenant.api_key)
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Acme")

        # Numbers, breakdowns and charts.
        await visiting.expect_events(35)
        await expect(page.get_by_label("Totals")).to_contain_text("$5.00")
        await expect(page.get_by_label("Errors by tool").get_by_role("row")).to_have_text(["lookup_invoice3 of 1030%"])
        await expect(page.get_by_label("Cost by model").get_by_role("row")).to_have_text(
            ["model-a$3.5014 calls", "model-b$1.506 calls"]
        )
        latency, counts = page.get_by_label("Latency", exact=True), page.get_by_label("Events over time")
        for panel, colors in ((latency, ("--accent", "--accent-2")), (counts, ("--accent", "--failed"))):
            canvas = panel.locator("canvas")
            await expect(canvas).to_be_visible()
            assert [await canvas.evaluate(IS_DRAWN, color) for color in colors] == [True, True]

        # Pages.
        first = await visiting.listed()
        assert len(first) == 15
        await page.get_by_role("button", name="Next").click()
        await expect(page.locator("tr.event").first).not_to_have_attribute("data-id", first[0] or "")
        second = await visiting.listed()
        assert len(second) == 15
        assert not set(first) & set(second)
        await page.get_by_role("button", name="Previous").click()
        await expect(page.locator("tr.event").first).to_have_attribute("data-id", first[0] or "")
        assert await visiting.listed() == first

        # The live tail, and the numbers after it.
        await visiting.expect_live()
        await expect(visiting.tail).to_have_count(35)
        await konstruct.log_tool_call("Hello while you watch")
        await expect(visiting.tail.first).to_contain_text("Hello while you watch")
        await visiting.expect_events(36)
        await expect(page.locator("tr.event").first).to_contain_text("Hello while you watch")

        # One filter for every panel, the live tail too.
        chip = page.get_by_label("Status", exact=True).get_by_role("button", name="Failed")
        await chip.click()
        await expect(chip).to_have_attribute("aria-pressed", "true")
        await visiting.expect_events(3)
        await expect(page.locator("tr.event .status")).to_have_text(["Failed"] * 3)
        await expect(visiting.tail).to_have_count(3)
        await expect(page.get_by_label("Cost by model")).to_contain_text("No LLM calls match.")
        await visiting.expect_live()
        await konstruct.log(
            {"toolCall": {"toolName": "kb_search"}}, {"toolCall": {"toolName": "x", "status": "FAILED"}}
        )
        await expect(visiting.tail).to_have_count(4)
        await chip.click()
        await visiting.expect_events(38)

        # Free text, down to nothing.
        await page.get_by_label("Search").fill("watch")
        await visiting.expect_events(1)
        await page.get_by_label("Search").fill("nothing-has-this-word")
        await expect(page.get_by_label("Events", exact=True)).to_contain_text("No events match.")
        await expect(page.get_by_label("Live tail")).to_contain_text("No events match yet.")

        # What the tab kept and whom it asked.
        stored = await page.evaluate("[JSON.stringify(localStorage), document.cookie, location.href, history.length]")
        assert stored == ["{}", "", f"{dashboard}/", 2]
        assert konstruct.tenant.api_key in await page.evaluate("JSON.stringify(sessionStorage)")
        assert visiting.loads == 1
        assert visiting.hosts == {"127.0.0.1"}
        assert visiting.errors == []


async def test_live_tail_misses_nothing_while_it_is_cut_off(
    konstruct: Konstruct, dashboard: str, browser: Browser
) -> None:
    """What was logged while the connection was down is there after it, each event once and in order."""
    sockets: list[WebSocketRoute] = []
    is_down = False

    async def pass_on(route: WebSocketRoute) -> None:
        sockets.append(route)
        if is_down:
            await route.close(code=1012)
        else:
            route.connect_to_server()

    async with visit(browser, dashboard) as visiting:
        await visiting.page.route_web_socket("**/graphql", pass_on)
        await visiting.connect(konstruct.server.graphql_url, konstruct.tenant.api_key)
        await visiting.expect_live()
        await expect(visiting.page.get_by_label("Live tail")).to_contain_text("No events match yet.")
        shown: list[str] = []
        # The first break comes before any event did.
        for missed in (["one"], ["two", "three"]):
            is_down = True
            await sockets[-1].close(code=1012)
            await expect(visiting.page.get_by_role("status")).to_have_text("Reconnecting: the connection was lost")
            for summary in missed:
                await konstruct.log_tool_call(summary)
            is_down = False

            await visiting.expect_live()
            await konstruct.log_tool_call(f"after {missed[-1]}")
            shown = [f"after {missed[-1]}", *reversed(missed), *shown]
            await expect(visiting.tail.locator(".summary")).to_have_text(shown)


async def test_refused_key_is_told_in_words(konstruct: Konstruct, dashboard: str, browser: Browser) -> None:
    """A wrong key and an address where nothing answers say what is wrong; neither is kept."""
    async with visit(browser, dashboard) as visiting:
        page = visiting.page
        await visiting.connect(konstruct.server.graphql_url, konstruct.tenant.api_key[:-1] + "!")
        await expect(page.get_by_role("alert")).to_contain_text("key")
        await visiting.connect("http://127.0.0.1:9/graphql", konstruct.tenant.api_key)
        await expect(page.get_by_role("alert")).to_contain_text(f"KONSTRUCT_CORS_ORIGINS={dashboard}")
        assert await page.evaluate("JSON.stringify(sessionStorage)") == "{}"


async def test_live_tail_ends_with_its_key(konstruct: Konstruct, dashboard: str, browser: Browser) -> None:
    """When the key is revoked, the live tail says so and does not try again; the panels say what the API says."""
    secret, key_id = await konstruct.tenant.new_key(name="for a while")
    async with visit(browser, dashboard) as visiting:
        page = visiting.page
        await visiting.connect(konstruct.server.graphql_url, secret)
        await visiting.expect_live()
        async with owner_transaction(konstruct.tenant.settings.database) as connection:
            await revoke_api_key(connection, key_id)
        await expect(page.get_by_role("status")).to_have_text("Ended: the key is no longer valid.")
        await page.get_by_role("button", name="24 hours").click()
        await expect(page.get_by_label("Events", exact=True).get_by_role("alert")).to_contain_text(
            "Could not load this: "
        )
        await expect(page.get_by_role("status")).to_have_text("Ended: the key is no longer valid.")
