"""The child spec: how a supervisor runs a child."""

import random
from enum import StrEnum
from typing import Any, TypedDict

import msgspec

from callboard.runtime.actor.errors import ChildSpecError, Shutdown
from callboard.runtime.actor.mailbox import Mailbox
from callboard.runtime.actor.options import check_types

Errors = tuple[type[BaseException], ...]


class Restart(StrEnum):
    """Which exits of a child are followed by a restart (OTP's restart types)."""

    PERMANENT = "permanent"  # every exit
    TRANSIENT = "transient"  # a crash, not a normal exit nor a shutdown
    TEMPORARY = "temporary"  # none

    def after(self, error: BaseException | None) -> bool:
        """Whether an exit with `error`, or a normal one with None, is followed by a restart."""
        if self is Restart.TRANSIENT:
            return error is not None and not isinstance(error, Shutdown)
        return self is Restart.PERMANENT


class Abandoned(StrEnum):
    """The fate of a handler whose asker has gone, by its deadline or by cancellation."""

    CANCEL = "cancel"
    FINISH = "finish"  # what it does must not be left half done; its reply is counted as late


class Backoff(msgspec.Struct, frozen=True):
    """Seconds to wait before the nth restart in a row: initial_s * factor ** (n - 1), at most max_s.

    `jitter` takes off a random share, up to itself. A child that has been up for `healthy_s` starts again at n = 1.
    The default restarts at once, as OTP does.
    """

    initial_s: float = 0.0
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.0
    healthy_s: float = 10.0

    def __post_init__(self) -> None:
        """Refuse waits that shrink, or less than none."""
        check_types(self)
        waits = self.initial_s >= 0 and self.factor >= 1 and self.max_s >= 0 and self.healthy_s >= 0
        if not (waits and 0 <= self.jitter <= 1):
            raise ValueError(
                f"a backoff waits 0 s or more, by a factor of 1 or more, with a jitter of 0 to 1, not {self}"
            )

    def delay_s(self, n: int, rng: random.Random) -> float:
        """The wait before the nth restart in a row, n from 1."""
        try:
            delay = self.initial_s * self.factor ** min(n - 1, 64)
        except OverflowError:
            delay = self.max_s
        return min(self.max_s, delay) * (1 - self.jitter * rng.random())


class Retry(msgspec.Struct, frozen=True):
    """How often a message whose handler crashed is handled again, after the restart; then it is a dead letter.

    The default is never, and then the message has failed: whether it may be repeated only its author knows.
    """

    times: int = 0

    def __post_init__(self) -> None:
        """Refuse less than never."""
        check_types(self)
        if self.times < 0:
            raise ValueError(f"a message is tried again 0 times or more, not {self.times}")


class ChildSpec(msgspec.Struct, frozen=True):
    """How a supervisor runs a child. `shutdown_s` bounds each step of a stop; many children may share one spec.

    After a crash with an error of one of the classes `stop_on` the child is not restarted, whatever its restart type;
    with one of `escalate_on` its supervisor gives up at once.
    """

    mailbox: Mailbox = Mailbox()
    restart: Restart = Restart.PERMANENT
    backoff: Backoff = Backoff()
    retry: Retry = Retry()
    shutdown_s: float = 5.0
    abandoned: Abandoned = Abandoned.CANCEL
    stop_on: Any = ()  # Errors: msgspec has no form for a tuple of classes
    escalate_on: Any = ()  # the same

    def __post_init__(self) -> None:
        """Refuse what is no tuple of error classes, and a time that is none."""
        check_types(self)
        if not self.shutdown_s >= 0:
            raise ChildSpecError(f"shutdown_s is 0 s or more, not {self.shutdown_s}")
        for name in ("stop_on", "escalate_on"):
            errors = getattr(self, name)
            classes = isinstance(errors, tuple) and all(
                isinstance(error, type) and issubclass(error, BaseException) for error in errors
            )
            if not classes:
                raise ChildSpecError(f"{name} is a tuple of classes of errors, not {errors!r}")

    def restarts_after(self, error: BaseException | None) -> bool:
        """Whether an exit with `error`, or a normal one with None, is followed by a restart."""
        return self.restart.after(error) and not isinstance(error, self.stop_on)


class ChildOptions(TypedDict, total=False):
    """The fields of ChildSpec, as keyword arguments of `worker`, `pool` and `entities`."""

    mailbox: Mailbox
    restart: Restart
    backoff: Backoff
    retry: Retry
    shutdown_s: float
    abandoned: Abandoned
    stop_on: Errors
    escalate_on: Errors


DEFAULT = ChildSpec()


def spec_of(name: str, fields: Any) -> ChildSpec:
    """The child spec with these fields, given by name. Raises ChildSpecError, which says what there is."""
    if not fields:
        return DEFAULT
    unknown = ", ".join(sorted(fields.keys() - set(ChildSpec.__struct_fields__)))
    if unknown:
        raise ChildSpecError(
            f"the child spec of {name} has no {unknown}; it has {', '.join(ChildSpec.__struct_fields__)}. "
            "Keyword arguments of the actor's constructor stand in Props(Class, ...)"
        )
    try:
        return msgspec.convert(fields, ChildSpec)
    except msgspec.ValidationError as error:
        known = {field.name: field.type for field in msgspec.structs.fields(ChildSpec)}
        wanted = ", ".join(f"{field}: {getattr(known[field], '__name__', known[field])}" for field in fields)
        raise ChildSpecError(
            f"the child spec of {name} is not of the right types: {error}; it wants {wanted}"
        ) from None
