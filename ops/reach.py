"""The reach of references: an actor that runs in more processes than another may not hold a reference to it.

In a process without the other, its messages would wait for nobody. Such work is reached by a job or an event instead.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any, NamedTuple

from callboard.actors.department import Branch, Role
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.redis import RedisClient
from callboard.actors.infrastructure.refs import Clients, Observers
from callboard.runtime import Cell, Entities, Node, Ref, Supervisor


class Holder(NamedTuple):
    """A part of a branch that may hold references, and the role without which it does not run; None: it always runs."""

    name: str
    role: Role | None
    held: object


class Target(NamedTuple):
    """An actor of a branch that runs only with a role."""

    name: str
    role: Role


def out_of_reach(branches: Mapping[str, Branch[Any]]) -> Iterator[str]:
    """Return a fault for each reference to an actor that runs in fewer processes than its holder."""
    targets = {
        id(node): Target(f"{name}/{node.name}", role)
        for name, branch in branches.items()
        for top, role in _nodes(branch)
        if role is not None
        for node in _below(top)
    }
    clean: dict[int, object] = {}
    for name, branch in branches.items():
        for holder in _holders(branch):
            for target in _found(holder.held, targets, clean):
                if target.role != holder.role:
                    runs = f"with the role {holder.role}" if holder.role else "in every process"
                    held = f"a reference to {target.name}, which runs only with the role {target.role}"
                    yield f"{name}: {holder.name} runs {runs} and holds {held}: use a job or an event"


def _nodes(branch: Branch[Any]) -> Iterator[tuple[Node, Role | None]]:
    yield from ((child.node, child.role) for child in branch.children)
    yield from ((handler.pool, Role.WORKERS) for handler in branch.jobs)


def _below(node: Node) -> Iterator[Node]:
    """Return a node and all nodes below it."""
    yield node
    if isinstance(node, Supervisor):
        for child in node.children:
            yield from _below(child)


def _holders(branch: Branch[Any]) -> Iterator[Holder]:
    for field in branch.refs.__struct_fields__:
        yield Holder(f"the offer {field}", None, getattr(branch.refs, field))
    for node, role in _nodes(branch):
        makes = [each.make for each in _below(node) if isinstance(each, Cell | Entities)]
        yield Holder(node.name, role, makes)
    for consumer in branch.consumers:
        yield Holder(f"the consumer {consumer.name}", Role.STREAMS, (consumer.ref, consumer.admit))
    for rule in branch.retention:
        yield Holder(f"the rule of retention {rule.name}", Role.WORKERS, rule)
    for name, check in branch.checks.items():
        yield Holder(f"the check {name}", None, check)


def _found(held: object, targets: Mapping[int, Target], clean: dict[int, object]) -> list[Target]:
    """Return the targets among the references that a value holds, however deep.

    Neither a reference is entered nor what the process gives to its departments, which is older than their actors.
    Values from which no target was found are put into `clean`, and not entered again: holders share nearly all of them.
    """
    found: list[Target] = []
    seen: dict[int, object] = {}
    waiting = [held]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or id(value) in clean:
            continue
        seen[id(value)] = value
        if id(value) in targets:
            found.append(targets[id(value)])
        elif not isinstance(value, Ref | Node | Clients | Database | RedisClient | Observers):
            waiting += _inside(value)
    if not found:
        clean |= seen
    return found


def _inside(value: Any) -> Iterator[object]:
    """Return the values that a value consists of: items, arguments, closures and attributes. Classes have none."""
    match value:
        case str() | bytes() | int() | float() | type() | None:
            return
        case Mapping():
            yield from value.keys()
            yield from value.values()
        case tuple() | list() | set() | frozenset():
            yield from value
        case partial():
            yield from (value.func, value.args, value.keywords)
        case MethodType():
            yield from (value.__func__, value.__self__)
        case FunctionType():
            yield from (cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell))
            yield value.__defaults__
        case _ if type(value).__module__ != "builtins":
            yield from getattr(value, "__dict__", {}).values()
            slots = (name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()))
            yield from (getattr(value, name, None) for name in slots)
        case _:
            return


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - reading it raises
    except ValueError:
        return False
    return True
