"""All settings, read from the environment here and nowhere else.

Each group is a frozen model of its own and a component receives only the group that it needs. Secrets have no
default. The README lists every variable in one table.
"""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

KIB = 1024
MIB = 1024 * KIB


class SettingsError(Exception):
    """The environment holds a value that can't be used; the message names the variable."""


class EmbeddingsProvider(StrEnum):
    """Who turns text into vectors."""

    LOCAL = "local"
    OPENAI = "openai"
    NONE = "none"


class LocalModel(StrEnum):
    """The models that run on the server itself."""

    MINILM = "minilm"
    WORDLLAMA = "wordllama"

    @property
    def dimensions(self) -> int:
        """The length of the model's vectors."""
        match self:
            case LocalModel.MINILM:
                return 384
            case LocalModel.WORDLLAMA:
                return 256


class LogFormat(StrEnum):
    """How log lines are written."""

    JSON = "json"
    CONSOLE = "console"


class DatabaseSettings(BaseSettings):
    """Where the database is and how the server uses it."""

    model_config = SettingsConfigDict(env_prefix="KONSTRUCT_", frozen=True)

    database_url: SecretStr | None = None
    owner_database_url: SecretStr | None = None
    # With it the server seals the log in the background; else `konstruct seal` must run somewhere.
    sealer_database_url: SecretStr | None = None
    # More at once make statements wait for a core and for each other; raise it where PostgreSQL has many to itself.
    database_pool_size: int = Field(default=6, ge=1)
    # How long a request waits for a free connection before it is answered UNAVAILABLE.
    database_pool_timeout_seconds: float = Field(default=10, gt=0)
    # Longer than any honest query of this API, shorter than a client's patience.
    database_statement_timeout_seconds: float = Field(default=15, gt=0)
    # A text search configuration of PostgreSQL, fixed in the database when migration 007 runs.
    search_language: str = Field(default="english", pattern=r"[a-z_]{1,63}")
    # Months of partitions that migrate and maintain keep ready ahead of now.
    partitions_ahead: int = Field(default=12, ge=1, le=120)


OPENAI_MODEL = "text-embedding-3-small"


class EmbeddingsSettings(BaseSettings):
    """The embedding provider of a new database; later the active profile says provider, model and dimensions."""

    model_config = SettingsConfigDict(env_prefix="KONSTRUCT_EMBEDDINGS_", frozen=True, populate_by_name=True)

    provider: EmbeddingsProvider = Field(default=EmbeddingsProvider.LOCAL, validation_alias="KONSTRUCT_EMBEDDINGS")
    url: str = "https://api.openai.com/v1"
    # One of `LocalModel`, or a name that the OpenAI-compatible server knows.
    model: str | None = None
    api_key: SecretStr | None = None
    dimensions: int | None = Field(default=None, ge=1, le=4000)
    # One call to the provider; an agent waits for its search answer meanwhile.
    timeout_seconds: float = Field(default=20, gt=0)
    # Texts a call: small enough for every OpenAI-compatible server that we know.
    batch_size: int = Field(default=64, ge=1, le=2048)
    max_attempts: int = Field(default=4, ge=1, le=10)

    @field_validator("model")
    @classmethod
    def _check_local_model(cls, model: str | None, info: ValidationInfo) -> str | None:
        if model is not None and info.data.get("provider") is EmbeddingsProvider.LOCAL and model not in set(LocalModel):
            raise ValueError(f"with KONSTRUCT_EMBEDDINGS=local it must be {' or '.join(LocalModel)}")
        return model

    @property
    def local_model(self) -> LocalModel:
        """The model of the local provider."""
        return LocalModel.MINILM if self.model is None else LocalModel(self.model)

    @property
    def index_model(self) -> str:
        """The name of the model that the index is made by; empty when clients bring their vectors."""
        match self.provider:
            case EmbeddingsProvider.LOCAL:
                return self.local_model.value
            case EmbeddingsProvider.OPENAI:
                return self.model or OPENAI_MODEL
            case EmbeddingsProvider.NONE:
                return ""

    @property
    def profile(self) -> tuple[str, str, int]:
        """Provider, model and dimensions: what must be the same for vectors to be comparable."""
        return self.provider.value, self.index_model, self.index_dimensions

    @property
    def index_dimensions(self) -> int:
        """The length of the vectors that the index holds."""
        if self.provider is EmbeddingsProvider.LOCAL:
            fixed = self.local_model.dimensions
            if self.dimensions not in {None, fixed}:
                raise SettingsError(
                    f"KONSTRUCT_EMBEDDINGS_DIMENSIONS: the local model {self.local_model} has {fixed} dimensions;"
                    " leave it out, or choose another KONSTRUCT_EMBEDDINGS_MODEL or KONSTRUCT_EMBEDDINGS"
                )
            return fixed
        if self.dimensions is None:
            raise SettingsError(
                f"KONSTRUCT_EMBEDDINGS_DIMENSIONS must be set when KONSTRUCT_EMBEDDINGS={self.provider}"
            )
        return self.dimensions


