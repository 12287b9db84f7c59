"""Passwords: the policy as a pure function, and hashing off the loop, a bounded number at a time."""

import asyncio
import itertools
import os
import sys
import threading
from types import SimpleNamespace

import bcrypt
import pytest
from argon2 import PasswordHasher as Argon2Hasher
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.errors import SERVER_OVERLOADED
from callboard.actors.identity import password_hasher
from callboard.actors.identity.password_hasher import (
    HASHER,
    NO_PASSWORD,
    HashPassword,
    PasswordHasher,
    VerifyPassword,
    hash_fault,
    hash_or_overloaded,
    needs_rehash,
)
from callboard.actors.identity.password_policy import COMMON, PasswordPolicy, password_faults, prepare_password
from callboard.runtime import Mailbox, Overflow, Ref, System, pool, supervisor

GOOD = "Lantern-Walk-42"


@pytest.mark.parametrize(
    ("password", "own", "faults"),
    [
        (GOOD, (), []),
        ("Ää-Öx-71", (), []),
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


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=5, max_size=60))
def test_a_good_password_stays_good_when_more_is_said_behind_it(more: str) -> None:
    assert password_faults(GOOD + more) == []


@pytest.mark.parametrize(
    ("password", "faults"),
    [
        ("correct horse battery", []),
        ("fourteen chars", ["must have 15 to 128 characters"]),
        ("Lantern-Walk-4", ["must have 15 to 128 characters"]),
        ("x" * 129, ["must have 15 to 128 characters"]),
        ("my lovelace passphrase", ["must not contain your name or address"]),
    ],
)
def test_nist_asks_for_length_and_no_composition(password: str, faults: list[str]) -> None:
    assert password_faults(password, ("Ada Lovelace",), PasswordPolicy.NIST) == faults


BCRYPT = bcrypt.hashpw(GOOD.encode(), bcrypt.gensalt(4)).decode()
ARGON = Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1).hash(GOOD)


async def test_a_hash_from_elsewhere_verifies_and_is_worth_making_anew() -> None:
    hasher = pool("passwords", PasswordHasher, size=1)
    long = "ä" * 40  # 80 bytes, of which bcrypt has only ever looked at 72
    cut = bcrypt.hashpw(long.encode()[:72], bcrypt.gensalt(4)).decode()
    async with System(supervisor("root", hasher)):
        for variant in "aby":
            assert await hasher.ask(VerifyPassword(GOOD, f"$2{variant}${BCRYPT[4:]}"))
        assert not await hasher.ask(VerifyPassword(GOOD + "x", BCRYPT))
        assert await hasher.ask(VerifyPassword(long, cut))
        assert await hasher.ask(VerifyPassword(GOOD, ARGON))
        for broken in (NO_PASSWORD, BCRYPT[:-1], "$2b$99$" + BCRYPT[7:], "plain", GOOD, "$argon2id$"):
            assert not await hasher.ask(VerifyPassword(GOOD, broken))
    assert needs_rehash(BCRYPT)
    assert needs_rehash(ARGON)


async def test_who_has_no_password_cannot_log_in_not_even_with_nobodys() -> None:
    nobodys = "a password that nobody has, checked where there is no account"
    assert HASHER.verify(password_hasher._DUMMY_HASH, nobodys)
    assert not password_hasher._verify(nobodys, NO_PASSWORD)
    assert not password_hasher._verify(nobodys, None)


@pytest.mark.parametrize(
    ("password_hash", "fault"),
    [
        (BCRYPT, None),
        (ARGON, None),
        (HASHER.hash("x"), None),
        ("$2b$15$" + BCRYPT[7:], "costs too much to verify"),
        ("$argon2id$v=19$m=999999999,t=2,p=1$c29tZXNhbHRzb21l$c29tZWhhc2hzb21laGFzaHNvbWU", "costs too much to verify"),
        ("$argon2id$v=19$m=64,t=11,p=1$c29tZXNhbHRzb21l$c29tZWhhc2hzb21laGFzaHNvbWU", "costs too much to verify"),
        ("$2x$04$" + BCRYPT[7:], "must be an encoded bcrypt or Argon2 hash"),
        (BCRYPT + "\n", "must be an encoded bcrypt or Argon2 hash"),
        ("$argon2id$v=19$m=64,t=1,p=1$x$y", "must be an encoded bcrypt or Argon2 hash"),
        ("5f4dcc3b5aa765d61d8327deb882cf99", "must be an encoded bcrypt or Argon2 hash"),
        ("", "must be an encoded bcrypt or Argon2 hash"),
    ],
    ids=itertools.count(),  # the hashes differ from run to run
)
def test_a_hash_from_elsewhere_is_known_and_affordable_or_named(password_hash: str, fault: str | None) -> None:
    assert hash_fault(password_hash) == fault


