"""Exports: the same events as the API shows, in the order of the log, whole however often they break off."""

import csv
import gzip
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.auth.principal import Scope
from app.settings import Settings
from tests.api.test_live_trail import sealed
from tests.support.database import TestTenant, new_tenant, server_environment
from tests.support.patience import PATIENCE_SECONDS
from tests.support.server import GraphQLClient, LiveServer
from tests.support.trail import LOG_EVENTS, Trail, filters, matches, simple_filters, varied_trail

FIELDS = (
    "sequence createdAt id actionType actionName status agentId userId sessionId traceId parentEvent { id }"
    " inputSummary outputSummary error latencyMs inputTokens outputTokens costUsd metadata occurredAt submittedBy"
)


@dataclass
class Exported:
    """A tenant's sealed trail, and where it is exported."""

    tenant: TestTenant
    trail: Trail
    url: str
    events: list[dict[str, Any]]

    async def get(self, **parameters: str) -> httpx.Response:
        """Ask for an export."""
        async with httpx.AsyncClient(timeout=30) as http:
            return await http.get(
                self.url, params=parameters, headers={"authorization": f"Bearer {self.tenant.api_key}"}
            )


@pytest.fixture(scope="module")
async def exported(server: LiveServer, settings: Settings) -> AsyncIterator[Exported]:
    """Two hundred varied events, all sealed, as GraphQL shows them in the order of the log."""
    tenant = await new_tenant(settings, "Exported")
    client = GraphQLClient(server.graphql_url, tenant.api_key)
    trail = await varied_trail(client)
    await sealed(settings, tenant, 200)
    nodes = (await client.data("{ auditEvents(first: 500) { nodes { " + FIELDS + " } } }"))["auditEvents"]["nodes"]
    events = sorted(nodes, key=lambda node: int(node["sequence"]))
    for event in events:
        parent = event.pop("parentEvent")
        event["parentEventId"] = parent and parent["id"]
    assert [event["sequence"] for event in events] == [str(number) for number in range(200)]
    yield Exported(tenant, trail, f"{server.base_url}/export/audit-events", events)
    await client.http.aclose()


def lines(text: str) -> list[dict[str, Any]]:
    """Read JSON lines."""
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


async def test_json_lines_hold_what_the_api_shows(exported: Exported) -> None:
    """Every event with every field, in the order of the log."""
    response = await exported.get()
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["content-encoding"] == "gzip"
    assert "audit-events.ndjson" in response.headers["content-disposition"]
    assert lines(response.text) == exported.events


async def test_csv_holds_the_same(exported: Exported) -> None:
    """One header and a row an event; what is absent is empty."""
    response = await exported.get(format="csv")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(response.text, newline="")))
    assert len(rows) == 200
    for row, event in zip(rows, exported.events, strict=True):
        assert json.loads(row.pop("metadata")) == event["metadata"]
        expected = {name: "" if value is None else str(value) for name, value in event.items() if name != "metadata"}
        assert row == expected


async def test_csv_holds_no_formulas(
    client_a: GraphQLClient, exported: Exported, settings: Settings, tenant_a: TestTenant
) -> None:
    """A text that a spreadsheet would reckon with is marked as text; other texts are left alone."""
    texts = ["=1+1", "+49 30", "-5", "@SUM(A1)", "\t=1", "\r=1", 'a,"b"\n=c', " =1", "plain"]
    calls = [{"llmCall": {"model": "m", "inputSummary": text, "latencyMs": 1}} for text in texts]
    await client_a.data(LOG_EVENTS, {"input": {"events": calls}})
    await sealed(settings, tenant_a, len(texts))
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        response = await http.get(
            exported.url, params={"format": "csv"}, headers={"authorization": f"Bearer {tenant_a.api_key}"}
        )
    found = [row["inputSummary"] for row in csv.DictReader(io.StringIO(response.text, newline=""))]
    assert found == [f"'{text}" for text in texts[:6]] + texts[6:]


@pytest.fixture(scope="module")
def any_filter(exported: Exported) -> st.SearchStrategy[dict[str, Any]]:
    """Filters that may mean some of the trail's events."""
    return filters(simple_filters(exported.trail.rows), 2)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_any_filter_exports_the_events_that_it_lists(
    exported: Exported, any_filter: st.SearchStrategy[dict[str, Any]], data: st.DataObject
) -> None:
    """The filter is the API's, as JSON."""
    where = data.draw(any_filter)
    response = await exported.get(filter=json.dumps(where))
    expected = {row["id"] for row in exported.trail.rows if matches(where, row)}
    assert [line["id"] for line in lines(response.text)] == [
        event["id"] for event in exported.events if event["id"] in expected
    ]


