"""Drills: servers are stopped while people upload. Each client goes on from the offset that it is told, as the protocol
has it, and every byte is there once.
"""

import asyncio
import hashlib
import random
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from typing import Any

import aiohttp
import psutil
import pytest
from kit.drills import CLIENT_S, SEED
from kit.frozen import frozen
from kit.people import UserFactory
from kit.running import CallboardProcess, Up, one_up
from kit.server_states import OTHERS_STATES, State, hangs, is_slow
from kit.twins import ProcessGroup, twins

pytestmark = pytest.mark.servers

UPLOADERS, SIZE, CHUNK = 6, 6 << 20, 1 << 19
FAULT_S = 4.0
ENDS_S = 60.0
ROOM = {"MAX_UPLOAD_SIZE_MB": "20", "RATE_LIMIT_UPLOADS": "9999", "QUOTA_UPLOADS_PER_HOUR": "9999"}
TUS = {"Tus-Resumable": "1.0.0"}
FAULTS: dict[str, State] = {
    "postgresql hangs": hangs("postgres"),
    "postgresql takes 0.4 s a reply": is_slow("postgres", 0.4),
    "redis hangs": hangs("valkey"),
    "kafka hangs": hangs("broker"),
    "the folder is away": OTHERS_STATES["uploads are away"],
}


class Uploader:
    """One client with one file, which it sends again and again by pieces, until all of it is there."""

    def __init__(self, session: aiohttp.ClientSession, sites: list[CallboardProcess], token: str, data: bytes) -> None:
        self.session = session
        self.sites = sites
        self.headers = TUS | {"Authorization": f"Bearer {token}"}
        self.data = data
        self.outcomes: Counter[str] = Counter()
        self.longest_s = 0.0
        self.path = ""
        self._turn = 0

    async def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str]]:
        """One request; 0 if the server did not answer. After that the next one goes to another process."""
        began = time.monotonic()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        site = self.sites[self._turn % len(self.sites)]
        try:
            async with self.session.request(
                method, site.api.removesuffix("/api/v1") + path, data=body, headers=self.headers | named
            ) as response:
                await response.read()
                status, given = response.status, dict(response.headers)
        except (aiohttp.ClientError, TimeoutError):
            status, given = 0, {}
            self._turn += 1
        self.longest_s = max(self.longest_s, time.monotonic() - began)
        self.outcomes[f"{method} {status}"] += 1
        return status, given

    async def run(self) -> None:
        """Upload it whole."""
        while not self.path:
            status, given = await self.call("POST", "/api/v1/uploads", Upload_Length=str(len(self.data)))
            self.path = "/api/v1/uploads/" + given["Location"].rpartition("/")[2] if status == 201 else ""
            await asyncio.sleep(0 if self.path else 0.1)
        offset = 0
        while offset < len(self.data):
            kind = {"Upload_Offset": str(offset), "Content_Type": "application/offset+octet-stream"}
            status, given = await self.call("PATCH", self.path, self.data[offset : offset + CHUNK], **kind)
            if status != 204:
                await asyncio.sleep(0.1)
                status, given = await self.call("HEAD", self.path)
            offset = int(given["Upload-Offset"]) if status in (200, 204) else offset
            await asyncio.sleep(0.02)

    async def is_whole(self) -> bool:
        """Whether the file that is downloaded has every byte."""
        site = self.sites[0]
        url = f"{site.api.removesuffix('/api/v1')}{self.path}/file"
        async with self.session.get(url, headers=self.headers) as response:
            body = await response.read()
        return (response.status, hashlib.sha256(body).digest()) == (200, hashlib.sha256(self.data).digest())


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with one_up(ROOM | {"REQUEST_TIMEOUT_MS": "1800"}) as running:
        yield running


@pytest.fixture(scope="module")
def pair(up: Up) -> Iterator[ProcessGroup]:
    """Two processes on one folder."""
    with twins(up, 2, **ROOM, UPLOADS_FOLDER=str(up.data / "shared")) as made:
        yield made


async def play(name: str, uploaders: list[Uploader], fault: Coroutine[Any, Any, None]) -> None:
    """Upload while the fault happens; every file is whole in the end."""
    tasks = [asyncio.create_task(each.run()) for each in uploaders]
    await asyncio.sleep(0.3)
    assert not any(each.done() for each in tasks), "they have ended before the fault"
    await fault
    async with asyncio.timeout(ENDS_S):
        await asyncio.gather(*tasks)
    outcomes = sum((each.outcomes for each in uploaders), Counter[str]())
    longest_s = max(each.longest_s for each in uploaders)
    print(  # noqa: T201 - the measurement
        f"\nuploads while {name}: {len(uploaders)} of {SIZE >> 20} MB, {dict(outcomes)}, the longest request "
        f"{longest_s:.2f} s; seed {SEED}"
    )
    assert all([await each.is_whole() for each in uploaders])
    assert not [each for each in outcomes if each.split()[1] in ("500", "502")]


def files() -> list[bytes]:
    chance = random.Random(SEED)  # noqa: S311 - contents
    return [chance.randbytes(SIZE) for _ in range(UPLOADERS)]


@pytest.mark.parametrize("name", FAULTS)
async def test_every_upload_is_whole_though_a_server_is_away(up: Up, name: str) -> None:
    token = (await asyncio.to_thread(UserFactory(up.facts).person, "member")).token

    async def fault() -> None:
        async with FAULTS[name](up):
            await asyncio.sleep(FAULT_S)

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(15)) as session:
        uploaders = [Uploader(session, [up], token, data) for data in files()]
        await play(name, uploaders, fault())
    assert max(each.longest_s for each in uploaders) < 10 + CLIENT_S  # the time for a piece that makes no progress


async def test_every_upload_is_whole_though_its_process_is_stopped(pair: ProcessGroup) -> None:
    """Its clients go on with another, and it harms nothing when it goes on."""
    token = (await asyncio.to_thread(UserFactory(pair.environment).person, "member")).token
    one = pair.sites[0]

    async def fault() -> None:
        with frozen(psutil.Process(one.pid)):
            await asyncio.gather(*(each.finished.wait() for each in waiting))

    class Waiting(Uploader):
        """It says when it has ended."""

        finished: asyncio.Event

        async def run(self) -> None:
            await super().run()
            self.finished.set()

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(3)) as session:
        waiting = [Waiting(session, pair.sites, token, data) for data in files()]
        for each in waiting:
            each.finished = asyncio.Event()
        await play("its process is stopped", list(waiting), fault())
        await asyncio.sleep(1.0)  # the first process goes on
        assert all([await each.is_whole() for each in waiting])
