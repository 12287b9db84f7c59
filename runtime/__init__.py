"""A supervised tree of typed async actors on one event loop. It stands alone: see README.md beside this file."""

from callboard.runtime.actor import Actor
from callboard.runtime.cell import Cell
from callboard.runtime.context import Context, current_context, use_context
from callboard.runtime.errors import (
    ActorCrashedError,
    ActorStoppedError,
    AskCycleError,
    AskTimeoutError,
    DuplicateNameError,
    EscalationError,
    MailboxFullError,
    Refusal,
    RuntimeFault,
    UnhandledMessageError,
    described,
)
from callboard.runtime.events import (
    Crashed,
    DeadLettered,
    Escalated,
    Lifecycle,
    Overflowed,
    Refused,
    Restarted,
    Started,
    Stopped,
)
from callboard.runtime.handlers import on
from callboard.runtime.mailbox import Counts, Mailbox, Overflow
from callboard.runtime.message import Message, Request
from callboard.runtime.pool import Pool, pool, worker
from callboard.runtime.ref import Ref
from callboard.runtime.supervisor import Intensity, Strategy, Supervisor, supervisor
from callboard.runtime.system import System, Watcher
from callboard.runtime.timer import Timer
from callboard.runtime.tree import Backoff, ChildSpec, Node, Restart, State, TreeNode

__all__ = [
    "Actor",
    "ActorCrashedError",
    "ActorStoppedError",
    "AskCycleError",
    "AskTimeoutError",
    "Backoff",
    "Cell",
    "ChildSpec",
    "Context",
    "Counts",
    "Crashed",
    "DeadLettered",
    "DuplicateNameError",
    "Escalated",
    "EscalationError",
    "Intensity",
    "Lifecycle",
    "Mailbox",
    "MailboxFullError",
    "Message",
    "Node",
    "Overflow",
    "Overflowed",
    "Pool",
    "Ref",
    "Refusal",
    "Refused",
    "Request",
    "Restart",
    "Restarted",
    "RuntimeFault",
    "Started",
    "State",
    "Stopped",
    "Strategy",
    "Supervisor",
    "System",
    "Timer",
    "TreeNode",
    "UnhandledMessageError",
    "Watcher",
    "current_context",
    "described",
    "on",
    "pool",
    "supervisor",
    "use_context",
    "worker",
]
