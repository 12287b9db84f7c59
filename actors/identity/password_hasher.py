"""Passwords: hashed with Argon2id in a bounded number of threads.

An imported hash, or one of an unprepared password (RFC 8265), is replaced at the next login by a hash of exactly the
verified bytes: bcrypt reads 72 bytes, and nobody knows the rest of a longer password.
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
from callboard.actors.infrastructure.request_clock import paused_clock, time_left_s
from callboard.runtime import Actor, Asked, AskTimeoutError, MailboxFullError, Ref, Request, on

T = TypeVar("T")

# The part of a request's time for its hash, the queue included: one that is hashed has time left for its statements.
QUEUE_SHARE = 0.6
MAX_WAIT_S = 5.0  # where no request waits
NICENESS = 10  # of the hashing threads; with more a busy machine would let nobody log in

# OWASP, Password Storage Cheat Sheet: m = 19 MiB, t = 2, p = 1.
HASHER = Argon2Hasher(time_cost=2, memory_cost=19456, parallelism=1)


NO_PASSWORD = ""  # the hash of an account that cannot log in until its password is reset

_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}\Z")
_ARGON2 = re.compile(
    r"\$argon2(?:id|i|d)\$v=19\$m=(\d{1,9}),t=(\d{1,9}),p=(\d{1,9})\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}\Z"
)
_BCRYPT_BYTES = 72  # bcrypt reads this many bytes of a password
_BCRYPT_MARK = "$bcrypt72"  # marks an Argon2 hash of the first 72 bytes, which replaced a bcrypt hash
# Imported hashes may cost at most this much: verification occupies a core for that time.
_BCRYPT_COST = (4, 14)
_MAX_ARGON2 = (262_144, 10, 16)  # KiB, passes, lanes


class HashPassword(Request[str], frozen=True):
    """Hash a password; the reply is Argon2's encoded form."""

    password: str

    def __repr__(self) -> str:
        """Without the password."""
        return "HashPassword(...)"


class PasswordCheck(msgspec.Struct, frozen=True):
    """The result of a verification, and the hash to replace an outdated one."""

    is_right: bool
    renewed: str | None = None

    def __bool__(self) -> bool:
        """Whether the password is right."""
        return self.is_right

    def __repr__(self) -> str:
        """Without the hash."""
        return f"PasswordCheck({self.is_right})"


class VerifyPassword(Request[PasswordCheck], frozen=True):
    """Verify a password. Without a hash the same work is done, and the answer is no.

    With `renew`, a right password replaces an outdated hash by a new one.
    """

    password: str
    password_hash: str | None
    renew: bool = False

    def __repr__(self) -> str:
        """Without the password."""
        return "VerifyPassword(...)"


class PasswordHasher(Actor[HashPassword | VerifyPassword]):
    """Hashes in a thread, one password at a time; a pool of these, one for each core, bounds the hashing of a process.

    Argon2 releases the GIL, so a thread occupies a core. It gives way to the event loop's thread, and its next password
    is queued beside it, so that it need not wait for the loop. The mailbox rejects: a flood of logins is refused, not
    queued. A hash in progress is finished even if its asker has gone.
    """

    concurrency = 2

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, "password", initializer=_lower_priority)

    async def on_stop(self) -> None:
        """End the thread once it is done."""
        self.thread.shutdown(wait=False, cancel_futures=True)

    @on(HashPassword)
    async def hash(self, message: HashPassword) -> str:
        """Hash; about 30 ms. Raises ValueError for a password with forbidden characters."""
        return await get_running_loop().run_in_executor(self.thread, HASHER.hash, prepare_password(message.password))

    @on(VerifyPassword)
    async def verify(self, message: VerifyPassword) -> PasswordCheck:
        """Verify; about 30 ms, with a hash or without, and twice that if the hash is replaced."""
        return await get_running_loop().run_in_executor(
            self.thread, partial(_verify, message.password, message.password_hash, renew=message.renew)
        )


async def hash_or_overloaded(
    passwords: Ref[HashPassword | VerifyPassword], message: Asked[HashPassword | VerifyPassword, T]
) -> T:
    """Ask the hasher and return its reply. Raises Problem(SERVER_OVERLOADED) when too many requests wait already."""
    try:
        if isinstance(message, VerifyPassword) and needs_rehash(message.password_hash or _DUMMY_HASH):
            with paused_clock():  # an imported hash may take seconds, once
                return await passwords.ask(message)
        return await passwords.ask(message, min(time_left_s() * QUEUE_SHARE, MAX_WAIT_S))
    except (MailboxFullError, AskTimeoutError):
        raise Problem(SERVER_OVERLOADED, retry_after_s=1) from None


def _lower_priority() -> None:
    """Lower the thread's priority: hashing must not slow the event loop, PostgreSQL and Redis, and so the users who
    have a session.

    Measured on two cores in a flood of logins: without this other requests wait 2 s and more; with niceness alone 40 to
    200 ms, as a thread that wakes up takes the core from the loop; as a batch thread about 10 ms.
    """
    if sys.platform == "linux":  # elsewhere a priority belongs to the whole process
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, get_native_id(), NICENESS)


_DUMMY_HASH = HASHER.hash("a password that nobody has, checked where there is no account")


def _verify(password: str, password_hash: str | None, *, renew: bool = False) -> PasswordCheck:
    """Verify the prepared password, and if that differs, the password as typed."""
    try:
        prepared = prepare_password(password)
    except ValueError:
        prepared = password
    for typed in dict.fromkeys((prepared, password)):
        value = typed.encode("utf-8", "surrogatepass")
        if _matches(value, password_hash) and password_hash:
            made = _replacement_hash(password_hash, value, prepared, typed) if renew else None
            return PasswordCheck(is_right=True, renewed=made)
    return PasswordCheck(is_right=False)


def _matches(value: bytes, password_hash: str | None) -> bool:
    try:
        if password_hash and _BCRYPT.match(password_hash):
            return bcrypt.checkpw(value[:_BCRYPT_BYTES], password_hash.encode())
        if password_hash and password_hash.startswith(_BCRYPT_MARK):
            return HASHER.verify(password_hash.removeprefix(_BCRYPT_MARK), value[:_BCRYPT_BYTES])
        return HASHER.verify(password_hash or _DUMMY_HASH, value) and bool(password_hash)
    except (VerificationError, InvalidHashError, ValueError):
        return False


def _replacement_hash(password_hash: str, value: bytes, prepared: str, typed: str) -> str | None:
    """Return the replacement hash. It accepts exactly the passwords that the old one accepted."""
    if not needs_rehash(password_hash) and prepared == typed:
        return None
    cut = password_hash.startswith(_BCRYPT_MARK) or (_BCRYPT.match(password_hash) and len(value) >= _BCRYPT_BYTES)
    return _BCRYPT_MARK + HASHER.hash(value[:_BCRYPT_BYTES]) if cut else HASHER.hash(prepared)


def needs_rehash(password_hash: str) -> bool:
    """Whether a hash has another algorithm or other parameters than today's, and is to be replaced at the
    next login.
    """
    try:
        return HASHER.check_needs_rehash(password_hash.removeprefix(_BCRYPT_MARK))
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
