"""The count of new accounts: every way in writes the event that is counted."""

import re
from pathlib import Path
from typing import Any

import msgspec
from kit.domain import PASSWORD, Domain, consume, envelope

from callboard.actors import identity
from callboard.actors.identity.events import UserRegistered
from callboard.actors.identity.registration import RegisterUser
from callboard.actors.identity.registration_counter import RegistrationCounter
from callboard.actors.identity.user_import import ImportedUser, import_users
from callboard.actors.identity.users import CreateUser
from callboard.actors.infrastructure.principals import Role
from callboard.runtime import Props, System, worker

WAYS_IN = {"add_user": "registration.py", "import_users": "user_import.py"}  # a statement, and the module of its event


async def registered(domain: Domain) -> list[Any]:
    """The events of new accounts, as a consumer gets them."""
    rows = await domain.rows("select event_id::text, value from outbox where type = 'user.registered'")
    return [envelope(msgspec.json.decode(row["value"], type=UserRegistered), row["event_id"]) for row in rows]


async def test_an_account_is_counted_once_by_whatever_way_it_came(domain: Domain) -> None:
    counts: list[int] = []
    await domain.users.ask(RegisterUser("ada@example.org", PASSWORD, "Ada Lovelace", terms_accepted=True))
    await domain.users.ask(CreateUser("root@example.org", PASSWORD, "Ro Ot", Role.ADMIN))
    await domain.users.ask(CreateUser("root@example.org", PASSWORD, "Ro Ot", Role.ADMIN))  # it is there already
    lines = [ImportedUser(email=f"line{n}@example.org", full_name="Li Ne") for n in range(3)]
    for _ in range(2):
        await import_users(domain.database, lines, domain.signer)
    events = await registered(domain)
    counter = worker("registrations", Props(RegistrationCounter, domain.database, counts.append))
    async with System(counter):
        for batch in (events[:2], events, events):
            await counter.ask(consume(*batch))
    assert counts == [2, 3, 0]


def test_whatever_adds_an_account_writes_its_event() -> None:
    folder = Path(identity.__file__).parent
    adds = re.compile(r"insert into users\b")
    found = {
        statement.split("(", 1)[0].rstrip("^$!*<> \n")
        for file in folder.parent.parent.glob("*/**/*.sql")
        if "migrations" not in file.parts
        for statement in file.read_text().split("-- name: ")[1:]
        if adds.search(statement)
    }
    assert found == set(WAYS_IN)
    for module in WAYS_IN.values():
        assert "UserRegistered(" in (folder / module).read_text()
