"""A process: its composition, and its life until a signal or the end of its tree. It stops within a bound."""

import asyncio
import gc
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from callboard.actors.delivery.mail_producers import MailProducers
from callboard.actors.delivery.refs import DeliveryRefs
from callboard.actors.department import AnyDepartment
from callboard.actors.infrastructure.rate_limiter import Policy, RateLimit
from callboard.actors.infrastructure.refs import Clients
from callboard.actors.infrastructure.signing_keys import MIN_SECRET_BYTES
from callboard.actors.infrastructure.statements import record_statement
from callboard.http.server.routing import Routes
from callboard.ops import descriptors, logs, schema, service_manager
from callboard.ops.breaker_metrics import BreakerCollector
from callboard.ops.clients import cache_of, database_of
from callboard.ops.config.configuration import Configuration, load
from callboard.ops.config.reload import Reloader
from callboard.ops.config.settings import Config
from callboard.ops.config.urls import with_password
from callboard.ops.config.watch import keeping_of
from callboard.ops.departments import OURS, histories_of, in_order, installed_routes
from callboard.ops.embedded.servers import Servers
from callboard.ops.job_metrics import JobCollector
from callboard.ops.metrics import Metrics
from callboard.ops.start import complain
from callboard.ops.stream_metrics import StreamCollector
from callboard.ops.tracing import Tracing
from callboard.ops.tree import compose
from callboard.runtime import Entities, Pool, System, Watcher, described

STOP_S = 4.5  # from SIGTERM to the exit, unless requests or jobs are given longer
LAST_S = 0.5

STALL_S = 0.1  # the log names a handler that blocks the loop for this time

NOWHERE = {
    "DATABASE_URL": "postgresql://nowhere",
    "REDIS_URL": "redis://nowhere",
    "KAFKA_BROKERS": "nowhere:9092",
    "SMTP_HOST": "nowhere",
    "JWT_SECRET_KEY": "-" * MIN_SECRET_BYTES,
}

T = TypeVar("T")

log = logging.getLogger(__name__)


class Application:
    """One process: its clients, its metrics and its tree. The default is all installed routes.

    Nothing has been started. `hopeless` is set if waiting cannot help and the process must end.
    """

    def __init__(
        self,
        configuration: Configuration,
        data: Path,
        servers: Servers | None = None,
        *,
        routes: Sequence[Routes[Any]] | None = None,
    ) -> None:
        self.configuration = configuration
        self.config = config = configuration.process
        self.servers = servers
        self.hopeless = asyncio.Event()
        self.hopeless_because = ""
        self.watchers: list[Watcher] = [logs.watch]
        self._system: System | None = None
        self.metrics = metrics = Metrics()
        self.database = database = database_of(config, metrics.count_database_error)
        metrics.watch_database(database)
        self.tracing = Tracing(config)
        database.server.observe_query = self._observe_query if config.traces_url else metrics.observe_query
        clients = Clients(
            database=database,
            cache=cache_of(config),
            prepare=self._prepare,
            give_up=self.give_up,
            now=database.server.now,
            clock=time.monotonic,
            observers=metrics.observers,
        )
        self.reloader = Reloader(self, configuration, database)
        keeping = keeping_of(self.reloader)
        self.tree = compose(
            configuration,
            installed_routes() if routes is None else routes,
            clients,
            metrics=metrics,
            tracing=self.tracing,
            keeping=keeping,
            running=self.running,
            data=data,
            servers=servers,
        )
        metrics.registry.register(JobCollector(self.tree.background.counts, self.tree.background.depths))
        metrics.registry.register(BreakerCollector(self.tree.breakers))
        metrics.registry.register(StreamCollector(self.tree.streams.metrics))
        metrics.watch_figures(each for branch in self.tree.built.branches.values() for each in branch.figures)
        metrics.watch_figures(self.tracing.figures())
        metrics.watch_figures(keeping.figures)

    def _observe_query(self, query: Any) -> None:
        """Count a statement, and record its span."""
        self.metrics.observe_query(query)
        record_statement(query)

    async def _prepare(self, url: str) -> None:
        """Check the schema. A database with a lasting fault ends the process: see `hopeless`."""
        try:
            histories = histories_of(in_order(self.configuration.departments))
            await schema.prepare(url, migrate=self.config.migrate == "auto", histories=histories)
        except (schema.SchemaOutdatedError, schema.MigrationFailedError) as error:
            self.give_up(str(error))
            await asyncio.Event().wait()

    def give_up(self, reason: str) -> None:
        """End the process, with status 2 and this one line: waiting cannot help."""
        self.hopeless_because = self.hopeless_because or reason
        self.hopeless.set()

    @property
    def pools(self) -> dict[str, Pool[Any] | Entities[Any]]:
        """Return every pool by its name, whether it runs in this process or not."""
        return self.tree.pools

    @property
    def policies(self) -> dict[str, Policy]:
        """Return the rate limits in force, by name."""
        return self.tree.built.declared.policies

    @property
    def packages(self) -> Sequence[AnyDepartment]:
        """Return the departments of packages."""
        return [each for each in self.configuration.departments if each not in OURS]

    @property
    def live(self) -> dict[str, Mapping[str, Callable[[Any], None]]]:
        """Return the functions that adopt settings of a running process, by department and field; "" is the process."""
        branches, configured = self.tree.built.branches, self.configuration.departments
        found = {each.name: {**self._live_limits(each), **branches[each.name].live} for each in configured}
        return {
            "": {"log_level": _set_logs, "enable_debug_mode": _set_logs, "database_password": self._log_in},
            **found,
        }

    def _live_limits(self, department: AnyDepartment) -> dict[str, Callable[[Any], None]]:
        """Return the functions that adopt the settings of a department's limits."""

        def adopt(limit: RateLimit) -> Callable[[Any], None]:
            def change(settings: Any) -> None:
                policy = self.policies[limit.name]
                self.policies[limit.name] = msgspec.structs.replace(policy, limit=getattr(settings, limit.setting))

            return change

        return {limit.setting: adopt(limit) for limit in department.limits if limit.setting and department in OURS}

    def _log_in(self, config: Config) -> None:
        """Open new connections to PostgreSQL with another password; open ones stay."""
        server = self.database.server
        server.url = with_password(config.database_url, config.database_password)
        server.direct_url = with_password(config.database_direct_url or config.database_url, config.database_password)

    @property
    def mail_producers(self) -> MailProducers:
        """Return the mail producers."""
        return self.refs(DeliveryRefs).mail_producers

    def refs(self, kind: type[T]) -> T:
        """Return the references of the department that offers this type."""
        return self.tree.built.refs(kind)

    async def wait_ready(self) -> None:
        """Wait until the database is available and the streams are read."""
        await self.database.available.wait()
        await self.tree.streams.wait_ready()

    def system(self) -> System:
        """Return the tree on the running event loop, with its metrics and logs; not started."""
        self._system = system = System(self.tree.root, stall_after_s=STALL_S, log=False)
        self.metrics.watch(system)
        for watcher in self.watchers:
            system.subscribe(watcher)
        return system

    def running(self) -> System:
        """Return the latest system. Raises RuntimeError before there is one."""
        if self._system is None:
            raise RuntimeError("there is no system yet")
        return self._system


