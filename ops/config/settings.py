"""Settings: each declared once, with its name in the environment, its form, its default and what it is for.

Each may also come from a file: JWT_SECRET_KEY_FILE=/run/secrets/jwt. Every fault is found and named before anything is
started. A name that is nearly one of ours is warned of: see setting_names.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from callboard.actors.delivery.mail_message import parse_sender
from callboard.actors.delivery.mail_producers import MailProducer, parse_mail_producers
from callboard.actors.delivery.smtp_client import SmtpSettings, Tls, parse_tls
from callboard.actors.identity.password_policy import PasswordPolicy
from callboard.actors.infrastructure.database_server import Pooler
from callboard.actors.infrastructure.quotas import Quotas
from callboard.ops.config import parsers as forms
from callboard.ops.config import urls
from callboard.ops.config.parsers import MAX_PORT, ROLES
from callboard.streams.security import MECHANISMS, PROTOCOLS

HIDDEN = "***"
MAX_FILE = 65_536  # characters of a setting in a file of its own
SMTPS_PORT = 465
_PORT = forms.whole(1, MAX_PORT)
_COUNT = forms.whole(1, 1_000_000)
_SIZE = forms.whole(1, 1_000)  # of a pool of connections
_BYTES = forms.whole(1, 1 << 40)
_SECONDS = forms.whole(1, 86_400)
_MILLISECONDS = forms.whole(1, 3_600_000)
_DAYS = forms.whole(1, 36_500)
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ConfigError(Exception):
    """The settings that are missing or bad; `faults` has one line for each, which begins with its name."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


