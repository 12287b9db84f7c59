"""Load on one server: so many kept connections, each sending its request again as soon as it is answered.

A client of its own, because one that does more would be slower than what it measures: it reads the status and the
length of an answer and no more. Run as a process: `load.py PORT SECONDS CONNECTIONS < requests`; it prints JSON. The
requests have a NUL between them, and take turns.
"""

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from functools import partial

import uvloop

WARM_S = 0.5


class Tally:
    """What all connections have seen: answers, statuses other than 200, and the answers' times in ms."""

    def __init__(self) -> None:
        self.counting = False
        self.answers = 0
        self.others: dict[str, int] = {}
        self.times_ms: list[float] = []


class Connection(asyncio.Protocol):
    """One request after the other."""

    def __init__(self, requests: Iterator[bytes], tally: Tally) -> None:
        self.requests = requests
        self.tally = tally
        self.buffer = b""
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = transport
        self._send()

    def _send(self) -> None:
        self.sent_at = time.perf_counter()
        self.transport.write(next(self.requests))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Look for the end of the answer; the next request follows it."""
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lowered = head.lower()
        at = lowered.find(b"content-length:")
        length = int(lowered[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) < length:
            return
        self.buffer = body[length:]
        tally = self.tally
        if tally.counting:
            tally.answers += 1
            tally.times_ms.append((time.perf_counter() - self.sent_at) * 1000)
            status = head[9:12].decode()
            if status != "200":
                tally.others[status] = tally.others.get(status, 0) + 1
        self._send()


async def load(port: int, seconds: float, connections: int, requests: list[bytes]) -> dict[str, object]:
    """Answers a second, other statuses than 200, and the median and 99th percentile of the times in ms."""
    loop, tally = asyncio.get_running_loop(), Tally()
    one = partial(Connection, itertools.cycle(requests), tally)
    made = [await loop.create_connection(one, "127.0.0.1", port) for _ in range(connections)]
    await asyncio.sleep(WARM_S)
    tally.counting, began = True, time.perf_counter()
    await asyncio.sleep(seconds)
    tally.counting, took = False, time.perf_counter() - began
    for transport, _ in made:
        transport.close()
    times = sorted(tally.times_ms) or [0.0]
    return {
        "rate": tally.answers / took,
        "others": tally.others,
        "p50_ms": times[len(times) // 2],
        "p99_ms": times[int(len(times) * 0.99)],
    }


if __name__ == "__main__":
    port, seconds, connections = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    requests = sys.stdin.buffer.read().split(b"\0")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.write(json.dumps(runner.run(load(port, seconds, connections, requests))))
