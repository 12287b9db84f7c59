"""Passwords: which are good enough, and hashing them with Argon2id in threads, a bounded number at a time.

bcrypt is only verified, for accounts that came from elsewhere; their hash is made anew at the first login.
"""

import os
import re
import sys
from asyncio import get_running_loop
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import StrEnum
from threading import get_native_id
from typing import TypeVar

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from callboard.actors.errors import SERVER_OVERLOADED, Problem
from callboard.runtime import Actor, MailboxFullError, Ref, Request, on

T = TypeVar("T")

NICENESS = 10  # of the threads that hash; with more a busy machine would let nobody log in
MIN_LENGTH, MAX_LENGTH = 8, 128
NIST_MIN_LENGTH = 15
OWN_WORD_LENGTH = 4  # shorter words of a name are in too many good passwords by chance

COMMON = frozenset(word for word in FREQUENCY_LISTS["passwords"] if len(word) >= MIN_LENGTH)

# OWASP, Password Storage Cheat Sheet: m = 19 MiB, t = 2, p = 1.
HASHER = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)


NO_PASSWORD = ""  # the hash of an account that nobody can log in to until its password is reset

_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}\Z")
_ARGON2 = re.compile(
    r"\$argon2(?:id|i|d)\$v=19\$m=(\d{1,9}),t=(\d{1,9}),p=(\d{1,9})\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}\Z"
)
_BCRYPT_BYTES = 72  # what every bcrypt looks at of a password
# A hash from elsewhere may cost so much and no more: who verifies it has a core to itself for that long.
_BCRYPT_COST = (4, 14)
_MAX_ARGON2 = (262_144, 10, 16)  # KiB, passes, lanes


class PasswordPolicy(StrEnum):
    """Which new passwords are good enough: `composition` is the default, `nist` NIST SP 800-63B-4, 3.1.1."""

    COMPOSITION = "composition"
    NIST = "nist"


class HashPassword(Request[str], frozen=True):
    """Hash a password; the reply is Argon2's encoded form."""

    password: str

    def __repr__(self) -> str:
        """Without the password."""
        return "HashPassword(...)"


class VerifyPassword(Request[bool], frozen=True):
    """Whether a password is the hash's. Without a hash the work is done all the same, and the answer is no."""

    password: str
    password_hash: str | None

    def __repr__(self) -> str:
        """Without the password."""
        return "VerifyPassword(...)"


def password_faults(
    password: str, own: Iterable[str] = (), policy: PasswordPolicy = PasswordPolicy.COMPOSITION
) -> list[str]:
    """What is wrong with a new password, for its owner to read; `own` are texts that tell of them (name, address)."""
    faults: list[str] = []
    shortest = NIST_MIN_LENGTH if policy is PasswordPolicy.NIST else MIN_LENGTH
    if not shortest <= len(password) <= MAX_LENGTH:
        faults.append(f"must have {shortest} to {MAX_LENGTH} characters")
    if policy is PasswordPolicy.COMPOSITION and not any(letter.isupper() for letter in password):
        faults.append("must have an upper case letter")
    if policy is PasswordPolicy.COMPOSITION and not any(letter.isdigit() for letter in password):
        faults.append("must have a digit")
    lowered = password.lower()
    if lowered in COMMON:
        faults.append("is among the most common passwords")
    words = {word for text in own for word in re.split(r"\W+", text.lower()) if len(word) >= OWN_WORD_LENGTH}
    if any(word in lowered for word in words):
        faults.append("must not contain your name or address")
    return faults


class Passwords(Actor[HashPassword | VerifyPassword]):
    """Hashes off the loop, one at a time; a pool of these, as large as the cores, bounds the hashing of a process.

    Argon2 releases the GIL, so a thread is a core; it gives way to the loop's, and has the next password beside it, so
    as not to wait for the loop in between. The mailbox rejects: a flood of logins is refused, not queued. A password
    whose asker has gone is hashed to its end if that has begun.
    """

    concurrency = 2

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, "password", initializer=_give_way)

    async def on_stop(self) -> None:
        """Let the thread go, when it is done."""
        self.thread.shutdown(wait=False, cancel_futures=True)

    @on(HashPassword)
    async def hash(self, message: HashPassword) -> str:
        """Hash; about 30 ms."""
        return await get_running_loop().run_in_executor(self.thread, HASHER.hash, message.password)

    @on(VerifyPassword)
    async def verify(self, message: VerifyPassword) -> bool:
        """Verify; about 30 ms, whether there is a hash or not."""
        return await get_running_loop().run_in_executor(self.thread, _verify, message.password, message.password_hash)


async def ask_hasher(passwords: Ref[HashPassword | VerifyPassword], message: Request[T]) -> T:
    """What `passwords` answers. Raises Problem(SERVER_OVERLOADED) when too many wait already."""
    try:
        return await passwords.ask(message)
    except MailboxFullError:
        raise Problem(SERVER_OVERLOADED, retry_after_s=1) from None


def _give_way() -> None:
    """To the loop, to PostgreSQL and to Redis: who is logged in already must not feel those who log in.

    Measured on two cores in a flood of logins: without this others wait 2 s and more, with the niceness alone 40 to
    200 ms, as a thread that wakes up takes the core from the loop, and as a batch about 10 ms.
    """
    if sys.platform == "linux":  # elsewhere a priority is the whole process's
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, get_native_id(), NICENESS)


_NOBODY = HASHER.hash("a password that nobody has, checked where there is no account")


def _verify(password: str, password_hash: str | None) -> bool:
    try:
        if password_hash and _BCRYPT.match(password_hash):
            return bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES], password_hash.encode())
        return HASHER.verify(password_hash or _NOBODY, password) and bool(password_hash)
    except (VerificationError, InvalidHashError, ValueError):
        return False


def outdated(password_hash: str) -> bool:
    """Whether a hash was made by another algorithm or with other parameters than today's, and is worth making anew at
    the next login.
    """
    try:
        return HASHER.check_needs_rehash(password_hash)
    except InvalidHashError:
        return True


def hash_fault(password_hash: str) -> str | None:
    """What is wrong with a hash from elsewhere; None for one that `VerifyPassword` takes: bcrypt ($2a$, $2b$, $2y$) of
    cost 14 at most, or Argon2 of 256 MiB, 10 passes and 16 lanes at most.
    """
    if found := _BCRYPT.match(password_hash):
        cheap = _BCRYPT_COST[0] <= int(found[1]) <= _BCRYPT_COST[1]
    elif found := _ARGON2.match(password_hash):
        cheap = all(int(cost) <= most for cost, most in zip(found.groups(), _MAX_ARGON2, strict=True))
    else:
        return "must be an encoded bcrypt or Argon2 hash"
    return None if cheap else "costs too much to verify"
