"""Passwords: which are good enough, and hashing them with Argon2id in threads, a bounded number at a time."""

import re
from collections.abc import Iterable

import anyio
import anyio.to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from callboard.runtime import Actor, Request, on

MIN_LENGTH, MAX_LENGTH = 8, 128
OWN_WORD_LENGTH = 4  # shorter words of a name are in too many good passwords by chance

COMMON = frozenset(word for word in FREQUENCY_LISTS["passwords"] if len(word) >= MIN_LENGTH)

# OWASP, Password Storage Cheat Sheet: m = 19 MiB, t = 2, p = 1.
HASHER = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)


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


def password_faults(password: str, own: Iterable[str] = ()) -> list[str]:
    """What is wrong with a new password, for its owner to read; `own` are texts that tell of them (name, address)."""
    faults: list[str] = []
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        faults.append(f"must have {MIN_LENGTH} to {MAX_LENGTH} characters")
    if not any(letter.isupper() for letter in password):
        faults.append("must have an upper case letter")
    if not any(letter.isdigit() for letter in password):
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

    Argon2 releases the GIL, so a thread is a core. The mailbox rejects: a flood of logins is refused, not queued.
    """

    def __init__(self) -> None:
        self.limiter = anyio.CapacityLimiter(1)

    @on(HashPassword)
    async def hash(self, message: HashPassword) -> str:
        """Hash; about 30 ms."""
        return await anyio.to_thread.run_sync(HASHER.hash, message.password, limiter=self.limiter)

    @on(VerifyPassword)
    async def verify(self, message: VerifyPassword) -> bool:
        """Verify; about 30 ms, whether there is a hash or not."""
        return await anyio.to_thread.run_sync(_verify, message.password, message.password_hash, limiter=self.limiter)


_NOBODY = HASHER.hash("a password that nobody has, checked where there is no account")


def _verify(password: str, password_hash: str | None) -> bool:
    try:
        return HASHER.verify(password_hash or _NOBODY, password) and password_hash is not None
    except (VerificationError, InvalidHashError):
        return False


def outdated(password_hash: str) -> bool:
    """Whether a hash was made with other parameters than today's, and is worth making anew at the next login."""
    return HASHER.check_needs_rehash(password_hash)
