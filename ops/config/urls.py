"""The addresses of servers, read whole at the start: a fault is one line that names no part of a secret.

A URL whose login holds a character that must be percent-encoded would be cut in the wrong place, and pieces of the
password would end up in errors as a host, a port or a database. So its parts are held against their forms first.
"""

import re
from collections.abc import Iterable
from inspect import signature
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit, urlunsplit

import asyncpg
from asyncpg import connect_utils
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

ENCODE = "must have each of / ? # @ [ ] % in its user and password percent-encoded, like %40 for @"
OPTIONS = "must have options of the form name=value, with & between"
HOST = re.compile(r"(?:\[[0-9A-Za-z:.%]+\]|[^\s:\[\]@/]*)(?::(\d{1,5}))?")
BROKER = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")
LOGIN = re.compile(r"(?:[^\s/?#@\[\]%]|%(?!00)[0-9A-Fa-f]{2})*")  # PostgreSQL takes no NUL
PORT = re.compile(r"[0-9]{1,5}")
OPTION = re.compile(r"[a-z_]{1,40}")
MAX_PORT = 65535
# The options that asyncpg itself takes, and two that every server takes when a connection begins.
VERIFIED = ("require", "verify-ca", "verify-full")
TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
CHOICES = {
    "sslmode": ("disable", "allow", "prefer", *VERIFIED),
    "sslnegotiation": ("postgres", "direct"),
    "ssl_min_protocol_version": TLS_VERSIONS,
    "ssl_max_protocol_version": TLS_VERSIONS,
    "target_session_attrs": ("any", "primary", "standby", "read-write", "read-only", "prefer-standby"),
    "gsslib": ("gssapi", "sspi"),
}
SERVER_OPTIONS = ("host", "port", "dbname", "database", "user", "password", "application_name", "options")
FILE_OPTIONS = ("passfile", "service", "krbsrvname", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword")
FREE_OPTIONS = {*SERVER_OPTIONS, *FILE_OPTIONS}


def database_url(text: str) -> str:
    """Check a URL of PostgreSQL, its options and the files that they name. Raises ValueError.

    The words are ours: those of the client quote values, which may be pieces of a secret.
    """
    parts = _split(text, ("postgresql", "postgres"))
    _check_options(parts)
    try:
        _read(text)
    except asyncpg.ClientConfigurationError:
        raise ValueError("must have one port or as many as hosts, and files of certificates that exist") from None
    except OSError as error:
        raise ValueError(f"must name files that can be read: {error.strerror or type(error).__name__}") from None
    except (ValueError, RuntimeError, KeyError):
        raise ValueError("must be a URL that PostgreSQL's clients understand") from None
    return text


def _check_options(parts: SplitResult) -> None:
    """Check the options of a URL of PostgreSQL: the client would send an unknown one to the server, which refuses it.

    Raises ValueError.
    """
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in options.items():
        values = CHOICES.get(name)
        if values is None and name not in FREE_OPTIONS:
            shown = f" {name}" if OPTION.fullmatch(name) and "@" not in parts.query else ""
            raise ValueError(
                f"must not have the option{shown}; it takes {', '.join(sorted(FREE_OPTIONS | CHOICES.keys()))}, "
                "and settings of the server as options=-c%20name=value"
            )
        if values is not None and value not in values:
            raise ValueError(f"must have one of {', '.join(values)} for {name}")
    for port in options.get("port", "").split(","):
        if port and not (PORT.fullmatch(port) and 0 < int(port) <= MAX_PORT):
            raise ValueError(f"must have numbers from 1 to {MAX_PORT} for port, with commas between")
    for host in options.get("host", "").split(","):
        found = HOST.fullmatch(host) if not host.startswith("/") else None
        if not host.startswith("/") and (found is None or not 0 < int(found[1] or 1) <= MAX_PORT):
            raise ValueError(f"must have hosts or folders of sockets for host, with ports from 1 to {MAX_PORT}")
    if options.get("sslnegotiation") == "direct" and options.get("sslmode") not in VERIFIED:
        raise ValueError(f"must have one of {', '.join(VERIFIED)} for sslmode where sslnegotiation is direct")


def lacks_password(url: str) -> bool:
    """Whether the URL of a database has a user and no password."""
    login = urlsplit(url).netloc.rpartition("@")[0]
    return bool(login) and ":" not in login


def with_password(url: str, password: str) -> str:
    """Return the URL of a database with this password, unless it has one, or no user."""
    if not password or not lacks_password(url):
        return url
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}:{quote(password, safe='')}{at}{hosts}"))


def redis_url(text: str) -> str:
    """Check a URL of Redis and its options. Raises ValueError."""
    parts = _split(text, ("redis", "rediss"))
    if not re.fullmatch(r"/?\d*", parts.path):
        raise ValueError("must end in the number of a database, like /0, or in nothing")
    if "," in parts.netloc.rpartition("@")[2]:
        raise ValueError("must have one host: a cluster is found by any of its nodes")
    try:
        pool: Any = ConnectionPool.from_url(text)
        pool.make_connection()
    except (RedisError, ValueError, TypeError, OSError):
        raise ValueError("must have no options but those of the client for Redis, with values that it takes") from None
    return text


def brokers(text: str) -> str:
    """Check the addresses of Kafka's brokers. Raises ValueError."""
    for each in text.split(","):
        found = BROKER.fullmatch(each.strip())
        if found is None or not 0 < int(found[1]) <= MAX_PORT:
            raise ValueError("must be host:port, or several with commas between; IPv6 as [::1]:9092")
    return ",".join(each.strip() for each in text.split(","))


def _split(text: str, schemes: Iterable[str]) -> SplitResult:
    """The parts of a URL, each in its form. Raises ValueError, which quotes nothing."""
    if not text.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        raise ValueError(f"must be an address that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if not text.isprintable() or " " in text:
        raise ValueError("must hold no spaces, line ends or control characters")
    try:
        parts = urlsplit(text)
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError(ENCODE if "@" in text.partition("?")[2] or "[" in text else OPTIONS) from None
    login, _, hosts = parts.netloc.rpartition("@")
    if not LOGIN.fullmatch(login) or parts.fragment or "@" in parts.path or any("@" in name for name, _ in options):
        raise ValueError(ENCODE)
    for host in hosts.split(","):
        found = HOST.fullmatch(host)
        if found is None or not 0 < int(found[1] or 1) <= MAX_PORT:
            raise ValueError(f"must have a host and a port, 1 to {MAX_PORT}; and {ENCODE.removeprefix('must ')}")
    return parts


def _read(url: str) -> None:
    """Have asyncpg read a URL as it will when it connects. It has no public way to do that and not connect."""
    read: Any = getattr(connect_utils, "_parse_connect_arguments")  # noqa: B009 - a private name, which has no stub
    names = [each for each in signature(read).parameters if each != "dsn"]
    sizes = {"statement_cache_size", "max_cached_statement_lifetime", "max_cacheable_statement_size"}
    read(dsn=url, **{name: 0 if name in sizes else None for name in names})
