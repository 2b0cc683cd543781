"""`konstruct kb`: the knowledge base from the command line."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Annotated, Self
from uuid import UUID

import typer

from app.auth.tenants import check_tenant
from app.cli.database import AsJson
from app.cli.output import console, errors, print_json, progress_bar
from app.database.database import Database
from app.database.tenant_owned import TenantId
from app.errors import InvalidInput, ServiceError
from app.kb.conversion import SUFFIXES, ConvertedFile, UnreadableFile, convert_file
from app.kb.documents import DocumentInput
from app.kb.ingest import DocumentIngester, IngestOutcome
from app.kb.profiles import Embeddings
from app.settings import Settings

kb = typer.Typer(help="Fill the knowledge base, and change its embedding model.", no_args_is_help=True)

# A file that takes longer than this is given up; the largest PDFs take some ten seconds.
_SECONDS_A_FILE = 120


@dataclass
class Summary:
    """What became of the files."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)

    def fail(self, name: str, reason: str) -> None:
        """Note why a file is not in the knowledge base."""
        self.outcomes["failed"] += 1
        self.failed[name] = reason


@kb.command()
def ingest(
    folder: Annotated[Path, typer.Argument(help="The folder, with all below it.", exists=True, file_okay=False)],
    tenant: Annotated[UUID, typer.Option(help="The tenant's id; `konstruct tenants list` shows them.")],
    jobs: Annotated[int, typer.Option(help="Files at once.", min=1, max=32)] = 4,
    as_json: AsJson = False,
) -> None:
    """Take in every text, Markdown, HTML and PDF file of a folder, each under its path as its key.

    Uses KONSTRUCT_DATABASE_URL and the embedding settings. Files that have not changed cost nothing, so that a run that
    was stopped goes on when it is started again. Ends with exit code 1 if a file could not be read, and says which.

    konstruct kb ingest ./docs --tenant 0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f
    """
    settings = Settings.from_environment()
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in SUFFIXES)
    if not files:
        raise InvalidInput(("folder",), f"holds no file of a known kind ({', '.join(SUFFIXES)})")
    summary = asyncio.run(_ingest_all(settings, TenantId(tenant), folder, files, jobs, show=not as_json))
    counts = {outcome.value.lower(): summary.outcomes[outcome.value.lower()] for outcome in IngestOutcome}
    counts.pop("rejected")
    counts["failed"] = summary.outcomes["failed"]
    if as_json:
        print_json({**counts, "failures": summary.failed})
    else:
        console.print(", ".join(f"{count:,} {name}" for name, count in counts.items()) + ".")
        for name, reason in sorted(summary.failed.items()):
            errors.print(f"{name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if summary.failed:
        raise typer.Exit(1)


async def _ingest_all(
    settings: Settings, tenant_id: TenantId, folder: Path, files: Sequence[Path], jobs: int, *, show: bool
) -> Summary:
    summary = Summary()
    database = Database(settings.database)
    embeddings = Embeddings.from_settings(database, settings.embeddings)
    ingester = DocumentIngester(database, embeddings, settings.limits)
    waiting = iter(files)
    try:
        await check_tenant(database, tenant_id)
        with progress_bar(errors, disable=not (show and errors.is_terminal)) as progress:
            task = progress.add_task("Ingesting", total=len(files))

            async def work(converter: "_Converter") -> None:
                for file in waiting:
                    name = file.relative_to(folder).as_posix()
                    await _ingest_file(ingester, converter, tenant_id, file, name, summary)
                    progress.advance(task)

            with _Converter(jobs) as converter:
                await asyncio.gather(*(work(converter) for _ in range(jobs)))
    finally:
        await embeddings.close()
        await database.close()
    return summary


class _Converter:
    """Reads files in processes of its own: what one file does to its reader harms nobody else."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._jobs, mp_context=get_context("spawn"), initializer=_end_with_parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        # One that is still reading a file which was given up would keep this process from ending.
        for process in active_children():
            process.kill()

    async def convert(self, name: str, content: bytes) -> ConvertedFile:
        """Return the file's text; raise `UnreadableFile`."""
        pool = self._pool
        try:
            running = asyncio.get_running_loop().run_in_executor(pool, convert_file, name, content)
            return await asyncio.wait_for(running, _SECONDS_A_FILE)
        except TimeoutError:
            raise UnreadableFile(f"could not be read within {_SECONDS_A_FILE} seconds") from None
        except BrokenProcessPool:
            if self._pool is pool:
                self._pool = self._new_pool()
            raise UnreadableFile("ended the process that read it; it is too large, or broken") from None


def _end_with_parent() -> None:
    """Let this process end when the one that it works for is gone, even by kill -9: else it would wait for ever."""
    parent = parent_process()
    if parent is not None:
        Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


async def _ingest_file(
    ingester: DocumentIngester,
    converter: _Converter,
    tenant_id: TenantId,
    file: Path,
    name: str,
    summary: Summary,
) -> None:
    try:
        content = await asyncio.to_thread(file.read_bytes)
        if len(content) > ingester.limits.document_bytes * 20:
            raise UnreadableFile(f"has {len(content):,} bytes, far more than a document may have")
        found = await converter.convert(name, content)
        document = DocumentInput(
            external_id=name,
            title=_shortened(found.title or file.stem, ingester.limits.name_bytes),
            source_uri=name,
            mime_type=found.mime_type.value,
            text=found.text,
        )
        result = await ingester.ingest(tenant_id, document)
    except (UnreadableFile, ServiceError, OSError) as error:
        summary.fail(name, str(error))
        return
    if result.mistake is not None:
        summary.fail(name, str(result.mistake))
    else:
        summary.outcomes[result.outcome.value.lower()] += 1


def _shortened(title: str, most_bytes: int) -> str:
    """Return a title that fits, without characters that print nothing."""
    printable = " ".join("".join(_printable(title)).split())
    return printable.encode()[:most_bytes].decode(errors="ignore") or "untitled"


def _printable(text: str) -> Iterable[str]:
    return (character if character.isprintable() else " " for character in text)
