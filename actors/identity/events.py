"""The events that identity writes: what became of an account."""

from uuid import UUID

from callboard.runtime import Message
from callboard.streams.event_types import declare_event
from callboard.streams.topics import declare_topic

USERS = declare_topic("users.v1", "user id", "accounts: registered, verified, updated, deleted")


class UserRegistered(Message, frozen=True):
    """An account was created; its address is not verified yet."""

    user_id: UUID
    email: str


class UserVerified(Message, frozen=True):
    """The owner of an account has proved its address."""

    user_id: UUID


class UserUpdated(Message, frozen=True):
    """An account changed; `changed` names the fields, not their values."""

    user_id: UUID
    changed: tuple[str, ...] = ()


class UserDeleted(Message, frozen=True):
    """An account is deleted for everybody; only the history keeps it. Its address is free."""

    user_id: UUID


USER_EVENTS = (
    declare_event("user.registered", UserRegistered, "user_id", USERS),
    declare_event("user.verified", UserVerified, "user_id", USERS),
    declare_event("user.updated", UserUpdated, "user_id", USERS),
    declare_event("user.deleted", UserDeleted, "user_id", USERS),
)
