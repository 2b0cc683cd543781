"""`konstruct bench-data`: fill a database for benchmarks."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from app.auth.api_keys import make_api_key
from app.auth.principal import Scope
from app.auth.tenants import create_tenant, store_api_key
from app.cli.database import AsJson
from app.cli.output import console, print_json, progress_bar
from app.database.owner import owner_connection, owner_transaction
from app.database.partitions import create_partitions
from app.errors import InvalidInput
from app.sample_data.bulk import BulkPlan, load_bulk
from app.settings import Settings

_DAYS = 90


def bench_data(
    events: Annotated[int, typer.Option(help="Audit events in all.", min=0)] = 1_000_000,
    chunks: Annotated[int, typer.Option(help="Knowledge base chunks in all.", min=0)] = 100_000,
    tenants: Annotated[int, typer.Option(help="Tenants to spread them over; the first gets a fifth.", min=1)] = 50,
    chunk_sizes: Annotated[
        str, typer.Option(help="Chunks of the first tenants, with commas between; the others share the rest.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Load realistic data at scale into an empty database, as its owner. For benchmarks only.

    konstruct bench-data --events 100000 --chunks 10000 --tenants 10
    """
    settings = Settings.from_environment()
    sizes = _sizes(chunk_sizes, chunks, tenants)
    with progress_bar(console, disable=as_json) as progress:
        tasks = {kind: progress.add_task(kind, total=total) for kind, total in (("events", events), ("chunks", chunks))}
        made = asyncio.run(
            _load(settings, events, chunks, tenants, sizes, lambda kind, rows: progress.advance(tasks[kind], rows))
        )
    if as_json:
        print_json(made)
    else:
        console.print(f"Loaded. The largest tenant is {made[0]['tenant_id']}, its key {made[0]['api_key']}")


def _sizes(text: str, chunks: int, tenants: int) -> list[int]:
    try:
        sizes = [int(size) for size in text.split(",") if size]
    except ValueError:
        raise InvalidInput(("chunk_sizes",), f"must be numbers with commas between, got {text!r}") from None
    if len(sizes) > tenants or sum(sizes) > chunks or min(sizes, default=0) < 0:
        raise InvalidInput(("chunk_sizes",), f"must be for {tenants} tenants at most and {chunks} chunks in all")
    return sizes


async def _load(
    settings: Settings,
    events: int,
    chunks: int,
    tenants: int,
    sizes: Sequence[int],
    advance: Callable[[str, int], None],
) -> list[dict[str, str]]:
    made = []
    async with owner_transaction(settings.database) as connection:
        await create_partitions(
            connection,
            months_ahead=settings.database.partitions_ahead,
            since=datetime.now(UTC) - timedelta(days=_DAYS + 1),
        )
        for number in range(tenants):
            tenant_id = await create_tenant(connection, f"Bench {number + 1}")
            key = make_api_key("bench", tuple(Scope))
            await store_api_key(connection, tenant_id, key)
            made.append((tenant_id, key.secret))
    owners = [tenant_id for tenant_id, _ in made]
    dimensions = settings.embeddings.index_dimensions
    plan = BulkPlan(owners, events, chunks, dimensions, _DAYS, chunk_sizes=sizes)
    async with owner_connection(settings.database) as copying:
        await load_bulk(copying, plan, advance)
    return [{"tenant_id": str(tenant_id), "api_key": secret} for tenant_id, secret in made]
