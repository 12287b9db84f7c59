"""The composition of a process, on one screen: its departments, and the actors that serve all of them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callboard.actors.department import Role
from callboard.actors.identity.refs import IdentityRefs
from callboard.actors.infrastructure.background import Background, Holder, background
from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker
from callboard.actors.infrastructure.dead_jobs import JobLetters
from callboard.actors.infrastructure.dead_letters import DeadLetters
from callboard.actors.infrastructure.dead_records import RecordLetters, replay_pool
from callboard.actors.infrastructure.refs import Clients, Infrastructure
from callboard.http.server.routing import Routes
from callboard.ops.config.configuration import Configuration
from callboard.ops.config.watch import Keeping
from callboard.ops.departments import Built, build, declared_by, in_order
from callboard.ops.embedded.servers import Servers
from callboard.ops.job_holders import holder_name, is_gone
from callboard.ops.listeners import front_door, front_settings, operator_plane, server_dependencies
from callboard.ops.metrics import Metrics
from callboard.ops.operator_api import OperatorServices
from callboard.ops.scaling import scaling
from callboard.ops.streams import StreamParts
from callboard.ops.tracing import Tracing, trace_exporter
from callboard.runtime import Backoff, Entities, Intensity, Pool, Strategy, Supervisor, System, supervisor

# A server that dies repeatedly is restarted with growing delays; only a storm of deaths is given up on.
SERVER_INTENSITY = Intensity(restarts=30, window_s=60)
SERVER_BACKOFF = Backoff(initial_s=0.1, max_s=5.0, jitter=0.2)


@dataclass(frozen=True)
class Tree:
    """The tree of one process and its parts. Nothing has been started."""

    root: Supervisor
    built: Built
    background: Background
    streams: StreamParts
    checks: dict[str, Callable[[], Awaitable[None]]]
    breakers: Sequence[CircuitBreaker]

    @property
    def pools(self) -> dict[str, Pool[Any] | Entities[Any]]:
        """Return every pool by its name, whether it runs in this process or not."""
        return self.built.pools | {each.pool.name: each.pool for each in self.background.handlers}


def compose(
    configuration: Configuration,
    routes: Sequence[Routes[Any]],
    clients: Clients,
    *,
    metrics: Metrics,
    tracing: Tracing,
    keeping: Keeping,
    running: Callable[[], System],
    data: Path,  # a folder of Faust's
    servers: Servers | None,
) -> Tree:
    """Build every department in order, and the actors that serve all of them. Raises CompositionError."""
    config, configured = configuration.process, configuration.configured
    departments = in_order(configuration.departments)
    declared = declared_by(departments, configured)
    built = build(departments, {name: each.settings for name, each in configured.items()}, clients, declared)
    branches, shared = built.branches.values(), built.refs(Infrastructure)
    consumers = tuple(each for branch in branches for each in branch.consumers)
    broker = servers.broker if servers else None
    streams = StreamParts(config, shared.database, shared.event_signer, consumers, embedded=broker)
    replays = replay_pool(shared.database.pool("jobs"), consumers, shared.event_signer, streams.metrics)
    jobs = background(
        shared,
        [*(each for branch in branches for each in branch.jobs), replays],
        built.retention,
        declared.schedules,
        Holder(holder_name(), is_gone),
        is_worker=Role.WORKERS in config.roles,
        grace_s=config.jobs_grace_s,
        backoff=SERVER_BACKOFF,
        intensity=SERVER_INTENSITY,
    )
    checks = {name: check for branch in branches for name, check in branch.checks.items()}
    checks |= {"kafka": streams.check, "jobs": jobs.depths.check, **keeping.checks}
    breakers = [streams.breaker, *(each.breaker for each in jobs.handlers)]
    breakers += [each for branch in branches for each in branch.breakers]
    operators = shared.database.pool("operators")  # unaffected by a flood of other requests
    letters = DeadLetters(operators, RecordLetters(operators, shared.jobs), JobLetters(jobs.admin))
    identity = built.refs(IdentityRefs)
    view = OperatorServices(
        system=running,
        reloader=keeping.reloader,
        database=operators,
        metrics=metrics,
        mails=servers.catcher.mails if servers else None,
        jobs=jobs.admin,
        letters=letters,
        flags=shared.flags,
        flag_keeper=shared.flag_keeper,
        users=identity.users,
    )
    bound = built.bind(routes)
    children = [trace_exporter(tracing, config, SERVER_BACKOFF)] if config.traces_url else []  # first: it stops last
    children += servers.nodes(SERVER_BACKOFF, SERVER_INTENSITY) if servers else []
    children += built.supervisors(config.roles)
    if nodes := streams.nodes(data, SERVER_BACKOFF):  # they start after the consumers of their events
        children.append(supervisor("streams", *nodes, strategy=Strategy.REST_FOR_ONE, intensity=SERVER_INTENSITY))
    children += [jobs.node, scaling(running, jobs.depths)]
    if Role.FRONT in config.roles:
        hooks = server_dependencies(config, shared, identity, metrics, tracing.samples if config.traces_url else None)
        settings = front_settings(config, declared.errors, shared.public_url)
        children.append(front_door(config, bound, settings, hooks, checks, backoff=SERVER_BACKOFF))
    all_checks = checks | {f"breaker {each.name}": each.check for each in breakers}
    children += [operator_plane(view, all_checks, SERVER_BACKOFF), *keeping.nodes]
    return Tree(supervisor("callboard", *children, intensity=SERVER_INTENSITY), built, jobs, streams, checks, breakers)
