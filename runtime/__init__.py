"""A supervised tree of typed async actors on one event loop. It stands alone: see README.md beside this file."""

from callboard.runtime.actor import Actor
from callboard.runtime.cell import Cell
from callboard.runtime.context import Context, current_context, use_context
from callboard.runtime.errors import (
    ActorCrashedError,
    ActorKilledError,
    ActorStoppedError,
    AskCycleError,
    AskTimeoutError,
    DuplicateNameError,
    EscalationError,
    MailboxFullError,
    OutsideLoopError,
    Refusal,
    RuntimeFault,
    UnhandledMessageError,
    WrongStateError,
    described,
)
from callboard.runtime.events import (
    Blocked,
    Crashed,
    DeadLettered,
    Escalated,
    Lifecycle,
    Overflowed,
    Refused,
    Restarted,
    Started,
    Stopped,
    Terminated,
)
from callboard.runtime.handlers import on
from callboard.runtime.mailbox import Counts, Mailbox, Overflow
from callboard.runtime.message import Message, Request
from callboard.runtime.pool import Pool, Route, pool, worker
from callboard.runtime.ref import Ref
from callboard.runtime.supervisor import Intensity, Strategy, Supervisor, supervisor
from callboard.runtime.system import System, Watcher
from callboard.runtime.timer import Timer
from callboard.runtime.tree import Backoff, ChildSpec, Node, Restart, Retry, State, TreeNode

__all__ = [
    "Actor",
    "ActorCrashedError",
    "ActorKilledError",
    "ActorStoppedError",
    "AskCycleError",
    "AskTimeoutError",
    "Backoff",
    "Blocked",
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
    "OutsideLoopError",
    "Overflow",
    "Overflowed",
    "Pool",
    "Ref",
    "Refusal",
    "Refused",
    "Request",
    "Restart",
    "Restarted",
    "Retry",
    "Route",
    "RuntimeFault",
    "Started",
    "State",
    "Stopped",
    "Strategy",
    "Supervisor",
    "System",
    "Terminated",
    "Timer",
    "TreeNode",
    "UnhandledMessageError",
    "Watcher",
    "WrongStateError",
    "current_context",
    "described",
    "on",
    "pool",
    "supervisor",
    "use_context",
    "worker",
]
