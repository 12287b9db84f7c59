"""The tables of the file that configure a running tree: pools, limits and mail producers.

    [pools.mail]                # see callboard.runtime.settings
    size = 5

    [limits.login]              # one of the policies that the tree declares
    limit = 10                  # requests ...
    window_s = 60               # ... in so many seconds
    shadow = false              # true: only counted, nobody is refused

    [mail_producers]            # instead of MAIL_PRODUCERS
    "/shop" = "500/hour example.org,*.example.net"

What they do not name stays as it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from callboard.actors.delivery.mail_producers import MailProducer, MailProducers, parse_mail_producer
from callboard.actors.department import AnyDepartment
from callboard.actors.infrastructure.rate_limiter import Policy
from callboard.ops.config.conversion import convert
from callboard.runtime import Entities, Pool, SettingsError, apply_pools, plan_pools


class Reloadable(Protocol):
    """The parts of a system that the tables configure: pools and policies of limits, by name."""

    @property
    def pools(self) -> Mapping[str, Pool[Any] | Entities[Any]]:
        """All there are, also those that do not run in this role."""

    @property
    def policies(self) -> dict[str, Policy]:
        """As the limiter sees them."""

    @property
    def packages(self) -> Sequence[AnyDepartment]:
        """The departments of packages."""

    @property
    def mail_producers(self) -> MailProducers:
        """The programs that may have mails sent."""


class Change(msgspec.Struct, frozen=True):
    """One changed setting; a secret's values are not in it."""

    name: str
    old: Any
    new: Any

    def __str__(self) -> str:
        """For the log."""
        return f"{self.name} was {self.old}, is {self.new}"


class Plan(msgspec.Struct, frozen=True):
    """The tables as they will be applied; every fault is in `faults`, with its path."""

    pools: dict[str, Any]
    policies: dict[str, Policy]
    producers: tuple[MailProducer, ...] | None
    faults: list[str]


def plan(tuned: Reloadable, tables: Mapping[str, Any]) -> Plan:
    """Hold tables against what they are about."""
    pools = {"pools": tables.get("pools", {})}
    faults: list[str] = []
    try:
        plan_pools(tuned.pools, pools)
    except SettingsError as error:
        faults += error.faults
    policies = plan_limits(tuned.policies, tables.get("limits", {}), faults)
    producers = plan_mail_producers(tables.get("mail_producers"), faults)
    return Plan(pools, policies, producers, faults)


async def apply(tuned: Reloadable, planned: Plan) -> list[Change]:
    """Apply a plan without faults; return what has changed. If a worker does not start, nothing has."""
    changes = [
        Change(f"pools.{each.pool}.{each.field}", each.before, each.after)
        for each in await apply_pools(tuned.pools, planned.pools)
    ]
    for name, policy in planned.policies.items():
        before = tuned.policies[name]
        tuned.policies[name] = policy
        changes += [
            Change(f"limits.{name}.{field}", getattr(before, field), getattr(policy, field))
            for field in FIELDS
            if getattr(before, field) != getattr(policy, field)
        ]
    if planned.producers is not None and planned.producers != tuned.mail_producers.named:
        changes.append(Change("mail_producers", _sources(tuned.mail_producers.named), _sources(planned.producers)))
        tuned.mail_producers.replace(planned.producers)
    return changes


def _sources(producers: Sequence[MailProducer]) -> str:
    return ", ".join(each.source for each in producers) or "none"


# Limits --------------------------------------------------------------------------------------------------------------


FIELDS = {each.name: each.type for each in msgspec.structs.fields(Policy)}


def plan_limits(policies: Mapping[str, Policy], tables: Any, faults: list[str]) -> dict[str, Policy]:
    """The policies that the tables below `limits` change, as they will be. Adds to `faults` each with its path."""
    if not isinstance(tables, Mapping):
        faults.append("limits: must be a table, [limits.NAME]")
        return {}
    planned = {}
    for name, table in tables.items():
        if name not in policies:
            faults.append(f"limits.{name}: is unknown; there are {', '.join(policies)}")
        elif not isinstance(table, Mapping):
            faults.append(f"limits.{name}: must be a table, [limits.{name}]")
        else:
            policy = msgspec.structs.replace(policies[name], **dict(_values(name, table, faults)))
            if policy != policies[name]:
                planned[name] = policy
    return planned


def _values(name: str, table: Mapping[str, Any], faults: list[str]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        try:
            if key not in FIELDS:
                raise ValueError(f"is unknown; there are {', '.join(FIELDS)}")  # noqa: TRY301 - one way for all faults
            yield key, convert(FIELDS[key], value, text=False)
        except ValueError as error:
            faults.append(f"limits.{name}.{key}: {error}")


# Mail producers ------------------------------------------------------------------------------------------------------


def plan_mail_producers(table: Any, faults: list[str]) -> tuple[MailProducer, ...] | None:
    """The producers that the table names; None without a table. Adds to `faults` each with its path."""
    if table is None:
        return None
    if not isinstance(table, Mapping):
        faults.append("mail_producers: must be a table, [mail_producers]")
        return None
    planned: list[MailProducer] = []
    for source, rule in table.items():
        try:
            if not isinstance(rule, str):
                raise ValueError("must be a text such as '500/hour example.org'")  # noqa: TRY004, TRY301 - one way for all faults
            planned.append(parse_mail_producer(source, rule))
        except ValueError as error:
            faults.append(f"mail_producers.{source}: {error}")
    return tuple(planned)
