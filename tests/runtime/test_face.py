"""The public face of the runtime: one sorted list, and nothing public beside it but what is internal on purpose."""

import importlib
import inspect
import pkgutil

import callboard.runtime
from callboard.runtime import testkit

# What modules need of each other, and no user of the library. The test kit is a face of its own.
INTERNAL = {
    "actor.deadlines": {"Deadlines", "Queue", "deadlines", "expire"},
    "actor.envelope": {"Envelope", "is_ask", "message_of", "timer_of"},
    "actor.errors": {"as_text", "for_asker", "sound"},
    "actor.handlers": {
        "Answers",
        "HandlerMarker",
        "Handlers",
        "Takes",
        "collect",
        "is_awaitable",
        "open_envelope",
        "open_told",
        "protocol_of",
        "reply_with",
        "to_await",
    },
    "actor.mailbox": {"Accepted"},
    "actor.messages": {"Pair"},
    "actor.options": {"check_key", "check_types"},
    "actor.ref": {"Clock"},
    "actor.spans": {"Recording"},
    "dispatch.child_spec": {"spec_of"},
    "dispatch.cold_state": {"ColdState"},
    "dispatch.concurrent": {"ConcurrentCell", "cell_of"},
    "dispatch.deathwatch": {"Deathwatch", "tell_of_end", "tell_watchers", "unwatch", "watch"},
    "dispatch.event_bus": {"EventBus"},
    "dispatch.fates": {
        "asker_gone",
        "counts_of",
        "dead_letter",
        "defer",
        "discard_remaining",
        "failed",
        "is_over",
        "settle_early",
        "too_late",
        "was_cancelled",
    },
    "dispatch.lifecycle": {
        "crash",
        "drain",
        "end",
        "end_handlers",
        "fall",
        "halt",
        "is_quiet",
        "kill",
        "leave",
        "moving",
        "spawn",
        "start",
        "stop",
    },
    "dispatch.mailbox_queue": {
        "drop_oldest",
        "let_in",
        "overflow",
        "overflowed",
        "refuse_cycle",
        "sender_can_wait",
        "take_out",
        "wait_for_room",
        "total",
        "turn_away",
        "waits_on_reply",
    },
    "dispatch.node": {"Parent", "RestartRecord"},
    "dispatch.parked_task": {"ParkedTask"},
    "dispatch.scheduler": {"Runnable", "Scheduler", "cancelled", "in_task"},
    "dispatch.stash": {"Stash", "is_aside", "put_aside", "take_back", "unstash"},
    "dispatch.timers": {"ActorTimer", "TimerTarget", "Timers", "expire_ticks", "start_timer"},
    "dispatch.transfer": {
        "accept_transferred",
        "accept_waiter",
        "adopt",
        "has_messages",
        "hold_for",
        "is_idle",
        "let_in",
        "load",
        "passivate",
        "pause",
        "put_stash",
        "take_all",
        "take_back",
        "take_stash",
        "take_waiters",
        "when_idle",
    },
    "supervision.elastic": {"LookAtPools", "Sizing"},
    "supervision.entity": {"Entity", "Phase"},
    "supervision.loop_monitor": {"Scheduled", "Work"},
    "supervision.pool_config": {"Field"},
    "supervision.props": {"actor_class", "props_of"},
    "supervision.resting_entities": {"RestingEntities"},
    "supervision.snapshot": {"Look", "Rates", "children_of"},
    "supervision.supervisor": {"is_being_cancelled", "nursery_of"},
    "supervision.waiting_senders": {"WaitingSenders", "resume_sender"},
    "testkit.stress": {"replay"},
}

MODULES = [
    module.name
    for module in pkgutil.walk_packages(callboard.runtime.__path__, "callboard.runtime.")
    if not module.ispkg
]


def test_all_is_one_sorted_list_without_doubles_and_each_name_is_there() -> None:
    names = callboard.runtime.__all__
    assert sorted(set(names)) == sorted(names)
    # As ruff sorts it: constants, classes, then the rest.
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert [name for name in names if not hasattr(callboard.runtime, name)] == []


def test_every_public_name_of_the_modules_is_in_all_or_internal_on_purpose() -> None:
    beside: dict[str, set[str]] = {}
    for module in MODULES:
        found = vars(importlib.import_module(module))
        own = {
            name
            for name, value in found.items()
            if (inspect.isclass(value) or inspect.isfunction(value))
            and value.__module__ == module
            and not name.startswith("_")
        }
        beside[module.removeprefix("callboard.runtime.")] = own - set(callboard.runtime.__all__) - vars(testkit).keys()
    assert {name: own for name, own in beside.items() if own} == INTERNAL


def test_it_imports_nothing_of_the_rest_and_only_two_libraries() -> None:
    """msgspec, and anyio where it is needed at all."""
    roots: set[str] = set()
    for module in MODULES:
        source = inspect.getsource(importlib.import_module(module))
        for line in source.splitlines():
            words = line.split()
            if len(words) > 1 and words[0] in ("import", "from"):
                roots.add(words[1] if words[1].startswith("callboard.") else words[1].partition(".")[0])
    foreign = {root for root in roots if root.startswith("callboard.") and not root.startswith("callboard.runtime")}
    assert foreign == set()
