"""A Redis that answers and refuses: each refusal is told of once, shown by the check, and costs no request."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from callboard.actors.identity.user_generations import SETTLING_S, UserGenerations
from callboard.actors.infrastructure.rate_limiter import CheckLimit, LimitBatcher, Policy
from callboard.actors.infrastructure.redis import CacheAwayError, KeySpace, RedisClient, RedisConnector
from callboard.ops.embedded import valkey as module
from callboard.ops.embedded.data_directory import free_ports, open_data_directory
from callboard.ops.embedded.valkey import Valkey
from callboard.runtime import Props, System, supervisor, worker

FIVE = {"five": Policy(5, 60)}


def limiter_of(cache: RedisClient) -> LimitBatcher:
    return LimitBatcher(cache, FIVE, time.monotonic)


async def passed(limiter: LimitBatcher, key: str, tries: int = 8) -> int:
    """How many of so many requests of a key are let through, one after the other."""
    verdicts = [await limiter.check(CheckLimit("five", key)) for _ in range(tries)]
    return sum(verdict.allowed for verdict in verdicts)


@asynccontextmanager
async def user_of(valkey: Valkey, *rules: str) -> AsyncIterator[RedisClient]:
    """A client that logs in as a user with these rights and no others."""
    name = f"user-{uuid4().hex[:8]}"
    admin = Redis.from_url(valkey.url)
    await admin.execute_command("ACL", "SETUSER", name, "on", ">word", *rules)
    host = valkey.url.rpartition("@")[2]
    cache = RedisClient(f"redis://{name}:word@{host}", KeySpace("acme"))
    try:
        yield cache
    finally:
        await cache.close()
        await admin.execute_command("ACL", "DELUSER", name)
        await admin.aclose()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "callboard.actors.infrastructure.redis"]


async def test_without_the_right_to_run_scripts_limits_are_kept_here_and_it_is_said_once(
    valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "callboard")
    async with user_of(valkey, "~*", "+@all", "-@scripting") as cache:
        limiter = limiter_of(cache)
        assert await passed(limiter, "k") == 5
        with pytest.raises(CacheAwayError, match="NOPERM"):
            await cache.check()
        assert not cache.unavailable.is_set()  # sessions go on as before
        assert await UserGenerations(cache, lambda: SETTLING_S + 1).read(uuid4())
    assert len(told(caplog)) == 1
    assert "Redis refuses EVALSHA: NOPERM" in told(caplog)[0]


async def test_a_prefix_of_keys_that_is_not_ours_is_as_good_as_no_redis(
    valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "callboard")
    async with user_of(valkey, "~other:*", "+@all") as cache:
        limiter = limiter_of(cache)
        await cache.look()
        for _ in range(3):
            assert not await cache.probe()
        assert await passed(limiter, "k") == 5
        with pytest.raises(CacheAwayError, match="NOPERM"):
            await cache.check()
    assert [line.split(":")[0] for line in told(caplog)] == ["Redis is unavailable"]
    async with user_of(valkey, "~acme:*", "+@all") as cache:  # and one that is ours is enough
        limiter = limiter_of(cache)
        await cache.check()
        assert await passed(limiter, uuid4().hex) == 5
        assert not cache.unavailable.is_set()


async def test_a_wrong_password_is_said_before_anybody_asks(valkey: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "callboard")
    cache = RedisClient(f"redis://:no-such-word@{valkey.url.rpartition('@')[2]}")
    async with System(supervisor("root", worker("cache", Props(RedisConnector, cache)))):
        async with asyncio.timeout(5):
            await cache.unavailable.wait()
        with pytest.raises(CacheAwayError, match="AuthenticationError"):
            await cache.check()
    assert len(told(caplog)) == 1
    assert "no-such-word" not in caplog.text


async def test_two_installations_on_one_redis_do_not_meet(valkey: Valkey) -> None:
    key = uuid4().hex
    for keys in (KeySpace("staging"), KeySpace("production"), KeySpace("production", "other")):
        cache = RedisClient(valkey.url, keys)
        assert await passed(limiter_of(cache), key) == 5
        await cache.close()


@asynccontextmanager
async def configured(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> AsyncIterator[Valkey]:
    """A server of the test's own, with more lines in its configuration."""
    monkeypatch.setattr(module, "CONFIG", module.CONFIG + "".join(f"{line}\n" for line in lines))
    with open_data_directory(folder / "data") as place:
        server = Valkey(place, free_ports(1)[0])
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
            place.reset()


@pytest.mark.servers
async def test_a_redis_without_memory_is_as_good_as_none_until_it_has_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "callboard")
    async with configured(tmp_path, monkeypatch, "maxmemory-policy noeviction") as server:
        admin = Redis.from_url(server.url)
        cache = RedisClient(server.url)
        limiter = limiter_of(cache)
        await cache.check()
        await admin.config_set("maxmemory", "1kb")
        assert await passed(limiter, "k") == 5
        assert cache.unavailable.is_set()
        assert not await cache.probe()
        with pytest.raises(CacheAwayError, match="OOM"):
            await cache.check()
        await admin.config_set("maxmemory", "128mb")
        assert await cache.probe()
        await cache.check()
        await cache.close()
        await admin.aclose()
    assert all("OOM" in line for line in told(caplog))
    assert len(told(caplog)) == 1, "a script and a command are refused in the same words"


@pytest.mark.servers
async def test_many_keys_of_one_command_lie_in_one_slot_of_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with configured(tmp_path, monkeypatch, "cluster-enabled yes") as server:
        admin = Redis.from_url(server.url)
        await admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        async with asyncio.timeout(10):
            while "cluster_state:ok" not in str(await admin.execute_command("CLUSTER", "INFO")):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
        cache = RedisClient(server.url)
        limiter, generations = limiter_of(cache), UserGenerations(cache, lambda: SETTLING_S + 1)
        verdicts = await asyncio.gather(*(limiter.check(CheckLimit("five", f"k{n}")) for n in range(50)))
        assert {verdict.remaining for verdict in verdicts} == {4}
        assert all(await asyncio.gather(*(generations.read(uuid4()) for _ in range(20))))
        assert not limiter.local._arrivals  # Redis has counted, and not this process
        assert not cache.unavailable.is_set()
        await cache.check()
        await cache.close()
        await admin.aclose()


async def test_a_cluster_sends_us_to_the_node_that_has_our_keys(valkey: Valkey) -> None:
    """A node that owns no slot of ours answers each command with the address of the one that does."""
    host, _, port = valkey.url.rpartition("@")[2].partition("/")[0].partition(":")
    asked: list[bytes] = []

    async def node(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            commands = data.count(b"*") if data.startswith(b"*") else 1
            asked.append(data)
            # What greets is answered; the rest is elsewhere.
            is_greeting = b"AUTH" in data or b"CLIENT" in data or b"HELLO" in data
            answer = b"+OK\r\n" if is_greeting else f"-MOVED 1234 {host}:{port}\r\n".encode()
            writer.write(answer * (commands if is_greeting else 1))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(node, "127.0.0.1", 0)
    address: Any = server.sockets[0].getsockname()
    password = valkey.url.split(":")[2].partition("@")[0]
    cache = RedisClient(f"redis://:{password}@127.0.0.1:{address[1]}/0?protocol=2")
    try:
        key = uuid4().hex
        assert await cache.send("SET", key, "there") == b"OK"
        assert await cache.send("GET", key) == b"there"
        assert sum(key.encode() in data for data in asked) == 1  # it is asked once, and then the other
    finally:
        await cache.close()
        server.close()
