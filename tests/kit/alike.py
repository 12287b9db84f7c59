"""Requests about known and unknown addresses: what each is answered, without what is another in every answer."""

import json
import random
import secrets
import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from callboard.actors.identity.password_hasher import HASHER
from kit.running import PASSWORD, CallboardProcess
from kit.twins import ProcessGroup

# What is another in every answer, whoever asks for what.
PASSING = {"date", "x-request-id", "traceparent", "ratelimit", "location"}
OWN = {"timestamp", "trace_id", "user_id", "email", "created_at"}


class Case(NamedTuple):
    """A request about an address, and whether the known ones are verified."""

    path: str
    status: int
    body: Callable[[str], dict[str, Any]]
    verified: bool


CASES = {
    "login": Case("/auth/login", 401, lambda email: {"email": email, "password": "Wrong-Password-1"}, verified=True),
    "forgot": Case("/auth/password/forgot", 202, lambda email: {"email": email}, verified=True),
    "resend": Case("/auth/resend-verification", 202, lambda email: {"email": email}, verified=False),
    "register": Case(
        "/auth/register",
        201,
        lambda email: {"email": email, "password": PASSWORD, "full_name": "Ada Penwright", "terms_accepted": True},
        verified=True,
    ),
    "register again": Case(
        "/auth/register",
        201,
        lambda email: {"email": email, "password": PASSWORD, "full_name": "Ada Penwright", "terms_accepted": True},
        verified=False,
    ),
}


class Answered(NamedTuple):
    """An answer without what is its own, and how long it took."""

    status: int
    body: str
    headers: list[tuple[str, str]]
    took_s: float


class Asker:
    """One connection that asks one thing after the other, which are on their way in one packet each."""

    def __init__(self, site: CallboardProcess) -> None:
        where = urlsplit(site.api)
        self.base = where.path
        self.connection = HTTPConnection(where.hostname or "", where.port, timeout=10)

    def ask(self, case: Case, email: str) -> Answered:
        body = json.dumps(case.body(email)).encode()
        began = time.perf_counter()
        self.connection.request("POST", self.base + case.path, body, {"Content-Type": "application/json"})
        response = self.connection.getresponse()
        content = response.read()
        took_s = time.perf_counter() - began
        headers = [(name, "" if name.lower() in PASSING else value) for name, value in response.getheaders()]
        return Answered(response.status, json.dumps(impersonal(json.loads(content))), headers, took_s)


def impersonal(value: Any) -> Any:
    """Without what is another in every answer: only that it is there."""
    if isinstance(value, Mapping):
        return {name: "" if name in OWN else impersonal(each) for name, each in value.items()}
    return value


def addresses(count: int) -> list[str]:
    """Of one length all: so are the answers."""
    return [f"{secrets.token_hex(8)}@example.org" for _ in range(count)]


def enrol(one: ProcessGroup, emails: list[str], *, verified: bool) -> None:
    """Accounts with these addresses."""
    statement = (
        "insert into users (email, password_hash, full_name, is_verified) "
        "select email, $2, 'Some One', $3 from unnest($1::text[]) as e (email)"
    )
    one.sql(statement, emails, HASHER.hash("Another-Word-42"), verified)
    one.sql("analyze users")  # so that no plan changes in the middle


def compared(one: ProcessGroup, case: Case, order: random.Random, pairs: int) -> tuple[list[float], list[float]]:
    """The times, in ms, for so many known and unknown addresses, whose answers are alike. Each is asked about once."""
    known, unknown = addresses(pairs), addresses(pairs)
    enrol(one, known, verified=case.verified)
    asker = Asker(one.sites[0])
    for email in addresses(10):  # to warm up
        asker.ask(case, email)
    # In no order: the work on a known one's mail goes on after its answer, and whatever falls into that time is slower.
    # In pairs, turned or not, what comes two after a known one was unknown more often than not, and seen to be slower.
    asks = [(email, kind) for kind in (0, 1) for email in (known, unknown)[kind]]
    order.shuffle(asks)
    answers: tuple[list[Answered], list[Answered]] = [], []
    for email, kind in asks:
        answers[kind].append(asker.ask(case, email))
    asker.connection.close()
    for each in (*answers[0], *answers[1]):
        assert (each.status, each.body, each.headers) == (case.status, *answers[0][0][1:3])
    return [1000 * each.took_s for each in answers[0]], [1000 * each.took_s for each in answers[1]]
