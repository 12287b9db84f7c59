"""Principals: roles, and the identity that a verified access token stands for."""

from enum import StrEnum
from uuid import UUID

import msgspec


class Role(StrEnum):
    """A user's role; each role includes the rights of the ones before it."""

    MEMBER = "member"
    EDITOR = "editor"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        """Whether this role includes the rights of `other`."""
        return RANKS[self] >= RANKS[other]


RANKS = {role: rank for rank, role in enumerate(Role)}


class Principal(msgspec.Struct, frozen=True):
    """A user with an active session, as the session manager knows them."""

    user_id: UUID
    session_id: UUID
    email: str
    role: Role
