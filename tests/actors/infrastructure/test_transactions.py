"""Transactions: what another one undoes is done again, and then once."""

import ast
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from kit.domain import PASSWORD, Domain, at_once, log_in

import callboard.actors
from callboard.actors.identity.authentication import StepUp
from callboard.actors.identity.password_reset import ChangePassword, ResetPassword
from callboard.actors.identity.sessions import EndSessions, LoginResult, OpenSession, RefreshSession, RevokeSession
from callboard.actors.identity.users import (
    ChangeUser,
    CreateUser,
    DeleteUser,
    RefuseEmail,
    RegisterUser,
    UndoEmailChange,
    UpdateUser,
    VerifyEmail,
)
from callboard.actors.infrastructure.database import TransactionConflict
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.actors.infrastructure.token_signer import fingerprint

ACTORS = Path(callboard.actors.__file__).parent
# These begin a lost transaction again in their own way: see tests/properties/test_jobs.py.
OWN_WAY = {"database.py", "schedules.py"} | {path.name for path in ACTORS.rglob("job_*.py")}


def begins_transaction(node: ast.AST) -> bool:
    """Whether a block is a transaction of a database, and not a savepoint of a connection."""
    if not isinstance(node, ast.AsyncWith):
        return False
    began = [ast.unparse(item.context_expr) for item in node.items]
    return any("database" in each and each.endswith(".transaction()") for each in began)


def test_every_transaction_of_an_actor_is_begun_again_when_another_came_first() -> None:
    found, bare = 0, []
    for path in sorted(ACTORS.rglob("*.py")):
        if path.name in OWN_WAY:
            continue
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.AsyncFunctionDef) and any(map(begins_transaction, ast.walk(function))):
                found += 1
                if "retried" not in map(ast.unparse, function.decorator_list):
                    bare.append(f"{path.name}: {function.name}")
    assert bare == []
    assert found > 20


class Races:
    """Lets another transaction come first, as often as a test says: what was done is rolled back then."""

    def __init__(self, domain: Domain) -> None:
        self.to_lose = 0
        self._begin = domain.database.transaction

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with self._begin() as connection:
            yield connection
            if self.to_lose:
                self.to_lose -= 1
                raise TransactionConflict


@pytest.fixture
def races(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> Races:
    races = Races(domain)
    monkeypatch.setattr(domain.database, "transaction", races.transaction)
    return races


class Person:
    """Somebody who is logged in, with whatever links they need."""

    def __init__(self, domain: Domain, who: Principal, login: LoginResult, link: str) -> None:
        self.domain, self.who, self.login, self.link = domain, who, login, link
        self.session_id = domain.signer.read(login.access_token).session_id


CHANGES: dict[str, Callable[[Person], Awaitable[Any]]] = {
    "user.registered": lambda p: p.domain.users.ask(
        RegisterUser("new@example.org", PASSWORD, "New One", terms_accepted=True)
    ),
    "user.created": lambda p: p.domain.users.ask(CreateUser("boss@example.org", PASSWORD, "A Boss", Role.ADMIN)),
    "email.change_requested": lambda p: p.domain.users.ask(UpdateUser(p.who.user_id, "Some One", "other@example.org")),
    "user.changed": lambda p: p.domain.users.ask(UpdateUser(p.who.user_id, "Ada L", "ada@example.org")),
    "user.promoted": lambda p: p.domain.users.ask(ChangeUser(p.who.user_id, Role.EDITOR)),
    "user.deleted": lambda p: p.domain.users.ask(DeleteUser(p.who.user_id)),
    "email.verified": lambda p: p.domain.users.ask(VerifyEmail(p.link)),
    "user.refused": lambda p: p.domain.users.ask(RefuseEmail(p.link)),
    "email.change_undone": lambda p: p.domain.users.ask(UndoEmailChange(p.link)),
    "password.reset": lambda p: p.domain.password_reset.ask(ResetPassword(p.link, "Another-Lantern-43")),
    "password.changed": lambda p: p.domain.password_reset.ask(
        ChangePassword(p.who.user_id, p.session_id, PASSWORD, "Another-Lantern-43")
    ),
    "login.stepped_up": lambda p: p.domain.logins.ask(StepUp(p.who.user_id, p.session_id, PASSWORD)),
    "session.refreshed": lambda p: p.domain.sessions.ask(RefreshSession(p.login.refresh_token)),
    "session.revoked": lambda p: p.domain.sessions.ask(RevokeSession(p.who.user_id, p.session_id)),
    "session.all_revoked": lambda p: p.domain.sessions.ask(EndSessions(p.who.user_id)),
}
PURPOSES = {"email.change_undone": "undo_email", "password.reset": "reset_password"}
TOKEN_ID = UUID("20000000-0000-0000-0000-000000000001")
UNRECORDED = {"user.registered", "user.refused", "session.refreshed"}  # no security events


async def somebody(domain: Domain, change: str) -> Person:
    ada = await domain.person(email="ada@example.org")
    login = await log_in(domain)
    owner: UUID = ada.user_id
    purpose = PURPOSES.get(change, "verify_email")
    if purpose == "verify_email":
        owner = await domain.registered("eve@example.org")
    else:
        await domain.rows(
            "insert into mail_tokens (token_id, user_id, purpose, token_hash, email, expires_at) "
            "values ($1, $2, $3, $4, $5, now() + interval '1 day')",
            TOKEN_ID,
            owner,
            purpose,
            fingerprint(domain.signer.mail_token(TOKEN_ID)),
            "before@example.org" if purpose == "undo_email" else None,
        )
    return Person(domain, ada, login, await domain.mail_token(owner))


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_that_loses_a_race_is_made_again_and_has_one_effect(
    domain: Domain, races: Races, change: str
) -> None:
    person = await somebody(domain, change)
    recorded, written = await domain.value("select count(*) from audit_log"), len(await domain.events())
    races.to_lose = 2
    won, lost = await at_once(CHANGES[change](person))
    assert (len(won), lost, races.to_lose) == (1, [], 0)
    assert await domain.value("select count(*) from audit_log") - recorded == (change not in UNRECORDED)
    events = [(kind, value.get("letter")) for _, kind, value in (await domain.events())[written:]]
    assert len(events) == len({*events})


async def test_a_login_whose_statement_loses_a_race_is_made_again_and_has_one_effect(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Session, network and audit entry are one statement: a conflict undoes all of it."""
    ada = await domain.person(email="ada@example.org")
    changed_at = await domain.value("select password_changed_at from users where user_id = $1", ada.user_id)
    acquire, lost = domain.database.acquire, []

    @asynccontextmanager
    async def racing() -> AsyncIterator[Any]:
        if len(lost) < 2:
            lost.append(TransactionConflict())
            raise lost[-1]
        async with acquire() as connection:
            yield connection

    monkeypatch.setattr(domain.database, "acquire", racing)
    await domain.sessions.ask(OpenSession(ada.user_id, changed_at, "test", None))
    monkeypatch.undo()
    assert len(lost) == 2
    assert await domain.value("select count(*) from sessions") == 1
    assert await domain.value("select count(*) from audit_log where action = 'login.succeeded'") == 1