def dry_run(
    environ: Mapping[str, str] = MappingProxyType({}),
    departments: Sequence[AnyDepartment] | None = None,
    routes: Sequence[Routes[Any]] | None = None,
) -> Application:
    """Return an application without servers, unless the environment has some: to inspect, not to start."""
    file = None if "CALLBOARD_CONFIG" in environ else ""  # not that of the working directory
    return Application(load({**NOWHERE, **environ}, departments, file=file), Path(), routes=routes)


async def live(parts: Application, announce: Callable[[], Awaitable[None]]) -> int:
    """Run the tree; `announce` is called once it works, and may take its time. Return the exit status: 0, 1 for a
    crash, or 2 for a lasting fault, which `parts.hopeless` names.

    Raises ConfigError if CALLBOARD_CONFIG names a bad file, and the error of the first start hook that fails; then
    nothing is left running.
    """
    descriptors.raise_limit(parts.config.http_max_connections)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_debug(parts.config.enable_debug_mode)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await parts.reloader.start()
    if parts.configuration.is_reloadable:
        _on_hang_up(loop, lambda: parts.reloader.reload_or_log("SIGHUP"))
    elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # the terminal has gone, and nohup was not used
        loop.add_signal_handler(signal.SIGHUP, stop.set)
    system = parts.system()

    async def work() -> BaseException:
        await system.start()
        await parts.wait_ready()
        _freeze_objects()
        await announce()
        service_manager.notify("READY=1")
        return await system.failed()

    working = asyncio.ensure_future(work())
    stopping = asyncio.ensure_future(stop.wait())
    failing = asyncio.ensure_future(system.failed())
    giving_up = asyncio.ensure_future(parts.hopeless.wait())
    try:
        await asyncio.wait((working, stopping, failing, giving_up), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, stopping, failing, giving_up):
            task.cancel()
        await asyncio.wait((working,))
        service_manager.notify("STOPPING=1")
        config = parts.config
        stop_s = config.shutdown_delay_s + max(STOP_S, config.shutdown_grace_s + config.jobs_grace_s + LAST_S)
        if not await _ended(system.stop(), stop_s):
            log.error("the tree has not stopped in %g s", stop_s)
    if failing.done() and not failing.cancelled():
        complain(f"callboard: {described(failing.result())}")
        return 1
    if parts.hopeless.is_set():
        complain(f"callboard: {parts.hopeless_because}")
        return 2
    if not working.cancelled():
        working.result()
    return 0


def _set_logs(config: Config) -> None:
    logs.set_level(config.log_level, debug=config.enable_debug_mode)
    asyncio.get_running_loop().set_debug(config.enable_debug_mode)


def _freeze_objects() -> None:
    """Exempt the objects of the finished tree from garbage collection: they live until the end."""
    gc.collect()
    gc.freeze()


def _on_hang_up(loop: asyncio.AbstractEventLoop, reload: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Reload on SIGHUP."""
    reloads: set[asyncio.Task[None]] = set()

    def begin() -> None:
        task = loop.create_task(reload(), name="reload")
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, begin)


async def _ended(stop: Awaitable[None], stop_s: float) -> bool:
    """Whether the task ended in time. Not wait_for: that would also wait for an ignored cancellation."""
    stopping = asyncio.ensure_future(stop)
    done, _ = await asyncio.wait((stopping,), timeout=stop_s)
    return bool(done)