def setting(
    meaning: str,
    parse: Callable[[str], Any] = forms.line,
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
    kafka_brokers: str = setting("Kafka's bootstrap addresses, host:port, separated by commas", urls.brokers)
    smtp_host: str = setting("the SMTP server that sends our mail", forms.host)
    jwt_secret_key: str = setting("the secret that signs access tokens; 32 bytes or more", forms.secret, secret=True)

    http_host: str = setting("the address of the API", forms.host, "127.0.0.1")
    http_port: int = setting("the port of the API", _PORT, 8000)
    ops_host: str = setting("the address of the operator plane", forms.host, "127.0.0.1")
    ops_port: int = setting("the port of the operator plane", _PORT, 9000)
    ops_token: str = setting(
        "the operators' Bearer token, 16 characters or more; required unless OPS_HOST is loopback",
        forms.token,
        "",
        secret=True,
    )
    ops_wrong_tokens_per_minute: int = setting(
        "wrong operator tokens from one address in a minute before it must wait", _COUNT, 10
    )
    ops_hosts: tuple[str, ...] = setting(
        "allowed Host names of the operator plane, besides IP addresses and localhost", forms.hosts, ()
    )
    public_url: str = setting(
        "the base URL of links in mails; with https, responses carry Strict-Transport-Security",
        forms.web_address,
        "http://127.0.0.1:8000",
    )
    cors_origins: tuple[str, ...] = setting(
        "origins whose pages may call the API with credentials; * lets any page read it without credentials",
        forms.origins,
        (),
    )
    http_max_connections: int = setting(
        "the maximum of client connections, as far as the limit of open files allows", _COUNT, 4096
    )
    http_max_connections_per_address: int = setting(
        "the maximum of connections from one address (one /64 in IPv6), trusted proxies excepted", _COUNT, 1024
    )
    http_max_unsent_bytes: int = setting("response bytes that may wait for clients to read them", _BYTES, 64 << 20)
    http_idle_s: int = setting("seconds a connection may wait for its next request", _SECONDS, 75)

    smtp_port: int = setting("the port of the SMTP server", _PORT, 587)
    smtp_username: str = setting("the user at the SMTP server, if it needs one", default="")
    smtp_password: str = setting("the password at the SMTP server", default="", secret=True)
    smtp_tls: str = setting(
        "the encryption of SMTP: starttls, implicit (the default on port 465) or none",
        parse_tls,
        "",
        formerly="SMTP_STARTTLS",
    )
    mail_producers: tuple[MailProducer, ...] = setting(
        "producers that may send mail over Kafka, separated by semicolons: SOURCE QUOTA/PERIOD DOMAIN,DOMAIN",
        parse_mail_producers,
        (),
    )
    mail_from: str = setting("the sender of our mails", parse_sender, "Callboard <no-reply@callboard.localhost>")
    mail_link_url: str = setting(
        "the base URL of links in mails, for pages of your own; default: PUBLIC_URL", forms.web_address, ""
    )

    kafka_security_protocol: str = setting(
        f"the protocol to Kafka: {', '.join(PROTOCOLS)}", forms.one_of(*PROTOCOLS), "PLAINTEXT"
    )
    kafka_sasl_mechanism: str = setting(
        f"the login of the SASL protocols: {', '.join(MECHANISMS)}", forms.one_of(*MECHANISMS), "PLAIN"
    )
    kafka_username: str = setting("the user at Kafka, with a SASL protocol", default="")
    kafka_password: str = setting("the password at Kafka", default="", secret=True)
    kafka_ca_file: str = setting("CA certificates in PEM that verify Kafka's; default: the system's", default="")
    kafka_partitions: int = setting("the partitions of a new topic", forms.whole(1, 10_000), 4)
    kafka_replication: int = setting(
        "the replication factor of a new topic; -1 is the broker's default", forms.replication, -1
    )
    topic_prefix: str = setting("the prefix of our topics' names", urls.topic_prefix, "callboard")
    environment: str = setting(
        "the name of this installation, such as production or staging: keys in Redis begin with it",
        urls.key_part,
        "production",
    )
    service_name: str = setting("the second part of keys in Redis", urls.key_part, "callboard")
    jwt_previous_keys: tuple[str, ...] = setting(
        "earlier values of JWT_SECRET_KEY, separated by lines or commas: they still verify",
        forms.secrets,
        (),
        secret=True,
    )
    jwt_private_key: str = setting("an Ed25519 key in PEM that signs access tokens", forms.private_key, "", secret=True)
    jwt_previous_public_keys: str = setting(
        "the public keys of earlier values of JWT_PRIVATE_KEY, in PEM: they still verify",
        forms.public_keys,
        "",
        secret=True,
    )  # no secret, but long, and at home in a file
    jwt_issuer: str = setting("the issuer of access tokens", default="callboard")
    jwt_expiration_hours: float = setting("the lifetime of an access token in hours, such as 0.25", forms.hours, 1.0)
    access_token_ttl_s: int | None = setting(
        "the lifetime of an access token in seconds; replaces JWT_EXPIRATION_HOURS", forms.whole(1, 8760 * 3600), None
    )
    password_policy: str = setting(
        "the rules for new passwords: composition, or nist (15 characters)",
        forms.one_of(*PasswordPolicy),
        "composition",
    )
    registration_conflict: str = setting(
        "the response to the registration of a taken address: reveal (409) or conceal (as for a new one)",
        forms.one_of("reveal", "conceal"),
        "reveal",
    )
    rate_limit_per_minute: int = setting("requests per minute, by user or address", _COUNT, 100)
    rate_limit_register: int = setting("registrations per minute, by address", _COUNT, 5)
    rate_limit_login: int = setting("logins per minute, by address", _COUNT, 10)
    rate_limit_search: int = setting("searches per minute, by address", _COUNT, 60)
    rate_limit_account: int = setting("failed logins of an account from one network in 15 minutes", _COUNT, 10)
    rate_limit_account_total: int = setting("failed logins from all networks it does not know", _COUNT, 100)
    step_up_s: int = setting("seconds for which a confirmed password counts", _SECONDS, 300)
    email_undo_hours: float = setting("hours for which a mail can undo a change of address", forms.hours, 72.0)
    unproven_account_days: int = setting("days until an unverified account is removed", _DAYS, 7)
    known_device_days: int = setting(
        "days for which a network counts as known after a login and is not locked out", _DAYS, 90
    )
    trusted_proxies: tuple[str, ...] = setting(
        "addresses and networks of trusted proxies, whose X-Forwarded-For counts", forms.networks, ()
    )
    audit_retention_days: int = setting("days to keep entries of the audit log", _DAYS, 365)
    audit_failures_retention_days: int = setting("days to keep its entries of failed logins", _DAYS, 30)
    quota_content_rows: int = setting("the maximum of articles of one user", _BYTES, 10_000)
    quota_content_bytes: int = setting("bytes of one user's articles, as sent and as shown", _BYTES, 100_000_000)
    quota_drafts_per_hour: int = setting("drafts that one user may create in an hour", _COUNT, 1_000)
    quota_exports_per_hour: int = setting("exports that one user may request in an hour", _COUNT, 5)
    export_max_bytes: int = setting("the maximum size of an export in bytes", forms.whole(1, 4 << 30), 512 << 20)
    erase_after_days: int = setting(
        "days after which a deleted account's personal data is erased; 0 erases within an hour",
        forms.whole(0, 36_500),
        30,
    )
    max_body_bytes: int = setting("the maximum size of a request's body, bytes", forms.whole(1, 1 << 30), 1 << 20)
    html_max_depth: int = setting("the nesting of an article's HTML elements", forms.whole(1, 500), 100)
    html_max_elements: int = setting("HTML elements in an article", forms.whole(1, 50_000), 5_000)
    html_max_attributes: int = setting("HTML attributes in an article", forms.whole(1, 100_000), 10_000)

    roles: frozenset[str] = setting("the parts of the tree that run in this process", forms.roles, ROLES)
    callboard_config: str = setting(
        "a TOML file with the settings of pools and limits; SIGHUP reads it again", default=""
    )
    migrate: str = setting(
        "a start with an older database migrates it (auto), or names the missing revisions and exits (check)",
        forms.one_of("auto", "check"),
        "check",
    )
    database_direct_url: str = setting(
        "the URL of the same PostgreSQL without a pooler: for locks, LISTEN and migrations",
        urls.database_url,
        "",
        private=True,
    )
    database_pooler: str = setting(
        "whether DATABASE_URL leads through a pooler in transaction mode, like PgBouncer: auto (detect it), "
        "transaction or none",
        forms.one_of(*Pooler),
        Pooler.AUTO,
    )
    database_pool_size: int = setting("connections to PostgreSQL for requests", _SIZE, 12)
    database_search_pool_size: int = setting("connections to PostgreSQL for searches", _SIZE, 3)
    database_jobs_pool_size: int = setting("connections to PostgreSQL for jobs", _SIZE, 6)
    database_operators_pool_size: int = setting("connections to PostgreSQL for the operator plane", _SIZE, 2)
    database_timeout_ms: int = setting("time limit of a request's statement, milliseconds", _MILLISECONDS, 1300)
    database_search_timeout_ms: int = setting("time limit of a search's statement, milliseconds", _MILLISECONDS, 1300)
    database_jobs_timeout_ms: int = setting("time limit of a job's statement, milliseconds", _MILLISECONDS, 10_000)
    database_operators_timeout_ms: int = setting(
        "time limit of an operator's statement, milliseconds", _MILLISECONDS, 5000
    )
    shutdown_grace_s: int = setting("seconds requests may continue after SIGTERM", forms.whole(1, 3600), 3)
    jobs_grace_s: int = setting(
        "seconds for which jobs may continue after SIGTERM before they are released", forms.whole(1, 3600), 2
    )
    log_level: str = setting(
        "the lowest level to log: DEBUG, INFO, WARNING or ERROR",
        forms.one_of("DEBUG", "INFO", "WARNING", "ERROR"),
        "INFO",
    )
    enable_debug_mode: bool = setting(
        "log verbosely and let asyncio report slow callbacks; responses do not change", forms.flag, default=False
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
        said = []
        if urlsplit(self.link_url).hostname in LOOPBACK:
            name = "MAIL_LINK_URL" if self.mail_link_url else "PUBLIC_URL"
            said.append(f"{name} is an address of this machine: links in mails work nowhere else")
        if {"0.0.0.0/0", "::/0"} & set(self.trusted_proxies):
            said.append("TRUSTED_PROXIES has every address: each client can say that it comes from anywhere")
        if self.smtp_username and self.smtp.tls is Tls.NONE:
            said.append("SMTP_TLS is none: SMTP_PASSWORD is sent in clear")
        return said

    @property
    def quotas(self) -> Quotas:
        """The limits on the data and actions of one user."""
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
        try:
            values[each.name] = read(environ, each.name.upper())
        except ConfigError as error:
            faults += error.faults
        else:
            if values[each.name] is None and each.default is MISSING:
                faults.append(f"{each.name.upper()} is missing ({each.metadata['meaning']})")
    if not faults:
        config = Config(**{name: value for name, value in values.items() if value is not None})
        faults += _conflicts(config)
    if faults:
        raise ConfigError(faults)
    return config


def read(environ: Mapping[str, str], name: str) -> Any:
    """One setting, from the environment or from the file that NAME_FILE names; None when neither has it.

    Spaces and line ends around it are no part of it. Raises ConfigError.
    """
    metadata = Config.__dataclass_fields__[name.lower()].metadata
    try:
        text = _text(environ, name, metadata).strip()
        return metadata["parse"](text) if text else None
    except ValueError as error:
        raise ConfigError([f"{name} {error} ({metadata['meaning']})"]) from None
    except OSError as error:
        raise ConfigError([f"{name}_FILE cannot be read: {error.strerror}"]) from None


def _text(environ: Mapping[str, str], name: str, metadata: Mapping[str, Any]) -> str:
    """The setting as it is written. Raises ValueError when the environment and a file have it."""
    former = metadata["formerly"]
    given = environ.get(name) or (environ.get(former, "") if former else "")
    path = environ.get(f"{name}_FILE")
    if not path:
        return given
    if given:
        raise ValueError(f"must be given once, and {name}_FILE is set too")
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            text = file.read(MAX_FILE + 1)
    except UnicodeDecodeError as error:
        raise ValueError(f"must be text, and what {name}_FILE names is not UTF-8") from error
    if len(text) > MAX_FILE:
        raise ValueError(f"must have {MAX_FILE} characters at most, and what {name}_FILE names has more")
    return text


def _conflicts(config: Config) -> list[str]:
    faults: list[str] = []
    if config.ops_host not in LOOPBACK and not config.ops_token:
        faults.append("OPS_TOKEN is missing: the operator plane needs it to listen beyond loopback")
    if config.smtp_port == SMTPS_PORT and config.smtp.tls is Tls.STARTTLS:
        faults.append("SMTP_TLS must be implicit on port 465; or choose another SMTP_PORT")
    if bool(config.smtp_username) is not bool(config.smtp_password):
        faults.append(f"SMTP_{'PASSWORD' if config.smtp_username else 'USERNAME'} is missing: a login needs both")
    if (config.http_host, config.http_port) == (config.ops_host, config.ops_port):
        faults.append("OPS_PORT must differ from HTTP_PORT")
    return faults + _kafka_conflicts(config)


def _kafka_conflicts(config: Config) -> list[str]:
    wants_login = config.kafka_security_protocol.startswith("SASL_")
    login = {"KAFKA_USERNAME": config.kafka_username, "KAFKA_PASSWORD": config.kafka_password}
    if wants_login:
        faults = [f"{name} is missing: KAFKA_SECURITY_PROTOCOL requires a login" for name in login if not login[name]]
    else:
        faults = [f"{name} needs a KAFKA_SECURITY_PROTOCOL with SASL in it" for name in login if login[name]]
    if config.kafka_ca_file:
        try:
            ssl.create_default_context(cafile=config.kafka_ca_file)
        except OSError as error:  # an SSLError is one
            faults.append(f"KAFKA_CA_FILE holds no certificates that can be read: {error.strerror or error}")
    return faults
