"""Settings of pools: every fault by its path, and nothing touched but what differs."""

import asyncio
from typing import Any

import msgspec
import pytest
from kit.recorder import Note, Notes, Recorder, Wait

from callboard.runtime import (
    Backoff,
    Change,
    Mailbox,
    MailboxFullError,
    Overflow,
    Pool,
    Restart,
    Route,
    SettingsError,
    System,
    apply_pools,
    entities,
    find_pools,
    plan_pools,
    pool,
    supervisor,
    worker,
)

GOOD = """
[pools.mail]
size = 3
mailbox = 2
overflow = "reject"
route = "least_busy"
restart = "transient"
intensity = 7
window_s = 60
retries = 2
shutdown_s = 1.5
backoff = { initial_s = 0.5, factor = 3, max_s = 9, jitter = 0.1, healthy_s = 20 }
"""


def pools() -> tuple[Pool[Any], Pool[Any], System]:
    mail = pool("mail", Recorder, size=2)
    keyed = pool("keyed", Recorder, size=4, key=str)
    guests = entities("guests", Recorder, key=str, idle_s=60, limit=10)
    return mail, keyed, System(supervisor("root", supervisor("inner", mail), keyed, guests, worker("w", Recorder)))


def faults(source: Any) -> list[str]:
    async def read() -> list[str]:
        mail, keyed, system = pools()
        before = [(node.size, node.spec, node.intensity) for node in (mail, keyed)]
        with pytest.raises(SettingsError) as caught:
            await apply_pools(system, source)
        assert [(node.size, node.spec, node.intensity) for node in (mail, keyed)] == before
        return caught.value.faults

    return asyncio.run(read())


def test_config_reload_a_bad_file_reports_every_error_with_its_path_and_changes_nothing() -> None:
    source = """
    sizes = 3
    [pools.mail]
    size = 0
    mailbox = "many"
    overflow = "burn"
    route = "key"
    colour = "red"
    window_s = 0
    backoff = { jitter = 1.5, pause = 1, factor = 0.5 }
    [pools.keyed]
    size = 3
    route = "least_busy"
    [pools.kitchen]
    size = 3
    """
    fields = "size, route, elastic, mailbox, overflow, restart, intensity, window_s, retries, shutdown_s"
    fields += "".join(f", backoff.{name}" for name in ("initial_s", "factor", "max_s", "jitter", "healthy_s"))
    assert faults(source) == [
        "sizes: is unknown; there is pools",
        "pools.mail.size: must be 1 or more",
        "pools.mail.mailbox: must be a whole number",
        "pools.mail.overflow: must be wait, reject, drop_newest or drop_oldest",
        "pools.mail.route: must be round_robin or least_busy",
        f"pools.mail.colour: is unknown; there are {fields}",
        "pools.mail.window_s: must be more than 0",
        "pools.mail.backoff.jitter: must be 1 or less",
        f"pools.mail.backoff.pause: is unknown; there are {fields}",
        "pools.mail.backoff.factor: must be 1 or more",
        "pools.keyed.route: must be key: messages of one key would lose their order",
        "pools.kitchen: is unknown; there are mail, keyed, guests",
    ]


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("[pools.mail", "TOML: Expected ']' at the end of a table declaration (at end of document)"),
        ("pools = 3", "pools: must be a table, [pools.NAME]"),
        ("[pools]\nmail = 3", "pools.mail: must be a table, [pools.mail]"),
        ("[pools.mail]\nbackoff = 3", "pools.mail.backoff: must be a table, like { initial_s = 0.1 }"),
        ("[pools.mail]\nsize = true", "pools.mail.size: must be a whole number"),
        ("[pools.mail]\nsize = 1000000", "pools.mail.size: must be 10000 or less"),
        ("[pools.mail]\nshutdown_s = nan", "pools.mail.shutdown_s: must be a number"),
        ("[pools.mail]\nwindow_s = inf", "pools.mail.window_s: must be a number"),
        ("[pools.mail]\nretries = -1", "pools.mail.retries: must be 0 or more"),
        ("[pools.mail]\noverflow = [1]", "pools.mail.overflow: must be wait, reject, drop_newest or drop_oldest"),
        ("[pools.guests]\nlimit = 0", "pools.guests.limit: must be 1 or more"),
        ("[pools.guests]\nidle_s = 0", "pools.guests.idle_s: must be more than 0"),
        ({"pools": {"mail": {"size": "3"}}}, "pools.mail.size: must be a whole number"),
    ],
)
def test_a_bad_value_is_named_with_what_it_must_be(source: Any, fault: str) -> None:
    assert faults(source) == [fault]


def test_entities_have_no_size_and_pools_no_limit() -> None:
    assert [fault.split(";")[0] for fault in faults("[pools.guests]\nsize = 3\n[pools.mail]\nlimit = 3")] == [
        "pools.guests.size: is unknown",
        "pools.mail.limit: is unknown",
    ]


