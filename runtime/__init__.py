"""A supervised tree of typed async actors on one event loop. It stands alone: see README.md beside this file."""

from callboard.runtime.actor.actor import Actor, ActorContext, Timer
from callboard.runtime.actor.context import Context, current_context, use_context
from callboard.runtime.actor.errors import (
    ActorCrashedError,
    ActorKilledError,
    ActorNotFoundError,
    ActorStoppedError,
    AlreadyStartedError,
    AskCycleError,
    AskTimeoutError,
    ChildSpecError,
    ConcurrentStashError,
    DuplicateNameError,
    EntitiesFullError,
    EscalationError,
    MailboxFullError,
    NotAChildError,
    NotStartedError,
    OutsideLoopError,
    PoolStoppedError,
    Refusal,
    Renewal,
    RuntimeFault,
    SettingsError,
    Shutdown,
    StashFullError,
    SupervisorStoppedError,
    TooDeepError,
    UnhandledMessageError,
    WrongLoopError,
    WrongStateError,
    format_causes,
)
from callboard.runtime.actor.events import (
    Crashed,
    DeadLettered,
    Escalated,
    HandlerBlocked,
    Lifecycle,
    Overflowed,
    Refused,
    Restarted,
    Started,
    Stopped,
    Terminated,
)
from callboard.runtime.actor.handlers import DeferredReply, on
from callboard.runtime.actor.mailbox import Counts, Mailbox, Overflow
from callboard.runtime.actor.messages import Asked, Message, Request
from callboard.runtime.actor.ref import Ref
from callboard.runtime.dispatch.cell import Cell
from callboard.runtime.dispatch.child_spec import Abandoned, Backoff, ChildOptions, ChildSpec, Restart, Retry
from callboard.runtime.dispatch.event_bus import Watcher
from callboard.runtime.dispatch.node import Node, State
from callboard.runtime.supervision.entities import Entities, entities
from callboard.runtime.supervision.loop_monitor import LoopMonitor
from callboard.runtime.supervision.pool import Pool, Route, pool, worker
from callboard.runtime.supervision.pool_config import Change, apply_pools, find_pools, plan_pools
from callboard.runtime.supervision.props import KeyedProps, Props
from callboard.runtime.supervision.snapshot import TreeNode, snapshot
from callboard.runtime.supervision.supervisor import Intensity, Strategy, Supervisor, supervisor
from callboard.runtime.supervision.system import System

# Names of the release before, for one release.
Blocked = HandlerBlocked
StallWatch = LoopMonitor
described = format_causes

__all__ = [
    "Abandoned",
    "Actor",
    "ActorContext",
    "ActorCrashedError",
    "ActorKilledError",
    "ActorNotFoundError",
    "ActorStoppedError",
    "AlreadyStartedError",
    "AskCycleError",
    "AskTimeoutError",
    "Asked",
    "Backoff",
    "Blocked",
    "Cell",
    "Change",
    "ChildOptions",
    "ChildSpec",
    "ChildSpecError",
    "ConcurrentStashError",
    "Context",
    "Counts",
    "Crashed",
    "DeadLettered",
    "DeferredReply",
    "DuplicateNameError",
    "Entities",
    "EntitiesFullError",
    "Escalated",
    "EscalationError",
    "HandlerBlocked",
    "Intensity",
    "KeyedProps",
    "Lifecycle",
    "LoopMonitor",
    "Mailbox",
    "MailboxFullError",
    "Message",
    "Node",
    "NotAChildError",
    "NotStartedError",
    "OutsideLoopError",
    "Overflow",
    "Overflowed",
    "Pool",
    "PoolStoppedError",
    "Props",
    "Ref",
    "Refusal",
    "Refused",
    "Renewal",
    "Request",
    "Restart",
    "Restarted",
    "Retry",
    "Route",
    "RuntimeFault",
    "SettingsError",
    "Shutdown",
    "StallWatch",
    "Started",
    "StashFullError",
    "State",
    "Stopped",
    "Strategy",
    "Supervisor",
    "SupervisorStoppedError",
    "System",
    "Terminated",
    "Timer",
    "TooDeepError",
    "TreeNode",
    "UnhandledMessageError",
    "Watcher",
    "WrongLoopError",
    "WrongStateError",
    "apply_pools",
    "current_context",
    "described",
    "entities",
    "find_pools",
    "format_causes",
    "on",
    "plan_pools",
    "pool",
    "snapshot",
    "supervisor",
    "use_context",
    "worker",
]
