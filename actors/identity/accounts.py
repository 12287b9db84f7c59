"""Accounts as their owners and admins see them, and the Structs of their rows."""

import hashlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.errors import FieldError, Problem
from callboard.actors.identity.errors import USERS_EMAIL_TAKEN
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.principals import Role
from callboard.streams.event_types import UtcDatetime
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__, "users")

PERSONAL_DATA = PersonalData(
    "account",
    {"users": ("email", "password_hash", "full_name", "registered_from")},
    QUERIES.export_account,
    QUERIES.erase_account,
)


class User(msgspec.Struct, frozen=True):
    """An account as its owner and admins see it."""

    user_id: UUID
    email: str
    full_name: str
    role: Role
    is_verified: bool
    is_active: bool
    created_at: UtcDatetime

    @property
    def tag(self) -> str:
        """Return the ETag: it differs whenever the shown account differs."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


def new_user(user_id: UUID, email: str, full_name: str, role: Role, *, is_verified: bool) -> User:
    """A new account."""
    return User(user_id, email, full_name, role, is_verified, is_active=True, created_at=datetime.now(UTC))


def user_of(row: Any) -> User:
    """Build the account of a row."""
    return msgspec.convert({name: row[name] for name in User.__struct_fields__}, User)


def taken() -> Problem:
    """Return the refusal of an address that another account has proved."""
    return Problem(USERS_EMAIL_TAKEN, details=(FieldError("email", "is taken"),))
