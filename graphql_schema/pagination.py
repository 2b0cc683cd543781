"""The Relay connection pieces that all lists share, and ids as the API writes them."""

from typing import Any
from uuid import UUID

import strawberry
from graphql import GraphQLError

from app.errors import InvalidInput, Path
from app.pagination import Page
from graphql_schema.scalars import parse_uuid


@strawberry.interface(description="Anything with an id that `node(id:)` finds again.")
class Node:
    """The Relay interface."""

    id: strawberry.ID = strawberry.field(description="The object's UUID as text.")


@strawberry.type(description="Where a page lies in its list, and how to get to the pages beside it.")
class PageInfo:
    """The Relay type."""

    has_next_page: bool = strawberry.field(description="Whether there are rows after this page.")
    has_previous_page: bool = strawberry.field(description="Whether there are rows before this page.")
    start_cursor: str | None = strawberry.field(
        description="The first row's cursor: pass it as `before`. Null on an empty page."
    )
    end_cursor: str | None = strawberry.field(
        description="The last row's cursor: pass it as `after`. Null on an empty page."
    )


@strawberry.type(
    description="A number of rows that stops at 10,000: counting further would cost a scan and help nobody."
)
class BoundedCount:
    """A count with its honesty."""

    value: int = strawberry.field(description="The number of rows, at most 10000.")
    is_exact: bool = strawberry.field(description="False when there are more rows than `value`.")


# Where nobody asks for it.
NO_PAGE_INFO = PageInfo(has_next_page=False, has_previous_page=False, start_cursor=None, end_cursor=None)


def page_info(page: Page[Any]) -> PageInfo:
    """Describe a page."""
    items = page.items
    return PageInfo(
        has_next_page=page.has_next,
        has_previous_page=page.has_previous,
        start_cursor=page.cursor_of(items[0]) if items else None,
        end_cursor=page.cursor_of(items[-1]) if items else None,
    )


def find_uuid(node_id: str) -> UUID | None:
    """Read an id to look up; text that is no UUID is the id of nothing."""
    try:
        return parse_uuid(node_id)
    except GraphQLError:
        return None


def read_uuid(path: Path, node_id: str) -> UUID:
    """Read an id in an input; raise `InvalidInput` for text that is no UUID."""
    found = find_uuid(node_id)
    if found is None:
        raise InvalidInput(path, "must be a UUID, such as 0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f")
    return found