async def test_a_hash_verifies_its_own_password_only() -> None:
    hasher = pool("passwords", PasswordHasher, size=1)
    async with System(supervisor("root", hasher)):
        made = await hasher.ask(HashPassword(GOOD))
        assert await hasher.ask(VerifyPassword(GOOD, made))
        assert not await hasher.ask(VerifyPassword(GOOD + " ", made))
        assert not await hasher.ask(VerifyPassword(GOOD, None))
        assert made != await hasher.ask(HashPassword(GOOD))
    assert not needs_rehash(made)
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


async def hashed(hasher: Ref[HashPassword | VerifyPassword], password: str) -> str:
    return await hash_or_overloaded(hasher, HashPassword(password))


async def test_the_loop_turns_while_a_password_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    monkeypatch.setattr(password_hasher, "HASHER", gate)
    hasher = pool("passwords", PasswordHasher, size=1)
    async with System(supervisor("root", hasher)):
        asked = asyncio.create_task(hashed(hasher, GOOD))
        await asyncio.to_thread(gate.begun.acquire)
        gate.go.set()  # on the loop's own thread: were that hashing, nobody would come here
        assert await asked == GOOD


async def test_a_flood_of_logins_is_refused_and_not_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    monkeypatch.setattr(password_hasher, "HASHER", gate)
    hasher = pool("passwords", PasswordHasher, size=2, mailbox=Mailbox(capacity=3, overflow=Overflow.REJECT))
    async with System(supervisor("root", hasher)):
        asked = [asyncio.create_task(hashed(hasher, str(number))) for number in range(2)]
        for _ in range(2):
            await asyncio.to_thread(gate.begun.acquire)
        asked += [asyncio.create_task(hashed(hasher, str(number))) for number in range(2, 20)]
        done, _ = await asyncio.wait(asked, timeout=0.05)
        assert len(done) == 12
        assert {getattr(task.exception(), "code", None) for task in done} == {SERVER_OVERLOADED}
        gate.go.set()
        served = [await task for task in asked if task not in done]
        assert served == [str(number) for number in range(8)]
        assert gate.most == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
async def test_the_threads_that_hash_give_way_and_no_other_does(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def hash_it(password: str) -> str:
        seen.append((os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
        return password

    monkeypatch.setattr(password_hasher, "HASHER", SimpleNamespace(hash=hash_it))
    ours = os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)
    hasher = pool("passwords", PasswordHasher, size=2)
    async with System(supervisor("root", hasher)):
        for _ in range(2):
            await hashed(hasher, GOOD)
    assert seen == [(os.SCHED_BATCH, password_hasher.NICENESS)] * 2
    assert (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)) == ours


async def test_one_thread_hashes_one_password_at_a_time_also_when_its_asker_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Gate()
    monkeypatch.setattr(password_hasher, "HASHER", gate)
    hasher = pool("passwords", PasswordHasher, size=1)
    async with System(supervisor("root", hasher)):
        gone = [asyncio.create_task(hashed(hasher, str(number))) for number in range(3)]
        await asyncio.to_thread(gate.begun.acquire)
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)
        last = asyncio.create_task(hashed(hasher, "last"))
        gate.go.set()
        assert await last == "last"
        assert gate.most == 1
    assert gate.begun.acquire(blocking=False)
    assert not gate.begun.acquire(blocking=False)  # the two that waited have never begun


# The form in which a password is kept ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("Cafe\u0301-Lantern-4", "Café-Lantern-4"),
        ("Lantern\u00a0Walk\u300042", "Lantern Walk 42"),
        ("Lantern-Walk-42", "Lantern-Walk-42"),
        ("\uff37ide-Lantern-42", "\uff37ide-Lantern-42"),  # no compatibility mapping: RFC 8265, 4.2.2
        ("Family-👩‍👩‍👧-42", "Family-👩‍👩‍👧-42"),
    ],
)
def test_a_password_is_kept_composed_and_with_plain_spaces(typed: str, kept: str) -> None:
    assert prepare_password(typed) == kept


@pytest.mark.parametrize(
    "control", ["\0", "\n", "\x1b", "\x7f", "\x85", "\ud800", "\u200b", "\u202e", "\xad", "\ufeff", "\uffff"], ids=ascii
)
def test_a_password_with_a_control_character_is_refused_and_never_verifies_by_accident(control: str) -> None:
    told = ["must not contain control characters or invisible ones"]
    assert password_faults(f"Lantern{control}Walk-42") == told
    assert not password_hasher._verify(f"{GOOD}{control}", BCRYPT)
    assert not password_hasher._verify(f"{GOOD}{control}", ARGON)


