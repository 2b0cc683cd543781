"""The mark of a table whose rows each belong to one tenant."""

import uuid
from typing import NewType

from sqlalchemy.orm import Mapped, mapped_column

TenantId = NewType("TenantId", uuid.UUID)


class TenantOwned:
    """Mixin of every mapped class with tenant rows.

    The tenant session adds `tenant_id = :tenant` to each statement that touches such a class, and an architecture
    test checks that its table has row level security enabled, forced and a policy.
    """

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
