"""Prometheus metrics. Units are in the names; no label carries a tenant."""

from collections.abc import Callable
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The server's own metrics, in a registry of their own (one a process)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "konstruct_http_requests_total",
            "HTTP requests answered.",
            ["route", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "konstruct_http_request_duration_seconds",
            "Time from request to answer.",
            ["route"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.errors = Counter(
            "konstruct_graphql_errors_total",
            "GraphQL errors sent to clients.",
            ["code"],
            registry=self.registry,
        )
        self.events = Counter(
            "konstruct_audit_events_total", "Audit events by outcome.", ["outcome"], registry=self.registry
        )
        # Looking a child up by its labels costs more than counting.
        self._of_route = lru_cache(1000)(
            lambda route, status: (self.requests.labels(route, str(status)), self.request_seconds.labels(route))
        )
        self._of_outcome = lru_cache(100)(self.events.labels)
        # A number of our own costs less than one that threads share.
        self.in_flight = 0
        in_flight = Gauge("konstruct_http_requests_in_flight", "HTTP requests being answered.", registry=self.registry)
        in_flight.set_function(lambda: self.in_flight)

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        count, duration = self._of_route(route, status)
        count.inc()
        duration.observe(seconds)

    def count_event(self, outcome: str) -> None:
        """Count an audit event that was sent in."""
        self._of_outcome(outcome).inc()

    def watch_pool(self, engine: AsyncEngine) -> None:
        """Expose how many database connections are in use."""
        pool = engine.pool
        if not isinstance(pool, QueuePool):
            raise TypeError("only a queue pool counts its connections")
        in_use = Gauge(
            "konstruct_database_connections_in_use",
            "Database connections checked out.",
            registry=self.registry,
        )
        in_use.set_function(pool.checkedout)
        size = Gauge("konstruct_database_pool_size", "Database connections at most.", registry=self.registry)
        size.set_function(pool.size)

    def watch_followers(self, number: Callable[[], float]) -> None:
        """Expose how many subscriptions follow the trail."""
        followers = Gauge(
            "konstruct_subscriptions_active", "Subscriptions that follow the audit trail.", registry=self.registry
        )
        followers.set_function(number)

    def render(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self.registry)
