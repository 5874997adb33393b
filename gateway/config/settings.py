"""The settings file as types: every name, its default and what it means.

Python names carry units (`wait_ms`); the alias is the name in the file (`wait`). What spans
several settings is checked in `rules.py`, what lies outside the file in `credentials.py`.
An empty text stands for "not set".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from gateway.config.addresses import (
    EMBEDDED,
    AllowedDestination,
    AssetUrl,
    ListenAddress,
    OptionalPath,
    OptionalUrl,
    Origin,
    Port,
    ProxyUrl,
    RedisUrl,
    RequiredPath,
    TrustedProxy,
)
from gateway.config.catalog_rows import Created, OfferRow, OpenAiRow
from gateway.config.keep_settings import LedgerSettings, PrivacySettings
from gateway.config.operator_settings import AlertsSettings, LogSettings, TracesSettings
from gateway.config.price_rows import OutputRow, ParsedSize, SheetRow
from gateway.config.provider_settings import ProviderSettings
from gateway.config.team_settings import OrganizationSettings, TeamSettings
from gateway.config.values import (
    Count,
    DurationMs,
    EnvironmentName,
    Name,
    OptionalAmountMicrousd,
    PositiveDurationMs,
    Section,
    SizeBytes,
)


class ServerSettings(Section):
    """Where the gateway listens and how long it waits."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: Port = Field(default=8080, description="Port to listen on; 0 takes a free one.")
    wait_ms: PositiveDurationMs = Field(
        default=280_000,
        alias="wait",
        description="Longest one HTTP call waits for its picture; then it is answered 504.",
    )
    keepalive_after_ms: DurationMs = Field(
        default=0,
        alias="keepalive_after",
        description="How long an answer may be silent: after that it begins with 200 and a space"
        " every so often, and errors cut it off. Zero lets it be silent.",
    )
    heartbeat_ms: PositiveDurationMs = Field(
        default=15_000,
        alias="heartbeat",
        lt=60_000,
        description="How long a stream may be silent: then it begins, and comments keep it awake.",
    )
    deadline_ms: PositiveDurationMs = Field(
        default=600_000,
        alias="deadline",
        description="Longest a picture may wait to be submitted upstream.",
    )
    abandon_after_ms: PositiveDurationMs = Field(
        default=86_400_000,
        alias="abandon_after",
        description="How long a picture that was submitted is followed.",
    )
    max_body_bytes: SizeBytes = Field(
        default=4 << 20, alias="max_body", description="Largest JSON request body."
    )
    max_upload_bytes: SizeBytes = Field(
        default=800 << 20,
        alias="max_upload",
        description="Largest request with pictures in it; 16 data URLs of 20 MiB are 320 MiB.",
    )
    body_timeout_ms: PositiveDurationMs = Field(
        default=30_000,
        alias="body_timeout",
        description="How long a request body may take, beside a second for each 16 KiB of it.",
    )
    compat: Literal["lenient", "strict"] = Field(
        default="lenient",
        description="strict: exactly the fields of today's OpenAI, and its empty 404s where nothing"
        " is. lenient: also what clients of other days send, such as response_format.",
    )
    default_model: str = Field(
        default="", description="The model of calls that name none, where compat is lenient."
    )
    cors_origins: tuple[Origin, ...] = Field(
        default=(), description="Origins of web pages that may call; * is all of them."
    )
    trusted_proxies: tuple[TrustedProxy, ...] = Field(
        default=(),
        description="Proxies whose X-Forwarded-For, -Proto and -Host are believed: addresses,"
        " networks, or *.",
    )
    help_url: OptionalUrl = Field(
        default="", description="Where answers about a missing or wrong key send people."
    )
    public_url: OptionalUrl = Field(
        default="",
        description="How others reach this server: links to pictures, upstream callbacks.",
    )
    secret_env: EnvironmentName = Field(
        default="GATEWAY_SECRET",
        description="Environment variable with the secret that signs links and callback tokens,"
        " or several with commas while it rotates; not set, one is kept in the store.",
    )
    admin_key_env: EnvironmentName = Field(
        default="GATEWAY_ADMIN_KEY",
        description="Environment variable with the key of the admin API; not set, there is none.",
    )
    admin_listen: ListenAddress = Field(
        default="", description="Where the admin API and /metrics are served, apart from the rest."
    )
    metrics_token_env: EnvironmentName = Field(
        default="",
        description="Environment variable with the bearer token that /metrics asks for.",
    )
    tls_cert: OptionalPath = Field(default=None, description="PEM file: certificate and chain.")
    tls_key: OptionalPath = Field(default=None, description="PEM file of the certificate's key.")
    watch: bool = Field(
        default=True,
        strict=True,
        description="Whether a change of this file is taken over at once; without it, at SIGHUP and"
        " `gateway reload`.",
    )
    lease_ms: PositiveDurationMs = Field(
        default=10_000,
        alias="lease",
        description="How long a replica that does not renew it keeps its tasks to itself.",
    )
    drain_ms: DurationMs = Field(
        default=20_000,
        alias="drain",
        description="How long a stop waits for the calls that are running.",
    )


