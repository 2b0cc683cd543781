"""README, docs and the examples' pages: each command and query in them is run, and does what the page says.

`blocks.py` says how the pages are read, `machine.py` what they are run on.
"""

import asyncio
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.database.embedded import EmbeddedPostgres
from app.errors import ServiceError
from app.settings import DatabaseSettings, EmbeddingsSettings, Limits, ServerSettings, Settings
from tests.documents.blocks import OUTPUTS, Block, blocks_of, indented_blocks, is_shown
from tests.documents.machine import (
    ADMINISTRATOR,
    ROOT,
    Machine,
    demo_passwords,
    environment,
    managed_server,
    running_dev,
)
from tests.support.npm import npm
from tests.support.patience import PATIENCE_SECONDS

DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]
BLOCKS = {str(document.relative_to(ROOT)): blocks_of(document, ROOT) for document in DOCUMENTS}
RUN_HERE = {"sh", "sql", "python", "graphql"}
# Diagrams and JSON are parsed below; test_pgbouncer.py starts PgBouncer with the one `ini`.
READ = {"mermaid", "json", "ini"}

# Blocks that say themselves why they can't be run; there may be fewer, and no more.
MOST_NOT_RUN = 3

# Documents that begin with nothing: their `db:5432/konstruct` is an empty database, not the one with the demo data.
ON_AN_EMPTY_DATABASE = {"README.md"}
# Documents whose `db:5432` is a server as a managed service gives it, without a superuser and without any role.
ON_A_MANAGED_SERVER = {"docs/managed-postgresql.md"}

MakeMachine = Callable[[str], Machine]


@pytest.fixture(scope="module")
def make_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeMachine]:
    """What makes the machine of a document: a shell of its own, on the one `konstruct dev` of all."""
    data = tmp_path_factory.mktemp("documents") / "konstruct"
    managed = tmp_path_factory.mktemp("managed")
    with running_dev(data) as demo, managed_server(managed) as service:
        postgres = EmbeddedPostgres(data)
        postgres.start()

        def make(document: str) -> Machine:
            folder = tmp_path_factory.mktemp("document")
            shutil.copytree(ROOT / "app" / "sample_data" / "documents", folder / "handbook")
            passwords = dict(demo_passwords(data))
            machine = Machine(folder, postgres, "konstruct", {}, demo["url"], passwords)
            if document in ON_A_MANAGED_SERVER:
                machine.postgres = service
                machine.passwords |= {"administrator": "of-the-administrator"}
                machine.environment = environment()
                return machine
            machine.environment = environment(
                KEY=demo["api_key"],
                TENANT=demo["tenant_id"],
                KONSTRUCT_DATABASE_URL=machine.database_url("konstruct_app"),
                KONSTRUCT_OWNER_DATABASE_URL=machine.database_url("konstruct_owner"),
                KONSTRUCT_SEALER_DATABASE_URL=machine.database_url("konstruct_sealer"),
            )
            if document in ON_AN_EMPTY_DATABASE:
                machine.database = "empty"
                asyncio.run(postgres.create_database(machine.database))
            return machine

        yield make


def to_run(document: str) -> list[Block]:
    """Return the blocks of a document that are run."""
    return [block for block in BLOCKS[document] if block.language in RUN_HERE and "not run" not in block.said]


@pytest.mark.parametrize("document", [name for name in BLOCKS if to_run(name)])
def test_what_a_document_says_is_so(document: str, make_machine: MakeMachine) -> None:
    """Each block succeeds, or fails where the document says so, and prints what the document shows."""
    machine = make_machine(document)
    wrong = []
    for block in to_run(document):
        ran = machine.run(block)
        shown = block.output
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "/export/" in block.text and not ran.output and time.monotonic() < deadline:
            # An export has events a second after they were recorded.
            time.sleep(0.2)
            ran = machine.run(block)
        # The output of SQL that shows the refusal says that it is one.
        must_fail = "fails" in block.said or (block.language == "sql" and shown is not None and "ERROR: " in shown.text)
        if ran.succeeded is must_fail:
            wrong.append(f"{block.place} {'was not refused' if must_fail else 'failed'}:\n{ran.output}")
        elif shown is not None and not is_shown(shown.text, ran.output, is_json=shown.language == "json"):
            wrong.append(f"{shown.place} shows\n{shown.text}\nand what came is\n{ran.output}")
    assert not wrong, "\n\n".join(wrong)


