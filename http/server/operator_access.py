"""Access to the operator plane: allowed host names, and the operators' token.

The check of host names stops DNS rebinding: a stranger's page, whose name resolves to our address, cannot read the
plane. The check of origins stops the requests that a browser sends for such a page without asking us first. The token
cannot be guessed at the speed of the network.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Callable
from ipaddress import ip_address

from callboard.actors.errors import AUTH_TOKEN_INVALID, REQUEST_HOST, REQUEST_LIMITED, Problem
from callboard.actors.infrastructure.rate_limiter import LocalLimiter, Policy
from callboard.http.server.client_ip import rate_limit_address

AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?", re.ASCII)
WRONG_TOKENS = Policy(10, 60)  # wrong tokens of one address; then one each six seconds, by default


class AllowedHosts:
    """The host names of a listener: any IP address, localhost, and the names that are given."""

    def __init__(self, names: frozenset[str] = frozenset()) -> None:
        self._names = {"localhost", *(name.lower().rstrip(".") for name in names)}

    def check(self, authority: str) -> None:
        """Raise Problem(REQUEST_HOST) unless the Host header, or the target's authority, is an allowed name."""
        found = AUTHORITY.fullmatch(authority)
        if found is None or not self._is_allowed(found[1].lower()):
            raise Problem(REQUEST_HOST)

    def check_origin(self, origin: str, authority: str) -> None:
        """Raise Problem(REQUEST_HOST) for a request of a page that is not of this listener: no command line sends an
        Origin.
        """
        if origin.partition("://")[2].lower() != authority.lower():
            raise Problem(REQUEST_HOST, "The operator plane answers no page of another origin.")

    def _is_allowed(self, host: str) -> bool:
        if host.rstrip(".") in self._names:
            return True
        in_brackets = host.startswith("[")
        try:
            return (ip_address(host.strip("[]")).version == 6) == in_brackets  # noqa: PLR2004 - IPv6
        except ValueError:
            return False


class OperatorToken:
    """The operators' token. Wrong tokens delay their own address only."""

    def __init__(self, token: str, now: Callable[[], float] = time.monotonic, *, wrong: Policy = WRONG_TOKENS) -> None:
        self._hash = _hash(token)
        self._policy = wrong
        self._wrong = LocalLimiter(now)  # its memory is bounded

    def check(self, token: str, ip: str) -> None:
        """Raise Problem(AUTH_TOKEN_INVALID), or REQUEST_LIMITED for an address with too many wrong tokens.

        A limited address is refused with the right token too: otherwise the limit would not stop guesses.
        """
        key = rate_limit_address(ip)
        verdict = self._wrong.check(key, self._policy, count=False)
        if not verdict.allowed:
            raise Problem(REQUEST_LIMITED, retry_after_s=verdict.retry_after_s)
        if not hmac.compare_digest(_hash(token), self._hash):
            self._wrong.check(key, self._policy)
            raise Problem(AUTH_TOKEN_INVALID)


def _hash(token: str) -> bytes:
    """Hash the token: a digest has one length, so the comparison takes constant time."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
