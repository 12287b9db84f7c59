"""Passwords: the policy as a pure function, and hashing off the loop, a bounded number at a time."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors import passwords
from callboard.actors.passwords import (
    COMMON,
    HASHER,
    HashPassword,
    Passwords,
    VerifyPassword,
    outdated,
    password_faults,
)
from callboard.runtime import Mailbox, MailboxFullError, Overflow, Ref, System, pool, supervisor

GOOD = "Lantern-Walk-42"


@pytest.mark.parametrize(
    ("password", "own", "faults"),
    [
        (GOOD, (), []),
        ("Ää123456", (), []),
        ("Aa1" + "x" * 125, (), []),
        ("Aa1xxxx", (), ["must have 8 to 128 characters"]),
        ("Aa1" + "x" * 126, (), ["must have 8 to 128 characters"]),
        ("", (), ["must have 8 to 128 characters", "must have an upper case letter", "must have a digit"]),
        (GOOD.lower(), (), ["must have an upper case letter"]),
        ("Lantern-Walk", (), ["must have a digit"]),
        ("Password1", (), ["is among the most common passwords"]),
        ("PASSWORD1", (), ["is among the most common passwords"]),
        ("Ada-Lovelace-1815", ("Ada Lovelace",), ["must not contain your name or address"]),
        ("xLOVELACEx1", ("Ada Lovelace",), ["must not contain your name or address"]),
        ("Mrs-Ada-1815", ("Ada Lovelace",), []),  # three letters are in too many good passwords
    ],
)
def test_a_password_has_exactly_these_faults(password: str, own: tuple[str, ...], faults: list[str]) -> None:
    assert password_faults(password, own) == faults


@given(st.text(max_size=140), st.lists(st.text(max_size=20), max_size=2))
def test_what_passes_is_long_enough_mixed_and_not_the_owners_own(password: str, own: list[str]) -> None:
    if password_faults(password, own):
        return
    assert 8 <= len(password) <= 128
    assert any(letter.isupper() for letter in password)
    assert any(letter.isdigit() for letter in password)
    assert password.lower() not in COMMON
    assert not any(len(text) >= 4 and text.isalnum() and text.lower() in password.lower() for text in own)


@given(st.text(alphabet=st.characters(codec="ascii"), min_size=5, max_size=60))
def test_a_good_password_stays_good_when_more_is_said_behind_it(more: str) -> None:
    assert password_faults(GOOD + more) == []


async def test_a_hash_verifies_its_own_password_only() -> None:
    hasher = pool("passwords", Passwords, size=1)
    async with System(supervisor("root", hasher)):
        made = await hasher.ask(HashPassword(GOOD))
        assert await hasher.ask(VerifyPassword(GOOD, made))
        assert not await hasher.ask(VerifyPassword(GOOD + " ", made))
        assert not await hasher.ask(VerifyPassword(GOOD, None))
        assert made != await hasher.ask(HashPassword(GOOD))
    assert not outdated(made)
    assert (HASHER.memory_cost, HASHER.time_cost, HASHER.parallelism, HASHER.type.name) == (19456, 2, 1, "ID")


class Gate:
    """A hasher that works until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Semaphore(0), threading.Event()
        self.at_once = self.most = 0
        self.lock = threading.Lock()

    def hash(self, password: str) -> str:
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        self.begun.release()
        if not self.go.wait(5):
            raise TimeoutError("the loop stood still while this was hashed")
        with self.lock:
            self.at_once -= 1
        return password


async def hashed(hasher: Ref[HashPassword], password: str) -> str:
    return await hasher.ask(HashPassword(password))


async def test_the_loop_turns_while_a_password_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    monkeypatch.setattr(passwords, "HASHER", gate)
    hasher = pool("passwords", Passwords, size=1)
    async with System(supervisor("root", hasher)):
        asked = asyncio.create_task(hashed(hasher, GOOD))
        await asyncio.to_thread(gate.begun.acquire)
        gate.go.set()  # on the loop's own thread: were that hashing, nobody would come here
        assert await asked == GOOD


async def test_a_flood_of_logins_is_refused_and_not_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    monkeypatch.setattr(passwords, "HASHER", gate)
    hasher = pool("passwords", Passwords, size=2, mailbox=Mailbox(capacity=3, overflow=Overflow.REJECT))
    async with System(supervisor("root", hasher)):
        asked = [asyncio.create_task(hashed(hasher, str(number))) for number in range(2)]
        for _ in range(2):
            await asyncio.to_thread(gate.begun.acquire)
        asked += [asyncio.create_task(hashed(hasher, str(number))) for number in range(2, 20)]
        done, _ = await asyncio.wait(asked, timeout=0.05)
        assert len(done) == 12
        assert all(isinstance(task.exception(), MailboxFullError) for task in done)
        gate.go.set()
        served = [await task for task in asked if task not in done]
        assert served == [str(number) for number in range(8)]
        assert gate.most == 2
