"""Settings: each declared once, with its name in the environment, its form, its default and what it is for.

A secret, and an address with a login in it, may also come from a file: JWT_SECRET_KEY_FILE=/run/secrets/jwt. Every
fault is found and named before anything is started. A name that is nearly one of ours is warned of: see setting_names.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from callboard.actors.database_server import Pooler
from callboard.actors.mail_message import parse_sender
from callboard.actors.mail_producers import MailProducer, parse_mail_producers
from callboard.actors.password_policy import PasswordPolicy
from callboard.actors.quotas import Quotas
from callboard.actors.smtp_client import SmtpSettings, Tls, parse_tls
from callboard.ops import urls
from callboard.ops.setting_parsers import ROLES
from callboard.ops.setting_parsers import flag as _flag
from callboard.ops.setting_parsers import hosts as _hosts
from callboard.ops.setting_parsers import hours as _hours
from callboard.ops.setting_parsers import line as _line
from callboard.ops.setting_parsers import networks as _networks
from callboard.ops.setting_parsers import one_of as _one_of
from callboard.ops.setting_parsers import origins as _origins
from callboard.ops.setting_parsers import port as _port
from callboard.ops.setting_parsers import positive as _positive
from callboard.ops.setting_parsers import private_key as _private_key
from callboard.ops.setting_parsers import public_keys as _public_keys
from callboard.ops.setting_parsers import replication as _replication
from callboard.ops.setting_parsers import roles as _roles
from callboard.ops.setting_parsers import secret as _secret
from callboard.ops.setting_parsers import secrets as _secrets
from callboard.ops.setting_parsers import token as _token
from callboard.ops.setting_parsers import up_to as _up_to
from callboard.ops.setting_parsers import url as _url
from callboard.streams.security import MECHANISMS, PROTOCOLS

T = TypeVar("T")
HIDDEN = "***"
SMTPS_PORT = 465
MAX_DAYS = 36_500  # a time so long ago is one that PostgreSQL has
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ConfigError(Exception):
    """The settings that are missing or bad; `faults` has one line for each, which begins with its name."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


def checked(name: str, parse: Callable[[str], T], text: str) -> T:
    """One value by its form, for commands that need no more. Raises ConfigError."""
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError([f"{name} {error}"]) from None


def setting(
    meaning: str,
    parse: Callable[[str], Any] = _line,
    default: Any = MISSING,
    *,
    secret: bool = False,
    private: bool = False,
    formerly: str = "",
) -> Any:
    """Declare a setting. One without a default must be given; a `secret` is not shown, nor a `private` URL's login.

    `formerly` is the name that it had in the release before: taken, and warned of.
    """
    metadata = {"meaning": meaning, "parse": parse, "secret": secret, "private": private, "formerly": formerly}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True, repr=False)
