"""The public face of the runtime: one sorted list, and nothing public beside it but what is internal on purpose."""

import importlib
import inspect
import pkgutil

import callboard.runtime
from callboard.runtime import testkit

# What modules need of each other, and no user of the library. The test kit is a face of its own.
INTERNAL = {
    "concurrent": {"ConcurrentCell", "cell_of"},
    "context": {"Envelope"},
    "deadlines": {"Deadlines", "Queue", "deadlines", "expire"},
    "entity": {"Entity", "Phase"},
    "errors": {"for_asker", "shown"},
    "handlers": {"Answers", "Handlers", "Marker", "Takes", "collect", "open_envelope", "protocol_of", "to_await"},
    "handover": {"Handover"},
    "inbox": {"Inbox", "Rare", "message_of", "timer_of", "waits_on_reply"},
    "life": {"Life", "cancelled", "in_task", "new_task"},
    "mailbox": {"Accepted"},
    "pool": {"made", "total"},
    "rates": {"Look", "Rates"},
    "ref": {"time_left"},
    "senders": {"Senders", "let_go_on"},
    "settings": {"Field"},
    "stalls": {"Work"},
    "stress": {"replay"},
    "supervisor": {"is_being_cancelled"},
    "tree": {"Record", "spec_of"},
}


def test_all_is_one_sorted_list_without_doubles_and_each_name_is_there() -> None:
    names = callboard.runtime.__all__
    assert sorted(set(names)) == sorted(names)
    # As ruff sorts it: constants, classes, then the rest.
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert [name for name in names if not hasattr(callboard.runtime, name)] == []


def test_every_public_name_of_the_modules_is_in_all_or_internal_on_purpose() -> None:
    beside: dict[str, set[str]] = {}
    for module in pkgutil.iter_modules(callboard.runtime.__path__):
        found = vars(importlib.import_module(f"callboard.runtime.{module.name}"))
        own = {
            name
            for name, value in found.items()
            if (inspect.isclass(value) or inspect.isfunction(value))
            and value.__module__ == f"callboard.runtime.{module.name}"
            and not name.startswith("_")
        }
        beside[module.name] = own - set(callboard.runtime.__all__) - vars(testkit).keys()
    assert {name: own for name, own in beside.items() if own} == INTERNAL


def test_it_imports_nothing_of_the_rest_and_only_two_libraries() -> None:
    """msgspec, and anyio where it is needed at all."""
    roots: set[str] = set()
    for module in pkgutil.iter_modules(callboard.runtime.__path__):
        source = inspect.getsource(importlib.import_module(f"callboard.runtime.{module.name}"))
        for line in source.splitlines():
            words = line.split()
            if len(words) > 1 and words[0] in ("import", "from"):
                roots.add(words[1] if words[1].startswith("callboard.") else words[1].partition(".")[0])
    foreign = {root for root in roots if root.startswith("callboard.") and not root.startswith("callboard.runtime")}
    assert foreign == set()
