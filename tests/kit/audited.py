"""Requests to the domain from somewhere, and what the audit log has of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from callboard.actors.infrastructure.audit_log import AuditEntry, ListAuditEntries
from callboard.actors.infrastructure.principals import Principal
from callboard.runtime import Context, use_context
from kit.domain import Domain

TRACE = "0af7651916cd43dd8448eb211c80319c"


class From(msgspec.Struct, frozen=True):
    """A request's origin, as the front door gives it."""

    ip: str = "203.0.113.7"
    user_agent: str = "a browser"
    caller: Principal | None = None


@contextmanager
def request(origin: Any = None) -> Iterator[None]:
    """Ask as the front door does for a request from there."""
    with use_context(Context(f"00-{TRACE}-b7ad6b7169203331-01", baggage=origin or From())):
        yield


async def entries(domain: Domain, **filters: Any) -> list[AuditEntry]:
    return await domain.audit_log.ask(ListAuditEntries(filters.pop("limit", 100), **filters))


async def actions(domain: Domain, **filters: Any) -> list[str]:
    """The actions, oldest first."""
    return [entry.action for entry in reversed(await entries(domain, **filters))]
