"""The headers of a response: request ids, W3C trace context, security headers, CORS, limits.

CORS is implemented here, since the library for it needs aiohttp's own router.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from math import ceil
from random import Random

from aiohttp.hdrs import AUTHORIZATION
from multidict import CIMultiDictProxy, istr

from callboard.actors.errors import REQUEST_INVALID, FieldError, Problem
from callboard.actors.infrastructure.rate_limiter import LimitResult

JSON_POLICY = "default-src 'none'; frame-ancestors 'none'"

SECURITY = {
    "Server": "callboard",  # else aiohttp sends its version
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": JSON_POLICY,
    "Cache-Control": "no-store",
}
# For servers behind HTTPS: browsers use no plain HTTP for a year (RFC 6797).
HSTS = {"Strict-Transport-Security": "max-age=31536000"}

ANY_ORIGIN = "*"
CORS_METHODS = "GET, POST, PUT, PATCH, DELETE"
CORS_MAX_AGE_S = "3600"
CORS_REQUEST = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, Tus-Resumable, "
    "Upload-Checksum, Upload-Concat, Upload-Defer-Length, Upload-Length, Upload-Metadata, Upload-Offset, "
    "X-HTTP-Method-Override, X-Request-ID, X-Request-Timeout, traceparent"
)
CORS_EXPOSED = (
    "Deprecation, ETag, Idempotency-Replayed, Link, Location, RateLimit, RateLimit-Policy, Retry-After, Sunset, "
    "Tus-Checksum-Algorithm, Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, Upload-Concat, "
    "Upload-Defer-Length, Upload-Expires, Upload-Length, Upload-Metadata, Upload-Offset, X-Request-ID"
)

EXPOSED = {"Access-Control-Expose-Headers": CORS_EXPOSED}

# Lookups in this type need no case folding; each request makes four.
PARENT, REQUEST_ID, TIMEOUT = istr("traceparent"), istr("X-Request-ID"), istr("X-Request-Timeout")

SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")
WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
PROBLEM_JSON = "application/problem+json"
Samples = Callable[[str, str | None], bool]  # of a trace id, and the flags that the caller has sent
NO_TRACE, NO_SPAN = "0" * 32, "0" * 16
NOT_ZERO = 1 << 128 | 1  # a trace id and a span id of zeros are invalid


def joined(headers: CIMultiDictProxy[str], name: str) -> str | None:
    """Return a list header as one list: several lines of one header are one list (RFC 9110, 5.2)."""
    lines = headers.getall(name, None)
    if lines is None:
        return None
    return lines[0] if len(lines) == 1 else ", ".join(lines)


def parse_date(text: str) -> datetime | None:
    """Return the time of an HTTP date; None for any other text."""
    try:
        time = parsedate_to_datetime(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def single(headers: CIMultiDictProxy[str], name: str) -> str | None:
    """Return a header that is no list. Raises Problem(REQUEST_INVALID) for several lines: the writer of the first, such
    as a proxy, does not know the second.
    """
    lines = headers.getall(name, None)
    if lines is None:
        return None
    if len(lines) > 1:
        raise Problem(REQUEST_INVALID, details=(FieldError(str(name), "Must be given once."),))
    return lines[0]


def trace_context(
    headers: CIMultiDictProxy[str], rng: Random, samples: Samples | None = None
) -> tuple[str, str, str | None]:
    """Return the traceparent of this request's own span, its trace id, and the id of the caller's span: a valid
    traceparent is continued. `samples` decides the last digit of its flags.
    """
    made = (rng.getrandbits(192) | NOT_ZERO).to_bytes(24).hex()
    span, trace_id = made[:16], made[16:]
    sent = headers.getall(PARENT, ())
    if len(sent) == 1 and (match := TRACEPARENT.fullmatch(sent[0])):
        version, continued, parent, flags, more = match.groups()
        fits = version != "ff" and (more is None or version != "00")
        if fits and continued != NO_TRACE and parent != NO_SPAN:
            if samples is not None:
                flags = f"{int(flags, 16) & ~1 | samples(continued, flags):02x}"
            return f"00-{continued}-{span}-{flags}", continued, parent
    if samples is None or samples(trace_id, None):
        return f"00-{trace_id}-{span}-01", trace_id, None
    return f"00-{trace_id}-{span}-00", trace_id, None


def request_id(headers: CIMultiDictProxy[str], trace_id: str) -> str:
    """Return the client's X-Request-ID if it is one and safe, else the trace id."""
    sent = headers.getall(REQUEST_ID, ())
    return sent[0] if len(sent) == 1 and SAFE_ID.fullmatch(sent[0]) else trace_id


