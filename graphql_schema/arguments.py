"""Arguments that several fields share, each with its description."""

from typing import Annotated

import strawberry

First = Annotated[
    int | None,
    strawberry.argument(description="How many rows from the start, 0 to 500; 50 when neither first nor last is given."),
]
After = Annotated[
    str | None,
    strawberry.argument(description="Only rows after this cursor: the previous page's `endCursor`."),
]
Last = Annotated[
    int | None,
    strawberry.argument(description="How many rows from the end, 0 to 500. Not together with first."),
]
Before = Annotated[
    str | None,
    strawberry.argument(description="Only rows before this cursor: the next page's `startCursor`."),
]
