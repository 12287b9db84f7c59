"""The time of a request: one budget for all that it does, however many servers keep it waiting. Under virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from callboard.actors.errors import Problem
from callboard.actors.identity.password_hasher import HASHER, HashPassword, VerifyPassword, hash_or_overloaded
from callboard.actors.infrastructure.request_clock import paused_clock
from callboard.http.server.aiohttp_private import EMPTY_PAYLOAD
from callboard.http.server.deadlines import Deadlines, cancelled_by_deadline
from callboard.http.server.raw_request import MALFORMED_REQUEST, RawRequest
from callboard.runtime import Actor, Context, Props, System, on, supervisor, use_context, worker
from callboard.runtime.testkit import VirtualTimeLoop

Work = Callable[[], Awaitable[Any]]
WHOLE_S, ANSWER_S = 10.0, 1.8


def virtual(main: Callable[[], Awaitable[Any]]) -> Any:
    """Run under virtual time."""

    async def run() -> Any:
        return await main()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(run())


async def served(deadlines: Deadlines, work: Work, asked_s: float | None = None) -> tuple[str, float]:
    """Serve a request by this work: its outcome, and when it came."""
    loop = asyncio.get_running_loop()
    exchange = RawRequest(MALFORMED_REQUEST, EMPTY_PAYLOAD, asyncio.WriteTransport(), asyncio.current_task(), None)
    began = loop.time()
    deadlines.begin(exchange, asked_s)
    outcome = "answered"
    try:
        with use_context(Context(deadline=exchange.deadline, baggage=exchange)):
            await work()
    except asyncio.CancelledError:
        assert cancelled_by_deadline(exchange)
        outcome = "late"
    finally:
        deadlines.end(exchange)
    return outcome, round(loop.time() - began, 3)


async def serve(work: Work, asked_s: float | None = None) -> tuple[str, float]:
    return await asyncio.create_task(served(Deadlines(WHOLE_S, ANSWER_S, asyncio.get_running_loop()), work, asked_s))


async def slow_servers() -> None:
    """Each wait is within its own limit."""
    for _ in range(5):
        await asyncio.sleep(1.2)


async def slow_work() -> None:
    """Wait for a server, then for work that is slow by design, then for the server again."""
    await asyncio.sleep(1.0)
    with paused_clock():
        await asyncio.sleep(5.0)
    await asyncio.sleep(1.0)


@pytest.mark.parametrize(
    ("work", "asked_s", "outcome"),
    [
        (slow_servers, None, ("late", 1.8)),
        (slow_servers, 0.5, ("late", 0.5)),
        (slow_servers, 60.0, ("late", 1.8)),
        (slow_work, None, ("late", 6.8)),
        (slow_work, 3.0, ("late", 3.0)),
        (slow_work, 1.5, ("late", 1.5)),
        (lambda: asyncio.sleep(1.7), None, ("answered", 1.7)),
    ],
    ids=["default", "a shorter one", "a longer one", "paused", "paused beyond the whole", "paused, shorter", "in time"],
)
def test_the_waits_of_a_request_share_one_budget(work: Work, asked_s: float | None, outcome: tuple[str, float]) -> None:
    assert virtual(lambda: serve(work, asked_s)) == outcome


def test_a_paused_clock_is_bounded_by_the_whole_time_of_the_request() -> None:
    async def stuck() -> None:
        with paused_clock():
            await asyncio.sleep(60)

    assert virtual(lambda: serve(stuck)) == ("late", WHOLE_S)


def test_a_request_whose_clock_stands_still_delays_no_others_deadline() -> None:
    async def main() -> list[tuple[str, float]]:
        deadlines = Deadlines(WHOLE_S, ANSWER_S, asyncio.get_running_loop())
        both = (slow_work, slow_servers, slow_work, slow_servers)
        return await asyncio.gather(*(asyncio.create_task(served(deadlines, work)) for work in both))

    assert virtual(main) == [("late", 6.8), ("late", 1.8)] * 2


def test_a_clock_that_goes_on_after_the_answer_ends_nothing_that_its_connection_does_next() -> None:
    async def main() -> str:
        left_behind: list[asyncio.Task[None]] = []

        async def leave_behind() -> None:
            left_behind.append(asyncio.create_task(slow_work()))  # in the context of this request
            await asyncio.sleep(1.1)

        deadlines = Deadlines(WHOLE_S, ANSWER_S, asyncio.get_running_loop())
        assert await served(deadlines, leave_behind) == ("answered", 1.1)
        await asyncio.sleep(60)  # the same task, as the connection's, serves its next request
        return "went on"

    async def connection() -> str:
        return await asyncio.create_task(main())

    assert virtual(connection) == "went on"


class SlowHasher(Actor[HashPassword | VerifyPassword]):
    """Takes four seconds for each."""

    @on(HashPassword)
    async def hash(self, message: HashPassword) -> str:
        await asyncio.sleep(4.0)
        return message.password

    @on(VerifyPassword)
    async def verify(self, message: VerifyPassword) -> Any:
        await asyncio.sleep(4.0)
        return message.password


IMPORTED = "$2b$04$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234"


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        (HashPassword("a"), ("SERVER_OVERLOADED_002", 1.08)),
        (VerifyPassword("a", HASHER.hash("a")), ("SERVER_OVERLOADED_002", 1.08)),
        (VerifyPassword("a", None), ("SERVER_OVERLOADED_002", 1.08)),
        (VerifyPassword("a", IMPORTED), ("answered", 4.0)),
    ],
    ids=["new", "ours", "no account", "imported"],
)
def test_a_hash_that_waits_too_long_is_refused_while_there_is_time_and_an_imported_one_may_take_its_time(
    message: HashPassword | VerifyPassword, outcome: tuple[str, float]
) -> None:
    async def main() -> tuple[str, float]:
        hasher = worker("hasher", Props(SlowHasher))
        async with System(supervisor("root", hasher)):
            loop, outcomes = asyncio.get_running_loop(), []

            async def hash_it() -> None:
                began = loop.time()
                try:
                    await hash_or_overloaded(hasher, message)
                    outcomes.append(("answered", round(loop.time() - began, 3)))
                except Problem as problem:
                    outcomes.append((problem.code.name, round(loop.time() - began, 3)))

            assert (await serve(hash_it))[0] == "answered"
            return outcomes[0]

    assert virtual(main) == outcome