class Config:
    """All settings. A field's name in upper case is its name in the environment."""

    database_url: str = setting("PostgreSQL 15 or later", urls.database_url, private=True)
    redis_url: str = setting("Redis 7 or Valkey", urls.redis_url, private=True)
    kafka_brokers: str = setting("Kafka's addresses, host:port, with commas between", urls.brokers)
    smtp_host: str = setting("the server that takes our mail")
    jwt_secret_key: str = setting("signs access tokens; 32 bytes or more", _secret, secret=True)

    http_host: str = setting("where the API listens", default="127.0.0.1")
    http_port: int = setting("where the API listens", _port, 8000)
    ops_host: str = setting("where the operator plane listens", default="127.0.0.1")
    ops_port: int = setting("where the operator plane listens", _port, 9000)
    ops_token: str = setting(
        "the operators' Bearer token, 16 characters or more; needed beyond loopback", _token, "", secret=True
    )
    ops_wrong_tokens_per_minute: int = setting(
        "wrong operator tokens in a minute from one address, after which it waits", _positive, 10
    )
    ops_hosts: tuple[str, ...] = setting(
        "names that the operator plane may be asked for by, beside IP addresses and localhost", _hosts, ()
    )
    public_url: str = setting(
        "the address that links in mails begin with; where it is https, browsers are told to keep to that",
        _url("http", "https"),
        "http://127.0.0.1:8000",
    )
    cors_origins: tuple[str, ...] = setting(
        "origins whose pages may call the API, with credentials; * lets any page read it, without them", _origins, ()
    )
    http_max_connections: int = setting("connections of clients at once, as far as descriptors allow", _positive, 4096)
    http_max_connections_per_address: int = setting(
        "connections of one address (of one /64 in IPv6) at once; trusted proxies are not counted", _positive, 1024
    )
    http_max_unsent_bytes: int = setting("bytes of answers that wait for clients to read them", _positive, 64 << 20)
    http_idle_s: int = setting("how long a connection may wait for its next request, seconds", _positive, 75)

    smtp_port: int = setting("its port", _port, 587)
    smtp_username: str = setting("its user, if it wants one", default="")
    smtp_password: str = setting("that user's password", default="", secret=True)
    smtp_tls: str = setting(
        "how the connection to it is encrypted: starttls, implicit (which port 465 means), or none",
        parse_tls,
        "",
        formerly="SMTP_STARTTLS",
    )
    mail_producers: tuple[MailProducer, ...] = setting(
        "programs that may have mails sent over Kafka, with semicolons between: SOURCE QUOTA/PERIOD DOMAIN,DOMAIN",
        parse_mail_producers,
        (),
    )
    mail_from: str = setting("the sender of our mails", parse_sender, "Callboard <no-reply@callboard.localhost>")
    mail_link_url: str = setting(
        "the address that links in mails begin with, for pages of your own; without it PUBLIC_URL",
        _url("http", "https"),
        "",
    )

    kafka_security_protocol: str = setting(
        f"how to speak to Kafka: {', '.join(PROTOCOLS)}", _one_of(*PROTOCOLS), "PLAINTEXT"
    )
    kafka_sasl_mechanism: str = setting(
        f"how to log in, with one of the SASL protocols: {', '.join(MECHANISMS)}", _one_of(*MECHANISMS), "PLAIN"
    )
    kafka_username: str = setting("Kafka's user, with one of the SASL protocols", default="")
    kafka_password: str = setting("that user's password", default="", secret=True)
    kafka_ca_file: str = setting(
        "certificates in PEM that Kafka's is checked with; without it the system's", default=""
    )
    kafka_partitions: int = setting("partitions of a topic that we make", _positive, 4)
    kafka_replication: int = setting("copies of a topic that we make; -1 is the broker's default", _replication, -1)
    topic_prefix: str = setting("what the names of our topics begin with", urls.topic_prefix, "callboard")
    environment: str = setting(
        "what this installation is, like production or staging: keys in Redis begin with it",
        urls.key_part,
        "production",
    )
    service_name: str = setting("the part of a key in Redis after that", urls.key_part, "callboard")
    jwt_previous_keys: tuple[str, ...] = setting(
        "earlier values of JWT_SECRET_KEY, one a line or with commas between: they still check",
        _secrets,
        (),
        secret=True,
    )
    jwt_private_key: str = setting(
        "an Ed25519 key in PEM: access tokens are signed with it", _private_key, "", secret=True
    )
    jwt_previous_public_keys: str = setting(
        "public keys of earlier values of JWT_PRIVATE_KEY, in PEM: they still check", _public_keys, "", secret=True
    )  # no secret, but long, and at home in a file
    jwt_issuer: str = setting("the tokens' issuer", default="callboard")
    jwt_expiration_hours: float = setting("the life of an access token, hours; 0.25 is a quarter", _hours, 1.0)
    access_token_ttl_s: int | None = setting("the same in seconds, in its place", _positive, None)
    password_policy: str = setting(
        "what new passwords need: composition, or nist (15 characters)", _one_of(*PasswordPolicy), "composition"
    )
    registration_conflict: str = setting(
        "what registering a taken address answers: reveal (409), or conceal (as if it were new)",
        _one_of("reveal", "conceal"),
        "reveal",
    )
    rate_limit_per_minute: int = setting("requests a minute, by user or address", _positive, 100)
    rate_limit_register: int = setting("registrations a minute, by address", _positive, 5)
    rate_limit_login: int = setting("logins a minute, by address", _positive, 10)
    rate_limit_search: int = setting("searches a minute, by address", _positive, 60)
    rate_limit_account: int = setting("failed logins of an account from one network in 15 minutes", _positive, 10)
    rate_limit_account_total: int = setting("those from all networks it does not know together", _positive, 100)
    step_up_s: int = setting("seconds for which a password counts as given just now", _up_to(86_400), 300)
    email_undo_hours: float = setting("hours for which a change of an address can be undone by mail", _hours, 72.0)
    unproven_account_days: int = setting("days after which an account that nobody has proved goes", _up_to(MAX_DAYS), 7)
    known_device_days: int = setting(
        "days for which a network counts as known after a login, and is not locked out", _up_to(MAX_DAYS), 90
    )
    trusted_proxies: tuple[str, ...] = setting(
        "addresses and networks of the proxies whose X-Forwarded-For is believed", _networks, ()
    )
    audit_retention_days: int = setting("how long entries of the audit log are kept, days", _up_to(MAX_DAYS), 365)
    audit_failures_retention_days: int = setting(
        "how long the audit log's entries of failed logins are kept, days", _up_to(MAX_DAYS), 30
    )
    quota_content_rows: int = setting("articles of one user", _positive, 10_000)
    quota_content_bytes: int = setting("bytes of one user's articles, as sent and as shown", _positive, 100_000_000)
    quota_drafts_per_hour: int = setting("articles that one user may begin in an hour", _positive, 1_000)
    quota_exports_per_hour: int = setting("exports that one user may ask for in an hour", _positive, 5)
    export_max_bytes: int = setting("the largest archive of an export", _up_to(4 << 30), 512 << 20)
    erase_after_days: int = setting(
        "how long what says whose a deleted account was is kept, days; 0 erases within an hour",
        _up_to(MAX_DAYS, least=0),
        30,
    )
    max_body_bytes: int = setting("the largest body the API takes", _positive, 1 << 20)
    html_max_depth: int = setting("how deep the elements of an article may be nested", _up_to(500), 100)
    html_max_elements: int = setting("the elements of an article", _up_to(50_000), 5_000)
    html_max_attributes: int = setting("the attributes of all its elements together", _up_to(100_000), 10_000)

    roles: frozenset[str] = setting("which parts of the tree run here", _roles, ROLES)
    callboard_config: str = setting(
        "a TOML file with the settings of pools and limits; SIGHUP reads it again", default=""
    )
    migrate: str = setting(
        "whether a start migrates an older database (auto), or names what it lacks and ends (check)",
        _one_of("auto", "check"),
        "check",
    )
    database_direct_url: str = setting(
        "the same PostgreSQL without the pooler that DATABASE_URL may lead through: for locks, LISTEN and migrations",
        urls.database_url,
        "",
        private=True,
    )
    database_pooler: str = setting(
        "whether DATABASE_URL leads through a pooler in transaction mode, like PgBouncer: auto (see by itself), "
        "transaction or none",
        _one_of(*Pooler),
        Pooler.AUTO,
    )
    database_pool_size: int = setting("connections to PostgreSQL for requests", _positive, 12)
    database_search_pool_size: int = setting("connections for searches, beside those", _positive, 3)
    database_jobs_pool_size: int = setting("connections for jobs: mails, exports, clean-up", _positive, 6)
    database_operators_pool_size: int = setting("connections for the operator plane", _positive, 2)
    database_timeout_ms: int = setting("how long a statement of a request may take", _positive, 1300)
    database_search_timeout_ms: int = setting("how long a search may take", _positive, 1300)
    database_jobs_timeout_ms: int = setting("how long a statement of a job may take", _positive, 10_000)
    database_operators_timeout_ms: int = setting("how long a statement of an operator may take", _positive, 5000)
    shutdown_grace_s: int = setting("how long requests may go on after SIGTERM, seconds", _positive, 3)
    jobs_grace_s: int = setting(
        "how long jobs may go on after SIGTERM before they are given back, seconds", _positive, 2
    )
    log_level: str = setting(
        "what is logged: DEBUG, INFO, WARNING or ERROR", _one_of("DEBUG", "INFO", "WARNING", "ERROR"), "INFO"
    )
    enable_debug_mode: bool = setting(
        "whether to log verbosely and have asyncio report slow callbacks; answers stay as they are",
        _flag,
        default=False,
    )

    @property
    def access_ttl_s(self) -> int:
        """The life of an access token, seconds."""
        return self.access_token_ttl_s or max(1, round(self.jwt_expiration_hours * 3600))

    @property
    def smtp(self) -> SmtpSettings:
        """The mail server, with the encryption that the settings ask for or the port means."""
        usual = Tls.IMPLICIT if self.smtp_port == SMTPS_PORT else Tls.STARTTLS
        tls = Tls(self.smtp_tls) if self.smtp_tls else usual
        return SmtpSettings(
            host=self.smtp_host,
            port=self.smtp_port,
            sender=self.mail_from,
            username=self.smtp_username or None,
            password=self.smtp_password or None,
            tls=tls,
        )

    @property
    def link_url(self) -> str:
        """The address that links in mails begin with."""
        return self.mail_link_url or self.public_url

    @property
    def cautions(self) -> list[str]:
        """Settings that work and are likely not what is meant, a sentence each."""
        if urlsplit(self.link_url).hostname not in LOOPBACK:
            return []
        name = "MAIL_LINK_URL" if self.mail_link_url else "PUBLIC_URL"
        return [f"{name} is an address of this machine only: links in mails work nowhere else"]

    @property
    def quotas(self) -> Quotas:
        """What a user may have and do."""
        return Quotas(
            self.quota_content_rows,
            self.quota_content_bytes,
            self.quota_drafts_per_hour,
            self.quota_exports_per_hour,
        )

    def shown(self) -> dict[str, object]:
        """The settings by their names in the environment, without their secrets."""
        return {each.name.upper(): _shown(each.metadata, getattr(self, each.name)) for each in fields(self)}


