"""Liveness, readiness and metrics."""

import asyncio

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from app.database.database import Database
from app.database.readiness import Problem, find_problems
from app.errors import Unavailable
from app.observability.logging import get_logger
from app.observability.metrics import CONTENT_TYPE, Metrics
from app.settings import EmbeddingsSettings

# A probe gives up sooner than this on most platforms; a database that takes longer is not ready.
_READINESS_TIMEOUT_SECONDS = 5

log = get_logger("konstruct.health")


def health_routes(database: Database, metrics: Metrics, embeddings: EmbeddingsSettings) -> list[Route]:
    """Return the routes that orchestrators and Prometheus call; none needs a credential or shows tenant data."""

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(_request: Request) -> Response:
        problems = await _problems(database, embeddings)
        is_ready = not any(problem.is_fatal for problem in problems)
        body = {
            "status": "ready" if is_ready else "not ready",
            "problems": [
                {"check": problem.check, "reason": problem.reason, "fatal": problem.is_fatal} for problem in problems
            ],
        }
        return JSONResponse(body, status_code=200 if is_ready else 503)

    async def prometheus(_request: Request) -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", prometheus)]


async def _problems(database: Database, embeddings: EmbeddingsSettings) -> list[Problem]:
    try:
        async with asyncio.timeout(_READINESS_TIMEOUT_SECONDS), database.connection() as connection:
            return await find_problems(connection, embeddings)
    except (SQLAlchemyError, Unavailable, OSError) as error:
        log.warning("database_unreachable", error=type(error).__name__)
        return [Problem("database", "the database can't be reached")]
