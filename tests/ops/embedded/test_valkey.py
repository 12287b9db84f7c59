"""The embedded Valkey: it keeps its keys, behind a password."""

import os
import signal
import stat

import anyio
import pytest
import redis.asyncio
from redis.exceptions import AuthenticationError

from callboard.ops.embedded.data_directory import DataDirectory, free_ports
from callboard.ops.embedded.valkey import Valkey


async def test_it_keeps_its_keys_and_its_port_when_it_is_killed(place: DataDirectory) -> None:
    server = Valkey(place, free_ports(1)[0])
    await server.start()
    client = redis.asyncio.Redis.from_url(server.url)
    try:
        await client.set("key", "value")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        with anyio.fail_after(5):
            assert await server.exited() == "was ended by SIGKILL"
        await server.start()
        await client.connection_pool.disconnect()
        assert await client.get("key") == b"value"
        assert (await client.config_get("maxmemory*"))["maxmemory-policy"] == "volatile-lru"
    finally:
        await client.aclose()
        await server.stop()
    await server.start()
    await server.stop()


async def test_nobody_gets_in_without_the_password(place: DataDirectory) -> None:
    server = Valkey(place, free_ports(1)[0])
    await server.start()
    try:
        async with redis.asyncio.Redis.from_url(server.url.replace(place.secret("valkey"), "guess")) as client:
            with pytest.raises(AuthenticationError):
                await client.ping()
        config = place.folder("valkey") / "valkey.conf"
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
    finally:
        await server.stop()
