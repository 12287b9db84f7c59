"""Idempotency-Key on the routes that create: the same request again gets the response of the first
(draft-ietf-httpapi-idempotency-key-header-07).

Only the response of the work itself is stored. A request that is refused before it (bad body, no token, over a limit)
leaves the key free, and so does one that fails on our side (5xx) or is limited (429).
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable

from multidict import CIMultiDictProxy

from callboard.actors.errors import REQUEST_INVALID, REQUEST_KEY_BUSY, FieldError, Problem
from callboard.actors.infrastructure.idempotency import (
    Claim,
    ClaimKey,
    ReleaseKey,
    StoredResponse,
    StoreResponse,
    key_name,
)
from callboard.http.server.raw_request import RawRequest
from callboard.http.server.response import Response
from callboard.runtime import Context, Ref, Refusal, RuntimeFault, use_context

HEADER = "Idempotency-Key"
PRINTABLE = re.compile(r"[\x20-\x7e]{1,255}")
KEPT_HEADERS = ("Content-Type", "ETag", "Location")
NOT_KEPT = frozenset({429, *range(500, 600)})

FIRST_LOOK_S = 0.02
LAST_LOOKS_S = 0.25
MARGIN_S = 0.1  # how long before its deadline a request stops waiting for another
GRACE_S = 1.0  # how long after its deadline a request's claim expires

log = logging.getLogger(__name__)


class IdempotencyStep:
    """Runs the work of a key once. `headers` are those that the route reads."""

    def __init__(self, keys: Ref[ClaimKey | StoreResponse | ReleaseKey], headers: Iterable[str] = ()) -> None:
        self._keys = keys
        self._headers = tuple(headers)

    async def answer(
        self,
        exchange: RawRequest,
        key: str,
        work: Callable[[RawRequest, Claim], Awaitable[Response]],
        replay: Callable[[RawRequest, StoredResponse], Response],
    ) -> Response:
        """Return the response of `work`, or the stored response of the request that did it before.

        Raises Problem: REQUEST_KEY_REUSED for other content, REQUEST_KEY_BUSY if the holder of the claim does not end
        in time, SERVER_UNAVAILABLE, and any exception of `work`.
        """
        claim = await self._claimed(exchange, key)
        if isinstance(claim, StoredResponse):
            return replay(exchange, claim)
        kept = False
        try:
            response = await work(exchange, claim)
            if response.status not in NOT_KEPT:
                kept = await self._keep(claim, response)
        finally:
            if not kept:
                self._free(exchange, claim)
        return response

    async def _claimed(self, exchange: RawRequest, key: str) -> Claim | StoredResponse:
        caller, loop = exchange.caller, asyncio.get_running_loop()
        name = key_name(None if caller is None else caller.user_id, exchange.method, exchange.path, key)
        content = self._content(exchange)
        wait_s = FIRST_LOOK_S
        while True:
            now = loop.time()
            found = await self._keys.ask(ClaimKey(name, content, exchange.deadline - now + GRACE_S))
            if found is not None:
                return found
            if exchange.due - now - wait_s < MARGIN_S:
                raise Problem(REQUEST_KEY_BUSY, retry_after_s=1)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LAST_LOOKS_S)

    def _content(self, exchange: RawRequest) -> bytes:
        """Return the bytes by which two requests are the same: the body, after the query and the headers that the route
        reads if there are any.
        """
        query = exchange.message.path.partition("?")[2]
        sent = [f"{name}:{value}" for name in self._headers for value in exchange.headers.getall(name, ())]
        if not query and not sent:
            return exchange.body
        return "\n".join((query, *sent, "", "")).encode("utf-8", "surrogateescape") + exchange.body

    async def _keep(self, claim: Claim, response: Response) -> bool:
        headers = {name: value for name, value in response.headers.items() if name in KEPT_HEADERS}
        body = response.body if isinstance(response.body, bytes) else b""
        try:
            await self._keys.ask(StoreResponse(claim, StoredResponse(response.status, headers, body)))
        except (Refusal, RuntimeFault) as error:
            # The work is done, and the client is told. If it runs again under the same id, it finds its own result.
            log.warning("a response was not stored for its Idempotency-Key: %s", error)
            return False
        return True

    def _free(self, exchange: RawRequest, claim: Claim) -> None:
        # Outside of the request's deadline, which may be over.
        with use_context(Context(traceparent=exchange.traceparent)):
            try:
                self._keys.tell_nowait(ReleaseKey(claim))
            except RuntimeFault as error:
                log.warning("a claim of an Idempotency-Key was not released and will expire: %s", error)


def key_of(headers: CIMultiDictProxy[str]) -> str | None:
    """Return the request's key, 1 to 255 printable ASCII characters, unchanged. Raises Problem(REQUEST_INVALID)."""
    sent = headers.getall(HEADER, ())
    if not sent:
        return None
    if len(sent) > 1 or not PRINTABLE.fullmatch(sent[0]):
        detail = FieldError(HEADER, "Must be given once, and be 1 to 255 printable ASCII characters.")
        raise Problem(REQUEST_INVALID, details=(detail,))
    return sent[0]
