"""CPU time of `callboard up` and its broker while nobody calls, and how long a first event then takes.

    python tests/bench/idle.py [SECONDS]

CPU time counts, not wall time, so a busy machine disturbs it little; the events are wall time.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import asyncpg
import msgspec
import psutil

from callboard.ops.embedded.data_directory import free_ports, read_running

READY_S, SETTLE_S, EVENTS = 180.0, 15.0, 5
EVENT = "insert into outbox (event_id, topic, key, type, value) values ($1, 'content.v1', 'k', 'content.published', $2)"
RECORDED = "select count(*) from consumed_events where event_id = $1"


def used_s(process: psutil.Process) -> float:
    """CPU time of a process, in its own name and the kernel's."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def first_event_s(url: str) -> float:
    """From the commit of an event of ours to its consumer's note of it."""
    connection = await asyncpg.connect(url)
    try:
        event_id, nobody = uuid4(), str(uuid4())
        event = {"content_id": nobody, "author_id": nobody, "title": "t", "actor_id": nobody, "version": 1}
        await connection.execute(EVENT, event_id, msgspec.json.encode(event))
        began = time.perf_counter()
        while not await connection.fetchval(RECORDED, str(event_id)):  # noqa: ASYNC110 - the truth is in another process
            await asyncio.sleep(0.002)
        return time.perf_counter() - began
    finally:
        await connection.close()


def wait_ready(log: Path, up: "subprocess.Popen[bytes]") -> None:
    """Return when the system is up. Raises RuntimeError when it ends before, TimeoutError when it is late."""
    ends_at = time.monotonic() + READY_S
    while "Up." not in log.read_text():
        if up.poll() is not None:
            raise RuntimeError(log.read_text())
        if time.monotonic() > ends_at:
            raise TimeoutError(f"not up in {READY_S:g} s")
        time.sleep(0.2)
    time.sleep(SETTLE_S)


def measure(data: Path, seconds: float) -> None:
    """Run the system, and print what it costs."""
    log, (http, ops) = data / "up.log", free_ports(2)
    places = {"CALLBOARD_DATA_DIR": str(data / "data"), "HTTP_PORT": str(http), "OPS_PORT": str(ops)}
    with log.open("wb") as output:
        up = subprocess.Popen(  # noqa: S603 - our own command
            [Path(sys.executable).with_name("callboard"), "up"], env=os.environ | places, stdout=output, stderr=output
        )
    try:
        wait_ready(log, up)
        process = psutil.Process(up.pid)
        broker = next(child for child in process.children(recursive=True) if "tansu" in child.name())
        before, began = (used_s(process), used_s(broker)), time.perf_counter()
        time.sleep(seconds)
        took_s = time.perf_counter() - began
        shares = [100 * (used_s(each) - at) / took_s for each, at in zip((process, broker), before, strict=True)]
        print(f"callboard {shares[0]:.2f} %, broker {shares[1]:.2f} %, together {sum(shares):.2f} % of a core")  # noqa: T201 - what it is for
        url = str((read_running(data / "data") or {})["DATABASE_URL"])
        events = [asyncio.run(first_event_s(url)) for _ in range(EVENTS)]
        print(f"first events: median {statistics.median(events) * 1000:.0f} ms, most {max(events) * 1000:.0f} ms")  # noqa: T201 - what it is for
    finally:
        up.terminate()
        up.wait(30)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="callboard-idle-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        measure(Path(folder), float(sys.argv[1]) if len(sys.argv) > 1 else 30.0)
