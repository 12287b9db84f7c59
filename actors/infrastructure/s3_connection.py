"""The connection to S3: one client, a bounded number of calls at once, and a circuit breaker."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from callboard.actors.errors import SERVER_UNAVAILABLE, Problem
from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker, CircuitOpenError
from callboard.actors.infrastructure.errors import STORE_FULL, STORE_LOST
from callboard.actors.infrastructure.object_store import StoreFaults
from callboard.actors.infrastructure.retry import RetryPolicy, retry
from callboard.runtime import Backoff, SpanKind, begin_span

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

CONNECT_S, READ_S = 2.0, 10.0
FULL = frozenset({"QuotaExceeded", "XMinioStorageFull"})
MISSING = frozenset({"404", "InvalidRange", "NoSuchKey", "NoSuchUpload"})
INSUFFICIENT_STORAGE = 507
# Statuses and codes that say that no request can be served now: of our key, of the bucket, and of too many requests.
REFUSES_ALL = frozenset({401, 403, 408, 429, "NoSuchBucket", "RequestTimeout", "Throttling", "ThrottlingException"})
UNREACHABLE = (BotoCoreError, OSError, TimeoutError)
POLICY = RetryPolicy(2, Backoff(initial_s=0.1, max_s=0.5, jitter=1.0), within_s=CONNECT_S + READ_S)
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

    def __init__(self, settings: S3Settings, connections: int, breaker: CircuitBreaker) -> None:
        self.settings = settings
        self.reason = ""
        self._most = connections
        self._turns = asyncio.Semaphore(connections)
        self.breaker = breaker
        self._faults = StoreFaults(f"the bucket {settings.bucket}")
        self._stack = AsyncExitStack()
        self._client: S3Client | None = None

    async def open(self) -> None:
        """Make the one client, which connects when it is used. Making it takes a tenth of a second."""
        settings = self.settings
        config = AioConfig(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            max_pool_connections=self._most,
            retries={"total_max_attempts": 1},  # `retry` is ours
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
        events = self._client.meta.events
        events.register("before-call.s3", _begin_span)
        events.register("after-call.s3", _end_span)
        events.register("after-call-error.s3", _end_span)

    async def close(self) -> None:
        """Close the client."""
        self._client = None
        await self._stack.aclose()

    async def ask(self, call: "Callable[[S3Client], Coroutine[Any, Any, T]]") -> T:
        """Make a call. Raises Problem(SERVER_UNAVAILABLE, STORE_FULL), and STORE_LOST for what is not there."""
        client = self._client
        if client is None:
            raise Problem(SERVER_UNAVAILABLE)
        async with self._turns:
            try:
                with self.breaker.call(fault_of, self._most):
                    return await retry(lambda: call(client), POLICY, lambda error: 0.0 if fault_of(error) else None)
            except CircuitOpenError as error:
                raise Problem(SERVER_UNAVAILABLE, retry_after_s=error.retry_after_s) from error
            except ClientError as error:
                raise self._refusal(error) from error
            except UNREACHABLE as error:
                self.reason = fault_of(error) or ""
                raise self._faults.unavailable(self.reason) from error

    def _refusal(self, error: ClientError) -> Problem:
        code, status = code_of(error)
        if code in MISSING:
            return Problem(STORE_LOST)
        if code in FULL or status == INSUFFICIENT_STORAGE:
            self._faults.unavailable(code)
            return Problem(STORE_FULL)
        self.reason = words_of(error)
        return self._faults.unavailable(self.reason)


def code_of(error: ClientError) -> tuple[str, int]:
    """Return S3's code of an error, and the HTTP status."""
    return error.response["Error"].get("Code", ""), error.response["ResponseMetadata"]["HTTPStatusCode"]


def words_of(error: ClientError) -> str:
    """Return S3's code of an error and its message."""
    return f"{code_of(error)[0]}: {error.response['Error'].get('Message', '')}"[:MAX_REASON]


def fault_of(error: Exception) -> str | None:
    """Return the reason if the bucket is at fault: it cannot be reached, is too busy, or refuses all our requests.

    It is empty if the bucket has answered and only this request is wrong.
    """
    if isinstance(error, ClientError):
        code, status = code_of(error)
        is_ours = 400 <= status < 500 and status not in REFUSES_ALL and code not in REFUSES_ALL  # noqa: PLR2004 - 4xx
        is_answer = is_ours or code in MISSING or code in FULL or status == INSUFFICIENT_STORAGE
        return "" if is_answer else words_of(error)
    return type(error).__name__ if isinstance(error, UNREACHABLE) else None  # its text has the address of the object


def _begin_span(model: Any, context: dict[str, Any], **_: Any) -> None:
    """See botocore's event before-call."""
    context["span"] = begin_span(f"EXT s3 {model.name}", SpanKind.CLIENT)


def _end_span(context: dict[str, Any], exception: BaseException | None = None, **_: Any) -> None:
    """See botocore's events after-call and after-call-error."""
    if (span := context.get("span")) is not None:
        span.end(exception)
