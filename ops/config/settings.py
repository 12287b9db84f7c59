"""The settings of a process: the addresses of its servers, its listeners, its roles, its logs.

Those of departments stand in their `department.py`. Each setting is declared once, with its bounds, its default and the
line for operators; see callboard.actors.settings.
"""

import ssl
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated, Literal, get_args

from msgspec import Meta

from callboard.actors.department import Role
from callboard.actors.infrastructure.database_server import Pooler
from callboard.actors.settings import (
    PRIVATE,
    SECRET,
    Bytes,
    Count,
    Host,
    Line,
    Parsed,
    Port,
    Seconds,
    Settings,
    WebAddress,
)
from callboard.ops.config import forms
from callboard.streams.security import MECHANISMS, PROTOCOLS, Mechanism, Protocol
from callboard.streams.topics import DEFAULT_PREFIX

LOOPBACK = ("127.0.0.1", "::1", "localhost")
PoolSize = Annotated[int, Meta(ge=1, le=1_000)]  # connections
Milliseconds = Annotated[int, Meta(ge=1, le=3_600_000)]
Sampler = Literal[
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
]
GraceSeconds = Annotated[int, Meta(ge=1, le=3_600)]


class Config(Settings, frozen=True, kw_only=True):
    """The settings of a process. A field's name in upper case is its name in the environment."""

    database_url: Annotated[forms.DatabaseUrl, PRIVATE, Meta(description="PostgreSQL 15 or later")]
    database_password: Annotated[
        Line, SECRET, Meta(description="the password of DATABASE_URL and DATABASE_DIRECT_URL, if they have none")
    ] = ""
    redis_url: Annotated[forms.RedisUrl, PRIVATE, Meta(description="Redis 7 or Valkey")]
    kafka_brokers: Annotated[
        forms.Brokers, Meta(description="Kafka's bootstrap addresses, host:port, separated by commas")
    ]

    http_host: Annotated[Host, Meta(description="the address of the API")] = "127.0.0.1"
    http_port: Annotated[Port, Meta(description="the port of the API")] = 8000
    http_reuse_port: Annotated[
        bool, Meta(description="let other processes of ours listen on HTTP_PORT too; serve --processes sets it")
    ] = False
    ops_host: Annotated[Host, Meta(description="the address of the operator plane")] = "127.0.0.1"
    ops_port: Annotated[Port, Meta(description="the port of the operator plane")] = 9000
    ops_token: Annotated[
        forms.Token,
        SECRET,
        Meta(description="the operators' Bearer token, 16 characters or more; required unless OPS_HOST is loopback"),
    ] = ""
    ops_wrong_tokens_per_minute: Annotated[
        Count, Meta(description="wrong operator tokens from one address in a minute before it must wait")
    ] = 10
    ops_hosts: Annotated[
        tuple[forms.HostName, ...],
        Meta(description="allowed Host names of the operator plane, besides IP addresses and localhost"),
    ] = ()
    cors_origins: Annotated[
        tuple[str, ...],
        Parsed(forms.parse_origins),
        Meta(
            description="origins whose pages may call the API with credentials; * lets any page read it without "
            "credentials"
        ),
    ] = ()
    http_max_connections: Annotated[
        Count, Meta(description="the maximum of client connections, as far as the limit of open files allows")
    ] = 4096
    http_max_connections_per_address: Annotated[
        Count,
        Meta(description="the maximum of connections from one address (one /64 in IPv6), trusted proxies excepted"),
    ] = 1024
    http_max_unsent_bytes: Annotated[
        Bytes, Meta(description="response bytes that may wait for clients to read them")
    ] = 64 << 20
    http_idle_s: Annotated[Seconds, Meta(description="seconds a connection may wait for its next request")] = 75
    max_body_bytes: Annotated[
        int, Meta(ge=1, le=1 << 30, description="the maximum size of a request's body, bytes")
    ] = 1 << 20
    body_min_bytes_per_s: Annotated[
        Bytes, Meta(description="the least pace of an upload's bytes: each earns its client time")
    ] = 1024
    body_grace_s: Annotated[
        Seconds, Meta(description="seconds for which an upload may be silent, after it was fast enough")
    ] = 30
    trusted_proxies: Annotated[
        tuple[forms.Network, ...],
        Meta(description="addresses and networks of trusted proxies, whose X-Forwarded-For counts"),
    ] = ()

    kafka_security_protocol: Annotated[Protocol, Meta(description=f"the protocol to Kafka: {', '.join(PROTOCOLS)}")] = (
        "PLAINTEXT"
    )
    kafka_sasl_mechanism: Annotated[
        Mechanism, Meta(description=f"the login of the SASL protocols: {', '.join(MECHANISMS)}")
    ] = "PLAIN"
    kafka_username: Annotated[Line, Meta(description="the user at Kafka, with a SASL protocol")] = ""
    kafka_password: Annotated[Line, SECRET, Meta(description="the password at Kafka")] = ""
    kafka_ca_file: Annotated[
        Line, Meta(description="CA certificates in PEM that verify Kafka's; default: the system's")
    ] = ""
    kafka_partitions: Annotated[int, Meta(ge=1, le=10_000, description="the partitions of a new topic")] = 4
    kafka_replication: Annotated[
        forms.Replication, Meta(description="the replication factor of a new topic; -1 is the broker's default")
    ] = -1
    topic_prefix: Annotated[forms.TopicPrefix, Meta(description="the prefix of our topics' names")] = DEFAULT_PREFIX
    environment: Annotated[
        forms.KeyPart,
        Meta(description="the name of this installation, such as production or staging: keys in Redis begin with it"),
    ] = "production"
    service_name: Annotated[forms.KeyPart, Meta(description="the second part of keys in Redis")] = "callboard"

    roles: Annotated[
        frozenset[Role], Meta(min_length=1, description="the parts of the tree that run in this process")
    ] = frozenset(Role)
    callboard_config: Annotated[
        Line,
        Meta(description="a TOML file of settings, by default callboard.toml in the working directory, if it is there"),
    ] = ""
    vault_url: Annotated[WebAddress | None, Meta(description="Vault's address; needs callboard[vault]")] = None
    vault_token: Annotated[Line, SECRET, Meta(description="the token at Vault")] = ""
    vault_path: Annotated[
        Line, Meta(description="the path of our secrets; default: secret/ENVIRONMENT/SERVICE_NAME")
    ] = ""
    vault_ca_file: Annotated[Line, Meta(description="CA certificates in PEM that verify Vault's")] = ""
    vault_refresh_s: Annotated[Seconds, Meta(description="seconds between two readings of Vault")] = 60
    migrate: Annotated[
        Literal["auto", "check"],
        Meta(
            description="a start with an older database migrates it (auto), or names the missing revisions and exits "
            "(check)"
        ),
    ] = "check"
    database_direct_url: Annotated[
        forms.DatabaseUrl,
        PRIVATE,
        Meta(description="the URL of the same PostgreSQL without a pooler: for locks, LISTEN and migrations"),
    ] = ""
    database_pooler: Annotated[
        Pooler,
        Meta(
            description="whether DATABASE_URL leads through a pooler in transaction mode, like PgBouncer: auto (detect "
            "it), transaction or none"
        ),
    ] = Pooler.AUTO
    database_pool_size: Annotated[PoolSize, Meta(description="connections to PostgreSQL for requests")] = 12
    database_search_pool_size: Annotated[PoolSize, Meta(description="connections to PostgreSQL for searches")] = 3
    database_jobs_pool_size: Annotated[PoolSize, Meta(description="connections to PostgreSQL for jobs")] = 6
    database_operators_pool_size: Annotated[
        PoolSize, Meta(description="connections to PostgreSQL for the operator plane")
    ] = 2
    request_timeout_ms: Annotated[
        Milliseconds,
        Meta(description="time limit of a response, milliseconds; the arrival of its body does not count"),
    ] = 1800
    overload_target_ms: Annotated[
        Milliseconds,
        Meta(description="mean time of a route's responses, milliseconds, above which some are 503 at once"),
    ] = 200
    database_timeout_ms: Annotated[
        Milliseconds, Meta(description="time limit of a request's statement, milliseconds")
    ] = 1300
    database_search_timeout_ms: Annotated[
        Milliseconds, Meta(description="time limit of a search's statement, milliseconds")
    ] = 1300
    database_jobs_timeout_ms: Annotated[
        Milliseconds, Meta(description="time limit of a job's statement, milliseconds")
    ] = 10_000
    database_operators_timeout_ms: Annotated[
        Milliseconds, Meta(description="time limit of an operator's statement, milliseconds")
    ] = 5000
    shutdown_delay_s: Annotated[
        int,
        Meta(
            ge=0,
            le=3_600,
            description="seconds after SIGTERM for which requests are served and /ready is 503, so that load balancers "
            "send no more",
        ),
    ] = 0
    shutdown_grace_s: Annotated[GraceSeconds, Meta(description="seconds requests may continue after that")] = 3
    jobs_grace_s: Annotated[
        GraceSeconds, Meta(description="seconds for which jobs may continue at a stop before they are released")
    ] = 2
    process_timeout_s: Annotated[
        int,
        Meta(
            ge=2,
            le=3_600,
            description="seconds without an answer after which one of several processes (--processes) is replaced",
        ),
    ] = 10
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        Meta(description="the lowest level to log: DEBUG, INFO, WARNING or ERROR"),
    ] = "INFO"
    access_log_share: Annotated[
        float,
        Meta(ge=0, le=1, description="the share of requests that have a line in the log, beside ten 5xx a second"),
    ] = 0.01
    log_file_mb: Annotated[
        int, Meta(ge=1, le=10_000, description="the size at which a log file of `callboard up` is renamed, MiB")
    ] = 10
    log_files: Annotated[int, Meta(ge=1, le=1_000, description="older log files that `callboard up` keeps")] = 5
    enable_debug_mode: Annotated[
        bool, Meta(description="log verbosely and let asyncio report slow callbacks; responses do not change")
    ] = False

    otel_exporter_otlp_endpoint: Annotated[
        WebAddress, Meta(description="the address of the receiver of traces, by OTLP over HTTP; default: none")
    ] = ""
    otel_exporter_otlp_traces_endpoint: Annotated[
        WebAddress, Meta(description="the same with its whole path; default: the address above and /v1/traces")
    ] = ""
    otel_exporter_otlp_headers: Annotated[
        tuple[str, ...],
        Parsed(forms.parse_pairs),
        SECRET,
        Meta(description="headers for the receiver: key=value, separated by commas, percent-encoded"),
    ] = ()
    otel_exporter_otlp_protocol: Annotated[
        Literal["http/protobuf"], Meta(description="the protocol to the receiver: http/protobuf")
    ] = "http/protobuf"
    otel_exporter_otlp_compression: Annotated[
        Literal["gzip", "none"], Meta(description="the compression to the receiver: gzip or none")
    ] = "gzip"
    otel_exporter_otlp_timeout: Annotated[
        Milliseconds, Meta(description="time limit of one export of traces, milliseconds")
    ] = 10_000
    otel_sdk_disabled: Annotated[bool, Meta(description="record no traces, whatever else is set")] = False
    otel_service_name: Annotated[Line, Meta(description="service.name in traces; default: SERVICE_NAME")] = ""
    otel_resource_attributes: Annotated[
        tuple[str, ...],
        Parsed(forms.parse_pairs),
        Meta(description="attributes of this process in traces: key=value, separated by commas, percent-encoded"),
    ] = ()
    otel_traces_sampler: Annotated[
        Sampler, Meta(description=f"which traces are recorded: {', '.join(get_args(Sampler))}")
    ] = "parentbased_always_on"
    otel_traces_sampler_arg: Annotated[
        float, Meta(ge=0, le=1, description="the share of traces that a traceidratio sampler records")
    ] = 1.0
    otel_bsp_schedule_delay: Annotated[
        Milliseconds, Meta(description="milliseconds for which spans may wait for a batch to fill")
    ] = 5000
    otel_bsp_export_timeout: Annotated[
        Milliseconds, Meta(description="time limit of a batch, milliseconds, its export included")
    ] = 30_000
    otel_bsp_max_queue_size: Annotated[
        Count, Meta(description="the maximum of spans that wait; more are dropped, and counted")
    ] = 2048
    otel_bsp_max_export_batch_size: Annotated[Count, Meta(description="the maximum of spans in one export")] = 512

    @property
    def traces_url(self) -> str:
        """Return the address to which traces are sent; empty if none are recorded."""
        if self.otel_sdk_disabled:
            return ""
        base = self.otel_exporter_otlp_endpoint
        return self.otel_exporter_otlp_traces_endpoint or (base and f"{base}/v1/traces")

    def __post_init__(self) -> None:
        """Raise ValueError for settings that contradict one another, with a line for each."""
        if faults := [*self._listeners(), *self._kafka(), *self._traces()]:
            raise ValueError("\n".join(faults))

    def _listeners(self) -> Iterator[str]:
        if self.ops_host not in LOOPBACK and not self.ops_token:
            yield "OPS_TOKEN is missing: the operator plane needs it to listen beyond loopback"
        if (self.http_host, self.http_port) == (self.ops_host, self.ops_port):
            yield "OPS_PORT must differ from HTTP_PORT"

    def _traces(self) -> Iterator[str]:
        if self.traces_url and not _is_installed("opentelemetry.exporter.otlp.proto.common"):
            yield "OTEL_EXPORTER_OTLP_ENDPOINT needs packages that are not installed: pip install 'callboard[otel]'"

    def _kafka(self) -> Iterator[str]:
        wants_login = self.kafka_security_protocol.startswith("SASL_")
        for name, value in (("KAFKA_USERNAME", self.kafka_username), ("KAFKA_PASSWORD", self.kafka_password)):
            if wants_login and not value:
                yield f"{name} is missing: KAFKA_SECURITY_PROTOCOL requires a login"
            if value and not wants_login:
                yield f"{name} needs a KAFKA_SECURITY_PROTOCOL with SASL in it"
        if self.kafka_ca_file:
            try:
                ssl.create_default_context(cafile=self.kafka_ca_file)
            except OSError as error:  # an SSLError is one
                yield f"KAFKA_CA_FILE holds no certificates that can be read: {error.strerror or error}"


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of a package above it
        return False
