"""`konstruct tenants` and `konstruct keys`."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import typer
from sqlalchemy import Row

from app.auth.api_keys import NewApiKey, make_api_key
from app.auth.principal import Scope
from app.auth.tenants import create_tenant, list_api_keys, list_tenants, revoke_api_key, store_api_key
from app.cli.database import AsJson
from app.cli.output import console, print_json, print_rows
from app.database.owner import owner_transaction
from app.database.tenant_owned import TenantId
from app.settings import Settings

tenants = typer.Typer(help="Make and list tenants.", no_args_is_help=True)
keys = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)

Rows = Sequence[Row[*tuple[Any, ...]]]

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@tenants.command("create")
def create(name: Annotated[str, typer.Option(help="The tenant's name.")], as_json: AsJson = False) -> None:
    """Make a tenant.

    konstruct tenants create --name "Acme"
    """
    tenant_id = asyncio.run(_create_tenant(Settings.from_environment(), name))
    if as_json:
        print_json({"tenant_id": tenant_id, "name": name})
    else:
        console.print(f"Made the tenant {name}: {tenant_id}", soft_wrap=True)
        console.print(
            f"Next: konstruct keys create --tenant {tenant_id} --name my-agent --scope AUDIT_WRITE",
            soft_wrap=True,
        )


@tenants.command("list")
def show_tenants(as_json: AsJson = False) -> None:
    """List all tenants, oldest first.

    konstruct tenants list
    """
    rows = asyncio.run(_list_tenants(Settings.from_environment()))
    print_rows(
        _mappings(rows),
        as_json=as_json,
        empty="There are no tenants; make one with `konstruct tenants create`.",
    )


@keys.command("create")
def create_key(
    tenant: Annotated[UUID, typer.Option(help="The tenant whose data the key reaches.")],
    name: Annotated[str, typer.Option(help="The key's name; events that it logs carry it.")],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; repeat it for several.")],
    agent: Annotated[UUID | None, typer.Option(help="Bind the key to one agent.")] = None,
    expires: Annotated[
        str | None, typer.Option(help="How long it is valid: 12h, 90d or 4w; for ever if not set.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key. It is shown once: only its hash is stored.

    konstruct keys create --tenant 0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f --name support-bot --scope AUDIT_WRITE
    --scope KB_READ --expires 90d
    """
    key = make_api_key(name, scope)
    lifetime = None if expires is None else _lifetime(expires)
    asyncio.run(_store_key(Settings.from_environment(), TenantId(tenant), key, agent, lifetime))
    if as_json:
        print_json(
            {
                "key_id": key.id,
                "api_key": key.secret,
                "tenant_id": tenant,
                "name": name,
                "scopes": list(key.scopes),
            }
        )
    else:
        console.print(f"Made the key {name} ({key.id}). It is shown this once:", soft_wrap=True)
        print(key.secret)


@keys.command("list")
def show_keys(
    tenant: Annotated[UUID | None, typer.Option(help="Only this tenant's keys.")] = None,
    as_json: AsJson = False,
) -> None:
    """List keys, oldest first; never their secrets.

    konstruct keys list --json
    """
    rows = asyncio.run(_list_keys(Settings.from_environment(), None if tenant is None else TenantId(tenant)))
    keys_found = _mappings(rows)
    shown = keys_found if as_json else [_in_short(key) for key in keys_found]
    print_rows(shown, as_json=as_json, empty="There are no keys; make one with `konstruct keys create`.")


@keys.command("revoke")
def revoke(
    key_id: Annotated[UUID, typer.Argument(help="The key's id, as `konstruct keys list` shows it.")],
) -> None:
    """Revoke a key. Every server stops accepting it within 5 seconds.

    konstruct keys revoke 0197f2a0-5c1e-7cc3-98c4-dc0c0c07398f
    """
    asyncio.run(_revoke(Settings.from_environment(), key_id))
    console.print(f"Revoked the key {key_id}; it stops working within 5 seconds.", soft_wrap=True)


def _in_short(key: Mapping[str, Any]) -> dict[str, Any]:
    """What of a key fits on a terminal; --json shows the rest."""
    if key["revoked_at"] is not None:
        validity = f"revoked {key['revoked_at']:%Y-%m-%d}"
    else:
        validity = "for ever" if key["expires_at"] is None else f"until {key['expires_at']:%Y-%m-%d}"
    return {
        "id": key["id"],
        "name": key["name"],
        "scopes": "\n".join(key["scopes"]),
        "valid": validity,
        "agent": key["agent_id"],
    }


def _lifetime(text: str) -> timedelta:
    match = re.fullmatch(r"([1-9]\d{0,4})([hdw])", text)
    if match is None:
        raise typer.BadParameter("write a number and a unit: 12h, 90d or 4w", param_hint="--expires")
    return int(match[1]) * _UNITS[match[2]]


def _mappings(rows: Rows) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name for it


async def _create_tenant(settings: Settings, name: str) -> TenantId:
    async with owner_transaction(settings.database) as connection:
        return await create_tenant(connection, name)


async def _list_tenants(settings: Settings) -> Rows:
    async with owner_transaction(settings.database) as connection:
        return await list_tenants(connection)


async def _store_key(
    settings: Settings, tenant_id: TenantId, key: NewApiKey, agent_id: UUID | None, lifetime: timedelta | None
) -> None:
    async with owner_transaction(settings.database) as connection:
        await store_api_key(connection, tenant_id, key, agent_id=agent_id, lifetime=lifetime)


async def _list_keys(settings: Settings, tenant_id: TenantId | None) -> Rows:
    async with owner_transaction(settings.database) as connection:
        return await list_api_keys(connection, tenant_id)


async def _revoke(settings: Settings, key_id: UUID) -> None:
    async with owner_transaction(settings.database) as connection:
        await revoke_api_key(connection, key_id)