async def test_what_was_typed_decomposed_opens_what_was_set_composed_and_the_other_way_round() -> None:
    hasher = pool("passwords", PasswordHasher, size=1)
    composed, decomposed = "Café-Lantern-4", "Cafe\u0301-Lantern-4"
    async with System(supervisor("root", hasher)):
        for one, other in ((composed, decomposed), (decomposed, composed)):
            made = await hasher.ask(HashPassword(one))
            assert await hasher.ask(VerifyPassword(other, made))


def test_a_hash_of_before_of_a_password_that_was_not_prepared_verifies_and_becomes_one_that_was() -> None:
    decomposed = "Cafe\u0301-Lantern-4"
    before = HASHER.hash(decomposed)
    checked = password_hasher._verify(decomposed, before, renew=True)
    assert checked.renewed is not None
    for typed in (decomposed, "Café-Lantern-4"):
        again = password_hasher._verify(typed, checked.renewed, renew=True)
        assert (again.is_right, again.renewed) == (True, None)


LONG = "Lantern-Walk-" * 7  # 91 bytes
CUT = bcrypt.hashpw(LONG.encode()[:72], bcrypt.gensalt(4)).decode()


@pytest.mark.parametrize("typed", [LONG, LONG[:72], LONG[:72] + "another tail", LONG[:72] + "ä"])
def test_of_a_bcrypt_hash_no_more_is_kept_than_was_checked(typed: str) -> None:
    """The owner's password may be any that begins with these 72 bytes, whichever of them came first."""
    checked = password_hasher._verify(typed, CUT, renew=True)
    assert checked.is_right
    assert checked.renewed is not None
    assert not needs_rehash(checked.renewed)
    for later in (LONG, LONG[:72], LONG + "x"):
        again = password_hasher._verify(later, checked.renewed, renew=True)
        assert (again.is_right, again.renewed) == (True, None)
    assert not password_hasher._verify(LONG[:71], checked.renewed)
    assert not password_hasher._verify("x" + LONG, checked.renewed)


@pytest.mark.parametrize("length", [8, 71])
def test_a_bcrypt_hash_of_a_shorter_password_becomes_one_of_that_password_alone(length: int) -> None:
    typed = LONG[:length]
    checked = password_hasher._verify(typed, bcrypt.hashpw(typed.encode(), bcrypt.gensalt(4)).decode(), renew=True)
    assert checked.renewed is not None
    assert checked.renewed.startswith("$argon2id$")
    assert not password_hasher._verify(typed + "x", checked.renewed)


def test_a_hash_of_bcrypts_72_bytes_cannot_be_imported() -> None:
    assert hash_fault(f"$bcrypt72{HASHER.hash('x')}") == "must be an encoded bcrypt or Argon2 hash"


@pytest.mark.parametrize(
    "password",
    [
        *(
            "Summer2026",
            "P@ssw0rd1",
            "Winter2026!",
            "Pa$$w0rd!",
            "P4ssw0rd123",
            "Qwerty123!",
            "W3lc0me2025",
            "Letmein1",
        ),
        *("1Password", "!!Password1!!", "PasswordPassword1", "Dr4gon99", "S3cret!!1", "Pässword1", "Passw0rd2026!!"),
        *(
            "October2025!!",
            "Michael1985",
            "J3nn1fer!1",
            "Saturday12",
            "Wednesday12",
            "Germany2026",
            "Service-2026",
            "Callboard1",
        ),
        *("passwordA1", "1qaz2wsxE", "sunshine77A", "A1password", "1Apassword", "1qaz2wsx99A", "Xdragon!2026"),
        *("P a s s w o r d 1", "S_u_m_m_e_r_2026", "I-love-you-1", "Hello.World1", "L.e.t.m.e.i.n.1"),
        *(
            "A1A1A1A1",
            "Abcabcabc1",
            "Xy1Xy1Xy1",
            "Aa12345678",
            "A11111111",
            "X-12345678",
            "\U0001d412ummer2026",
            "\uff33ummer2026",
        ),
    ],
)
def test_a_common_password_in_disguise_is_refused(password: str) -> None:
    assert password_faults(password) == ["is among the most common passwords"]


@pytest.mark.parametrize(
    "password",
    [
        *("Lighthouse-Keeper-7", "Harbour-Pilot-31", "Correct-Horse-9", "Tr0ub4dor&3x"),
        *("Aa-739184-02", "Abab-83746510", "Quiet-Wings-12345678", "Zx-90417735"),
    ],
)
def test_words_that_are_not_common_together_are_taken(password: str) -> None:
    assert password_faults(password) == []


@pytest.mark.parametrize("own", ["Ada Lovelace", "ada_lovelace", "lovelace1815", "ada.lovelace+99", "LOVELACE"])
@pytest.mark.parametrize("password", ["L0vel@ce-1815", "LOVELACE-xx-1", "Lövelace-xx-1"])
def test_the_owners_words_are_known_in_disguise_too(password: str, own: str) -> None:
    assert "must not contain your name or address" in password_faults(password, (own,))