async def test_config_reload_a_good_file_touches_only_what_differs() -> None:
    mail, keyed, system = pools()
    async with system:
        others, spec = keyed.children, keyed.spec
        source = {"pools": {"mail": {"size": 3, "mailbox": 1024, "route": "round_robin"}, "keyed": {"route": "key"}}}
        assert plan_pools(system, source) == [Change("mail", "size", 2, 3)]
        first, second = mail.children
        assert await apply_pools(system, source) == [Change("mail", "size", 2, 3)]
        assert mail.children[:2] == [first, second]
        assert (keyed.children, keyed.spec) == (others, spec)
        assert plan_pools(system, source) == []
        assert await apply_pools(system, "") == []
        assert [node.restarts for node in mail.dump().children] == [0, 0, 0]


async def test_every_setting_is_applied_to_the_running_tree() -> None:
    mail, _, system = pools()
    async with system:
        for n in range(8):
            await mail.tell(Note(str(n)))
        changes = await apply_pools(system, GOOD)
        assert {change.field: change.after for change in changes} == {
            "size": 3,
            "mailbox": 2,
            "overflow": "reject",
            "route": "least_busy",
            "restart": "transient",
            "intensity": 7,
            "window_s": 60,
            "retries": 2,
            "shutdown_s": 1.5,
            "backoff.initial_s": 0.5,
            "backoff.factor": 3,
            "backoff.max_s": 9,
            "backoff.jitter": 0.1,
            "backoff.healthy_s": 20,
        }
        assert (mail.size, mail.route, mail.intensity.restarts, mail.intensity.window_s) == (3, Route.LEAST_BUSY, 7, 60)
        for node in (mail, *mail.children):
            assert node.spec.mailbox == Mailbox(2, Overflow.REJECT)
            assert (node.spec.restart, node.spec.retry.times, node.spec.shutdown_s) == (Restart.TRANSIENT, 2, 1.5)
            assert node.spec.backoff == Backoff(0.5, 3, 9, 0.1, 20)
        assert mail.tally().accepted == 8
        assert plan_pools(system, GOOD) == []
        assert msgspec.json.encode(changes[0]) == b'{"pool":"mail","field":"size","before":2,"after":3}'


async def test_a_mailbox_is_changed_in_place_and_loses_nothing() -> None:
    mail, _, system = pools()
    async with system:
        await apply_pools(system, "[pools.mail]\nsize = 1\nmailbox = 2")
        long = mail.ask(Wait(5), timeout_s=60)
        await asyncio.sleep(1)
        tells = [asyncio.ensure_future(mail.tell(Note(str(n)))) for n in range(5)]
        await asyncio.sleep(1)
        assert [each.done() for each in tells] == [True, True, False, False, False]
        await apply_pools(system, "[pools.mail]\nmailbox = 3\noverflow = 'reject'")
        await asyncio.sleep(0)
        assert [each.done() for each in tells] == [True, True, True, False, False]
        with pytest.raises(MailboxFullError, match=r"full \(3 messages\)"):
            await mail.tell(Note("no"))
        assert await long == "done"
        await asyncio.gather(*tells)
        assert await mail.ask(Notes()) == ["done", "0", "1", "2", "3", "4"]


async def test_entities_are_set_too() -> None:
    _, _, system = pools()
    async with system:
        guests = find_pools(system)["guests"]
        changes = await apply_pools(system, "[pools.guests]\nlimit = 3\nidle_s = 5\nmailbox = 7")
        assert [change.field for change in changes] == ["limit", "idle_s", "mailbox"]
        assert (guests.limit, guests.idle_s, guests.spec.mailbox.capacity) == (3, 5, 7)  # type: ignore[union-attr]


async def test_what_cannot_be_started_sets_the_sizes_back() -> None:
    class Picky(Recorder):
        async def on_start(self) -> None:
            if self.name == "picky":
                raise OSError("no more")

    mail, picky = pool("mail", Recorder, size=2), pool("picky", Picky, size=1)
    async with System(supervisor("root", mail, picky)) as system:
        picky._make = lambda: Picky(name="picky")
        with pytest.raises(OSError, match="no more"):
            await apply_pools(system, "[pools.mail]\nsize = 5\nmailbox = 3\n[pools.picky]\nsize = 2")
        assert (mail.size, mail.spec.mailbox.capacity, picky.size) == (2, 1024, 1)


async def test_pools_of_one_name_are_told_apart_by_their_paths() -> None:
    first, second = pool("p", Recorder, size=1), pool("p", Recorder, size=1)
    system = System(supervisor("root", supervisor("a", first), supervisor("b", second), pool("q", Recorder, size=1)))
    assert list(find_pools(system)) == ["a/p", "b/p", "q"]
    await apply_pools(system, '[pools."b/p"]\nsize = 2')  # before the start too
    assert (first.size, second.size) == (1, 2)
    assert list(find_pools(system.root)) == ["a/p", "b/p", "q"]
