"""Fates: what becomes of a message that is not simply handled, and the counts of all of them."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from callboard.runtime.actor import events
from callboard.runtime.actor.deadlines import expire
from callboard.runtime.actor.envelope import Envelope, is_ask, message_of
from callboard.runtime.actor.errors import (
    ActorCrashedError,
    ActorStoppedError,
    AskTimeoutError,
    Refusal,
    for_asker,
)
from callboard.runtime.actor.handlers import DeferredReply
from callboard.runtime.actor.mailbox import Counts
from callboard.runtime.dispatch.child_spec import Abandoned
from callboard.runtime.dispatch.mailbox_queue import CLOSED, take_out, turn_away

if TYPE_CHECKING:
    from callboard.runtime.dispatch.cell import Cell

RESOLUTION_S = 0.002  # of the loops' timers: two that are due at the same time may fire so far apart


def failed(cell: "Cell[Any]", item: Any, error: BaseException) -> None:
    """A handler raised: an answer if it is a Refusal, else a crash, after which the message may be tried again."""
    cell.current = None
    message, asked, cold = message_of(item), is_ask(item), cell.cold_state
    cell.take_from_stash(item)
    if asked and isinstance(error, AskTimeoutError) and is_over(cell, item):
        item.unmind()
        item.forget()
        expire(item)  # what its handler asked had the same deadline, and was told a moment before
        settle_early(cell, item)
        return
    if isinstance(error, asyncio.CancelledError):
        error, cause = ActorCrashedError(cell.path, message), error
        error.__cause__ = cause
    if isinstance(error, Refusal):
        if asked:
            cell.handled += 1
            item.fail(error)
        else:
            cold.counts.failed += 1
            cell.emit(events.Refused(cell.path, message, error))
        return
    crashes = cold.crashes[1] + 1 if cold.crashes[0] is item else 1
    if crashes <= cell.spec.retry.times and not (asked and item.answered):
        if item.__class__ is not Envelope:  # the same message may be told again, and is another then
            item = Envelope(message, None, None, cell=cell)
        cold.crashes = (item, crashes)
        cell.queue.appendleft(item)
    else:
        cold.crashes = (None, 0)
        if cell.spec.retry.times and not asked:
            dead_letter(cell, message, error)
        else:
            cold.counts.failed += 1
        if asked:
            item.fail(for_asker(error, cell.path, message))
    cell.crash(error, type(message).__name__)


def was_cancelled(cell: "Cell[Any]", item: Any, error: asyncio.CancelledError) -> None:
    """An async handler has raised a CancelledError: its asker has gone, the actor is killed, or it was its own."""
    if cell.is_withdrawn(item):
        cell.take_from_stash(item)
        settle_early(cell, item)
    elif asyncio.current_task().cancelling():  # type: ignore[union-attr]
        cell.take_from_stash(item)
        cell.cold_state.counts.failed += 1
        cell.current = None
        if item.__class__ is Envelope:
            item.fail(ActorCrashedError(cell.path, item.message))
        raise error
    else:
        failed(cell, item, error)


def is_over(cell: "Cell[Any]", envelope: Envelope) -> bool:
    """Whether the deadline of an ask has passed."""
    scheduler = cell.scheduler
    return envelope.answered or (scheduler is not None and scheduler.time() >= envelope.due - RESOLUTION_S)


def too_late(cell: "Cell[Any]", item: Any) -> None:
    """Nobody waits for a message any more: it is not begun, and has its fate."""
    cell.uncount()
    if is_ask(item) and item.reply.done():
        item.forget()
        settle_early(cell, item)
        return
    cell.cold_state.counts.expired += 1
    if item.__class__ is Envelope:
        item.fail(AskTimeoutError(cell.path, item.message))


def defer(cell: "Cell[Any]", envelope: Envelope, reply: "DeferredReply[Any]") -> None:
    """The reply comes later; at the incarnation's end at the latest, as an error."""
    replies = cell.cold_state.replies
    replies[envelope] = None
    envelope.reply.add_done_callback(lambda _: replies.pop(envelope, None))
    reply.bind(envelope)


def dead_letter(cell: "Cell[Any]", message: Any, reason: BaseException | None) -> None:
    """Make a told message a dead letter."""
    cell.cold_state.counts.dead_lettered += 1
    if cell.scheduler is not None and cell.scheduler.events.watched:
        cell.emit(events.DeadLettered(cell.path, message, reason))


def settle_early(cell: "Cell[Any]", envelope: Envelope) -> None:
    """Count an ask that ends without its handler's answer: its deadline has passed, or it goes back."""
    reply = envelope.reply
    if reply.done() and not reply.cancelled():
        cell.cold_state.counts.expired += 1
    else:
        cell.cold_state.counts.returned += 1


def discard_remaining(cell: "Cell[Any]") -> None:
    """Give all that still waits its fate: asks are returned to their askers, tells are dead letters."""
    cell.limit = CLOSED
    cold = cell.cold
    if cold is not None:
        waiters, cold.waiters = cold.waiters, {}
        turn_away(waiters, lambda item: ActorStoppedError(cell.path, message_of(item)))
        if cold.stash is not None and len(cold.stash):
            cell.queue = deque((*cold.stash.take_all(), *cell.queue))
    while cell.queue:
        item = cell.queue.popleft()
        if is_ask(item):
            settle_early(cell, item)
            item.fail(ActorStoppedError(cell.path, item.message))
        else:
            dead_letter(cell, message_of(item), None)


def counts_of(cell: "Cell[Any]") -> Counts:
    """See Ref.counts."""
    counts = Counts() if cell.cold is None else cell.cold.counts
    begun = 0 if cell.remaining is None else cell.size - cell.remaining.__length_hint__()
    handled = cell.handled + max(0, begun - 1)
    stash = None if cell.cold is None else cell.cold.stash
    in_progress = begun > 0 or cell.current is not None
    if in_progress and stash is not None and stash.aside is not None:  # which was counted back for that
        in_progress, handled = False, handled + 1
    pending = len(cell.queue) + in_progress + (0 if stash is None else len(stash))
    return Counts(
        handled=handled,
        failed=counts.failed,
        expired=counts.expired,
        dropped=counts.dropped,
        dead_lettered=counts.dead_lettered,
        returned=counts.returned,
        pending=pending,
        late=counts.late,
    )


def asker_gone(cell: "Cell[Any]", envelope: Envelope) -> None:
    """The asker has its answer from elsewhere, or no longer waits: a message that waits leaves at once, and a
    handler that works for it is cancelled, by policy.
    """
    cold = cell.cold
    if cell.current is envelope and cell.task is not None:
        if cell.spec.abandoned is not Abandoned.FINISH and not cell.task.done():
            cell.cold_state.withdrawn = envelope
            cell.end_batch()
            cell.task.cancel()
        return
    if cold is not None and cold.waiters.pop(envelope.reply, None) is not None:
        return
    if take_out(cell.queue, envelope):
        settle_early(cell, envelope)
        if cold is not None and cold.waiters:
            cell.admit()
    elif cold is not None and cold.stash is not None and cold.stash.holds(envelope) and cell.current is not envelope:
        cold.stash.remove(envelope)
        settle_early(cell, envelope)
    if cold is not None and not (cell.queue or cell.is_busy()):
        cold.fall_quiet()