class Limits(BaseSettings):
    """What one request may cost. Going over a limit is an error that names it; nothing is cut silently."""

    model_config = SettingsConfigDict(env_prefix="KONSTRUCT_LIMITS_", frozen=True)

    # A whole batch of 1,000 events with generous summaries fits; a dump of a conversation history does not.
    request_bytes: int = Field(default=16 * MIB, ge=KIB)
    summary_bytes: int = Field(default=16 * KIB, ge=1)
    metadata_bytes: int = Field(default=64 * KIB, ge=2)
    metadata_depth: int = Field(default=16, ge=1, le=64)
    # Names, ids and keys: long enough for a URL, short enough to be indexed.
    name_bytes: int = Field(default=512, ge=1, le=2000)
    events_per_batch: int = Field(default=1000, ge=1)
    # Waiting to be written in one process; more are refused, so that clients slow down and the memory does not fill.
    queued_events: int = Field(default=20_000, ge=1)
    documents_per_batch: int = Field(default=50, ge=1)
    document_bytes: int = Field(default=5 * MIB, ge=1)
    chunk_bytes: int = Field(default=32 * KIB, ge=1)
    chunks_per_document: int = Field(default=10_000, ge=1)
    page_size: int = Field(default=500, ge=1)
    search_results: int = Field(default=100, ge=1)
    filter_depth: int = Field(default=3, ge=1)
    filter_values: int = Field(default=1000, ge=1)
    # GraphQL documents: see graphql_schema/limits.py for how cost is counted.
    query_tokens: int = Field(default=10_000, ge=100)
    query_depth: int = Field(default=20, ge=1)
    query_root_fields: int = Field(default=30, ge=1)
    query_cost: int = Field(default=50_000, ge=1)


class ServerSettings(BaseSettings):
    """The HTTP server and what it shows."""

    model_config = SettingsConfigDict(env_prefix="KONSTRUCT_", frozen=True)

    # The IDE and introspection are for development; a production schema is not for strangers.
    graphiql: bool = False
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    log_format: LogFormat = LogFormat.JSON
    log_level: str = "INFO"
    # Each search by a key that is bound to an agent becomes an event of the trail; `dev` has it on.
    audit_retrievals: bool = False
    # In-flight requests get this long after SIGTERM.
    shutdown_seconds: int = Field(default=10, ge=1)
    # Revocation must be effective within 5 s on every process, so a cached key lives less than that.
    api_key_cache_seconds: float = Field(default=3, ge=0, le=4)

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(origin.strip() for origin in value.split(",") if origin.strip())
        return value


class Settings(BaseSettings):
    """Every group, each read from the environment unless it is given."""

    model_config = SettingsConfigDict(frozen=True)

    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    embeddings: EmbeddingsSettings = Field(default_factory=EmbeddingsSettings)
    limits: Limits = Field(default_factory=Limits)
    server: ServerSettings = Field(default_factory=ServerSettings)

    @classmethod
    def from_environment(cls) -> Self:
        """Read all groups; raise `SettingsError` that names the first bad variable."""
        groups: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            group = field.annotation
            if not (isinstance(group, type) and issubclass(group, BaseSettings)):
                raise TypeError(f"{name} is not a group of settings")
            try:
                groups[name] = group()
            except ValidationError as error:
                first = error.errors()[0]
                prefix = group.model_config.get("env_prefix", "")
                variable = str(first["loc"][0])
                variable = variable if variable.startswith("KONSTRUCT_") else f"{prefix}{variable}".upper()
                raise SettingsError(f"{variable}: {first['msg'].removeprefix('Value error, ')}") from None
        return cls(**groups)
