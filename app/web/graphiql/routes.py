"""GET /graphiql and what the page loads, all from this server and under a policy that allows nothing else.

The page refers to its parts relative to its own address, so it works behind any path prefix.
"""

import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from app.observability.logging import get_logger

BUILT = Path(__file__).parent / "static"

HOW_TO_BUILD = "run `make graphiql`"

_HEADERS = {
    # Monaco and Radix place what they draw by style elements and attributes of their own; scripts are ours alone.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; connect-src 'self'; worker-src 'self'; font-src 'self';"
        " style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
        " frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

# The page names files whose names change with their content.
_PAGE_HEADERS = {**_HEADERS, "Cache-Control": "no-store"}
_ASSET_HEADERS = {**_HEADERS, "Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}

# As the build names them: a letter or digit first, so that no name leads out of the folder.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")

_MEDIA_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".ttf": "font/ttf",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}

_NOT_BUILT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<title>Konstruct GraphiQL</title>
<style>body { max-width: 36em; margin: 15vh auto; padding: 0 1em; font: 16px/1.6 system-ui, sans-serif }</style>
<h1>GraphiQL is not built yet</h1>
<p>The API works without it. To make this page, run <code>make graphiql</code> where the sources of Konstruct
are, then reload. It takes a few seconds, and npm needs its registry for it.</p>
</html>
"""

log = get_logger("konstruct.graphiql")


def is_built(folder: Path = BUILT) -> bool:
    """Whether there is a page to serve."""
    return (folder / "index.html").is_file()


def graphiql_routes(folder: Path = BUILT) -> list[BaseRoute]:
    """Return the routes of the IDE that was built into the folder, before the server started or since."""
    if not is_built(folder):
        log.warning("graphiql_not_built", remedy=HOW_TO_BUILD)

    async def page(_request: Request) -> Response:
        if is_built(folder):
            return FileResponse(folder / "index.html", media_type="text/html", headers=_PAGE_HEADERS)
        return HTMLResponse(_NOT_BUILT, headers=_PAGE_HEADERS)

    async def without_slash(_request: Request) -> Response:
        return RedirectResponse("../graphiql", headers=_PAGE_HEADERS)

    async def asset(request: Request) -> Response:
        name: str = request.path_params["name"]
        file = folder / "graphiql" / name
        media_type = _MEDIA_TYPES.get(file.suffix) if _NAME.fullmatch(name) else None
        if media_type is None or not file.is_file():
            return PlainTextResponse("there is no such file", 404, headers=_PAGE_HEADERS)
        compressed = file.with_name(f"{file.name}.gz")
        if compressed.is_file() and _accepts_gzip(request):
            return FileResponse(
                compressed, media_type=media_type, headers={**_ASSET_HEADERS, "Content-Encoding": "gzip"}
            )
        return FileResponse(file, media_type=media_type, headers=_ASSET_HEADERS)

    return [
        Route("/graphiql", page),
        Route("/graphiql/", without_slash),
        Route("/graphiql/{name}", asset),
    ]


def _accepts_gzip(request: Request) -> bool:
    for offer in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, quality = offer.replace(" ", "").partition(";q=")
        if name in {"gzip", "*"}:
            return quality.strip("0.") != "" or quality == ""
    return False
