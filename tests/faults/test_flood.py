"""A flood of logins: each is checked or refused, and whoever is logged in already does not wait for them."""

import asyncio
import statistics
from collections.abc import Iterator

import aiohttp
import pytest
from kit.login_flood import ENVIRONMENT, REFUSED, Crowd
from kit.running import Up, one_up

PHASE_S = 2.5
# Times as long as a read takes a login that is checked, while the hashers have more than they can do. Measured: 106 to
# 200, and 8 with the hashing on the event loop.
AT_LEAST = 20


@pytest.fixture(scope="module")
def flooded() -> Iterator[Up]:
    with one_up(ENVIRONMENT) as up:
        yield up


async def test_a_flood_of_logins_is_checked_or_refused_and_does_not_hold_up_those_who_are_logged_in(
    flooded: Up,
) -> None:
    """A read needs as many turns of the processor as a login but for the hashing, and must not wait for that. Both are
    timed in the same seconds, so that other work on the machine is in both. `make bench-flood` measures how long.
    """
    token = (await asyncio.to_thread(flooded.join))["token"]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as client:
        crowd = Crowd(client, flooded, token, PHASE_S)
        await crowd.reads()  # to warm up
        async with crowd.flood():
            reads = await crowd.reads()
    read_s, login_s = statistics.median(reads), statistics.median(crowd.checked)
    said = f"{dict(crowd.statuses)}; median of a read {read_s:.3f} s, of a login that is checked {login_s:.3f} s"
    print(said)  # noqa: T201 - the measurement
    assert set(crowd.statuses) <= {401, *REFUSED}, said
    assert crowd.statuses[401] >= 20, said
    assert crowd.statuses[503], said
    assert read_s * AT_LEAST < login_s, said