def timeout_s(headers: CIMultiDictProxy[str]) -> float | None:
    """Return the client's X-Request-Timeout in seconds. Raises Problem(REQUEST_INVALID)."""
    sent = single(headers, TIMEOUT)
    if sent is None:
        return None
    if not SECONDS.fullmatch(sent) or not float(sent):
        detail = FieldError("X-Request-Timeout", "Must be a number of seconds above 0, such as 2.5.")
        raise Problem(REQUEST_INVALID, details=(detail,))
    return float(sent)


def wants_problem(headers: CIMultiDictProxy[str]) -> bool:
    """Whether errors are sent as RFC 9457: if the client names the type, and prefers it to JSON (RFC 9110, 12.5.1)."""
    accept = joined(headers, "Accept")
    if accept is None or PROBLEM_JSON not in accept.lower():
        return False
    weights = {"application/json": 0.0, PROBLEM_JSON: 0.0}
    for each in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in each.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        if kind in weights and WEIGHT.fullmatch(weight):
            weights[kind] = float(weight)
    return weights[PROBLEM_JSON] > 0 and weights[PROBLEM_JSON] >= weights["application/json"]


def bearer(headers: CIMultiDictProxy[str]) -> str | None:
    """Return the token of `Authorization: Bearer`; empty for another scheme, None without the header.

    Raises Problem(REQUEST_INVALID) for a second Authorization.
    """
    sent = single(headers, AUTHORIZATION)
    if sent is None:
        return None
    scheme, _, token = sent.partition(" ")
    return token.strip() if scheme.lower() == "bearer" and sent.isascii() else ""


def limits(limit_results: Mapping[str, LimitResult]) -> bytes:
    """Encode RateLimit and RateLimit-Policy by draft-ietf-httpapi-ratelimit-headers-10."""
    room = policies = ""
    for name, each in limit_results.items():
        room += f', "{name}";r={each.remaining};t={ceil(each.reset_s)}'
        policies += _policy(name, each.limit, each.window_s)
    return f"RateLimit: {room[2:]}\r\nRateLimit-Policy: {policies[2:]}\r\n".encode()


@lru_cache(256)
def _policy(name: str, limit: int, window_s: float) -> str:
    return f', "{name}";q={limit};w={ceil(window_s)}'


def cors(headers: Mapping[str, str], origins: Collection[str]) -> dict[str, str]:
    """Return the CORS headers for a browser of an allowed origin. Origins named one by one may send credentials; `*`
    lets any page read responses that need no credentials.
    """
    if not origins:
        return {}
    origin = headers.get("Origin")
    if ANY_ORIGIN in origins:
        return {} if origin is None else {"Access-Control-Allow-Origin": "*", **EXPOSED}
    if origin is None or origin not in origins:
        return {"Vary": "Origin"}
    allowed = {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"}
    return {"Vary": "Origin", **allowed, **EXPOSED}


def preflight(headers: Mapping[str, str], allowed: Sequence[str], origins: Collection[str]) -> dict[str, str]:
    """Return the headers of a response to OPTIONS, beside those of `cors`."""
    answer = {"Allow": ", ".join(allowed)}
    if "Access-Control-Allow-Origin" in cors(headers, origins) and "Access-Control-Request-Method" in headers:
        answer["Access-Control-Allow-Methods"] = CORS_METHODS
        answer["Access-Control-Allow-Headers"] = CORS_REQUEST
        answer["Access-Control-Max-Age"] = CORS_MAX_AGE_S
    return answer
