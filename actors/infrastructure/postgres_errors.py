"""Errors of PostgreSQL: is one temporary, a conflict, or a fault that only a person can mend?

The decision follows the SQLSTATE, never the message: servers speak many languages. It is pure, and knows no connection.
"""

import ssl
from enum import StrEnum
from typing import Final

import asyncpg
from msgspec import Struct


class Verdict(StrEnum):
    """The meaning of an error for the caller of the statement."""

    PASSES = "passes"  # a temporary state of the server: wait for its end, answer 503, give nothing up
    CONFLICT = "conflict"  # a concurrent transaction won, and all of ours is rolled back: run it again
    SLOW = "slow"  # the statement exceeded its time limit: ask for less, or again
    UNMENDABLE = "unmendable"  # the server refuses us, and waiting cannot help: a person must act
    BUG = "bug"  # the statement is wrong, or a constraint refuses it: the caller knows the meaning


class Scope(StrEnum):
    """The connections that an error affects."""

    STATEMENT = "statement"  # the connection is still good
    CONNECTION = "connection"  # replace this one; the server may be well
    ENDPOINT = "endpoint"  # replace all: the server behind them is the wrong one
    SERVER = "server"  # the server is unavailable: no attempt is useful before it is back


class Judgement(Struct, frozen=True):
    """A verdict, its scope, and the state in words without data and addresses."""

    verdict: Verdict
    scope: Scope
    why: str


def _passes(why: str, scope: Scope = Scope.STATEMENT) -> Judgement:
    return Judgement(Verdict.PASSES, scope, why)


def _unmendable(why: str) -> Judgement:
    return Judgement(Verdict.UNMENDABLE, Scope.SERVER, why)


BUG: Final = Judgement(Verdict.BUG, Scope.STATEMENT, "the statement failed")
NO_ANSWER: Final = _passes("the server does not answer", Scope.SERVER)
NOT_POSTGRES: Final = _passes("what answers there is not PostgreSQL", Scope.SERVER)
LOST: Final = _passes("the connection is lost", Scope.SERVER)
NO_LOGIN: Final = _unmendable("the server refuses our login")
NO_RIGHT: Final = _unmendable("the role lacks a privilege that the start needs")
NO_TLS: Final = _unmendable("the server does not speak TLS as DATABASE_URL asks")
BAD_CERTIFICATE: Final = _unmendable("the server's certificate is not one that DATABASE_URL trusts")
REFUSED: Final = _unmendable("the server refuses a statement that the start needs")
NOT_PARSED: Final = _unmendable("DATABASE_URL cannot be used as it stands")
POOLED: Final = _passes("a pooler has ended the session", Scope.CONNECTION)
CHANGED: Final = Judgement(Verdict.CONFLICT, Scope.STATEMENT, "the schema has just changed")

# Whole classes first, then single states, which win.
_CLASSES: Final[dict[str, Judgement]] = {
    "08": LOST,
    "28": NO_LOGIN,
    "40": Judgement(Verdict.CONFLICT, Scope.STATEMENT, "another transaction came first"),
    "53": _passes("the server is out of resources"),
    "57": _passes("the server is shutting down or recovering", Scope.SERVER),
    "58": _passes("the server has trouble with its disk or system"),
}
_STATES: Final[dict[str, Judgement]] = {
    "08P01": _passes("the connection was broken off", Scope.CONNECTION),  # a pooler uses it for all its refusals
    "25006": _passes("the server is read-only", Scope.ENDPOINT),
    "25P03": _passes("the server ended an idle transaction", Scope.CONNECTION),
    "25P04": Judgement(Verdict.SLOW, Scope.CONNECTION, "the transaction took too long"),
    "26000": POOLED,
    "3D000": _unmendable("the database does not exist"),
    "40002": BUG,  # a constraint, although in the class of conflicts
    "42P05": POOLED,
    "42501": _passes("the role lacks a privilege"),  # temporary until an operator grants it; at a start it is NO_RIGHT
    "53100": _passes("the server's disk is full"),
    "53200": _passes("the server is out of memory"),
    "53300": _passes("all connections of the server are in use"),
    "55006": _passes("the object is in use"),
    "55P03": _passes("a lock could not be acquired in time"),
    "57014": Judgement(Verdict.SLOW, Scope.STATEMENT, "the statement took too long"),
    "57P05": _passes("the server ended an idle session", Scope.CONNECTION),
}
_PERMISSION: Final = "42501"
_STARTUP_PARAMETER: Final = "unsupported startup parameter"
_TLS_REFUSED: Final = "rejected SSL upgrade"  # asyncpg's message, always in English: it has no class for this


def judge(error: BaseException) -> Judgement:
    """Judge an error of a statement or a connection.

    57014 is normally our own time limit; if an operator cancelled the statement, a retry is right as well.
    """
    if isinstance(error, asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError):
        return CHANGED
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return _STATES.get(state) or _CLASSES.get(state[:2], BUG)
    if isinstance(error, asyncpg.InternalClientError):
        return LOST  # the server's last message, which arrived while no statement ran
    if isinstance(error, OSError | TimeoutError):
        return NO_ANSWER
    return BUG


def judge_connecting(error: BaseException, *, wants_tls: bool = True) -> Judgement:
    """Judge an error of an attempt to connect: a missing right or a wrong setting differs from an unavailable
    server. Where TLS is not demanded, a server without it is used; then what refuses it is not PostgreSQL.
    """
    if isinstance(error, asyncpg.PostgresError):
        return _judge_greeting(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return BAD_CERTIFICATE
    if isinstance(error, ConnectionError) and _TLS_REFUSED in str(error):
        return NO_TLS if wants_tls else NOT_POSTGRES
    if isinstance(error, UnicodeError | asyncpg.ClientConfigurationError):
        return NOT_PARSED
    return NO_ANSWER if isinstance(error, asyncpg.InterfaceError) else judge(error)


def _judge_greeting(error: asyncpg.PostgresError) -> Judgement:
    if error.sqlstate == _PERMISSION:
        return NO_RIGHT
    judgement = judge(error)
    if judgement is BUG or _STARTUP_PARAMETER in str(error):
        return REFUSED  # an unknown option in the URL, a schema that cannot be created
    return judgement


def words(error: BaseException) -> str:
    """Return an error in one line for the log: its state and the server's message, without details, which may
    be data.
    """
    text = str(error) if isinstance(error, OSError) else str(error.args[0] if error.args else "")
    said = " ".join(text.split())[:300]
    state = f" ({error.sqlstate})" if isinstance(error, asyncpg.PostgresError) and error.sqlstate else ""
    return f"{type(error).__name__}{state}: {said}" if said else f"{type(error).__name__}{state}"


def passes(error: BaseException) -> bool:
    """Whether a retry is right: the request is valid, and no attempt is counted."""
    return judge(error).verdict in (Verdict.PASSES, Verdict.CONFLICT, Verdict.SLOW)