class RedisSettings(Section):
    """Where tasks and money are kept."""

    url: RedisUrl = Field(
        default=SecretStr(EMBEDDED),
        description="embedded (a server of the gateway's own), or redis://, rediss://, unix://,"
        " redis+sentinel://, redis+cluster://.",
    )
    url_env: EnvironmentName = Field(
        default="", description="Environment variable that holds the url, when it has a password."
    )
    data_dir: RequiredPath = Field(
        default=Path("var/valkey"),
        validate_default=True,
        description="Folder of the embedded server's data.",
    )
    timeout_ms: PositiveDurationMs = Field(
        default=2_000, alias="timeout", description="Total limit of one call to the store."
    )
    acknowledge_replicas: int = Field(
        default=0,
        ge=0,
        description="How many replicas must know that a picture is about to be ordered before it is"
        " (WAIT); 0 asks none.",
    )
    acknowledge_on_disk: bool = Field(
        default=False,
        description="Whether it must be in the append-only files of the primary and of those"
        " replicas too (WAITAOF); needs Valkey, or Redis 7.2.",
    )


class AssetsSettings(Section):
    """Where pictures are kept."""

    url: AssetUrl = Field(
        default="file:var/assets",
        validate_default=True,
        description="file:<folder>, memory:, s3://<bucket>/<prefix>, gs://<bucket>/<prefix> or"
        " az://<container>/<prefix>.",
    )
    endpoint: OptionalUrl = Field(
        default="", description="A server other than the vendor's that speaks S3 or Azure."
    )
    region: str = Field(default="", description="S3's region.")
    access_key_env: EnvironmentName = Field(
        default="",
        description="Environment variable with S3's access key id or Azure's account; without it,"
        " what the vendor's own tools find in the environment.",
    )
    secret_key_env: EnvironmentName = Field(
        default="",
        description="Environment variable with S3's secret key, Azure's key, or the JSON of a"
        " service account at GCS.",
    )
    keep_ms: PositiveDurationMs = Field(
        default=86_400_000,
        alias="keep",
        description="How long a picture and the record of its task are kept.",
    )
    min_free_bytes: SizeBytes = Field(
        default=256 << 20,
        alias="min_free",
        description="Room that pictures leave on the disk of their folder.",
    )
    shared: bool = Field(
        default=False,
        description="Whether gateways on several hosts find the same pictures in file:, although"
        " their folders do not look like one and the same.",
    )

    @property
    def folder(self) -> Path | None:
        """The folder of `file:`, None for every other store."""
        return Path(self.url.removeprefix("file:")) if self.url.startswith("file:") else None


class NetworkSettings(Section):
    """The way out."""

    proxy: ProxyUrl = Field(
        default=SecretStr(""),
        description="HTTP proxy for all calls upstream; HTTPS_PROXY is not read.",
    )
    ca_file: OptionalPath = Field(
        default=None, description="PEM file of authorities to trust instead of the system's."
    )


class CallbacksSettings(Section):
    """How clients are called back."""

    allow: tuple[AllowedDestination, ...] = Field(
        default=(),
        description="Hosts and networks beside the public Internet that may be called; http too.",
    )
    timeout_ms: PositiveDurationMs = Field(
        default=10_000, alias="timeout", description="Total limit of one attempt."
    )
    max_concurrent: Count = Field(
        default=32, description="Attempts at once, of which one team has at most a quarter."
    )


