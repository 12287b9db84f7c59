"""The connection to S3: one client, a bounded number of calls at once, and a circuit breaker."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from callboard.actors.errors import SERVER_UNAVAILABLE, Problem
from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker
from callboard.actors.infrastructure.errors import STORE_FULL, STORE_LOST
from callboard.actors.infrastructure.object_store import StoreFaults

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

CONNECT_S, READ_S = 2.0, 10.0
FULL = frozenset({"QuotaExceeded", "XMinioStorageFull"})
MISSING = frozenset({"404", "InvalidRange", "NoSuchKey", "NoSuchUpload"})
INSUFFICIENT_STORAGE = 507
MAX_REASON = 200  # characters
SESSION = get_session()  # it reads the description of S3 once

T = TypeVar("T")


class S3Settings(msgspec.Struct, frozen=True):
    """The bucket, and how to reach it. Without a key the machine's own role is used."""

    bucket: str
    region: str = ""
    endpoint_url: str = ""
    key_id: str = ""
    secret_key: str = ""

    def __repr__(self) -> str:
        """Return the bucket alone."""
        return f"S3Settings({self.bucket})"


class S3Connection:
    """Calls S3. While it is unavailable, the circuit breaker refuses calls at once; `reason` is the last failure."""

    def __init__(self, settings: S3Settings, connections: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.reason = ""
        self._most = connections
        self._clock = clock
        self._turns = asyncio.Semaphore(connections)
        self._running = 0
        self._breaker = CircuitBreaker(random.Random())  # noqa: S311 - jitter
        self._faults = StoreFaults(f"the bucket {settings.bucket}", clock)
        self._stack = AsyncExitStack()
        self._client: S3Client | None = None

    async def open(self) -> None:
        """Make the one client, which connects when it is used. Making it takes a tenth of a second."""
        settings = self.settings
        config = AioConfig(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            max_pool_connections=self._most,
            retries={"total_max_attempts": 2, "mode": "standard"},
            s3={"addressing_style": "path" if settings.endpoint_url else "auto"},
            request_checksum_calculation="when_required",  # servers like S3 refuse the newer ones
            response_checksum_validation="when_required",
        )
        client = SESSION.create_client(
            "s3",
            region_name=settings.region or None,
            endpoint_url=settings.endpoint_url or None,
            aws_access_key_id=settings.key_id or None,
            aws_secret_access_key=settings.secret_key or None,
            config=config,
        )
        self._client = await self._stack.enter_async_context(client)

    async def close(self) -> None:
        """Close the client."""
        self._client = None
        await self._stack.aclose()

    async def ask(self, call: "Callable[[S3Client], Coroutine[Any, Any, T]]") -> T:
        """Make a call. Raises Problem(SERVER_UNAVAILABLE, STORE_FULL), and STORE_LOST for what is not there."""
        if self._client is None:
            raise Problem(SERVER_UNAVAILABLE)
        async with self._turns:
            now = self._clock()
            if self._running >= self._breaker.allows(now, self._most):
                raise Problem(SERVER_UNAVAILABLE, retry_after_s=self._breaker.probe_in(now))
            self._running += 1
            try:
                answer = await call(self._client)
            except ClientError as error:
                raise self._refusal(error) from error
            except (BotoCoreError, OSError, TimeoutError) as error:  # their texts have the address of the object
                raise self._unavailable(type(error).__name__) from error
            finally:
                self._running -= 1
            self._breaker.succeeded(self._clock(), self._most)
            return answer

    def _refusal(self, error: ClientError) -> Problem:
        said, status = error.response["Error"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        code = said.get("Code", "")
        if code in MISSING:
            self._breaker.succeeded(self._clock(), self._most)
            return Problem(STORE_LOST)
        if code in FULL or status == INSUFFICIENT_STORAGE:
            self._faults.unavailable(code)
            return Problem(STORE_FULL)
        return self._unavailable(f"{code}: {said.get('Message', '')}"[:MAX_REASON])

    def _unavailable(self, reason: str) -> Problem:
        self.reason = reason
        self._breaker.failed(self._clock())
        return self._faults.unavailable(reason)
