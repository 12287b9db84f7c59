"""Passwords: hashing them with Argon2id in threads, a bounded number at a time.

A hash from elsewhere, or of a password that was not prepared (RFC 8265), is verified and made anew when its password is
given, of exactly what has been verified: bcrypt looks at 72 bytes, and of a longer password nobody knows the rest.
"""

import os
import re
import sys
from asyncio import get_running_loop
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from threading import get_native_id
from typing import TypeVar

import bcrypt
import msgspec
from argon2 import PasswordHasher as Argon2Hasher
from argon2.exceptions import InvalidHashError, VerificationError

from callboard.actors.errors import SERVER_OVERLOADED, Problem
from callboard.actors.identity.password_policy import prepare_password
from callboard.runtime import Actor, Asked, MailboxFullError, Ref, Request, on

T = TypeVar("T")

NICENESS = 10  # of the threads that hash; with more a busy machine would let nobody log in

# OWASP, Password Storage Cheat Sheet: m = 19 MiB, t = 2, p = 1.
HASHER = Argon2Hasher(time_cost=2, memory_cost=19456, parallelism=1)


NO_PASSWORD = ""  # the hash of an account that nobody can log in to until its password is reset

_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}\Z")
_ARGON2 = re.compile(
    r"\$argon2(?:id|i|d)\$v=19\$m=(\d{1,9}),t=(\d{1,9}),p=(\d{1,9})\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}\Z"
)
_BCRYPT_BYTES = 72  # what every bcrypt looks at of a password
_CUT = "$bcrypt72"  # before an Argon2 hash of that much, which came from bcrypt
# A hash from elsewhere may cost so much and no more: who verifies it has a core to itself for that long.
_BCRYPT_COST = (4, 14)
_MAX_ARGON2 = (262_144, 10, 16)  # KiB, passes, lanes


class HashPassword(Request[str], frozen=True):
    """Hash a password; the reply is Argon2's encoded form."""

    password: str

    def __repr__(self) -> str:
        """Without the password."""
        return "HashPassword(...)"


class PasswordCheck(msgspec.Struct, frozen=True):
    """Whether a password is the hash's, and the hash that is to take the place of one that is not of today."""

    is_right: bool
    renewed: str | None = None

    def __bool__(self) -> bool:
        """Whether it is."""
        return self.is_right

    def __repr__(self) -> str:
        """Without the hash."""
        return f"PasswordCheck({self.is_right})"


class VerifyPassword(Request[PasswordCheck], frozen=True):
    """Whether a password is the hash's. Without a hash the work is done all the same, and the answer is no.

    With `renew` a right password of a hash that is not of today gets a new one.
    """

    password: str
    password_hash: str | None
    renew: bool = False

    def __repr__(self) -> str:
        """Without the password."""
        return "VerifyPassword(...)"


class PasswordHasher(Actor[HashPassword | VerifyPassword]):
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
        """Hash; about 30 ms. Raises ValueError for a password that the policy refuses for its characters."""
        return await get_running_loop().run_in_executor(self.thread, HASHER.hash, prepare_password(message.password))

    @on(VerifyPassword)
    async def verify(self, message: VerifyPassword) -> PasswordCheck:
        """Verify; about 30 ms, whether there is a hash or not, and as much again for a hash that is made anew."""
        return await get_running_loop().run_in_executor(
            self.thread, partial(_verify, message.password, message.password_hash, renew=message.renew)
        )


async def hash_or_overloaded(
    passwords: Ref[HashPassword | VerifyPassword], message: Asked[HashPassword | VerifyPassword, T]
) -> T:
    """Ask the hasher and return its reply. Raises Problem(SERVER_OVERLOADED) when too many requests wait already."""
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


def _verify(password: str, password_hash: str | None, *, renew: bool = False) -> PasswordCheck:
    """Try the password as it is prepared today, and where that differs as it was typed."""
    try:
        prepared = prepare_password(password)
    except ValueError:
        prepared = password
    for typed in dict.fromkeys((prepared, password)):
        value = typed.encode("utf-8", "surrogatepass")
        if _matches(value, password_hash) and password_hash:
            made = _renewed(password_hash, value, prepared, typed) if renew else None
            return PasswordCheck(is_right=True, renewed=made)
    return PasswordCheck(is_right=False)


def _matches(value: bytes, password_hash: str | None) -> bool:
    try:
        if password_hash and _BCRYPT.match(password_hash):
            return bcrypt.checkpw(value[:_BCRYPT_BYTES], password_hash.encode())
        if password_hash and password_hash.startswith(_CUT):
            return HASHER.verify(password_hash.removeprefix(_CUT), value[:_BCRYPT_BYTES])
        return HASHER.verify(password_hash or _NOBODY, value) and bool(password_hash)
    except (VerificationError, InvalidHashError, ValueError):
        return False


def _renewed(password_hash: str, value: bytes, prepared: str, typed: str) -> str | None:
    """The hash to keep from now on. It takes every password that the old one took, and no more than that."""
    if not needs_rehash(password_hash) and prepared == typed:
        return None
    cut = password_hash.startswith(_CUT) or (_BCRYPT.match(password_hash) and len(value) >= _BCRYPT_BYTES)
    return _CUT + HASHER.hash(value[:_BCRYPT_BYTES]) if cut else HASHER.hash(prepared)


def needs_rehash(password_hash: str) -> bool:
    """Whether a hash was made by another algorithm or with other parameters than today's, and is worth making anew at
    the next login.
    """
    try:
        return HASHER.check_needs_rehash(password_hash.removeprefix(_CUT))
    except InvalidHashError:
        return True


def hash_fault(password_hash: str) -> str | None:
    """Explain why an imported hash is refused; return None if `VerifyPassword` accepts it: bcrypt ($2a$, $2b$, $2y$) of
    cost 14 at most, or Argon2 of 256 MiB, 10 passes and 16 lanes at most.
    """
    if found := _BCRYPT.match(password_hash):
        cheap = _BCRYPT_COST[0] <= int(found[1]) <= _BCRYPT_COST[1]
    elif found := _ARGON2.match(password_hash):
        cheap = all(int(cost) <= most for cost, most in zip(found.groups(), _MAX_ARGON2, strict=True))
    else:
        return "must be an encoded bcrypt or Argon2 hash"
    return None if cheap else "costs too much to verify"
