"""`callboard up`: the whole system on embedded servers, with progress during the start and a guide after it."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from callboard.actors.identity.refs import IdentityRefs
from callboard.actors.identity.users import CreateUser, ListUsers
from callboard.actors.infrastructure.department import InfrastructureSettings
from callboard.actors.infrastructure.principals import Role
from callboard.ops import demo, logs
from callboard.ops.application import Application, live
from callboard.ops.config.configuration import Configuration, load
from callboard.ops.config.names import warnings
from callboard.ops.embedded.data_directory import DataDirectory, free_ports, open_data_directory, port_taken
from callboard.ops.embedded.errors import EmbeddedError
from callboard.ops.embedded.servers import create_servers
from callboard.runtime import Lifecycle, Started

DEMO_MARK = "demo-accounts-made"
ACCOUNTS = (("admin", Role.ADMIN), ("editor", Role.EDITOR), ("author", Role.MEMBER))


class Up:
    """One `callboard up` on an open data folder."""

    def __init__(self, data_directory: DataDirectory, console: Console, *, play: bool) -> None:
        self.data_directory = data_directory
        self.console = console
        self.play = play
        self.began = time.monotonic()

    async def run(self, environ: Mapping[str, str]) -> int:
        """Start, print the guide, and run. Raises EmbeddedError, ConfigError, CannotListenError."""
        servers = create_servers(self.data_directory)
        configuration = self._configuration({**environ, **servers.environment()})
        config = configuration.process
        logs.configure(
            config.log_level,
            self.data_directory.log("callboard"),
            debug=config.enable_debug_mode,
            file_bytes=config.log_file_mb << 20,
            files=config.log_files,
        )
        logs.warn(warnings(environ))
        parts = Application(configuration, self.data_directory.folder("faust"), servers)
        self.console.print(f"Callboard on embedded servers, data in {self.data_directory.data}", highlight=False)
        parts.watchers.append(self._progress)
        return await live(parts, lambda: self._announce(parts))

    def _configuration(self, environ: dict[str, str]) -> Configuration:
        """Return the settings: given ports must be free, others are chosen; the signing key and the
        uploads are the data folder's own.
        """
        environ.setdefault("JWT_SECRET_KEY", self.data_directory.secret("jwt") * 2)
        environ.setdefault("MIGRATE", "auto")
        environ.setdefault("UPLOADS_FOLDER", str(self.data_directory.folder("uploads")))
        for name, host, usual in (("HTTP_PORT", "HTTP_HOST", 8000), ("OPS_PORT", "OPS_HOST", 9000)):
            address = environ.get(host) or "127.0.0.1"
            if not environ.get(name):
                taken = port_taken(address, usual)
                environ[name] = str(free_ports(1)[0] if taken else usual)
        configuration = load({"PUBLIC_URL": f"http://127.0.0.1:{environ['HTTP_PORT']}", **environ})
        config = configuration.process
        for name, host, port in (
            ("HTTP_PORT", config.http_host, config.http_port),
            ("OPS_PORT", config.ops_host, config.ops_port),
        ):
            if port_taken(host, port):
                raise EmbeddedError(f"{name} {port} is in use: set another port, or none for a free one")
        return configuration

    def _progress(self, event: Lifecycle) -> None:
        if isinstance(event, Started) and event.actor.startswith("callboard/servers/"):
            self._done(event.actor.rpartition("/")[2])

    def _done(self, what: str) -> None:
        self.console.print(f"  {what:<12} ready after {time.monotonic() - self.began:5.2f} s", highlight=False)

    async def _announce(self, parts: Application) -> None:
        self._done("everything")
        config = parts.config
        facts = {
            "HTTP_URL": f"http://{config.http_host}:{config.http_port}",
            "OPS_URL": f"http://{config.ops_host}:{config.ops_port}",
            "OPS_TOKEN": config.ops_token,
            "JWT_SECRET_KEY": parts.configuration.settings(InfrastructureSettings).jwt_secret_key,
            "ENVIRONMENT": config.environment,
            "SERVICE_NAME": config.service_name,
            **await self._demo_accounts(parts),
            **(parts.servers.environment() if parts.servers else {}),
        }
        self.data_directory.write_running(facts)
        self._guide(facts)
        if self.play:
            try:
                await demo.play(demo.Target.of(facts), self.console)
            except demo.DemoError as error:  # everything else is up
                self.console.print(f"\nThe demo failed: {error}", highlight=False, markup=False, soft_wrap=True)
        self.console.print("\nUp. Ctrl-C stops it; the data stays.", highlight=False)

    async def _demo_accounts(self, parts: Application) -> dict[str, str]:
        """Create the demo's accounts if requested, once for a data folder; return its editor's credentials.

        Later changes by admins stay: a disabled, demoted or deleted account is not restored.
        """
        password = "Wings7-" + self.data_directory.secret("demo")[:10]
        if not self.data_directory.has_mark(DEMO_MARK):
            if not self.play:
                return {}
            users = parts.refs(IdentityRefs).users
            for name, role in ACCOUNTS:
                email = f"{name}@example.org"
                if not await users.ask(ListUsers(1, email=email)):
                    await users.ask(CreateUser(email, password, f"Demo {name.title()}", role))
            self.data_directory.mark(DEMO_MARK)
        return {"EDITOR_EMAIL": "editor@example.org", "EDITOR_PASSWORD": password}

    def _guide(self, facts: Mapping[str, str]) -> None:
        api, operators, data = facts["HTTP_URL"], facts["OPS_URL"], self.data_directory.data
        password = facts.get("EDITOR_PASSWORD")
        accounts = (
            f"admin@example.org  editor@example.org  author@example.org   password {password}"
            if password
            else f"none yet: callboard users create-admin --data-dir {data} --email … --password … --full-name …"
        )
        guide = f"""
  API        {api}/docs
  operators  {operators}/ops/v1/tree  /ops/v1/mailbox  /ops/v1/config  /ops/v1/dead-letters  /metrics
  Kafka      {facts["KAFKA_BROKERS"]}
  accounts   {accounts}
  roles      callboard users role --data-dir {data} EMAIL editor

  try        make demo          (the main job, against this; `up --demo` makes its accounts)
             curl {api}/api/v1/content
             curl {operators}/ops/v1/mailbox
"""
        self.console.print(guide, highlight=False, markup=False, soft_wrap=True)


async def up(data: Path | None, *, reset: bool, play: bool) -> int:
    """Run on a data folder until stopped; return the exit status."""
    with open_data_directory(data, reset=reset) as data_directory:
        return await Up(data_directory, Console(), play=play).run(os.environ)