def test_every_block_is_run_or_says_why_not() -> None:
    """No block is left out silently: its language is one that is run or read, or the page says why it is not."""
    blocks = [block for document in BLOCKS.values() for block in document]
    not_run = [block for block in blocks if "not run" in block.said]
    unknown = [block.place for block in blocks if block.language not in RUN_HERE | READ and "not run" not in block.said]
    listed = [f"{block.place} is not run: {block.said['not run']}" for block in not_run]
    print(*listed, Counter(block.language for block in blocks if block not in not_run), sep="\n")  # noqa: T201
    assert unknown == []
    assert [block.place for block in not_run if len(block.said["not run"]) < 10] == []
    assert len(not_run) <= MOST_NOT_RUN


@pytest.mark.parametrize("document", DOCUMENTS, ids=list(BLOCKS))
def test_code_stands_between_fences(document: Path) -> None:
    """Code that is set off by spaces would be run by nobody."""
    assert indented_blocks(document) == []


def test_examples_of_json_are_json() -> None:
    """JSON that stands for itself can be parsed; as an output it is compared instead."""
    for blocks in BLOCKS.values():
        for block in blocks:
            if block.language == "json":
                json.loads(block.text)


def test_diagrams_can_be_drawn(tmp_path: Path) -> None:
    """Mermaid's own parser takes every diagram."""
    diagrams = [
        (block.place, block.text) for blocks in BLOCKS.values() for block in blocks if block.language == "mermaid"
    ]
    folder = tmp_path / "mermaid"
    shutil.copytree(Path(__file__).parent / "mermaid", folder, ignore=shutil.ignore_patterns("node_modules"))
    npm("ci", "--ignore-scripts", folder=folder)
    broken = ("broken", "flowchart LR\n a[left open --> b")
    (folder / "diagrams.json").write_text(json.dumps([*diagrams, broken]))
    npm("run", "check", folder=folder)
    assert diagrams
    assert [place for place, _ in json.loads((folder / "refused.json").read_text())] == ["broken"]


def test_links_lead_somewhere() -> None:
    """Each link to a file of the repository leads to one, and to a heading that is there."""
    lost = []
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", document.read_text()):
            path, _, heading = target.partition("#")
            file = (document.parent / path).resolve() if path else document
            if not file.exists() or (heading and heading not in headings(file)):
                lost.append(f"{document.relative_to(ROOT)}: {target}")
    assert lost == []


def headings(document: Path) -> set[str]:
    """Return the names by which the headings of a page are linked to."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_document_is_linked_from_the_readme() -> None:
    """Nobody finds a page that the README does not name."""
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", (ROOT / "README.md").read_text()))
    assert linked == {str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")}


def settings_of_the_code() -> dict[str, str]:
    """Return every variable with its default, as a person would write it."""
    found = {}
    for group in (DatabaseSettings, EmbeddingsSettings, Limits, ServerSettings):
        for name, setting in group.model_fields.items():
            variable = setting.validation_alias or f"{group.model_config['env_prefix']}{name}".upper()
            found[str(variable)] = written(setting.default)
    return found


def written(default: object) -> str:
    """Return a default as the table shows it."""
    if default is None or default == ():
        return "none"
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_the_table_of_settings_is_the_code() -> None:
    """The README lists every variable with its default, and none that is not there."""
    rows = re.findall(r"^\| `(KONSTRUCT_\w+)` \| (.*?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    code = settings_of_the_code()
    assert len(Settings.model_fields) == 4
    assert [name for name, count in Counter(name for name, _ in rows).items() if count > 1] == []
    assert {name for name, _ in rows} == set(code)
    # Where the code has no fixed default the table says what comes instead.
    in_words = {
        "KONSTRUCT_EMBEDDINGS_MODEL": "`minilm`; `text-embedding-3-small`",
        "KONSTRUCT_EMBEDDINGS_URL": "OpenAI's",
    }
    shown = {name: re.sub(r" \(.*\)$", "", text).strip("`") for name, text in rows if name not in in_words}
    assert shown == {name: default for name, default in code.items() if name not in in_words}
    assert {name: text for name, text in rows if name in in_words} == in_words


def test_the_table_of_error_codes_is_the_code() -> None:
    """The guide to the API lists every code of an error, and none that is not there."""
    rows = re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    kinds = [ServiceError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    assert sorted(rows) == sorted({kind.code for kind in kinds})


def test_outputs_are_compared_on_what_matters() -> None:
    """White space says nothing, `...` is anything, and everything else must be there."""
    assert OUTPUTS == ("text", "json")
    assert is_shown("a  b\n", "a b")
    assert is_shown("id ... made", "id 0197 made")
    assert is_shown("...end", "begin and end")
    assert not is_shown("a", "a b")
    assert not is_shown("id ... made", "id 0197 lost")
    assert is_shown('{"a": "...", "b": 1}', '{"a":"x y","b":1}', is_json=True)
    assert not is_shown('{"a": 2}', '{"a": 1}', is_json=True)
    assert ADMINISTRATOR == "postgres"