class ReferencesSettings(Section):
    """Pictures that calls bring along to be edited."""

    spool_dir: RequiredPath = Field(
        default=Path("var/spool"),
        validate_default=True,
        description="Folder for pictures while they are uploaded; its files have no names.",
    )
    allow: tuple[AllowedDestination, ...] = Field(
        default=(),
        description="Hosts and networks beside the public Internet that an image_url may name.",
    )
    fetch_timeout_ms: PositiveDurationMs = Field(
        default=30_000, alias="fetch_timeout", description="Total limit of fetching an image_url."
    )


class PollingSettings(Section):
    """How tasks are followed upstream."""

    min_interval_ms: PositiveDurationMs = Field(
        default=1_000, alias="min_interval", description="Shortest time between polls of one task."
    )
    max_concurrent: Count = Field(
        default=32, description="Polls in flight at once, for each provider."
    )
    budget: Count = Field(
        default=6,
        description="Polls a task may have on average; fewer find the end of it later.",
    )


class ModelSettings(Section):
    """A model that is offered here: one of the catalogue, or one that is told in full.

    What is told stands in place of what the catalogue says (docs/models.md).
    """

    routes: tuple[str, ...] = Field(
        min_length=1, description="Providers that make this model's pictures, in order."
    )
    aliases: tuple[str, ...] = Field(
        default=(), description="Other names for it, where compat is lenient."
    )
    created: Created | None = Field(default=None, description="When it appeared.")
    owned_by: str = Field(default="", description="Whose it is, as /v1/models tells.")
    default_size: ParsedSize | None = Field(
        default=None, description="What a size of auto becomes, such as 1024x1024."
    )
    default_quality: str = Field(
        default="", description="What a quality of auto becomes, such as medium."
    )
    successor: str = Field(default="", description="The model to go to when it is gone.")
    openai: OpenAiRow | None = Field(
        default=None, description="What OpenAI itself takes for it, where compat is strict."
    )
    offers: tuple[OfferRow, ...] | None = Field(
        default=None, description="Ways to make its pictures."
    )
    unpriced_hold_microusd: OptionalAmountMicrousd = Field(
        default=None,
        alias="unpriced_hold_usd",
        description="What is held for a picture that has no price; without it, it is refused.",
    )


class Settings(Section):
    """The whole file. Made by `load.load`, which alone makes relative paths absolute."""

    server: ServerSettings = Field(
        default_factory=ServerSettings, description="Where the gateway listens."
    )
    redis: RedisSettings = Field(
        default_factory=RedisSettings, description="Where tasks and money are kept."
    )
    assets: AssetsSettings = Field(
        default_factory=AssetsSettings, description="Where pictures are kept."
    )
    privacy: PrivacySettings = Field(
        default_factory=PrivacySettings, description="What is kept of what people write."
    )
    network: NetworkSettings = Field(default_factory=NetworkSettings, description="The way out.")
    callbacks: CallbacksSettings = Field(
        default_factory=CallbacksSettings, description="How clients are called back."
    )
    references: ReferencesSettings = Field(
        default_factory=ReferencesSettings, description="Pictures that calls bring along."
    )
    polling: PollingSettings = Field(
        default_factory=PollingSettings, description="How tasks are followed upstream."
    )
    organization: OrganizationSettings = Field(
        default_factory=OrganizationSettings, description="What all teams share."
    )
    providers: Mapping[Name, ProviderSettings] = Field(
        default_factory=dict, description="Accounts at image services, by name."
    )
    models: Mapping[str, ModelSettings] = Field(
        default_factory=dict, description="Models that are offered, by name."
    )
    prices: Mapping[str, SheetRow] = Field(
        default_factory=dict, description="Sheets of prices beside the catalogue's, by name."
    )
    output_tokens: Mapping[str, OutputRow] = Field(
        default_factory=dict, description="Tokens of pictures beside the catalogue's, by name."
    )
    teams: Mapping[Name, TeamSettings] = Field(
        default_factory=dict, description="Who may call, by name."
    )
    ledger: LedgerSettings = Field(
        default_factory=LedgerSettings, description="What becomes of the books."
    )
    log: LogSettings = Field(default_factory=LogSettings, description="What it writes to stderr.")
    traces: TracesSettings = Field(
        default_factory=TracesSettings, description="Where traces are sent."
    )
    alerts: AlertsSettings = Field(
        default_factory=AlertsSettings, description="Where spending is announced."
    )