def _shown(metadata: Mapping[str, Any], value: Any) -> object:
    if metadata["secret"]:
        return HIDDEN if value else ""
    if metadata["private"]:
        parts = urlsplit(value)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{HIDDEN}@{host}" if "@" in parts.netloc else host, query=""))
    return sorted(value) if isinstance(value, frozenset) else value


def load(environ: Mapping[str, str]) -> Config:
    """Read all settings. Raises ConfigError that names every fault."""
    values: dict[str, Any] = {}
    faults: list[str] = []
    for each in fields(Config):
        name = each.name.upper()
        try:
            text = _text(environ, name, each.metadata)
            if text:
                values[each.name] = each.metadata["parse"](text)
            elif each.default is MISSING:
                faults.append(f"{name} is missing ({each.metadata['meaning']})")
        except ValueError as error:
            why = str(error) if str(error).startswith("must") else "must be a whole number"
            faults.append(f"{name} {why} ({each.metadata['meaning']})")
        except OSError as error:
            faults.append(f"{name}_FILE cannot be read: {error.strerror}")
    if not faults:
        config = Config(**values)
        faults += _conflicts(config)
    if faults:
        raise ConfigError(faults)
    return config


def _text(environ: Mapping[str, str], name: str, metadata: Mapping[str, Any]) -> str:
    """The setting as it is written, from the environment or from its file. Raises ValueError when both are there."""
    former = metadata["formerly"]
    given = environ.get(name) or (environ.get(former, "") if former else "")
    path = environ.get(f"{name}_FILE") if metadata["secret"] or metadata["private"] else None
    if not path:
        return given
    if given:
        raise ValueError(f"must be given once, and {name}_FILE is set too")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"must be text, and what {name}_FILE names is not UTF-8") from error


