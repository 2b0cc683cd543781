"""The composition root: builds the parts, wires them together and mounts the routes."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp

from app.audit.filter import AuditEventFilter
from app.audit.live import LiveTrail
from app.audit.writer import EventWriter
from app.auth.api_keys import ApiKeyAuthenticator
from app.auth.backend import Authenticator
from app.database.database import Database
from app.database.readiness import check_before_start
from app.database.urls import parse_database_url
from app.integrity.sealer import Sealer
from app.kb.ingest import DocumentIngester
from app.kb.profiles import Embeddings
from app.observability.logging import configure_logging
from app.observability.metrics import Metrics
from app.settings import Settings
from app.web.graphiql.routes import graphiql_routes
from app.web.health import health_routes
from app.web.middleware import RequestMiddleware, Shortcut, leave_to_request_middleware
from graphql_schema.audit.export import ExportEndpoint
from graphql_schema.audit.filter_json import FilterReader
from graphql_schema.context import Services
from graphql_schema.endpoint import GraphQLEndpoint
from graphql_schema.schema import create_schema

_ALLOWED_HEADERS = ["Authorization", "Content-Type", "X-Request-Id", "X-Trace-Id", "X-Session-Id", "traceparent"]


def create_app(settings: Settings) -> ASGIApp:
    """Return the ASGI application. Its start fails with `UnsafeDatabase` when the database may not be used."""
    server = settings.server
    metrics = Metrics()
    database = Database(settings.database)
    metrics.watch_pool(database.engine)
    embeddings = Embeddings.from_settings(database, settings.embeddings)
    writer = EventWriter(
        database,
        queued_events=settings.limits.queued_events,
        events_per_transaction=settings.limits.events_per_batch,
    )
    live = LiveTrail(database, parse_database_url(settings.database.database_url, "KONSTRUCT_DATABASE_URL"))
    metrics.watch_followers(lambda: live.followers)
    services = Services(
        database=database,
        writer=writer,
        authenticator=Authenticator(ApiKeyAuthenticator(database, cache_seconds=server.api_key_cache_seconds)),
        live=live,
        embeddings=embeddings,
        ingester=DocumentIngester(database, embeddings, settings.limits),
        metrics=metrics,
        limits=settings.limits,
        audit_retrievals=server.audit_retrievals,
    )
    schema = create_schema(introspection=server.graphiql)
    endpoint = GraphQLEndpoint(
        schema,
        services,
        allow_anonymous=server.graphiql,
        allowed_origins=server.cors_origins,
    )

    sealer_url = settings.database.sealer_database_url
    sealer = None if sealer_url is None else Sealer(sealer_url)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await check_before_start(database)
        _spare_the_garbage_collector()
        live.start()
        sealing = None if sealer is None else asyncio.create_task(sealer.run(), name="sealer")
        try:
            yield
        finally:
            await writer.close()
            await live.close()
            if sealing is not None:
                sealing.cancel()
                await asyncio.gather(sealing, return_exceptions=True)
            await embeddings.close()
            await database.close()

    routes: list[BaseRoute] = [
        Route("/graphql", endpoint),
        WebSocketRoute("/graphql", endpoint),
        Route(
            "/export/audit-events",
            ExportEndpoint(services, FilterReader(schema.graphql_schema)).answer,
            methods=["GET"],
        ),
        *health_routes(database, metrics, settings.embeddings),
        *(graphiql_routes() if server.graphiql else ()),
    ]
    others = Starlette(routes=routes, lifespan=lifespan, exception_handlers={Exception: leave_to_request_middleware})
    app: ASGIApp = Shortcut(others, path="/graphql", endpoint=endpoint)
    if server.cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=server.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=_ALLOWED_HEADERS,
            expose_headers=["X-Request-Id"],
        )
    return RequestMiddleware(app, metrics)


def _spare_the_garbage_collector() -> None:
    # What is loaded by now lives as long as the process. Searching it for garbage again and again would hold up all
    # requests for a tenth of a second each time.
    gc.collect()
    gc.freeze()
    # What requests leave behind goes without a search, but for the few objects that refer to each other.
    gc.set_threshold(50_000, 20, 20)


def read_event_filter(text: str) -> AuditEventFilter:
    """Read the API's filter from JSON, as the command line takes it; raise `InvalidInput`."""
    return FilterReader(create_schema(introspection=True).graphql_schema).read(text)


def app_from_environment() -> ASGIApp:
    """Build the application in a server process, as uvicorn calls it."""
    settings = Settings.from_environment()
    configure_logging(settings.server.log_format, settings.server.log_level)
    return create_app(settings)
