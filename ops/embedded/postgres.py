"""The embedded PostgreSQL: a cluster of its own, on 127.0.0.1 only, with a random password.

Acknowledged writes survive any crash of the server or of us: fsync and synchronous_commit stay on.
"""

import shutil
import signal
from pathlib import Path

import anyio
import asyncpg

from callboard.ops.embedded.binaries import PostgresPrograms, find_postgres
from callboard.ops.embedded.data_directory import DataDirectory
from callboard.ops.embedded.errors import EmbeddedError
from callboard.ops.embedded.leftover_processes import end_all_in
from callboard.ops.embedded.os_user import OsUser, account_of, server_account
from callboard.ops.embedded.process import NotReady, Process

NAME = "postgres"
ROLE = DATABASE = "callboard"
INIT_TIMEOUT_S = 60.0
# After a crash it replays at most max_wal_size before it answers.
READY_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 2.0
STOP_GRACE_S = 3.0
BUILTIN_LOCALE_SINCE = 17
IO_METHOD_SINCE = 18
# The server starts, has aborted, or clients that reconnected faster than we did hold every connection.
NOT_READY = (asyncpg.OperatorInterventionError, asyncpg.PostgresConnectionError, asyncpg.TooManyConnectionsError)

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "60",
    "superuser_reserved_connections": "3",
    "shared_buffers": "128MB",  # taken as data is read
    "wal_level": "minimal",  # there are no replicas
    "max_wal_senders": "0",
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "jit": "off",  # it costs more than it gains for queries of this size
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
}


class Postgres:
    """PostgreSQL on `port`, with its cluster in the data folder. The constructor checks all that can be checked in
    advance, and raises EmbeddedError in one line.
    """

    name = NAME

    def __init__(self, data_directory: DataDirectory, port: int) -> None:
        self._folder = data_directory.folder(NAME, server_account())
        self._cluster = self._folder.resolve() / "cluster"
        self._account = account_of(self._folder)
        self._programs = find_postgres(self._account)
        self._port = port
        self._password = data_directory.secret(NAME)
        self.url = f"postgresql://{ROLE}:{self._password}@127.0.0.1:{port}/{DATABASE}"
        self._check_version()
        settings = SETTINGS | {"port": str(port)}
        if self._programs.major >= IO_METHOD_SINCE:
            settings["io_method"] = "sync"  # three processes fewer
        self._initdb = Process(
            "initdb",
            _initdb_command(self._programs, self._half, self._password_file),
            log=data_directory.log("initdb"),
            pid_file=data_directory.pid_file("initdb"),
            account=self._account,
        )
        self._server = Process(
            NAME,
            [
                self._programs.postgres,
                "-D",
                self._cluster,
                *(part for each in settings.items() for part in ("-c", "=".join(each))),
            ],
            log=data_directory.log(NAME),
            pid_file=data_directory.pid_file(NAME),
            port=port,
            account=self._account,
            # At once, without a checkpoint: the next start replays the log, and may come at once too.
            death_signal=signal.SIGQUIT,
        )

    @property
    def pid(self) -> int | None:
        """Return the postmaster's process id while it runs."""
        return self._server.pid

    async def start(self) -> None:
        """Create the cluster if there is none, start the server, and wait until the database answers."""
        await self._initdb.end_leftover()
        await self._server.end_leftover()
        await anyio.to_thread.run_sync(self._clear_remains)
        if not self._cluster.exists():
            await self._make_cluster()
        await self._server.ready(self._probe, READY_TIMEOUT_S)

    async def exited(self) -> str:
        """Wait for its exit, and return the reason."""
        await self._server.exited()
        return self._server.ending()

    async def stop(self) -> None:
        """Shut down fast: transactions are rolled back, a checkpoint is written. SIGKILL after 3 s."""
        await self._server.stop(signal.SIGINT, STOP_GRACE_S)
        if self._server.forced:
            await anyio.to_thread.run_sync(self._clear_remains)

    @property
    def _half(self) -> Path:
        return self._cluster.with_name("cluster.half")

    @property
    def _password_file(self) -> Path:
        return self._cluster.with_name("password")

    def _check_version(self) -> None:
        version = self._cluster / "PG_VERSION"
        if not version.exists():
            return
        major = version.read_text(encoding="ascii").strip()
        if major != str(self._programs.major):
            raise EmbeddedError(
                f"{self._folder} was made by PostgreSQL {major}, and {self._programs.postgres} is "
                f"{self._programs.major}: install PostgreSQL {major}, or start afresh with --reset"
            )

    async def _make_cluster(self) -> None:
        """Create it under another name, so that a cluster is complete or not there at all."""
        await anyio.to_thread.run_sync(_prepare, self._half, self._password_file, self._password, self._account)
        try:
            await self._initdb.run_to_end(INIT_TIMEOUT_S)
        finally:
            self._password_file.unlink(missing_ok=True)
        self._half.rename(self._cluster)

    def _clear_remains(self) -> None:
        """End the children of a killed postmaster, and remove its pid file: we hold the lock on the data folder, so no
        other server works here, even if another process has that id by now.
        """
        end_all_in(self._folder, NAME)
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)

    async def _probe(self) -> None:
        """Open one connection to the database; the first one creates the database."""
        try:
            await self._connect_to(DATABASE)
        except asyncpg.InvalidCatalogNameError:
            await self._connect_to("postgres", f'create database "{DATABASE}"')
        except NOT_READY as error:
            raise NotReady from error
        except asyncpg.InvalidPasswordError as error:
            raise EmbeddedError(f"PostgreSQL in {self._folder} does not know the password in secrets/{NAME}") from error

    async def _connect_to(self, database: str, statement: str = "select") -> None:
        connection = await asyncpg.connect(
            host="127.0.0.1",
            port=self._port,
            user=ROLE,
            password=self._password,
            database=database,
            ssl=False,
            timeout=CONNECT_TIMEOUT_S,
        )
        try:
            await connection.execute(statement)
        finally:
            connection.terminate()


def _initdb_command(programs: PostgresPrograms, cluster: Path, password_file: Path) -> list[str | Path]:
    if programs.major >= BUILTIN_LOCALE_SINCE:  # the same on every platform
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    else:
        locale = ["--locale=C.UTF-8"]
    return [
        programs.initdb,
        f"--pgdata={cluster}",
        f"--username={ROLE}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        *locale,
        "--no-instructions",
        "--no-sync",  # saves 0.3 s: SIGKILL costs nothing, a power cut in the first half minute the new cluster
    ]


def _prepare(cluster: Path, password_file: Path, password: str, account: OsUser | None) -> None:
    """Return an empty folder and the password's file for initdb, after removing those of an interrupted one."""
    if cluster.exists():
        shutil.rmtree(cluster)
    cluster.mkdir(mode=0o700)
    password_file.unlink(missing_ok=True)
    password_file.touch(mode=0o600)
    password_file.write_text(password, encoding="ascii")
    if account is not None:
        shutil.chown(cluster, account.uid, account.gid)
        shutil.chown(password_file, account.uid, account.gid)
