"""The conversations that sample events are made of, read from `conversations/*.json`.

Texts hold placeholders such as {invoice}, which `app.sample_data.customers` fills. A conversation goes on to
its next turn with that turn's `chance` and otherwise ends.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call with its outcome; `output` is None when it did not succeed."""

    tool: str
    input: str
    output: str | None
    status: str
    error: str | None
    latency_ms: int | None
    details: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Step:
    """What the model decides, and the tools it therefore calls."""

    decision: str
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class HandOver:
    """To whom a conversation goes, and why."""

    target: str
    target_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the customer and all up to the answer; one of the `messages` and `replies` is used."""

    agent: str
    messages: tuple[str, ...]
    steps: tuple[Step, ...]
    replies: tuple[str, ...]
    hand_over: HandOver | None
    chance: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """A customer's problem. It comes from customers on `plan`, or on any paid plan when that is None.

    An anonymous customer is not signed in, so that events name no user.
    """

    name: str
    topic: str
    plan: str | None
    anonymous: bool
    weight: int
    turns: tuple[Turn, ...]


@cache
def scenarios() -> tuple[Scenario, ...]:
    """Return all scenarios in a fixed order."""
    folder = files("app.sample_data") / "conversations"
    pages = sorted(folder.iterdir(), key=lambda page: page.name)
    return tuple(_scenario(item) for page in pages for item in json.loads(page.read_text("utf-8")))


def _scenario(item: Mapping[str, Any]) -> Scenario:
    return Scenario(
        name=item["name"],
        topic=item["topic"],
        plan=item.get("plan"),
        anonymous=item.get("anonymous", False),
        weight=item.get("weight", 1),
        turns=tuple(_turn(turn) for turn in item["turns"]),
    )


def _turn(item: Mapping[str, Any]) -> Turn:
    steps = (Step(step["think"], tuple(_call(*call) for call in step["calls"])) for step in item["steps"])
    return Turn(
        agent=item["agent"],
        messages=tuple(item["messages"]),
        steps=tuple(steps),
        replies=tuple(item["replies"]),
        hand_over=HandOver(*item["hand_over"]) if "hand_over" in item else None,
        chance=item.get("chance", 1.0),
    )


def _call(tool: str, given: str, output: str | None, details: Mapping[str, Any] | None = None) -> Call:
    rest = dict(details or {})
    return Call(
        tool,
        given,
        output,
        status=rest.pop("status", "succeeded"),
        error=rest.pop("error", None),
        latency_ms=rest.pop("latency_ms", None),
        details=rest,
    )
