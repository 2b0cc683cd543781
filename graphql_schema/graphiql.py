"""The stock GraphiQL page, pointed at the endpoint."""

from strawberry.http.ides import get_graphql_ide_html

_PAGE_URL = 'window.location.href.split("?")[0]'
_ENDPOINT_URL = 'new URL("graphql", window.location.href.split("?")[0]).href'


def graphiql_page() -> str:
    """Return the page. It loads GraphiQL from a CDN, so the browser needs the internet."""
    page = get_graphql_ide_html(graphql_ide="graphiql")
    if _PAGE_URL not in page:
        raise RuntimeError("the stock GraphiQL page no longer names its endpoint as expected")
    return page.replace(_PAGE_URL, _ENDPOINT_URL)
