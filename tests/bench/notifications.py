"""What idle streams of notifications cost `callboard up`, and how long a notification then takes to all of them.

    python tests/bench/notifications.py [STREAMS]

Each stream is a connection over a socket; five belong to each user. Memory is the resident set of the process, before
and after; some streams are opened and closed first, so that what is allocated once does not count.
"""

import asyncio
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import psutil

from callboard.ops.embedded.data_directory import free_ports, read_running

sys.path.insert(0, str(Path(__file__).parents[1]))

from kit.people import Person, UserFactory

READY_S, PER_USER, WARM, IDLE_S, TRIES = 180.0, 5, 300, 20.0, 5
GOAL_KB = 10.0
LIMITS = {
    "NOTIFICATION_STREAMS_PER_ADDRESS": "100000",
    "RATE_LIMIT_PER_MINUTE": "1000000",
    "HTTP_MAX_CONNECTIONS_PER_ADDRESS": "100000",
    "HTTP_MAX_CONNECTIONS": "100000",
}
REQUEST = "insert into outbox (event_id, topic, key, type, value) values ($1, 'notifications.v1', $2, $3, $4)"


def open_streams(port: int, people: list[Person], count: int) -> list[socket.socket]:
    """Open streams, and return when each has its first event."""
    opened = []
    for number in range(count):
        client = socket.create_connection(("127.0.0.1", port), timeout=60)
        token = people[number // PER_USER].token
        client.sendall(
            f"GET /api/v1/notifications/stream HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        received = b""
        while b"event: ready" not in received:
            piece = client.recv(65_536)
            if not piece:
                raise ConnectionError(received.decode())
            received += piece
        opened.append(client)
    return opened


def told_s(clients: list[socket.socket], user_id: UUID, url: str) -> float:
    """From the commit of a request to its arrival on every stream of its user."""
    for client in clients:
        client.setblocking(False)
    event = {"user_id": str(user_id), "kind": "content_published", "data": data()}

    async def commit() -> None:
        connection = await asyncpg.connect(url)
        try:
            value = msgspec.json.encode(event)
            await connection.execute(REQUEST, uuid4(), str(user_id), "notification.requested", value)
        finally:
            await connection.close()

    asyncio.run(commit())
    began = time.perf_counter()
    waiting, poll = set(clients), selectors.DefaultSelector()
    for client in clients:
        poll.register(client, selectors.EVENT_READ)
    while waiting:
        for key, _ in poll.select(60):
            read: Any = key.fileobj
            if b"event: notification" in read.recv(65_536):
                waiting.discard(read)
    return time.perf_counter() - began


def data() -> dict[str, str]:
    return {"content_id": str(uuid4()), "transition_id": "1", "title": "A title"}


def measure(data_folder: Path, streams: int) -> None:
    """Run the system, open the streams, and print what they cost."""
    log, (http, ops) = data_folder / "up.log", free_ports(2)
    places = {"CALLBOARD_DATA_DIR": str(data_folder / "data"), "HTTP_PORT": str(http), "OPS_PORT": str(ops)}
    with log.open("wb") as output:
        command = [Path(sys.executable).with_name("callboard"), "up"]
        up = subprocess.Popen(command, env=os.environ | places | LIMITS, stdout=output, stderr=output)  # noqa: S603 - ours
    try:
        ends_at = time.monotonic() + READY_S
        while "Up." not in log.read_text():
            if up.poll() is not None or time.monotonic() > ends_at:
                raise RuntimeError(log.read_text())
            time.sleep(0.2)
        facts = read_running(data_folder / "data") or {}
        factory, process = UserFactory(facts), psutil.Process(up.pid)
        people = [factory.person("member") for _ in range(streams // PER_USER)]
        for client in open_streams(http, people, WARM):
            client.close()
        time.sleep(2)
        before = process.memory_info().rss
        clients = open_streams(http, people, streams)
        time.sleep(2)
        cpu, began = sum(process.cpu_times()[:2]), time.perf_counter()
        time.sleep(IDLE_S)
        share = (sum(process.cpu_times()[:2]) - cpu) / (time.perf_counter() - began)
        each_kb = (process.memory_info().rss - before) / streams / 1000
        print(f"{streams} idle streams: {each_kb:.1f} kB each (goal: under {GOAL_KB:g}), {share:.1%} of a core")  # noqa: T201 - what it is for
        waits = [told_s(clients[:PER_USER], people[0].user_id, str(facts["DATABASE_URL"])) for _ in range(TRIES)]
        print(  # noqa: T201 - what it is for
            f"a notification, from its commit to {PER_USER} streams over the outbox and the broker: "
            f"median {statistics.median(waits) * 1000:.0f} ms, most {max(waits) * 1000:.0f} ms"
        )
        if each_kb >= GOAL_KB:
            sys.exit(1)
    finally:
        up.terminate()
        up.wait(30)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="callboard-notifications-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        measure(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
