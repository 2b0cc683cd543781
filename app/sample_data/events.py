"""Two weeks of a support team's audit events. Pure: the same time and seed give the same events.

A conversation is a session; each message in it starts a run with a trace of its own. Within a run every
event names the one that led to it: a tool call the model call that asked for it, a model call the last result
that it read.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from app.sample_data.agents import AGENTS, MISHAPS, MODEL_FAILURES, Model, tool_latency_ms
from app.sample_data.customers import invent_particulars
from app.sample_data.rhythm import arrivals, is_peak, is_support_open, pause
from app.sample_data.scenarios import Call, HandOver, Scenario, Turn, scenarios

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS = 14
_CONVERSATIONS = 268

# When the agents were last released, counted back from now.
_RELEASED_AGO = timedelta(days=6, hours=7)


@dataclass(frozen=True, slots=True)
class SampleEvent:
    """One audit event, with the fields of its table."""

    id: UUID
    created_at: datetime
    occurred_at: datetime
    action_type: str
    action_name: str
    status: str
    error: str | None
    agent_id: UUID
    user_id: str | None
    session_id: str
    trace_id: str
    parent_event_id: UUID | None
    input_summary: str | None
    output_summary: str | None
    latency_ms: int | None
    metadata: dict[str, object]
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    submitted_by: str


def sample_events(now: datetime, seed: int = 7) -> list[SampleEvent]:
    """Return about 1,500 events of the 14 days before `now` (UTC), in the order of time."""
    rng = random.Random(seed)
    released_at = now - _RELEASED_AGO
    events: list[SampleEvent] = []
    for start, scenario in _conversations(rng, now):
        conversation = _Conversation(rng, scenario, start, "1.19.0" if start >= released_at else "1.18.2")
        conversation.play()
        events += conversation.events
    past = (event for event in events if event.created_at < now)
    return sorted(past, key=lambda event: (event.created_at, event.id))


def _conversations(rng: random.Random, now: datetime) -> Iterator[tuple[datetime, Scenario]]:
    # Every problem comes up before one comes up again.
    pool: list[Scenario] = []
    for start in arrivals(rng, now, _DAYS, _CONVERSATIONS):
        if not pool:
            pool = [scenario for scenario in scenarios() for _ in range(scenario.weight)]
            rng.shuffle(pool)
        yield start, pool.pop()


class _Conversation:
    """One customer's conversation, played turn by turn against a clock of its own."""

    def __init__(self, rng: random.Random, scenario: Scenario, start: datetime, version: str) -> None:
        self.events: list[SampleEvent] = []
        self._rng = rng
        self._scenario = scenario
        self._clock = start
        self._particulars = invent_particulars(rng, scenario.plan)
        self._session_id = f"conv-{rng.getrandbits(24):06x}"
        self._channel = rng.choices(("chat", "email"), (4, 1))[0]
        self._version = version
        # Instructions and tool descriptions; grows with all that is said and found.
        self._context_tokens = rng.randint(1100, 1500)

    def play(self) -> None:
        """Play the turns until the customer has no further question."""
        for turn in self._scenario.turns:
            if self._rng.random() >= turn.chance:
                return
            self._run(turn)
            is_handed_over = turn.hand_over is not None and turn.hand_over.target == "agent"
            self._clock += pause(self._rng, "agent" if is_handed_over else self._channel)

    def _run(self, turn: Turn) -> None:
        self._agent = AGENTS[turn.agent]
        self._trace_id = f"{self._rng.getrandbits(128):032x}"
        self._parent: UUID | None = None
        heard = self._fill(self._rng.choice(turn.messages))
        for step in turn.steps:
            self._call_model(heard, self._fill(step.decision), "tool_use")
            asked = self._parent
            results = []
            for call in step.calls:
                self._parent = asked
                results.append(self._call_tool(call))
            heard = "; ".join(results)
        self._call_model(heard, self._fill(self._rng.choice(turn.replies)), "end_turn")
        if turn.hand_over is not None:
            self._escalate(turn.hand_over)

    def _call_model(self, heard: str, said: str, finish_reason: str) -> None:
        model = self._agent.model
        details: dict[str, object] = {}
        if self._rng.random() < (0.05 if is_peak(self._clock) else 0.018):
            self._fail_model(model, heard)
            details["attempt"] = 2
            if self._rng.random() < 0.5:
                details["fallback_from"] = model.name
                model = self._agent.fallback
        self._context_tokens += len(heard) // 4
        input_tokens = self._context_tokens
        output_tokens = len(said) // 4 + self._rng.randint(12, 60)
        self._context_tokens += output_tokens
        self._record(
            "llm_call", model.name, heard, said, model.latency_ms(self._rng, output_tokens),
            {"provider": model.provider, "finish_reason": finish_reason, **details},
            tokens=(input_tokens, output_tokens), cost_usd=model.cost(input_tokens, output_tokens),
        )  # fmt: skip

    def _fail_model(self, model: Model, heard: str) -> None:
        error, http_status = self._rng.choices(MODEL_FAILURES, (3, 1))[0]
        self._record(
            "llm_call", model.name, heard, None, self._rng.randint(90, 600),
            {"provider": model.provider, "attempt": 1, "http_status": http_status},
            status="failed", error=error,
        )  # fmt: skip
        self._clock += timedelta(seconds=self._rng.uniform(12, 15))

    def _call_tool(self, call: Call) -> str:
        """Record the call, now and then after a failed attempt; return what the model reads of it."""
        items = call.details.items()
        details = {key: self._fill(value) if isinstance(value, str) else value for key, value in items}
        mishap = MISHAPS.get(call.tool)
        if mishap is not None and call.status == "succeeded" and self._rng.random() < mishap.chance:
            error = self._fill(mishap.error)
            self._record(
                "tool_invocation", call.tool, self._fill(mishap.wrong_input or call.input), None,
                mishap.latency_ms or tool_latency_ms(self._rng, call.tool), {**details, "attempt": 1},
                status="failed", error=error,
            )  # fmt: skip
            self._call_model(f"{call.tool}: {error}", self._fill(mishap.decision), "tool_use")
            details["attempt"] = 2
        if call.tool == "kb_search":
            details.setdefault("score", round(self._rng.uniform(0.46, 0.83), 2))
            self._context_tokens += self._rng.randint(350, 700)
        output, error = self._fill(call.output), self._fill(call.error)
        self._record(
            "tool_invocation", call.tool, self._fill(call.input), output or None,
            call.latency_ms or tool_latency_ms(self._rng, call.tool), details,
            status=call.status, error=error or None,
        )  # fmt: skip
        return f"{call.tool}: {output or error}"

    def _escalate(self, hand_over: HandOver) -> None:
        # At night only security is awake; everything else waits.
        target_id, reason = hand_over.target_id, self._fill(hand_over.reason)
        is_awake = hand_over.target == "agent" or target_id == "security-on-call"
        is_taken = is_awake or is_support_open(self._clock)
        output = f"Taken over by {target_id}" if is_taken else f"Waits for {target_id} until support opens"
        self._record(
            "escalation", hand_over.target, reason, output, self._rng.randint(80, 700),
            {"reason": reason, "targetId": target_id}, status="succeeded" if is_taken else "pending",
        )  # fmt: skip

    def _fill(self, text: str | None) -> str:
        return "" if text is None else text.format_map(self._particulars)

    def _record(
        self,
        action_type: str,
        action_name: str,
        given: str,
        output: str | None,
        latency_ms: int,
        details: Mapping[str, object],
        *,
        status: str = "succeeded",
        error: str | None = None,
        tokens: tuple[int | None, int | None] = (None, None),
        cost_usd: Decimal | None = None,
    ) -> None:
        self._clock += timedelta(milliseconds=latency_ms + self._rng.uniform(4, 40))
        event_id = _uuid7(self._rng, self._clock)
        common = {"channel": self._channel, "topic": self._scenario.topic, "agent_version": self._version}
        self.events.append(
            SampleEvent(
                id=event_id,
                created_at=self._clock,
                occurred_at=self._clock - timedelta(milliseconds=self._rng.uniform(2, 9)),
                action_type=action_type,
                action_name=action_name,
                status=status,
                error=error,
                agent_id=self._agent.id,
                user_id=None if self._scenario.anonymous else self._particulars["customer"],
                session_id=self._session_id,
                trace_id=self._trace_id,
                parent_event_id=self._parent,
                input_summary=given,
                output_summary=output,
                latency_ms=latency_ms,
                metadata={**common, **details},
                input_tokens=tokens[0],
                output_tokens=tokens[1],
                cost_usd=cost_usd,
                submitted_by=self._agent.credential,
            )
        )
        self._parent = event_id


def _uuid7(rng: random.Random, moment: datetime) -> UUID:
    """Return a UUID of version 7 (RFC 9562) for the moment, with its random bits from `rng`."""
    milliseconds = (moment - _EPOCH) // timedelta(milliseconds=1)
    return UUID(int=milliseconds << 80 | 7 << 76 | rng.getrandbits(12) << 64 | 2 << 62 | rng.getrandbits(62))
