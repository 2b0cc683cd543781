"""The demo tenant: made once, with a key for everything and, if wanted, two weeks of a support team's life."""

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.auth.api_keys import make_api_key
from app.auth.principal import Scope
from app.auth.tenants import create_tenant, store_api_key
from app.database.database import Database
from app.database.owner import owner_transaction
from app.database.partitions import create_partitions
from app.database.tenant_owned import TenantId
from app.kb.ingest import DocumentIngester
from app.kb.profiles import Embeddings
from app.models import AuditEvent
from app.sample_data.documents import sample_documents
from app.sample_data.events import SampleEvent, sample_events
from app.settings import EmbeddingsProvider, Settings
from app.validation import check_json_object

_TENANT_NAME = "Larkspur (demo)"
_ROWS_PER_INSERT = 500
_DAYS = 14


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo tenant and its key, as `konstruct dev` shows them."""

    tenant_id: str
    api_key: str
    has_sample_data: bool = False


async def prepare_demo(settings: Settings, file: Path, *, with_sample_data: bool, say: Callable[[str], None]) -> Demo:
    """Return the demo tenant noted in `file`, making it when it is not there yet.

    Sample events lie in the past, which the runtime role could not write; the owner does. What is there already is
    kept, so that a start that was cut short is completed by the next.
    """
    async with owner_transaction(settings.database) as connection:
        demo = await _ensure_tenant(connection, _read(file))
    _write(file, demo)
    if not with_sample_data or demo.has_sample_data:
        return demo
    async with owner_transaction(settings.database) as connection:
        await _ensure_events(connection, settings, TenantId(UUID(demo.tenant_id)), say)
    if settings.embeddings.provider is not EmbeddingsProvider.NONE:
        await _ingest_documents(settings, TenantId(UUID(demo.tenant_id)), say)
    demo = replace(demo, has_sample_data=True)
    _write(file, demo)
    return demo


def _read(file: Path) -> Demo | None:
    return Demo(**json.loads(file.read_text())) if file.exists() else None


def _write(file: Path, demo: Demo) -> None:
    file.touch(mode=0o600)
    file.write_text(json.dumps(asdict(demo)))


async def _ensure_tenant(connection: AsyncConnection, noted: Demo | None) -> Demo:
    if noted is not None:
        query = text("SELECT 1 FROM tenants WHERE id = :id")
        if (await connection.execute(query, {"id": UUID(noted.tenant_id)})).one_or_none() is not None:
            return noted
    tenant_id = await create_tenant(connection, _TENANT_NAME)
    key = make_api_key("demo", tuple(Scope))
    await store_api_key(connection, tenant_id, key)
    return Demo(str(tenant_id), key.secret)


async def _ensure_events(
    connection: AsyncConnection, settings: Settings, tenant_id: TenantId, say: Callable[[str], None]
) -> None:
    await connection.execute(text("SELECT set_tenant(:id)"), {"id": tenant_id})
    if (await connection.execute(text("SELECT 1 FROM audit_events LIMIT 1"))).one_or_none() is not None:
        return
    now = datetime.now(UTC)
    await create_partitions(
        connection, months_ahead=settings.database.partitions_ahead, since=now - timedelta(days=_DAYS + 1)
    )
    rows = [_row(tenant_id, event, settings) for event in sample_events(now)]
    say(f"Writing {len(rows)} sample events ...")
    for start in range(0, len(rows), _ROWS_PER_INSERT):
        await connection.execute(insert(AuditEvent), rows[start : start + _ROWS_PER_INSERT])


def _row(tenant_id: TenantId, event: SampleEvent, settings: Settings) -> dict[str, object]:
    limits = settings.limits
    row = asdict(event)
    row["metadata"] = check_json_object(
        ("metadata",), event.metadata, max_bytes=limits.metadata_bytes, max_depth=limits.metadata_depth
    )
    return {"tenant_id": tenant_id, "content_salt": secrets.token_bytes(32), **row}


async def _ingest_documents(settings: Settings, tenant_id: TenantId, say: Callable[[str], None]) -> None:
    database = Database(settings.database)
    embeddings = Embeddings.from_settings(database, settings.embeddings)
    try:
        documents = sample_documents()
        say(f"Ingesting {len(documents)} sample documents ...")
        ingester = DocumentIngester(database, embeddings, settings.limits)
        for document in documents:
            result = await ingester.ingest(tenant_id, document)
            if result.mistake is not None:
                raise result.mistake
    finally:
        await embeddings.close()
        await database.close()
