"""The demo tenant's three agents, the models they call, and how their tools behave."""

from dataclasses import dataclass
from decimal import Decimal
from random import Random
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Model:
    """A language model: prices in US dollars a million tokens, and how fast it answers."""

    name: str
    provider: str
    input_price: Decimal
    output_price: Decimal
    first_token_ms: int
    token_ms: float

    def cost(self, input_tokens: int, output_tokens: int) -> Decimal:
        """Return the exact price of one call in US dollars."""
        return (input_tokens * self.input_price + output_tokens * self.output_price) / 1_000_000

    def latency_ms(self, rng: Random, output_tokens: int) -> int:
        """Return how long one answer takes; one in eighty hangs for most of a minute."""
        if rng.random() < 0.0125:
            return rng.randint(20_000, 60_000)
        return int((self.first_token_ms + self.token_ms * output_tokens) * rng.lognormvariate(0, 0.25))


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent with the name of its credential, its usual model and the one it falls back on."""

    id: UUID
    credential: str
    model: Model
    fallback: Model


@dataclass(frozen=True, slots=True)
class Mishap:
    """How a tool goes wrong now and then, and what the agent then decides."""

    chance: float
    error: str
    decision: str
    latency_ms: int | None = None
    wrong_input: str | None = None


# Prices as the providers publish them.
_SONNET = Model("claude-sonnet-4-5", "anthropic", Decimal("3.00"), Decimal("15.00"), 900, 14.0)
_HAIKU = Model("claude-haiku-4-5", "anthropic", Decimal("1.00"), Decimal("5.00"), 450, 7.0)
_MINI = Model("gpt-4o-mini", "openai", Decimal("0.15"), Decimal("0.60"), 500, 10.0)

AGENTS = {
    "triage": Agent(UUID("0193a5c0-7e11-7c3a-9d52-5b1f0e6a2c01"), "triage-agent", _MINI, _HAIKU),
    "billing": Agent(UUID("0193a5c0-7e12-7b84-8f07-c2d94e71a802"), "billing-agent", _SONNET, _MINI),
    "onboarding": Agent(UUID("0193a5c0-7e13-7d6f-a3be-1877f5e0b903"), "onboarding-agent", _HAIKU, _MINI),
}

# Shortest and longest usual time of each tool, in milliseconds.
_TOOL_LATENCY_MS = {
    "kb_search": (25, 140),
    "lookup_customer": (40, 260),
    "lookup_invoice": (120, 700),
    "lookup_api_usage": (180, 900),
    "find_booking": (60, 320),
    "update_booking": (110, 520),
    "issue_refund": (600, 2800),
    "retry_payment": (900, 4200),
    "preview_plan_change": (150, 600),
    "send_email": (180, 950),
    "create_ticket": (200, 800),
    "start_export": (90, 300),
    "validate_csv": (400, 3500),
    "check_calendar": (300, 1600),
    "check_delivery": (80, 500),
    "check_printer": (250, 1200),
    "check_status": (60, 400),
}

MODEL_FAILURES = (
    ("rate_limited: too many tokens a minute for this key, retry after 12 s", 429),
    ("unavailable: the provider has no capacity at the moment", 503),
)

_PAYMENT_TIMEOUT = "timeout: payment API did not answer within 30 s"

MISHAPS = {
    "issue_refund": Mishap(
        0.25,
        _PAYMENT_TIMEOUT,
        "The payment API did not answer, the result is unknown. Repeat once with the same idempotency key.",
        latency_ms=30_000,
    ),
    "retry_payment": Mishap(
        0.2,
        _PAYMENT_TIMEOUT,
        "No answer from the payment API. Repeat once with the same key, so that nothing is charged twice.",
        latency_ms=30_000,
    ),
    "lookup_invoice": Mishap(
        0.1,
        'invalid_input: "invoice" must look like LK-104233, got "{digits}"',
        "Invoice numbers need their prefix. Repeat it correctly.",
        latency_ms=18,
        wrong_input="{digits}",
    ),
    "lookup_customer": Mishap(
        0.1,
        'invalid_input: "customer" must be a number or an email address, got "{workshop}"',
        "I passed the workshop's name, which the look-up does not take. Repeat it correctly.",
        latency_ms=14,
        wrong_input="{workshop}",
    ),
    "update_booking": Mishap(
        0.2,
        "version_conflict: the booking was changed since it was read",
        "Somebody changed it a moment ago. Read it again and repeat, the time is still free.",
    ),
    "send_email": Mishap(
        0.1,
        "mail_server: 451 greylisted, try again later",
        "The recipient's server asks new senders to wait. Try again.",
    ),
    "kb_search": Mishap(
        0.02,
        "timeout: no answer within 5 s",
        "The search did not answer. Ask once more.",
        latency_ms=5_000,
    ),
}


def tool_latency_ms(rng: Random, tool: str) -> int:
    """Return how long one call of the tool takes; one in 150 hangs."""
    if rng.random() < 1 / 150:
        return rng.randint(20_000, 29_000)
    return rng.randint(*_TOOL_LATENCY_MS[tool])
