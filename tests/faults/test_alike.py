"""Known and unknown addresses: the same status, the same body, the same headers, and the same time to the answer."""

import json
import random
import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from kit.running import PASSWORD, CallboardProcess, Up
from kit.twins import ProcessGroup, twins

from callboard.actors.identity.password_hasher import HASHER

pytestmark = pytest.mark.long

PAIRS = 300
WITHIN = 0.05
# Other work on the machine only adds to a time: the lower quartile has least of it. How much is left of it, the samples
# say themselves: only a difference that resampling them does not explain, in every round, is one.
ROUNDS = 3
RESAMPLED = 1_000
SURE = 0.995
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


@pytest.fixture(scope="module")
def concealing(up: Up) -> Iterator[ProcessGroup]:
    """One process with the API alone: what its own work on the mails would add is noise."""
    with twins(up, 1, REGISTRATION_CONFLICT="conceal", RATE_LIMIT_ACCOUNT="1000000") as one:
        yield one


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


def addresses() -> list[str]:
    """Of one length all: so are the answers."""
    return [f"{secrets.token_hex(8)}@example.org" for _ in range(PAIRS)]


def enrol(one: ProcessGroup, emails: list[str], *, verified: bool) -> None:
    """Accounts with these addresses."""
    statement = (
        "insert into users (email, password_hash, full_name, is_verified) "
        "select email, $2, 'Some One', $3 from unnest($1::text[]) as e (email)"
    )
    one.sql(statement, emails, HASHER.hash("Another-Word-42"), verified)
    one.sql("analyze users")  # so that no plan changes in the middle


def compared(one: ProcessGroup, case: Case, order: random.Random) -> tuple[list[float], list[float]]:
    """The times, in ms, for known and for unknown addresses. Each is asked about once."""
    known, unknown = addresses(), addresses()
    enrol(one, known, verified=case.verified)
    asker = Asker(one.sites[0])
    for email in addresses()[:10]:  # to warm up
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


def lower_quartile(times: list[float]) -> float:
    return statistics.quantiles(times, n=4)[0]


def difference(one: list[float], other: list[float]) -> float:
    """By how much of the greater the lower quartiles differ; positive when `one` is the greater."""
    a, b = lower_quartile(one), lower_quartile(other)
    return (a - b) / max(a, b)


def sure_difference(one: list[float], other: list[float], order: random.Random) -> float:
    """The least difference, without its sign, that the samples are sure of."""
    seen = sorted(
        difference(order.choices(one, k=len(one)), order.choices(other, k=len(other))) for _ in range(RESAMPLED)
    )
    least, most = seen[int(len(seen) * (1 - SURE))], seen[int(len(seen) * SURE)]
    return max(0.0, least, -most)


def test_a_difference_is_told_from_noise() -> None:
    order = random.Random(1)  # noqa: S311 - samples, no secret
    quiet, noisy = ([20 + order.expovariate(rate) for _ in range(PAIRS)] for rate in (10, 0.2))
    slower = [each * 1.1 for each in quiet]
    assert sure_difference(slower, quiet, order) > WITHIN
    assert sure_difference(quiet, slower, order) > WITHIN
    assert sure_difference(quiet, order.sample(quiet, PAIRS), order) <= WITHIN
    assert sure_difference(noisy, [20 + order.expovariate(0.2) for _ in range(PAIRS)], order) <= WITHIN
    assert sure_difference([each * 2 for each in noisy], noisy, order) > WITHIN


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", CASES)
def test_known_and_unknown_addresses_are_answered_alike_and_in_the_same_time(
    concealing: ProcessGroup, name: str
) -> None:
    rounds, differs = [], 1.0
    while differs > WITHIN and len(rounds) < ROUNDS:
        seed = random.SystemRandom().randrange(1 << 32)
        order = random.Random(seed)  # noqa: S311 - an order, no secret
        known, unknown = compared(concealing, CASES[name], order)
        differs = sure_difference(known, unknown, order)
        quartiles = f"known {lower_quartile(known):.2f} ms, unknown {lower_quartile(unknown):.2f} ms"
        rounds.append(f"seed {seed}: {quartiles}, differ by {differs:.1%} surely")
    said = f"{name}: {'; '.join(rounds)}"
    print(said)  # noqa: T201 - the measurement
    assert differs <= WITHIN, said