@pytest.mark.parametrize("export_format", ["ndjson", "csv"])
async def test_parts_are_exactly_the_whole(exported: Exported, export_format: str) -> None:
    """Whoever goes on after the last sequence gets the rest, and nothing twice; a CSV has its header once."""
    whole = (await exported.get(format=export_format)).text
    for place in (0, 77, 198):
        rest = (await exported.get(format=export_format, after=str(place))).text
        assert whole.endswith(rest)
        first = whole[: -len(rest)]
        rows = lines(first) if export_format == "ndjson" else list(csv.DictReader(io.StringIO(first, newline="")))
        assert [int(row["sequence"]) for row in rows] == list(range(place + 1))
    assert (await exported.get(format=export_format, after="199")).text == ""
    assert (await exported.get(format=export_format, after="100000")).text == ""


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"format": "xml"}, "format: must be ndjson or csv, got 'xml'"),
        ({"after": "x"}, "after: must be a sequence"),
        ({"after": "-2"}, "after: must be the last sequence"),
        ({"after": "9" * 40}, "after: must be a sequence"),
        ({"filter": "{"}, "filter: must be JSON"),
        ({"filter": "[]"}, "filter: must be a JSON object"),
        ({"filter": '{"nope": 1}'}, "filter: "),
        ({"filter": '{"metadata": [{"path": []}]}'}, "filter.metadata[0].path: must name"),
        ({"limit": "5"}, "limit: is not known; there are after, filter, format"),
    ],
)
async def test_impossible_exports_are_refused_by_name(
    exported: Exported, parameters: dict[str, str], message: str
) -> None:
    """400 with the parameter and the remedy, as in the API."""
    response = await exported.get(**parameters)
    assert response.status_code == 400
    [error] = response.json()["errors"]
    assert error["message"].startswith(message)
    assert error["extensions"]["code"] == "BAD_USER_INPUT"


async def test_exporting_needs_a_credential_that_may_read(exported: Exported) -> None:
    """401 without one, 403 without the scope, and 405 for anything but GET."""
    secret, _ = await exported.tenant.new_key([scope for scope in Scope if scope is not Scope.AUDIT_READ])
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        nobody = await http.get(exported.url)
        writer = await http.get(exported.url, headers={"authorization": f"Bearer {secret}"})
        posted = await http.post(exported.url, headers={"authorization": f"Bearer {exported.tenant.api_key}"})
    assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")
    assert (writer.status_code, writer.json()["errors"][0]["extensions"]["code"]) == (403, "FORBIDDEN")
    assert posted.status_code == 405


async def test_other_tenants_are_not_exported(exported: Exported, tenant_b: TestTenant) -> None:
    """An export is of one's own tenant."""
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        response = await http.get(exported.url, headers={"authorization": f"Bearer {tenant_b.api_key}"})
    assert (response.status_code, response.text) == (200, "")


# ---------------------------------------------------------------- from the command line


def run(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run `konstruct export`."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "export", *arguments],
        env=server_environment(settings),
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_command_writes_the_same(exported: Exported, settings: Settings, tmp_path: Path) -> None:
    """To standard output, to a file and compressed."""
    tenant = str(exported.tenant.id)
    plain = run(settings, "--tenant", tenant)
    assert plain.returncode == 0, plain.stderr
    assert lines(plain.stdout.decode()) == exported.events
    file = tmp_path / "events.ndjson.gz"
    packed = run(settings, "--tenant", tenant, "--gzip", "--output", str(file))
    assert packed.stderr.decode().startswith("Wrote 200 events to")
    assert gzip.decompress(file.read_bytes()) == plain.stdout
    failed = run(settings, "--tenant", tenant, "--filter", '{"status": {"eq": "FAILED"}}')
    assert {line["status"] for line in lines(failed.stdout.decode())} == {"FAILED"}


@pytest.mark.parametrize("cut", [0, 1, 300, 5000, -1])
def test_command_goes_on_where_a_file_broke_off(
    exported: Exported, settings: Settings, tmp_path: Path, cut: int
) -> None:
    """A line that was torn is written again; the file is then the whole export."""
    tenant = str(exported.tenant.id)
    whole = run(settings, "--tenant", tenant).stdout
    file = tmp_path / "events.ndjson"
    file.write_bytes(whole[:cut])
    done = run(settings, "--tenant", tenant, "--output", str(file), "--resume")
    assert done.returncode == 0, done.stderr
    assert file.read_bytes() == whole


def test_command_says_what_is_wrong(exported: Exported, settings: Settings, tmp_path: Path) -> None:
    """One line, with the remedy."""
    other = tmp_path / "notes.txt"
    other.write_text("not an export\n")
    tenant = str(exported.tenant.id)
    for arguments, message in (
        (["--tenant", "01a2122e-ec9c-73db-b930-5b8ecea2ceba"], "tenant: there is none with this id"),
        (["--tenant", tenant, "--resume"], "resume: goes on with a file of JSON lines"),
        (["--tenant", tenant, "--filter", "{"], "filter: must be JSON"),
        (["--tenant", tenant, "--output", str(other), "--resume"], "does not end with a line of an earlier export"),
    ):
        done = run(settings, *arguments)
        assert done.returncode == 1
        assert message in done.stderr.decode()
        assert len(done.stderr.decode().splitlines()) == 1
    assert other.read_text() == "not an export\n"
