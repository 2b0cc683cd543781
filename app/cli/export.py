"""`konstruct export`: a tenant's trail into a file."""

import asyncio
import gzip
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, cast
from uuid import UUID

import typer

from app.audit.export import Export, ExportFormat, begin_export
from app.audit.filter import AuditEventFilter
from app.auth.tenants import check_tenant
from app.cli.output import errors, progress_bar
from app.database.database import Database
from app.database.tenant_owned import TenantId
from app.errors import InvalidInput
from app.main import read_event_filter
from app.settings import Settings


def export(
    tenant: Annotated[UUID, typer.Option(help="The tenant's id; `konstruct tenants list` shows them.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file; standard output if left out.")
    ] = None,
    format: Annotated[ExportFormat, typer.Option(help="JSON lines or CSV.")] = ExportFormat.NDJSON,  # noqa: A002
    filter: Annotated[  # noqa: A002
        str | None,
        typer.Option(help='Which events: the API\'s filter as JSON, such as \'{"status": {"eq": "FAILED"}}\'.'),
    ] = None,
    after: Annotated[int, typer.Option(help="Go on after this sequence.")] = -1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the JSON lines in the output file where they broke off.")
    ] = False,
    compress: Annotated[bool, typer.Option("--gzip", help="Compress the output.")] = False,
) -> None:
    """Write a tenant's sealed events, in the order of their commits, as JSON lines or CSV.

    Uses KONSTRUCT_DATABASE_URL. It takes little memory for any number of events. If it breaks off, run it again with
    --resume, or with --after and the last sequence you have: together the parts are exactly the whole.

    konstruct export --tenant 0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f --output trail.ndjson --resume
    """
    settings = Settings.from_environment()
    where = AuditEventFilter() if filter is None else read_event_filter(filter)
    if resume:
        if output is None or compress or format is not ExportFormat.NDJSON:
            raise InvalidInput(("resume",), "goes on with a file of JSON lines, not compressed; name it with --output")
        after = _last_sequence(output)
    with _opened(output, append=resume, compress=compress) as file:
        count = asyncio.run(_write(settings, TenantId(tenant), where, format, after, file.write))
    if output is not None:
        errors.print(f"Wrote {count:,} events to {output}.")


async def _write(
    settings: Settings,
    tenant_id: TenantId,
    where: AuditEventFilter,
    export_format: ExportFormat,
    after: int,
    write: Callable[[bytes], object],
) -> int:
    database = Database(settings.database)
    try:
        await check_tenant(database, tenant_id)
        begun = await begin_export(database, tenant_id, where, settings.limits, format=export_format, after=after)
        return await _write_parts(begun, write)
    finally:
        await database.close()


async def _write_parts(begun: Export, write: Callable[[bytes], object]) -> int:
    count = 0
    with progress_bar(errors, disable=not errors.is_terminal) as progress:
        task = progress.add_task("Exporting", total=begun.places)
        async with aclosing(begun.parts()) as parts:
            async for part in parts:
                write(part.text)
                count += part.events
                progress.update(task, completed=part.place - begun.after)
    return count


def _last_sequence(file: Path) -> int:
    """Cut a line off that was not written to its end; return the sequence of the last whole one, or -1."""
    if not file.exists():
        return -1
    with file.open("r+b") as lines:
        end = b""
        size = lines.seek(0, 2)
        # Backwards, block by block, until there is a whole line: lines end with a line feed and hold no other.
        while size > 0 and end.count(b"\n") < 2:
            step = min(size, 1 << 16)
            size -= step
            lines.seek(size)
            end = lines.read(step) + end
        whole = end[: end.rfind(b"\n") + 1]
        lines.truncate(size + len(whole))
        last = whole.rstrip(b"\n").rpartition(b"\n")[2]
    if not last:
        return -1
    try:
        return int(json.loads(last)["sequence"])
    except (ValueError, KeyError, TypeError):
        raise InvalidInput(("resume",), f"{file} does not end with a line of an earlier export") from None


@contextmanager
def _opened(output: Path | None, *, append: bool, compress: bool) -> Iterator[BinaryIO]:
    if output is None:
        with _compressing(sys.stdout.buffer, compress=compress) as file:
            yield file
        sys.stdout.buffer.flush()
        return
    with output.open("ab" if append else "wb") as raw, _compressing(cast("BinaryIO", raw), compress=compress) as file:
        yield file


@contextmanager
def _compressing(raw: BinaryIO, *, compress: bool) -> Iterator[BinaryIO]:
    if not compress:
        yield raw
        return
    with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=6) as file:
        yield cast("BinaryIO", file)
