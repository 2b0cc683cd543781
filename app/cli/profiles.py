"""`konstruct kb profiles`, `reembed` and `drop-profile`: the embedding model of the knowledge base."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from asyncpg import Connection

from app.cli.database import AsJson
from app.cli.output import console, errors, print_json, print_rows, progress_bar
from app.database.owner import owner_connection
from app.embeddings import create_provider
from app.kb.profiles import Profile
from app.kb.reembed import drop_profile as remove_profile
from app.kb.reembed import ensure_profile, list_profiles
from app.kb.reembed import reembed as embed_again
from app.settings import EmbeddingsProvider, EmbeddingsSettings, Settings

_Result = TypeVar("_Result")


def profiles(as_json: AsJson = False) -> None:
    """List the embedding models that there are vectors of, and which one searches go by.

    konstruct kb profiles
    """
    settings = Settings.from_environment()
    rows = [
        {
            "profile": stored.profile.id,
            "embeddings": stored.profile.provider.value,
            "model": stored.profile.model,
            "dimensions": stored.profile.dimensions,
            "passages": stored.passages,
            "active": stored.is_active,
        }
        for stored in asyncio.run(_as_owner(settings, list_profiles))
    ]
    print_rows(rows, as_json=as_json, empty="There are no profiles.")


def reembed(
    provider: Annotated[
        EmbeddingsProvider | None, typer.Option("--embeddings", help="The provider; by default KONSTRUCT_EMBEDDINGS.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model; by default KONSTRUCT_EMBEDDINGS_MODEL.")] = None,
    dimensions: Annotated[
        int | None, typer.Option(help="Length of its vectors; by default KONSTRUCT_EMBEDDINGS_DIMENSIONS.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change the embedding model of the whole knowledge base, while searches and ingests go on.

    Embeds every passage of every tenant again, beside the vectors that are in use, and then switches to the new ones at
    once; running servers follow by themselves (let them have the provider's address and key before). Run it again when
    it broke off: it goes on. Run it with the old model to switch back. Uses KONSTRUCT_OWNER_DATABASE_URL.

    konstruct kb reembed --embeddings openai --model text-embedding-3-small --dimensions 1536
    """
    settings = Settings.from_environment()
    given: dict[str, object] = {"model": model, "dimensions": dimensions}
    if provider is None:
        given = {name: value for name, value in given.items() if value is not None}
    else:
        # Model and dimensions of the settings are another provider's.
        given["provider"] = provider
    wanted = EmbeddingsSettings.model_validate(settings.embeddings.model_dump() | given)
    with progress_bar(errors, disable=as_json or not errors.is_terminal) as progress:
        task = progress.add_task("Embedding", total=None)

        async def work(connection: Connection) -> Profile:
            profile = await ensure_profile(connection, wanted)
            made = create_provider(profile.applied_to(wanted))
            try:
                await embed_again(
                    connection, profile, made, lambda done, total: progress.update(task, completed=done, total=total)
                )
            finally:
                await made.close()
            return profile

        profile = asyncio.run(_as_owner(settings, work))
    if as_json:
        print_json({"profile": profile.id, "model": profile.model, "dimensions": profile.dimensions})
    else:
        console.print(f"Searches go by {profile} now. The vectors before it are kept: see `konstruct kb profiles`.")


def drop_profile(
    profile: Annotated[int, typer.Argument(help="Its number; `konstruct kb profiles` lists them.")],
) -> None:
    """Remove the vectors of a model that searches do not go by any more. Switching back then takes a new embedding.

    konstruct kb drop-profile 1
    """
    settings = Settings.from_environment()
    asyncio.run(_as_owner(settings, lambda connection: remove_profile(connection, profile)))
    console.print(f"Profile {profile} is removed.")


async def _as_owner(settings: Settings, work: Callable[[Connection], Awaitable[_Result]]) -> _Result:
    async with owner_connection(settings.database) as connection:
        return await work(connection)