def _conflicts(config: Config) -> list[str]:
    faults: list[str] = []
    if config.ops_host not in LOOPBACK and not config.ops_token:
        faults.append("OPS_TOKEN is missing: the operator plane does not listen beyond loopback without it")
    if config.smtp_port == SMTPS_PORT and config.smtp.tls is Tls.STARTTLS:
        faults.append("SMTP_TLS must be implicit on port 465, or SMTP_PORT another")
    if (config.http_host, config.http_port) == (config.ops_host, config.ops_port):
        faults.append("OPS_PORT must differ from HTTP_PORT")
    return faults + _kafka_conflicts(config)


def _kafka_conflicts(config: Config) -> list[str]:
    wants_login = config.kafka_security_protocol.startswith("SASL_")
    login = {"KAFKA_USERNAME": config.kafka_username, "KAFKA_PASSWORD": config.kafka_password}
    if wants_login:
        faults = [f"{name} is missing: KAFKA_SECURITY_PROTOCOL wants a login" for name in login if not login[name]]
    else:
        faults = [f"{name} needs a KAFKA_SECURITY_PROTOCOL with SASL in it" for name in login if login[name]]
    if config.kafka_ca_file:
        try:
            ssl.create_default_context(cafile=config.kafka_ca_file)
        except OSError as error:  # an SSLError is one
            faults.append(f"KAFKA_CA_FILE holds no certificates that can be read: {error.strerror or error}")
    return faults
